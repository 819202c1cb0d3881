//! What a log records about each of its writes, so that the next process knows how much of the last one is in the file.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use super::encode::Left;
use crate::hub::Hub;
use crate::ring::{LogMark, LogRecord};

/// How much of a log file is complete: plain numbers, because they outlive the process in the ring's shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Device, inode and birth time of the file. Zeros: none.
    pub file: [u64; 3],
    /// Bytes of the file up to the end of the last complete append.
    pub size: u64,
    /// The state of the last line: whether the record ended it.
    pub left: Left,
    /// Checksum of a write, by [`check`].
    pub check: u64,
}

impl Mark {
    /// The size of a write that is incomplete and must be undone.
    pub(super) const TORN: u64 = u64::MAX;
}

impl From<Mark> for [u64; 6] {
    fn from(mark: Mark) -> Self {
        let left = match mark.left {
            Left::Ended => 0,
            Left::Unfinished => 1,
            Left::AtCr => 2,
        };
        let [device, inode, born] = mark.file;
        [device, inode, born, mark.size, left, mark.check]
    }
}

impl From<[u64; 6]> for Mark {
    fn from([device, inode, born, size, left, check]: [u64; 6]) -> Self {
        let left = match left {
            0 => Left::Ended,
            2 => Left::AtCr,
            _ => Left::Unfinished,
        };
        Self { file: [device, inode, born], size, left, check }
    }
}

pub(super) fn check(records: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(records);
    hasher.finish()
}

/// Effect of a write on the position of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Step {
    /// Bytes of output that are done with.
    pub taken: u64,
    /// How many of these are missing in the log.
    pub lost: u64,
}

/// The ring's header, in which the state of a log is recorded and which the next process resumes from. The default is for a log that no other
/// process resumes.
#[derive(Debug, Default)]
pub(super) struct WriteAhead(pub(super) Option<Arc<Hub>>);

impl WriteAhead {
    /// A write from `before` to `after` begins.
    pub(super) fn begin(&self, before: Mark, after: Mark, step: Step) {
        self.record(|record| {
            let mark = LogMark { file: before.into(), ..record.mark };
            record.mark = mark;
            record.next = Some(LogMark { file: after.into(), ..onward(mark, step) });
        });
    }

    /// No write is in progress: the file is complete up to here.
    pub(super) fn commit(&self, now: Mark, step: Step) {
        self.record(|record| {
            record.mark = LogMark { file: now.into(), ..onward(record.mark, step) };
            record.next = None;
        });
    }

    /// The file is on the disk up to here.
    pub(super) fn synced(&self, now: Mark) {
        self.record(|record| record.synced = LogMark { file: now.into(), ..record.mark });
    }

    fn record(&self, change: impl FnOnce(&mut LogRecord)) {
        if let Some(hub) = &self.0 {
            hub.record_log(change);
        }
    }
}

fn onward(mark: LogMark, Step { taken, lost }: Step) -> LogMark {
    LogMark { position: mark.position + taken, lost: mark.lost + lost, ..mark }
}
