//! The one unsafe call here: a descriptor is watched for as long as it is open.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Watches `end`, which must not block.
pub(super) fn watched(end: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd keeps its number until it is dropped, and nothing else can be put in its place.
    Ok(unsafe { AsyncFd::register(end) }?)
}
