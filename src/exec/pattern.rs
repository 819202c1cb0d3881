//! A regular expression of a user's. It takes linear time on any input (the `regex` crate), and [`SIZE`] bounds what it may cost in memory.

use std::fmt;
use std::str::FromStr;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Bytes of a pattern.
const LENGTH: usize = 1024;
/// Bytes of what it is compiled to, and of what it remembers while it is used: `\w{100}` is too large, any pattern for people is not.
const SIZE: usize = 1024 * 1024;

/// What is no pattern. Its Display is what the user reads.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    /// Matches everything, and so was not meant.
    #[error("the pattern is empty")]
    Empty,
    /// Longer than [`LENGTH`].
    #[error("the pattern is {0} bytes long: {LENGTH} may be")]
    Long(usize),
    /// Would take more than [`SIZE`].
    #[error("the pattern {0:?} takes too much memory: make its repetitions smaller")]
    Large(String),
    /// Not the syntax of regular expressions.
    #[error("the pattern {pattern:?} is not a regular expression: {why}")]
    Syntax {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A regular expression over bytes; `^` and `$` also match at the ends of lines, with CR LF or LF.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// The same, whatever the case.
    pub fn ignoring_case(&self) -> Result<Self, PatternError> {
        format!("(?i){}", self.text).parse()
    }

    /// Whether it is found in these bytes.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.regex.is_match(bytes)
    }

    /// Where the first thing ends that it matches.
    pub fn end_in(&self, bytes: &[u8]) -> Option<usize> {
        self.regex.find(bytes).map(|found| found.end())
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text.len() {
            0 => return Err(PatternError::Empty),
            1..=LENGTH => {}
            length => return Err(PatternError::Long(length)),
        }
        let mut builder = RegexBuilder::new(text);
        builder.multi_line(true).crlf(true).size_limit(SIZE).dfa_size_limit(SIZE);
        let regex = builder.build().map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::Large(text.to_owned()),
            error => PatternError::Syntax { pattern: text.to_owned(), why: reason(&error) },
        })?;
        Ok(Self { text: text.to_owned(), regex })
    }
}

/// The crate draws the pattern with a mark below, over several lines; the last one says what is wrong.
fn reason(error: &regex::Error) -> String {
    let said = error.to_string();
    let last = said.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

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
    fn what_is_no_pattern_is_told_in_a_sentence() {
        for (text, wanted) in [
            ("", "the pattern is empty"),
            ("a(b", r#"the pattern "a(b" is not a regular expression: unclosed group"#),
            ("*", r#"the pattern "*" is not a regular expression: repetition operator missing expression"#),
            (r"\w{1000}{1000}", "takes too much memory"),
            (&"x".repeat(1025), "the pattern is 1025 bytes long: 1024 may be"),
        ] {
            let error = text.parse::<Pattern>().unwrap_err().to_string();
            assert!(error.contains(wanted) && error.lines().count() == 1, "{text:?}: {error}");
        }
    }

    #[test]
    fn a_pattern_made_to_take_for_ever_does_not() {
        let bomb = pattern("(a*)*(a*)*(a|aa)+$|(x+x+)+y");
        let text = "a".repeat(64 * 1024) + &"x".repeat(64 * 1024);
        let began = Instant::now();
        bomb.is_in(text.as_bytes());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
}
