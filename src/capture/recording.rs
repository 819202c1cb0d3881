//! The recording: the bytes of the device with the time of each read, in `LOG.rec` beside the log, for a replay. The log has less: its
//! records begin with the first byte of a line, and a text log does not keep the kind of line ends.
//!
//! It is a convenience and never harms the log: it is written after the log, without a record in the ring, and not at all when the disk
//! is nearly full. A frame that a killed process has written in part is skipped by the reader, which searches for the next
//! one; the next process continues after the last complete frame.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::Crc;
use jiff::Timestamp;

use super::log::open_to_append;
use super::{history, tail};

/// The suffix of a recording's name, after that of the log.
pub const SUFFIX: &str = ".rec";

const MAGIC: [u8; 2] = [0xc5, 0x52];
/// Magic, length (u16), checksum (u32), ring (u32), offset (u64), time (i64, microseconds since 1970), all little-endian.
const HEADER: usize = 28;
/// Bytes of a frame, so that its length fits.
const FRAME_MAX: usize = 32 * 1024;
/// Bytes at the end of a file in which the last frame is searched: two of the longest.
const TAIL: u64 = 2 * (HEADER + FRAME_MAX) as u64;
/// Longest coalescing window (`hub/coalesce.rs`) and some delay: bytes of a later batch have arrived just before it.
const SPREAD_MAX: Duration = Duration::from_millis(60);
/// Space that is left to the log.
const FREE_MIN: u64 = 64 * 1024 * 1024;
/// Bytes after which the free space is queried again.
const FREE_CHECK_INTERVAL: u64 = 1024 * 1024;
/// Time of one scan: other readers wait.
const YIELD_INTERVAL: Duration = Duration::from_millis(100);
/// After a failure, until the next attempt.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);

/// Bytes of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Identifies the ring: offsets of another one begin at 0 again.
    pub ring: u32,
    /// Ring offset of the first byte.
    pub offset: u64,
    pub at: Timestamp,
    pub bytes: Vec<u8>,
}

impl Frame {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// Appends the frame of these bytes, at most [`FRAME_MAX`].
fn encode(ring: u32, offset: u64, at: Timestamp, bytes: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&ring.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&at.as_microsecond().to_le_bytes());
    out.extend_from_slice(bytes);
    let sum = checksum(&out[begin + 8..]);
    out[begin + 4..begin + 8].copy_from_slice(&sum.to_le_bytes());
}

fn checksum(body: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(body);
    crc.sum()
}

/// Parses frames from chunks of a recording.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    /// Where the next frame begins in the buffer.
    at: usize,
}

impl Frames {
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete frame; `None` if more bytes are needed. Bytes that are not a frame are skipped.
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            let rest = &self.buffer[self.at..];
            let begin = rest.windows(2).position(|pair| pair == MAGIC);
            let Some(begin) = begin else {
                // The last byte may be the first of the magic.
                self.at = self.buffer.len().saturating_sub(1).max(self.at);
                return None;
            };
            self.at += begin;
            let rest = &rest[begin..];
            if rest.len() < HEADER {
                return None;
            }
            let field = |at: usize| <[u8; 8]>::try_from(&rest[at..at + 8]).expect("8 bytes of the header");
            let length = usize::from(u16::from_le_bytes([rest[2], rest[3]]));
            if length <= FRAME_MAX && rest.len() < HEADER + length {
                return None;
            }
            let sum = u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]);
            let at = Timestamp::from_microsecond(i64::from_le_bytes(field(20)));
            match at {
                Ok(at) if length <= FRAME_MAX && checksum(&rest[8..HEADER + length]) == sum => {
                    let ring = u32::from_le_bytes([rest[8], rest[9], rest[10], rest[11]]);
                    let bytes = rest[HEADER..HEADER + length].to_vec();
                    let frame = Frame { ring, offset: u64::from_le_bytes(field(12)), at, bytes };
                    self.at += HEADER + length;
                    return Some(frame);
                }
                // The beginning of a frame that was not completed, or bytes of the device.
                _ => self.at += 1,
            }
        }
    }

    /// At the end of the file: skips the first byte of an incomplete frame, which may contain a complete one.
    pub fn skip_incomplete(&mut self) -> bool {
        let more = self.at < self.buffer.len();
        self.at += usize::from(more);
        more
    }
}

