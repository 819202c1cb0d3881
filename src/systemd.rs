//! What systemd hands a service and hears from it: file descriptors by name, the FD store, readiness, status, watchdog
//! (`man sd_notify`, `man sd_listen_fds`). Without `NOTIFY_SOCKET` all of this says nothing to nobody.
#![allow(unsafe_code)]

use std::io;
use std::net::TcpListener;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use thiserror::Error;

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

/// A descriptor of no kind that listenfd knows; not to be inherited by anybody.
fn take_raw(fds: &mut ListenFd, index: usize) -> io::Result<Option<OwnedFd>> {
    use nix::fcntl::{FcntlArg, FdFlag, fcntl};
    let Some(fd) = fds.take_raw_fd(index)? else { return Ok(None) };
    // SAFETY: listenfd hands out each inherited descriptor once, so this is its only owner.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(Some(fd))
}

/// Has systemd keep a descriptor for the next process of this unit; whether it could be told.
pub fn store(name: &str, fd: BorrowedFd<'_>) -> bool {
    // What was stored under the name before is another device's, or the same: one of them is enough.
    forget(name);
    say(sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[fd]))
}

/// Has systemd drop the descriptors of this name.
pub fn forget(name: &str) {
    notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
}

/// Whether somebody keeps what is stored.
pub fn keeps() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Tells systemd.
pub fn notify(state: &[NotifyState<'_>]) {
    say(sd_notify::notify(state));
}

fn say(told: io::Result<()>) -> bool {
    if let Err(error) = &told {
        tracing::warn!("systemd cannot be told: {error}");
    }
    told.is_ok()
}

/// The heartbeat that `WatchdogSec=` asks for, at twice its rate.
#[derive(Debug)]
pub struct Watchdog(Option<Heart>);

#[derive(Debug)]
struct Heart {
    interval: tokio::time::Interval,
    /// To systemd, opened while that is possible: a process that has no descriptor left is alive all the same.
    socket: Option<UnixDatagram>,
}

impl Watchdog {
    /// A heartbeat; a silent one if nobody asks for it.
    pub fn new() -> Self {
        Self(sd_notify::watchdog_enabled().map(|period| {
            let mut interval = tokio::time::interval(period / 2);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            Heart { interval, socket: connected().ok() }
        }))
    }

    /// Waits until the next beat and gives it. Cancel safe.
    pub async fn tick(&mut self) {
        match &mut self.0 {
            Some(Heart { interval, socket }) => {
                interval.tick().await;
                let beat = format!("{}\n", NotifyState::Watchdog);
                let sent = socket.as_ref().is_some_and(|socket| socket.send(beat.as_bytes()).is_ok());
                if !sent {
                    notify(&[NotifyState::Watchdog]);
                    *socket = connected().ok();
                }
            }
            None => std::future::pending().await,
        }
    }
}

fn connected() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(std::env::var_os("NOTIFY_SOCKET").ok_or(io::ErrorKind::NotFound)?)?;
    Ok(socket)
}

impl Default for Watchdog {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the sockets of the set are, unless somebody says otherwise.
pub const RUNTIME: &str = "/run/consoleserver";

/// Where they are: `RUNTIME_DIRECTORY`, or [`RUNTIME`].
pub fn runtime_directory() -> std::path::PathBuf {
    std::env::var_os("RUNTIME_DIRECTORY").unwrap_or_else(|| RUNTIME.into()).into()
}
