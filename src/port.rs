//! Names and line settings of serial ports: parsed once, then passed as types. No I/O.

mod brackets;
mod fold;
mod mapping;
pub mod nearest;
mod pacing;
pub mod pattern;
pub mod power;
mod sequence;
mod source;
pub(crate) mod text;
mod units;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use mapping::Mapping;
pub(crate) use pacing::in_units;
pub use pacing::{Pacing, Pause};
pub use pattern::{GroupName, PatternError, PortGroups, PortPattern};
pub use sequence::{
    BreakArgument, BreakArgumentError, BreakName, BreakNameError, Breaks, BreaksError, Sequence,
    SequenceError, Step,
};
pub use source::{Endpoint, Source, SourceError};
use text::serde_as_text;

/// Why a port name, a delay or a mapping is rejected. The Display is the sentence that the user reads. (For line
/// settings, the table of configuration keys describes valid values.)
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PortError {
    #[error(
        "invalid port name {0:?}: use 1 to 32 characters of A-Z a-z 0-9 . _ -, starting with a letter, a digit or _"
    )]
    Name(String),
    #[error("invalid delay {0:?}: use \"1ms\" to \"10s\", or \"none\"")]
    Pause(String),
    #[error("unknown mapping {0:?}")]
    Mapping(String),
    #[error("{name} is tio's name: use {word} in {key}")]
    TioMapping { name: &'static str, key: &'static str, word: &'static str },
    #[error("{0} and {1} both replace the same character")]
    Mappings(&'static str, &'static str),
}

/// The name of a port: `ttyUSB0`, `core-switch`. Its characters are limited to `[A-Za-z0-9._-]`, so that it
/// is safe as a systemd instance and a file name, and as a D-Bus path element once escaped. Sorted by
/// [`natural_order`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortName(String);

impl PortName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PortName {
    type Err = PortError;

    /// Accepts `ttyUSB0` and `/dev/ttyUSB0`.
    fn from_str(word: &str) -> Result<Self, PortError> {
        let name = word.strip_prefix("/dev/").unwrap_or(word);
        let bytes = name.as_bytes();
        let valid = matches!(bytes.len(), 1..=32)
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(b))
            && !b".-".contains(&bytes[0]);
        if valid { Ok(Self(name.to_owned())) } else { Err(PortError::Name(word.to_owned())) }
    }
}

serde_as_text!(PortName);

impl Ord for PortName {
    fn cmp(&self, other: &Self) -> Ordering {
        natural_order(&self.0, &other.0)
    }
}

