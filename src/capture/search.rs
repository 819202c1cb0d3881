//! Searches words in a capture log. Blocking, as the file is.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use super::tail;
use super::view::{LINE_MAX, clean_record, lines_within};
use crate::config::LogType;
use crate::printable::clean;

/// Bytes from the end that are searched: a week of a busy device, and a second of a slow disk's time.
const MAX_SEARCH_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The last lines that contain the words, in order.
    pub lines: VecDeque<String>,
    /// How many matching lines precede these.
    pub more: usize,
}

/// The last `most` lines of a log of this type that contain `words`, in any case, as users read them.
pub fn search(path: &Path, kind: LogType, words: &str, most: usize) -> io::Result<Found> {
    let mut found = Found::default();
    let Some(mut file) = tail::open(path)? else { return Ok(found) };
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(MAX_SEARCH_BYTES)))?;
    let words = words.to_lowercase();
    let mut reader = BufReader::new(file);
    while let Some(line) = next_line(&mut reader)? {
        for line in lines_within(&line, kind).filter_map(|line| read(line, kind)) {
            if line.to_lowercase().contains(&words) {
                found.lines.push_back(line);
                if found.lines.len() > most {
                    found.lines.pop_front();
                    found.more += 1;
                }
            }
        }
    }
    Ok(found)
}

/// A line without its end; `None` at the end of the file.
fn next_line(reader: &mut BufReader<File>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let count = io::Read::take(&mut *reader, LINE_MAX as u64).read_until(b'\n', &mut line)?;
    while matches!(line.last(), Some(b'\r' | b'\n')) {
        line.pop();
    }
    Ok((count > 0).then_some(line))
}

/// The bytes of a line that users read; `None` if there are none.
fn read(line: &[u8], kind: LogType) -> Option<String> {
    let read = match kind {
        LogType::Text => clean_record(line)?.into_owned(),
        _ => clean(line),
    };
    Some(String::from_utf8_lossy(&read).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_matching_lines_are_found_and_the_others_counted() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("console.log");
        assert_eq!(
            search(&path, LogType::Raw, "panic", 2).unwrap(),
            Found::default(),
            "no log, nothing found"
        );
        std::fs::write(&path, b"a panic\nquiet\r\nPANIC at \xff\r\nno\nKernel Panic - end").unwrap();
        let found = search(&path, LogType::Raw, "Panic", 2).unwrap();
        assert_eq!(found.lines, ["PANIC at \u{fffd}", "Kernel Panic - end"]);
        assert_eq!(found.more, 1);
    }

    #[test]
    fn words_are_matched_against_the_text_that_users_read() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("console.log");
        std::fs::write(&path, b"2026-11-24T01:00:00Z < \\x1b[1mKernel\\x1b[0m panic\\r\n").unwrap();
        let found = search(&path, LogType::Text, "kernel panic", 2).unwrap();
        assert_eq!(found.lines, ["2026-11-24T01:00:00Z < Kernel panic"]);
        std::fs::write(&path, b"\x1b[1mKernel\x1b[0m panic\r\n").unwrap();
        assert_eq!(search(&path, LogType::Raw, "kernel panic", 2).unwrap().lines, ["Kernel panic"]);
    }
}
