//! The capture log, read for those who may use its port: not all of them are in the group of the file. What blocks is done
//! on a thread, one at a time, so that a disk that hangs holds one thread and not those of the log and the line.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Semaphore;

use super::history::History;
use super::search::{Found, search};
use super::tail::Tail;
use super::view::LineSelection;
use crate::config::{Log, LogType};
use crate::logdir::{Client, NoLogDirectory};

/// For one piece: most take milliseconds.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a log cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// There is none.
    #[error("nothing is logged here: log.type is \"none\"")]
    None,
    /// There is no directory to look into.
    #[error("the log cannot be read: {0}")]
    Nowhere(#[from] NoLogDirectory),
    /// The system's reason.
    #[error("the log cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Its disk hangs.
    #[error("the log cannot be read: its disk has not answered within {n} s", n = READ_TIMEOUT.as_secs())]
    Hangs,
    /// The reading thread has died.
    #[error("the log cannot be read: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// Reads the log of one port.
#[derive(Debug)]
pub struct Reader {
    directory: Client,
    places: Arc<Semaphore>,
}

impl Reader {
    /// Of the log in this directory.
    pub fn new(directory: Client) -> Self {
        Self { directory, places: Arc::new(Semaphore::new(1)) }
    }

    /// The place where the last `lines` lines begin.
    pub async fn last_lines(&self, log: &Log, lines: usize) -> Result<Tail, ReadError> {
        let path = self.path(log)?;
        self.on_a_thread(move || Tail::last_lines(&path, lines)).await
    }

    /// The next piece; empty at the end.
    pub async fn read(&self, mut tail: Tail) -> Result<(Tail, Vec<u8>), ReadError> {
        self.on_a_thread(move || {
            let piece = tail.read()?;
            Ok((tail, piece))
        })
        .await
    }

    /// All that is there of the log, rotated files too.
    pub async fn history(&self, log: &Log, wanted: LineSelection) -> Result<History, ReadError> {
        let (path, kind) = (self.path(log)?, log.kind);
        self.on_a_thread(move || History::new(&path, kind, wanted)).await
    }

    /// The next lines that are wanted, perhaps none in this stretch; `None` at the end.
    pub async fn look_on(&self, mut history: History) -> Result<(History, Option<Vec<u8>>), ReadError> {
        self.on_a_thread(move || {
            let lines = history.look_on()?;
            Ok((history, lines))
        })
        .await
    }

    /// The last `most` lines with these words in them.
    pub async fn search(&self, log: &Log, words: String, most: usize) -> Result<Found, ReadError> {
        let (path, kind) = (self.path(log)?, log.kind);
        self.on_a_thread(move || search(&path, kind, &words, most)).await
    }

    fn path(&self, log: &Log) -> Result<PathBuf, ReadError> {
        match log.kind {
            LogType::None => Err(ReadError::None),
            _ => Ok(self.directory.current()?.path().join(&log.file)),
        }
    }

    /// The place goes with what was begun, which nobody can end.
    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let places = self.places.clone();
        let done = async move {
            let place = places.acquire_owned().await;
            let done = tokio::task::spawn_blocking(move || {
                let _place = place;
                work()
            });
            Ok(done.await??)
        };
        tokio::time::timeout(READ_TIMEOUT, done).await.unwrap_or(Err(ReadError::Hangs))
    }
}
