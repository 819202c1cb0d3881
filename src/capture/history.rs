//! All files of a log: the rotated ones (`console.log.1`, `console.log.2.gz`, `console.log-20261124`), oldest first, and
//! the file itself. Read by lines, in chunks, so that a client can leave in between. Blocking, as the files are.
//!
//! The order is that of the names, and lines are selected by the time that each carries. The times of
//! the files are ignored: a machine without a battery for its clock writes wrong ones. A
//! file that cannot be read, or not to its end, is named in [`History::remarks`], and the others are read.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use flate2::read::MultiGzDecoder;

use super::tail::{self, Tail};
use super::view::{LINE_MAX, LineSelection, View, time_of};
use crate::config::LogType;

/// Bytes returned at a time, about.
const READ_CHUNK: usize = 16 * 1024;
/// Bytes read at a time, about: a part of a second of a slow card.
const SEARCH_CHUNK: usize = 4 * 1024 * 1024;
/// Time for that: a pattern may be costly, and other readers wait.
const YIELD_INTERVAL: Duration = Duration::from_millis(100);

/// Programs that compress files for logrotate(8) (`compresscmd`) beside gzip: file extension, name, and the command that decompresses.
const COMPRESSIONS: [(&str, &str, &str); 6] = [
    (".xz", "xz", "unxz"),
    (".zst", "zstd", "unzstd"),
    (".bz2", "bzip2", "bunzip2"),
    (".lz4", "lz4", "unlz4"),
    (".lzma", "lzma", "unlzma"),
    (".Z", "compress", "uncompress"),
];

/// A position in all files of a log.
pub struct History {
    path: PathBuf,
    view: View,
    /// Files still to be read, in reverse.
    files: Vec<Found>,
    source: Option<(String, Source)>,
    /// The file itself, and the position up to which it was read.
    end: Option<(File, u64)>,
    remarks: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Found {
    path: PathBuf,
    name: String,
    pub(super) packing: Packing,
    /// Its place in the rotation, if it was rotated.
    turn: Option<Turn>,
    changed: SystemTime,
    /// Device and inode: the name may be given to another file.
    id: (u64, u64),
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    /// Compressed in a format that is not supported here: the program's name, and the command that decompresses.
    Other(&'static str, &'static str),
}

/// Rank of a rotated file by its name: the oldest first. Of `.1`, `.2`, … the highest is the oldest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Number(std::cmp::Reverse<u64>),
    Date(String),
}

#[derive(Debug)]
pub(super) enum Source {
    Plain(BufReader<File>, u64),
    Packed(BufReader<MultiGzDecoder<File>>),
}

impl History {
    /// At the beginning of a log of this type.
    pub fn new(path: &Path, kind: LogType, wanted: LineSelection) -> io::Result<Self> {
        let mut files = rotated(path)?;
        if let Some(file) = tail::open(path)? {
            files.extend(Found::new(path.to_owned(), &file.metadata()?, Packing::None, None));
        }
        files.reverse();
        let view = View::new(kind, wanted);
        Ok(Self { path: path.to_owned(), view, files, source: None, end: None, remarks: Vec::new() })
    }

    /// The next selected lines; possibly none in this chunk. `None` at the end.
    pub fn read_appended(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut out = Vec::new();
        let mut line = Vec::new();
        let mut read = 0;
        let began = Instant::now();
        while out.len() < READ_CHUNK && read < SEARCH_CHUNK && began.elapsed() < YIELD_INTERVAL {
            if !self.next_line(&mut line)? {
                return Ok((!out.is_empty()).then_some(out));
            }
            read += line.len();
            self.view.show(&line, &mut out);
        }
        Ok(Some(out))
    }

