//! What a port needs before it can be served, and all that can fail of it: configuration, host keys, log directory, ring.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use russh::keys::PrivateKey;

use super::{Listeners, Options, ServiceError, aside};
use crate::config::Config;
use crate::logdir;
use crate::ring::Ring;
use crate::systemd;

/// Everything that a port needs.
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) keys: Vec<PrivateKey>,
    pub(super) log_directory: logdir::Client,
    pub(super) ring: Ring,
}

impl Prepared {
    /// Gets everything, or says what is missing. `stored` is the ring that systemd has kept; it is taken last.
    pub(super) async fn new(
        options: &Options,
        listeners: &Listeners,
        stored: &mut Option<OwnedFd>,
    ) -> Result<Self, ServiceError> {
        let config = options.load().await?;
        // Without SSH none are needed.
        let keys = if listeners.ssh.is_empty() { Vec::new() } else { aside(host_keys).await? };
        let log_directory = log_directory()?;
        let ring = ring(stored.take(), config.ports[&options.port].scrollback)?;
        Ok(Self { config, keys, log_directory, ring })
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
