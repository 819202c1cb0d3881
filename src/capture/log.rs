//! The log file. Blocking: it runs inside `spawn_blocking`, since an SD card can stall for seconds. Every append is all
//! or nothing, also on a full disk. Each is recorded in a [`WriteAhead`] before and after it is made, so that after a crash the next
//! process knows how much of the last one is in the file, regardless of the file's current name.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use thiserror::Error;

use super::encode::{Encoder, Times};
use super::lines::Lines;
use super::recovery::{Recovered, ends_within_a_line, identity, nuls_at_end, recover, renamed};
use super::text::escape;
use super::write_ahead::{Mark, Step, WriteAhead, check};
use crate::config::{Log, LogType};
use crate::hub::Hub;
use crate::logdir::{LogDirectory, NoLogDirectory};
use crate::system::clock::SystemZone;
use crate::system::failpoint;

/// What went wrong with the log file. Its Display is the sentence that the administrator reads.
#[derive(Debug, Error)]
pub enum CaptureError {
    #[error("the log directory {0} does not exist")]
    NoDirectory(PathBuf),
    #[error(transparent)]
    Nowhere(#[from] NoLogDirectory),
    /// A symlink in place of the log: it could lead anywhere.
    #[error("the log {0} is a symbolic link: put a regular file there, or remove the link")]
    Symlink(PathBuf),
    /// A FIFO, a directory or a device.
    #[error("the log {0} is not a regular file: remove it")]
    NotAFile(PathBuf),
    #[error("the log {0} is on a read-only file system")]
    ReadOnly(PathBuf),
    #[error("the log {0} is not being written: its disk does not respond")]
    Hangs(PathBuf),
    /// Any other error of the system: no space, no permission, a broken disk.
    #[error("cannot {what} the log {path}: {source}")]
    Io {
        /// `open`, `write`, `sync`, `truncate`.
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl CaptureError {
    /// Whether only space is missing (`man 2 write`: ENOSPC, EDQUOT).
    pub fn is_disk_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io { source, .. } if full.contains(&source.kind()))
    }
}

/// A port's log file, open for appending.
#[derive(Debug)]
pub struct CaptureLog {
    directory: LogDirectory,
    name: PathBuf,
    kind: LogType,
    zone: SystemZone,
    encoder: Encoder,
    write_ahead: WriteAhead,
    /// `None` for [`LogType::None`].
    file: Option<File>,
    mark: Mark,
    /// The file as [`Self::displaced`] has just found it, which saves the next write a system call.
    found: Option<Mark>,
    /// A failed append that could not be undone yet: the size to return to.
    torn: Option<u64>,
    /// Whether the end of the file has not been examined yet.
    unread: bool,
    /// Whether the name never leads to the open file.
    nameless: bool,
    records: Vec<u8>,
    /// For the journal; `None` if it gets none.
    lines: Option<Lines>,
}

impl CaptureLog {
    /// Opens, or creates with mode 0640, the log in its directory. It must be a regular file.
    pub fn open(directory: impl Into<LogDirectory>, log: &Log) -> Result<Self, CaptureError> {
        let zone = SystemZone::default();
        let encoder = Encoder::new(log.kind, zone.zone());
        let (directory, name) = (directory.into(), PathBuf::from(&log.file));
        let file = if log.kind == LogType::None { None } else { Some(open_file(&directory, &name)?) };
        let lines = log.journal.then(Lines::default);
        let mut opened = Self {
            directory,
            name,
            kind: log.kind,
            zone,
            encoder,
            write_ahead: WriteAhead::default(),
            file,
            mark: Mark::default(),
            found: None,
            torn: None,
            unread: true,
            nameless: false,
            records: Vec::new(),
            lines,
        };
        opened.mark = opened.current_mark()?;
        Ok(opened)
    }

    /// Resumes a log that another process or this one has left: `next` is the result of its last write, if that is not known
    /// to have ended. It stays if it is complete, and is undone if not. What other programs have
    /// appended stays.
    pub fn resume(&mut self, mark: Mark, next: Option<Mark>) -> Result<Recovered, CaptureError> {
        let found = match next {
            Some(next) => self.find(mark, next)?,
            None => Recovered::Nothing,
        };
        let whole = next.filter(|_| found == Recovered::Whole);
        self.encoder.left = whole.unwrap_or(mark).left;
        self.mark = self.current_mark()?;
        Ok(found)
    }