/// The output that was read since the last batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    ring: u32,
    /// Ring offset of the first byte.
    offset: u64,
    /// The offset of the first new byte; a killed process may have logged earlier ones without recording them.
    new_from: u64,
    at: Timestamp,
    bytes: Vec<u8>,
}

/// Finds the new bytes of each batch of the log writer, and their time.
#[derive(Debug)]
pub(super) struct Progress {
    ring: u32,
    /// Ring offset up to which bytes were passed on.
    until: u64,
    last: Option<Timestamp>,
    /// Bytes before that, for the first piece of a process.
    before: Vec<u8>,
}

impl Progress {
    /// Starts at this position of the log, at which `before` ends.
    pub(super) fn new(ring: u32, position: u64, before: Vec<u8>) -> Self {
        Self { ring, until: position, last: None, before }
    }

    /// The new ones of `bytes`, which begin at `offset` and of which the first has been read at `heard`.
    pub(super) fn piece(&mut self, offset: u64, bytes: &[u8], heard: Option<Timestamp>) -> Option<Piece> {
        let end = offset + bytes.len() as u64;
        let new_from = self.until.max(offset);
        if new_from >= end {
            return None;
        }
        let now = Timestamp::now();
        let recent =
            |time: &Timestamp| now.duration_since(*time).unsigned_abs() <= SPREAD_MAX && *time <= now;
        let earliest = self.last.filter(recent).or(heard.filter(recent)).unwrap_or(now);
        self.last = Some(now);
        // In the middle of the time in which they can have arrived: at most 30 ms from either end.
        let at = now - now.duration_since(earliest) / 2;
        // Bytes that were overwritten in between belong to neither.
        let mut all = std::mem::take(&mut self.before);
        if new_from > self.until {
            all.clear();
        }
        self.until = end;
        let offset_of_all = new_from - all.len() as u64;
        all.extend_from_slice(&bytes[(new_from - offset) as usize..]);
        Some(Piece { ring: self.ring, offset: offset_of_all, new_from, at, bytes: all })
    }

    /// The log could not be written, and neither was this piece: its bytes come again.
    pub(super) fn again(&mut self, mut piece: Piece) {
        self.until = self.until.min(piece.new_from);
        piece.bytes.truncate((piece.new_from - piece.offset) as usize);
        self.before = piece.bytes;
    }
}

/// Writes the recording. Blocking.
#[derive(Debug)]
pub(super) struct Recorder {
    name: PathBuf,
    file: Option<File>,
    /// Device and inode of the file.
    id: (u64, u64),
    /// The ring and offset up to which the file has all bytes.
    until: Option<(u32, u64)>,
    unchecked: u64,
    /// The last attempt failed, which is reported once.
    retry_at: Option<Instant>,
}

impl Recorder {
    /// Creates the recorder for the log of this name.
    pub(super) fn new(log: &str) -> Self {
        Self {
            name: PathBuf::from(format!("{log}{SUFFIX}")),
            file: None,
            id: (0, 0),
            until: None,
            unchecked: 0,
            retry_at: None,
        }
    }

    /// Appends a piece. On an error it is missing in the recording.
    pub(super) fn record(&mut self, directory: &Path, piece: &Piece) {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        match self.append(directory, piece) {
            Ok(()) => {
                if self.retry_at.take().is_some() {
                    tracing::info!("recording resumed");
                }
            }
            Err(error) => {
                self.file = None;
                if self.retry_at.replace(Instant::now() + RETRY_INTERVAL).is_none() {
                    let name = self.name.display();
                    tracing::warn!(
                        "the recording {name} cannot be written: {error}; the log is not affected"
                    );
                }
            }
        }
    }

