//! All of a log that is still there: what was rotated (`console.log.1`, `console.log.2.gz`, `console.log-20261124`), oldest first, and
//! the file itself. Read by lines, in stretches, so that whoever asked can leave in between. Blocking, as the files are.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;

use super::tail::{self, Tail};

/// Bytes shown at once, about.
const PIECE: usize = 16 * 1024;
/// Bytes read at once, about: a part of a second of a slow card.
const STRETCH: usize = 4 * 1024 * 1024;
/// Time for that: a pattern may be costly, and others want to read too.
const TURN: Duration = Duration::from_millis(100);
/// Bytes of a line that are looked at together: a raw log need not have any line end.
pub(super) const LINE_MAX: u64 = 16 * 1024;

/// Whether a line, without its end, is one of those that are looked for.
pub type Matcher = Box<dyn Fn(&[u8]) -> bool + Send>;

/// Which lines are wanted.
pub struct Wanted {
    /// Those for which this is true.
    pub pattern: Option<Matcher>,
    /// Those from the first one on that was logged since then.
    pub since: Option<Timestamp>,
}

/// A place in all that is there of a log.
pub struct History {
    path: PathBuf,
    wanted: Wanted,
    /// What is still to be read, in reverse.
    files: Vec<Found>,
    source: Option<Source>,
    /// Whether what is wanted by its time has begun.
    begun: bool,
    /// Where the file itself was read to.
    end: Option<(File, u64)>,
}

/// A file of a log, as it was found.
#[derive(Debug)]
struct Found {
    path: PathBuf,
    changed: SystemTime,
    /// Device and inode: a name may become another file's.
    id: (u64, u64),
}

enum Source {
    Plain(BufReader<File>, u64),
    Packed(BufReader<MultiGzDecoder<File>>),
}

impl History {
    /// At the beginning.
    pub fn new(path: &Path, wanted: Wanted) -> io::Result<Self> {
        let mut files = rotated(path)?;
        if let Some(since) = wanted.since {
            files.retain(|file| file.changed >= SystemTime::from(since));
        }
        if let Some(file) = tail::open(path)? {
            files.push(Found::new(path.to_owned(), &file.metadata()?)?);
        }
        files.reverse();
        let begun = wanted.since.is_none();
        Ok(Self { path: path.to_owned(), wanted, files, source: None, begun, end: None })
    }

    /// The next lines that are wanted; there may be none in this stretch. `None` at the end.
    pub fn look_on(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut out = Vec::new();
        let mut line = Vec::new();
        let mut read = 0;
        let began = Instant::now();
        while out.len() < PIECE && read < STRETCH && began.elapsed() < TURN {
            if !self.next_line(&mut line)? {
                return Ok((!out.is_empty()).then_some(out));
            }
            read += line.len();
            self.begun = self.begun || time_of(&line) >= self.wanted.since;
            if self.begun && self.wants(&line) {
                out.extend_from_slice(&line);
                if self.wanted.pattern.is_some() && !line.ends_with(b"\n") {
                    out.push(b'\n');
                }
            }
        }
        Ok(Some(out))
    }

    fn wants(&self, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.wanted.pattern.as_ref().is_none_or(|matches| matches(line))
    }

    /// Whether there is one more line.
    fn next_line(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            line.clear();
            match &mut self.source {
                Some(source) => {
                    if source.read_line(line)? > 0 {
                        return Ok(true);
                    }
                    if let Some(Source::Plain(reader, position)) = self.source.take() {
                        self.end = Some((reader.into_inner(), position));
                    }
                }
                None => match self.files.pop() {
                    Some(found) => self.source = Some(found.open()?),
                    None => return Ok(false),
                },
            }
        }
    }

    /// What is added after the end.
    pub fn into_tail(self) -> Tail {
        Tail::at(self.path, self.end)
    }
}

impl Found {
    fn new(path: PathBuf, metadata: &fs::Metadata) -> io::Result<Self> {
        Ok(Self { path, changed: metadata.modified()?, id: (metadata.dev(), metadata.ino()) })
    }

