//! The scrollback ring: the last output of the device, under absolute byte offsets, in a memfd.
//!
//! Bytes come from the tty through the ring's pipe ([`Ring::intake`]) and become visible by [`Ring::take_in`]. Readers
//! hold an offset and pull. Head, log position and counters are in the memfd's first page, so that a
//! process that finds memfd and pipe in systemd's FD store resumes where a killed one stopped. A kill at any instruction loses or duplicates
//! no byte: the header records the offset of the last byte in the pipe, and what is no longer in the pipe is in the
//! ring ([`Ring::adopt`]). Untouched pages cost no memory.
#![allow(unsafe_code)]

mod intake;
mod log;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;
use thiserror::Error;

use intake::Intake;
use log::LogCells;
pub use log::{LogMark, LogRecord};

use crate::system::failpoint;

/// Bytes of the header page in front of the data.
const HEADER_BYTES: usize = 4096;
/// "console1" and the layout's version: another layout is not adopted.
const MAGIC: u64 = 0x636f_6e73_6f6c_0002;
/// The most that one read moves into the pipe, and so the part of the ring that a killed process may have left half written:
/// the N_TTY buffer (`N_TTY_BUF_SIZE`), which is all that one read of a tty returns.
pub const READ_MAX: usize = 4096;
const READ_MAX_64: u64 = READ_MAX as u64;

/// The largest scrollback that can be configured; a stored one that is larger was not made by this program.
const CAPACITY_MAX: usize = 16 * 1024 * 1024;

/// No ring reaches such an offset.
const OFFSET_MAX: u64 = u64::MAX / 2;

/// The names in the FD store of a ring and of its resized successor: both are stored for a moment.
pub const STORED_AS: [&str; 2] = ["ring", "ring-resized"];
pub const INTAKE_STORED_AS: &str = "intake";

#[derive(Debug, Error)]
pub enum RingError {
    #[error("no memory for a scrollback of {0} bytes: {1}")]
    Memory(usize, io::Error),
    #[error("no pipe for the output of the device: {0}")]
    Intake(io::Error),
    /// A kill would lose what only the new ring has.
    #[error("the scrollback keeps its size: systemd did not store the resized one")]
    NotStored,
    /// A stored memfd has another layout, or was made by another program.
    #[error("the stored scrollback cannot be used: {0}")]
    Foreign(&'static str),
}

/// The first page. Every field is written by one store, so a kill leaves the old value or the new one.
#[repr(C)]
struct Header {
    magic: AtomicU64,
    capacity: AtomicU64,
    head: AtomicU64,
    /// The offset after the last byte in the pipe, written before any of them is taken.
    intake_end: AtomicU64,
    sent: AtomicU64,
    log: LogCells,
    /// Output before this offset is not in the ring, however much room there is: the ring had another size then.
    floor: AtomicU64,
    /// How often it was resized: of two stored rings the later one is adopted.
    generation: AtomicU64,
}

/// The ring. One thread writes and reads it; other processes see it only through the FD store.
#[derive(Debug)]
pub struct Ring {
    map: MmapRaw,
    memfd: OwnedFd,
    intake: Intake,
    /// Bytes in the pipe.
    waiting: usize,
    capacity: usize,
}

impl Ring {
    /// A new, empty ring of `capacity` bytes, which must be a multiple of the page size.
    pub fn create(capacity: usize) -> Result<Self, RingError> {
        Self::with_intake(capacity, Intake::create()?)
    }

