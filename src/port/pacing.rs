//! Delays in output to a device that loses characters of pasted text otherwise.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::PortError;

/// Valid delays. 10 s is the limit of tio; with a longer one the port seems to hang.
const PAUSE_RANGE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10);

/// A number of units of this many milliseconds: without a unit of its own, or with one (`2m`) if the time is a whole number of them.
pub(crate) fn in_units(text: &str, unit: i64, range: RangeInclusive<u32>) -> Option<u32> {
    let number = match text.parse::<u32>() {
        Ok(number) => number,
        Err(_) => {
            let time = text.parse::<SignedDuration>().ok()?;
            let milliseconds = i64::try_from(time.as_millis()).ok()?;
            (milliseconds % unit == 0).then(|| u32::try_from(milliseconds / unit).ok())??
        }
    };
    Some(number).filter(|number| range.contains(number))
}

/// A delay in the notation of the configuration: `20ms`, `1s` or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pause(pub Duration);

impl FromStr for Pause {
    type Err = PortError;

    fn from_str(word: &str) -> Result<Self, PortError> {
        if word == "none" {
            return Ok(Self::default());
        }
        let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
        let (count, unit) = word.split_at(digits);
        let milliseconds = count.parse::<u64>().ok().and_then(|count| match unit {
            "ms" => Some(count),
            "s" => count.checked_mul(1000),
            _ => None,
        });
        milliseconds
            .map(Duration::from_millis)
            .filter(|pause| pause.is_zero() || PAUSE_RANGE.contains(pause))
            .map(Self)
            .ok_or_else(|| PortError::Pause(word.to_owned()))
    }
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            0 => f.write_str("none"),
            time if time % 1000 == 0 => write!(f, "{}s", time / 1000),
            time => write!(f, "{time}ms"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pacing {
    /// After each character.
    pub character: Pause,
    /// After each line ending, unless `character` is longer.
    pub line: Pause,
}

impl Pacing {
    /// Whether there is any delay.
    pub fn is_on(&self) -> bool {
        *self != Self::default()
    }

    /// How many of these bytes can be written at once, and the delay after them. CR, LF and CR LF each end a
    /// line once: a terminal sends CR for Return and a file contains LF, while tio, which detects LF only,
    /// never delays after typed lines (tio issue 374).
    pub fn step(&self, bytes: &[u8]) -> (usize, Duration) {
        let (Pause(character), Pause(line)) = (self.character, self.line);
        let ends_line = |at: usize| match bytes[at] {
            b'\n' => true,
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        };
        if bytes.is_empty() {
            return (0, Duration::ZERO);
        }
        if !character.is_zero() {
            return (1, if ends_line(0) { line.max(character) } else { character });
        }
        match (0..bytes.len()).find(|at| !line.is_zero() && ends_line(*at)) {
            Some(end) => (end + 1, line),
            None => (bytes.len(), Duration::ZERO),
        }
    }

    /// How many of these bytes, at most `most`, are sent in one message: up to the first delay. One more if
    /// CR LF would be split.
    pub fn piece(&self, bytes: &[u8], most: usize) -> usize {
        let count = self.step(bytes).0.min(most);
        let cuts = count > 0 && bytes[count - 1] == b'\r' && bytes.get(count) == Some(&b'\n');
        count + usize::from(cuts && self.is_on())
    }

    /// The sum of the delays after these bytes.
    pub fn time(&self, bytes: &[u8]) -> Duration {
        let (mut rest, mut sum) = (bytes, Duration::ZERO);
        while !rest.is_empty() {
            let (count, pause) = self.step(rest);
            rest = &rest[count..];
            sum += pause;
        }
        sum
    }

    /// How many of these bytes are written within a time.
    pub fn within(&self, bytes: &[u8], time: Duration) -> usize {
        let (mut done, mut sum) = (0, Duration::ZERO);
        while done < bytes.len() && sum <= time {
            let (count, pause) = self.step(&bytes[done..]);
            done += count;
            sum += pause;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pacing(character: &str, line: &str) -> Pacing {
        Pacing { character: character.parse().unwrap(), line: line.parse().unwrap() }
    }

    /// The steps of these bytes: how many, and milliseconds.
    fn steps(pacing: Pacing, bytes: &[u8]) -> Vec<(usize, u128)> {
        let mut done = 0;
        let mut steps = Vec::new();
        while done < bytes.len() {
            let (count, pause) = pacing.step(&bytes[done..]);
            done += count;
            steps.push((count, pause.as_millis()));
        }
        steps
    }

    #[test]
    fn every_character_and_every_kind_of_line_ending_has_its_delay() {
        assert_eq!(steps(pacing("none", "none"), b"ab\rc"), [(4, 0)]);
        assert_eq!(steps(pacing("5ms", "none"), b"ab\r\n"), [(1, 5); 4]);
        assert_eq!(steps(pacing("none", "1s"), b"ab\rc\r\nd\ne"), [(3, 1000), (3, 1000), (2, 1000), (1, 0)]);
        assert_eq!(steps(pacing("5ms", "1s"), b"a\r\n\rb"), [(1, 5), (1, 5), (1, 1000), (1, 1000), (1, 5)]);
        assert_eq!(steps(pacing("2s", "1s"), b"\r"), [(1, 2000)], "the longer one");
        assert_eq!(pacing("5ms", "1s").time(b"a\r\n\rb"), Duration::from_millis(2015));
        assert_eq!(pacing("5ms", "1s").time(b""), Duration::ZERO);
    }

    #[test]
    fn a_piece_ends_with_its_delay_and_not_within_a_line_ending() {
        assert_eq!(pacing("5ms", "none").piece(b"\r\nab", 512), 2);
        assert_eq!(pacing("5ms", "none").piece(b"ab", 512), 1);
        assert_eq!(pacing("none", "1s").piece(b"ab\r\nc", 512), 4);
        assert_eq!(pacing("none", "1s").piece(b"ab\r\nc", 3), 4);
        assert_eq!(pacing("none", "none").piece(b"ab\r\nc", 3), 3);
        assert_eq!(pacing("none", "1s").piece(b"", 3), 0);
    }

    #[test]
    fn the_bytes_written_within_a_time_are_counted_with_their_delays() {
        assert_eq!(pacing("100ms", "none").within(b"0123456789abcdef", Duration::from_secs(1)), 11);
        assert_eq!(pacing("none", "10s").within(b"ab\rcd\r", Duration::from_secs(1)), 3);
        assert_eq!(pacing("none", "none").within(b"ab\rcd\r", Duration::from_secs(1)), 6);
    }

    #[test]
    fn a_delay_prints_with_its_unit() {
        for (word, wanted) in
            [("20ms", "20ms"), ("1s", "1s"), ("1000ms", "1s"), ("10s", "10s"), ("0ms", "none")]
        {
            assert_eq!(word.parse::<Pause>().unwrap().to_string(), wanted);
        }
        for word in ["20", "0", "11s", "1m", "", "ms", "-1ms", "1.5s", "99999999999999999999s"] {
            assert_eq!(word.parse::<Pause>(), Err(PortError::Pause(word.to_owned())));
        }
    }
}
