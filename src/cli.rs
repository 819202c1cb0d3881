//! The commands of `consolectl`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use crate::attach::client::{self, AttachError};
use crate::attach::{Status, User};
use crate::clock::clock;
use crate::port::PortName;

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CommandError {
    /// A port's own words.
    #[error("{0}")]
    Attach(#[from] AttachError),
    /// No sockets at all.
    #[error("no ports are served here: {0}: {1}")]
    NoPorts(PathBuf, io::Error),
    /// Which ports run cannot be told.
    #[error("systemctl does not say which ports run: {0}")]
    Systemctl(io::Error),
    /// The output is closed.
    #[error("cannot write: {0}")]
    Output(io::Error),
}

/// `connect PORT`
pub fn connect(runtime_dir: &Path, port: &PortName) -> Result<(), CommandError> {
    Ok(client::connect(runtime_dir, port)?)
}

/// `status`: a table of the ports. Only those that run are asked: a look must not start the others.
pub fn status(runtime_dir: &Path, to: &mut impl Write) -> Result<(), CommandError> {
    let running = running(runtime_dir)?;
    let mut rows = vec![["PORT", "SETTINGS", "IN", "OUT", "USERS", "STATE"].map(str::to_owned)];
    for port in ports_in(&runtime_dir.join("attach"))? {
        if !running.contains(&port) {
            rows.push(blank(&port, "not running"));
            continue;
        }
        rows.push(match client::status(runtime_dir, &port) {
            Ok(status) => row(&port, status),
            Err(error) => blank(&port, &error.to_string()),
        });
    }
    table(&rows, to).map_err(CommandError::Output)
}

/// The ports that `consoleserver` has marked as running, or else those that systemd runs.
fn running(runtime_dir: &Path) -> Result<Vec<PortName>, CommandError> {
    let marks = runtime_dir.join("running");
    if marks.exists() {
        return ports_in(&marks);
    }
    let states = "--state=active,activating,reloading,deactivating";
    let listed = Command::new("systemctl")
        .args(["list-units", "--plain", "--no-legend", "--no-pager", states, "console@*.service"])
        .output()
        .map_err(CommandError::Systemctl)?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let instance = |line: &str| {
        let unit = line.split_whitespace().next()?;
        unit.strip_prefix("console@")?.strip_suffix(".service")?.parse::<PortName>().ok()
    };
    Ok(listed.lines().filter_map(instance).collect())
}

/// The ports that have an entry in a directory, in order.
fn ports_in(directory: &Path) -> Result<Vec<PortName>, CommandError> {
    let no_ports = |error| CommandError::NoPorts(directory.to_owned(), error);
    let mut ports = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(no_ports)? {
        let name = entry.map_err(no_ports)?.file_name();
        ports.extend(name.to_str().and_then(|name| name.parse::<PortName>().ok()));
    }
    ports.sort();
    Ok(ports)
}

fn blank(port: &PortName, state: &str) -> [String; 6] {
    [port.as_str(), "-", "-", "-", "-", state].map(str::to_owned)
}

fn row(port: &PortName, status: Status) -> [String; 6] {
    let Status { mut state, settings, received, sent, log_trouble, log_lost, users } = status;
    if log_lost > 0 {
        state.push_str(&format!("; {log_lost} bytes lost by the log"));
    }
    if let Some(trouble) = log_trouble {
        state.push_str(&format!("; {trouble}"));
    }
    let users: Vec<String> = users.into_iter().map(user).collect();
    let users = if users.is_empty() { "-".to_owned() } else { users.join(", ") };
    [port.to_string(), settings, received.to_string(), sent.to_string(), users, state]
}

fn user(User { name, from, since, writes }: User) -> String {
    let role = if writes { "writing" } else { "watching" };
    format!("{name} ({from}, {role} since {})", clock(since))
}

/// Columns as wide as their widest cell, but the last.
fn table(rows: &[[String; 6]], to: &mut impl Write) -> io::Result<()> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(to, "{}", line.trim_end())?;
    }
    Ok(())
}
