//! `[ports.NAME.triggers]`: rules for the output of a device. A pattern is compiled as the file is read, so
//! that an invalid or too expensive one is an error of the file, and not of the port at night.

use std::collections::BTreeMap;
use std::time::Duration;

use regex_automata::meta;

use crate::pattern::{Over, compile};
use crate::port::text::{is_bare_key, name_type};

/// Limit of trigger rules of a port.
pub const MAX_TRIGGERS: usize = 16;

/// The trigger rules of a port by name.
pub type Triggers = BTreeMap<TriggerName, Trigger>;

name_type! {
    /// The name of a trigger rule: valid after `PORT:` in a unit name.
    TriggerName, TriggerNameError,
    "invalid trigger name {0:?}: use 1 to 32 characters of A-Z a-z 0-9 _ -, starting with a letter or digit",
    is_bare_key
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// Checks that the text compiles. The compiled form is made where it runs.
    pub fn new(text: &str) -> Result<Self, String> {
        compile(text, Over::Line).map(|_| Self(text.to_owned()))
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn compiled(&self) -> meta::Regex {
        compile(&self.0, Over::Line).expect("it has compiled before")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    /// Fires when a line matches.
    pub pattern: Option<Pattern>,
    /// Fires when the device sends nothing for this time.
    pub silence: Option<Duration>,
    /// Whether `console-trigger@PORT:NAME.service` is started.
    pub start: bool,
    /// Time after firing during which further matches are suppressed.
    pub cooldown: Duration,
}

impl Default for Trigger {
    fn default() -> Self {
        Self { pattern: None, silence: None, start: false, cooldown: Duration::from_secs(60) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_name_is_valid_in_a_unit_name() {
        for right in ["panic", "x", "OOM-killer", "9_", &"n".repeat(32)] {
            assert_eq!(right.parse::<TriggerName>().map(|name| name.to_string()), Ok(right.to_owned()));
        }
        for wrong in ["", "-x", "_x", "a.b", "a:b", "a b", "ü", "../x", "a%i", &"n".repeat(33)] {
            assert!(wrong.parse::<TriggerName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_invalid_pattern_is_rejected_with_its_position() {
        let why = |text: &str| Pattern::new(text).unwrap_err();
        assert_eq!(why("a(b"), "unclosed group (character 2)");
        assert_eq!(
            why("a**b{2,1}"),
            "invalid repetition count range, the start must be <= the end (character 5)"
        );
        assert_eq!(why(""), "an empty pattern matches everything");
        assert_eq!(why(&"x".repeat(257)), "longer than 256 bytes");
        assert_eq!(why("[ü]"), "Unicode not allowed here (character 2)");
        assert_eq!(why(r"(a)\1"), "backreferences are not supported (character 4)");
    }

    #[test]
    fn an_expensive_pattern_is_rejected_at_once() {
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
