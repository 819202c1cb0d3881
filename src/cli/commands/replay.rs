//! `play` and `log --cast`: the recording of a port.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use nix::fcntl::OFlag;

use crate::attach::client;
use crate::capture::cast::{Cast, Version};
use crate::capture::recording::{Frame, Frames};
use crate::cli::endpoint::Endpoint;
use crate::cli::error::CommandError;
use crate::cli::stdout::print_error;
use crate::exec::{self, EXIT_DONE, EXIT_FAILED};
use crate::port::{PortName, PortPattern};

/// Slowest and fastest replay.
const SPEED_RANGE: std::ops::RangeInclusive<f64> = 0.01..=1000.0;

#[derive(Debug, Clone, PartialEq, Args)]
pub struct Play {
    /// Port; exactly one
    port: PortPattern,
    /// Beginning: a time (03:00, today, 2026-11-24T03:00) or an age (10m, 2h, 1d)
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = exec::since)]
    at: Timestamp,
    /// End, in the same format
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = exec::until)]
    until: Option<Timestamp>,
    /// Factor, such as 8 or 0.5
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Shorten longer pauses to this number of seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    max_pause: Option<Duration>,
}

// The factor is a number in SPEED_RANGE, and so equal to itself.
impl Eq for Play {}

// Comments and not doc comments at the values: clap would print them, and all options of `log` a paragraph each.
/// Version of an asciicast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CastVersion {
    // For asciinema 2, of Debian 12 and 13.
    #[value(name = "2")]
    V2,
    // For asciinema 3.
    #[value(name = "3")]
    V3,
}

impl From<CastVersion> for Version {
    fn from(version: CastVersion) -> Self {
        match version {
            CastVersion::V2 => Self::V2,
            CastVersion::V3 => Self::V3,
        }
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let expected = || format!("expected a number from {} to {}", SPEED_RANGE.start(), SPEED_RANGE.end());
    text.parse().ok().filter(|speed| SPEED_RANGE.contains(speed)).ok_or_else(expected)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok();
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "expected a number of seconds, such as 2 or 0.5".to_owned())
}

/// Requests the recording of a port, whose frames are written to `output`.
fn request(
    endpoint: &Endpoint,
    port: &PortName,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    output: &mut dyn Write,
) -> Result<u8, CommandError> {
    let command = exec::Command::Recording { since, until };
    Ok(client::run(&endpoint.runtime, port, command, output, &mut io::stderr())?.status)
}

/// Prints an asciicast.
pub(super) fn print_cast(
    endpoint: &Endpoint,
    port: &PortPattern,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    version: CastVersion,
) -> Result<u8, CommandError> {
    let port = endpoint.one("log --cast", port)?;
    let mut output = CastOutput { cast: Cast::new(version.into(), port.clone()), any: false };
    let status = request(endpoint, &port, since, until, &mut output)?;
    io::stdout().write_all(output.cast.end().as_bytes())?;
    Ok(finish(&port, status, output.any))
}

/// Converts frames and prints them.
struct CastOutput {
    cast: Cast,
    any: bool,
}

impl Write for CastOutput {
    fn write(&mut self, frames: &[u8]) -> io::Result<usize> {
        let lines = self.cast.convert(frames);
        self.any |= !lines.is_empty();
        io::stdout().write_all(lines.as_bytes())?;
        Ok(frames.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

fn finish(port: &PortName, status: u8, any: bool) -> u8 {
    if status == EXIT_DONE && !any {
        print_error(&format_args!("{port}: no output was recorded in that time"));
        return EXIT_FAILED;
    }
    status
}

/// Plays the recording. It is fetched first: a port must not hold it while a user watches.
pub(super) fn play(endpoint: &Endpoint, play: Play) -> Result<u8, CommandError> {
    let port = endpoint.one("play", &play.port)?;
    let mut file = unnamed_file()?;
    let status = request(endpoint, &port, Some(play.at), play.until, &mut file)?;
    file.rewind()?;
    let mut stdout = io::stdout();
    let mut pace = Pace { speed: play.speed, max_pause: play.max_pause, last: None, due: Instant::now() };
    let (mut frames, mut any) = (Frames::default(), false);
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            count => frames.feed(&chunk[..count]),
        }
        while let Some(frame) = frames.next_frame() {
            any = true;
            std::thread::sleep(pace.wait(&frame).saturating_duration_since(Instant::now()));
            stdout.write_all(&frame.bytes)?;
            stdout.flush()?;
        }
    }
    Ok(finish(&port, status, any))
}

/// A file without a name, in the directory for temporary files.
fn unnamed_file() -> io::Result<File> {
    let flags = OFlag::O_TMPFILE;
    OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(flags.bits())
        .open(std::env::temp_dir())
}

/// When each frame is due. Delays do not add up.
struct Pace {
    speed: f64,
    max_pause: Option<Duration>,
    last: Option<Timestamp>,
    due: Instant,
}

impl Pace {
    fn wait(&mut self, frame: &Frame) -> Instant {
        // A clock that was set back has no negative pauses.
        let before = self.last.unwrap_or(frame.at);
        let pause = Duration::try_from(frame.at.duration_since(before)).unwrap_or_default();
        self.last = Some(frame.at);
        let pause = pause.min(self.max_pause.unwrap_or(Duration::MAX));
        self.due += pause.div_f64(self.speed);
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_divided_by_the_speed_and_bounded() {
        let frame = |ms| Frame {
            ring: 0,
            offset: 0,
            at: Timestamp::from_millisecond(ms).unwrap(),
            bytes: Vec::new(),
        };
        let began = Instant::now();
        let max_pause = Some(Duration::from_secs(2));
        let mut pace = Pace { speed: 8.0, max_pause, last: None, due: began };
        let due: Vec<_> = [5_000, 5_800, 5_000, 5_080, 9_999_000]
            .map(|ms| (pace.wait(&frame(ms)) - began).as_millis())
            .into();
        assert_eq!(due, [0, 100, 100, 110, 360]);
    }

    #[test]
    fn a_speed_is_a_number_in_its_range() {
        assert_eq!(speed("8"), Ok(8.0));
        for wrong in ["0", "-1", "NaN", "inf", "fast", "1001"] {
            assert_eq!(speed(wrong).unwrap_err(), "expected a number from 0.01 to 1000", "{wrong}");
        }
    }
}
