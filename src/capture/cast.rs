//! A recording as an asciicast, which asciinema and players on web pages show. Pure.
//! <https://docs.asciinema.org/manual/asciicast/v3/>

use jiff::Timestamp;
use serde_json::json;

use super::recording::{Frame, Frames};
use crate::port::PortName;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The format of asciinema 2, which Debian 12 and 13 have: times count from the beginning.
    V2,
    /// The format of asciinema 3: times count from the previous event.
    V3,
}

/// Size of the terminal. A serial console has no size; 80 × 24 is what devices assume.
const SIZE: (u16, u16) = (80, 24);

/// Converts frames to the lines of an asciicast.
#[derive(Debug)]
pub struct Cast {
    version: Version,
    port: PortName,
    frames: Frames,
    /// Time of the first frame, and milliseconds from it to the last one.
    began: Option<(Timestamp, i64)>,
    /// The beginning of a character.
    rest: Vec<u8>,
}

impl Cast {
    /// Starts an asciicast of this port.
    pub fn new(version: Version, port: PortName) -> Self {
        Self { version, port, frames: Frames::default(), began: None, rest: Vec::new() }
    }

    /// The lines of a chunk of a recording.
    pub fn convert(&mut self, recording: &[u8]) -> String {
        self.frames.feed(recording);
        let mut lines = String::new();
        while let Some(frame) = self.frames.next_frame() {
            self.event(&frame, &mut lines);
        }
        lines
    }

    fn event(&mut self, frame: &Frame, lines: &mut String) {
        let (began, before) = match self.began {
            Some(began) => began,
            None => {
                lines.push_str(&format!("{}\n", self.header(frame.at)));
                (frame.at, 0)
            }
        };
        // A clock that was set back has no negative times.
        let elapsed = (frame.at.as_millisecond() - began.as_millisecond()).max(before);
        self.began = Some((began, elapsed));
        self.rest.extend_from_slice(&frame.bytes);
        let whole = self.rest.len() - incomplete(&self.rest);
        let after = self.rest.split_off(whole);
        let text = String::from_utf8_lossy(&self.rest).into_owned();
        self.rest = after;
        let time = match self.version {
            Version::V2 => elapsed,
            Version::V3 => elapsed - before,
        };
        lines.push_str(&format!("{}\n", json!([time as f64 / 1000.0, "o", text])));
    }

    /// The incomplete character at the end of the recording; empty if there is none.
    pub fn end(&mut self) -> String {
        let text = String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned();
        let time = if self.version == Version::V2 { self.began.map_or(0, |(_, elapsed)| elapsed) } else { 0 };
        if text.is_empty() { text } else { format!("{}\n", json!([time as f64 / 1000.0, "o", text])) }
    }

    fn header(&self, began: Timestamp) -> serde_json::Value {
        let (columns, rows) = SIZE;
        let (timestamp, title) = (began.as_second(), self.port.as_str());
        match self.version {
            Version::V2 => {
                json!({"version": 2, "width": columns, "height": rows, "timestamp": timestamp, "title": title})
            }
            Version::V3 => {
                let term = json!({"cols": columns, "rows": rows});
                json!({"version": 3, "term": term, "timestamp": timestamp, "title": title})
            }
        }
    }
}

/// Bytes of an incomplete UTF-8 character at the end.
fn incomplete(bytes: &[u8]) -> usize {
    let begins = |length: usize| {
        let first = bytes[bytes.len() - length];
        matches!(first, 0xc2..=0xf4) && first.leading_ones() as usize > length
    };
    (1..=bytes.len().min(3)).find(|&length| begins(length)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::recording::encoded;

    fn recording() -> Vec<u8> {
        let frame = |offset, ms: i64, bytes: &[u8]| Frame {
            ring: 1,
            offset,
            at: Timestamp::from_millisecond(1_790_000_000_000 + ms).unwrap(),
            bytes: bytes.to_vec(),
        };
        let frames = [
            frame(0, 0, b"boot\r"),
            frame(5, 250, b"\n\x1b[1m\xc3"),
            // A clock that was set back.
            frame(11, 100, b"\xbc \xff"),
            frame(14, 1250, b"end\xe2\x82"),
        ];
        frames.iter().flat_map(encoded).collect()
    }

    fn cast(version: Version) -> String {
        let mut cast = Cast::new(version, "core".parse().unwrap());
        let lines: String = recording().chunks(11).map(|chunk| cast.convert(chunk)).collect();
        lines + &cast.end()
    }

    /// <https://docs.asciinema.org/manual/asciicast/v3/>: a header, then `[interval, "o", data]`.
    #[test]
    fn times_are_intervals_in_version_3_and_since_the_beginning_in_version_2() {
        let wanted = r#"{"term":{"cols":80,"rows":24},"timestamp":1790000000,"title":"core","version":3}
[0.0,"o","boot\r"]
[0.25,"o","\n\u001b[1m"]
[0.0,"o","ü \u{fffd}"]
[1.0,"o","end"]
[0.0,"o","\u{fffd}"]
"#
        .replace("\\u{fffd}", "\u{fffd}");
        assert_eq!(cast(Version::V3), wanted);
        let version2 = cast(Version::V2);
        let times: Vec<_> = version2.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
        assert_eq!(times, ["[0.0", "[0.25", "[0.25", "[1.25", "[1.25"]);
    }

    /// asciinema of Debian prints what was recorded.
    #[test]
    fn asciinema_reads_the_cast() {
        let room = tempfile::tempdir().unwrap();
        std::fs::write(room.path().join("core.cast"), cast(Version::V2)).unwrap();
        // It wants a terminal, although it prints to a file.
        let output = std::process::Command::new("script")
            .args(["-qec", "asciinema cat core.cast >printed", "/dev/null"])
            .current_dir(room.path())
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", room.path())
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "asciinema is in Debian's package asciinema: {said}");
        let wanted = "boot\r\n\x1b[1mü \u{fffd}end\u{fffd}";
        assert_eq!(std::fs::read_to_string(room.path().join("printed")).unwrap(), wanted);
    }
}