    fn open(self) -> io::Result<Source> {
        let rotated = || io::Error::other("it is just being rotated: ask again");
        let file = tail::open(&self.path)?.ok_or_else(rotated)?;
        let metadata = file.metadata()?;
        if (metadata.dev(), metadata.ino()) != self.id {
            return Err(rotated());
        }
        Ok(match is_packed(&self.path) {
            true => Source::Packed(BufReader::new(MultiGzDecoder::new(file))),
            false => Source::Plain(BufReader::new(file), 0),
        })
    }
}

impl Source {
    fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(reader, position) => {
                let count = reader.by_ref().take(LINE_MAX).read_until(b'\n', line)?;
                *position += count as u64;
                Ok(count)
            }
            Self::Packed(reader) => reader.by_ref().take(LINE_MAX).read_until(b'\n', line),
        }
    }
}

fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

/// The rotated files of a log, oldest first, as logrotate(8) names them, by number or by date.
fn rotated(path: &Path) -> io::Result<Vec<Found>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Ok(Vec::new());
    };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let belongs =
            entry.file_name().to_str().and_then(|other| other.strip_prefix(name)).is_some_and(is_turn);
        // (Does not follow links.)
        let metadata = entry.metadata()?;
        if belongs && metadata.is_file() {
            files.push(Found::new(entry.path(), &metadata)?);
        }
    }
    files.sort_by_key(|file| file.changed);
    Ok(files)
}