    fn with_intake(capacity: usize, intake: Intake) -> Result<Self, RingError> {
        let memory = |error: Errno| RingError::Memory(capacity, error.into());
        let memfd = memfd_create("console-ring", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
            .map_err(memory)?;
        ftruncate(&memfd, (HEADER_BYTES + capacity) as i64).map_err(memory)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&memfd, FcntlArg::F_ADD_SEALS(seals)).map_err(memory)?;
        let ring = Self::map(memfd, capacity, intake)?;
        let header = ring.header();
        header.capacity.store(capacity as u64, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        Ok(ring)
    }

    /// The ring that an earlier process of this port left in the FD store, with its pipe. A process that was killed within a
    /// resize has left two complete ones, of which the later one is adopted.
    pub fn adopt(memfds: Vec<OwnedFd>, intake: Option<OwnedFd>) -> Result<Self, RingError> {
        let (intake, adopted) = match intake.map(Intake::adopt) {
            Some(Ok(intake)) => (intake, true),
            Some(Err(_)) | None => (Intake::create()?, false),
        };
        let mut latest: Result<Self, RingError> = Err(RingError::Foreign("none was stored"));
        for memfd in memfds {
            match (Self::find(memfd, intake.try_clone()?), &latest) {
                (Ok(ring), Ok(other)) if ring.generation() < other.generation() => {}
                (Ok(ring), _) => latest = Ok(ring),
                (Err(_), Ok(_)) => {}
                (Err(error), Err(_)) => latest = Err(error),
            }
        }
        let mut ring = latest?;
        if adopted {
            ring.finish_read().map_err(RingError::Intake)?;
            let waiting = ring.intake.waiting().map_err(RingError::Intake)?;
            ring.take_in(waiting).map_err(RingError::Intake)?;
        }
        Ok(ring)
    }

    fn find(memfd: OwnedFd, intake: Intake) -> Result<Self, RingError> {
        let seals = fcntl(&memfd, FcntlArg::F_GET_SEALS).map_err(|_| RingError::Foreign("not a memfd"))?;
        if !SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK) {
            return Err(RingError::Foreign("its size is not sealed"));
        }
        let size = fstat(&memfd).map_err(|_| RingError::Foreign("it cannot be examined"))?.st_size;
        let capacity = usize::try_from(size).unwrap_or_default().saturating_sub(HEADER_BYTES);
        if !(2 * READ_MAX..=CAPACITY_MAX).contains(&capacity) {
            return Err(RingError::Foreign("its size is out of range"));
        }
        let ring = Self::map(memfd, capacity, intake)?;
        let header = ring.header();
        if header.magic.load(Ordering::Acquire) != MAGIC
            || header.capacity.load(Ordering::Relaxed) != capacity as u64
        {
            return Err(RingError::Foreign("its layout is of another version"));
        }
        if !ring.is_possible() {
            return Err(RingError::Foreign("its offsets contradict each other"));
        }
        Ok(ring)
    }

    /// Whether this program could have written such a header. Reads never exceed the mapping, for any content; but offsets that
    /// are out of order would fail later, and again in each process that adopts them.
    fn is_possible(&self) -> bool {
        let head = self.head();
        let floor = self.header().floor.load(Ordering::Relaxed);
        let LogRecord { mark, next, synced } = self.log_record();
        let logged = next.map_or(mark.position, |next| next.position);
        // The bytes of a log batch were published in the ring before.
        floor <= head
            && synced.position <= mark.position
            && mark.position <= logged
            && logged <= head
            && head <= OFFSET_MAX
    }

    /// A ring of another capacity that continues this one, with as much of the last output as it has room for.
    pub fn resized(&self, capacity: usize) -> Result<Self, RingError> {
        let mut other = Self::with_intake(capacity, self.intake.try_clone()?)?;
        let head = self.head();
        let mut at = self.tail().max(head.saturating_sub(other.window() as u64));
        let header = other.header();
        header.generation.store(self.generation().wrapping_add(1), Ordering::Relaxed);
        header.floor.store(at, Ordering::Relaxed);
        header.head.store(at, Ordering::Relaxed);
        header.sent.store(self.sent(), Ordering::Relaxed);
        header.intake_end.store(self.header().intake_end.load(Ordering::Relaxed), Ordering::Relaxed);
        while at < head {
            let piece = self.read(at);
            let space = space(&mut other.map, capacity, at, piece.len());
            let count = space.len();
            space.copy_from_slice(&piece[..count]);
            at += count as u64;
            other.header().head.store(at, Ordering::Relaxed);
        }
        other.set_log_record(self.log_record());
        other.waiting = self.waiting;
        Ok(other)
    }

    fn generation(&self) -> u64 {
        self.header().generation.load(Ordering::Relaxed)
    }

    /// The names in the FD store of this ring, and of the one before or after it.
    pub fn stored_as(&self) -> (&'static str, &'static str) {
        let [even, odd] = STORED_AS;
        if self.generation().is_multiple_of(2) { (even, odd) } else { (odd, even) }
    }

    /// Bytes of its data.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Publishes bytes that a killed process had taken from the pipe and not published.
    fn finish_read(&self) -> io::Result<()> {
        let header = self.header();
        let waiting = self.intake.waiting()? as u64;
        let taken_to = header.intake_end.load(Ordering::Acquire).saturating_sub(waiting);
        // Bytes that were spliced after the end was recorded make it too small.
        if let Some(1..=READ_MAX_64) = taken_to.checked_sub(self.head()) {
            header.head.store(taken_to, Ordering::Release);
        }
        Ok(())
    }

    fn map(memfd: OwnedFd, capacity: usize, intake: Intake) -> Result<Self, RingError> {
        let map = MmapOptions::new()
            .len(HEADER_BYTES + capacity)
            .map_raw(&memfd)
            .map_err(|error| RingError::Memory(capacity, error))?;
        Ok(Self { map, memfd, intake, waiting: 0, capacity })
    }

