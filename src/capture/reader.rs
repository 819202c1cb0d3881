//! Reads the capture log for users of its port: not all of them are in the group of the file. Blocking calls are made
//! on a thread, one at a time, so that a disk that hangs holds one thread and not those of the log and the line.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Semaphore;

use super::history::History;
use super::recording::Recording;
use super::search::{Found, search};
use super::tail::{self, Tail};
use super::view::{LineSelection, TimeRange};
use crate::config::{Log, LogType};
use crate::logdir::{Client, LOOKUP_TIME, NoLogDirectory};

/// Time for one chunk: most take milliseconds.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a log cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error("this port has no log: log.type is \"none\"")]
    None,
    #[error("the log cannot be read: {0}")]
    Nowhere(#[from] NoLogDirectory),
    #[error("the log cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("the log cannot be read: its disk has not answered within {n} s", n = READ_TIMEOUT.as_secs())]
    Hangs,
    #[error("the log cannot be read: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

/// Reads the log of one port.
#[derive(Debug)]
pub struct Reader {
    directory: Client,
    slots: Arc<Semaphore>,
}

impl Reader {
    pub fn new(directory: Client) -> Self {
        Self { directory, slots: Arc::new(Semaphore::new(1)) }
    }

    /// The position where the last `lines` lines begin.
    pub async fn last_lines(&self, log: &Log, lines: usize) -> Result<Tail, ReadError> {
        let path = self.readable(log).await?;
        self.on_a_thread(move || Tail::last_lines(&path, lines)).await
    }

    /// The next chunk; empty at the end.
    pub async fn read(&self, mut tail: Tail) -> Result<(Tail, Vec<u8>), ReadError> {
        self.on_a_thread(move || {
            let piece = tail.read()?;
            Ok((tail, piece))
        })
        .await
    }

    /// All of the log, rotated files included.
    pub async fn history(&self, log: &Log, wanted: LineSelection) -> Result<History, ReadError> {
        let (path, kind) = (self.readable(log).await?, log.kind);
        self.on_a_thread(move || History::new(&path, kind, wanted)).await
    }

    /// The next selected lines, perhaps none in this chunk; `None` at the end.
    pub async fn read_appended(&self, mut history: History) -> Result<(History, Option<Vec<u8>>), ReadError> {
        self.on_a_thread(move || {
            let lines = history.read_appended()?;
            Ok((history, lines))
        })
        .await
    }

    pub async fn recording(&self, log: &Log, range: TimeRange) -> Result<Recording, ReadError> {
        let path = self.readable(log).await?;
        self.on_a_thread(move || Recording::open(&path, range.since, range.until)).await
    }

    /// The next frames, perhaps none in this chunk; `None` at the end.
    pub async fn play_on(&self, mut recording: Recording) -> Result<(Recording, Option<Vec<u8>>), ReadError> {
        self.on_a_thread(move || {
            let frames = recording.look_on()?;
            Ok((recording, frames))
        })
        .await
    }

    /// The last `most` lines that contain these words.
    pub async fn search(&self, log: &Log, words: String, most: usize) -> Result<Found, ReadError> {
        let (path, kind) = (self.readable(log).await?, log.kind);
        self.on_a_thread(move || search(&path, kind, &words, most)).await
    }

    /// The path of the log. If another user owns the file, `console-logs` is asked to change that: a port whose device is silent does not
    /// open it, and finds out only by the next output.
    async fn readable(&self, log: &Log) -> Result<PathBuf, ReadError> {
        let path = self.path(log).await?;
        let opened = path.clone();
        match self.on_a_thread(move || tail::open(&opened).map(drop)).await {
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.directory.ask_again();
                tokio::time::sleep(LOOKUP_TIME).await;
                Ok(path)
            }
            Err(ReadError::Hangs) => Err(ReadError::Hangs),
            _ => Ok(path),
        }
    }

    async fn path(&self, log: &Log) -> Result<PathBuf, ReadError> {
        if log.kind == LogType::None {
            return Err(ReadError::None);
        }
        // A port that was started for this command may not have the directory yet. (After the timeout the error says so.)
        let _ = tokio::time::timeout(READ_TIMEOUT, self.directory.clone().answered()).await;
        Ok(self.directory.current()?.path().join(&log.file))
    }

    /// The position is lost with the call, which cannot be cancelled.
    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let places = self.slots.clone();
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::logdir::DirectoryReply;
    use crate::system::message;

    // A port that `grep` starts is asked for its log before console-logs has replied.
    #[tokio::test]
    async fn a_read_waits_for_the_directory_of_a_port_that_has_just_started() {
        let room = tempfile::tempdir().unwrap();
        let socket = room.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let reader = Reader::new(Client::begin(socket).unwrap());
        let late = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            std::thread::sleep(Duration::from_millis(200));
            let none = DirectoryReply::Unavailable { why: "no disk".to_owned() };
            message::send(&mut stream, &none).unwrap();
            stream
        });
        let why = reader.last_lines(&Log::default(), 1).await.unwrap_err().to_string();
        assert_eq!(why, "the log cannot be read: no disk");
        drop(late.join().unwrap());
    }
}
