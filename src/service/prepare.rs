//! What a port needs before it can be served, and all that can fail of it: configuration, log directory, ring.

use std::os::fd::AsFd;
use std::path::Path;

use super::{Options, ServiceError, StoredRing};
use crate::config::{Config, ConfigError};
use crate::logdir;
use crate::port::PortName;
use crate::ring::{INTAKE_STORED_AS, Ring, STORED_AS};
use crate::system::systemd;

/// Everything that a port needs.
pub(super) struct Prepared {
    pub(super) config: Config,
    /// What the port is called.
    pub(super) port: PortName,
    /// What is wrong with the file, if this is the last good configuration.
    pub(super) fault: Option<ConfigError>,
    pub(super) log_directory: logdir::Client,
    pub(super) ring: Ring,
}

impl Prepared {
    /// Gets everything, or says what is missing. `stored` is what systemd has kept of the ring; it is taken last.
    pub(super) async fn new(options: &Options, stored: &mut StoredRing) -> Result<Self, ServiceError> {
        let (config, port, fault) = options.load().await?;
        let log_directory = log_directory()?;
        let ring = ring(std::mem::take(stored), config.ports[&port].scrollback)?;
        Ok(Self { config, port, fault, log_directory, ring })
    }
}

/// By its path where one is given (in the foreground), else from `console-logs`. Neither keeps a port from being served: what is
/// wrong with the directory is the log's trouble.
fn log_directory() -> Result<logdir::Client, ServiceError> {
    match std::env::var_os("LOGS_DIRECTORY") {
        Some(path) => Ok(logdir::Client::fixed(Path::new(&path))),
        None => logdir::Client::begin(systemd::runtime_directory().join(logdir::SOCKET_NAME))
            .map_err(|error| ServiceError::System("the log directory", error)),
    }
}

/// The ring that systemd has kept, of whatever capacity, or a new one.
fn ring(StoredRing { memfds, intake }: StoredRing, capacity: usize) -> Result<Ring, ServiceError> {
    let (some, both, piped) = (!memfds.is_empty(), memfds.len() > 1, intake.is_some());
    let adopted = if some { Ring::adopt(memfds, intake).map(Some) } else { Ok(None) };
    match adopted {
        Ok(Some(ring)) => {
            if both {
                systemd::forget(ring.stored_as().1);
            }
            if !piped {
                systemd::store(INTAKE_STORED_AS, ring.intake());
            }
            return Ok(ring);
        }
        Ok(None) => {}
        Err(error) => {
            tracing::warn!("{error}; beginning a new one");
            for name in STORED_AS {
                systemd::forget(name);
            }
        }
    }
    let ring = Ring::create(capacity)?;
    systemd::store(INTAKE_STORED_AS, ring.intake());
    systemd::store(ring.stored_as().0, ring.as_fd());
    Ok(ring)
}
