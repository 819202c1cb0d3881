//! A device's bytes as lines. LF, CR LF and a CR alone end one: a progress bar and a device that ends its lines with CR send
//! the same bytes.

use crate::printable::{Visible, clean, unfinished};

/// Bytes of a line that are kept; a longer one is shown in pieces. As in the text log.
pub(super) const LINE_LIMIT: usize = 4096;

/// What stands behind the name of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A line, or its beginning.
    Line,
    /// A line goes on whose beginning was shown before it was finished.
    Continued,
    /// Words of the port's or of ours.
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

/// The line that is not finished.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    /// Whether the beginning of it was shown.
    shown: bool,
    /// Whether the last byte was a CR, which the next may belong to.
    after_cr: bool,
}

impl Lines {
    /// Whether there is something to show that waits for its end.
    pub(super) fn is_unfinished(&self) -> bool {
        !self.line.is_empty()
    }

    /// More has come: what can be shown now.
    pub(super) fn feed(&mut self, bytes: &[u8], found: &mut Vec<(Mark, Vec<u8>)>) {
        for &byte in bytes {
            match byte {
                b'\n' => self.finish(found),
                // A terminal does nothing for a NUL, and telnet sends one behind each CR.
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

    /// Shows what there is of a line; the rest goes on behind it.
    pub(super) fn flush(&mut self, found: &mut Vec<(Mark, Vec<u8>)>) {
        // A character that is cut would be two wrong ones.
        let cut = self.line.len() - unfinished(&self.line);
        let cut = if cut == 0 { self.line.len() } else { cut };
        let rest = self.line.split_off(cut);
        let text = std::mem::replace(&mut self.line, rest);
        if !text.is_empty() {
            found.push((self.mark(), text));
            self.shown = true;
        }
    }

    /// Nothing follows in this line.
    pub(super) fn end(&mut self, found: &mut Vec<(Mark, Vec<u8>)>) {
        if !self.line.is_empty() {
            self.finish(found);
        }
        (self.shown, self.after_cr) = (false, false);
    }

    fn finish(&mut self, found: &mut Vec<(Mark, Vec<u8>)>) {
        let text = std::mem::take(&mut self.line);
        // Of a line that was shown as far as it went, only the end has come.
        if !self.shown || !text.is_empty() {
            found.push((self.mark(), text));
        }
        (self.shown, self.after_cr) = (false, false);
    }

    fn mark(&self) -> Mark {
        if self.shown { Mark::Continued } else { Mark::Line }
    }
}

/// A line as a person reads it, without anything that a terminal would obey; `None` if nothing of it can be read, as of one that
/// only sets the terminal's modes. As `log` shows a text log; `raw`: with the sequences, escaped.
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
    fn said(pieces: &[&[u8]], flushed: bool) -> String {
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
    fn lines_end_as_devices_end_them() {
        let text = b"one\r\ntwo\n\r\nthree\rfour\r\r\nfive\r\0six";
        let wanted = ":one\n:two\n:\n:three\n:four\n:five\n:six\n";
        assert_eq!(said(&[text], false), wanted);
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(said(&single, false), wanted, "byte by byte");
    }

    #[test]
    fn a_line_that_is_shown_early_goes_on_and_ends_without_an_empty_one() {
        assert_eq!(said(&[b"login: ", b"root\r\n", b"ok\r\n"], true), ":login: \n+root\n:ok\n");
        assert_eq!(said(&[b"login: ", b"\r\n", b"ok"], true), ":login: \n:ok\n");
    }

    #[test]
    fn a_line_without_an_end_is_bounded_and_no_character_is_cut() {
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
    fn what_a_terminal_would_obey_is_not_shown() {
        let shown = |line: &[u8], raw| presentable(line, raw).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(shown(b"[\x1b[0;32m  OK  \x1b[0m] C:\\temp", false).unwrap(), "[  OK  ] C:\\temp");
        assert_eq!(shown(b"\x1b[?2004l", false), None, "it only sets a mode");
        assert_eq!(shown(b"", false).unwrap(), "", "a line that is empty is one");
        assert_eq!(shown(b"a\x1b]0;title\x07b\x9b2J", false).unwrap(), "ab\\x9b2J");
        assert_eq!(shown("\u{202e}core: forged".as_bytes(), false).unwrap(), "\\u{202e}core: forged");
        assert_eq!(shown(b"\x1b[2Jx", true).unwrap(), "\\x1b[2Jx");
    }
}
