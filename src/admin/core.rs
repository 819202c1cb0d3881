//! The work itself, one change at a time: set, reload, commit, roll back. What was done so far lies on the disk before the next
//! step, so that a killed service goes on where it was.

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

/// Why something was not done. The Display is what the administrator reads.
#[derive(Debug, Error)]
pub enum Error {
    /// A change that cannot be.
    #[error("{0}")]
    Refused(#[from] Rejected),
    /// The disk.
    #[error("{0}")]
    File(#[from] FileError),
    /// /etc.
    #[error("{0}")]
    Commit(#[from] CommitError),
    /// What is committed at present.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// systemd.
    #[error("{0}")]
    Units(#[from] UnitsError),
    /// Somebody listens there already.
    #[error("{0} is taken by another program: nothing was changed")]
    Taken(SocketAddr),
    /// An address that cannot be listened on.
    #[error("{0} cannot be listened on: {1}: nothing was changed")]
    Address(SocketAddr, std::io::Error),
    /// A running port has not taken its settings; they are in force as far as the others are concerned.
    #[error("{0}")]
    NotTaken(String),
    /// What was done was undone.
    #[error("{0}; it is as it was before")]
    Undone(UnitsError),
    /// A rollback that does not run.
    #[error("the file is as it was before the commit, but does not run: {0}")]
    NotRunning(Box<Error>),
    /// What was done could not even be undone.
    #[error("{0}; going back has failed too: {1}")]
    Stuck(UnitsError, Box<Error>),
    /// What the generator has made.
    #[error("{0}: cannot be read: {1}")]
    Generated(PathBuf, std::io::Error),
    /// One commit at a time.
    #[error("a commit waits for confirm until {0}: confirm or revert it first")]
    Waits(String),
    /// None does.
    #[error("no commit waits for confirm")]
    NoneWaits,
    /// How long a commit may wait.
    #[error("a commit can wait for confirm for 1 to {MAX_CONFIRM_SECONDS} seconds, not {0}")]
    Seconds(u32),
    /// A port's own words, or that it has none.
    #[error("{0}")]
    Port(String),
}

/// Sentences about what was done.
pub type Remarks = Vec<String>;

/// The one who changes things.
pub struct Core {
    pub(super) files: Files,
    pub(super) units: Units,
    /// Ports that run.
    pub live: Live,
    /// Read and replaced at once, never held over a wait.
    state: Mutex<(Arc<State>, Stamp)>,
    waiting: Mutex<Option<Waiting>>,
    /// Where signals come from.
    pub(super) emitter: SignalEmitter<'static>,
    /// One change at a time; the state above can be looked at meanwhile.
    pub(super) turn: tokio::sync::Mutex<()>,
}

impl Core {
    /// From what an earlier life has left.
    pub fn new(files: Files, units: Units, live: Live, emitter: SignalEmitter<'static>) -> Self {
        files.sweep();
        let stamp = files.stamp();
        let state = files.load();
        let waiting = Waiting::load(&files).unwrap_or_else(|error| {
            tracing::error!("which commit waits for confirm cannot be told, so it stays: {error}");
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

    /// The state, with the committed file as it is now. Shared, because a look at all ports asks for it some thousand times.
    pub fn state(&self) -> Arc<State> {
        let stamp = self.files.stamp();
        let mut held = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
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

    /// The commit that waits.
    pub fn waiting(&self) -> Option<Waiting> {
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub(super) fn wait_for(&self, waiting: Option<Waiting>) {
        *self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = waiting;
    }

    pub(super) fn keep(&self, state: State) {
        let mut held = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Built on a file that may have been edited since: the next look reads it again.
        *held = (Arc::new(state), Stamp::new());
    }

    /// Of a right text only, and not of one that somebody may yet roll back.
    pub(super) fn keep_last_good(&self, state: &State) {
        if state.fault.is_none()
            && self.waiting().is_none()
            && !state.committed.text.is_empty()
            && let Err(error) = self.files.save_last_good(&state.committed.text)
        {
            tracing::error!("no copy of the last good configuration is kept: {error}");
        }
    }

    /// A change of the candidate. Returns what it has replaced of other people's changes.
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
        self.tell_of_edit(altered).await;
        Ok(remarks)
    }

    /// A key takes a value, or its default.
    pub async fn set(&self, path: KeyPath, value: Option<Value>, revision: u64) -> Result<Remarks, Error> {
        self.change(revision, |state, author| state.set(path, value, author)).await
    }
}

pub(super) fn author() -> Author {
    Author { who: caller(), when: jiff::Timestamp::now() }
}