    fn header(&self) -> &Header {
        // SAFETY: the mapping is page-aligned, at least HEADER long, sealed against shrinking and lives as long as
        // self; Header is made of atomics, for which any bytes are valid.
        unsafe { &*self.map.as_ptr().cast::<Header>() }
    }

    /// Bytes published in total: the offset of the next one.
    pub fn head(&self) -> u64 {
        self.header().head.load(Ordering::Acquire)
    }

    /// The oldest offset that can be read.
    pub fn tail(&self) -> u64 {
        let floor = self.header().floor.load(Ordering::Relaxed);
        self.head().saturating_sub(self.window() as u64).max(floor)
    }

    /// How many bytes can be read at most: the capacity without the part that a read may be writing into.
    pub fn window(&self) -> usize {
        self.capacity - READ_MAX
    }

    /// The pipe into which the tty is spliced, at most [`READ_MAX`] bytes at a time. [`Ring::take_in`] follows.
    pub fn intake(&self) -> BorrowedFd<'_> {
        self.intake.as_fd()
    }

    /// Moves the bytes that were spliced into the pipe into the ring. Only this process writes to the pipe, so their number needs no
    /// system call.
    pub fn take_in(&mut self, spliced: usize) -> io::Result<()> {
        self.waiting += spliced;
        while self.waiting > 0 {
            let head = self.head();
            self.header().intake_end.store(head + self.waiting as u64, Ordering::Release);
            match self.intake.read(space(&mut self.map, self.capacity, head, self.waiting)) {
                Ok(count) => {
                    failpoint::point("read");
                    self.header().head.store(head + count as u64, Ordering::Release);
                    self.waiting -= count;
                }
                Err(error) => {
                    self.waiting = self.intake.waiting()?;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The bytes from `from` on, as far as they are contiguous; empty at the head. `from` before the tail reads
    /// from the tail: see [`Ring::tail`] for how much that skips.
    pub fn read(&self, from: u64) -> &[u8] {
        let head = self.head();
        let from = from.clamp(self.tail(), head);
        let start = (from % self.capacity as u64) as usize;
        let length = ((head - from) as usize).min(self.capacity - start);
        // SAFETY: within the mapping, as in space(); &self excludes a concurrent space() in this process.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(HEADER_BYTES + start), length) }
    }

    /// Appends the bytes from `from` (or from the tail, if that is later) up to `until` (or to the head).
    pub fn copy_range(&self, from: u64, until: u64, into: &mut Vec<u8>) {
        let mut at = from.max(self.tail());
        let until = until.min(self.head());
        while at < until {
            let piece = self.read(at);
            let length = piece.len().min((until - at) as usize);
            into.extend_from_slice(&piece[..length]);
            at += length as u64;
        }
    }

    /// The offset from which the last `lines` lines begin, an unfinished one included.
    pub fn last_lines(&self, lines: usize) -> u64 {
        let (tail, head) = (self.tail(), self.head());
        if lines == 0 {
            return head;
        }
        let mut newlines = 0;
        let mut end = head;
        while end > tail {
            let piece_start = tail.max(end - end.min((end - 1) % self.capacity as u64 + 1));
            let piece = &self.read(piece_start)[..(end - piece_start) as usize];
            for (index, byte) in piece.iter().enumerate().rev() {
                let offset = piece_start + index as u64;
                if *byte == b'\n' && offset + 1 != head {
                    newlines += 1;
                    if newlines == lines {
                        return offset + 1;
                    }
                }
            }
            end = piece_start;
        }
        tail
    }

    /// Bytes written to the device in total.
    pub fn sent(&self) -> u64 {
        self.header().sent.load(Ordering::Relaxed)
    }

    /// Counts bytes that the driver has accepted.
    pub fn count_sent(&mut self, count: usize) {
        self.header().sent.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Position of the log, and of the write in progress.
    pub fn log_record(&self) -> LogRecord {
        self.header().log.load()
    }

    pub fn set_log_record(&mut self, record: LogRecord) {
        self.header().log.store(record);
    }
}

/// Where the next `count` bytes go, of which the first has the offset `head`: contiguous, at most `count` and [`READ_MAX`], never empty.
fn space(map: &mut MmapRaw, capacity: usize, head: u64, count: usize) -> &mut [u8] {
    let start = (head % capacity as u64) as usize;
    let length = count.clamp(1, READ_MAX).min(capacity - start);
    // SAFETY: HEADER + start + length lies within the mapping (sealed, so it cannot shrink); &mut excludes every other slice of it
    // in this process, and no other process writes.
    unsafe { std::slice::from_raw_parts_mut(map.as_mut_ptr().add(HEADER_BYTES + start), length) }
}

impl AsFd for Ring {
    /// For the FD store.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }
}
