//! The commands of `consolectl`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

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
    /// The output is closed.
    #[error("cannot write: {0}")]
    Output(io::Error),
}

/// `connect PORT`
pub fn connect(runtime_dir: &Path, port: &PortName) -> Result<(), CommandError> {
    Ok(client::connect(runtime_dir, port)?)
}

/// `status`: a table of the ports that answer.
pub fn status(runtime_dir: &Path, to: &mut impl Write) -> Result<(), CommandError> {
    let mut rows = vec![["PORT", "SETTINGS", "IN", "OUT", "USERS", "STATE"].map(str::to_owned)];
    for port in served(runtime_dir)? {
        rows.push(match client::status(runtime_dir, &port) {
            Ok(status) => row(&port, status),
            Err(error) => [port.as_str(), "", "", "", "", &error.to_string()].map(str::to_owned),
        });
    }
    table(&rows, to).map_err(CommandError::Output)
}

/// The ports that have a socket here, in order.
fn served(runtime_dir: &Path) -> Result<Vec<PortName>, CommandError> {
    let directory = runtime_dir.join("attach");
    let no_ports = |error| CommandError::NoPorts(directory.clone(), error);
    let mut ports = Vec::new();
    for entry in std::fs::read_dir(&directory).map_err(no_ports)? {
        let name = entry.map_err(no_ports)?.file_name();
        ports.extend(name.to_str().and_then(|name| name.parse::<PortName>().ok()));
    }
    ports.sort();
    Ok(ports)
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
