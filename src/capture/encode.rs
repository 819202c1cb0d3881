//! Converts bytes to records. The encoder is given everything that is not logged yet and returns how much of it became
//! records; what it leaves (the beginning of a line) is passed again with what follows. So its only state is how the
//! last record left its line.
//!
//! A line ends with LF, CR LF, CR CR LF, CR NUL LF, LF CR or CR alone, as Python's universal newlines (PEP 278) have it and
//! the triggers and the journal. So a device that ends its lines with CR has a record a line, and of a progress bar
//! (` 10%\r 20%\r`) each state is a record with its time: their bytes do not distinguish the two. picocom, screen, script
//! and conserver log the bytes, where a bar is one endless line; multitail and terminals keep its last state only, which
//! loses what it showed before a crash. A record of a redraw costs 33 bytes, as that of an LF does; a CR that ends no text
//! has none. NEL (U+0085) ends no line: in a console's bytes it is a part of a character or noise.
//!
//! ```text
//! 2026-11-22T21:15:51.123+01:00 < login: ro         output of the device, which has paused
//! 2026-11-22T21:15:53.001+01:00 <+ot                continues the line above
//! 2026-11-22T21:15:59.500+01:00 # ttyUSB0 unplugged a note of the port
//! 2026-11-22T21:15:59.700+01:00 > show version      input of a user, if `input` is on
//! ```

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::hex;
use super::text::escape;
use crate::config::LogType;
use crate::printable::incomplete_character;

/// Bytes of a line after which a record is written without waiting for the line's end.
pub const LONGEST_RECORD: usize = 4096;

/// Bytes of records after which `encode` stops, so that a backlog full of escapes does not become a buffer of many
/// times its size. The caller writes them and calls again.
const BATCH_BYTES: usize = 32 * 1024;

/// The two times of a batch of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When the first byte arrived.
    pub pending_since: Timestamp,
    /// When the last bytes arrived.
    pub now: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Nothing,
    Raw,
    Text,
    /// Rows of bytes, with or without their characters.
    Rows {
        looks: bool,
    },
}

/// How the last record left its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Left {
    /// Ended: the next record begins one.
    #[default]
    Ended,
    /// Unfinished: the next record continues it.
    Unfinished,
    /// Ended by a CR: CRs, NULs (RFC 854's padding) and an LF that follow belong to that end.
    AtCr,
}

/// Turns bytes into records of one [`LogType`].
#[derive(Debug)]
pub struct Encoder {
    format: Format,
    stamp: Stamp,
    /// How the last record left its line.
    pub left: Left,
}

impl Encoder {
    /// An encoder at the beginning of a line that writes times in this zone.
    pub fn new(kind: LogType, zone: TimeZone) -> Self {
        let format = match kind {
            LogType::None => Format::Nothing,
            LogType::Raw => Format::Raw,
            LogType::Text => Format::Text,
            LogType::Hex => Format::Rows { looks: false },
            LogType::Both => Format::Rows { looks: true },
        };
        Self { format, stamp: Stamp { zone, millisecond: None, text: Vec::new() }, left: Left::Ended }
    }

    pub fn set_zone(&mut self, zone: TimeZone) {
        self.stamp = Stamp { zone, millisecond: None, text: Vec::new() };
    }

    /// Appends the records of `pending` to `out` and returns how many of its bytes they hold. Complete lines always
    /// become records, a line's beginning only with `flush` or once it is [`LONGEST_RECORD`] long. A CR at the beginning of a line waits for what follows it, or for `flush`.
    /// `out` is kept near 32 KiB: a caller with a long backlog calls until this returns 0.
    pub fn encode(&mut self, pending: &[u8], times: Times, flush: bool, out: &mut Vec<u8>) -> usize {
        match self.format {
            Format::Nothing => pending.len(),
            Format::Raw => {
                let batch = &pending[..pending.len().min(BATCH_BYTES)];
                out.extend_from_slice(batch);
                batch.len()
            }
            Format::Text => self.encode_text(pending, times, flush, out),
            Format::Rows { looks } => self.encode_rows(looks, pending, times, flush, out),
        }
    }

