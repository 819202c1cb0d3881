//! Descriptors that tokio watches and has no type for: ttys, ptys, inotify, timers, listeners that are not accepted on.
//! Registering one is `unsafe` since tokio 1.54, because it must stay the same one for as long as it is registered.
//! Here it does: [`Steady`] owners have one descriptor all their life, and [`Watched`] lends its owner by `&` alone, so
//! that it cannot be replaced.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::inotify::Inotify;
use nix::sys::timerfd::TimerFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An owner of one descriptor.
///
/// # Safety
/// `as_raw_fd` gives the same open descriptor each time, as long as the owner is not dropped or changed by `&mut`.
pub unsafe trait Steady: AsRawFd {}

// SAFETY: it opens nothing and closes its one descriptor only when dropped.
unsafe impl Steady for File {}
// SAFETY: as File.
unsafe impl Steady for OwnedFd {}
// SAFETY: as File.
unsafe impl Steady for TcpStream {}
// SAFETY: for as long as it is borrowed, its owner can neither close the descriptor nor put another one in its place.
unsafe impl Steady for BorrowedFd<'_> {}
// SAFETY: an Inotify holds an OwnedFd that it never changes.
unsafe impl Steady for Notifier {}

// SAFETY: a TimerFd holds an OwnedFd that it never changes.
unsafe impl Steady for Timer {}

/// A timer as an owner of its descriptor.
#[derive(Debug)]
pub struct Timer(pub TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// An inotify instance as an owner of its descriptor.
#[derive(Debug)]
pub struct Notifier(pub Inotify);

impl AsRawFd for Notifier {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A descriptor that the runtime watches for as long as this lives.
#[derive(Debug)]
pub struct Watched<T: AsRawFd>(AsyncFd<T>);

impl<T: Steady> Watched<T> {
    /// Registers it with the runtime for this interest.
    pub fn new(owner: T, interest: Interest) -> io::Result<Self> {
        // SAFETY: a Steady owner's descriptor is open and stays the same one, and no `&mut` to it leaves this room.
        let watched = unsafe { AsyncFd::register_with_interest(owner, interest) };
        watched.map(Self).map_err(|error| error.into_parts().1)
    }
}

/// No `DerefMut`: by `AsyncFd::get_mut` the owner could be replaced.
impl<T: AsRawFd> Deref for Watched<T> {
    type Target = AsyncFd<T>;

    fn deref(&self) -> &AsyncFd<T> {
        &self.0
    }
}

/// Waits until the peer of a socket has closed it: its sending direction, or with `Interest::WRITABLE` both directions. Unread input does
/// not matter. Takes a duplicate of the descriptor, because the runtime watches a descriptor only once. Cancel safe.
pub async fn peer_closed(socket: OwnedFd, interest: Interest) -> io::Result<()> {
    let socket = Watched::new(socket, interest)?;
    loop {
        let mut guard = socket.ready(interest).await?;
        let ready = guard.ready();
        let closed = if interest.is_writable() { ready.is_write_closed() } else { ready.is_read_closed() };
        if closed {
            return Ok(());
        }
        // To wait for the next event, since the socket stays readable or writable.
        guard.clear_ready();
    }
}
