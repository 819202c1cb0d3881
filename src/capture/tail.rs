//! Reads a capture log back: its last lines, and what is appended afterwards, over rotations. Blocking, as the file is.

use std::fs::File;
use std::io::{self, BufRead, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::history::{self, Found, Packing, Source};

/// Bytes read at a time.
const READ_CHUNK: usize = 16 * 1024;
/// Bytes that are searched for the beginning of the last lines, in the log and in all rotated files: a log without line ends must not be
/// read whole.
const MAX_SEARCH_BYTES: u64 = 16 * 1024 * 1024;

/// A position in a log file.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    /// `None` if the file does not exist yet.
    file: Option<File>,
    position: u64,
    /// Rotated files that come first: the newest first.
    rotated: Vec<Rotated>,
    reading: Option<Source>,
}

/// The end of a rotated file. It is opened only when it is read: there may be more files than descriptors.
#[derive(Debug)]
struct Rotated {
    found: Found,
    from: From,
}

/// Where the last lines of a rotated file begin.
#[derive(Debug, Clone, Copy)]
enum From {
    Offset(u64),
    /// After this many lines: a compressed file has no offsets.
    Line(usize),
}

impl Tail {
    /// At the beginning of the last `lines` lines. A file that does not exist is empty; one that has too few is preceded by the
    /// rotated files.
    pub fn last_lines(path: &Path, lines: usize) -> io::Result<Self> {
        let file = open(path)?;
        let (position, found) = file.as_ref().map_or(Ok((0, 0)), |file| beginning(file, lines))?;
        let mut tail = Self::at(path.to_owned(), file.map(|file| (file, position)));
        if position == 0 && found < lines {
            tail.rotated = rotated_before(path, lines - found);
        }
        // Just renamed: until there is a new log, its port may still write to it.
        if let (None, Some(newest)) = (&tail.file, tail.rotated.first())
            && let (Ok(Some(Source::Plain(file, _))), From::Offset(offset)) =
                (newest.found.open(), newest.from)
        {
            (tail.file, tail.position) = (Some(file.into_inner()), offset);
            tail.rotated.remove(0);
        }
        Ok(tail)
    }

    /// At a position of a file that has, or had, this name.
    pub(super) fn at(path: PathBuf, place: Option<(File, u64)>) -> Self {
        let (file, position) = place.map_or((None, 0), |(file, position)| (Some(file), position));
        Self { path, file, position, rotated: Vec::new(), reading: None }
    }

    /// The next chunk; empty at the end. If the file was renamed in the meantime, its rest comes first.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; READ_CHUNK];
        while self.reading.is_some() || !self.rotated.is_empty() {
            if let Some(source) = &mut self.reading {
                let count = match source {
                    Source::Plain(reader, _) => reader.read(&mut piece)?,
                    Source::Packed(reader) => reader.read(&mut piece)?,
                };
                if count > 0 {
                    piece.truncate(count);
                    return Ok(piece);
                }
                self.reading = None;
            }
            self.reading = self.rotated.pop().map(|next| next.open()).transpose()?;
        }
        loop {
            if let Some(file) = &self.file {
                let count = file.read_at(&mut piece, self.position)?;
                if count > 0 {
                    self.position += count as u64;
                    piece.truncate(count);
                    return Ok(piece);
                }
            }
            if !self.moves_on()? {
                return Ok(Vec::new());
            }
        }
    }

    /// Continues with a file that has taken the name, or at the end of one that was truncated.
    fn moves_on(&mut self) -> io::Result<bool> {
        let Some(now) = open(&self.path)? else { return Ok(false) };
        let there = now.metadata()?;
        if let Some(file) = &self.file {
            let here = file.metadata()?;
            if (here.dev(), here.ino()) == (there.dev(), there.ino()) {
                // Bytes that a killed process wrote beyond its mark are removed and written again.
                self.position = self.position.min(there.len());
                return Ok(false);
            }
        }
        self.file = Some(now);
        self.position = 0;
        Ok(true)
    }
}

