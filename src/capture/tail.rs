//! Reads a capture log back: its last lines, and what is appended afterwards, over rotations. Blocking, as the file is.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::history;

/// Bytes read at a time.
const READ_CHUNK: usize = 16 * 1024;
/// Bytes that are searched for the beginning of the last lines: a log without line ends must not be read whole.
const MAX_SEARCH_BYTES: u64 = 16 * 1024 * 1024;

/// A position in a log file.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    /// `None` if the file does not exist yet.
    file: Option<File>,
    position: u64,
}

impl Tail {
    /// At the beginning of the last `lines` lines. A file that does not exist is empty; one that has too few continues from the
    /// rotated file before it.
    pub fn last_lines(path: &Path, lines: usize) -> io::Result<Self> {
        let file = open(path)?;
        let (position, found) = file.as_ref().map_or(Ok((0, 0)), |file| beginning(file, lines))?;
        if position == 0
            && found < lines
            // A copy that root has made may be unreadable: the log itself is shown.
            && let Some(before) = history::before(path).ok().flatten()
        {
            let (position, _) = beginning(&before, lines - found)?;
            return Ok(Self::at(path.to_owned(), Some((before, position))));
        }
        Ok(Self { path: path.to_owned(), file, position })
    }

    /// At a position of a file that has, or had, this name.
    pub(super) fn at(path: PathBuf, place: Option<(File, u64)>) -> Self {
        let (file, position) = place.map_or((None, 0), |(file, position)| (Some(file), position));
        Self { path, file, position }
    }

    /// The next chunk; empty at the end. If the file was renamed in the meantime, its rest comes first.
    pub fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; READ_CHUNK];
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

    #[test]
    fn a_link_in_place_of_the_log_is_not_followed() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("console.log");
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(Tail::last_lines(&path, 1).is_err());
    }
}