    /// Appends a note. The raw log has none: it contains only output of the device.
    pub fn note(&mut self, text: &str, now: Timestamp, out: &mut Vec<u8>) {
        if !matches!(self.format, Format::Raw | Format::Nothing) {
            self.record(b"# ", text.as_bytes(), now, out);
        }
    }

    /// Appends input, likewise.
    pub fn typed(&mut self, bytes: &[u8], now: Timestamp, out: &mut Vec<u8>) {
        match self.format {
            Format::Raw | Format::Nothing => {}
            Format::Text => self.record(b"> ", bytes, now, out),
            Format::Rows { looks } => {
                for bytes in bytes.chunks(hex::ROW_BYTES) {
                    self.row(b"> ", bytes, looks, now, out);
                }
            }
        }
    }

    /// Whole rows, and with `flush` the rest in a shorter one.
    fn encode_rows(
        &mut self,
        looks: bool,
        pending: &[u8],
        times: Times,
        flush: bool,
        out: &mut Vec<u8>,
    ) -> usize {
        let mut consumed = 0;
        let mut at = times.pending_since;
        while out.len() < BATCH_BYTES {
            let rest = &pending[consumed..];
            let length = match rest.len() {
                hex::ROW_BYTES.. => hex::ROW_BYTES,
                length if flush => length,
                _ => 0,
            };
            if length == 0 {
                break;
            }
            self.row(b"< ", &rest[..length], looks, at, out);
            consumed += length;
            at = times.now;
        }
        consumed
    }

    fn row(&mut self, mark: &[u8; 2], bytes: &[u8], looks: bool, at: Timestamp, out: &mut Vec<u8>) {
        out.extend_from_slice(self.stamp.of(at));
        out.push(b' ');
        out.extend_from_slice(mark);
        hex::row(bytes, looks, out);
        out.push(b'\n');
    }

    fn encode_text(&mut self, pending: &[u8], times: Times, flush: bool, out: &mut Vec<u8>) -> usize {
        let mut consumed = 0;
        let mut at = times.pending_since;
        while out.len() < BATCH_BYTES {
            consumed += self.rest_of_line_end(&pending[consumed..]);
            let Some(RecordText { text, end }) = RecordText::first(&pending[consumed..], flush) else {
                break;
            };
            let goes_on = self.left == Left::Unfinished;
            if text.is_empty() && end == Some(b'\r') && !goes_on {
                // The first byte of CR LF, or padded as any CR: that depends on what follows.
                let behind = &pending[consumed + 1..];
                if behind.is_empty() && !flush {
                    break;
                }
                consumed += 1 + behind.iter().take_while(|byte| **byte == 0).count();
                continue;
            }
            // A line end without text needs no record.
            if !text.is_empty() || !goes_on {
                let mark = if goes_on { b"<+" } else { b"< " };
                self.record(mark, text, at, out);
                at = times.now;
            }
            consumed += text.len() + usize::from(end.is_some());
            self.left = match end {
                None => Left::Unfinished,
                Some(b'\r') => Left::AtCr,
                Some(_) => Left::Ended,
            };
        }
        consumed
    }

    /// Bytes of the end of the previous line, if that was a CR.
    fn rest_of_line_end(&mut self, pending: &[u8]) -> usize {
        if self.left != Left::AtCr {
            return 0;
        }
        let padding = pending.iter().take_while(|byte| matches!(byte, b'\r' | 0)).count();
        if pending.get(padding) == Some(&b'\n') {
            self.left = Left::Ended;
            return padding + 1;
        }
        padding
    }

    fn record(&mut self, mark: &[u8; 2], text: &[u8], at: Timestamp, out: &mut Vec<u8>) {
        out.extend_from_slice(self.stamp.of(at));
        out.push(b' ');
        out.extend_from_slice(mark);
        escape(text, out);
        out.push(b'\n');
    }
}