    fn find(&self, mark: Mark, next: Mark) -> Result<Recovered, CaptureError> {
        let recovered = match &self.file {
            Some(file) if self.mark.file == next.file => recover(file, mark, next),
            _ => match renamed(self.directory.path(), next.file) {
                Some(file) => recover(&file, mark, next),
                None => Ok(Recovered::Gone),
            },
        };
        recovered.map_err(|source| self.failed("examine", source))
    }

    /// From now on each write is recorded in the header of this ring.
    pub(super) fn keep(&mut self, hub: Arc<Hub>) {
        self.write_ahead = WriteAhead(Some(hub));
    }

    /// Removes the NULs that a power failure leaves at the end of a file, and notes that in it. A text log contains no other NULs (they are escaped). In a
    /// raw log the device may have sent them: they stay and are reported, unless the file is `known` to be undamaged.
    pub fn trim_nuls(&mut self, known: bool) -> Result<(), CaptureError> {
        let Some(file) = &self.file else { return Ok(()) };
        let nuls = nuls_at_end(file, self.mark.size).map_err(|source| self.failed("examine", source))?;
        let path = self.directory.shown().join(&self.name);
        let path = path.display();
        if nuls == 0 || known && self.kind == LogType::Raw {
            return Ok(());
        }
        if self.kind == LogType::Raw {
            tracing::warn!(
                "the log {path} ends in {nuls} NUL bytes, from the device or a power failure: they are kept"
            );
            return Ok(());
        }
        if let Err(error) = self.cut_to(self.mark.size - nuls) {
            // An append-only file (chattr +a): the next record begins on its own line anyway.
            tracing::warn!("the {nuls} NUL bytes at the end of the log {path} cannot be removed: {error}");
            return Ok(());
        }
        self.mark = self.current_mark()?;
        tracing::warn!("{nuls} NUL bytes, left by a power failure, removed from the end of the log {path}");
        self.note(&format!("{nuls} NUL bytes removed here: left by a power failure"))
    }

    /// Whether the name now leads to another file, or to none: then a rotation has renamed this one, or it was removed, and
    /// its further records would not be found.
    pub fn displaced(&mut self) -> Option<Displaced> {
        if self.nameless {
            return None;
        }
        let file = self.file.as_ref()?;
        let [device, inode, _] = self.mark.file;
        let named = std::fs::symlink_metadata(self.directory.path().join(&self.name));
        if let Ok(found) = &named
            && (found.dev(), found.ino()) == (device, inode)
        {
            self.found =
                Some(Mark { file: identity(found), size: found.size(), left: self.encoder.left, check: 0 });
            return None;
        }
        // ESTALE, ENOTCONN: the open file is no longer reachable, even if its name is.
        let Ok(file) = file.metadata() else { return Some(Displaced::Renamed) };
        match named {
            Ok(found) if (found.dev(), found.ino()) == (file.dev(), file.ino()) => None,
            // The ports' access to the directory was revoked: it is requested again, which restores it.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(Displaced::Renamed),
            Err(error) if !is_absence(&error) => None,
            Ok(_) | Err(_) if file.nlink() == 0 => Some(Displaced::Removed),
            Ok(_) | Err(_) => Some(Displaced::Renamed),
        }
    }

