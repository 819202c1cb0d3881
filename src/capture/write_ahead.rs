//! What a log writes down about each of its writes, so that the next process knows what of the last one is in the file.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};

use super::encode::Left;

/// How far a log file is right: plain numbers, because they outlive the process in the ring's shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// Device, inode and time of birth: which file this is about. Zeros: none.
    pub file: [u64; 3],
    /// Bytes of the file up to the end of the last whole append.
    pub size: u64,
    /// How the last record left its line.
    pub left: Left,
    /// Of a write: what is written, as [`check`] sums it up.
    pub check: u64,
}

impl Mark {
    /// The size of a write of which only a part has arrived, and which is to be taken back.
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

/// Sums up what a write carries.
pub(super) fn check(records: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(records);
    hasher.finish()
}

/// What becomes of the device's bytes by a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Step {
    /// So many are done with.
    pub taken: u64,
    /// So many of these are left out.
    pub lost: u64,
}

/// Where it is written down.
pub trait WriteAhead: fmt::Debug + Send {
    /// A write begins that leads from `before` to `after`.
    fn begin(&self, before: Mark, after: Mark, step: Step);
    /// No write is under way: the file is right up to here.
    fn commit(&self, now: Mark, step: Step);
    /// Up to here it is on the disk.
    fn synced(&self, now: Mark);
}

/// Of a log that no other process will go on with.
#[derive(Debug)]
pub(super) struct Unrecorded;

impl WriteAhead for Unrecorded {
    fn begin(&self, _before: Mark, _after: Mark, _step: Step) {}
    fn commit(&self, _now: Mark, _step: Step) {}
    fn synced(&self, _now: Mark) {}
}
