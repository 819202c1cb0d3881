//! Timestamps before lines. Pure: bytes and the time in, bytes out.

/// Timestamps lines as they begin. Initially the cursor is at the beginning of a line.
#[derive(Debug, Default)]
pub struct Timestamper {
    within_line: bool,
}

impl Timestamper {
    /// Inserts `[stamp]` before each line that begins in `bytes`. A line begins with its first byte, not with the end of the line
    /// before, so that a prompt gets the time at which it arrives.
    pub fn stamp(&mut self, bytes: &[u8], stamp: &str) -> Vec<u8> {
        let mut stamped = Vec::with_capacity(bytes.len() + stamp.len() + 3);
        for &byte in bytes {
            if !self.within_line && !matches!(byte, b'\r' | b'\n') {
                stamped.extend_from_slice(format!("[{stamp}] ").as_bytes());
                self.within_line = true;
            }
            stamped.push(byte);
            self.within_line &= byte != b'\n';
        }
        stamped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_gets_one_timestamp_in_every_split() {
        let mut stamper = Timestamper::default();
        let mut shown = stamper.stamp(b"one\r\ntw", "12:00:01");
        shown.extend(stamper.stamp(b"o\r\n", "12:00:02"));
        shown.extend(stamper.stamp(b"\r\n", "12:00:03"));
        shown.extend(stamper.stamp(b"three", "12:00:04"));
        let shown = String::from_utf8(shown).unwrap();
        assert_eq!(shown, "[12:00:01] one\r\n[12:00:01] two\r\n\r\n[12:00:04] three");
    }
}
