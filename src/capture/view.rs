//! Selects lines of a log and formats them. Pure.
//!
//! A line of a text log is a record: its time, a mark and the text that [`escape`] has made printable. It is shown as a
//! users read it, without the control sequences that are meant for a terminal; the file keeps all bytes. Input of
//! users (`>`) and notes (`#`) are shown unchanged: there a control character identifies a key.

use std::borrow::Cow;

use jiff::Timestamp;

use crate::config::LogType;
use crate::printable::{clean, escape, unescape};

/// Bytes of a line that are processed together: a raw log need not have any line end. A record is shorter: its text has
/// at most 4096 bytes, of which escapes make four times as many.
pub(super) const LINE_MAX: usize = 32 * 1024;

/// Whether a line, without its end, matches.
pub type Matcher = Box<dyn Fn(&[u8]) -> bool + Send>;

/// A range of times. A line without a time of its own has that of the line before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeRange {
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

impl TimeRange {
    /// Whether every time is wanted.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    fn contains(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= time) && self.until.is_none_or(|until| time <= until)
    }
}

/// Which lines are selected, and how they are shown.
#[derive(Default)]
pub struct LineSelection {
    /// Lines for which this is true, as users read them.
    pub pattern: Option<Matcher>,
    /// Lines of these times.
    pub range: TimeRange,
    /// Unchanged, as in the file.
    pub as_is: bool,
}

/// Formats the lines of one log.
pub(super) struct View {
    wanted: LineSelection,
    kind: LogType,
    /// Whether the previous line was in the range of times.
    in_range: bool,
}

impl View {
    pub(super) fn new(kind: LogType, wanted: LineSelection) -> Self {
        let in_range = wanted.range.is_all();
        Self { wanted, kind, in_range }
    }

    /// Whether a line may begin in one file of the log and continue in the next.
    pub(super) fn is_raw(&self) -> bool {
        self.kind == LogType::Raw
    }

    /// Whether the bytes of the file are shown unchanged.
    fn shows_all(&self) -> bool {
        let LineSelection { pattern, range, as_is } = &self.wanted;
        pattern.is_none() && range.is_all() && (*as_is || self.kind != LogType::Text)
    }

    /// Appends what is shown of a line that ends with LF, possibly nothing.
    pub(super) fn show(&mut self, line: &[u8], out: &mut Vec<u8>) {
        match self.wanted.pattern {
            Some(_) => lines_within(line, self.kind).for_each(|line| self.show_line(line, out)),
            None => self.show_line(line, out),
        }
    }

    fn show_line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        if !self.wanted.range.is_all()
            && let Some(time) = time_of(line)
        {
            self.in_range = self.wanted.range.contains(time);
        }
        if !self.in_range {
            return;
        }
        let (text, end) = split_end(line);
        let read = match self.kind {
            LogType::Text => clean_record(text),
            LogType::Raw => Some(Cow::Owned(clean(text))),
            // Rows contain no sequences.
            _ => Some(Cow::Borrowed(text)),
        };
        if let Some(matches) = &self.wanted.pattern {
            let found = read.as_deref().is_some_and(matches) || self.wanted.as_is && matches(text);
            if !found {
                return;
            }
        }
        match (self.wanted.as_is || self.kind != LogType::Text, read) {
            (true, _) => out.extend_from_slice(line),
            (false, Some(read)) => {
                out.extend_from_slice(&read);
                out.extend_from_slice(end);
            }
            (false, None) => return,
        }
        if self.wanted.pattern.is_some() && end.is_empty() {
            out.push(b'\n');
        }
    }
}

/// Formats a log that comes in chunks.
pub struct Lines {
    view: View,
    line: Vec<u8>,
}

impl Lines {
    /// Creates a view of a log of this type.
    pub fn new(kind: LogType, wanted: LineSelection) -> Self {
        Self { view: View::new(kind, wanted), line: Vec::new() }
    }