    fn append(&mut self, directory: &Path, piece: &Piece) -> io::Result<()> {
        let path = directory.join(&self.name);
        // A rotation has renamed it, or it was removed.
        let is_same = |found: std::fs::Metadata| (found.dev(), found.ino()) == self.id;
        if !std::fs::symlink_metadata(&path).is_ok_and(is_same) {
            self.file = None;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let mut file = open(&path)?;
                let found = file.metadata()?;
                self.id = (found.dev(), found.ino());
                // The last frame is that of an earlier process; this process knows its own.
                if self.until.is_none() {
                    let frame = match last(&mut file)? {
                        Some(frame) => Some(frame),
                        None => last_of_rotated(&path),
                    };
                    self.until = frame.map(|frame| (frame.ring, frame.end()));
                }
                self.unchecked = FREE_CHECK_INTERVAL;
                self.file.insert(file)
            }
        };
        let mut out = Vec::with_capacity(HEADER + piece.bytes.len());
        let until = match self.until {
            Some((ring, until)) if ring == piece.ring => until,
            // Older output belongs to no recording.
            _ => piece.new_from,
        };
        let skip = (until.saturating_sub(piece.offset) as usize).min(piece.bytes.len());
        let mut offset = piece.offset + skip as u64;
        for bytes in piece.bytes[skip..].chunks(FRAME_MAX) {
            encode(piece.ring, offset, piece.at, bytes, &mut out);
            offset += bytes.len() as u64;
        }
        self.unchecked += out.len() as u64;
        if self.unchecked >= FREE_CHECK_INTERVAL {
            let space = rustix::fs::fstatvfs(&*file)?;
            if space.f_bavail * space.f_frsize < FREE_MIN {
                let why = format!("less than {} MiB are free", FREE_MIN >> 20);
                return Err(io::Error::new(io::ErrorKind::StorageFull, why));
            }
            self.unchecked = 0;
        }
        file.write_all(&out)?;
        self.until = Some((piece.ring, offset));
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    let opened = open_to_append(path)?;
    match opened.metadata()?.is_file() {
        true => Ok(opened),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// The last complete frame of the file that the last rotation has renamed.
fn last_of_rotated(path: &Path) -> Option<Frame> {
    last(&mut history::before(path).ok()??).ok()?
}

fn last(file: &mut File) -> io::Result<Option<Frame>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut frames = Frames::default();
    let mut end = Vec::new();
    file.take(TAIL).read_to_end(&mut end)?;
    frames.feed(&end);
    let mut found = None;
    loop {
        match frames.next_frame() {
            Some(frame) => found = Some(frame),
            None if frames.skip_incomplete() => {}
            None => return Ok(found),
        }
    }
}

/// Reads the recording of a log, rotated files included, oldest first. Blocking.
pub struct Recording {
    /// Still to be read, in reverse.
    files: Vec<PathBuf>,
    source: Option<Box<dyn Read + Send>>,
    frames: Frames,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    last: Option<(u32, u64)>,
}

impl Recording {
    /// The frames of the log at `path` from `since` to `until`.
    pub fn open(path: &Path, since: Option<Timestamp>, until: Option<Timestamp>) -> io::Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(SUFFIX);
        let mut files = history::paths(Path::new(&name))?;
        if files.is_empty() {
            let why = "there is no recording: set log.record = true";
            return Err(io::Error::new(io::ErrorKind::NotFound, why));
        }
        if let Some(since) = since {
            // Files before the last one that begins early enough are not read.
            let begins_early = |path: &PathBuf| first(path).is_some_and(|frame| frame.at <= since);
            if let Some(first) = files.iter().rposition(begins_early) {
                files.drain(..first);
            }
        }
        files.reverse();
        Ok(Self { files, source: None, frames: Frames::default(), since, until, last: None })
    }

