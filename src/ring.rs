//! The scrollback ring: what the device said last, under absolute byte offsets, in a memfd.
//!
//! Bytes are read from the tty straight into [`Ring::space`] and become visible by [`Ring::publish`]. Everybody else
//! holds an offset and pulls. Head, log position and counters stand in the memfd's first page, so that a
//! process that finds the memfd in systemd's FD store goes on where a killed one stopped. Even between the kernel's read
//! and the new head nothing is lost: [`Ring::space`] records how much is about to be read and fills that place with bytes
//! that consoles do not say, so that [`Ring::adopt`] sees whether the read has happened. Untouched pages cost
//! no memory.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;
use thiserror::Error;

/// Bytes of the header page in front of the data.
const HEADER: usize = 4096;
/// "console1" and the layout's version: another layout is not adopted.
const MAGIC: u64 = 0x636f_6e73_6f6c_0001;
/// What stands where a read is about to write: a byte that UTF-8 never has and terminals have no use for. What is lost of a
/// killed read is at most such bytes at its very end.
const UNREAD: u8 = 0xfe;
/// The most that one read puts into the ring, and so the part of it that a killed process may have left half written:
/// the N_TTY buffer (`N_TTY_BUF_SIZE`), which is all that one read of a tty returns.
pub const READ_MAX: usize = 4096;
const READ_MAX_64: u64 = READ_MAX as u64;

/// The largest scrollback that can be configured; a stored one that is larger is not ours.
const CAPACITY_MAX: usize = 16 * 1024 * 1024;

/// Offsets are far from here for as long as there are machines.
const OFFSET_MAX: u64 = u64::MAX / 2;

/// Why there is no ring.
#[derive(Debug, Error)]
pub enum RingError {
    /// memfd, seals or mmap.
    #[error("no memory for a scrollback of {0} bytes: {1}")]
    Memory(usize, std::io::Error),
    /// A stored memfd is of another layout or maker.
    #[error("the stored scrollback is not one of ours: {0}")]
    Foreign(&'static str),
}

/// The first page. Every field is written by one store, so a kill leaves the old value or the new one.
#[repr(C)]
struct Header {
    magic: AtomicU64,
    capacity: AtomicU64,
    head: AtomicU64,
    /// Where the head will be after the read that was announced last; not beyond the head: none is under way.
    read_to: AtomicU64,
    sent: AtomicU64,
    mark_version: AtomicU64,
    marks: [[AtomicU64; LogMark::WORDS]; 2],
    /// What was said before this is not here, however much room there is: the ring had another size then.
    floor: AtomicU64,
}

/// How far the capture log has come: everything before `position` is in the file, which then had the size that
/// `file` says. `file` is opaque here (see `capture`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogMark {
    /// Ring offset up to which the log has taken the bytes.
    pub position: u64,
    /// Bytes that the log had to leave out, ever.
    pub lost: u64,
    /// What the log writer wants to find again.
    pub file: [u64; 4],
}

impl LogMark {
    const WORDS: usize = 6;

    fn to_words(self) -> [u64; Self::WORDS] {
        let [a, b, c, d] = self.file;
        [self.position, self.lost, a, b, c, d]
    }

    fn from_words([position, lost, a, b, c, d]: [u64; Self::WORDS]) -> Self {
        Self { position, lost, file: [a, b, c, d] }
    }
}

/// The ring. One thread writes and reads it; other processes see it only through the FD store.
#[derive(Debug)]
pub struct Ring {
    map: MmapRaw,
    memfd: OwnedFd,
    capacity: usize,
}

