//! What a port needs before it can be served, and all that can fail of it: configuration, log directory, ring.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use super::{Options, ServiceError};
use crate::config::Config;
use crate::ring::Ring;
use crate::systemd;

/// Everything that a port needs.
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) log_dir: PathBuf,
    pub(super) ring: Ring,
}

impl Prepared {
    /// Gets everything, or says what is missing. `stored` is the ring that systemd has kept; it is taken last.
    pub(super) async fn new(options: &Options, stored: &mut Option<OwnedFd>) -> Result<Self, ServiceError> {
        let config = options.load().await?;
        let log_dir = std::env::var_os("LOGS_DIRECTORY").ok_or(ServiceError::NoLogDirectory)?.into();
        let ring = ring(stored.take(), config.ports[&options.port].scrollback)?;
        Ok(Self { config, log_dir, ring })
    }
}

/// The ring that systemd has kept, of whatever capacity, or a new one.
fn ring(stored: Option<OwnedFd>, capacity: usize) -> Result<Ring, ServiceError> {
    if let Some(fd) = stored {
        match Ring::adopt(fd) {
            Ok(ring) => return Ok(ring),
            Err(error) => {
                tracing::warn!("{error}; beginning a new one");
                systemd::forget("ring");
            }
        }
    }
    let ring = Ring::create(capacity)?;
    systemd::store("ring", ring.as_fd());
    Ok(ring)
}
