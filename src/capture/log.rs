//! The file. Blocking: it runs inside `spawn_blocking`, since an SD card can stall for seconds. Every append is all
//! or nothing, also through a full disk, and [`Mark`] says how far the file is right, so that after a crash
//! the next process cuts off what was written beyond the mark and writes it again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use thiserror::Error;

use super::encode::{Encoder, Left, Times};
use super::lines::Lines;
use super::text::escape;
use crate::config::{Log, LogType};

/// What went wrong with the log file. Its Display is the sentence that the administrator reads.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The directory is not there.
    #[error("the log directory {0} does not exist")]
    NoDirectory(PathBuf),
    /// A symlink where the log should be: it could lead anywhere.
    #[error("the log {0} is a symbolic link: put a regular file there, or remove the link")]
    Symlink(PathBuf),
    /// A FIFO, a directory, a device.
    #[error("the log {0} is not a regular file: remove what is there")]
    NotAFile(PathBuf),
    /// Nothing can be written there.
    #[error("the log {0} is on a read-only file system")]
    ReadOnly(PathBuf),
    /// A disk that does not answer.
    #[error("the log {0} is not being written: its disk hangs")]
    Hangs(PathBuf),
    /// Any other refusal of the system: no space, no permission, a broken disk.
    #[error("cannot {what} the log {path}: {source}")]
    Io {
        /// `open`, `write`, `sync`, `truncate`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// How far a log file is right: plain numbers, because they outlive the process in the ring's shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Device and inode: which file this is about. Zeros: none.
    pub file: [u64; 2],
    /// Bytes of the file up to the end of the last whole append.
    pub size: u64,
    /// How the last record left its line.
    pub left: Left,
}

impl From<Mark> for [u64; 4] {
    fn from(mark: Mark) -> Self {
        let left = match mark.left {
            Left::Ended => 0,
            Left::Unfinished => 1,
            Left::AtCr => 2,
        };
        [mark.file[0], mark.file[1], mark.size, left]
    }
}

impl From<[u64; 4]> for Mark {
    fn from([device, inode, size, left]: [u64; 4]) -> Self {
        let left = match left {
            0 => Left::Ended,
            2 => Left::AtCr,
            _ => Left::Unfinished,
        };
        Self { file: [device, inode], size, left }
    }
}

/// A port's log file, open for appending.
#[derive(Debug)]
pub struct CaptureLog {
    path: PathBuf,
    encoder: Encoder,
    /// `None` for [`LogType::None`].
    file: Option<File>,
    mark: Mark,
    /// A failed append that could not be taken back yet: the size to go back to.
    torn: Option<u64>,
    records: Vec<u8>,
    /// For the journal; `None` if it gets none.
    lines: Option<Lines>,
}

impl CaptureLog {
    /// Opens, or creates with mode 0640, the log in its directory. Nothing but a regular file will do.
    pub fn open(dir: &Path, log: &Log) -> Result<Self, CaptureError> {
        let encoder = Encoder::new(log.kind, TimeZone::system());
        let path = dir.join(&log.file);
        let file = if log.kind == LogType::None { None } else { Some(open_file(&path)?) };
        let lines = log.journal.then(Lines::default);
        let mut opened =
            Self { path, encoder, file, mark: Mark::default(), torn: None, records: Vec::new(), lines };
        opened.mark = opened.look()?;
        Ok(opened)
    }

    /// Goes on where a process that died left off: cuts off what it wrote beyond its last mark. If that mark is about
    /// another file (a rotated one) or this one has become shorter, the file stays as it is.
    pub fn resume(&mut self, mark: Mark) -> Result<(), CaptureError> {
        self.encoder.left = mark.left;
        self.mark = self.look()?;
        if mark.file == self.mark.file && mark.size < self.mark.size {
            self.cut_to(mark.size)?;
            self.mark.size = mark.size;
        }
        Ok(())
    }

    /// Goes on where this process left off, as [`Self::resume`], but with all that is there: what is behind the mark, others have
    /// appended since.
    pub fn go_on(&mut self, mark: Mark) -> Result<(), CaptureError> {
        self.encoder.left = mark.left;
        self.mark = self.look()?;
        Ok(())
    }

    /// Whether a part of a record may stand at its end, which could not be taken back yet.
    pub fn is_torn(&self) -> bool {
        self.torn.is_some()
    }

    /// Whether somebody has removed the file: what is written to it nobody would read. One that was renamed is a rotation's, which
    /// says when to let go of it.
    pub fn is_removed(&self) -> bool {
        self.file.as_ref().and_then(|file| file.metadata().ok()).is_some_and(|found| found.nlink() == 0)
    }

    /// Writes the records of `pending`, the bytes that are not yet logged, and returns how many of them these hold:
    /// see [`Encoder::encode`]. On an error nothing has changed, on disk or here, and the same bytes can be handed in
    /// again. If a long backlog fails in its middle, the bytes before that are returned and the error the next time.
    pub fn append(&mut self, pending: &[u8], times: Times, flush: bool) -> Result<usize, CaptureError> {
        let mut consumed = 0;
        let mut times = times;
        while consumed < pending.len() {
            match self.append_batch(&pending[consumed..], times, flush) {
                Ok(0) => break,
                Ok(length) => {
                    self.tell_journal(&pending[consumed..consumed + length]);
                    consumed += length;
                }
                Err(error) if consumed == 0 => return Err(error),
                Err(_) => break,
            }
            times.pending_since = times.now;
        }
        self.records.shrink_to(8 * 1024);
        Ok(consumed)
    }

