//! The commands of `consolectl`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use thiserror::Error;

use crate::attach::client::{self, AttachError};
use crate::attach::{Status, User};
use crate::clock::clock;
use crate::port::PortName;
use crate::session::plain;

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
    /// It was asked, and failed: its own words.
    #[error("systemctl does not say which ports run: {1} ({0})")]
    SystemctlFailed(ExitStatus, String),
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
    let ports = ports_in(&runtime_dir.join("attach"))?;
    let running = running(runtime_dir)?;
    let mut rows = vec![["PORT", "SETTINGS", "IN", "OUT", "USERS", "STATE"].map(str::to_owned)];
    for port in ports {
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
    if !listed.status.success() {
        let said = plain(String::from_utf8_lossy(&listed.stderr).trim());
        return Err(CommandError::SystemctlFailed(listed.status, said));
    }
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

/// Columns as wide as their widest cell, but the last. What stands in them came from users, devices and files.
fn table(rows: &[[String; 6]], to: &mut impl Write) -> io::Result<()> {
    let rows: Vec<_> = rows.iter().map(|row| row.each_ref().map(|cell| plain(cell))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(to, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_an_escape_sequence_is_harmless_in_the_table() {
        let since = jiff::Timestamp::UNIX_EPOCH;
        let users =
            vec![User { name: "a\x1b[2Jb\n".to_owned(), from: "local".to_owned(), since, writes: true }];
        let status = Status {
            state: "open".to_owned(),
            settings: "9600 8N1".to_owned(),
            received: 0,
            sent: 0,
            log_trouble: Some("two\nlines".to_owned()),
            log_lost: 0,
            users,
        };
        let mut shown = Vec::new();
        table(&[row(&"demo".parse().unwrap(), status)], &mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains("a?[2Jb? (local, writing since "), "{shown:?}");
        assert!(shown.ends_with("open; two?lines\n"), "{shown:?}");
        assert_eq!(shown.lines().count(), 1);
    }
}
