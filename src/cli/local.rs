//! What goes by the ports' own sockets, without the administration service: their state, and who is there.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use thiserror::Error;

use super::look::PortStatus;
use crate::admin::bus::Session;
use crate::attach::{LineErrors, Status, User, client};
use crate::port::PortName;
use crate::session::plain;

/// Why the ports cannot be looked at.
#[derive(Debug, Error)]
pub enum LocalError {
    /// No sockets at all.
    #[error("no ports are served here: {0}: {1}")]
    NoPorts(PathBuf, io::Error),
    /// Which ports run cannot be told.
    #[error("systemctl does not say which ports run: {0}")]
    Systemctl(io::Error),
    /// It was asked, and failed: its own words.
    #[error("systemctl does not say which ports run: {1} ({0})")]
    SystemctlFailed(ExitStatus, String),
}

/// How the ports do. Only those that run are asked: a look must not start the others.
pub fn status(runtime_dir: &Path) -> Result<Vec<PortStatus>, LocalError> {
    let ports = ports_in(&runtime_dir.join("attach"))?;
    let running = running(runtime_dir)?;
    let status = |port: PortName| {
        if !running.contains(&port) {
            return PortStatus::blank(port, "not running".to_owned());
        }
        match client::status(runtime_dir, &port) {
            Ok(status) => told(port, status),
            Err(error) => PortStatus::blank(port, error.to_string()),
        }
    };
    Ok(ports.into_iter().map(status).collect())
}

/// The ports that `consoleserver` has marked as running, or else those that systemd runs.
fn running(runtime_dir: &Path) -> Result<Vec<PortName>, LocalError> {
    let marks = marks(runtime_dir);
    if marks.exists() {
        return ports_in(&marks);
    }
    let states = "--state=active,activating,reloading,deactivating";
    let listed = Command::new("systemctl")
        .args(["list-units", "--plain", "--no-legend", "--no-pager", states, "console@*.service"])
        .output()
        .map_err(LocalError::Systemctl)?;
    if !listed.status.success() {
        let said = plain(String::from_utf8_lossy(&listed.stderr).trim());
        return Err(LocalError::SystemctlFailed(listed.status, said));
    }
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let instance = |line: &str| {
        let unit = line.split_whitespace().next()?;
        unit.strip_prefix("console@")?.strip_suffix(".service")?.parse::<PortName>().ok()
    };
    Ok(listed.lines().filter_map(instance).collect())
}

/// The ports that a log may be there of, whether they run or not.
pub fn logged(runtime_dir: &Path) -> Result<Vec<PortName>, LocalError> {
    let mut ports = ports_in(&runtime_dir.join("attach"))?;
    // The foreground program has its logs elsewhere, and all its ports run.
    if !marks(runtime_dir).exists() {
        ports.retain(may_have_log);
    }
    Ok(ports)
}

/// Where systemd's ports have their logs.
pub const LOGS: &str = "/var/log/consoleserver";

/// Whether there may be something in a port's log: of one that never ran there is none, and it need not be started to say so.
fn may_have_log(port: &PortName) -> bool {
    let directory = Path::new(LOGS).join(port.as_str());
    // What cannot be seen may be there.
    !matches!(directory.try_exists(), Ok(false))
}

/// Whether a port runs, as far as that can be told.
pub fn runs(runtime_dir: &Path, port: &PortName) -> bool {
    running(runtime_dir).is_ok_and(|running| running.contains(port))
}

/// Where the foreground program says which ports run.
pub fn marks(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("running")
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
    let Status { mut state, settings, received, sent, log_trouble, log_lost, errors, users } = status;
    if log_lost > 0 {
        state.push_str(&format!("; {log_lost} bytes lost by the log"));
    }
    if let Some(trouble) = log_trouble {
        state.push_str(&format!("; {trouble}"));
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
