//! Requests to running ports over their local sockets. Only active ports are asked: querying status must
//! not activate idle ports.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::units::{Units, UnitsError};
use crate::attach::{Status, client};
use crate::config::Instances;
use crate::port::PortName;

/// Reading all properties of an object uses the same reply.
const CACHE_LIFETIME: Duration = Duration::from_millis(250);
/// Time for one port to reply. A port that hangs must not block the list of all.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Ports that are queried concurrently: each query has a thread, and one port that hangs must not add up with the next one.
const AT_ONCE: usize = 16;

pub type StatusResult = Result<Status, String>;

/// The latest replies of the ports.
pub struct Live {
    runtime_dir: PathBuf,
    units: Units,
    active: Mutex<Option<(Instant, BTreeSet<PortName>)>>,
    printed: Mutex<HashMap<PortName, (Instant, StatusResult)>>,
}

impl Live {
    pub fn new(runtime_dir: PathBuf, units: Units) -> Self {
        Self { runtime_dir, units, active: Mutex::default(), printed: Mutex::default() }
    }

    pub async fn active(&self) -> Result<BTreeSet<PortName>, UnitsError> {
        let mut active = self.active.lock().await;
        if let Some((_, active)) = active.as_ref().filter(|(at, _)| at.elapsed() < CACHE_LIFETIME) {
            return Ok(active.clone());
        }
        let (now, instances) = (self.units.active().await?, Instances::of_runtime(&self.runtime_dir));
        let now: BTreeSet<_> = now.iter().map(|unit| instances.port(unit).clone()).collect();
        *active = Some((Instant::now(), now.clone()));
        Ok(now)
    }

    pub async fn forget(&self) {
        *self.active.lock().await = None;
        self.printed.lock().await.clear();
    }

    /// The status of a port; `None` if it does not run.
    pub async fn status(&self, port: &PortName) -> Option<StatusResult> {
        match self.active().await {
            Ok(active) if !active.contains(port) => return None,
            Ok(_) => {}
            Err(error) => return Some(Err(error.to_string())),
        }
        Some(self.reply(port).await)
    }

    /// The reply of a port that runs, or the last one.
    async fn reply(&self, port: &PortName) -> StatusResult {
        if let Some((_, printed)) =
            self.printed.lock().await.get(port).filter(|(at, _)| at.elapsed() < CACHE_LIFETIME)
        {
            return printed.clone();
        }
        let ask = self.ask(port, client::status);
        let printed = match tokio::time::timeout(STATUS_TIMEOUT, ask).await {
            Ok(printed) => printed,
            Err(_) => Err(format!("{port} timed out after {} s", STATUS_TIMEOUT.as_secs())),
        };
        self.printed.lock().await.insert(port.clone(), (Instant::now(), printed.clone()));
        printed
    }

    /// The status of each port that runs, in the order of the names.
    pub async fn statuses(&self) -> Result<Vec<(PortName, StatusResult)>, UnitsError> {
        let ask = |port: PortName| async move {
            let status = self.reply(&port).await;
            (port, status)
        };
        Ok(futures_util::stream::iter(self.active().await?).map(ask).buffered(AT_ONCE).collect().await)
    }

    /// One request over the port's socket. It is bounded by the client's timeout.
    pub async fn ask<T: Send + 'static>(
        &self,
        port: &PortName,
        question: impl FnOnce(&std::path::Path, &PortName) -> Result<T, client::AttachError> + Send + 'static,
    ) -> Result<T, String> {
        let (runtime_dir, port) = (self.runtime_dir.clone(), port.clone());
        let requested = tokio::task::spawn_blocking(move || question(&runtime_dir, &port));
        match requested.await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(panicked) => Err(format!("the request failed: {panicked}")),
        }
    }
}