    /// Writes a note of ours with the present time: `# ttyUSB0 unplugged`. Flush what is pending first.
    pub fn note(&mut self, text: &str) -> Result<(), CaptureError> {
        self.records.clear();
        self.encoder.note(text, Timestamp::now(), &mut self.records);
        self.write_records()
    }

    /// Writes what somebody has typed, as [`Self::note`].
    pub fn typed(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        self.records.clear();
        self.encoder.typed(bytes, Timestamp::now(), &mut self.records);
        self.write_records()
    }

    /// The file is the record and the journal a convenience: it drops what comes too fast (journald.conf(5)).
    fn tell_journal(&mut self, logged: &[u8]) {
        if let Some(lines) = &mut self.lines {
            lines.take(logged, |line| {
                let mut text = Vec::with_capacity(line.len());
                escape(line, &mut text);
                tracing::info!(console_line = 1, "{}", String::from_utf8_lossy(&text));
            });
        }
    }

    /// How far the file is right. To be recorded together with the position in the ring that it belongs to.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Opens the file anew after the old one was renamed away by a rotation. What is pending for the old one goes there
    /// first, by `append` with `flush`. If this fails, the old file stays open. Record the mark before the next append.
    pub fn reopen(&mut self) -> Result<(), CaptureError> {
        if self.file.is_none() {
            return Ok(());
        }
        let fresh = open_file(&self.path)?;
        self.mend()?;
        self.sync()?;
        self.file = Some(fresh);
        self.encoder.set_zone(TimeZone::system());
        self.mark = self.look()?;
        Ok(())
    }

    /// Waits until everything is on the disk (`fdatasync(2)`).
    pub fn sync(&mut self) -> Result<(), CaptureError> {
        let Some(file) = &self.file else { return Ok(()) };
        file.sync_data().map_err(|source| self.failed("sync", source))?;
        // What others have appended meanwhile is not to be cut off by the next process.
        if self.torn.is_none() {
            self.mark = self.look()?;
        }
        Ok(())
    }

    fn append_batch(&mut self, pending: &[u8], times: Times, flush: bool) -> Result<usize, CaptureError> {
        let left = self.encoder.left;
        self.records.clear();
        let consumed = self.encoder.encode(pending, times, flush, &mut self.records);
        if let Err(error) = self.write_records() {
            self.encoder.left = left;
            return Err(error);
        }
        Ok(consumed)
    }

    fn write_records(&mut self) -> Result<(), CaptureError> {
        self.mend()?;
        let (Some(mut file), false) = (self.file.as_ref(), self.records.is_empty()) else {
            self.mark.left = self.encoder.left;
            return Ok(());
        };
        // The size is asked for each time, because an administrator may truncate the file under us.
        let before = self.look()?;
        if let Err(source) = file.write_all(&self.records) {
            self.torn = Some(before.size);
            let error = self.failed("write", source);
            // If even this fails, `torn` remembers it, and the next append begins with it.
            let _ = self.mend();
            return Err(error);
        }
        // The fail point "log-written" belongs here: on disk, and not yet in the mark.
        self.mark = Mark { size: before.size + self.records.len() as u64, ..before };
        Ok(())
    }

    /// Takes back what a failed append left behind.
    fn mend(&mut self) -> Result<(), CaptureError> {
        if let Some(size) = self.torn {
            if size < self.look()?.size {
                self.cut_to(size)?;
            }
            self.torn = None;
        }
        Ok(())
    }

    fn cut_to(&self, size: u64) -> Result<(), CaptureError> {
        let Some(file) = &self.file else { return Ok(()) };
        file.set_len(size).map_err(|source| self.failed("truncate", source))
    }

    /// The file as it is now.
    fn look(&self) -> Result<Mark, CaptureError> {
        let left = self.encoder.left;
        let Some(file) = &self.file else { return Ok(Mark { left, ..Mark::default() }) };
        let found = file.metadata().map_err(|source| self.failed("examine", source))?;
        Ok(Mark { file: [found.dev(), found.ino()], size: found.size(), left })
    }

    fn failed(&self, what: &'static str, source: io::Error) -> CaptureError {
        CaptureError::Io { what, path: self.path.clone(), source }
    }
}

fn open_file(path: &Path) -> Result<File, CaptureError> {
    // O_NONBLOCK: a FIFO put in the log's place must not hang us before we have seen what it is.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let opened =
        OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags.bits()).open(path);
    let path = path.to_owned();
    let file = opened.map_err(|source| match Errno::from_raw(source.raw_os_error().unwrap_or(0)) {
        Errno::ENOENT | Errno::ENOTDIR => {
            CaptureError::NoDirectory(path.parent().unwrap_or(&path).to_owned())
        }
        Errno::ELOOP => CaptureError::Symlink(path.clone()),
        Errno::EISDIR | Errno::ENXIO => CaptureError::NotAFile(path.clone()),
        Errno::EROFS => CaptureError::ReadOnly(path.clone()),
        _ => CaptureError::Io { what: "open", path: path.clone(), source },
    })?;
    match file.metadata() {
        Ok(found) if found.is_file() => Ok(file),
        Ok(_) => Err(CaptureError::NotAFile(path)),
        Err(source) => Err(CaptureError::Io { what: "examine", path, source }),
    }
}
