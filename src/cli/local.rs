//! What goes by the ports' own sockets, without the administration service: their state, and who is there.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use thiserror::Error;

use super::bounded;
use super::look::PortStatus;
use crate::admin::bus::Session;
use crate::attach::{LineErrors, Status, User, client};
use crate::config::Instances;
use crate::port::PortName;
use crate::session::plain;

/// Where the logs are, a directory a port.
pub const LOG_DIRECTORY: &str = "/var/log/consoleserver";
/// For the disk to name them.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);
/// For systemd to answer. Where it does not, the control groups tell.
const SYSTEMCTL_TIMEOUT: Duration = Duration::from_millis(500);
/// Those of the ports.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup/system.slice/system-console.slice";
/// Ports that are asked at once.
const AT_ONCE: usize = 64;

/// Why the ports cannot be looked at.
#[derive(Debug, Error)]
pub enum LocalError {
    /// No sockets at all.
    #[error(
        "no ports are served here ({1}): `systemctl status consoleserver.target` says whether they are started"
    )]
    NoPorts(PathBuf, io::Error),
    /// Which ports run cannot be told.
    #[error("systemctl does not say which ports run: {0}")]
    Systemctl(String),
    /// It was asked, and failed: its own words.
    #[error("systemctl does not say which ports run: {1} ({0})")]
    SystemctlFailed(ExitStatus, String),
}

/// How the ports do. Only those that run are asked: a look must not start the others.
pub fn status(runtime_dir: &Path) -> Result<Vec<PortStatus>, LocalError> {
    let ports = served(runtime_dir)?;
    let running = running(runtime_dir)?;
    let status = |port: &PortName| {
        if !running.contains(port) {
            return PortStatus::blank(port.clone(), "not running".to_owned());
        }
        match client::status(runtime_dir, port) {
            Ok(status) => told(port.clone(), status),
            Err(error) => PortStatus::blank(port.clone(), error.to_string()),
        }
    };
    let mut all = Vec::with_capacity(ports.len());
    for some in ports.chunks(AT_ONCE) {
        // One that hangs must not hold up the others.
        let asked: Vec<PortStatus> = std::thread::scope(|scope| {
            let asked: Vec<_> = some.iter().map(|port| (port, scope.spawn(|| status(port)))).collect();
            let end = |(port, asked): (&PortName, std::thread::ScopedJoinHandle<'_, PortStatus>)| {
                asked.join().unwrap_or_else(|_| PortStatus::blank(port.clone(), "cannot be asked".to_owned()))
            };
            asked.into_iter().map(end).collect()
        });
        all.extend(asked);
    }
    Ok(all)
}

/// The ports that `consoleserver` has marked as running, or else those that systemd runs.
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
        Ok(listed) => LocalError::SystemctlFailed(listed.status, plain(listed.stderr.trim())),
        Err(error) => LocalError::Systemctl(error.to_string()),
    };
    with_processes().map(|units| named(runtime_dir, units)).ok_or(why)
}

/// The ports that have processes, by their control groups: neither systemd nor its bus is asked.
fn with_processes() -> Option<Vec<PortName>> {
    let groups = std::fs::read_dir(CONTROL_GROUPS).ok()?;
    Some(groups.flatten().filter_map(|group| instance(group.file_name().to_str()?)).collect())
}

fn instance(unit: &str) -> Option<PortName> {
    unit.strip_prefix("console@")?.strip_suffix(".service")?.parse().ok()
}

/// The ports that a log may be there of, whether they run or not.
pub fn logged(runtime_dir: &Path) -> Result<Vec<PortName>, LocalError> {
    let mut ports = served(runtime_dir)?;
    // The foreground program has its logs elsewhere, and all its ports run.
    if !marks(runtime_dir).exists()
        // What cannot be seen may be there.
        && let Ok(logged) = bounded::names_in(Path::new(LOG_DIRECTORY), DISK_TIMEOUT)
    {
        // Of one that never ran there is no log, and it need not be started to say so.
        let logged: BTreeSet<String> = logged.into_iter().collect();
        ports.retain(|port| logged.contains(port.as_str()));
    }
    Ok(ports)
}

/// Where the foreground program says which ports run.
pub fn marks(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("running")
}

/// The ports that are served, in order.
pub(super) fn served(runtime_dir: &Path) -> Result<Vec<PortName>, LocalError> {
    Ok(named(runtime_dir, ports_in(&runtime_dir.join("attach"))?))
}

/// The ports whose units have these names, in order.
fn named(runtime_dir: &Path, units: Vec<PortName>) -> Vec<PortName> {
    let instances = Instances::of_runtime(runtime_dir);
    let mut ports: Vec<_> = units.iter().map(|unit| instances.port(unit).clone()).collect();
    ports.sort();
    ports
}

/// The ports that have an entry in a directory, in order.
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

fn told(port: PortName, status: Status) -> PortStatus {
    let Status { mut state, settings, received, sent, log_trouble, stale, log_lost, errors, users } = status;
    if log_lost > 0 {
        state.push_str(&format!("; {log_lost} bytes lost by the log"));
    }
    if let Some(trouble) = log_trouble {
        state.push_str(&format!("; {trouble}"));
    }
    if stale.is_some() {
        state.push_str("; the configuration is wrong: consolectl check");
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

fn session(User { name, from, since, writes }: User) -> Session {
    Session { user: name, from, since: since.to_string(), writes }
}