impl Ring {
    /// A new, empty ring of `capacity` bytes, which must be a multiple of the page size.
    pub fn create(capacity: usize) -> Result<Self, RingError> {
        let memory = |error: Errno| RingError::Memory(capacity, error.into());
        let memfd = memfd_create("console-ring", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
            .map_err(memory)?;
        ftruncate(&memfd, (HEADER + capacity) as i64).map_err(memory)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&memfd, FcntlArg::F_ADD_SEALS(seals)).map_err(memory)?;
        let ring = Self::map(memfd, capacity)?;
        let header = ring.header();
        header.capacity.store(capacity as u64, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        Ok(ring)
    }

    /// The ring that an earlier process of this port left in the FD store.
    pub fn adopt(memfd: OwnedFd) -> Result<Self, RingError> {
        let seals = fcntl(&memfd, FcntlArg::F_GET_SEALS).map_err(|_| RingError::Foreign("not a memfd"))?;
        if !SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK) {
            return Err(RingError::Foreign("it could shrink under us"));
        }
        let size = fstat(&memfd).map_err(|_| RingError::Foreign("it cannot be examined"))?.st_size;
        let capacity = usize::try_from(size).unwrap_or_default().saturating_sub(HEADER);
        if !(2 * READ_MAX..=CAPACITY_MAX).contains(&capacity) {
            return Err(RingError::Foreign("no scrollback has its size"));
        }
        let ring = Self::map(memfd, capacity)?;
        let header = ring.header();
        if header.magic.load(Ordering::Acquire) != MAGIC
            || header.capacity.load(Ordering::Relaxed) != capacity as u64
        {
            return Err(RingError::Foreign("another layout"));
        }
        if !ring.is_possible() {
            return Err(RingError::Foreign("its offsets contradict each other"));
        }
        ring.finish_read();
        Ok(ring)
    }

    /// Whether one of ours could have left such a header. What is mapped is never read beyond, whatever it says; but offsets that
    /// are out of order would fail later, and then again in each process that finds them.
    fn is_possible(&self) -> bool {
        let head = self.head();
        let floor = self.header().floor.load(Ordering::Relaxed);
        floor <= head && self.log_mark().position <= head && head <= OFFSET_MAX
    }

    /// A ring of another capacity that goes on where this one stands, with as much of what was said last as it has room for.
    pub fn resized(&self, capacity: usize) -> Result<Self, RingError> {
        let mut other = Self::create(capacity)?;
        let head = self.head();
        let mut at = self.tail().max(head.saturating_sub(other.window() as u64));
        let header = other.header();
        header.floor.store(at, Ordering::Relaxed);
        header.head.store(at, Ordering::Relaxed);
        header.sent.store(self.sent(), Ordering::Relaxed);
        while at < head {
            let piece = self.read(at);
            let space = other.space(piece.len());
            let count = space.len();
            space.copy_from_slice(&piece[..count]);
            other.publish(count);
            at += count as u64;
        }
        other.set_log_mark(self.log_mark());
        Ok(other)
    }

