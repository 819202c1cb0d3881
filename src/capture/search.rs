//! Looking for words in a capture log. Blocking, as the file is.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use super::history::LINE_MAX;
use super::tail;

/// Bytes from the end that are looked through: a week of a talkative device, and a second of a slow disk's time.
const FARTHEST: u64 = 64 * 1024 * 1024;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The last lines with the words in them, in order.
    pub lines: VecDeque<String>,
    /// How many there were before these.
    pub more: usize,
}

/// The last `most` lines of the log that have `words` in them, whatever their case.
pub fn search(path: &Path, words: &str, most: usize) -> io::Result<Found> {
    let mut found = Found::default();
    let Some(mut file) = tail::open(path)? else { return Ok(found) };
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(FARTHEST)))?;
    let words = words.to_lowercase();
    let mut reader = BufReader::new(file);
    while let Some(line) = next_line(&mut reader)? {
        if line.to_lowercase().contains(&words) {
            found.lines.push_back(line);
            if found.lines.len() > most {
                found.lines.pop_front();
                found.more += 1;
            }
        }
    }
    Ok(found)
}

fn next_line(reader: &mut BufReader<File>) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let count = io::Read::take(&mut *reader, LINE_MAX).read_until(b'\n', &mut line)?;
    let line = String::from_utf8_lossy(&line);
    Ok((count > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_with_the_words_are_found_and_the_others_counted() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("console.log");
        assert_eq!(search(&path, "panic", 2).unwrap(), Found::default(), "no log, nothing found");
        std::fs::write(&path, b"a panic\nquiet\r\nPANIC at \xff\r\nno\nKernel Panic - end").unwrap();
        let found = search(&path, "Panic", 2).unwrap();
        assert_eq!(found.lines, ["PANIC at \u{fffd}", "Kernel Panic - end"]);
        assert_eq!(found.more, 1);
    }
}