impl PartialOrd for PortName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Natural sort order: digits compare as numbers, so `ttyUSB2` comes before `ttyUSB10`. Names that differ
/// only in leading zeros are in byte order, so that only equal names are equal.
pub fn natural_order(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one.as_bytes(), other.as_bytes());
    let digits = |name: &[u8]| name.iter().take_while(|byte| byte.is_ascii_digit()).count();
    while let (Some(first), Some(second)) = (left.first(), right.first()) {
        let (count, other_count) = (digits(left), digits(right));
        let order = if count > 0 && other_count > 0 {
            let (number, rest) = left.split_at(count);
            let (other_number, other_rest) = right.split_at(other_count);
            (left, right) = (rest, other_rest);
            // Without leading zeros, the longer number is the greater one.
            let value =
                |digits: &[u8]| digits.iter().position(|&digit| digit != b'0').unwrap_or(digits.len());
            let (number, other_number) = (&number[value(number)..], &other_number[value(other_number)..]);
            number.len().cmp(&other_number.len()).then_with(|| number.cmp(other_number))
        } else {
            let order = first.cmp(second);
            (left, right) = (&left[1..], &right[1..]);
            order
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    left.len().cmp(&right.len()).then_with(|| one.cmp(other))
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Data bits of a character (`CSIZE`, `man termios`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(u8);

impl ByteSize {
    /// Eight bits, the default.
    pub const EIGHT: Self = Self(8);

    /// 5, 6, 7 or 8.
    pub fn bits(self) -> u8 {
        self.0
    }
}

impl TryFrom<u64> for ByteSize {
    type Error = ();

    fn try_from(bits: u64) -> Result<Self, ()> {
        match bits {
            5..=8 => Ok(Self(bits as u8)),
            _ => Err(()),
        }
    }
}

/// Parity (`PARENB`, `PARODD` and Linux's `CMSPAR`, `man termios`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parity {
    /// `N`: no parity bit.
    None,
    /// `E`: even.
    Even,
    /// `O`: odd.
    Odd,
    /// `M`: the bit is always 1.
    Mark,
    /// `S`: the bit is always 0.
    Space,
}

impl Parity {
    pub fn letter(self) -> char {
        match self {
            Self::None => 'N',
            Self::Even => 'E',
            Self::Odd => 'O',
            Self::Mark => 'M',
            Self::Space => 'S',
        }
    }
}

impl FromStr for Parity {
    type Err = ();

    /// The letter or the word, in either case.
    fn from_str(word: &str) -> Result<Self, ()> {
        match word.to_ascii_lowercase().as_str() {
            "n" | "none" => Ok(Self::None),
            "e" | "even" => Ok(Self::Even),
            "o" | "odd" => Ok(Self::Odd),
            "m" | "mark" => Ok(Self::Mark),
            "s" | "space" => Ok(Self::Space),
            _ => Err(()),
        }
    }
}

/// Stop bits (`CSTOPB`, `man termios`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopBits {
    One,
    Two,
}

impl StopBits {
    /// 1 or 2.
    pub fn count(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
}

impl TryFrom<u64> for StopBits {
    type Error = ();

    fn try_from(count: u64) -> Result<Self, ()> {
        match count {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            _ => Err(()),
        }
    }
}

/// A line rate in bits per second. The driver decides whether it supports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Baud(u32);

impl Baud {
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u64> for Baud {
    type Error = ();

    fn try_from(rate: u64) -> Result<Self, ()> {
        u32::try_from(rate).ok().filter(|rate| *rate > 0).map(Self).ok_or(())
    }
}

/// State of DTR or RTS after the port is opened. The kernel raises both in open(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LineLevel {
    /// The level that open(2) and the driver have set.
    #[default]
    Leave,
    /// Asserted.
    On,
    /// The line is not asserted.
    Off,
}

impl LineLevel {
    /// The value in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Leave => "leave",
            Self::On => "on",
            Self::Off => "off",
        }
    }

    /// Whether to assert it; `None` = leave it unchanged.
    pub fn wanted(self) -> Option<bool> {
        match self {
            Self::Leave => None,
            Self::On => Some(true),
            Self::Off => Some(false),
        }
    }
}

impl FromStr for LineLevel {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        [Self::Leave, Self::On, Self::Off].into_iter().find(|level| level.word() == word).ok_or(())
    }
}

/// The levels of both lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModemLevels {
    pub dtr: LineLevel,
    pub rts: LineLevel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineSettings {
    pub baud: Baud,
    pub bytesize: ByteSize,
    pub parity: Parity,
    pub stopbits: StopBits,
    /// Hardware flow control (`CRTSCTS`).
    pub rtscts: bool,
    /// Software flow control (`IXON` and `IXOFF`).
    pub xonxoff: bool,
}

impl Default for LineSettings {
    /// 9600 8N1 without flow control.
    fn default() -> Self {
        Self {
            baud: Baud(9600),
            bytesize: ByteSize::EIGHT,
            parity: Parity::None,
            stopbits: StopBits::One,
            rtscts: false,
            xonxoff: false,
        }
    }
}

impl LineSettings {
    /// The time that the line needs to transmit these characters.
    pub fn time_of(&self, characters: usize) -> Duration {
        let parity = u8::from(self.parity != Parity::None);
        let bits = 1 + self.bytesize.bits() + parity + self.stopbits.count();
        Duration::from_secs_f64(f64::from(bits) * characters as f64 / f64::from(self.baud.get()))
    }
}

impl fmt::Display for LineSettings {
    /// `115200 8N1 RTS/CTS`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { baud, bytesize, parity, stopbits, rtscts, xonxoff } = self;
        write!(f, "{} {}{}{}", baud.get(), bytesize.bits(), parity.letter(), stopbits.count())?;
        if *rtscts {
            f.write_str(" RTS/CTS")?;
        }
        if *xonxoff {
            f.write_str(" XON/XOFF")?;
        }
        Ok(())
    }
}