    /// Bytes of its data.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Publishes what a killed process had read and not published.
    fn finish_read(&self) {
        let header = self.header();
        let (head, read_to) = (header.head.load(Ordering::Relaxed), header.read_to.load(Ordering::Acquire));
        if let Some(count @ 1..=READ_MAX_64) = read_to.checked_sub(head) {
            let start = (head % self.capacity as u64) as usize;
            let end = self.capacity.min(start + count as usize);
            // SAFETY: within the mapping, as in space(); nothing else looks at it yet.
            let place =
                unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(HEADER + start), end - start) };
            let filled = place.iter().rposition(|byte| *byte != UNREAD).map_or(0, |last| last + 1);
            header.head.store(head + filled as u64, Ordering::Release);
        }
    }

    fn map(memfd: OwnedFd, capacity: usize) -> Result<Self, RingError> {
        let map = MmapOptions::new()
            .len(HEADER + capacity)
            .map_raw(&memfd)
            .map_err(|error| RingError::Memory(capacity, error))?;
        Ok(Self { map, memfd, capacity })
    }

    fn header(&self) -> &Header {
        // SAFETY: the mapping is page-aligned, at least HEADER long, sealed against shrinking and lives as long as
        // self; Header is made of atomics, for which any bytes are valid.
        unsafe { &*self.map.as_ptr().cast::<Header>() }
    }

    /// Bytes ever published: the offset that the next one gets.
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

    /// Where the next `count` bytes of the device go: contiguous, at most `count` and [`READ_MAX`], never empty. The read
    /// into it must fill it or get nothing, as a tty's does that has so much waiting; [`Ring::publish`] follows.
    pub fn space(&mut self, count: usize) -> &mut [u8] {
        let head = self.head();
        let start = (head % self.capacity as u64) as usize;
        let length = count.clamp(1, READ_MAX).min(self.capacity - start);
        // SAFETY: HEADER + start + length lies within the mapping (sealed, so it cannot shrink); &mut self
        // excludes every other slice of it in this process, and no other process writes.
        let space =
            unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().add(HEADER + start), length) };
        space.fill(UNREAD);
        self.header().read_to.store(head + length as u64, Ordering::Release);
        space
    }

    /// Makes the first `count` bytes of [`Ring::space`] part of the ring.
    pub fn publish(&mut self, count: usize) {
        debug_assert!(count <= READ_MAX);
        let head = self.head() + count as u64;
        let header = self.header();
        header.read_to.store(head, Ordering::Release);
        header.head.store(head, Ordering::Release);
    }

    /// The bytes from `from` on, as far as they lie in one piece; empty at the head. `from` before the tail reads
    /// from the tail: see [`Ring::tail`] for how much that leaves out.
    pub fn read(&self, from: u64) -> &[u8] {
        let head = self.head();
        let from = from.clamp(self.tail(), head);
        let start = (from % self.capacity as u64) as usize;
        let length = ((head - from) as usize).min(self.capacity - start);
        // SAFETY: within the mapping, as in space(); &self excludes a concurrent space() in this process.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(HEADER + start), length) }
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

    /// Bytes ever written to the device.
    pub fn sent(&self) -> u64 {
        self.header().sent.load(Ordering::Relaxed)
    }

    /// Counts bytes that the driver has taken.
    pub fn count_sent(&mut self, count: usize) {
        self.header().sent.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// How far the log has come.
    pub fn log_mark(&self) -> LogMark {
        let header = self.header();
        let slot = header.mark_version.load(Ordering::Acquire) as usize & 1;
        LogMark::from_words(std::array::from_fn(|word| header.marks[slot][word].load(Ordering::Relaxed)))
    }

    /// Records how far the log has come: into the slot that is not in use, which then becomes the one in use by
    /// one store.
    pub fn set_log_mark(&mut self, mark: LogMark) {
        let header = self.header();
        let version = header.mark_version.load(Ordering::Relaxed).wrapping_add(1);
        for (cell, word) in header.marks[version as usize & 1].iter().zip(mark.to_words()) {
            cell.store(word, Ordering::Relaxed);
        }
        header.mark_version.store(version, Ordering::Release);
    }
}

impl AsFd for Ring {
    /// For the FD store.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAPACITY: usize = 16 * 4096;

    fn say(ring: &mut Ring, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = ring.space(bytes.len());
            let count = space.len();
            space.copy_from_slice(&bytes[..count]);
            ring.publish(count);
            bytes = &bytes[count..];
        }
    }

    fn heard(ring: &Ring, from: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut at = from.max(ring.tail());
        while at < ring.head() {
            let piece = ring.read(at);
            bytes.extend_from_slice(piece);
            at += piece.len() as u64;
        }
        bytes
    }

    #[test]
    fn another_process_goes_on_where_this_one_stopped() {
        let mut ring = Ring::create(CAPACITY).unwrap();
        say(&mut ring, b"before the kill");
        let mark = LogMark { position: 6, lost: 1, file: [1, 2, 3, 4] };
        ring.set_log_mark(LogMark::default());
        ring.set_log_mark(mark);
        ring.count_sent(9);
        ring.space(4);

        let memfd = ring.as_fd().try_clone_to_owned().unwrap();
        drop(ring);
        let ring = Ring::adopt(memfd).unwrap();
        assert_eq!(heard(&ring, 0), b"before the kill");
        assert_eq!((ring.log_mark(), ring.sent()), (mark, 9));
    }

    #[test]
    fn a_read_that_was_not_published_is_found() {
        let mut ring = Ring::create(CAPACITY).unwrap();
        say(&mut ring, b"before, ");
        ring.space(5).copy_from_slice(b"after");
        let memfd = ring.as_fd().try_clone_to_owned().unwrap();
        drop(ring);
        let ring = Ring::adopt(memfd).unwrap();
        assert_eq!(heard(&ring, 0), b"before, after");
    }

    #[test]
    fn only_a_ring_of_the_same_making_is_adopted() {
        let ring = Ring::create(CAPACITY).unwrap();
        ring.header().magic.store(MAGIC + 1, Ordering::Relaxed);
        let memfd = ring.as_fd().try_clone_to_owned().unwrap();
        assert!(matches!(Ring::adopt(memfd), Err(RingError::Foreign(_))));
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(Ring::adopt(file.into()), Err(RingError::Foreign(_))));
    }

    #[test]
    fn a_ring_whose_offsets_contradict_each_other_is_not_adopted() {
        let spoilt = |spoil: fn(&mut Ring)| {
            let mut ring = Ring::create(CAPACITY).unwrap();
            say(&mut ring, b"words");
            spoil(&mut ring);
            Ring::adopt(ring.as_fd().try_clone_to_owned().unwrap())
        };
        assert!(spoilt(|_| {}).is_ok());
        for spoil in [
            (|ring| ring.header().floor.store(6, Ordering::Relaxed)) as fn(&mut Ring),
            |ring| ring.header().head.store(u64::MAX - 1, Ordering::Relaxed),
            |ring| ring.set_log_mark(LogMark { position: 6, ..LogMark::default() }),
        ] {
            assert!(matches!(spoilt(spoil), Err(RingError::Foreign(_))));
        }
    }

    #[test]
    fn a_ring_of_another_size_goes_on_where_this_one_stands() {
        let mut ring = Ring::create(CAPACITY).unwrap();
        say(&mut ring, &[b'x'; 3 * CAPACITY]);
        say(&mut ring, b"the last words");
        let mark = LogMark { position: ring.head() - 4, lost: 1, file: [1, 2, 3, 4] };
        ring.set_log_mark(mark);
        for capacity in [2 * CAPACITY, CAPACITY / 2] {
            let mut other = ring.resized(capacity).unwrap();
            assert_eq!((other.head(), other.log_mark(), other.capacity()), (ring.head(), mark, capacity));
            let kept = heard(&other, 0);
            assert_eq!(kept, heard(&ring, ring.head() - kept.len() as u64));
            assert_eq!(kept.len(), ring.window().min(other.window()));
            say(&mut other, b", and more");
            assert!(heard(&other, 0).ends_with(b"the last words, and more"));
            let other = Ring::adopt(other.as_fd().try_clone_to_owned().unwrap()).unwrap();
            assert_eq!((other.capacity(), other.head()), (capacity, ring.head() + 10));
        }
    }

    #[test]
    fn the_last_lines_begin_after_a_newline() {
        let mut ring = Ring::create(CAPACITY).unwrap();
        assert_eq!(ring.last_lines(3), 0);
        say(&mut ring, b"one\ntwo\nthree\nfour");
        assert_eq!(heard(&ring, ring.last_lines(2)), b"three\nfour");
        say(&mut ring, b"\n");
        assert_eq!(heard(&ring, ring.last_lines(2)), b"three\nfour\n");
        assert_eq!(heard(&ring, ring.last_lines(99)), b"one\ntwo\nthree\nfour\n");
        assert_eq!(ring.last_lines(0), ring.head());
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard_however_it_wraps(chunks in prop::collection::vec(0usize..9000, 0..40)) {
            let mut ring = Ring::create(CAPACITY).unwrap();
            let mut all = Vec::new();
            for (index, size) in chunks.into_iter().enumerate() {
                let chunk: Vec<u8> = (0..size).map(|byte| (byte * 7 + index) as u8).collect();
                say(&mut ring, &chunk);
                all.extend_from_slice(&chunk);
                let kept = &all[ring.tail() as usize..];
                prop_assert_eq!(heard(&ring, 0), kept);
                let lines = ring.last_lines(5);
                prop_assert!(lines == ring.tail() || all[lines as usize - 1] == b'\n');
            }
        }
    }
}
