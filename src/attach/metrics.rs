//! Figures of a port for monitoring: numbers only, no names and no output.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::client::{AttachError, ask_async, unexpected};
use super::server::Server;
use super::{LineErrors, Reply, Request};
use crate::hub::LineState;
use crate::port::PortName;

/// The account of `console-metrics`, which may request these figures of every port and nothing else.
pub(super) const METRICS_ACCOUNT: &str = "_console-metrics";

/// Timeout of one port. Ports are asked at the same time, and Prometheus waits 10 s for all of them.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// Figures of a port. Totals are those of `Status`, or since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// Whether the device is open; `None` if the port waits for a session before it connects (`on_demand`).
    pub is_open: Option<bool>,
    /// Bytes received from the device.
    pub received: u64,
    /// Bytes sent to the device.
    pub sent: u64,
    /// Line errors, if the driver counts them.
    pub errors: Option<LineErrors>,
    pub sessions: usize,
    /// Bytes missing from the log.
    pub log_lost: u64,
    /// Whether the log cannot be written now.
    pub is_log_failing: bool,
    /// How often triggers have fired.
    pub triggers: u64,
    /// How often the device was plugged in or unplugged.
    pub plug_events: u64,
}

impl Server {
    pub(super) async fn metrics(&self) -> Metrics {
        let console = &self.console;
        let errors = console.hub.examine().await.counters.map(LineErrors::from);
        let (received, sent) = console.hub.traffic();
        let sessions = console.roster().sessions().count();
        let is_open = matches!(*console.hub.line().borrow(), LineState::Open(_));
        let waits_for_session = !is_open && sessions == 0 && console.settings().on_demand;
        let health = self.health.borrow();
        Metrics {
            is_open: (!waits_for_session).then_some(is_open),
            received,
            sent,
            errors,
            sessions,
            log_lost: health.lost,
            is_log_failing: health.trouble.is_some(),
            triggers: console.hub.triggers(),
            plug_events: console.hub.plug_events(),
        }
    }
}

/// Requests the figures of a running port.
pub async fn request(runtime_dir: &Path, port: &PortName) -> Result<Metrics, AttachError> {
    let asked = tokio::time::timeout(REPLY_TIMEOUT, ask_async(runtime_dir, port, &Request::Metrics)).await;
    match asked {
        Ok(Ok((Reply::Metrics(metrics), _))) => Ok(metrics),
        Ok(Ok((reply, _))) => Err(unexpected(port, reply)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(AttachError::Failed(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no reply within {} s", REPLY_TIMEOUT.as_secs()),
        ))),
    }
}