struct RecordText<'a> {
    text: &'a [u8],
    /// The CR or LF after the text.
    end: Option<u8>,
}

impl<'a> RecordText<'a> {
    fn first(pending: &'a [u8], flush: bool) -> Option<Self> {
        let window = &pending[..pending.len().min(LONGEST_RECORD + 1)];
        if let Some(end) = window.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            return Some(Self { text: &window[..end], end: Some(window[end]) });
        }
        let length = match pending.len() {
            // A long line is not cut inside a UTF-8 sequence.
            LONGEST_RECORD.. => LONGEST_RECORD - incomplete_character(&pending[..LONGEST_RECORD]),
            length if flush => length,
            _ => 0,
        };
        (length > 0).then(|| Self { text: &pending[..length], end: None })
    }
}

/// The time of a record as text, formatted once a millisecond.
#[derive(Debug)]
struct Stamp {
    zone: TimeZone,
    millisecond: Option<i64>,
    text: Vec<u8>,
}

impl Stamp {
    fn of(&mut self, time: Timestamp) -> &[u8] {
        if self.millisecond != Some(time.as_millisecond()) {
            let local = time.to_zoned(self.zone.clone());
            self.text = local.strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string().into_bytes();
            self.millisecond = Some(time.as_millisecond());
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_encoder() -> Encoder {
        Encoder::new(LogType::Text, TimeZone::fixed(jiff::tz::offset(1)))
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn at(text: &str) -> Times {
        Times { pending_since: time(text), now: time(text) }
    }

    #[test]
    fn a_boot_is_logged_line_by_line() {
        let mut encoder = text_encoder();
        let mut out = Vec::new();
        let boot = b"\r\nU-Boot 2026.04\r\n\x1b[1mBooting\x1b[0m\n\nlogin: ";
        let times =
            Times { pending_since: time("2026-11-22T20:15:51.1239Z"), now: time("2026-11-22T20:15:51.130Z") };
        assert_eq!(encoder.encode(boot, times, false, &mut out), boot.len() - 7);
        assert_eq!(encoder.encode(b"login: ", at("2026-11-22T20:15:52Z"), true, &mut out), 7);
        encoder.note("ttyUSB0 unplugged", time("2026-11-22T20:15:53Z"), &mut out);
        assert_eq!(encoder.encode(b"root\r\n", at("2026-11-22T20:15:54Z"), false, &mut out), 6);
        let expected = r"2026-11-22T21:15:51.123+01:00 < 
2026-11-22T21:15:51.130+01:00 < U-Boot 2026.04
2026-11-22T21:15:51.130+01:00 < \x1b[1mBooting\x1b[0m
2026-11-22T21:15:51.130+01:00 < 
2026-11-22T21:15:52.000+01:00 < login: 
2026-11-22T21:15:53.000+01:00 # ttyUSB0 unplugged
2026-11-22T21:15:54.000+01:00 <+root
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_note_cannot_forge_a_record() {
        let mut out = Vec::new();
        text_encoder().note("bye\n2026 < root", time("2026-11-22T20:15:53Z"), &mut out);
        assert_eq!(out, b"2026-11-22T21:15:53.000+01:00 # bye\\n2026 < root\n");
    }

    #[test]
    fn a_line_without_end_is_cut_between_characters() {
        for lead in 0..4 {
            let mut line = "x".repeat(lead);
            line.push_str(&"東".repeat(LONGEST_RECORD));
            let mut encoder = text_encoder();
            let mut out = Vec::new();
            let consumed = encoder.encode(line.as_bytes(), at("2026-11-22T20:00:00Z"), false, &mut out);
            assert!(line.len() - consumed < LONGEST_RECORD, "{consumed} of {}", line.len());
            let out = String::from_utf8(out).unwrap();
            assert!(!out.contains('\\'), "{out}");
            assert!(out.lines().all(|record| record.len() <= LONGEST_RECORD + 32));
            assert!(out.lines().skip(1).all(|record| record[30..].starts_with("<+")));
        }
    }

    /// Mark and text of each record.
    fn records(log: &[u8]) -> Vec<&str> {
        std::str::from_utf8(log).unwrap().lines().map(|record| &record[30..]).collect()
    }

    /// The records of these bytes, which arrive in these pieces, each followed by a silence.
    fn logged(pieces: &[&[u8]]) -> Vec<String> {
        let (mut encoder, mut out) = (text_encoder(), Vec::new());
        for piece in pieces {
            let consumed = encoder.encode(piece, at("2026-11-22T20:00:00Z"), true, &mut out);
            assert_eq!(consumed, piece.len(), "nothing is left of {piece:?}");
        }
        records(&out).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_may_end_where_the_longest_record_does() {
        let mut line = vec![b'x'; LONGEST_RECORD];
        line.extend(b"\r\nnext\r\n");
        for first in [LONGEST_RECORD - 1, LONGEST_RECORD, LONGEST_RECORD + 1, LONGEST_RECORD + 2] {
            let mut encoder = text_encoder();
            let (mut taken, mut out) = (0, Vec::new());
            for until in [first, line.len()] {
                taken += encoder.encode(&line[taken..until], at("2026-11-22T20:00:00Z"), false, &mut out);
            }
            assert_eq!(taken, line.len());
            let records = records(&out);
            assert!(records.len() == 2 && records[1] == "< next", "cut at {first}: {}", records.len());
        }
    }

    #[test]
    fn every_kind_of_line_end_ends_one_record() {
        for end in ["\n", "\r\n", "\r", "\n\r", "\r\r\n", "\r\0\n", "\r\r\r\n", "\r\0"] {
            let said = ["one", "two", "three"].map(|line| format!("{line}{end}")).concat();
            let wanted = ["< one", "< two", "< three"];
            assert_eq!(logged(&[said.as_bytes()]), wanted, "{end:?}");
            // However it comes, and with a silence between any two bytes.
            for at in 0..said.len() {
                let (first, second) = said.as_bytes().split_at(at);
                let joined = logged(&[first, second]).join("\n").replace("\n<+", "");
                assert_eq!(joined, wanted.join("\n"), "{end:?} at {at}");
            }
        }
        // An empty line counts only if its end is in the record.
        for end in ["\n", "\r\n", "\n\r", "\r\r\n", "\r\0\n"] {
            assert_eq!(
                logged(&[format!("one{end}{end}two{end}").as_bytes()]),
                ["< one", "< ", "< two"],
                "{end:?}"
            );
        }
        assert_eq!(logged(&["one\u{85}two\n".as_bytes()]), [r"< one\u{85}two"]);
        assert_eq!(logged(&[b"a\0b\n\0c\n"]), [r"< a\x00b", r"< \x00c"], "a NUL elsewhere is not padding");
    }

    #[test]
    fn each_state_of_a_progress_bar_is_a_record() {
        let bar = b"Loading\r\n\r  10%\r  20%\r\r\r 100%\r\ndone\r\n";
        assert_eq!(logged(&[bar]), ["< Loading", "<   10%", "<   20%", "<  100%", "< done"]);
        // One that pauses after each state is no longer for it.
        let states: Vec<&[u8]> = vec![b"  10%", b"\r  20%", b"\r  30%", b"\r\n"];
        assert_eq!(logged(&states), ["<   10%", "<   20%", "<   30%"]);
        // The worst that it can cost is what lines with LF cost.
        let spinner = b"|\r/\r-\r\\\r\r".repeat(100);
        let lines: Vec<u8> = spinner.iter().map(|byte| if *byte == b'\r' { b'\n' } else { *byte }).collect();
        assert!(logged(&[&spinner]).len() < logged(&[&lines]).len());
    }

    proptest::proptest! {
        /// Each byte that came is in the log, but for the ends of lines, however the bytes are cut and wherever a process ends.
        #[test]
        fn every_byte_is_accounted_for(
            said in proptest::collection::vec(
                proptest::prop_oneof![4 => proptest::sample::select(b"\r\n\0ab\x1b\xe2\x82\xac\\".to_vec()), 1 => proptest::num::u8::ANY],
                0..200,
            ),
            cuts in proptest::collection::vec((0usize..20, proptest::bool::ANY), 0..20),
        ) {
            let (mut encoder, mut log, mut taken, mut come) = (text_encoder(), Vec::new(), 0, 0);
            for (length, flush) in cuts.into_iter().chain([(said.len(), true)]) {
                come = said.len().min(come + length);
                let mut out = Vec::new();
                taken += encoder.encode(&said[taken..come], at("2026-11-22T20:00:00Z"), flush, &mut out);
                proptest::prop_assert!(!flush || taken == come);
                log.extend(out);
                let left = encoder.left;
                encoder = text_encoder();
                encoder.left = left;
            }
            let mut text = Vec::new();
            for record in records(&log) {
                escape_free(&record[2..], &mut text);
            }
            let ends_apart = |bytes: &[u8]| bytes.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n' | 0)).collect::<Vec<_>>();
            proptest::prop_assert_eq!(ends_apart(&text), ends_apart(&said));
            // NULs are left out behind a CR only.
            let mut after_cr = false;
            let kept = said.iter().filter(|byte| {
                after_cr = **byte == b'\r' || after_cr && **byte == 0;
                **byte == 0 && !after_cr
            });
            proptest::prop_assert!(text.iter().filter(|byte| **byte == 0).count() >= kept.count());
        }
    }

    fn escape_free(text: &str, out: &mut Vec<u8>) {
        out.extend(crate::printable::unescape(text.as_bytes()));
    }

    #[test]
    fn a_backlog_becomes_records_in_bounded_batches() {
        let backlog = vec![b'\n'; 256 * 1024];
        let mut encoder = text_encoder();
        let (mut consumed, mut out) = (0, Vec::new());
        while consumed < backlog.len() {
            out.clear();
            consumed += encoder.encode(&backlog[consumed..], at("2026-11-22T20:00:00Z"), false, &mut out);
            assert!(out.len() <= BATCH_BYTES + 8 * LONGEST_RECORD, "{}", out.len());
        }
        assert_eq!(encoder.left, Left::Ended);
    }

    #[test]
    fn rows_are_complete_until_a_flush_and_input_has_its_own() {
        let now = at("2026-11-22T20:00:00Z");
        let mut encoder = Encoder::new(LogType::Both, TimeZone::UTC);
        let mut out = Vec::new();
        assert_eq!(encoder.encode(b"0123456789abcdef01", now, false, &mut out), 16);
        assert_eq!(encoder.encode(b"01", now, true, &mut out), 2);
        encoder.typed(b"ls\r", now.now, &mut out);
        encoder.note("unplugged", now.now, &mut out);
        let records = String::from_utf8(out).unwrap();
        let records: Vec<_> = records.lines().map(|record| &record[30..]).collect();
        assert_eq!(
            records,
            [
                "< 30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|",
                "< 30 31                                             |01|",
                "> 6c 73 0d                                          |ls.|",
                "# unplugged",
            ]
        );
        let mut text = text_encoder();
        let mut out = Vec::new();
        text.typed(b"show\tversion\r", now.now, &mut out);
        assert_eq!(out, b"2026-11-22T21:00:00.000+01:00 > show\tversion\\r\n");
    }

    #[test]
    fn raw_is_the_bytes_and_none_is_nothing() {
        let bytes = b"\x00\xff\r\nhalf";
        let mut out = Vec::new();
        let mut raw = Encoder::new(LogType::Raw, TimeZone::UTC);
        assert_eq!(raw.encode(bytes, at("2026-11-22T20:00:00Z"), false, &mut out), bytes.len());
        raw.note("unplugged", time("2026-11-22T20:00:00Z"), &mut out);
        assert_eq!(out, bytes);
        let mut none = Encoder::new(LogType::None, TimeZone::UTC);
        assert_eq!(none.encode(bytes, at("2026-11-22T20:00:00Z"), false, &mut out), bytes.len());
        assert_eq!(out, bytes);
    }
}
