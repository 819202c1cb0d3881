//! What is sent as a break or as a keepalive: text, delays and serial breaks, in the notation of conserver.cf(5). Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::pacing::in_units;
use super::text::{name_type, serde_as_text};

/// Characters of a sequence, as written.
const MAX_CHARACTERS: usize = 256;
/// `\d` without a time, as in conserver.cf(5).
const DEFAULT_DELAY: Duration = Duration::from_millis(250);
/// All delays and breaks of a sequence together: the port sends nothing else in that time.
const MAX_DURATION: Duration = Duration::from_secs(10);
/// The assumed length of a `\z` without a time; the caller determines the actual one.
const USUAL_BREAK: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Bytes(Vec<u8>),
    /// `\d`: wait.
    Delay(Duration),
    /// `\z`: send a serial break, of the caller's length if none is given here.
    Break(Option<Duration>),
}

/// Bytes, delays and breaks, in order. Two sequences of the same text are equal, however it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sequence(Vec<Step>);

/// Why a text is not a sequence. The Display is the sentence that the user reads.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SequenceError {
    #[error("it is empty")]
    Empty,
    #[error("it has more than {MAX_CHARACTERS} characters")]
    TooLong,
    #[error("its delays and breaks last longer than {} s", MAX_DURATION.as_secs())]
    TooSlow,
    #[error(
        "invalid escape {0:?}: use \\r \\n \\t \\e \\a \\b \\f \\v \\\\ \\^ \\xHH \\OOO, \\d or \\d{{MS}} for a delay, \\z or \\z{{MS}} for a serial break"
    )]
    Escape(String),
    #[error("invalid control character {0:?}: use ^@ to ^_ or ^?, and \\^ for a caret")]
    Caret(String),
}

impl Sequence {
    /// A serial break and nothing else.
    pub fn serial_break() -> Self {
        Self(vec![Step::Break(None)])
    }

    /// These bytes; without any, nothing is sent.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(vec![Step::Bytes(bytes.to_vec())])
    }

    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether it is only a serial break of the caller's length.
    pub fn is_serial_break(&self) -> bool {
        self.0 == [Step::Break(None)]
    }

    /// How long its delays and breaks last.
    pub fn duration(&self) -> Duration {
        self.0
            .iter()
            .map(|step| match step {
                Step::Bytes(_) => Duration::ZERO,
                Step::Delay(time) => *time,
                Step::Break(time) => time.unwrap_or(USUAL_BREAK),
            })
            .sum()
    }

    fn push(&mut self, byte: u8) {
        match self.0.last_mut() {
            Some(Step::Bytes(bytes)) => bytes.push(byte),
            _ => self.0.push(Step::Bytes(vec![byte])),
        }
    }
}

impl Default for Sequence {
    fn default() -> Self {
        Self::serial_break()
    }
}

impl FromStr for Sequence {
    type Err = SequenceError;

    fn from_str(text: &str) -> Result<Self, SequenceError> {
        if text.is_empty() {
            return Err(SequenceError::Empty);
        }
        if text.chars().count() > MAX_CHARACTERS {
            return Err(SequenceError::TooLong);
        }
        let mut sequence = Self(Vec::new());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let after = &rest[first.len_utf8()..];
            rest = match first {
                '\\' => sequence.escape(after)?,
                '^' => sequence.control(after)?,
                _ => {
                    first.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| sequence.push(byte));
                    after
                }
            };
        }
        match sequence.duration() <= MAX_DURATION {
            true => Ok(sequence),
            false => Err(SequenceError::TooSlow),
        }
    }
}

/// The milliseconds of `{250}`, and what follows them.
fn braced(text: &str) -> Option<(Option<Duration>, &str)> {
    let Some(inner) = text.strip_prefix('{') else { return Some((None, text)) };
    let (digits, rest) = inner.split_once('}')?;
    let milliseconds = digits.parse::<u16>().ok().filter(|count| *count > 0)?;
    Some((Some(Duration::from_millis(milliseconds.into())), rest))
}

