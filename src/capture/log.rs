//! The file. Blocking: it runs inside `spawn_blocking`, since an SD card can stall for seconds. Every append is all
//! or nothing, also through a full disk. Each is announced in a [`WriteAhead`] and then settled there, so that after a crash the next
//! process knows what of the last one is in the file, under whatever name that has by then.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use thiserror::Error;

use super::encode::{Encoder, Times};
use super::lines::Lines;
use super::recovery::{Recovered, ends_within_a_line, identity, nuls_at_end, recover, renamed};
use super::text::escape;
use super::write_ahead::{Mark, Step, Unrecorded, WriteAhead, check};
use crate::config::{Log, LogType};
use crate::logdir::{LogDirectory, NoLogDirectory};
use crate::system::clock::SystemZone;
use crate::system::failpoint;

/// What went wrong with the log file. Its Display is the sentence that the administrator reads.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The directory is not there.
    #[error("the log directory {0} does not exist")]
    NoDirectory(PathBuf),
    /// There is no directory to look into.
    #[error(transparent)]
    Nowhere(#[from] NoLogDirectory),
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

impl CaptureError {
    /// Whether all that is missing is room (`man 2 write`: ENOSPC, EDQUOT).
    pub fn is_disk_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        matches!(self, Self::Io { source, .. } if full.contains(&source.kind()))
    }
}

/// A port's log file, open for appending.
#[derive(Debug)]
pub struct CaptureLog {
    directory: LogDirectory,
    /// Its name in the directory.
    name: PathBuf,
    kind: LogType,
    zone: SystemZone,
    encoder: Encoder,
    write_ahead: Box<dyn WriteAhead>,
    /// `None` for [`LogType::None`].
    file: Option<File>,
    mark: Mark,
    /// A failed append that could not be taken back yet: the size to go back to.
    torn: Option<u64>,
    /// Whether nobody has looked yet how the file ends.
    unread: bool,
    /// Whether what its name leads to never is the file that is open.
    nameless: bool,
    records: Vec<u8>,
    /// For the journal; `None` if it gets none.
    lines: Option<Lines>,
}

