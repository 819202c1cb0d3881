//! What a port needs before it can be served, and all that can fail of it: configuration, log directory, ring.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::{Options, ServiceError};
use crate::config::Config;
use crate::logdir;
use crate::ring::Ring;
use crate::systemd;

/// Everything that a port needs.
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) log_directory: logdir::Client,
    pub(super) ring: Ring,
}

impl Prepared {
    /// Gets everything, or says what is missing. `stored` is the ring that systemd has kept; it is taken last.
    pub(super) async fn new(options: &Options, stored: &mut Option<OwnedFd>) -> Result<Self, ServiceError> {
        let config = options.load().await?;
        let log_directory = log_directory()?;
        let ring = ring(stored.take(), config.ports[&options.port].scrollback)?;
        Ok(Self { config, log_directory, ring })
    }
}

/// By its path where one is given (in the foreground), else from `console-logs`. Neither keeps a port from being served: what is
/// wrong with the directory is the log's trouble.
fn log_directory() -> Result<logdir::Client, ServiceError> {
    match std::env::var_os("LOGS_DIRECTORY") {
        Some(path) => Ok(logdir::Client::fixed(Path::new(&path))),
        None => logdir::Client::begin(systemd::runtime_directory().join(logdir::SOCKET))
            .map_err(|error| ServiceError::System("the log directory", error)),
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
