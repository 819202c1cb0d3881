//! Status of the ports over their own sockets, without console-admin.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use thiserror::Error;

use super::bounded;
use super::listing::PortStatus;
use crate::admin::wire::session;
use crate::attach::{LineErrors, Status, client};
use crate::config::Instances;
use crate::port::PortName;
use crate::printable::one_line;

/// One directory per port.
pub const LOG_DIRECTORY: &str = "/var/log/consoleserver";
/// Time for the disk to list the logs.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for systemctl. If it does not answer, the control groups are read.
const SYSTEMCTL_TIMEOUT: Duration = Duration::from_millis(500);
const CONTROL_GROUPS: &str = "/sys/fs/cgroup/system.slice/system-console.slice";
/// Ports that are queried concurrently.
const AT_ONCE: usize = 64;

/// Why the ports cannot be listed or queried.
#[derive(Debug, Error)]
pub enum LocalError {
    #[error("no ports are served ({1}): see `systemctl status consoleserver.target`")]
    NoPorts(PathBuf, io::Error),
    #[error("cannot list running ports: systemctl: {0}")]
    Systemctl(String),
    #[error("cannot list running ports: systemctl: {1} ({0})")]
    SystemctlFailed(ExitStatus, String),
}

/// The status of the ports. Only running ports are queried: a query must not activate idle ports.
pub fn status(runtime_dir: &Path) -> Result<Vec<PortStatus>, LocalError> {
    let ports = served(runtime_dir)?;
    let running = running(runtime_dir)?;
    let status = |port: &PortName| {
        if !running.contains(port) {
            return PortStatus::blank(port.clone(), "not running".to_owned());
        }
        match client::status(runtime_dir, port) {
            Ok(status) => port_status(port.clone(), status),
            Err(error) => PortStatus::blank(port.clone(), error.to_string()),
        }
    };
    let unknown = |port: &PortName| PortStatus::blank(port.clone(), "no status".to_owned());
    let asked = bounded::each_at_once(&ports, AT_ONCE, status);
    Ok(ports.iter().zip(asked).map(|(port, status)| status.unwrap_or_else(|| unknown(port))).collect())
}

/// The ports that `consoleserver` marks as running, or else those that systemd runs.
pub(super) fn running(runtime_dir: &Path) -> Result<Vec<PortName>, LocalError> {
    let marks = marks(runtime_dir);
    if marks.exists() {
        return ports_in(&marks);
    }
    let states = "--state=active,activating,reloading,deactivating";
    let mut systemctl = Command::new("systemctl");
    systemctl.args(["list-units", "--plain", "--no-legend", "--no-pager", states, "console@*.service"]);
    let why = match bounded::ask(&mut systemctl, SYSTEMCTL_TIMEOUT) {
        Ok(listed) if listed.status.success() => {
            let unit = |line: &str| instance(line.split_whitespace().next()?);
            return Ok(named(runtime_dir, listed.stdout.lines().filter_map(unit).collect()));
        }
        Ok(listed) => LocalError::SystemctlFailed(listed.status, one_line(&listed.stderr)),
        Err(error) => LocalError::Systemctl(error.to_string()),
    };
    with_processes().map(|units| named(runtime_dir, units)).ok_or(why)
}

/// The ports with a control group, which is read without systemd or its bus.
fn with_processes() -> Option<Vec<PortName>> {
    let groups = std::fs::read_dir(CONTROL_GROUPS).ok()?;
    Some(groups.flatten().filter_map(|group| instance(group.file_name().to_str()?)).collect())
}

fn instance(unit: &str) -> Option<PortName> {
    unit.strip_prefix("console@")?.strip_suffix(".service")?.parse().ok()
}

/// The ports that may have a log, running or not.
pub fn logged(runtime_dir: &Path) -> Result<Vec<PortName>, LocalError> {
    let mut ports = served(runtime_dir)?;
    // The foreground program has its logs elsewhere, and all its ports run.
    if !marks(runtime_dir).exists()
        // If the directory cannot be read, any port may have a log.
        && let Ok(logged) = bounded::names_in(Path::new(LOG_DIRECTORY), DISK_TIMEOUT)
    {
        // A port that never ran has no log, and need not be started to find that out.
        let logged: BTreeSet<String> = logged.into_iter().collect();
        ports.retain(|port| logged.contains(port.as_str()));
    }
    Ok(ports)
}

/// The directory in which the foreground program marks running ports.
pub fn marks(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("running")
}

/// The ports that have a socket, in order.
pub(super) fn served(runtime_dir: &Path) -> Result<Vec<PortName>, LocalError> {
    Ok(named(runtime_dir, ports_in(&runtime_dir.join("attach"))?))
}

/// The ports of these unit names, in order.
fn named(runtime_dir: &Path, units: Vec<PortName>) -> Vec<PortName> {
    let instances = Instances::of_runtime(runtime_dir);
    let mut ports: Vec<_> = units.iter().map(|unit| instances.port(unit).clone()).collect();
    ports.sort();
    ports
}

/// The port names in a directory, in order.
fn ports_in(directory: &Path) -> Result<Vec<PortName>, LocalError> {
    let no_ports = |error| LocalError::NoPorts(directory.to_owned(), error);
    let mut ports = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(no_ports)? {
        let name = entry.map_err(no_ports)?.file_name();
        ports.extend(name.to_str().and_then(|name| name.parse::<PortName>().ok()));
    }
    ports.sort();
    Ok(ports)
}

fn port_status(port: PortName, status: Status) -> PortStatus {
    let Status { mut state, settings, received, sent, log_trouble, stale, log_lost, errors, users } = status;
    if log_lost > 0 {
        state.push_str(&format!("; {log_lost} bytes lost by the log"));
    }
    if let Some(trouble) = log_trouble {
        state.push_str(&format!("; {trouble}"));
    }
    if stale.is_some() {
        state.push_str("; the configuration is invalid: see consolectl check");
    }
    let users = users.into_iter().map(session).collect();
    let errors = errors.map(|LineErrors { framing, parity, overruns, .. }| {
        [framing, parity, overruns].map(u64::from).iter().sum()
    });
    PortStatus {
        port,
        settings: Some(settings),
        received: Some(received),
        sent: Some(sent),
        errors,
        users,
        state,
    }
}