/// The driver's name of its devices, from the kernel's name of one: `ttyTHS` of `ttyTHS0`. The device
/// cgroup and /proc/devices use it.
/// `None` if it is not a serial line: virtual consoles (`tty1`), disks.
pub fn driver_of(kernel: &str) -> Option<&str> {
    let driver = kernel.trim_end_matches(|c: char| c.is_ascii_digit());
    let line = ["tty", "rfcomm", "hvc"].iter().any(|kind| driver.starts_with(kind)) && driver != "tty";
    let plain = driver.len() <= 32 && driver.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    (line && plain && driver != kernel).then_some(driver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_escape_a_path_or_a_unit_are_rejected() {
        for bad in ["", ".", "..", ".hidden", "-x", "a/b", "a%i", "a\nb", "a b", "ä", "/dev/", "/dev/a/b"] {
            assert_eq!(bad.parse::<PortName>(), Err(PortError::Name(bad.to_owned())), "{bad:?}");
        }
        assert!("x".repeat(33).parse::<PortName>().is_err());
    }

    #[test]
    fn ports_are_sorted_in_natural_order() {
        // As `sort -V`.
        let sorted = [
            "1",
            "2",
            "10",
            "core",
            "core-2",
            "core-10",
            "p",
            "p01",
            "p1",
            "p2",
            "p2a",
            "p2b",
            "p10",
            "p010x",
            "p10x",
            "rack2.port9",
            "rack2.port10",
            "rack10.port1",
            "ttyS0",
            "ttyUSB0",
            "ttyUSB2",
            "ttyUSB10",
            "ttyUSB100",
            "ttyUSB18446744073709551615",
            "ttyUSB18446744073709551616",
        ]
        .map(|name| name.parse::<PortName>().unwrap());
        for (index, one) in sorted.iter().enumerate() {
            for (other_index, other) in sorted.iter().enumerate() {
                assert_eq!(one.cmp(other), index.cmp(&other_index), "{one} and {other}");
            }
        }
    }

    #[test]
    fn a_device_path_names_the_same_port() {
        let name: PortName = "/dev/ttyUSB0".parse().unwrap();
        assert_eq!(name, "ttyUSB0".parse().unwrap());
        assert_eq!(name.as_str(), "ttyUSB0");
    }

    #[test]
    fn line_settings_print_in_the_usual_notation() {
        let mut line = LineSettings::default();
        assert_eq!(line.to_string(), "9600 8N1");
        line.parity = Parity::Mark;
        line.rtscts = true;
        assert_eq!(line.to_string(), "9600 8M1 RTS/CTS");
    }

    #[test]
    fn a_character_takes_the_time_of_its_bits() {
        let mut line = LineSettings::default();
        assert_eq!(line.time_of(960), Duration::from_secs(1));
        line.parity = Parity::Even;
        line.stopbits = StopBits::Two;
        assert_eq!(line.time_of(9600), Duration::from_secs(12));
    }

    #[test]
    fn invalid_settings_are_rejected() {
        assert!(
            Baud::try_from(0).is_err() && ByteSize::try_from(9).is_err() && StopBits::try_from(3).is_err()
        );
        for (parity, words) in [
            (Parity::None, ["N", "n", "none"]),
            (Parity::Even, ["E", "even", "EVEN"]),
            (Parity::Odd, ["O", "o", "Odd"]),
            (Parity::Mark, ["M", "m", "mark"]),
            (Parity::Space, ["S", "s", "space"]),
        ] {
            assert!(words.iter().all(|word| word.parse() == Ok(parity)), "{words:?}");
        }
        assert!(["X", "", "no", "NE", "evenly"].iter().all(|word| word.parse::<Parity>().is_err()));
        assert!("up".parse::<LineLevel>().is_err() && "off".parse() == Ok(LineLevel::Off));
    }

    #[test]
    fn every_rate_is_passed_to_the_driver() {
        // man 2const TCSETS2: speed_t, 32 bits; BOTHER with a rate of 0 is B0, which hangs up.
        for rate in [1, 45, 6_000_000, 12_000_000, u64::from(u32::MAX)] {
            assert_eq!(Baud::try_from(rate).map(|baud| u64::from(baud.get())), Ok(rate));
        }
        assert!(Baud::try_from(u64::from(u32::MAX) + 1).is_err());
    }

    #[test]
    fn the_driver_of_a_serial_line_is_its_name_without_the_number() {
        for (kernel, driver) in [
            ("ttyTHS0", Some("ttyTHS")),
            ("ttymxc12", Some("ttymxc")),
            ("ttyCH343USB0", Some("ttyCH343USB")),
            ("ttyO2", Some("ttyO")),
            ("hvc0", Some("hvc")),
            ("tty1", None),
            ("tty", None),
            ("ttyTHS", None),
            ("sda1", None),
            ("null", None),
            ("ttyX rw\n1", None),
        ] {
            assert_eq!(driver_of(kernel), driver, "{kernel}");
        }
    }
}
