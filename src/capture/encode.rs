//! Bytes into records. The encoder is handed everything that is not yet logged and says how much of it became
//! records; what it leaves (the beginning of a line, or a CR whose LF is still to come) is handed in again with what
//! follows. So its only state is how the last record left its line.
//!
//! ```text
//! 2026-11-22T21:15:51.123+01:00 < login: ro         the device said this and has paused
//! 2026-11-22T21:15:53.001+01:00 <+ot                and this belongs to the line above
//! 2026-11-22T21:15:59.500+01:00 # ttyUSB0 unplugged a note of ours
//! 2026-11-22T21:15:59.700+01:00 > show version      what somebody typed, if `input` is on
//! ```

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::hex;
use super::text::escape;
use crate::config::LogType;

/// Bytes of a line after which a record is written without waiting for the line's end.
pub const LONGEST_RECORD: usize = 4096;

/// Bytes of records after which `encode` stops, so that a backlog full of escapes does not become a buffer of many
/// times its size. The caller writes them and calls again.
const BATCH: usize = 32 * 1024;

/// The two times that a batch of bytes has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When the first byte handed in arrived.
    pub pending_since: Timestamp,
    /// When the last ones did.
    pub now: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Nothing,
    Raw,
    Text,
    /// Rows of bytes, with what they look like or without.
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
    /// Unfinished: the next record goes on with it.
    Unfinished,
    /// Unfinished, with a CR behind it that was not taken. If an LF follows, that was the line's end, and all of it is
    /// in the log already.
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

    /// From now on times are written in this zone.
    pub fn set_zone(&mut self, zone: TimeZone) {
        self.stamp = Stamp { zone, millisecond: None, text: Vec::new() };
    }

    /// Appends the records of `pending` to `out` and returns how many of its bytes they hold. Complete lines always
    /// become records, a line's beginning only with `flush` or once it is [`LONGEST_RECORD`] long, and a CR at the very
    /// end never. `out` is kept near 32 KiB: a caller with a long backlog calls until this returns 0.
    pub fn encode(&mut self, pending: &[u8], times: Times, flush: bool, out: &mut Vec<u8>) -> usize {
        match self.format {
            Format::Nothing => pending.len(),
            Format::Raw => {
                let batch = &pending[..pending.len().min(BATCH)];
                out.extend_from_slice(batch);
                batch.len()
            }
            Format::Text => self.encode_text(pending, times, flush, out),
            Format::Rows { looks } => self.encode_rows(looks, pending, times, flush, out),
        }
    }

    /// How many bytes a flush leaves.
    pub fn held_back(&self, pending: &[u8]) -> usize {
        usize::from(self.format == Format::Text && pending.ends_with(b"\r"))
    }

    /// Appends a note of ours. The raw log has none: it is the device's bytes and nothing else.
    pub fn note(&mut self, text: &str, now: Timestamp, out: &mut Vec<u8>) {
        if !matches!(self.format, Format::Raw | Format::Nothing) {
            self.record(b"# ", text.as_bytes(), now, out);
        }
    }

    /// Appends what somebody has typed, likewise.
    pub fn typed(&mut self, bytes: &[u8], now: Timestamp, out: &mut Vec<u8>) {
        match self.format {
            Format::Raw | Format::Nothing => {}
            Format::Text => self.record(b"> ", bytes, now, out),
            Format::Rows { looks } => {
                for bytes in bytes.chunks(hex::ROW) {
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
        while out.len() < BATCH {
            let rest = &pending[consumed..];
            let length = match rest.len() {
                hex::ROW.. => hex::ROW,
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
        if self.left == Left::AtCr && pending.starts_with(b"\r\n") {
            consumed = b"\r\n".len();
            self.left = Left::Ended;
        }
        let mut at = times.pending_since;
        while out.len() < BATCH
            && let Some(piece) = Piece::first(&pending[consumed..], flush)
        {
            let mark = if self.left == Left::Ended { b"< " } else { b"<+" };
            self.record(mark, piece.text, at, out);
            consumed += piece.length;
            self.left = match pending.get(consumed) {
                _ if piece.ends_line => Left::Ended,
                Some(b'\r') => Left::AtCr,
                _ => Left::Unfinished,
            };
            at = times.now;
        }
        consumed
    }

    fn record(&mut self, mark: &[u8; 2], text: &[u8], at: Timestamp, out: &mut Vec<u8>) {
        out.extend_from_slice(self.stamp.of(at));
        out.push(b' ');
        out.extend_from_slice(mark);
        escape(text, out);
        out.push(b'\n');
    }
}

/// What becomes one record.
struct Piece<'a> {
    text: &'a [u8],
    /// Bytes consumed: the text and the line's end, if that is there.
    length: usize,
    ends_line: bool,
}

impl<'a> Piece<'a> {
    fn first(pending: &'a [u8], flush: bool) -> Option<Self> {
        let window = &pending[..pending.len().min(LONGEST_RECORD + b"\r\n".len())];
        if let Some(end) = window.iter().position(|&byte| byte == b'\n') {
            let line = &window[..end];
            return Some(Self {
                text: line.strip_suffix(b"\r").unwrap_or(line),
                length: end + 1,
                ends_line: true,
            });
        }
        let length = match pending.len() {
            LONGEST_RECORD.. => cut(&pending[..LONGEST_RECORD]),
            length if flush => length - usize::from(pending.ends_with(b"\r")),
            _ => 0,
        };
        if length == 0 {
            return None;
        }
        Some(Self { text: &pending[..length], length, ends_line: false })
    }
}

/// Where a long line may be cut: not inside a UTF-8 sequence, and not after a CR, because an LF may follow it.
fn cut(line: &[u8]) -> usize {
    let mut end = line.len();
    for back in 1..=3 {
        let width = match line[end - back] {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        if width > back {
            end -= back;
        }
        break;
    }
    if line[end - 1] == b'\r' { end - 1 } else { end }
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
    fn a_boot_reads_as_people_expect_it() {
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
    fn a_line_without_an_end_is_written_in_pieces_that_split_no_character() {
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

    #[test]
    fn a_carriage_return_at_the_cut_still_belongs_to_its_line_end() {
        let mut line = vec![b'x'; LONGEST_RECORD - 1];
        line.push(b'\r');
        let mut encoder = text_encoder();
        let mut out = Vec::new();
        assert_eq!(encoder.encode(&line, at("2026-11-22T20:00:00Z"), false, &mut out), LONGEST_RECORD - 1);
        out.clear();
        assert_eq!(encoder.encode(b"\r\nnext\r\n", at("2026-11-22T20:00:00Z"), false, &mut out), 8);
        assert_eq!(out, b"2026-11-22T21:00:00.000+01:00 < next\n");
    }

    #[test]
    fn a_flush_between_carriage_return_and_line_feed_is_not_seen() {
        let now = at("2026-11-22T20:00:00Z");
        let mut encoder = text_encoder();
        let mut out = Vec::new();
        assert_eq!(encoder.encode(b"one\r", now, true, &mut out), 3);
        assert_eq!(encoder.encode(b"\r", now, true, &mut out), 0);
        assert_eq!(encoder.encode(b"\r\ntwo\r", now, true, &mut out), 5);
        // A bare one is the device's own, and stays.
        assert_eq!(encoder.encode(b"\rthree\n", now, true, &mut out), 7);
        assert_eq!(encoder.encode(b"\r", now, true, &mut out), 0);
        assert_eq!(encoder.encode(b"\r\n", now, true, &mut out), 2);
        let records = String::from_utf8(out).unwrap();
        let records: Vec<_> = records.lines().map(|record| &record[30..]).collect();
        assert_eq!(records, ["< one", "< two", r"<+\rthree", "< "]);
    }

    #[test]
    fn a_backlog_becomes_records_in_bounded_batches() {
        let backlog = vec![b'\n'; 256 * 1024];
        let mut encoder = text_encoder();
        let (mut consumed, mut out) = (0, Vec::new());
        while consumed < backlog.len() {
            out.clear();
            consumed += encoder.encode(&backlog[consumed..], at("2026-11-22T20:00:00Z"), false, &mut out);
            assert!(out.len() <= BATCH + 8 * LONGEST_RECORD, "{}", out.len());
        }
        assert_eq!(encoder.left, Left::Ended);
    }

    #[test]
    fn rows_are_whole_until_a_flush_and_typing_has_its_own() {
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
