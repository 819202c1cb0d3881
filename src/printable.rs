//! Makes bytes printable. Pure.
//!
//! - [`escape`]: reversible ([`unescape`]), for the text log. Tab and printable UTF-8 are unchanged; the rest
//!   becomes `\\`, `\r`, `\n`, `\x1b` (a byte) or `\u{202e}` (a character).
//! - [`Visible`]: for a terminal, line by line: the same escapes, but a backslash is unchanged, so that escaped
//!   text is not escaped again. All output to a terminal that comes from a device, a file or a user passes
//!   through it, except the console of a session ([`crate::session`]), where the terminal is meant to obey the
//!   device.
//! - [`plain`]: a name or a sentence within a line; unprintable characters become question marks.
//! - [`clean`]: a line without terminal control sequences (ECMA-48), for matching.

use std::ops::RangeInclusive;

use anstyle_parse::{DefaultCharAccumulator, Params, Parser, Perform};

/// Bytes that are not escaped: tab and printable ASCII except the backslash.
const PLAIN_BYTES: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b' ';
    while byte < 0x7f {
        plain[byte as usize] = true;
        byte += 1;
    }
    plain[b'\t' as usize] = true;
    plain[b'\\' as usize] = false;
    plain
};

/// Characters outside ASCII that reorder, hide or break the text around them: C1 controls and those of
/// Unicode's general categories Cf, Zl and Zp (UnicodeData.txt 16.0), which are invisible themselves.
const INVISIBLE_CHARS: [RangeInclusive<char>; 21] = [
    '\u{80}'..='\u{9f}',
    '\u{ad}'..='\u{ad}',
    '\u{600}'..='\u{605}',
    '\u{61c}'..='\u{61c}',
    '\u{6dd}'..='\u{6dd}',
    '\u{70f}'..='\u{70f}',
    '\u{890}'..='\u{891}',
    '\u{8e2}'..='\u{8e2}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
    '\u{110bd}'..='\u{110bd}',
    '\u{110cd}'..='\u{110cd}',
    '\u{13430}'..='\u{1343f}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0001}'..='\u{e0001}',
    '\u{e0020}'..='\u{e007f}',
];

/// Whether a character is invisible but affects the text around it.
pub fn is_hidden(character: char) -> bool {
    INVISIBLE_CHARS.iter().any(|range| range.contains(&character))
}

/// Appends the escaped form of `bytes` to `out`.
pub fn escape(mut bytes: &[u8], out: &mut Vec<u8>) {
    while !bytes.is_empty() {
        bytes = plain_run(bytes, out);
        bytes = ascii_run(bytes, out);
        bytes = wide_run(bytes, out);
    }
}

fn split_while(bytes: &[u8], belongs: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|&byte| !belongs(byte)).unwrap_or(bytes.len());
    bytes.split_at(end)
}

fn plain_run<'a>(bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let (run, rest) = split_while(bytes, |byte| PLAIN_BYTES[byte as usize]);
    out.extend_from_slice(run);
    rest
}

fn ascii_run<'a>(bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let (run, rest) = split_while(bytes, |byte| byte.is_ascii() && !PLAIN_BYTES[byte as usize]);
    for &byte in run {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => escape_byte(byte, out),
        }
    }
    rest
}

fn wide_run<'a>(bytes: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let (run, rest) = split_while(bytes, |byte| !byte.is_ascii());
    for chunk in run.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_hidden(character) {
                out.extend(character.escape_unicode().map(|c| c as u8));
            } else {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        for &byte in chunk.invalid() {
            escape_byte(byte, out);
        }
    }
    rest
}

fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(&[b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// Reverses [`escape`]. Invalid escapes are unchanged.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
        bytes.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let length = unescape_one(rest, &mut bytes);
        if length == 0 {
            bytes.push(b'\\');
        }
        rest = &rest[length.max(1)..];
    }
    bytes.extend_from_slice(rest);
    bytes
}

/// Decodes the escape at the beginning and returns its length; 0 if it is none.
fn unescape_one(text: &[u8], bytes: &mut Vec<u8>) -> usize {
    let number = |digits: &[u8]| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    match text.get(1..).unwrap_or_default() {
        [b'\\', ..] => bytes.push(b'\\'),
        [b'r', ..] => bytes.push(b'\r'),
        [b'n', ..] => bytes.push(b'\n'),
        [b'x', digits @ ..] => {
            let Some(byte) = digits.get(..2).and_then(number) else { return 0 };
            bytes.push(byte as u8);
            return 4;
        }
        [b'u', b'{', digits @ ..] => {
            let Some(end) = digits.iter().take(7).position(|&byte| byte == b'}') else { return 0 };
            let Some(character) = number(&digits[..end]).and_then(char::from_u32) else { return 0 };
            bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return 4 + end;
        }
        _ => return 0,
    }
    2
}

