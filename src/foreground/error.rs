//! Why the foreground program cannot go on, as its user reads it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;

use nix::errno::Errno;
use thiserror::Error;
use tokio::task::JoinError;

use crate::hostkeys::HostKeyError;
use crate::port::PortName;

/// Display is the sentence.
#[derive(Debug, Error)]
pub enum ForegroundError {
    /// A file, directory or socket.
    #[error("{path}: {error}", path = .0.display(), error = .1)]
    File(PathBuf, #[source] io::Error),
    /// No answer about users and groups.
    #[error("cannot look up users: {0}")]
    Users(#[source] Errno),
    /// Nobody to run ports as.
    #[error("there is neither a user {0} nor {1} that console ports could run as")]
    NoUser(&'static str, &'static str),
    /// Not root, and nowhere to keep anything.
    #[error(
        "HOME is not set and this user has no entry in the user database: there is no place for logs and keys"
    )]
    NoHome,
    /// The runtime directory is in use.
    #[error("another consoleserver is running: it holds {}", .0.display())]
    AlreadyRunning(PathBuf),
    /// A TCP port.
    #[error("{port}: cannot listen on {address}: {}", listen_reason(.error))]
    Listen {
        /// Whose listener it is.
        port: PortName,
        /// Where it should be.
        address: SocketAddr,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// No TCP port for the demonstration.
    #[error("demo: no free TCP port from {first} to {last}")]
    NoFreePort {
        /// First one tried.
        first: u16,
        /// Last one tried.
        last: u16,
    },
    /// Somebody answers on a unix socket.
    #[error("{}: another program answers on this socket (do the systemd units run?)", .0.display())]
    SocketInUse(PathBuf),
    /// Something else has a socket's name.
    #[error("{}: this is not a socket: move it away", .0.display())]
    NotASocket(PathBuf),
    /// One of our programs.
    #[error("{name} is missing: it is neither beside {} nor in /usr/libexec/consoleserver or /usr/bin", own.display())]
    NoProgram {
        /// Its name.
        name: &'static str,
        /// This program.
        own: PathBuf,
    },
    /// Every port is disabled, or there is none.
    #[error("no port to serve: the configuration has none that is enabled (try --demo)")]
    NothingToServe,
    /// Host keys.
    #[error(transparent)]
    HostKeys(#[from] HostKeyError),
    /// A copy of a host key for the ports.
    #[error("a host key cannot be copied for the ports: {0}")]
    HostKeyCopy(#[source] russh::keys::ssh_key::Error),
    /// The demonstration's key.
    #[error("demo: cannot make a key: {0}")]
    DemoKey(#[source] russh::keys::ssh_key::Error),
    /// The demonstration's line.
    #[error("demo: cannot open a pty: {0}")]
    Pty(#[source] io::Error),
    /// The login helper's socket.
    #[error("login helper: cannot serve its socket: {0}")]
    Logins(#[source] io::Error),
    /// Signals.
    #[error("cannot wait for signals: {0}")]
    Signals(#[source] io::Error),
    /// Standard output.
    #[error("cannot write to the screen: {0}")]
    Screen(#[source] io::Error),
    /// A task of ours ended, which is our own mistake.
    #[error("a port is not served any more: {}", .0.as_ref().map_or("its task returned".into(), ToString::to_string))]
    PortTask(Option<JoinError>),
}

fn listen_reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "address in use (by another consoleserver?)".to_owned(),
        ErrorKind::AddrNotAvailable => "no interface of this machine has this address".to_owned(),
        ErrorKind::PermissionDenied => "permission denied (ports below 1024 are root's)".to_owned(),
        _ => error.to_string(),
    }
}