impl Sequence {
    /// Takes what follows a backslash, and returns the rest.
    fn escape<'t>(&mut self, text: &'t str) -> Result<&'t str, SequenceError> {
        let wrong = || {
            SequenceError::Escape(format!("\\{}", text.chars().next().map_or_else(String::new, String::from)))
        };
        let letter = text.chars().next().ok_or_else(wrong)?;
        let after = &text[letter.len_utf8()..];
        let byte = match letter {
            'r' => b'\r',
            'n' => b'\n',
            't' => b'\t',
            'e' => 0x1b,
            'a' => 0x07,
            'b' => 0x08,
            'f' => 0x0c,
            'v' => 0x0b,
            '\\' | '^' => letter as u8,
            'd' => {
                let (time, rest) = braced(after).ok_or_else(wrong)?;
                self.0.push(Step::Delay(time.unwrap_or(DEFAULT_DELAY)));
                return Ok(rest);
            }
            'z' => {
                let (time, rest) = braced(after).ok_or_else(wrong)?;
                self.0.push(Step::Break(time));
                return Ok(rest);
            }
            'x' => {
                let digits = after.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
                let digits = digits.ok_or_else(wrong)?;
                self.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
                return Ok(&after[2..]);
            }
            '0'..='7' => {
                let count = text.bytes().take(3).take_while(|b| matches!(b, b'0'..=b'7')).count();
                self.push(u8::from_str_radix(&text[..count], 8).map_err(|_| wrong())?);
                return Ok(&text[count..]);
            }
            _ => return Err(wrong()),
        };
        self.push(byte);
        Ok(after)
    }

    /// Takes what follows a caret, and returns the rest.
    fn control<'t>(&mut self, text: &'t str) -> Result<&'t str, SequenceError> {
        let wrong = || {
            SequenceError::Caret(format!("^{}", text.chars().next().map_or_else(String::new, String::from)))
        };
        let letter = text.chars().next().ok_or_else(wrong)?;
        match letter.to_ascii_uppercase() {
            '?' => self.push(0x7f),
            upper @ '@'..='_' => self.push(upper as u8 & 0x1f),
            _ => return Err(wrong()),
        }
        Ok(&text[letter.len_utf8()..])
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Bytes(bytes) => {
                    for (at, byte) in bytes.iter().enumerate() {
                        match byte {
                            // After a delay or a break it would begin a time.
                            b'{' if index > 0 && at == 0 => f.write_str("\\x7b")?,
                            b'\r' => f.write_str("\\r")?,
                            b'\n' => f.write_str("\\n")?,
                            b'\t' => f.write_str("\\t")?,
                            0x1b => f.write_str("\\e")?,
                            b'\\' => f.write_str("\\\\")?,
                            b'^' => f.write_str("\\^")?,
                            0x7f => f.write_str("^?")?,
                            0..0x20 => write!(f, "^{}", char::from(byte | 0x40))?,
                            0x20..0x7f => write!(f, "{}", char::from(*byte))?,
                            _ => write!(f, "\\x{byte:02x}")?,
                        }
                    }
                }
                Step::Delay(time) if *time == DEFAULT_DELAY => f.write_str("\\d")?,
                Step::Delay(time) => write!(f, "\\d{{{}}}", time.as_millis())?,
                Step::Break(None) => f.write_str("\\z")?,
                Step::Break(Some(time)) => write!(f, "\\z{{{}}}", time.as_millis())?,
            }
        }
        Ok(())
    }
}

serde_as_text!(Sequence);

