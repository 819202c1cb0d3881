//! Assembles lines of a console for the journal. Pure: bytes in as they come, lines out as they end.

/// Bytes after which a line is cut: as in the log.
const MAX_LINE_BYTES: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
    /// Whether a CR has just ended a line: NULs after it are its padding, as for the log.
    after_cr: bool,
}

impl Lines {
    /// Adds bytes; `say` receives each completed line, except empty ones.
    pub(super) fn take(&mut self, bytes: &[u8], mut say: impl FnMut(&[u8])) {
        for &byte in bytes {
            match byte {
                b'\r' | b'\n' => self.end(&mut say),
                0 if self.after_cr => continue,
                _ => self.line.push(byte),
            }
            self.after_cr = byte == b'\r';
            if self.line.len() == MAX_LINE_BYTES {
                self.end(&mut say);
            }
        }
    }

    fn end(&mut self, say: &mut impl FnMut(&[u8])) {
        if !self.line.is_empty() {
            say(&self.line);
            self.line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_and_cut_where_they_have_no_end() {
        let mut lines = Lines::default();
        let mut said: Vec<Vec<u8>> = Vec::new();
        for piece in [b"lo".as_slice(), b"gin:\r", b"\0\n\r\r\nroot\r", &[b'x'; MAX_LINE_BYTES + 1], b"\n\r"]
        {
            lines.take(piece, |line| said.push(line.to_vec()));
        }
        let long = [b'x'; MAX_LINE_BYTES];
        assert_eq!(said, [b"login:".as_slice(), b"root", &long, b"x"]);
    }
}
