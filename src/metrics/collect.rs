//! Collects the figures: which ports there are and which run, from systemd; the rest from the ports that run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use futures_util::{StreamExt, stream};
use thiserror::Error;
use tokio::sync::Mutex;
use zbus::Connection;

use crate::admin::units::{UnitState, Units, UnitsError};
use crate::attach::metrics::{self, Metrics};
use crate::config::Instances;
use crate::port::PortName;
use crate::system::systemd;

/// Ports that are asked at the same time: more do not make it faster, and each takes a descriptor.
const CONCURRENT_REQUESTS: usize = 64;

/// The units whose states are reported. (Not `console-*`: Debian's `console-setup.service` is another package's.)
const UNIT_PATTERNS: [&str; 15] = [
    "console@*",
    "console-admin.service",
    "console-attach@*.socket",
    "console-auth-*",
    "console-cli.*",
    "console-directory.*",
    "console-hostkeys.service",
    "console-logrotate.*",
    "console-logs.*",
    "console-metrics.*",
    "console-open.service",
    "console-power@*",
    "console-rollback.service",
    "console-source@*",
    "console-trigger@*",
];
const CLI_SOCKET: &str = "console-cli.socket";

/// Why there are no figures at all.
#[derive(Debug, Error)]
pub enum CollectError {
    #[error("cannot connect to the system bus: {0}")]
    Bus(#[from] zbus::Error),
    #[error("{0}")]
    Systemd(#[from] UnitsError),
}

/// The figures of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Ports that run or can be activated, by name.
    pub ports: BTreeMap<PortName, PortFigures>,
    /// Whether the SSH listener of the admin CLI listens; `None` if there is none.
    pub is_cli_listening: Option<bool>,
    pub failed_units: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortFigures {
    /// Whether its SSH socket listens; `None` if it has none.
    pub is_listening: Option<bool>,
    pub state: PortState,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PortState {
    /// Its process does not run.
    #[default]
    Idle,
    /// Its process runs and did not reply.
    Silent,
    Running(Metrics),
}

/// Collects figures, over one connection to the bus.
#[derive(Debug, Default)]
pub struct Collector {
    units: Mutex<Option<Units>>,
}

impl Collector {
    pub async fn collect(&self) -> Result<Snapshot, CollectError> {
        let runtime_dir = systemd::runtime_directory();
        let loaded = self.loaded().await?;
        let mut plan = Plan::new(&loaded, &Instances::of_runtime(&runtime_dir));
        let requests = stream::iter(plan.running).map(|port| request(runtime_dir.clone(), port));
        let mut replies = requests.buffer_unordered(CONCURRENT_REQUESTS);
        while let Some((port, state)) = replies.next().await {
            if let Some(figures) = plan.snapshot.ports.get_mut(&port) {
                figures.state = state;
            }
        }
        Ok(plan.snapshot)
    }

    async fn loaded(&self) -> Result<Vec<UnitState>, CollectError> {
        let mut kept = self.units.lock().await;
        let units = match kept.take() {
            Some(units) => units,
            None => Units::new(&Connection::system().await?).await?,
        };
        let loaded = units.loaded(&UNIT_PATTERNS).await?;
        // After an error the next scrape connects again.
        *kept = Some(units);
        Ok(loaded)
    }
}

async fn request(runtime_dir: PathBuf, port: PortName) -> (PortName, PortState) {
    let state = match metrics::request(&runtime_dir, &port).await {
        Ok(metrics) => PortState::Running(metrics),
        Err(error) => {
            tracing::debug!("{port}: {error}");
            PortState::Silent
        }
    };
    (port, state)
}

/// The state of the units, and the ports to query.
struct Plan {
    snapshot: Snapshot,
    running: BTreeSet<PortName>,
}

impl Plan {
    fn new(loaded: &[UnitState], instances: &Instances) -> Self {
        let mut snapshot = Snapshot::default();
        let mut running = BTreeSet::new();
        let mut listening = BTreeMap::new();
        for UnitState { name, active } in loaded {
            snapshot.failed_units += usize::from(active == "failed");
            if name == CLI_SOCKET && active != "inactive" {
                snapshot.is_cli_listening = Some(active == "active");
            }
            let Some(instance) = PortName::of_unit(name) else { continue };
            let port = instances.port(&instance).clone();
            let is_local = name.starts_with("console-attach@");
            match name.rsplit_once('.') {
                Some((_, "socket")) if !is_local => drop(listening.insert(port, active.clone())),
                // A port that was stopped, or removed from the configuration, is inactive.
                Some((_, "socket")) if active != "inactive" => drop(snapshot.ports.entry(port).or_default()),
                // A failed one is asked neither: its socket would start it.
                Some((_, "service")) if is_running(active) => {
                    snapshot.ports.entry(port.clone()).or_default();
                    running.insert(port);
                }
                _ => {}
            }
        }
        for (port, figures) in &mut snapshot.ports {
            figures.is_listening = listening.get(port).map(|active| active == "active");
        }
        Self { snapshot, running }
    }
}

fn is_running(active: &str) -> bool {
    // A port that is activating replies as soon as it is ready; one that is deactivating may not.
    matches!(active, "active" | "activating" | "reloading")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, active: &str) -> UnitState {
        UnitState { name: name.into(), active: active.into() }
    }

    fn name(port: &str) -> PortName {
        port.parse().unwrap()
    }

    #[test]
    fn only_ports_that_run_are_asked() {
        let mut instances = Instances::default();
        instances.set(name("core"), name("ttyUSB0"));
        let loaded = [
            unit("console@ttyUSB0.service", "active"),
            unit("console@ttyUSB0.socket", "active"),
            unit("console-attach@ttyUSB0.socket", "active"),
            unit("console@idle.service", "inactive"),
            unit("console@idle.socket", "failed"),
            unit("console-attach@idle.socket", "active"),
            unit("console@stopped.service", "inactive"),
            unit("console@stopped.socket", "inactive"),
            unit("console-attach@stopped.socket", "inactive"),
            unit("console-attach@local.socket", "active"),
            unit("console@local.service", "failed"),
            unit("console-cli.socket", "active"),
            unit("console-logs.service", "active"),
        ];
        let Plan { snapshot, running } = Plan::new(&loaded, &instances);
        assert_eq!(running, BTreeSet::from([name("core")]));
        let listening: Vec<_> =
            snapshot.ports.iter().map(|(port, figures)| (port.as_str(), figures.is_listening)).collect();
        assert_eq!(listening, [("core", Some(true)), ("idle", Some(false)), ("local", None)]);
        assert_eq!((snapshot.is_cli_listening, snapshot.failed_units), (Some(true), 2));
    }
}