name_type! {
    /// The name of a break: a letter or digit, then up to 15 more. The first character is the key after `^Ecl`.
    #[derive(Serialize, Deserialize)]
    #[serde(try_from = "String", into = "String")]
    BreakName, BreakNameError,
    "invalid break name {0:?}: use a letter a-z and up to 15 more of a-z 0-9 _ -, or one digit from 1 to 9",
    |word| {
        let is_digit = matches!(word.as_bytes(), [b'1'..=b'9']);
        let is_word = (1..=16).contains(&word.len())
            && word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
        is_digit || is_word
    }
}
serde_as_text!(BreakName);

impl BreakName {
    /// Its key after `^Ecl`.
    pub fn key(&self) -> u8 {
        self.0.as_bytes()[0]
    }
}

/// What a user asks for by `break`: a serial break of this length, or the break of this name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BreakArgument {
    /// Milliseconds.
    Length(u32),
    /// The name of one of [`Breaks`].
    Name(BreakName),
}

/// Neither a length nor a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid break {0:?}: expected milliseconds from 10 to 10000, or the name of a break of the port")]
pub struct BreakArgumentError(String);

impl FromStr for BreakArgument {
    type Err = BreakArgumentError;

    fn from_str(word: &str) -> Result<Self, BreakArgumentError> {
        let wrong = || BreakArgumentError(word.chars().take(60).collect());
        match word.parse() {
            // A break shorter than a character is impossible: 1 to 9 are names.
            Ok(milliseconds @ 10..=10_000) => Ok(Self::Length(milliseconds)),
            _ => match word.parse() {
                Ok(name) => Ok(Self::Name(name)),
                Err(_) => in_units(word, 1, 10..=10_000).map(Self::Length).ok_or_else(wrong),
            },
        }
    }
}

/// The breaks of a port besides its usual one, as `NAME=SEQUENCE`. No two have the same key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Breaks(Vec<(BreakName, Sequence)>);

/// Why a text is not a break of the list. The Display is the sentence that the user reads.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BreaksError {
    #[error("{0:?} has no name: write NAME=SEQUENCE, such as 'sysrq=\\z\\dh'")]
    NoName(String),
    #[error("{0}")]
    Name(#[from] BreakNameError),
    #[error("{0}: {1}")]
    Sequence(BreakName, SequenceError),
    #[error("{0} and {1} begin with the same character, which is the key after ^Ecl")]
    SameKey(BreakName, BreakName),
}

