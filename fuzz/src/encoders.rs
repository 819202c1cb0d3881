//! A device's bytes, logged and read back. Input: the type of log, a seed, the device's output.

use consoleserver::capture::{Encoder, LONGEST_RECORD, Left, Times, is_hidden};
use consoleserver::config::LogType;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::pieces::{Chance, Pieces};

const KINDS: [LogType; 5] = [LogType::Text, LogType::Hex, LogType::Both, LogType::Raw, LogType::None];
/// Bytes of records after which the encoder pauses, and those of one more record, all of it escaped.
const BATCH_MAX: usize = 32 * 1024 + 5 * LONGEST_RECORD;
/// `2026-11-22T21:15:51.123+01:00`
const STAMP: usize = 29;

/// See the module.
pub fn run(data: &[u8]) {
    let Some(([kind, seed], said)) = data.split_first_chunk::<2>() else { return };
    let kind = KINDS[usize::from(*kind) % KINDS.len()];
    let (log, taken) = written(kind, *seed, said);
    let left = said.len() - taken;
    assert_eq!(left, 0, "bytes are left");
    let said = &said[..taken];
    match kind {
        LogType::None => assert!(log.is_empty()),
        LogType::Raw => assert_eq!(log, said),
        LogType::Hex | LogType::Both => assert_eq!(rows(&log, kind == LogType::Both), said),
        LogType::Text => assert_eq!(without_padding(lines(&log)), without_padding(lines_of(said))),
    }
}

/// The log of these bytes, as the log writer would write it: in pieces, with pauses, notes, and a new process now and then.
fn written(kind: LogType, seed: u8, said: &[u8]) -> (Vec<u8>, usize) {
    let zone = TimeZone::fixed(jiff::tz::offset(1));
    let mut encoder = Encoder::new(kind, zone.clone());
    let mut chance = Chance::new(seed.wrapping_add(1));
    let (mut log, mut taken, mut come) = (Vec::new(), 0, 0);
    let mut pending_since = Timestamp::UNIX_EPOCH;
    let pieces = Pieces::of(said, seed).map(<[u8]>::len).chain([0]);
    for length in pieces {
        let now = pending_since + SignedDuration::from_millis(chance.pick(50) as i64);
        come += length;
        let last = length == 0;
        let flush = last || chance.pick(3) == 0;
        let mut times = Times { pending_since, now };
        loop {
            let mut out = Vec::new();
            let pending = &said[taken..come];
            let count = encoder.encode(pending, times, flush, &mut out);
            times.pending_since = now;
            assert!(out.len() <= BATCH_MAX, "{}", out.len());
            log.extend(out);
            taken += count;
            if count == 0 {
                assert!(!flush || pending.is_empty(), "a flush leaves nothing");
                break;
            }
        }
        assert!(come - taken < LONGEST_RECORD, "a line without an end is written too");
        match chance.pick(8) {
            0 => encoder.note("a note\nof ours", now, &mut log),
            1 => encoder.typed(b"typed\r\x1b", now, &mut log),
            2 => {
                let left = encoder.left;
                encoder = Encoder::new(kind, zone.clone());
                encoder.left = left;
            }
            _ => {}
        }
        pending_since = now;
    }
    if kind == LogType::Text && encoder.left == Left::Unfinished {
        assert!(!matches!(said.last(), Some(b'\r' | b'\n')));
    }
    (log, taken)
}

/// The records of a log that are the device's: mark and text.
fn records(log: &[u8]) -> Vec<(&str, &str)> {
    let log = std::str::from_utf8(log).expect("text");
    assert!(log.is_empty() || log.ends_with('\n'));
    let mut before = Timestamp::UNIX_EPOCH;
    let mut records = Vec::new();
    for record in log.split_terminator('\n') {
        assert!(!record.contains(|c: char| c.is_control() && c != '\t' || is_hidden(c)), "{record:?}");
        assert!(record.len() <= STAMP + 3 + 4 * (LONGEST_RECORD + 2), "{}", record.len());
        let (stamp, rest) = record.split_at(STAMP);
        let time: Timestamp = stamp.parse().expect("a time");
        assert!(before <= time, "{before} before {time}");
        before = time;
        let (mark, text) = rest.split_at(3);
        match mark {
            " < " | " <+" => records.push((mark, text)),
            " # " => assert_eq!(text, r"a note\nof ours"),
            " > " => {}
            mark => panic!("{mark:?}"),
        }
    }
    records
}

/// The device's lines out of a log.
fn lines(log: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for (mark, text) in records(log) {
        match (mark, lines.last_mut()) {
            (" <+", Some(line)) => line.extend(unescaped(text)),
            (" <+", None) => panic!("a continuation at the beginning"),
            _ => lines.push(unescaped(text)),
        }
    }
    lines
}

/// The lines of the output, without their ends: LF, and CR with CRs, NULs and an LF behind it. A CR alone ends no empty line.
fn lines_of(said: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let (mut line, mut rest) = (Vec::new(), said);
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'\n' => lines.push(std::mem::take(&mut line)),
            b'\r' if line.is_empty() => {}
            b'\r' => {
                lines.push(std::mem::take(&mut line));
                let end = rest.iter().position(|byte| !matches!(byte, b'\r' | 0)).unwrap_or(rest.len());
                rest = &rest[end..];
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            _ => line.push(byte),
        }
    }
    lines.extend((!line.is_empty()).then_some(line));
    lines
}

/// Which NULs are a CR's padding depends on the pauses.
fn without_padding(mut lines: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    for line in &mut lines {
        line.retain(|byte| *byte != 0);
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// The bytes that a record stands for.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (first, after) = escaped.split_at(1);
        rest = after;
        match first {
            "\\" => bytes.push(b'\\'),
            "r" => bytes.push(b'\r'),
            "n" => bytes.push(b'\n'),
            "x" => {
                let (digits, after) = rest.split_at(2);
                bytes.push(u8::from_str_radix(digits, 16).expect("two digits"));
                rest = after;
            }
            "u" => {
                let (digits, after) = rest[1..].split_once('}').expect("braces");
                let character =
                    u32::from_str_radix(digits, 16).ok().and_then(char::from_u32).expect("a character");
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
            }
            other => panic!("\\{other} is not an escape"),
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// The device's bytes out of rows.
fn rows(log: &[u8], looks: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (mark, row) in records(log) {
        assert_eq!(mark, " < ");
        let numbers = match looks {
            true => &row[..row.find("  |").expect("what it looks like")],
            false => row,
        };
        let row = numbers.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("a byte"));
        bytes.extend(row);
    }
    bytes
}