    /// What could not be read, a sentence each; each is returned once.
    pub fn remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }

    fn next_line(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            line.clear();
            match &mut self.source {
                Some((name, source)) => match source.read_line(line) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.remarks.push(format!("only a part of {name} could be read: {error}"));
                        self.source = None;
                        if !line.is_empty() {
                            self.end_within(line);
                            return Ok(true);
                        }
                    }
                    Ok(0) => {
                        if let Some((_, Source::Plain(reader, position))) = self.source.take() {
                            self.end = Some((reader.into_inner(), position));
                        }
                    }
                    Ok(_) => {
                        self.end_within(line);
                        return Ok(true);
                    }
                },
                None => match self.files.pop() {
                    Some(found) => self.open(found)?,
                    None => return Ok(false),
                },
            }
        }
    }

    /// A record that was cut off at the end of a file by a power failure does not continue in the next one. The bytes of a raw log do.
    fn end_within(&self, line: &mut Vec<u8>) {
        let is_cut = !line.ends_with(b"\n") && line.len() < LINE_MAX;
        if is_cut && !self.files.is_empty() && !self.view.is_raw() {
            line.push(b'\n');
        }
    }

    /// Continues with a file. One that is not readable is skipped.
    fn open(&mut self, found: Found) -> io::Result<()> {
        let name = found.name.clone();
        if let Packing::Other(by, undo) = found.packing {
            self.remarks
                .push(format!("{name} is compressed by {by} and was skipped: decompress it with {undo}"));
            return Ok(());
        }
        let (is_log, id) = (found.turn.is_none(), found.id);
        match found.open() {
            Ok(Some(source)) => self.source = Some((name, source)),
            Ok(None) => {
                // The file was removed or replaced since it was listed: lines would be duplicated or missing.
                tracing::debug!("{name}: no longer {id:?}");
                return Err(io::Error::other("it is being rotated: try again"));
            }
            Err(error) if is_log => return Err(error),
            Err(error) => self.remarks.push(format!("{name} cannot be read: {error}")),
        }
        Ok(())
    }

    /// What is appended after the end.
    pub fn into_tail(self) -> Tail {
        Tail::at(self.path, self.end)
    }
}

impl Found {
    fn new(path: PathBuf, metadata: &fs::Metadata, packing: Packing, turn: Option<Turn>) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().into_owned();
        let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        Some(Self { path, name, packing, turn, changed, id: (metadata.dev(), metadata.ino()) })
    }

    /// `None`: the name now belongs to another file.
    pub(super) fn open(&self) -> io::Result<Option<Source>> {
        let Some(file) = tail::open(&self.path)? else { return Ok(None) };
        let metadata = file.metadata()?;
        if (metadata.dev(), metadata.ino()) != self.id {
            return Ok(None);
        }
        Ok(Some(match self.packing {
            Packing::Gzip => Source::Packed(BufReader::new(MultiGzDecoder::new(file))),
            _ => Source::Plain(BufReader::new(file), 0),
        }))
    }
}

impl Source {
    fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(reader, position) => {
                let count = reader.by_ref().take(LINE_MAX as u64).read_until(b'\n', line)?;
                *position += count as u64;
                Ok(count)
            }
            Self::Packed(reader) => reader.by_ref().take(LINE_MAX as u64).read_until(b'\n', line),
        }
    }
}

/// The readable files of a recording, rotated ones included, oldest first.
pub(super) fn paths(path: &Path) -> io::Result<Vec<PathBuf>> {
    let files = rotated(path)?.into_iter();
    let is_readable = |file: &Found| !matches!(file.packing, Packing::Other(..));
    let mut paths: Vec<_> = files.filter(is_readable).map(|file| file.path).collect();
    if path.symlink_metadata().is_ok_and(|found| found.is_file()) {
        paths.push(path.to_owned());
    }
    Ok(paths)
}

