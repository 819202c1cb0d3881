//! Prepares everything that a port needs before it can be served, and that can fail: configuration, log directory, ring.

use std::os::fd::AsFd;
use std::path::Path;

use super::{Options, ServiceError};
use crate::config::{Config, ConfigError};
use crate::logdir;
use crate::port::PortName;
use crate::ring::{INTAKE_STORED_AS, Ring, STORED_AS};
use crate::system::systemd::{self, StoredRing};

/// Everything that a port needs.
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) port: PortName,
    /// The fault of the file, if this is the last valid configuration.
    pub(super) fault: Option<ConfigError>,
    pub(super) log_directory: logdir::Client,
    pub(super) ring: Ring,
}

impl Prepared {
    /// Prepares everything, or reports what is missing. `stored` is the ring from the FD store; it is adopted last.
    pub(super) async fn new(options: &Options, stored: &mut StoredRing) -> Result<Self, ServiceError> {
        let (config, port, fault) = options.load().await?;
        let log_directory = log_directory()?;
        let ring = ring(std::mem::take(stored), config.ports[&port].scrollback)?;
        Ok(Self { config, port, fault, log_directory, ring })
    }
}

/// Opens the log directory by its path if one is given (in the foreground), otherwise requests it from `console-logs`. Neither keeps a port from being served: an error
/// of the directory is reported as one of the log.
fn log_directory() -> Result<logdir::Client, ServiceError> {
    match std::env::var_os("LOGS_DIRECTORY") {
        Some(path) => Ok(logdir::Client::fixed(Path::new(&path))),
        None => logdir::Client::begin(systemd::runtime_directory().join(logdir::SOCKET_NAME))
            .map_err(|error| ServiceError::System("the log directory", error)),
    }
}

/// The ring from the FD store, of any capacity, or a new one.
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
            tracing::warn!("{error}; creating a new one");
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