    /// The next frames as they are in the file, possibly none in this chunk; `None` at the end.
    pub fn look_on(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut out = Vec::new();
        let began = Instant::now();
        loop {
            while let Some(frame) = self.frames.next_frame() {
                // Past the end. (A clock that was set back may bring earlier frames; the rest of a night is not worth a search.)
                if self.until.is_some_and(|until| frame.at > until) {
                    (self.source, self.files) = (None, Vec::new());
                    return Ok((!out.is_empty()).then_some(out));
                }
                let is_repeated =
                    self.last.is_some_and(|(ring, end)| ring == frame.ring && frame.end() <= end);
                if is_repeated || self.since.is_some_and(|since| frame.at < since) {
                    continue;
                }
                self.last = Some((frame.ring, frame.end()));
                encode(frame.ring, frame.offset, frame.at, &frame.bytes, &mut out);
            }
            // Returns now and then, so that other readers get their turn and a client can disconnect.
            if !out.is_empty() || began.elapsed() >= YIELD_INTERVAL {
                return Ok(Some(out));
            }
            let Some(source) = &mut self.source else {
                match self.files.pop() {
                    Some(path) => self.source = Some(reader(&path)?),
                    None => return Ok(None),
                }
                continue;
            };
            let mut chunk = vec![0; 64 * 1024];
            match source.read(&mut chunk)? {
                0 => {
                    if !self.frames.skip_incomplete() {
                        self.source = None;
                    }
                }
                count => self.frames.feed(&chunk[..count]),
            }
        }
    }
}

fn reader(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    let file = tail::open(path)?.ok_or(io::ErrorKind::NotFound)?;
    let file = io::BufReader::new(file);
    Ok(match path.extension().is_some_and(|end| end == "gz") {
        true => Box::new(flate2::read::MultiGzDecoder::new(file)),
        false => Box::new(file),
    })
}

/// The first frame of a file; `None` if it cannot be read.
fn first(path: &Path) -> Option<Frame> {
    let mut begin = Vec::new();
    reader(path).ok()?.take(TAIL).read_to_end(&mut begin).ok()?;
    let mut frames = Frames::default();
    frames.feed(&begin);
    frames.next_frame()
}