/// The rotated files of a log, oldest first, as logrotate(8) names them, by number or by date.
pub(super) fn rotated(path: &Path) -> io::Result<Vec<Found>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Ok(Vec::new());
    };
    let entries = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let other = entry.file_name();
        let Some((turn, packing)) =
            other.to_str().and_then(|other| other.strip_prefix(name)).and_then(turn_of)
        else {
            continue;
        };
        // (Does not follow links.)
        let metadata = match entry.metadata() {
            // Just rotated.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        if metadata.is_file() {
            files.extend(Found::new(entry.path(), &metadata, packing, Some(turn)));
        }
    }
    // While it is being compressed a file exists twice; the compressed one is not complete yet.
    let plain: Vec<_> =
        files.iter().filter(|file| file.packing == Packing::None).map(|file| file.turn.clone()).collect();
    files.retain(|file| file.packing == Packing::None || !plain.contains(&file.turn));
    files.sort_by(|one, other| one.turn.cmp(&other.turn));
    // If logrotate was configured to name them otherwise some day, those with the old names are older.
    let newest = |dated: bool| {
        let of_way = files.iter().filter(|file| matches!(file.turn, Some(Turn::Date(_))) == dated);
        of_way.map(|file| file.changed).max()
    };
    if let (Some(numbered), Some(dated)) = (newest(false), newest(true))
        && numbered > dated
    {
        let count = files.iter().filter(|file| matches!(file.turn, Some(Turn::Number(_)))).count();
        files.rotate_left(count);
    }
    Ok(files)
}

/// Parses the end of a rotated log's name: `.1`, `.2.gz`, `-20261124`, `-20261124.xz`.
fn turn_of(suffix: &str) -> Option<(Turn, Packing)> {
    let packed = COMPRESSIONS
        .iter()
        .find_map(|(end, by, undo)| Some((suffix.strip_suffix(end)?, Packing::Other(by, undo))));
    let gzip = || suffix.strip_suffix(".gz").map(|turn| (turn, Packing::Gzip));
    let (turn, packing) = packed.or_else(gzip).unwrap_or((suffix, Packing::None));
    let digits = turn.strip_prefix(['.', '-'])?;
    if !digits.starts_with(|c: char| c.is_ascii_digit())
        || !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
    {
        return None;
    }
    let number = digits.parse::<u64>().ok().filter(|_| turn.starts_with('.'));
    // A larger number is a date, such as 20261124.
    let turn = match number.filter(|number| *number < 100_000) {
        Some(number) => Turn::Number(std::cmp::Reverse(number)),
        None => Turn::Date(digits.to_owned()),
    };
    Some((turn, packing))
}

/// The logs in a directory, by their own names, including those of which only rotated files are left.
pub fn logs_in(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = std::collections::BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (Ok(name), true) = (entry.file_name().into_string(), entry.file_type()?.is_file()) else {
            continue;
        };
        let log =
            name.char_indices().find(|(at, c)| matches!(c, '.' | '-') && turn_of(&name[*at..]).is_some());
        names.insert(log.map_or(name.clone(), |(at, _)| name[..at].to_owned()));
    }
    Ok(names.into_iter().filter(|name| !name.is_empty()).collect())
}

/// The apparent type of the log at this path: [`LogType::Text`] (which also reads rows of numbers), if the first readable line
/// has a time.
pub fn guess_type(path: &Path) -> io::Result<LogType> {
    let mut history = History::new(path, LogType::Raw, LineSelection::default())?;
    let mut line = Vec::new();
    let timed = history.next_line(&mut line)? && time_of(&line).is_some();
    Ok(if timed { LogType::Text } else { LogType::Raw })
}

