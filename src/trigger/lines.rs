//! Converts bytes to lines of text as users read them: without escape sequences, and at most
//! [`LONGEST_LINE`] long. Pure; the same bytes give the same lines, however they are split.

use anstyle_parse::{DefaultCharAccumulator, Parser, Perform};

use super::LONGEST_LINE;

/// Bytes of a long line that are checked twice, so that a match across the cut is found.
const OVERLAP_BYTES: usize = LONGEST_LINE / 2;

#[derive(Debug, Default)]
pub struct Lines {
    parser: Parser<DefaultCharAccumulator>,
    text: Text,
    /// Bytes of the text that were checked before: 0 at the beginning of a line.
    seen: usize,
    /// Bytes since the text has last grown.
    hidden: usize,
}

#[derive(Debug, Default)]
struct Text(String);

impl Perform for Text {
    fn print(&mut self, c: char) {
        self.0.push(c);
    }

    fn execute(&mut self, byte: u8) {
        if byte == b'\t' {
            self.0.push('\t');
        }
    }
}

/// A line, or as much of it as has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinePart<'l> {
    /// The text; its first part may have been checked before.
    pub text: &'l str,
    /// Length of that part: 0 at the beginning of a line.
    pub seen: usize,
    /// Whether the line continues: its last character is context for a match, not part of one.
    pub cut: bool,
}

impl Lines {
    /// Adds bytes, and passes each line that ends in them, or is too long, to `found`, but no empty lines.
    pub fn feed(&mut self, bytes: &[u8], mut found: impl FnMut(LinePart<'_>)) {
        for &byte in bytes {
            if matches!(byte, b'\n' | b'\r') {
                self.end(&mut found);
                continue;
            }
            self.take(byte);
            // A character has at most four bytes.
            if self.text.0.len() > LONGEST_LINE - 4 {
                found(self.piece(true));
                let half = self.text.0.len() - OVERLAP_BYTES;
                let keep = (half..).find(|at| self.text.0.is_char_boundary(*at)).unwrap_or(half);
                self.text.0.drain(..keep);
                self.seen = self.text.0.len();
            }
        }
    }

    fn take(&mut self, byte: u8) {
        let before = self.text.0.len();
        self.parser.advance(&mut self.text, byte);
        self.hidden = if self.text.0.len() > before { 0 } else { self.hidden + 1 };
        // A sequence that does not end is ignored; the parser would keep all of it.
        if self.hidden > LONGEST_LINE {
            self.parser = Parser::default();
            self.hidden = 0;
        }
    }

    fn end(&mut self, found: &mut impl FnMut(LinePart<'_>)) {
        if !self.text.0.is_empty() {
            found(self.piece(false));
        }
        self.reset();
    }

    /// The unfinished line, such as a prompt.
    pub fn so_far(&self) -> Option<LinePart<'_>> {
        (!self.text.0.is_empty()).then(|| self.piece(false))
    }

    /// Bytes are missing: what follows does not continue what was before.
    pub fn reset(&mut self) {
        // An unfinished sequence ends with its line: garbage must not hide what follows.
        self.parser = Parser::default();
        self.text.0.clear();
        self.seen = 0;
        self.hidden = 0;
    }

    fn piece(&self, cut: bool) -> LinePart<'_> {
        LinePart { text: &self.text.0, seen: self.seen, cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for piece in pieces {
            lines.feed(piece, |piece| found.push(piece.text.to_owned()));
        }
        found
    }

    #[test]
    fn a_line_is_what_users_read_of_it() {
        let said = b"\x1b[1;31mKernel\x1b[0m panic\r\n\r\n10%\r20%\r\n[\x1b[0;32m  OK  \x1b[0m]\tup\x07\n";
        let wanted = ["Kernel panic", "10%", "20%", "[  OK  ]\tup"];
        assert_eq!(lines(&[said]), wanted);
        let bytes: Vec<&[u8]> = said.chunks(1).collect();
        assert_eq!(lines(&bytes), wanted);
    }

    #[test]
    fn garbage_swallows_at_most_the_rest_of_its_line() {
        assert_eq!(lines(&[b"\x1b]0;never ended\nafter\n\xff\xfe\x1bPq\nagain\n"])[..1], ["after"]);
        let mut endless = b"\x1b]".to_vec();
        endless.extend(vec![b'x'; 10_000]);
        endless.extend(b"panic\n");
        assert!(lines(&[&endless]).last().unwrap().ends_with("panic"));
    }

    #[test]
    fn a_line_without_end_is_checked_in_overlapping_pieces() {
        let mut all = Lines::default();
        let mut count = 0;
        for _ in 0..100 {
            all.feed("ö".repeat(100).as_bytes(), |piece| {
                assert!(piece.cut && piece.text.len() <= LONGEST_LINE);
                assert_eq!(piece.seen == 0, count == 0);
                count += 1;
            });
        }
        assert!((30..=40).contains(&count), "{count}");
        assert!(all.so_far().is_some());
    }
}
