//! The host keys of a listener, loaded in the background when it starts and again for a client that needs them: a missing key or a
//! slow disk delays SSH, and never the port's device, log or local socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
use russh::keys::PrivateKey;
use russh::server::Config;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::{algorithms, tuning};
use crate::auth::client;
use crate::config::SshAlgorithms;
use crate::hostkeys::{self, HostKeys};
use crate::system::lock::Lock;

/// While there is no key, a client starts another attempt to load one at most this often: each attempt starts a `console-auth`.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// While a client needs a kind of key that is not there, the keys are loaded again at most this often.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostKeyState {
    pub missing: Option<String>,
    /// Files that are not used, each with the reason.
    pub ignored: Vec<String>,
}

/// The host keys, and the russh configurations with them.
pub(super) struct KeyRing {
    /// The socket of `console-auth`.
    auth_socket: PathBuf,
    keys: watch::Sender<Option<Arc<HostKeys>>>,
    configs: std::sync::Mutex<Option<(SshAlgorithms, Configs)>>,
    state: watch::Sender<HostKeyState>,
    /// When the last attempt to load them ended; locked during an attempt.
    tried: Mutex<Option<Instant>>,
}

#[derive(Clone)]
pub(super) struct Configs {
    pub(super) keys: Arc<HostKeys>,
    /// For a client whose key exchange may take long.
    pub(super) every: Arc<Config>,
    /// For a client whose first key exchange is fast: later ones take a few milliseconds at most, too.
    pub(super) cheap: Arc<Config>,
}

impl Configs {
    fn new(word: SshAlgorithms, keys: Arc<HostKeys>) -> Self {
        let served = algorithms::served(word, &keys);
        let config =
            |in_rekey| Arc::new(tuning::config(served.clone(), algorithms::preferred(word), in_rekey));
        Self { keys, every: config(None), cheap: config(Some(algorithms::cheap(word))) }
    }
}

impl KeyRing {
    pub(super) fn new(helper: PathBuf) -> Self {
        Self {
            auth_socket: helper,
            keys: watch::Sender::default(),
            configs: std::sync::Mutex::default(),
            state: watch::Sender::default(),
            tried: Mutex::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn with(keys: Vec<PrivateKey>) -> Self {
        let ring = Self::new("/nonexistent".into());
        ring.set(HostKeys { keys, ..HostKeys::default() });
        ring
    }

    pub(super) fn state(&self) -> watch::Receiver<HostKeyState> {
        self.state.subscribe()
    }

    /// The configurations, if there is a key.
    pub(super) async fn configs(&self, word: SshAlgorithms) -> Option<Configs> {
        if self.keys.borrow().is_none() {
            self.load(Instant::now() - RETRY_INTERVAL).await;
        }
        let keys = self.keys.borrow().clone()?;
        let mut made = self.configs.locked();
        if let Some((of, configs)) = &*made
            && *of == word
            && Arc::ptr_eq(&configs.keys, &keys)
        {
            return Some(configs.clone());
        }
        let configs = Configs::new(word, keys);
        *made = Some((word, configs.clone()));
        Some(configs)
    }

    /// Loads the keys again because a client needs another kind, which may have been generated in the meantime.
    pub(super) async fn load_for_another_kind(&self) {
        self.load(Instant::now() - RELOAD_TIMEOUT).await;
    }

    /// Loads the keys, unless another attempt has ended since `since`. If that fails, keys that were loaded before stay in use.
    pub(super) async fn load(&self, since: Instant) {
        let mut tried = self.tried.lock().await;
        if tried.is_some_and(|tried| tried > since) {
            return;
        }
        let obtained = obtain(&self.auth_socket).await;
        *tried = Some(Instant::now());
        let state = match obtained {
            Ok(found) => {
                let ignored = found.ignored.clone();
                self.set(found);
                HostKeyState { missing: None, ignored }
            }
            Err(why) if self.keys.borrow().is_some() => {
                tracing::error!("host keys not reloaded: {why}");
                return;
            }
            Err(why) => HostKeyState { missing: Some(why), ignored: Vec::new() },
        };
        self.state.send_if_modified(|known| {
            if *known == state {
                return false;
            }
            for reason in &state.ignored {
                tracing::warn!("host key ignored: {reason}");
            }
            match &state.missing {
                Some(why) => tracing::error!("SSH is not available: {why}"),
                None if known.missing.is_some() => tracing::info!("SSH is available: a host key was loaded"),
                None => {}
            }
            *known = state;
            true
        });
    }

    fn set(&self, keys: HostKeys) {
        self.keys.send_replace(Some(keys.into()));
    }
}

/// The keys in the credentials directory if it has any, otherwise those that `console-auth` reads.
async fn obtain(helper: &Path) -> Result<HostKeys, String> {
    if let Some(credentials) = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from) {
        let loaded = tokio::task::spawn_blocking(move || hostkeys::load_credentials(&credentials)).await;
        let loaded = loaded.map_err(|panicked| panicked.to_string())?;
        if let Some(given) = loaded.map_err(|error| error.to_string())? {
            return Ok(given);
        }
    }
    client::host_keys(helper).await.map_err(|error| error.to_string())
}