/// Makes a name or sentence safe to print within a line: it may contain anything, including characters that
/// reorder text.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_hidden(c) { '?' } else { c }).collect()
}

/// What a program has printed, as one line of a sentence.
pub fn one_line(printed: &str) -> String {
    let words: Vec<&str> = printed.split_whitespace().collect();
    plain(&words.join(" "))
}

/// Output of arbitrary bytes to a terminal, line by line. Keeps bytes that may continue in the next piece:
/// a CR, or a part of a character.
#[derive(Debug, Default)]
pub struct Visible {
    kept: Vec<u8>,
}

impl Visible {
    /// Appends the output for these bytes as far as it is known. LF and CR LF end a line, as LF.
    pub fn show(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.kept.extend_from_slice(bytes);
        let whole = self.kept.len() - unfinished(&self.kept);
        show_lines(&self.kept[..whole], out);
        self.kept.drain(..whole);
    }

    /// Appends the output for kept bytes, at the end of the input.
    pub fn end(&mut self, out: &mut Vec<u8>) {
        show_lines(&std::mem::take(&mut self.kept), out);
    }
}

/// A text with names and paths, for a terminal.
pub fn visible(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    show_lines(text.as_bytes(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Number of bytes at the end whose meaning depends on what follows: a CR, or an incomplete character.
pub fn unfinished(bytes: &[u8]) -> usize {
    if bytes.ends_with(b"\r") { 1 } else { incomplete_character(bytes) }
}

/// Number of bytes at the end that begin a UTF-8 sequence and do not complete it.
pub fn incomplete_character(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let width = match bytes[bytes.len() - back] {
            0x80..=0xbf => continue,
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        return if width > back { back } else { 0 };
    }
    0
}

fn show_lines(bytes: &[u8], out: &mut Vec<u8>) {
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let (text, end) = match line.strip_suffix(b"\n") {
            Some(text) => (text.strip_suffix(b"\r").unwrap_or(text), &b"\n"[..]),
            None => (line, &b""[..]),
        };
        for (index, text) in text.split(|&byte| byte == b'\\').enumerate() {
            if index > 0 {
                out.push(b'\\');
            }
            escape(text, out);
        }
        out.extend_from_slice(end);
    }
}

/// The text of a line as a terminal would display it: control sequences (ECMA-48, xterm) are removed, and a
/// backspace overwrites. Invisible characters ([`is_hidden`]), bytes that are not UTF-8 and incomplete
/// sequences stay, so that they cannot hide the rest of the line.
pub fn clean(line: &[u8]) -> Vec<u8> {
    if line.iter().all(|&byte| byte >= b' ' && byte != 0x7f || byte == b'\t') {
        return line.to_vec();
    }
    let mut parser = Parser::<DefaultCharAccumulator>::default();
    let mut text = Text::default();
    let mut sequence = None;
    let mut at = 0;
    let mut feed = |from: usize, bytes: &[u8], text: &mut Text| {
        for (index, &byte) in bytes.iter().enumerate() {
            if byte == 0x1b && sequence.is_none() {
                sequence = Some(from + index);
            }
            text.ended = false;
            parser.advance(text, byte);
            if text.ended {
                sequence = None;
            }
        }
        sequence
    };
    let mut open = None;
    for chunk in line.utf8_chunks() {
        open = feed(at, chunk.valid().as_bytes(), &mut text);
        at += chunk.valid().len();
        for &byte in chunk.invalid() {
            let stand_in = stand_in(byte);
            open = feed(at, stand_in.encode_utf8(&mut [0; 4]).as_bytes(), &mut text);
            at += 1;
        }
    }
    while text.characters.last() == Some(&'\r') {
        text.characters.pop();
    }
    let mut cleaned = Vec::with_capacity(line.len());
    for character in text.characters {
        match stands_for(character) {
            Some(byte) => cleaned.push(byte),
            None => cleaned.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if let Some(begin) = open {
        cleaned.extend_from_slice(&line[begin.min(line.len())..]);
    }
    cleaned
}

/// Bytes that are not UTF-8 are passed to the parser as characters of a private use plane.
const STAND_INS: u32 = 0x10_f700;

fn stand_in(byte: u8) -> char {
    char::from_u32(STAND_INS + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn stands_for(character: char) -> Option<u8> {
    (character as u32).checked_sub(STAND_INS).and_then(|byte| u8::try_from(byte).ok())
}

/// A line on the terminal.
#[derive(Default)]
struct Text {
    characters: Vec<char>,
    cursor: usize,
    /// Whether the last sequence is complete.
    ended: bool,
}

impl Perform for Text {
    fn print(&mut self, c: char) {
        self.ended = true;
        match self.characters.get_mut(self.cursor) {
            Some(there) => *there = c,
            None => self.characters.push(c),
        }
        self.cursor += 1;
    }

    fn execute(&mut self, byte: u8) {
        self.ended = true;
        match byte {
            b'\t' => self.print('\t'),
            0x08 => self.cursor = self.cursor.saturating_sub(1),
            // Logs of earlier versions contain CR within records: each state of a progress bar is visible.
            b'\r' if !self.characters.is_empty() => self.print('\r'),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, _: &[u8], _: bool, action: u8) {
        self.ended = true;
        // EL: erase to the end of the line.
        let to_end = params.iter().next().is_none_or(|first| first == [0]);
        if action == b'K' && to_end {
            self.characters.truncate(self.cursor);
        }
    }

    fn esc_dispatch(&mut self, _: &[u8], _: bool, _: u8) {
        self.ended = true;
    }

    fn osc_dispatch(&mut self, _: &[&[u8]], _: bool) {
        self.ended = true;
    }

    fn unhook(&mut self) {
        self.ended = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        escape(bytes, &mut out);
        String::from_utf8(out).expect("what was escaped is UTF-8")
    }

    #[test]
    fn what_systemctl_prints_in_two_lines_is_one_sentence() {
        let printed = "Job for x.service failed because of unavailable resources.\nSee \"systemctl status x.service\".\n";
        assert_eq!(
            one_line(printed),
            "Job for x.service failed because of unavailable resources. See \"systemctl status x.service\"."
        );
    }

    #[test]
    fn every_control_character_except_tab_is_escaped() {
        for byte in (0..b' ').chain([0x7f]) {
            let expected = match byte {
                b'\t' => "\t".to_owned(),
                b'\n' => "\\n".to_owned(),
                b'\r' => "\\r".to_owned(),
                _ => format!("\\x{byte:02x}"),
            };
            assert_eq!(escaped(&[byte]), expected);
        }
        for c1 in '\u{80}'..='\u{9f}' {
            assert_eq!(escaped(c1.to_string().as_bytes()), format!("\\u{{{:x}}}", c1 as u32));
        }
    }

    #[test]
    fn printable_text_is_unchanged_and_a_backslash_is_doubled() {
        let all: String = (' '..='~').filter(|&c| c != '\\').collect();
        assert_eq!(escaped(all.as_bytes()), all);
        assert_eq!(escaped("Zürich → 東京 🚀\tok".as_bytes()), "Zürich → 東京 🚀\tok");
        assert_eq!(escaped(br"C:\x1b"), r"C:\\x1b");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_escaped_one_by_one() {
        assert_eq!(escaped(b"a\xff\xfeb"), r"a\xff\xfeb");
        assert_eq!(escaped(b"\xe2\x82"), r"\xe2\x82", "a sequence cut short");
        assert_eq!(escaped(b"\xed\xa0\x80"), r"\xed\xa0\x80", "a surrogate");
        assert_eq!(escaped(b"\xc0\x9b"), r"\xc0\x9b", "an overlong escape");
        assert_eq!(escaped(b"\xf4\x90\x80\x80"), r"\xf4\x90\x80\x80", "beyond Unicode");
    }

    #[test]
    fn characters_that_reorder_or_hide_text_are_escaped() {
        for hidden in "\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{200e}\u{200f}\u{61c}\u{200b}\u{feff}\u{2028}\u{e0041}".chars() {
            assert_eq!(escaped(hidden.to_string().as_bytes()), format!("\\u{{{:x}}}", hidden as u32));
        }
        assert_eq!(escaped("user\u{202e}toor".as_bytes()), r"user\u{202e}toor");
    }

    #[test]
    fn escaped_text_can_be_unescaped() {
        for bytes in [
            &b"plain \\ \\x1b"[..],
            b"\x1b[1m\r\n\t\0\x7f",
            "\u{202e}\u{e0041}\u{9b}".as_bytes(),
            b"\xff\xfe\xc0",
        ] {
            assert_eq!(unescape(escaped(bytes).as_bytes()), bytes);
        }
        for none in [r"\", r"\x1", r"\xzz", r"\u{110000}", r"\u{12", r"\q", r"\u"] {
            assert_eq!(unescape(none.as_bytes()), none.as_bytes(), "stays as it is");
        }
    }

    fn shown(pieces: &[&[u8]]) -> String {
        let (mut visible, mut out) = (Visible::default(), Vec::new());
        for piece in pieces {
            visible.show(piece, &mut out);
        }
        visible.end(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_gets_lines_without_control_sequences() {
        // xterm's ctlseqs: OSC 52 writes the clipboard, DECRQSS and DSR are answered as keyboard input; C1
        // as one byte and in UTF-8.
        let printed = "a\x1b]52;c;cm0=\x07\r\n\x1bP$qm\x1b\\\x1b[6n\n\u{9b}31m\u{202e}\tb\\x1b\r".as_bytes();
        let expected = "a\\x1b]52;c;cm0=\\x07\n\\x1bP$qm\\x1b\\\\x1b[6n\n\\u{9b}31m\\u{202e}\tb\\x1b\\r";
        assert_eq!(shown(&[printed]), expected);
        let bytes: Vec<&[u8]> = printed.chunks(1).collect();
        assert_eq!(shown(&bytes), expected);
        assert_eq!(shown(&[b"\x9b31m \xe2\x82", b"\xac\xe2\x82"]), "\\x9b31m €\\xe2\\x82");
        // Escaped text is unchanged.
        assert_eq!(shown(&[expected.as_bytes()]), expected);
        for byte in (0..b' ').chain(0x7f..=0xff).filter(|byte| !matches!(byte, b'\t' | b'\n')) {
            assert!(shown(&[&[byte]]).chars().all(|c| c.is_ascii_graphic()), "{byte:#x}");
        }
    }

    #[test]
    fn a_clean_line_is_what_a_terminal_would_display() {
        let cleaned = |line: &[u8]| escaped(&clean(line));
        for (line, expected) in [
            (&b"\x1b[1;31mKernel\x1b[0m panic"[..], "Kernel panic"),
            (b"\x1b[?2004l\rls", "ls"),
            (b"\x1b]0;root@host: ~\x07# ", "# "),
            (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"\x1bP$qm\x1b\\x\x1b[6n", "x"),
            (b"rott\x08 \x08\x08\x08oot\x07", "root"),
            (b"old text\x08\x08\x08\x08\x1b[K", "old "),
            (b"[\x1b[0;32m  OK  \x1b[0m]\tup", "[  OK  ]\tup"),
            (b"\x1b(B\x0f\x0eg\xc3\xb6\xff\xfe", "gö\\xff\\xfe"),
            ("\u{202e}x\u{9b}1m".as_bytes(), r"\u{202e}x\u{9b}1m"),
            // An incomplete sequence hides nothing.
            (b"a\x1b]0;kernel panic", r"a\x1b]0;kernel panic"),
            (b"a\x1bPkernel \xff panic", r"a\x1bPkernel \xff panic"),
            (b"a\x1b[12", r"a\x1b[12"),
            // Logs of earlier versions contain this.
            (b"\r 10%\r 20%", r" 10%\r 20%"),
            (b"text\x1b[?2004l\r", "text"),
            (b"C:\\x1b", r"C:\\x1b"),
            (b"", ""),
        ] {
            assert_eq!(cleaned(line), expected, "{:?}", line.escape_ascii().to_string());
        }
    }

    proptest::proptest! {
        #[test]
        fn the_rest_of_a_line_is_unchanged(text in "[ -~äß€🚀]{0,60}", at in 0usize..60) {
            let at = text.char_indices().map(|(at, _)| at).nth(at).unwrap_or(text.len());
            let coloured = format!("{}\x1b[1;38;5;9m{}\x1b[0m", &text[..at], &text[at..]);
            proptest::prop_assert_eq!(clean(coloured.as_bytes()), text.as_bytes());
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_leave_no_control_sequences(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
            let _ = clean(&bytes);
            let visible = shown(&[&bytes]);
            proptest::prop_assert!(visible.chars().all(|c| matches!(c, '\t' | '\n') || !c.is_control() && !is_hidden(c)));
            let mut out = Vec::new();
            escape(&bytes, &mut out);
            proptest::prop_assert_eq!(unescape(&out), bytes);
        }
    }
}
