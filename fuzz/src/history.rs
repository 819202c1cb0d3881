//! A log read back with its rotated files. Input: what is wanted and which files are packed, a seed, then files from the
//! newest to the oldest with a 0xff between them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use consoleserver::capture::{History, Sieve, Wanted};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;

use super::pieces::Pieces;

/// Bytes of a line that are looked at together, and those that are handed out at once.
const LINE_MAX: usize = 16 * 1024;
const PIECE_MAX: usize = 2 * LINE_MAX + 1;
/// A packed file may be a thousand times its size; so much of it is looked at.
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
        log.extend(content.unwrap_or_default());
    }
    sieve(&log, *seed);
    let since = (seed & 1 == 1).then(|| SINCE.parse::<Timestamp>().expect("a time"));
    let byte = *seed;
    let pattern = || (byte & 2 == 2).then(|| Box::new(move |line: &[u8]| line.contains(&byte)) as _);
    let found = all(History::new(&path, Wanted { pattern: pattern(), since }).expect("a log"));
    let Ok(found) = found else {
        assert!(!whole, "a whole log is read");
        return;
    };
    if !whole {
        return;
    }
    let mut begun = since.is_none();
    let mut wanted: Vec<u8> = Vec::new();
    for line in lines(&log, contents) {
        begun |= in_time(line, since);
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if begun && (byte & 2 == 0 || text.contains(&byte)) {
            wanted.extend(line);
            if byte & 2 == 2 && !line.ends_with(b"\n") {
                wanted.push(b'\n');
            }
        }
    }
    // A file that does not end with its line is followed by the next one's, which begins a line.
    if contents.split(|byte| *byte == 0xff).count() == 1 {
        assert_eq!(found, wanted);
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

fn all(mut history: History) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(piece) = history.look_on()? {
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

fn in_time(line: &[u8], since: Option<Timestamp>) -> bool {
    let word = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    let time = std::str::from_utf8(word).ok().and_then(|word| word.parse::<Timestamp>().ok());
    since.is_none() || time >= since
}

/// The same however it is cut, and all from the first line in time on.
fn sieve(log: &[u8], seed: u8) {
    let since: Timestamp = SINCE.parse().expect("a time");
    let mut sieve = Sieve::since(since);
    let whole = sieve.pass(log);
    let mut sieve = Sieve::since(since);
    let pieces: Vec<u8> = Pieces::of(log, seed).flat_map(|piece| sieve.pass(piece)).collect();
    assert_eq!(pieces, whole);
    assert!(log.ends_with(&whole));
    if let Some(first) = whole.split_inclusive(|byte| *byte == b'\n').next() {
        assert!(in_time(first, Some(since)), "{:?}", first.escape_ascii().to_string());
    }
}
