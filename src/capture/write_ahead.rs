//! What a log records about each of its writes, so that the next process knows how much of the last one is in the file.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use super::encode::Left;

/// How much of a log file is complete: plain numbers, because they outlive the process in the ring's shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Device, inode and birth time of the file. Zeros: none.
    pub file: [u64; 3],
    /// Bytes of the file up to the end of the last complete append.
    pub size: u64,
    /// How the last record left its line.
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

/// Where the state of a log is recorded.
pub trait WriteAhead: fmt::Debug + Send {
    /// A write from `before` to `after` begins.
    fn begin(&self, before: Mark, after: Mark, step: Step);
    /// No write is in progress: the file is complete up to here.
    fn commit(&self, now: Mark, step: Step);
    /// The file is on the disk up to here.
    fn synced(&self, now: Mark);
}

/// For a log that no other process resumes.
#[derive(Debug)]
pub(super) struct Unrecorded;

impl WriteAhead for Unrecorded {
    fn begin(&self, _before: Mark, _after: Mark, _step: Step) {}
    fn commit(&self, _now: Mark, _step: Step) {}
    fn synced(&self, _now: Mark) {}
}
