//! The pattern of `grep` and `expect`.

use std::fmt;
use std::str::FromStr;

use regex_automata::meta::Regex;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::pattern::{Over, compile};
use crate::port::text::serde_as_text;

/// An invalid pattern. Display is the error message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("invalid pattern {0:?}: {1}")]
pub struct PatternError(String, String);

/// A regular expression over bytes; `^` and `$` also match at the ends of lines, with CR LF or LF.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    pub fn ignoring_case(&self) -> Result<Self, PatternError> {
        format!("(?i){}", self.text).parse()
    }

    /// Whether these bytes contain a match.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.regex.is_match(bytes)
    }

    /// The end of the first match.
    pub fn end_in(&self, bytes: &[u8]) -> Option<usize> {
        self.regex.find(bytes).map(|found| found.end())
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match compile(text, Over::Stream) {
            Ok(regex) => Ok(Self { text: text.to_owned(), regex }),
            Err(why) => Err(PatternError(text.chars().take(64).collect(), why)),
        }
    }
}

serde_as_text!(Pattern);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.text).finish()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn lines_have_ends_of_either_kind() {
        for (text, bytes) in [
            ("^login: $", &b"\r\nboot\r\nlogin: "[..]),
            ("^ok$", b"ok\r\nnext"),
            ("^ok$", b"ok\nnext"),
            (r"v\d+", b"\xffv12"),
            ("(?i)panic", b"Kernel PANIC"),
            ("größe", "die größe".as_bytes()),
        ] {
            assert!(pattern(text).is_in(bytes), "{text:?} in {bytes:?}");
        }
        assert!(!pattern("^login: $").is_in(b"login: root"));
        assert_eq!(pattern("b+").end_in(b"abbc"), Some(3));
        assert!(pattern("panic").ignoring_case().unwrap().is_in(b"PANIC"));
    }

    #[test]
    fn an_invalid_pattern_is_reported_in_one_sentence() {
        for (text, wanted) in [
            ("", r#"invalid pattern "": an empty pattern matches everything"#),
            ("a(b", r#"invalid pattern "a(b": unclosed group (character 2)"#),
            (r"\w{1000}{1000}", "64 KiB when compiled"),
            (&"x".repeat(257), "longer than 256 bytes"),
        ] {
            let error = text.parse::<Pattern>().unwrap_err().to_string();
            assert!(error.contains(wanted) && error.lines().count() == 1, "{text:?}: {error}");
        }
    }

    #[test]
    fn catastrophic_backtracking_does_not_happen() {
        let bomb = pattern("(a*)*(a*)*(a|aa)+$|(x+x+)+y");
        let text = "a".repeat(64 * 1024) + &"x".repeat(64 * 1024);
        let began = Instant::now();
        bomb.is_in(text.as_bytes());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}
