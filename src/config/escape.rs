//! The escape prefix in caret notation: `^Ec`. The first character must be a control character, because users
//! would type a prefix of two printable ones by accident.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The two characters that begin an escape command: `^Ec` is Control-E, then `c` (conserver's).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EscapePrefix(pub [u8; 2]);

impl Default for EscapePrefix {
    /// `^Ec`
    fn default() -> Self {
        Self([0x05, b'c'])
    }
}

/// The text is not a control character followed by another character.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid escape prefix {0:?}: use a control character and one more, such as \"^Ec\"")]
pub struct EscapeError(String);

impl FromStr for EscapePrefix {
    type Err = EscapeError;

    fn from_str(word: &str) -> Result<Self, EscapeError> {
        let prefix = character(word.as_bytes()).and_then(|(first, rest)| match character(rest)? {
            (second, []) if first.is_ascii_control() => Some(Self([first, second])),
            _ => None,
        });
        prefix.ok_or_else(|| EscapeError(word.to_owned()))
    }
}

/// Splits off one character; a caret at the end stands for itself.
fn character(word: &[u8]) -> Option<(u8, &[u8])> {
    match word {
        [b'^', b'?', rest @ ..] => Some((0x7f, rest)),
        [b'^', c, rest @ ..] if matches!(c.to_ascii_uppercase(), b'@'..=b'_') => {
            Some((c.to_ascii_uppercase() & 0x1f, rest))
        }
        [b'^', _, ..] => None,
        [c, rest @ ..] if c.is_ascii_graphic() => Some((*c, rest)),
        _ => None,
    }
}

impl fmt::Display for EscapePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0 {
            match c {
                0x7f => f.write_str("^?")?,
                0..0x20 => write!(f, "^{}", char::from(c | 0x40))?,
                _ => write!(f, "{}", char::from(c))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caret_notation_names_two_characters() {
        for (word, bytes) in [
            ("^Ec", [5, b'c']),
            ("^xy", [24, b'y']),
            ("^]^]", [29, 29]),
            ("^?.", [127, b'.']),
            ("^E^", [5, b'^']),
        ] {
            assert_eq!(word.parse(), Ok(EscapePrefix(bytes)), "{word}");
        }
    }

    #[test]
    fn a_prefix_without_a_control_character_is_rejected() {
        for word in ["", "^E", "cc", "c^E", "^Ecc", "^E\n", "^1c", "^Eä", "E"] {
            assert!(word.parse::<EscapePrefix>().is_err(), "{word:?}");
        }
    }

    #[test]
    fn a_printed_prefix_parses_to_the_same_prefix() {
        for first in (0..0x20).chain([0x7f]) {
            for second in (0..0x20).chain(0x21..=0x7f) {
                let prefix = EscapePrefix([first, second]);
                assert_eq!(prefix.to_string().parse(), Ok(prefix), "{prefix}");
            }
        }
    }
}
