//! Errors of the foreground program.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;

use nix::errno::Errno;
use thiserror::Error;
use tokio::task::JoinError;

use crate::hostkeys::HostKeyError;
use crate::port::PortName;

/// Display is the error message.
#[derive(Debug, Error)]
pub enum ForegroundError {
    #[error("{path}: {error}", path = .0.display(), error = .1)]
    File(PathBuf, #[source] io::Error),
    #[error("cannot look up users: {0}")]
    Users(#[source] Errno),
    #[error("no user to run ports as: neither {0} nor {1} exists")]
    NoUser(&'static str, &'static str),
    #[error("HOME is not set and this user is not in the user database: no directory for logs and keys")]
    NoHome,
    #[error("another consoleserver is running and uses {}", .0.display())]
    AlreadyRunning(PathBuf),
    #[error("{port}: cannot listen on {address}: {}", listen_reason(.error))]
    Listen {
        port: PortName,
        address: SocketAddr,
        #[source]
        error: io::Error,
    },
    #[error("demo: no free TCP port from {first} to {last}")]
    NoFreePort { first: u16, last: u16 },
    #[error("{}: another program listens on this socket, probably consoleserver.target: systemctl stop consoleserver.target", .0.display())]
    SocketInUse(PathBuf),
    #[error("{}: not a socket: move this file away", .0.display())]
    NotASocket(PathBuf),
    #[error("{name} not found in {}, /usr/libexec/consoleserver or /usr/bin", own.display())]
    NoProgram { name: &'static str, own: PathBuf },
    #[error("no ports to serve: the configuration has no enabled port (try --demo)")]
    NothingToServe,
    #[error(transparent)]
    HostKeys(#[from] HostKeyError),
    #[error("cannot copy a host key for the ports: {0}")]
    HostKeyCopy(#[source] russh::keys::ssh_key::Error),
    #[error("demo: cannot generate a key: {0}")]
    DemoKey(#[source] russh::keys::ssh_key::Error),
    #[error("demo: cannot open a pty: {0}")]
    Pty(#[source] io::Error),
    #[error("login helper: cannot serve its socket: {0}")]
    Logins(#[source] io::Error),
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] io::Error),
    #[error("cannot write to standard output: {0}")]
    Stdout(#[source] io::Error),
    /// A task ended, which is a bug.
    #[error("internal error: a port's task ended: {}", .0.as_ref().map_or("its task returned".into(), ToString::to_string))]
    PortTask(Option<JoinError>),
}

fn listen_reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "address in use (by another consoleserver?)".to_owned(),
        ErrorKind::AddrNotAvailable => "no interface of this machine has this address".to_owned(),
        ErrorKind::PermissionDenied => "permission denied (TCP ports below 1024 require root)".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_messages() {
        let io = |errno: Errno| io::Error::from_raw_os_error(errno as i32);
        let listen = |errno| ForegroundError::Listen {
            port: "ttyUSB0".parse().unwrap(),
            address: "0.0.0.0:8023".parse().unwrap(),
            error: io(errno),
        };
        let key_error = || russh::keys::ssh_key::Error::FormatEncoding;
        let errors = [
            ForegroundError::File("/run/consoleserver".into(), io(Errno::EACCES)),
            ForegroundError::Users(Errno::EIO),
            ForegroundError::NoUser("_console-port", "nobody"),
            ForegroundError::NoHome,
            ForegroundError::AlreadyRunning("/run/consoleserver".into()),
            listen(Errno::EADDRINUSE),
            listen(Errno::EADDRNOTAVAIL),
            listen(Errno::EACCES),
            listen(Errno::EIO),
            ForegroundError::NoFreePort { first: 8023, last: 8222 },
            ForegroundError::SocketInUse("/run/consoleserver/attach/ttyUSB0".into()),
            ForegroundError::NotASocket("/run/consoleserver/attach/ttyUSB0".into()),
            ForegroundError::NoProgram { name: "console-port", own: "/opt/consoleserver".into() },
            ForegroundError::NothingToServe,
            ForegroundError::HostKeyCopy(key_error()),
            ForegroundError::DemoKey(key_error()),
            ForegroundError::Pty(io(Errno::ENOSPC)),
            ForegroundError::Logins(io(Errno::EMFILE)),
            ForegroundError::Signals(io(Errno::EIO)),
            ForegroundError::Stdout(io(Errno::EIO)),
            ForegroundError::PortTask(None),
        ];
        let text: String = errors.iter().map(|error| format!("{error}\n")).collect();
        snapbox::assert_data_eq!(text, snapbox::file!["../../tests/golden/foreground/errors.txt"].raw());
    }
}