/// The newest rotated file, if it is not compressed: it precedes the first line of the log.
pub(super) fn before(path: &Path) -> io::Result<Option<File>> {
    match rotated(path)?.pop() {
        Some(newest) if newest.packing == Packing::None => tail::open(&newest.path),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use jiff::Timestamp;

    use super::super::view::{Matcher, TimeRange};
    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(text).unwrap();
        packed.finish().unwrap()
    }

    fn put(room: &Path, name: &str, bytes: &[u8]) {
        fs::write(room.join(name), bytes).unwrap();
        // On a machine whose clock starts at 1970, the times of files mean nothing.
        let file = File::options().write(true).open(room.join(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(9)).unwrap();
    }

    /// A log of five lines in four files.
    fn rotated_log(room: &Path) -> PathBuf {
        put(room, "console.log.10.gz", &packed(b"2026-11-24T01:00:00+00:00 < one panic\n"));
        // Cut off, without the end of its line.
        let text = b"2026-11-24T02:00:00+00:00 < two\n2026-11-24T03:00:00+00:00 < three panic";
        put(room, "console.log.1", text);
        put(room, "console.log", b"2026-11-24T04:00:00+00:00 < four\n2026-11-24T05:00:00+00:00 < five panic");
        put(room, "console.log.bak", b"none\n");
        put(room, "console.log2", b"none\n");
        room.join("console.log")
    }

    fn history(path: &Path, wanted: LineSelection) -> History {
        History::new(path, LogType::Text, wanted).unwrap()
    }

    fn all(history: &mut History) -> String {
        let mut all = Vec::new();
        while let Some(piece) = history.read_appended().unwrap() {
            all.extend(piece);
        }
        String::from_utf8(all).unwrap()
    }

    fn words(text: &str) -> Vec<&str> {
        text.lines().filter_map(|line| line.split(' ').nth(2)).collect()
    }

    fn since(time: &str) -> LineSelection {
        let since: Timestamp = time.parse().unwrap();
        LineSelection { range: TimeRange { since: Some(since), until: None }, ..LineSelection::default() }
    }

    #[test]
    fn rotated_files_come_first_and_appended_lines_last() {
        let room = tempfile::tempdir().unwrap();
        let path = rotated_log(room.path());
        let mut history = history(&path, LineSelection::default());
        assert_eq!(words(&all(&mut history)), ["one", "two", "three", "four", "five"]);
        let mut tail = history.into_tail();
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b" added\n").unwrap();
        assert_eq!(tail.read().unwrap(), b" added\n");
    }

    #[test]
    fn lines_are_selected_by_pattern_and_time() {
        let room = tempfile::tempdir().unwrap();
        let path = rotated_log(room.path());
        let panics = || Some(Box::new(|line: &[u8]| line.ends_with(b"panic")) as Matcher);
        let found = all(&mut history(&path, LineSelection { pattern: panics(), ..LineSelection::default() }));
        assert_eq!(words(&found), ["one", "three", "five"]);
        assert!(found.ends_with("panic\n"), "a line end of its own: {found:?}");
        let wanted = LineSelection { pattern: panics(), ..since("2026-11-24T03:00:00Z") };
        assert_eq!(words(&all(&mut history(&path, wanted))), ["three", "five"]);
    }

    #[test]
    fn the_order_is_that_of_the_names() {
        let room = tempfile::tempdir().unwrap();
        let line = |word: &str| format!("2026-11-24T01:00:00+00:00 < {word}\n").into_bytes();
        for (name, word) in [
            ("console.log-20261130", "third"),
            ("console.log-20261124.gz", "first"),
            ("console.log-20261124-1", "second"),
            ("console.log", "last"),
        ] {
            let bytes = if name.ends_with("gz") { packed(&line(word)) } else { line(word) };
            put(room.path(), name, &bytes);
        }
        let path = room.path().join("console.log");
        let in_order = || all(&mut history(&path, LineSelection::default()));
        assert_eq!(words(&in_order()), ["first", "second", "third", "last"]);
        // logrotate's `dateext` came later, or went.
        put(room.path(), "console.log.1", &line("numbered"));
        assert_eq!(words(&in_order()), ["numbered", "first", "second", "third", "last"]);
        let file = File::options().write(true).open(room.path().join("console.log.1")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(10)).unwrap();
        assert_eq!(words(&in_order()), ["first", "second", "third", "numbered", "last"]);
        // While gzip writes, a file is there twice.
        put(room.path(), "console.log.1.gz", &packed(&line("numbered"))[..15]);
        assert_eq!(words(&in_order()), ["first", "second", "third", "numbered", "last"]);
    }

    #[test]
    fn unreadable_files_are_named_and_the_rest_is_shown() {
        let room = tempfile::tempdir().unwrap();
        let path = rotated_log(room.path());
        put(room.path(), "console.log.5.xz", b"\xfd7zXZ\0");
        put(room.path(), "console.log-20261124.zst", b"\x28\xb5\x2f\xfd");
        put(room.path(), "console.log.4.gz", b"no gzip at all");
        let lines: String = (0..9999).map(|n| format!("2026-11-24T01:30:00+00:00 < line{n}\n")).collect();
        let whole = packed(lines.as_bytes());
        put(room.path(), "console.log.3.gz", &whole[..whole.len() / 2]);
        let mut history = history(&path, LineSelection::default());
        let shown = all(&mut history);
        let words = words(&shown);
        assert_eq!(words[0], "one");
        assert_eq!(words[1], "line0", "what is whole of the file that was cut");
        assert_eq!(words[words.len() - 4..], ["two", "three", "four", "five"]);
        let remarks = history.remarks();
        let said = |part: &str| remarks.iter().any(|remark| remark.contains(part));
        assert!(
            said("console.log.5.xz is compressed by xz and was skipped: decompress it with unxz"),
            "{remarks:?}"
        );
        assert!(
            said("console.log-20261124.zst is compressed by zstd and was skipped: decompress it with unzstd"),
            "{remarks:?}"
        );
        assert!(said("only a part of console.log.4.gz could be read: invalid gzip header"), "{remarks:?}");
        assert!(said("only a part of console.log.3.gz could be read: "), "{remarks:?}");
        assert_eq!(remarks.len(), 4);
        assert!(!remarks.iter().any(|remark| remark.contains(room.path().to_str().unwrap())), "names only");
        assert!(history.remarks().is_empty());
    }

    #[test]
    fn a_file_whose_times_go_back_is_searched_line_by_line() {
        let room = tempfile::tempdir().unwrap();
        let text =
            b"2026-11-24T01:00:00Z < early\n2026-11-24T05:00:00Z < wanted\n1970-01-01T00:00:09Z < boot\n";
        put(room.path(), "console.log.1", text);
        put(room.path(), "console.log", b"1970-01-01T00:01:00Z < later\n2026-11-24T06:00:00Z < last\n");
        let mut history = history(&room.path().join("console.log"), since("2026-11-24T04:00:00Z"));
        assert_eq!(words(&all(&mut history)), ["wanted", "last"]);
    }

    #[test]
    fn a_costly_pattern_yields_and_finds_all_lines() {
        let room = tempfile::tempdir().unwrap();
        let path = rotated_log(room.path());
        let costly = Some(Box::new(|_: &[u8]| {
            std::thread::sleep(YIELD_INTERVAL);
            true
        }) as Matcher);
        let mut history = history(&path, LineSelection { pattern: costly, ..LineSelection::default() });
        let first = String::from_utf8(history.read_appended().unwrap().unwrap()).unwrap();
        assert_eq!(words(&first), ["one"]);
        assert_eq!(words(&all(&mut history)), ["two", "three", "four", "five"]);
    }

    #[test]
    fn a_file_renamed_in_the_meantime_is_not_mistaken() {
        let room = tempfile::tempdir().unwrap();
        let path = rotated_log(room.path());
        let mut history = history(&path, LineSelection::default());
        fs::rename(room.path().join("console.log"), room.path().join("console.log.1")).unwrap();
        assert!(history.read_appended().unwrap_err().to_string().contains("being rotated"));
    }

    #[test]
    fn logs_of_a_directory_are_listed_without_rotation_suffixes() {
        let room = tempfile::tempdir().unwrap();
        rotated_log(room.path());
        put(room.path(), "rack7", b"");
        put(room.path(), "rack7.1", b"");
        put(room.path(), "gone.log-20261124.xz", b"");
        fs::create_dir(room.path().join("directory")).unwrap();
        let names = logs_in(room.path()).unwrap();
        assert_eq!(names, ["console.log", "console.log.bak", "console.log2", "gone.log", "rack7"]);
    }
}
