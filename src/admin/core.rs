//! Executes changes one at a time: set, reload, commit, roll back. Each step is on disk before the next one,
//! so that a killed service continues where it stopped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use thiserror::Error;
use zbus::object_server::SignalEmitter;

use super::authorization::caller;
use super::confirm::{MAX_CONFIRM_SECONDS, Waiting};
use super::files::{FileError, Files, Stamp};
use super::live::Live;
use super::state::{Author, Rejected, State};
use super::units::{Units, UnitsError};
use crate::config::changes::KeyPath;
use crate::config::commit::CommitError;
use crate::config::{ConfigError, Value};
use crate::system::lock::Lock;

/// Why an operation failed. The Display is what the administrator reads.
#[derive(Debug, Error)]
pub enum Error {
    #[error(transparent)]
    Rejected(#[from] Rejected),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Units(#[from] UnitsError),
    #[error("{0} is in use by another program: nothing was changed")]
    Taken(SocketAddr),
    #[error("cannot listen on {0}: {1}: nothing was changed")]
    Address(SocketAddr, std::io::Error),
    /// A running port rejected its settings; they are in effect for the other ports.
    #[error("{0}")]
    NotTaken(String),
    #[error("{0}; the previous state was restored")]
    Undone(UnitsError),
    #[error("the file was restored, but could not be reloaded: {0}")]
    NotRunning(Box<Error>),
    #[error("{0}; restoring the previous state failed too: {1}")]
    Stuck(UnitsError, Box<Error>),
    #[error("{0}: cannot be read: {1}")]
    Generated(PathBuf, std::io::Error),
    #[error("a commit waits for confirmation until {0}: confirm or revert it first")]
    Waits(String),
    #[error("no commit waits for confirmation")]
    NoneWaits,
    #[error("the time to confirm a commit must be 1 to {MAX_CONFIRM_SECONDS} seconds, not {0}")]
    Seconds(u32),
    #[error("{0}")]
    Port(String),
}

/// Sentences about a completed operation.
pub type Remarks = Vec<String>;

/// The state and the means to change it.
pub struct Core {
    pub(super) files: Files,
    pub(super) units: Units,
    pub live: Live,
    /// Read and replaced at once, never locked across an await.
    state: Mutex<(Arc<State>, Stamp)>,
    waiting: Mutex<Option<Waiting>>,
    pub(super) emitter: SignalEmitter<'static>,
    /// Held during a change; the state can be read in the meantime.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Core {
    /// Loads the state of an earlier process.
    pub fn new(files: Files, units: Units, live: Live, emitter: SignalEmitter<'static>) -> Self {
        files.sweep();
        let stamp = files.stamp();
        let state = files.load();
        let waiting = Waiting::load(&files).unwrap_or_else(|error| {
            tracing::error!("the commit that waits for confirmation is unknown and stays: {error}");
            None
        });
        let core = Self {
            files,
            units,
            live,
            state: Mutex::new((Arc::new(state), stamp)),
            waiting: Mutex::new(waiting),
            emitter,
            turn: tokio::sync::Mutex::default(),
        };
        core.keep_last_good(&core.state());
        core
    }

    /// The state with the committed file as it is now. Shared, because a status of all ports reads it some
    /// thousand times.
    pub fn state(&self) -> Arc<State> {
        let stamp = self.files.stamp();
        let mut held = self.state.locked();
        if held.1 != stamp {
            let (text, fault) = self.files.committed();
            *held = (Arc::new(held.0.over(text, fault)), stamp);
            let state = held.0.clone();
            drop(held);
            self.keep_last_good(&state);
            return state;
        }
        held.0.clone()
    }

    pub fn waiting(&self) -> Option<Waiting> {
        self.waiting.locked().clone()
    }

    pub(super) fn wait_for(&self, waiting: Option<Waiting>) {
        *self.waiting.locked() = waiting;
    }

    pub(super) fn keep(&self, state: State) {
        let mut held = self.state.locked();
        // Based on a file that may have been edited since: the next call to `state` reads it again.
        *held = (Arc::new(state), Stamp::new());
    }

    /// Only for a valid text that can no longer be rolled back.
    pub(super) fn keep_last_good(&self, state: &State) {
        if state.fault.is_none()
            && self.waiting().is_none()
            && !state.committed.text.is_empty()
            && let Err(error) = self.files.save_last_good(&state.committed.text)
        {
            tracing::error!("cannot write the copy of the last valid configuration: {error}");
        }
    }

    /// Changes the candidate. Returns remarks about replaced changes of other users.
    pub async fn change(
        &self,
        revision: u64,
        change: impl FnOnce(&State, &Author) -> Result<State, Rejected>,
    ) -> Result<Remarks, Error> {
        let _turn = self.turn.lock().await;
        let state = self.state();
        state.check_revision(revision)?;
        let author = author();
        let next = change(&state, &author)?;
        if next.revision == state.revision {
            return Ok(Remarks::new());
        }
        self.files.save_candidate(&next)?;
        let (altered, remarks) = (state.altered(&next, &author.who), state.overridden(&next, &author));
        self.keep(next);
        self.report_edit(altered).await;
        Ok(remarks)
    }

    /// Sets a key; `None` restores its default.
    pub async fn set(&self, path: KeyPath, value: Option<Value>, revision: u64) -> Result<Remarks, Error> {
        self.change(revision, |state, author| state.set(path, value, author)).await
    }
}

pub(super) fn author() -> Author {
    Author { who: caller(), when: jiff::Timestamp::now() }
}