impl Rotated {
    fn open(&self) -> io::Result<Source> {
        // Otherwise its lines would be missing or duplicated.
        let renamed = || io::Error::other("it is being rotated: try again");
        let mut source = self.found.open()?.ok_or_else(renamed)?;
        match (&mut source, self.from) {
            (Source::Plain(reader, _), From::Offset(offset)) => drop(reader.seek(SeekFrom::Start(offset))?),
            (Source::Packed(reader), From::Line(lines)) => {
                for _ in 0..lines {
                    reader.skip_until(b'\n')?;
                }
            }
            _ => unreachable!("the packing of a file is that of its name"),
        }
        Ok(source)
    }
}

/// The rotated files with the last `lines` lines before the log itself: the newest first. They end at a file that cannot be read,
/// such as a copy that root has made.
fn rotated_before(path: &Path, mut lines: usize) -> Vec<Rotated> {
    let mut limit = MAX_SEARCH_BYTES;
    let mut chosen = Vec::new();
    let mut files = history::rotated(path).unwrap_or_default();
    while lines > 0
        && limit > 0
        && let Some(found) = files.pop()
    {
        let Ok(Some((from, count, size))) = end_of(&found, lines, limit) else { break };
        lines -= count.min(lines);
        limit = limit.saturating_sub(size);
        chosen.push(Rotated { found, from });
    }
    chosen
}

/// Where the last `lines` lines of a rotated file begin, their number, and the bytes that were searched.
fn end_of(found: &Found, lines: usize, limit: u64) -> io::Result<Option<(From, usize, u64)>> {
    if let Packing::Other(..) = found.packing {
        return Ok(None);
    }
    Ok(match found.open()? {
        Some(Source::Plain(reader, _)) => {
            let file = reader.into_inner();
            let (offset, count) = beginning(&file, lines)?;
            Some((From::Offset(offset), count, file.metadata()?.len() - offset))
        }
        Some(Source::Packed(reader)) => {
            let mut reader = reader.take(limit);
            let mut count = 0;
            let mut size = 0;
            loop {
                match reader.skip_until(b'\n')? as u64 {
                    0 => break,
                    length => size += length,
                }
                count += 1;
            }
            // Longer than the limit: where its last lines begin is not known.
            (size < limit).then_some((From::Line(count - lines.min(count)), lines.min(count), size))
        }
        None => None,
    })
}

