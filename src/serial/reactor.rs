//! File descriptors under tokio's eye. Registering one is `unsafe` since tokio 1.54, because the descriptor must stay
//! the same one while it is registered; the two owners here keep theirs until they are dropped.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::sys::inotify::Inotify;
use tokio::io::unix::AsyncFd;

/// An inotify instance that tokio can watch.
#[derive(Debug)]
pub(super) struct Watcher(pub(super) Inotify);

impl AsRawFd for Watcher {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

pub(super) fn tty(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a File owns one descriptor, returns that one always, and closes it only when dropped.
    Ok(unsafe { AsyncFd::register(file) }?)
}

pub(super) fn watcher(inotify: Inotify) -> io::Result<AsyncFd<Watcher>> {
    // SAFETY: an Inotify owns one descriptor, returns that one always, and closes it only when dropped.
    Ok(unsafe { AsyncFd::register(Watcher(inotify)) }?)
}