#[cfg(test)]
pub(super) fn encoded(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    encode(frame.ring, frame.offset, frame.at, &frame.bytes, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(offset: u64, bytes: &[u8]) -> Frame {
        let at = Timestamp::from_microsecond(1_790_000_000_123_456 + offset as i64).unwrap();
        Frame { ring: 7, offset, at, bytes: bytes.to_vec() }
    }

    fn all(bytes: &[u8], step: usize) -> Vec<Frame> {
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        for chunk in bytes.chunks(step) {
            frames.feed(chunk);
            found.extend(std::iter::from_fn(|| frames.next_frame()));
        }
        while frames.skip_incomplete() {
            found.extend(std::iter::from_fn(|| frames.next_frame()));
        }
        found
    }

    /// Bytes of the device that look like a frame, a frame that was cut off anywhere, and damaged bytes.
    #[test]
    fn frames_are_found_whatever_is_between_them() {
        let mut inner = Vec::new();
        inner.extend(encoded(&frame(0, b"inner")));
        let wanted = [frame(0, &inner), frame(100, b"\xc5\x52\xff\xff"), frame(200, &[0xff; 300])];
        let mut whole = Vec::new();
        wanted.iter().for_each(|frame| whole.extend(encoded(frame)));
        for step in [1, 7, 4096] {
            assert_eq!(all(&whole, step), wanted);
        }
        let mut cut = Vec::new();
        cut.extend(encoded(&frame(300, b"cut off")));
        for length in 0..cut.len() {
            let torn = [&whole[..], &cut[..length], &whole[..]].concat();
            let found = all(&torn, 64);
            assert_eq!(found, [&wanted[..], &wanted[..]].concat(), "cut after {length} bytes");
        }
        let mut damaged = whole.clone();
        damaged[HEADER + inner.len() + 3] ^= 1;
        assert_eq!(all(&damaged, 64).last(), wanted.last());
    }

    fn piece(ring: u32, offset: u64, bytes: &[u8]) -> Piece {
        Piece { ring, offset, new_from: offset, at: Timestamp::now(), bytes: bytes.to_vec() }
    }

    fn read(directory: &Path) -> Vec<u8> {
        let mut recording = Recording::open(&directory.join("console.log"), None, None).unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = recording.look_on().unwrap() {
            bytes.extend(all(&chunk, chunk.len().max(1)).into_iter().flat_map(|frame| frame.bytes));
        }
        bytes
    }

    #[test]
    fn the_next_process_continues_after_the_last_complete_frame() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("console.log.rec");
        let mut recorder = Recorder::new("console.log");
        recorder.record(room.path(), &piece(1, 0, b"one "));
        recorder.record(room.path(), &piece(1, 4, b"two "));
        let whole = std::fs::read(&path).unwrap();
        // Killed within the second write: the next one gets these bytes from the ring again.
        std::fs::write(&path, &whole[..whole.len() - 2]).unwrap();
        let mut recorder = Recorder::new("console.log");
        recorder.record(room.path(), &piece(1, 2, b"e two three "));
        assert_eq!(read(room.path()), b"one two three ");
        // A rotation, and a ring that begins at 0 again.
        std::fs::rename(&path, room.path().join("console.log.rec.1")).unwrap();
        recorder.record(room.path(), &piece(1, 14, b"four "));
        recorder.record(room.path(), &piece(2, 0, b"five"));
        assert_eq!(read(room.path()), b"one two three four five");
    }

    #[test]
    fn what_a_killed_process_has_logged_and_not_recorded_is_recorded_by_the_next() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("console.log.rec");
        let first = |before: &[u8], offset, bytes: &[u8]| {
            let mut progress = Progress::new(1, offset, before.to_vec());
            let piece = progress.piece(offset, bytes, None).unwrap();
            Recorder::new("console.log").record(room.path(), &piece);
        };
        // A recording begins: what is older is not part of it.
        first(b"older ", 6, b"one ");
        first(b"older one two ", 14, b"three ");
        assert_eq!(read(room.path()), b"one two three ");
        std::fs::rename(&path, room.path().join("console.log.rec.1")).unwrap();
        first(b"two three four ", 25, b"five");
        assert_eq!(read(room.path()), b"one two three four five");
    }

    #[test]
    fn what_is_no_regular_file_is_left_alone() {
        let room = tempfile::tempdir().unwrap();
        let other = room.path().join("other");
        std::fs::write(&other, "x").unwrap();
        std::os::unix::fs::symlink(&other, room.path().join("console.log.rec")).unwrap();
        let mut recorder = Recorder::new("console.log");
        recorder.record(room.path(), &piece(1, 0, b"one"));
        assert!(recorder.retry_at.is_some());
        assert_eq!(std::fs::read(&other).unwrap(), b"x");
    }

    #[test]
    fn bytes_are_passed_on_once_and_dated_to_the_middle_of_their_wait() {
        let mut progress = Progress::new(1, 10, Vec::new());
        let first = progress.piece(8, b"abcd", None).unwrap();
        assert_eq!((first.offset, first.bytes.as_slice()), (10, b"cd".as_slice()));
        assert!(progress.piece(8, b"abcd", None).is_none());
        let heard = Timestamp::now() - Duration::from_millis(20);
        let mut progress = Progress::new(1, 0, Vec::new());
        let dated = progress.piece(0, b"x", Some(heard)).unwrap();
        let after = dated.at.duration_since(heard).unsigned_abs();
        assert!(after >= Duration::from_millis(10) && after <= SPREAD_MAX / 2, "{after:?}");
    }
}
