//! What systemd hands a service and hears from it: file descriptors by name, the FD store, readiness, status, watchdog
//! (`man sd_notify`, `man sd_listen_fds`). Without `NOTIFY_SOCKET` all of this says nothing to nobody.
#![allow(unsafe_code)]

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
pub use notify::{forget, notify, store};

/// What was handed over cannot be used.
#[derive(Debug, Error)]
pub enum HandedError {
    /// Not what its name says.
    #[error("the file descriptor handed over as {name:?} is not usable: {source}")]
    Unusable {
        /// `FileDescriptorName=`.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The file descriptors that a port process was handed, by their names.
#[derive(Debug, Default)]
pub struct Handed {
    /// `ssh`: the TCP listeners.
    pub ssh: Vec<TcpListener>,
    /// `attach`: the local listener.
    pub attach: Vec<UnixListener>,
    /// `tty`: the device, kept open while no process of ours ran.
    pub tty: Option<OwnedFd>,
    /// `ring` and `ring-resized`: the scrollback, likewise. Both, if a process was killed within a resize.
    pub rings: Vec<OwnedFd>,
    /// `intake`: the pipe in front of it.
    pub intake: Option<OwnedFd>,
}

impl Handed {
    /// Takes what `LISTEN_FDS` and `LISTEN_FDNAMES` announce. Anything of another name is closed.
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
                "tty" => handed.tty = take_raw(&mut fds, index).map_err(unusable)?,
                "ring" | "ring-resized" => handed.rings.extend(take_raw(&mut fds, index).map_err(unusable)?),
                "intake" => handed.intake = take_raw(&mut fds, index).map_err(unusable)?,
                _ => drop(take_raw(&mut fds, index).map_err(unusable)?),
            }
        }
        Ok(handed)
    }
}

/// The one unix listener of a program that has no other; `None` if it was not handed exactly one.
pub fn only_unix_listener() -> io::Result<Option<UnixListener>> {
    let mut fds = ListenFd::from_env();
    if fds.len() == 1 { fds.take_unix_listener(0) } else { Ok(None) }
}

/// A descriptor of no kind that listenfd knows; not to be inherited by anybody.
fn take_raw(fds: &mut ListenFd, index: usize) -> io::Result<Option<OwnedFd>> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    let Some(fd) = fds.take_raw_fd(index)? else { return Ok(None) };
    // SAFETY: listenfd hands out each inherited descriptor once, so this is its only owner.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(Some(fd))
}

/// Whether somebody keeps what is stored.
pub fn keeps() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// The heartbeat that `WatchdogSec=` asks for, at twice its rate; and what is to be sent again to those that did not take it.
#[derive(Debug)]
pub struct Watchdog(Option<tokio::time::Interval>);

impl Watchdog {
    /// A heartbeat; a silent one if nobody asks for it.
    pub fn new() -> Self {
        Self(sd_notify::watchdog_enabled().map(|period| {
            let mut interval = tokio::time::interval(period / 2);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            interval
        }))
    }

    /// Waits until the next beat and gives it. Cancel safe.
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

impl Default for Watchdog {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the sockets of the set are, unless somebody says otherwise.
pub const RUNTIME_DIRECTORY: &str = "/run/consoleserver";

/// Where they are: `RUNTIME_DIRECTORY`, or [`RUNTIME_DIRECTORY`].
pub fn runtime_directory() -> std::path::PathBuf {
    std::env::var_os("RUNTIME_DIRECTORY").unwrap_or_else(|| RUNTIME_DIRECTORY.into()).into()
}