    /// Returns the visible part of a chunk, and of the line that it ends.
    pub fn pass(&mut self, piece: Vec<u8>) -> Vec<u8> {
        if self.view.shows_all() {
            return piece;
        }
        let mut shown = Vec::with_capacity(piece.len());
        for part in piece.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") || self.line.len() >= LINE_MAX {
                self.view.show(&self.line, &mut shown);
                self.line.clear();
            }
        }
        shown
    }

    /// Returns the visible part of an unfinished line at the end.
    pub fn end(&mut self) -> Vec<u8> {
        let mut shown = Vec::new();
        let line = std::mem::take(&mut self.line);
        if !line.is_empty() {
            self.view.show(&line, &mut shown);
        }
        shown
    }
}

/// Splits a line of the file, which ends with LF, into lines of the device: one that ends lines with CR prints several.
pub(super) fn lines_within(line: &[u8], kind: LogType) -> impl Iterator<Item = &[u8]> {
    let mut rest = line;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let ends =
            |at: usize| rest[at] == b'\r' && !matches!(rest.get(at + 1), None | Some(b'\r' | b'\n' | 0));
        let end = (0..rest.len()).find(|at| kind == LogType::Raw && ends(*at));
        let (first, after) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
        rest = after;
        Some(first)
    })
}

fn split_end(line: &[u8]) -> (&[u8], &[u8]) {
    match line.strip_suffix(b"\n") {
        Some(text) => {
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            line.split_at(text.len())
        }
        None => (line, b""),
    }
}

/// A line of a text log as users read it; `None` if it has no text, such as a record that only sets the terminal's
/// modes. A line that is not a record is unchanged.
pub(super) fn clean_record(record: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(text) = text_of(record) else { return Some(Cow::Borrowed(record)) };
    if !record[text..].contains(&b'\\') {
        return Some(Cow::Borrowed(record));
    }
    let cleaned = clean(&unescape(&record[text..]));
    if cleaned.is_empty() {
        return None;
    }
    let mut shown = record[..text].to_vec();
    escape(&cleaned, &mut shown);
    Some(Cow::Owned(shown))
}

/// Where the text of a record of output begins.
fn text_of(record: &[u8]) -> Option<usize> {
    let end = record.iter().position(|&byte| byte == b' ')?;
    time_of(record)?;
    matches!(record.get(end + 1..end + 3)?, b"< " | b"<+").then_some(end + 3)
}

