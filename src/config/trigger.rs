//! `[ports.NAME.triggers]`: what a device may say, or not say, that something follows from. A pattern is compiled as it is
//! read, so that one which is wrong, or would cost too much, is an error of the file and not of the port at night.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use regex_automata::meta;
use thiserror::Error;

use crate::pattern::{Over, compile};

/// Rules of one port.
pub const MAX_TRIGGERS: usize = 16;

/// The rules of a port by name.
pub type Triggers = BTreeMap<TriggerName, Trigger>;

/// The name of a rule: what may stand behind `PORT:` in the name of a unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TriggerName(String);

/// Not the name of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} is not the name of a trigger: use 1 to 32 of A-Z a-z 0-9 _ and -, beginning with a letter or digit"
)]
pub struct TriggerNameError(String);

impl FromStr for TriggerName {
    type Err = TriggerNameError;

    fn from_str(word: &str) -> Result<Self, TriggerNameError> {
        let right = (1..=32).contains(&word.len())
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
            && word.starts_with(|c: char| c.is_ascii_alphanumeric());
        match right {
            true => Ok(Self(word.to_owned())),
            false => Err(TriggerNameError(word.chars().take(60).collect())),
        }
    }
}

impl fmt::Display for TriggerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TriggerName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A regular expression that compiles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Compiles it, and keeps the text: what runs is made by whoever runs it.
    pub fn new(text: &str) -> Result<Self, String> {
        compile(text, Over::Line).map(|_| Self(text.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The machine.
    pub fn compiled(&self) -> meta::Regex {
        compile(&self.0, Over::Line).expect("it has been compiled before")
    }
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Fires when this is in a line.
    pub pattern: Option<Pattern>,
    /// Fires when nothing was heard for so long.
    pub silence: Option<Duration>,
    /// Whether `console-trigger@PORT:NAME.service` is started.
    pub start: bool,
    /// How long it rests when it has fired.
    pub rest: Duration,
}

impl Default for Trigger {
    fn default() -> Self {
        Self { pattern: None, silence: None, start: false, rest: Duration::from_secs(60) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_a_unit_may_be_called() {
        for right in ["panic", "x", "OOM-killer", "9_", &"n".repeat(32)] {
            assert_eq!(right.parse::<TriggerName>().map(|name| name.to_string()), Ok(right.to_owned()));
        }
        for wrong in ["", "-x", "_x", "a.b", "a:b", "a b", "ü", "../x", "a%i", &"n".repeat(33)] {
            assert!(wrong.parse::<TriggerName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pattern_that_is_none_says_where() {
        let why = |text: &str| Pattern::new(text).unwrap_err();
        assert_eq!(why("a(b"), "unclosed group (character 2)");
        assert_eq!(
            why("a**b{2,1}"),
            "invalid repetition count range, the start must be <= the end (character 5)"
        );
        assert_eq!(why(""), "an empty pattern matches everything");
        assert_eq!(why(&"x".repeat(257)), "it is longer than 256 bytes");
        assert_eq!(why("[ü]"), "Unicode not allowed here (character 2)");
        assert_eq!(why(r"(a)\1"), "backreferences are not supported (character 4)");
    }

    #[test]
    fn a_bomb_is_refused_at_once() {
        let start = std::time::Instant::now();
        for bomb in ["(a{1000}){1000}", "((a{100}){100}){100}", "(x+x+)+y{60000}", &"(".repeat(200)] {
            let why = Pattern::new(bomb).unwrap_err();
            assert!(
                why.contains("64 KiB") || why.contains("nest") || why.contains("unclosed"),
                "{bomb}: {why}"
            );
        }
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}
