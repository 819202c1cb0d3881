//! What a port needs before it can be served, and all that can fail of it: configuration, host keys, log directory, ring.

use std::os::fd::AsFd;
use std::path::PathBuf;

use russh::keys::PrivateKey;

use super::{Listeners, Options, ServiceError, StoredRing, aside};
use crate::config::Config;
use crate::ring::{INTAKE_STORED_AS, Ring, STORED_AS};
use crate::systemd;

/// Everything that a port needs.
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) keys: Vec<PrivateKey>,
    pub(super) log_dir: PathBuf,
    pub(super) ring: Ring,
}

impl Prepared {
    /// Gets everything, or says what is missing. `stored` is what systemd has kept of the ring; it is taken last.
    pub(super) async fn new(
        options: &Options,
        listeners: &Listeners,
        stored: &mut StoredRing,
    ) -> Result<Self, ServiceError> {
        let config = options.load().await?;
        // Without SSH none are needed.
        let keys = if listeners.ssh.is_empty() { Vec::new() } else { aside(host_keys).await? };
        let log_dir = std::env::var_os("LOGS_DIRECTORY").ok_or(ServiceError::NoLogDirectory)?.into();
        let ring = ring(std::mem::take(stored), config.ports[&options.port].scrollback)?;
        Ok(Self { config, keys, log_dir, ring })
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

/// The host keys in `CREDENTIALS_DIRECTORY`: every file whose name begins with `hostkey`.
fn host_keys() -> Result<Vec<PrivateKey>, ServiceError> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).unwrap_or_default();
    let entries = std::fs::read_dir(&directory)
        .map_err(|error| ServiceError::HostKey(directory.clone(), error.to_string()))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"hostkey")))
        .collect();
    paths.sort();
    let keys = paths.into_iter().map(|path| {
        let text = std::fs::read_to_string(&path)
            .map_err(|error| ServiceError::HostKey(path.clone(), error.to_string()))?;
        russh::keys::decode_secret_key(&text, None)
            .map_err(|error| ServiceError::HostKey(path, error.to_string()))
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        return Err(ServiceError::NoHostKey(directory.display().to_string()));
    }
    Ok(keys)
}