/// The log, if it exists. It must be a regular file, as for the writer.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file")),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns where the last `lines` lines begin, and their number.
fn beginning(file: &File, lines: usize) -> io::Result<(u64, usize)> {
    let size = file.metadata()?.len();
    if lines == 0 || size == 0 {
        return Ok((size, 0));
    }
    let floor = size.saturating_sub(MAX_SEARCH_BYTES);
    let mut found = 0;
    let mut behind = 0;
    let mut piece = [0; READ_CHUNK];
    let mut until = size;
    while until > floor {
        let from = until.saturating_sub(READ_CHUNK as u64).max(floor);
        let piece = &mut piece[..(until - from) as usize];
        file.read_exact_at(piece, from)?;
        for (index, byte) in piece.iter().enumerate().rev() {
            let place = from + index as u64;
            // A raw log may be of a device that ends its lines with CR, or with LF CR.
            let (ends, length) = match (byte, behind) {
                (b'\n', b'\r') => (true, 2),
                (b'\n', _) => (true, 1),
                (b'\r', b'\r' | b'\n' | 0) => (false, 1),
                (b'\r', _) => (index.checked_sub(1).is_none_or(|before| piece[before] != b'\n'), 1),
                _ => (false, 0),
            };
            behind = *byte;
            // The end of the last line begins no line.
            if ends && place + length < size {
                found += 1;
                if found == lines {
                    return Ok((place + 1, lines));
                }
            }
        }
        until = from;
    }
    Ok((floor, found + 1))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn rest(tail: &mut Tail) -> String {
        let mut all = Vec::new();
        loop {
            let piece = tail.read().unwrap();
            if piece.is_empty() {
                return String::from_utf8(all).unwrap();
            }
            all.extend(piece);
        }
    }

    #[test]
    fn the_last_lines_are_found_whether_the_last_one_has_ended_or_not() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("console.log");
        for (text, lines, last) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n", 5, "a\nb\n"),
            ("a\nb\n", 0, ""),
            ("a\nb", 0, ""),
            ("\n\n\n", 1, "\n"),
            ("", 3, ""),
            ("a\r\nb\r\nc\r\n", 2, "b\r\nc\r\n"),
            ("a\r\n\r\n", 1, "\r\n"),
            ("a\rb\rc\r", 2, "b\rc\r"),
            ("a\r\r\nb\r\r\nc\r\r\n", 2, "b\r\r\nc\r\r\n"),
            ("a\n\rb\n\rc\n\r", 2, "\rb\n\rc\n\r"),
        ] {
            fs::write(&path, text).unwrap();
            let mut tail = Tail::last_lines(&path, lines).unwrap();
            assert_eq!(rest(&mut tail), last, "{lines} of {text:?}");
        }
        let long = "x".repeat(3 * READ_CHUNK);
        fs::write(&path, format!("first\n{long}\nlast\n")).unwrap();
        assert_eq!(rest(&mut Tail::last_lines(&path, 2).unwrap()), format!("{long}\nlast\n"));
    }

    #[test]
    fn a_log_is_followed_over_its_rotation_and_from_before_it_exists() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("console.log");
        let mut tail = Tail::last_lines(&path, 10).unwrap();
        assert_eq!(rest(&mut tail), "");
        fs::write(&path, "one\n").unwrap();
        assert_eq!(rest(&mut tail), "one\n");
        fs::write(&path, "one\ntwo\n").unwrap();
        fs::rename(&path, room.path().join("console.log.1")).unwrap();
        fs::write(&path, "three\n").unwrap();
        assert_eq!(rest(&mut tail), "two\nthree\n");
    }

    #[test]
    fn the_last_lines_include_those_of_the_rotated_file() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("console.log");
        fs::write(room.path().join("console.log.1"), "one\ntwo\n").unwrap();
        assert_eq!(rest(&mut Tail::last_lines(&path, 1).unwrap()), "two\n");
        fs::write(&path, "three\n").unwrap();
        for (lines, last) in [(1, "three\n"), (2, "two\nthree\n"), (9, "one\ntwo\nthree\n")] {
            assert_eq!(rest(&mut Tail::last_lines(&path, lines).unwrap()), last, "{lines}");
        }
    }

    /// A quiet console has a few lines a day, and a file a day (`tail -n 20` of journalctl(1) goes back over files, too).
    #[test]
    fn the_last_lines_include_those_of_all_rotated_files_compressed_or_not() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("console.log");
        for (number, text) in [(2, "five\nsix\n"), (3, "four\n"), (4, "one\ntwo\nthree\n")] {
            let file = File::create(room.path().join(format!("console.log.{number}.gz"))).unwrap();
            let mut packed = GzEncoder::new(file, Compression::fast());
            packed.write_all(text.as_bytes()).unwrap();
            packed.finish().unwrap();
        }
        fs::write(room.path().join("console.log.1"), "seven\n").unwrap();
        let all = "one\ntwo\nthree\nfour\nfive\nsix\nseven\n";
        let last = |lines: usize, of: &str| {
            let lines: Vec<_> = of.split_inclusive('\n').rev().take(lines).collect();
            lines.into_iter().rev().collect::<String>()
        };
        for lines in 0..9 {
            assert_eq!(rest(&mut Tail::last_lines(&path, lines).unwrap()), last(lines, all), "{lines}");
        }
        // The port still writes to the file that has just been renamed.
        let mut tail = Tail::last_lines(&path, 2).unwrap();
        assert_eq!(rest(&mut tail), "six\nseven\n");
        fs::write(room.path().join("console.log.1"), "seven\nlate\n").unwrap();
        assert_eq!(rest(&mut tail), "late\n");
        fs::write(&path, "eight\n").unwrap();
        assert_eq!(rest(&mut tail), "eight\n");
        let all = all.replace("seven\n", "seven\nlate\neight\n");
        for lines in 0..11 {
            assert_eq!(rest(&mut Tail::last_lines(&path, lines).unwrap()), last(lines, &all), "{lines}");
        }
        // Not over a gap.
        fs::write(room.path().join("console.log.3.gz"), "broken").unwrap();
        assert_eq!(rest(&mut Tail::last_lines(&path, 99).unwrap()), last(5, &all));
        fs::rename(room.path().join("console.log.3.gz"), room.path().join("console.log.3.xz")).unwrap();
        assert_eq!(rest(&mut Tail::last_lines(&path, 99).unwrap()), last(5, &all));
    }

    #[test]
    fn a_link_in_place_of_the_log_is_not_followed() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("console.log");
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(Tail::last_lines(&path, 1).is_err());
    }
}
