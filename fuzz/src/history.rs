//! A log read back with its rotated files. Input: what is wanted and which files are packed, a seed, then files from the
//! newest to the oldest with a 0xff between them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use consoleserver::capture::{History, LineSelection, Lines, Matcher, TimeRange};
use consoleserver::config::LogType;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;

use super::pieces::Pieces;

/// Bytes of a line that are looked at together, and those that are handed out at once.
const LINE_MAX: usize = 32 * 1024;
const PIECE_MAX: usize = 16 * 1024 + LINE_MAX + 1;
/// A packed file may expand a thousandfold; this much of it is read.
const UNPACKED_MAX: u64 = 8 * 1024 * 1024;
/// The beginning of lines that are in time.
const SINCE: &str = "2026-11-24T03:00:00Z";

/// See the module.
pub fn run(data: &[u8]) {
    let Some(([flags, seed], contents)) = data.split_first_chunk::<2>() else { return };
    let room = tempfile::Builder::new().prefix("fuzz").tempdir_in(room()).expect("a directory");
    let path = room.path().join("console.log");
    let mut log: Vec<u8> = Vec::new();
    let mut whole = true;
    for (age, content) in
        contents.split(|byte| *byte == 0xff).take(4).enumerate().collect::<Vec<_>>().into_iter().rev()
    {
        let content = put(&path, age, flags >> (2 * age) & 3, content);
        whole &= content.is_some();
        let content = content.unwrap_or_default();
        let is_cut = age > 0 && !content.is_empty() && !content.ends_with(b"\n");
        log.extend(content);
        // A record that was cut off is not continued in the next file.
        if is_cut {
            log.push(b'\n');
        }
    }
    in_pieces(&log, *seed);
    let since = (seed & 1 == 1).then(|| SINCE.parse::<Timestamp>().expect("a time"));
    let byte = *seed;
    let pattern = || (byte & 2 == 2).then(|| Box::new(move |line: &[u8]| line.contains(&byte)) as Matcher);
    // Lines as they are in the file; the default view of a record must only not panic.
    let wanted = |as_is| LineSelection { pattern: pattern(), range: TimeRange { since, until: None }, as_is };
    let mut read = History::new(&path, LogType::Text, wanted(false)).expect("a log");
    let shown = all(&mut read);
    let mut history = History::new(&path, LogType::Text, wanted(true)).expect("a log");
    let found = all(&mut history);
    let remarks = history.remarks();
    assert_eq!(read.remarks(), remarks);
    assert!(!whole || remarks.is_empty(), "a whole log is read: {remarks:?}");
    let (Ok(found), Ok(_)) = (found, shown) else { return };
    if !whole {
        return;
    }
    let mut in_range = since.is_none();
    let mut wanted: Vec<u8> = Vec::new();
    for line in lines(&log, contents) {
        if let Some(time) = time_of(line) {
            in_range = since.is_none_or(|since| since <= time);
        }
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        // (A pattern is looked for in what is read, too: of one byte that makes a difference for escapes only.)
        if in_range && (byte & 2 == 0 || text.contains(&byte)) {
            wanted.extend(line);
            if byte & 2 == 2 && !line.ends_with(b"\n") {
                wanted.push(b'\n');
            }
        }
    }
    if contents.split(|byte| *byte == 0xff).count() == 1 {
        assert!(found == wanted || byte & 2 == 2 && log.contains(&b'\\'), "{found:?} is not {wanted:?}");
    } else if byte & 3 == 0 {
        assert_eq!(found, log);
    }
}

/// In memory, where there is such a place.
fn room() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new("/tmp") }
}

/// Makes a file; what is in it, unless that is no log.
fn put(path: &Path, age: usize, how: u8, content: &[u8]) -> Option<Vec<u8>> {
    let (suffix, bytes, content) = match (age, how) {
        (0, _) => (String::new(), content.to_vec(), Some(content.to_vec())),
        (_, 0 | 1) => (format!(".{age}"), content.to_vec(), Some(content.to_vec())),
        (_, 2) => {
            let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
            packed.write_all(content).expect("memory");
            (format!(".{age}.gz"), packed.finish().expect("memory"), Some(content.to_vec()))
        }
        _ => {
            let mut unpacked = Vec::new();
            let read = MultiGzDecoder::new(content).take(UNPACKED_MAX).read_to_end(&mut unpacked);
            let whole = read.is_ok_and(|count| count as u64 != UNPACKED_MAX);
            (format!(".{age}.gz"), content.to_vec(), whole.then_some(unpacked))
        }
    };
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    let file = File::create(&name).expect("a file");
    (&file).write_all(&bytes).expect("room");
    file.set_modified(SystemTime::now() - Duration::from_secs(60 * age as u64)).expect("a time");
    debug_assert!(fs::metadata(name).is_ok());
    content
}

fn all(history: &mut History) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(piece) = history.read_appended()? {
        assert!(piece.len() <= PIECE_MAX, "{}", piece.len());
        all.extend(piece);
        if all.len() as u64 > UNPACKED_MAX {
            return Err(std::io::Error::other("enough"));
        }
    }
    Ok(all)
}

/// Lines as they are looked at.
fn lines<'l>(log: &'l [u8], _: &[u8]) -> impl Iterator<Item = &'l [u8]> {
    log.split_inclusive(|byte| *byte == b'\n').flat_map(|line| line.chunks(LINE_MAX))
}

fn time_of(line: &[u8]) -> Option<Timestamp> {
    let word = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    std::str::from_utf8(word).ok().filter(|word| word.len() <= 40)?.parse().ok()
}

/// The result does not depend on how the log is split, and contains no line from before the given time.
fn in_pieces(log: &[u8], seed: u8) {
    let since: Timestamp = SINCE.parse().expect("a time");
    let range = TimeRange { since: Some(since), until: None };
    let lines = || Lines::new(LogType::Text, LineSelection { range, ..LineSelection::default() });
    let mut whole = lines();
    let mut shown = whole.pass(log.to_vec());
    shown.extend(whole.end());
    let mut cut = lines();
    let mut pieces: Vec<u8> = Pieces::of(log, seed).flat_map(|piece| cut.pass(piece.to_vec())).collect();
    pieces.extend(cut.end());
    assert_eq!(pieces, shown);
    for line in shown.split_inclusive(|byte| *byte == b'\n') {
        assert!(time_of(line).is_none_or(|time| since <= time), "{:?}", line.escape_ascii().to_string());
    }
}
