//! Splits a device's output into lines. LF, CR LF and a single CR end a line: a progress bar and a device that ends its lines with CR
//! cannot be distinguished.

use crate::printable::{Visible, clean, unfinished};

/// Bytes of a line; a longer one is printed in pieces, as in the text log.
pub(super) const LINE_LIMIT: usize = 4096;

/// The mark after the name of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A line, or its beginning.
    Line,
    /// The continuation of a line that was printed before it was complete.
    Continued,
    /// A notice of the port or of `watch`.
    Note,
}

impl Mark {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Line => ": ",
            Self::Continued => "+ ",
            Self::Note => "# ",
        }
    }
}

/// The incomplete line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    /// Whether its beginning was printed.
    shown: bool,
    /// Whether the last byte was a CR, which an LF may follow.
    after_cr: bool,
}

impl Lines {
    /// Whether there is an incomplete line.
    pub(super) fn is_unfinished(&self) -> bool {
        !self.line.is_empty()
    }

    /// Adds bytes; complete lines are appended to `found`.
    pub(super) fn feed(&mut self, bytes: &[u8], found: &mut Vec<(Mark, Vec<u8>)>) {
        for &byte in bytes {
            match byte {
                b'\n' => self.finish(found),
                // Terminals ignore NUL, and telnet sends one after each CR.
                b'\r' | 0 if self.after_cr => {}
                b'\r' => self.after_cr = true,
                _ => {
                    if self.after_cr {
                        self.finish(found);
                    }
                    self.line.push(byte);
                    if self.line.len() >= LINE_LIMIT {
                        self.flush(found);
                    }
                }
            }
        }
    }

    /// Appends the incomplete line to `found`; the rest will be its continuation.
    pub(super) fn flush(&mut self, found: &mut Vec<(Mark, Vec<u8>)>) {
        // Never in the middle of a UTF-8 character.
        let cut = self.line.len() - unfinished(&self.line);
        let cut = if cut == 0 { self.line.len() } else { cut };
        let rest = self.line.split_off(cut);
        let text = std::mem::replace(&mut self.line, rest);
        if !text.is_empty() {
            found.push((self.mark(), text));
            self.shown = true;
        }
    }

    /// Ends the incomplete line.
    pub(super) fn end(&mut self, found: &mut Vec<(Mark, Vec<u8>)>) {
        if !self.line.is_empty() {
            self.finish(found);
        }
        (self.shown, self.after_cr) = (false, false);
    }

    fn finish(&mut self, found: &mut Vec<(Mark, Vec<u8>)>) {
        let text = std::mem::take(&mut self.line);
        // If all of the line was printed already, only its end has arrived.
        if !self.shown || !text.is_empty() {
            found.push((self.mark(), text));
        }
        (self.shown, self.after_cr) = (false, false);
    }

    fn mark(&self) -> Mark {
        if self.shown { Mark::Continued } else { Mark::Line }
    }
}

/// A line without control sequences, as `log` prints a text log; `None` if nothing remains, as for a line that only sets terminal modes.
/// `raw`: with the sequences, escaped.
pub(super) fn presentable(line: &[u8], raw: bool) -> Option<Vec<u8>> {
    let read = if raw { line.to_vec() } else { clean(line) };
    if read.is_empty() && !line.is_empty() {
        return None;
    }
    let mut shown = Vec::with_capacity(read.len());
    let mut visible = Visible::default();
    visible.show(&read, &mut shown);
    visible.end(&mut shown);
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as `watch` prints them, without their port.
    fn printed(pieces: &[&[u8]], flushed: bool) -> String {
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.feed(piece, &mut found);
            if flushed {
                lines.flush(&mut found);
            }
        }
        lines.end(&mut found);
        let show = |(mark, text): &(Mark, Vec<u8>)| {
            format!("{}{}\n", mark.as_str().trim_end(), String::from_utf8_lossy(text))
        };
        found.iter().map(show).collect()
    }

    #[test]
    fn lf_cr_lf_and_cr_end_a_line() {
        let text = b"one\r\ntwo\n\r\nthree\rfour\r\r\nfive\r\0six";
        let wanted = ":one\n:two\n:\n:three\n:four\n:five\n:six\n";
        assert_eq!(printed(&[text], false), wanted);
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(printed(&single, false), wanted, "byte by byte");
    }

    #[test]
    fn a_line_that_was_printed_early_continues_and_ends_without_an_empty_line() {
        assert_eq!(printed(&[b"login: ", b"root\r\n", b"ok\r\n"], true), ":login: \n+root\n:ok\n");
        assert_eq!(printed(&[b"login: ", b"\r\n", b"ok"], true), ":login: \n:ok\n");
    }

    #[test]
    fn a_line_without_an_end_is_bounded_and_split_between_characters() {
        let endless = "é".repeat(LINE_LIMIT);
        let (mut lines, mut found) = (Lines::default(), Vec::new());
        // One byte before, so that the limit falls into a character.
        lines.feed(b"x", &mut found);
        for piece in endless.as_bytes().chunks(777) {
            lines.feed(piece, &mut found);
            assert!(lines.line.len() < LINE_LIMIT);
        }
        lines.end(&mut found);
        assert_eq!(found[0].0, Mark::Line);
        assert!(found[1..].iter().all(|(mark, _)| *mark == Mark::Continued));
        let text: String = found.iter().map(|(_, text)| std::str::from_utf8(text).unwrap()).collect();
        assert_eq!(text, format!("x{endless}"));
    }

    #[test]
    fn control_sequences_are_removed_or_escaped() {
        let shown = |line: &[u8], raw| presentable(line, raw).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(shown(b"[\x1b[0;32m  OK  \x1b[0m] C:\\temp", false).unwrap(), "[  OK  ] C:\\temp");
        assert_eq!(shown(b"\x1b[?2004l", false), None, "only sets a mode");
        assert_eq!(shown(b"", false).unwrap(), "", "an empty line is printed");
        assert_eq!(shown(b"a\x1b]0;title\x07b\x9b2J", false).unwrap(), "ab\\x9b2J");
        assert_eq!(shown("\u{202e}core: forged".as_bytes(), false).unwrap(), "\\u{202e}core: forged");
        assert_eq!(shown(b"\x1b[2Jx", true).unwrap(), "\\x1b[2Jx");
    }
}
