//! The record of the log writer in the ring's header, from which the next process knows how much of the last write is in the file.

use std::sync::atomic::{AtomicU64, Ordering};

/// Position of the capture log: everything before `position` is in the file that `file` describes. `file` is opaque here (see
/// `capture`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogMark {
    /// Ring offset up to which bytes are logged.
    pub position: u64,
    /// Bytes that are missing in the log, in total.
    pub lost: u64,
    /// State of the log writer.
    pub file: [u64; 6],
}

/// Everything that the log writer records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogRecord {
    pub mark: LogMark,
    /// Position after the write that has begun and whose end is not recorded.
    pub next: Option<LogMark>,
    /// Position at the last sync.
    pub synced: LogMark,
}

impl LogMark {
    const WORDS: usize = 8;

    fn words(self) -> [u64; Self::WORDS] {
        let [a, b, c, d, e, f] = self.file;
        [self.position, self.lost, a, b, c, d, e, f]
    }

    fn from_words([position, lost, file @ ..]: [u64; Self::WORDS]) -> Self {
        Self { position, lost, file }
    }
}

/// A record in shared memory. It is written into the unused slot, which is then activated by one store: a kill leaves the old record or the
/// new one.
#[repr(C)]
#[derive(Debug)]
pub(super) struct LogCells {
    version: AtomicU64,
    slots: [Slot; 2],
}

#[repr(C)]
#[derive(Debug)]
struct Slot {
    writes: AtomicU64,
    marks: [[AtomicU64; LogMark::WORDS]; 3],
}

impl LogCells {
    pub(super) fn load(&self) -> LogRecord {
        let slot = &self.slots[self.version.load(Ordering::Acquire) as usize & 1];
        let [mark, next, synced] = [0, 1, 2].map(|which: usize| {
            LogMark::from_words(std::array::from_fn(|word| slot.marks[which][word].load(Ordering::Relaxed)))
        });
        let next = (slot.writes.load(Ordering::Relaxed) != 0).then_some(next);
        LogRecord { mark, next, synced }
    }

    pub(super) fn store(&self, LogRecord { mark, next, synced }: LogRecord) {
        let version = self.version.load(Ordering::Relaxed).wrapping_add(1);
        let slot = &self.slots[version as usize & 1];
        slot.writes.store(next.is_some().into(), Ordering::Relaxed);
        for (cells, mark) in slot.marks.iter().zip([mark, next.unwrap_or_default(), synced]) {
            for (cell, word) in cells.iter().zip(mark.words()) {
                cell.store(word, Ordering::Relaxed);
            }
        }
        self.version.store(version, Ordering::Release);
    }
}