impl CaptureLog {
    /// Opens, or creates with mode 0640, the log in its directory. Nothing but a regular file will do.
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
            write_ahead: Box::new(Unrecorded),
            file,
            mark: Mark::default(),
            torn: None,
            unread: true,
            nameless: false,
            records: Vec::new(),
            lines,
        };
        opened.mark = opened.look()?;
        Ok(opened)
    }

    /// Goes on where a log was left off, by another process or by this one: `next` is where its last write led to, if it is not known
    /// that it ended. What of it stands in the file stays if it is whole, and is taken back if it is not. What others have
    /// appended stays.
    pub fn resume(&mut self, mark: Mark, next: Option<Mark>) -> Result<Recovered, CaptureError> {
        let found = match next {
            Some(next) => self.find(mark, next)?,
            None => Recovered::Nothing,
        };
        let whole = next.filter(|_| found == Recovered::Whole);
        self.encoder.left = whole.unwrap_or(mark).left;
        self.mark = self.look()?;
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

    /// From now on each write is written down there.
    pub fn keep(&mut self, write_ahead: impl WriteAhead + 'static) {
        self.write_ahead = Box::new(write_ahead);
    }

    /// Removes the NULs that a power cut leaves at the end of a file, and says so in it. Text has none of its own (they are escaped). In a
    /// raw log they may be the device's: they stay, and the journal says it, unless the file is `known` not to have been through that.
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
                "the log {path} ends in {nuls} NUL bytes: the device's, or a power cut's; they stay"
            );
            return Ok(());
        }
        if let Err(error) = self.cut_to(self.mark.size - nuls) {
            // A file that may only be appended to (chattr +a): the next record stands on its own line all the same.
            tracing::warn!("the {nuls} NUL bytes at the end of the log {path} stay there: {error}");
            return Ok(());
        }
        self.mark = self.look()?;
        tracing::warn!("{nuls} NUL bytes removed from the end of the log {path}: a power cut leaves them");
        self.note(&format!("{nuls} NUL bytes removed here: what a power cut had left of the last records"))
    }

    /// Whether the name leads to another file by now, or to none: then a rotation has renamed this one, or it was removed, and
    /// nobody would look for further records in it.
    pub fn displaced(&self) -> Option<Displaced> {
        if self.nameless {
            return None;
        }
        // ESTALE, ENOTCONN: it cannot be reached any more, whatever has its name.
        let Ok(file) = self.file.as_ref()?.metadata() else { return Some(Displaced::Renamed) };
        match std::fs::symlink_metadata(self.directory.path().join(&self.name)) {
            Ok(found) if (found.dev(), found.ino()) == (file.dev(), file.ino()) => None,
            Err(error) if !is_absence(&error) => None,
            Ok(_) | Err(_) if file.nlink() == 0 => Some(Displaced::Removed),
            Ok(_) | Err(_) => Some(Displaced::Renamed),
        }
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
        self.begin_records();
        self.encoder.note(text, Timestamp::now(), &mut self.records);
        self.write_records(Step::default())
    }

    /// Notes that so many bytes of the device's are left out here.
    pub fn gap(&mut self, bytes: u64, why: &str) -> Result<(), CaptureError> {
        self.records.clear();
        self.encoder.note(&format!("{bytes} bytes lost here: {why}"), Timestamp::now(), &mut self.records);
        self.write_records(Step { taken: bytes, lost: bytes })
    }

    /// Writes what somebody has typed, as [`Self::note`].
    pub fn typed(&mut self, bytes: &[u8]) -> Result<(), CaptureError> {
        self.begin_records();
        self.encoder.typed(bytes, Timestamp::now(), &mut self.records);
        self.write_records(Step::default())
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

    /// How far the file is right.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Opens the file anew after the old one was renamed away by a rotation. What is pending for the old one goes there
    /// first, by `append` with `flush`. If this fails, the old file stays open.
    pub fn reopen(&mut self) -> Result<(), CaptureError> {
        if self.file.is_none() {
            return Ok(());
        }
        let fresh = open_file(&self.directory, &self.name)?;
        self.mend()?;
        self.sync()?;
        self.go_over(fresh)
    }

    /// As [`Self::reopen`], for a file that is out of reach already: if its end cannot be written to the disk, that is reported and the
    /// log goes on in the new file all the same. Returns whether all of it is on the disk.
    pub fn replace(&mut self) -> Result<bool, CaptureError> {
        let fresh = open_file(&self.directory, &self.name)?;
        let kept = self.mend().and_then(|()| self.sync());
        if let Err(error) = &kept {
            tracing::error!("the end of the log before may be missing: {error}");
            self.torn = None;
        }
        self.go_over(fresh)?;
        // A file system without stable inodes: its names tell nothing. SIGUSR1 still begins a new file.
        self.nameless = self.displaced().is_some();
        Ok(kept.is_ok())
    }

    fn go_over(&mut self, fresh: File) -> Result<(), CaptureError> {
        self.file = Some(fresh);
        self.mark = self.look()?;
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

    /// Cuts off what was written after it had been synced last, up to there. What a failed sync was about, Linux counts as written
    /// and drops: the next sync would succeed without it (`man 2 fsync`).
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
        self.mend()?;
        if self.file.is_none() || self.records.is_empty() {
            self.mark.left = self.encoder.left;
            self.write_ahead.commit(self.mark, step);
            return Ok(());
        }
        // The size is asked for each time, because an administrator may truncate the file under us.
        let before = Mark { left: self.mark.left, ..self.look()? };
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
            // If even this fails, `torn` remembers it, and the next append begins with it.
            let _ = self.mend();
            return Err(error);
        }
        failpoint::point("log-written");
        self.mark = after;
        self.unread = false;
        self.write_ahead.commit(after, step);
        failpoint::point("log-marked");
        Ok(())
    }

    /// Whether a record would be glued to half of another one, as a power cut leaves it. A raw log has no records.
    fn ends_within_a_line(&self, size: u64) -> Result<bool, CaptureError> {
        let Some(file) = self.file.as_ref().filter(|_| self.kind != LogType::Raw) else { return Ok(false) };
        ends_within_a_line(file, size).map_err(|source| self.failed("examine", source))
    }

    /// Takes back what a failed append left behind.
    fn mend(&mut self) -> Result<(), CaptureError> {
        if let Some(size) = self.torn {
            let found = self.look()?;
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

    /// The file as it is now.
    fn look(&self) -> Result<Mark, CaptureError> {
        let left = self.encoder.left;
        let Some(file) = &self.file else { return Ok(Mark { left, ..Mark::default() }) };
        let found = file.metadata().map_err(|source| self.failed("examine", source))?;
        Ok(Mark { file: identity(&found), size: found.size(), left, check: 0 })
    }

    fn failed(&self, what: &'static str, source: io::Error) -> CaptureError {
        CaptureError::Io { what, path: self.directory.shown().join(&self.name), source }
    }
}

/// A file system that knows no sync is none that has lost something.
fn has_no_sync(error: &io::Error) -> bool {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    matches!(errno, Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP)
}

/// What has become of the name of an open log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Displaced {
    /// The file has another name now.
    Renamed,
    /// The file has no name any more.
    Removed,
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn open_file(directory: &LogDirectory, name: &Path) -> Result<File, CaptureError> {
    // O_NONBLOCK: a FIFO put in the log's place must not hang us before we have seen what it is.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(flags.bits())
        .open(directory.path().join(name));
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
