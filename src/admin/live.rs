//! Ports that run, asked over their local socket. Only those that systemd says are active: a look must not start the others.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::units::{Units, UnitsError};
use crate::attach::{Status, client};
use crate::config::Instances;
use crate::port::PortName;

/// One look at an object asks for each of its properties; they come from the same answer.
const CACHE_LIFETIME: Duration = Duration::from_millis(250);
/// For one port to say how it does. One that hangs must not hold up the list of all.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

type StatusResult = Result<Status, String>;

/// What the ports have said last.
pub struct Live {
    runtime_dir: PathBuf,
    units: Units,
    active: Mutex<Option<(Instant, BTreeSet<PortName>)>>,
    said: Mutex<HashMap<PortName, (Instant, StatusResult)>>,
}

impl Live {
    /// Sockets are below `runtime_dir`.
    pub fn new(runtime_dir: PathBuf, units: Units) -> Self {
        Self { runtime_dir, units, active: Mutex::default(), said: Mutex::default() }
    }

    /// The ports that run.
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

    /// What was said before does not count any more.
    pub async fn forget(&self) {
        *self.active.lock().await = None;
        self.said.lock().await.clear();
    }

    /// How a port does; `None` if it does not run.
    pub async fn status(&self, port: &PortName) -> Option<StatusResult> {
        match self.active().await {
            Ok(active) if !active.contains(port) => return None,
            Ok(_) => {}
            Err(error) => return Some(Err(error.to_string())),
        }
        if let Some((_, said)) =
            self.said.lock().await.get(port).filter(|(at, _)| at.elapsed() < CACHE_LIFETIME)
        {
            return Some(said.clone());
        }
        let ask = self.ask(port, client::status);
        let said = match tokio::time::timeout(STATUS_TIMEOUT, ask).await {
            Ok(said) => said,
            Err(_) => Err(format!("{port} has not answered within {} s", STATUS_TIMEOUT.as_secs())),
        };
        self.said.lock().await.insert(port.clone(), (Instant::now(), said.clone()));
        Some(said)
    }

    /// One question over the port's socket, which waits no longer than the client does.
    pub async fn ask<T: Send + 'static>(
        &self,
        port: &PortName,
        question: impl FnOnce(&std::path::Path, &PortName) -> Result<T, client::AttachError> + Send + 'static,
    ) -> Result<T, String> {
        let (runtime_dir, port) = (self.runtime_dir.clone(), port.clone());
        let asked = tokio::task::spawn_blocking(move || question(&runtime_dir, &port));
        match asked.await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(panicked) => Err(format!("asking has failed: {panicked}")),
        }
    }
}