/// Whether what follows a log's name says that it was rotated: `.1`, `.2.gz`, `-20261124`, `-20261124.gz`.
fn is_turn(suffix: &str) -> bool {
    let turn = suffix.strip_suffix(".gz").unwrap_or(suffix);
    let digits = turn.strip_prefix(['.', '-']).unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// The newest rotated file, if it is a plain one: what stood before the first line of the log.
pub(super) fn before(path: &Path) -> io::Result<Option<File>> {
    match rotated(path)?.pop() {
        Some(newest) if !is_packed(&newest.path) => tail::open(&newest.path),
        _ => Ok(None),
    }
}

/// When a line was logged.
fn time_of(line: &[u8]) -> Option<Timestamp> {
    let word = line.split(|&byte| byte == b' ').next()?;
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Lets lines pass from the first one on that was logged since a time.
#[derive(Debug)]
pub struct Sieve {
    since: Timestamp,
    begun: bool,
    /// The beginning of a line.
    line: Vec<u8>,
}

impl Sieve {
    /// From this time on.
    pub fn since(since: Timestamp) -> Self {
        Self { since, begun: false, line: Vec::new() }
    }

    /// What of a piece passes.
    pub fn pass(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut rest = piece;
        while !self.begun {
            let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
                // Its time stands at its beginning.
                let room = LINE_MAX as usize - self.line.len();
                self.line.extend_from_slice(&rest[..rest.len().min(room)]);
                return Vec::new();
            };
            self.line.extend_from_slice(&rest[..=end]);
            rest = &rest[end + 1..];
            self.begun = time_of(&self.line) >= Some(self.since);
            if !self.begun {
                self.line.clear();
            }
        }
        let mut passed = std::mem::take(&mut self.line);
        passed.extend_from_slice(rest);
        passed
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// A log of five lines in four files, of which the newest is two minutes younger than the one before it, and so on.
    fn rotated_log(room: &Path) -> PathBuf {
        let path = room.join("console.log");
        let now = SystemTime::now();
        let put = |name: &str, bytes: &[u8], minutes: u64| {
            let file = File::create(room.join(name)).unwrap();
            (&file).write_all(bytes).unwrap();
            file.set_modified(now - Duration::from_secs(60 * minutes)).unwrap();
        };
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(b"2026-11-24T01:00:00+00:00 < one panic\n").unwrap();
        put("console.log.2.gz", &packed.finish().unwrap(), 6);
        put(
            "console.log.1",
            b"2026-11-24T02:00:00+00:00 < two\n2026-11-24T03:00:00+00:00 < three panic\n",
            4,
        );
        put("console.log", b"2026-11-24T04:00:00+00:00 < four\n2026-11-24T05:00:00+00:00 < five panic", 0);
        put("console.log.bak", b"none\n", 0);
        put("console.log2", b"none\n", 0);
        path
    }

    fn all(history: &mut History) -> String {
        let mut all = Vec::new();
        while let Some(piece) = history.look_on().unwrap() {
            all.extend(piece);
        }
        String::from_utf8(all).unwrap()
    }

    fn words(text: &str) -> Vec<&str> {
        text.lines().filter_map(|line| line.split(' ').nth(2)).collect()
    }

    #[test]
    fn what_was_rotated_comes_first_and_what_is_added_last() {
        let room = tempfile::tempdir().unwrap();
        let path = rotated_log(room.path());
        let mut history = History::new(&path, Wanted { pattern: None, since: None }).unwrap();
        assert_eq!(words(&all(&mut history)), ["one", "two", "three", "four", "five"]);
        let mut tail = history.into_tail();
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b" added\n").unwrap();
        assert_eq!(tail.read().unwrap(), b" added\n");
    }

    #[test]
    fn lines_are_wanted_by_what_they_say_and_since_when() {
        let room = tempfile::tempdir().unwrap();
        let path = rotated_log(room.path());
        let panics = || Some(Box::new(|line: &[u8]| line.ends_with(b"panic")) as _);
        let mut history = History::new(&path, Wanted { pattern: panics(), since: None }).unwrap();
        let found = all(&mut history);
        assert_eq!(words(&found), ["one", "three", "five"]);
        assert!(found.ends_with("panic\n"), "a line end of its own: {found:?}");
        let since = "2026-11-24T03:00:00Z".parse().unwrap();
        // (The files are younger than what stands in them.)
        let mut history = History::new(&path, Wanted { pattern: panics(), since: Some(since) }).unwrap();
        assert_eq!(words(&all(&mut history)), ["three", "five"]);
        let since = Timestamp::now() - jiff::SignedDuration::from_mins(3);
        let history = History::new(&path, Wanted { pattern: None, since: Some(since) }).unwrap();
        assert_eq!(history.files.len(), 1, "older files are not even opened");
    }

    #[test]
    fn a_costly_pattern_leaves_others_their_turn_and_finds_all_the_same() {
        let room = tempfile::tempdir().unwrap();
        let path = rotated_log(room.path());
        let costly = Some(Box::new(|_: &[u8]| {
            std::thread::sleep(TURN);
            true
        }) as _);
        let mut history = History::new(&path, Wanted { pattern: costly, since: None }).unwrap();
        let first = String::from_utf8(history.look_on().unwrap().unwrap()).unwrap();
        assert_eq!(words(&first), ["one"]);
        assert_eq!(words(&all(&mut history)), ["two", "three", "four", "five"]);
    }

    #[test]
    fn a_file_that_took_another_name_meanwhile_is_not_taken_for_it() {
        let room = tempfile::tempdir().unwrap();
        let path = rotated_log(room.path());
        let mut history = History::new(&path, Wanted { pattern: None, since: None }).unwrap();
        fs::rename(room.path().join("console.log"), room.path().join("console.log.1")).unwrap();
        assert!(history.look_on().unwrap_err().to_string().contains("being rotated"));
    }

    #[test]
    fn a_sieve_opens_at_its_time_however_the_lines_are_cut() {
        let log =
            b"2026-11-24T02:00:00Z < a\n2026-11-24T03:00:00Z < b\nno time < c\n2026-11-24T01:00:00Z < d\n";
        for size in [1, 7, log.len()] {
            let mut sieve = Sieve::since("2026-11-24T02:30:00Z".parse().unwrap());
            let passed: Vec<u8> = log.chunks(size).flat_map(|piece| sieve.pass(piece)).collect();
            assert_eq!(passed, &log[25..], "in pieces of {size}");
        }
    }
}