impl Breaks {
    /// Adds `NAME=SEQUENCE`.
    pub fn add(&mut self, text: &str) -> Result<(), BreaksError> {
        let (name, sequence) =
            text.split_once('=').ok_or_else(|| BreaksError::NoName(text.chars().take(60).collect()))?;
        let name: BreakName = name.parse()?;
        if let Some((other, _)) = self.0.iter().find(|(other, _)| other.key() == name.key()) {
            return Err(BreaksError::SameKey(other.clone(), name));
        }
        match sequence.parse() {
            Ok(sequence) => self.0.push((name, sequence)),
            Err(error) => return Err(BreaksError::Sequence(name, error)),
        }
        Ok(())
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = &(BreakName, Sequence)> {
        self.0.iter()
    }

    /// The one whose name begins with this character.
    pub fn by_key(&self, key: u8) -> Option<&Sequence> {
        self.0.iter().find(|(name, _)| name.key() == key).map(|(_, sequence)| sequence)
    }

    pub fn by_name(&self, wanted: &BreakName) -> Option<&Sequence> {
        self.0.iter().find(|(name, _)| name == wanted).map(|(_, sequence)| sequence)
    }

    /// The names, as a sentence lists them.
    pub fn names(&self) -> String {
        self.0.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Step::*;

    fn steps(text: &str) -> Vec<Step> {
        text.parse::<Sequence>().unwrap().0
    }

    fn bytes(text: &[u8]) -> Step {
        Bytes(text.to_vec())
    }

    /// The sequences are those that conserver.cf(5) and conserver(8) have, and their meaning is conserver's.
    #[test]
    fn the_notation_is_that_of_conserver() {
        let ms = Duration::from_millis;
        for (text, wanted) in [
            ("\\z", vec![Break(None)]),
            ("\\r~^b", vec![bytes(b"\r~\x02")]),
            ("#.", vec![bytes(b"#.")]),
            ("\\r\\d~\\d^b", vec![bytes(b"\r"), Delay(ms(250)), bytes(b"~"), Delay(ms(250)), bytes(b"\x02")]),
            ("~B", vec![bytes(b"~B")]),
            ("\r+++", vec![bytes(b"\r+++")]),
            ("\\r+++", vec![bytes(b"\r+++")]),
            ("\\d{600}\\z{1500}h", vec![Delay(ms(600)), Break(Some(ms(1500))), bytes(b"h")]),
            ("\\^\\\\\\x1B\\033\\0^?^[", vec![bytes(b"^\\\x1b\x1b\0\x7f\x1b")]),
            ("é", vec![bytes("é".as_bytes())]),
        ] {
            assert_eq!(steps(text), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_wrong_sequence_is_reported_with_its_place() {
        for (text, wanted) in [
            ("", "it is empty"),
            ("a\\q", "invalid escape \"\\\\q\""),
            ("a\\", "invalid escape \"\\\\\""),
            ("\\x1", "invalid escape \"\\\\x\""),
            ("\\400", "invalid escape \"\\\\4\""),
            ("\\d{0}", "invalid escape \"\\\\d\""),
            ("\\d{5", "invalid escape \"\\\\d\""),
            ("^1", "invalid control character \"^1\""),
            ("^", "invalid control character \"^\""),
            ("\\d{6000}\\z{6000}", "last longer than 10 s"),
        ] {
            let error = text.parse::<Sequence>().unwrap_err().to_string();
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
        assert_eq!("x".repeat(257).parse::<Sequence>(), Err(SequenceError::TooLong));
    }

    #[test]
    fn a_printed_sequence_parses_to_the_same_sequence() {
        for byte in 0..=255 {
            for text in [vec![byte], vec![byte, b'0'], vec![byte, b'{']] {
                let sequence = Sequence(vec![bytes(&text), Delay(DEFAULT_DELAY), bytes(b"{1}"), Break(None)]);
                assert_eq!(sequence.to_string().parse(), Ok(sequence.clone()), "{sequence}");
            }
        }
    }

    #[test]
    fn breaks_have_names_with_different_first_characters() {
        let mut breaks = Breaks::default();
        breaks.add("sysrq=\\z\\dh").unwrap();
        breaks.add("1=a=b").unwrap();
        assert_eq!(breaks.by_key(b's'), breaks.by_name(&"sysrq".parse().unwrap()));
        assert_eq!(breaks.by_key(b'1').map(ToString::to_string), Some("a=b".to_owned()));
        assert_eq!(breaks.by_key(b'z'), None);
        for (word, wanted) in [
            ("250", Ok(BreakArgument::Length(250))),
            ("500ms", Ok(BreakArgument::Length(500))),
            ("1s", Ok(BreakArgument::Length(1000))),
            ("1.5s", Ok(BreakArgument::Length(1500))),
            ("1m", Err(BreakArgumentError("1m".to_owned()))),
            ("9", Ok(BreakArgument::Name("9".parse().unwrap()))),
            ("sysrq", Ok(BreakArgument::Name("sysrq".parse().unwrap()))),
            ("0", Err(BreakArgumentError("0".to_owned()))),
            ("10001", Err(BreakArgumentError("10001".to_owned()))),
        ] {
            assert_eq!(word.parse(), wanted, "{word}");
        }
        for (text, wanted) in [
            ("sun=#.", "sysrq and sun begin with the same character"),
            ("#.", "\"#.\" has no name"),
            ("12=x", "invalid break name \"12\""),
            ("0=x", "invalid break name"),
            ("B=x", "invalid break name"),
            ("x=\\q", "x: invalid escape"),
        ] {
            let error = breaks.add(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text:?}: {error}");
        }
    }
}
