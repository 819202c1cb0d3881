//! What systemd passes to a service and receives from it: file descriptors by name, the FD store, readiness, status, watchdog
//! (`man sd_notify`, `man sd_listen_fds`). Without `NOTIFY_SOCKET` nothing is sent.
#![allow(unsafe_code)]

pub mod bus;
mod job;
mod notify;

use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use thiserror::Error;

use crate::system::journal;
pub use job::farewell;
pub use notify::{forget, notify, store, store_unpolled};

/// A passed descriptor cannot be used.
#[derive(Debug, Error)]
pub enum HandedError {
    #[error("the file descriptor handed over as {name:?} is not usable: {source}")]
    Unusable {
        /// `FileDescriptorName=`.
        name: String,
        source: io::Error,
    },
}

/// The file descriptors that a port process receives, by their names.
#[derive(Debug, Default)]
pub struct Handed {
    /// `ssh`: the TCP listeners.
    pub ssh: Vec<TcpListener>,
    /// `attach`: the local listener.
    pub attach: Vec<UnixListener>,
    /// The line, kept open while no port process was running.
    pub line: StoredLine,
    /// The scrollback, likewise.
    pub ring: StoredRing,
}

/// The descriptors of a line that the previous process has left in the FD store: a tty, or the connection to the dialer
/// and its stream.
#[derive(Debug, Default)]
pub struct StoredLine {
    /// `tty`: the device.
    pub tty: Option<OwnedFd>,
    /// `dialer`: the connection to the port's console-dial.
    pub dialer: Option<OwnedFd>,
    /// `stream`: what the port reads and writes in place of a tty.
    pub stream: Option<OwnedFd>,
    /// `levels`: DTR and RTS before a lease that the process has not survived.
    pub levels: Option<OwnedFd>,
}

impl StoredLine {
    pub fn is_open(&self) -> bool {
        self.tty.is_some() || self.stream.is_some()
    }

    /// Closes all, here and in the FD store.
    pub fn forget(&mut self) {
        let Self { tty, dialer, stream, levels } = std::mem::take(self);
        for (name, descriptor) in [("tty", tty), ("dialer", dialer), ("stream", stream), ("levels", levels)] {
            if descriptor.is_some() {
                forget(name);
            }
        }
    }
}

/// The descriptors of a ring in the FD store.
#[derive(Debug, Default)]
pub struct StoredRing {
    /// `ring` and `ring-resized`: both, if a process was killed within a resize.
    pub memfds: Vec<OwnedFd>,
    /// `intake`: the pipe in front of it.
    pub intake: Option<OwnedFd>,
}

impl Handed {
    /// Takes what `LISTEN_FDS` and `LISTEN_FDNAMES` announce. Descriptors with other names are closed.
    pub fn take() -> Result<Self, HandedError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        let mut fds = ListenFd::from_env();
        let mut handed = Self::default();
        for index in 0..fds.len() {
            let name = names.get(index).copied().unwrap_or_default();
            let unusable = |source| HandedError::Unusable { name: name.to_owned(), source };
            match name {
                "ssh" => handed.ssh.extend(fds.take_tcp_listener(index).map_err(unusable)?),
                "attach" => handed.attach.extend(fds.take_unix_listener(index).map_err(unusable)?),
                "tty" => handed.line.tty = take_raw(&mut fds, index).map_err(unusable)?,
                "dialer" => handed.line.dialer = take_raw(&mut fds, index).map_err(unusable)?,
                "stream" => handed.line.stream = take_raw(&mut fds, index).map_err(unusable)?,
                "levels" => handed.line.levels = take_raw(&mut fds, index).map_err(unusable)?,
                "ring" | "ring-resized" => {
                    handed.ring.memfds.extend(take_raw(&mut fds, index).map_err(unusable)?)
                }
                "intake" => handed.ring.intake = take_raw(&mut fds, index).map_err(unusable)?,
                _ => drop(take_raw(&mut fds, index).map_err(unusable)?),
            }
        }
        Ok(handed)
    }
}

/// The only unix listener of a program; `None` if it did not receive exactly one.
pub fn only_unix_listener() -> io::Result<Option<UnixListener>> {
    let mut fds = ListenFd::from_env();
    if fds.len() == 1 { fds.take_unix_listener(0) } else { Ok(None) }
}

/// The only descriptor of a program; `None` if it did not receive exactly one.
pub fn only_descriptor() -> io::Result<Option<OwnedFd>> {
    let mut fds = ListenFd::from_env();
    if fds.len() == 1 { take_raw(&mut fds, 0) } else { Ok(None) }
}

/// A descriptor of a kind that listenfd does not support. It is not inherited.
fn take_raw(fds: &mut ListenFd, index: usize) -> io::Result<Option<OwnedFd>> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    let Some(fd) = fds.take_raw_fd(index)? else { return Ok(None) };
    // SAFETY: listenfd hands out each inherited descriptor once, so this is its only owner.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(Some(fd))
}

/// Whether there is an FD store.
pub fn keeps() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// The heartbeat for `WatchdogSec=`, at twice its rate; it also sends pending notifications again.
#[derive(Debug)]
pub struct Watchdog(Option<tokio::time::Interval>);

impl Default for Watchdog {
    /// A heartbeat; without a watchdog it does nothing.
    fn default() -> Self {
        Self(sd_notify::watchdog_enabled().map(|period| {
            let mut interval = tokio::time::interval(period / 2);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            interval
        }))
    }
}

impl Watchdog {
    /// Waits until the next heartbeat and sends it. Cancel safe.
    pub async fn tick(&mut self) {
        let beat = async {
            match &mut self.0 {
                Some(interval) => interval.tick().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = beat => notify(&[NotifyState::Watchdog]),
            () = notify::resend() => {}
        }
        // A quiet port has no other message that would report it.
        journal::report_dropped();
    }
}

/// Default directory of the sockets of all programs.
pub const RUNTIME_DIRECTORY: &str = "/run/consoleserver";

/// Directory of the sockets: `RUNTIME_DIRECTORY`, or [`RUNTIME_DIRECTORY`].
pub fn runtime_directory() -> std::path::PathBuf {
    std::env::var_os("RUNTIME_DIRECTORY").unwrap_or_else(|| RUNTIME_DIRECTORY.into()).into()
}