    /// Writes the records of `pending`, the bytes that are not logged yet, and returns how many of them these hold:
    /// see [`Encoder::encode`]. On an error nothing has changed, on disk or here, and the same bytes can be passed
    /// again. If a long backlog fails in its middle, the bytes before that are returned, and the error by the next call.
    pub fn append(&mut self, pending: &[u8], times: Times, flush: bool) -> Result<usize, CaptureError> {
        let mut consumed = 0;
        let mut times = times;
        while consumed < pending.len() {
            match self.append_batch(&pending[consumed..], times, flush) {
                Ok(0) => break,
                Ok(length) => {
                    self.log_to_journal(&pending[consumed..consumed + length]);
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

    /// Writes a note with the present time: `# ttyUSB0 unplugged`. Flush what is pending first.
    pub fn note(&mut self, text: &str) -> Result<(), CaptureError> {
        self.begin_records();
        self.encoder.note(text, Timestamp::now(), &mut self.records);
        self.write_records(Step::default())
    }

    /// Notes that this many bytes of output are missing here.
    pub fn gap(&mut self, bytes: u64, why: &str) -> Result<(), CaptureError> {
        self.records.clear();
        self.encoder.note(&format!("{bytes} bytes lost here: {why}"), Timestamp::now(), &mut self.records);
        self.write_records(Step { taken: bytes, lost: bytes })
    }

    /// Writes input, as [`Self::note`].
    pub fn typed(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        self.begin_records();
        self.encoder.typed(bytes, Timestamp::now(), &mut self.records);
        self.write_records(Step::default())
    }

    /// The file is the record and the journal a convenience: it drops what comes too fast (journald.conf(5)).
    fn log_to_journal(&mut self, logged: &[u8]) {
        if let Some(lines) = &mut self.lines {
            lines.take(logged, |line| {
                let mut text = Vec::with_capacity(line.len());
                escape(line, &mut text);
                tracing::info!(console_line = 1, "{}", String::from_utf8_lossy(&text));
            });
        }
    }

    /// How much of the file is complete.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Opens a new file after a rotation has renamed the old one. What is pending for the old one must be written
    /// first, by `append` with `flush`. If this fails, the old file stays open.
    pub fn reopen(&mut self) -> Result<(), CaptureError> {
        if self.file.is_none() {
            return Ok(());
        }
        let fresh = open_file(&self.directory, &self.name)?;
        self.undo_torn()?;
        self.sync()?;
        self.switch_to(fresh)
    }

    /// As [`Self::reopen`], for a file that is no longer reachable: if its end cannot be written to the disk, that is reported and the
    /// log continues in the new file anyway. Returns whether all of it is on the disk.
    pub fn replace(&mut self) -> Result<bool, CaptureError> {
        let fresh = open_file(&self.directory, &self.name)?;
        let kept = self.undo_torn().and_then(|()| self.sync());
        if let Err(error) = &kept {
            tracing::error!("the end of the previous log may be missing: {error}");
            self.torn = None;
        }
        self.switch_to(fresh)?;
        // A file system without stable inodes: its names prove nothing. SIGUSR1 still begins a new file.
        self.nameless = self.displaced().is_some();
        Ok(kept.is_ok())
    }

    fn switch_to(&mut self, fresh: File) -> Result<(), CaptureError> {
        self.file = Some(fresh);
        self.found = None;
        self.mark = self.current_mark()?;
        self.unread = true;
        self.write_ahead.commit(self.mark, Step::default());
        self.write_ahead.synced(self.mark);
        Ok(())
    }

    /// Waits until everything is on the disk (`fdatasync(2)`).
    pub fn sync(&mut self) -> Result<(), CaptureError> {
        let Some(file) = &self.file else { return Ok(()) };
        match file.sync_data() {
            Err(source) if !has_no_sync(&source) => Err(self.failed("sync", source)),
            _ => {
                self.write_ahead.synced(self.mark);
                Ok(())
            }
        }
    }

    /// Truncates the file to what was synced last. After a failed sync, Linux marks the pages as written
    /// and may drop them: the next sync would succeed without them (`man 2 fsync`).
    pub fn roll_back(&mut self, synced: Mark) -> Result<(), CaptureError> {
        self.cut_to(synced.size)?;
        self.encoder.left = synced.left;
        self.mark = synced;
        self.write_ahead.commit(self.mark, Step::default());
        Ok(())
    }

    fn begin_records(&mut self) {
        self.records.clear();
        if let Some(zone) = self.zone.changed() {
            self.encoder.set_zone(zone);
        }
    }

    fn append_batch(&mut self, pending: &[u8], times: Times, flush: bool) -> Result<usize, CaptureError> {
        let left = self.encoder.left;
        self.begin_records();
        let consumed = self.encoder.encode(pending, times, flush, &mut self.records);
        if let Err(error) = self.write_records(Step { taken: consumed as u64, lost: 0 }) {
            self.encoder.left = left;
            return Err(error);
        }
        Ok(consumed)
    }

    fn write_records(&mut self, step: Step) -> Result<(), CaptureError> {
        self.undo_torn()?;
        if self.file.is_none() || self.records.is_empty() {
            self.mark.left = self.encoder.left;
            self.write_ahead.commit(self.mark, step);
            return Ok(());
        }
        // The size is queried each time, because an administrator may truncate the file.
        let found = match self.found.take() {
            Some(found) => found,
            None => self.current_mark()?,
        };
        let before = Mark { left: self.mark.left, ..found };
        if (self.unread || before.size != self.mark.size) && self.ends_within_a_line(before.size)? {
            self.records.insert(0, b'\n');
        }
        let after = Mark {
            size: before.size + self.records.len() as u64,
            left: self.encoder.left,
            check: check(&self.records),
            ..before
        };
        self.write_ahead.begin(before, after, step);
        if let Some(Err(source)) = self.file.as_ref().map(|mut file| file.write_all(&self.records)) {
            self.torn = Some(before.size);
            self.write_ahead.begin(before, Mark { size: Mark::TORN, ..after }, Step::default());
            let error = self.failed("write", source);
            // If this fails too, `torn` remembers it, and the next append begins with it.
            let _ = self.undo_torn();
            return Err(error);
        }
        failpoint::point("log-written");
        self.mark = after;
        self.unread = false;
        self.write_ahead.commit(after, step);
        failpoint::point("log-marked");
        Ok(())
    }

    /// Whether a record would continue half of another one, as a power failure leaves it. A raw log has no records.
    fn ends_within_a_line(&self, size: u64) -> Result<bool, CaptureError> {
        let Some(file) = self.file.as_ref().filter(|_| self.kind != LogType::Raw) else { return Ok(false) };
        ends_within_a_line(file, size).map_err(|source| self.failed("examine", source))
    }

    fn undo_torn(&mut self) -> Result<(), CaptureError> {
        if let Some(size) = self.torn {
            self.found = None;
            let found = self.current_mark()?;
            if size < found.size {
                self.cut_to(size)?;
            }
            self.torn = None;
            self.mark = Mark { file: found.file, size: size.min(found.size), ..self.mark };
            self.write_ahead.commit(self.mark, Step::default());
        }
        Ok(())
    }

    fn cut_to(&self, size: u64) -> Result<(), CaptureError> {
        let Some(file) = &self.file else { return Ok(()) };
        file.set_len(size).map_err(|source| self.failed("truncate", source))
    }

    fn current_mark(&self) -> Result<Mark, CaptureError> {
        let left = self.encoder.left;
        let Some(file) = &self.file else { return Ok(Mark { left, ..Mark::default() }) };
        let found = file.metadata().map_err(|source| self.failed("examine", source))?;
        Ok(Mark { file: identity(&found), size: found.size(), left, check: 0 })
    }

    fn failed(&self, what: &'static str, source: io::Error) -> CaptureError {
        CaptureError::Io { what, path: self.directory.shown().join(&self.name), source }
    }
}

/// A file system without sync has lost nothing.
fn has_no_sync(error: &io::Error) -> bool {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    matches!(errno, Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP)
}

/// What became of the name of an open log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Displaced {
    /// The file has another name.
    Renamed,
    /// The file has no name.
    Removed,
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Opens a file of the log directory, or creates it. No link is followed. The opened file may be of any type.
pub(super) fn open_to_append(path: &Path) -> io::Result<File> {
    // O_NONBLOCK: a FIFO in place of the log must not block the open.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    OpenOptions::new().read(true).append(true).create(true).mode(0o640).custom_flags(flags.bits()).open(path)
}

fn open_file(directory: &LogDirectory, name: &Path) -> Result<File, CaptureError> {
    let opened = open_to_append(&directory.path().join(name));
    let path = directory.shown().join(name);
    let file = opened.map_err(|source| match Errno::from_raw(source.raw_os_error().unwrap_or(0)) {
        Errno::ENOENT | Errno::ENOTDIR => CaptureError::NoDirectory(directory.shown().to_owned()),
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