pub(super) fn time_of(line: &[u8]) -> Option<Timestamp> {
    let word = line.split(|&byte| byte == b' ').next()?;
    // Shorter than any time, or not a time: most lines of a raw log need not be parsed.
    if !word.first()?.is_ascii_digit() || word.len() > 40 {
        return None;
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: LogType, wanted: LineSelection, log: &str, size: usize) -> String {
        let mut lines = Lines::new(kind, wanted);
        let mut shown: Vec<u8> =
            log.as_bytes().chunks(size).flat_map(|piece| lines.pass(piece.to_vec())).collect();
        shown.extend(lines.end());
        String::from_utf8(shown).unwrap()
    }

    fn at(text: &str) -> Option<Timestamp> {
        Some(text.parse().unwrap())
    }

    const LOG: &str = r"2026-11-24T02:00:00.000+00:00 < \x1b[?2004l
2026-11-24T02:00:01.000+00:00 < [\x1b[0;32m  OK  \x1b[0m] caf\xe9 C:\\temp\x1b[K
2026-11-24T02:00:02.000+00:00 <+ro\x08\x08root\r
2026-11-24T02:00:03.000+00:00 < 
2026-11-24T02:00:04.000+00:00 > \x1b[A\r
2026-11-24T02:00:05.000+00:00 # bob (local) \x1b[1m
torn \x1b[1m half
2026-11-24T02:00:06.000+00:00 < lo";

    #[test]
    fn a_text_log_is_shown_as_users_read_it() {
        let clean = r"2026-11-24T02:00:01.000+00:00 < [  OK  ] caf\xe9 C:\\temp
2026-11-24T02:00:02.000+00:00 <+root
2026-11-24T02:00:03.000+00:00 < 
2026-11-24T02:00:04.000+00:00 > \x1b[A\r
2026-11-24T02:00:05.000+00:00 # bob (local) \x1b[1m
torn \x1b[1m half
2026-11-24T02:00:06.000+00:00 < lo";
        for size in [1, 7, LOG.len()] {
            assert_eq!(
                shown(LogType::Text, LineSelection::default(), LOG, size),
                clean,
                "in pieces of {size}"
            );
            let as_is = LineSelection { as_is: true, ..LineSelection::default() };
            assert_eq!(shown(LogType::Text, as_is, LOG, size), LOG);
            assert_eq!(
                shown(LogType::Raw, LineSelection::default(), LOG, size),
                LOG,
                "the bytes as they came"
            );
            assert_eq!(shown(LogType::Both, LineSelection::default(), LOG, size), LOG);
        }
    }

    #[test]
    fn a_pattern_is_matched_against_the_text_that_users_read() {
        let found = |kind, words: &'static str, as_is, log: &str| {
            let pattern: Matcher = Box::new(move |line| String::from_utf8_lossy(line).contains(words));
            shown(kind, LineSelection { pattern: Some(pattern), as_is, ..LineSelection::default() }, log, 5)
        };
        assert!(found(LogType::Text, "[  OK  ]", false, LOG).ends_with("< [  OK  ] caf\\xe9 C:\\\\temp\n"));
        assert!(found(LogType::Text, "[  OK  ]", true, LOG).contains(r"[\x1b[0;32m  OK  "), "as it is");
        assert_eq!(found(LogType::Text, r"\x1b[0;32m", false, LOG), "");
        assert!(found(LogType::Text, r"\x1b[0;32m", true, LOG).contains("  OK  "));
        let raw = "\x1b[1mKernel\x1b[0m panic\r\nquiet\r\n";
        assert_eq!(
            found(LogType::Raw, "Kernel panic", false, raw),
            "\x1b[1mKernel\x1b[0m panic\r\n",
            "its bytes"
        );
    }

    #[test]
    fn the_bytes_of_a_device_that_ends_its_lines_with_cr_are_searched_line_by_line() {
        let pattern: Matcher = Box::new(|line| line.windows(4).any(|part| part == b"anic"));
        let raw = "quiet\rKernel panic\rquiet\r\r\nPanic\n\rquiet";
        let wanted = LineSelection { pattern: Some(pattern), ..LineSelection::default() };
        assert_eq!(shown(LogType::Raw, wanted, raw, 5), "Kernel panic\r\nPanic\n");
    }

    #[test]
    fn each_line_is_selected_by_its_own_time_however_the_clock_jumped() {
        let log = "torn < x\n2026-11-24T02:00:00Z < a\n2026-11-24T03:00:00Z < b\nno time\n1970-01-01T00:00:09Z < c\n\
                   2026-11-24T03:10:00Z < d\n2026-11-24T04:00:00Z < e\n";
        for (since, until, wanted) in [
            (at("2026-11-24T02:30:00Z"), None, "b no d e"),
            (None, at("2026-11-24T03:05:00Z"), "a b no c"),
            (at("2026-11-24T03:00:00Z"), at("2026-11-24T03:10:00Z"), "b no d"),
            (at("2026-11-24T05:00:00Z"), None, ""),
            (None, None, "x a b no c d e"),
        ] {
            for size in [1, 7, log.len()] {
                let range = TimeRange { since, until };
                let shown =
                    shown(LogType::Text, LineSelection { range, ..LineSelection::default() }, log, size);
                let words: Vec<&str> = shown
                    .lines()
                    .map(|line| if line.starts_with("no") { "no" } else { line.rsplit(' ').next().unwrap() })
                    .collect();
                assert_eq!(words.join(" "), wanted, "{since:?} to {until:?}");
            }
        }
    }
}
