//! What a process, a rotation or a power failure has left in a log file, as the next process finds it.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::UNIX_EPOCH;

use nix::fcntl::OFlag;

use super::write_ahead::{Mark, check};

/// Files of a directory that are searched for a renamed one: rotation keeps 30 of a log.
const FILES_MAX: usize = 10_000;
/// Bytes of one write: more than any has, so that the read is bounded for any content of shared memory.
const WRITE_MAX: u64 = 1024 * 1024;
/// NULs that are searched at the end of a file: more than ext4 allocates at once for a growing file.
const NULS_MAX: u64 = 16 * 1024 * 1024;

/// How much of a write, whose end was not recorded, is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// No byte is in the file: the write must be repeated.
    Nothing,
    /// The whole write is in the file.
    Whole,
    /// Unknown: its file is gone.
    Gone,
}

/// Identity of a file. The inode alone is reused as soon as a file is removed; the birth time tells them apart
/// if the file system has one.
pub(super) fn identity(found: &Metadata) -> [u64; 3] {
    let born = found.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    [found.dev(), found.ino(), born.map_or(0, |born| born.as_nanos() as u64)]
}

/// The file with this identity, under any name that a rotation has given it.
pub(super) fn renamed(dir: &Path, identity_sought: [u64; 3]) -> Option<File> {
    let is_it = |found: &Metadata| found.is_file() && identity(found) == identity_sought;
    let entries = fs::read_dir(dir).ok()?.take(FILES_MAX).filter_map(Result::ok);
    let path =
        entries.map(|entry| entry.path()).find(|path| path.symlink_metadata().is_ok_and(|at| is_it(&at)))?;
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(path).ok()?;
    file.metadata().is_ok_and(|found| is_it(&found)).then_some(file)
}

/// Finds out how much of a write from `before` to `next` is in its file, and undoes a partial write.
pub(super) fn recover(file: &File, before: Mark, next: Mark) -> io::Result<Recovered> {
    let size = file.metadata()?.size();
    if size >= next.size && is_written(file, before, next)? {
        return Ok(Recovered::Whole);
    }
    // Bytes after the write are not part of it: another program has appended them.
    if before.size < size && size <= next.size {
        file.set_len(before.size)?;
    }
    Ok(Recovered::Nothing)
}

fn is_written(file: &File, before: Mark, next: Mark) -> io::Result<bool> {
    let length = next.size.saturating_sub(before.size);
    if length > WRITE_MAX {
        return Ok(false);
    }
    let mut written = vec![0; length as usize];
    file.read_exact_at(&mut written, before.size)?;
    Ok(check(&written) == next.check)
}

/// Number of NULs at the end of a file of this size: what a power failure leaves of bytes whose file had grown already.
pub(super) fn nuls_at_end(file: &File, size: u64) -> io::Result<u64> {
    let mut page = [0; 4096];
    let mut nuls = 0;
    while nuls < size.min(NULS_MAX) {
        let length = (size - nuls).min(page.len() as u64);
        let piece = &mut page[..length as usize];
        file.read_exact_at(piece, size - nuls - length)?;
        match piece.iter().rposition(|byte| *byte != 0) {
            Some(last) => return Ok(nuls + length - 1 - last as u64),
            None => nuls += length,
        }
    }
    Ok(nuls)
}

pub(super) fn ends_within_a_line(file: &File, size: u64) -> io::Result<bool> {
    let mut last = [0];
    if size > 0 {
        file.read_exact_at(&mut last, size - 1)?;
    }
    Ok(size > 0 && last != [b'\n'])
}
