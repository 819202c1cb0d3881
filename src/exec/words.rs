//! The words of a line that are still to be understood.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};

use super::parse::ParseError;
use super::pattern::Pattern;
use super::{Command, TIMEOUTS};
use crate::session::plain;

/// What is left of a line.
pub(super) struct Words<'a> {
    pub verb: &'static str,
    pub usage: &'static str,
    pub rest: &'a str,
}

impl<'a> Words<'a> {
    pub(super) fn wrong(&self, what: String) -> ParseError {
        ParseError::Usage { verb: self.verb, what: plain(&what), usage: self.usage }
    }

    pub(super) fn option_unknown(&self, option: &str) -> ParseError {
        self.wrong(format!("{option} is not an option (-- before a text that begins so)"))
    }

    /// The next word, if it is an option.
    pub(super) fn option(&mut self) -> Option<&'a str> {
        let (word, rest) = first_word(self.rest);
        if word.len() < 2 || !word.starts_with('-') {
            return None;
        }
        self.rest = rest;
        Some(word)
    }

    /// The next word, which may stand in quotes.
    pub(super) fn word(&mut self, what: &str) -> Result<&'a str, ParseError> {
        let quote = self.rest.chars().next().filter(|first| matches!(first, '"' | '\''));
        let (word, rest) = match quote.and_then(|quote| self.rest[1..].split_once(quote)) {
            Some((word, rest)) => (word, rest.trim_start()),
            None => first_word(self.rest),
        };
        if word.is_empty() {
            return Err(self.wrong(format!("{what} is missing")));
        }
        self.rest = rest;
        Ok(word)
    }

    pub(super) fn number(&mut self, what: &str, range: RangeInclusive<u32>) -> Result<u32, ParseError> {
        let word = self.word(what)?;
        word.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.wrong(format!("{what} {word}: expected {least} to {most}"))
        })
    }

    pub(super) fn timeout(&mut self) -> Result<Duration, ParseError> {
        let seconds = self.number("--timeout", TIMEOUTS)?;
        Ok(Duration::from_secs(seconds.into()))
    }

    pub(super) fn since(&mut self) -> Result<Timestamp, ParseError> {
        since(self.word("TIME")?)
    }

    /// All that is left. Quotes around it are not meant.
    pub(super) fn text(&mut self, what: &str) -> Result<&'a str, ParseError> {
        let rest = std::mem::take(&mut self.rest);
        let quoted = |quote| rest.strip_prefix(quote)?.strip_suffix(quote);
        match quoted('"').or_else(|| quoted('\'')).unwrap_or(rest) {
            "" => Err(self.wrong(format!("{what} is missing"))),
            text => Ok(text),
        }
    }

    pub(super) fn pattern(&mut self) -> Result<Pattern, ParseError> {
        Ok(self.text("PATTERN")?.parse()?)
    }

    pub(super) fn nothing(&self, command: Command) -> Result<Command, ParseError> {
        match self.rest {
            "" => Ok(command),
            rest => Err(self.wrong(format!("{rest:?} is too much"))),
        }
    }
}

pub(super) fn first_word(text: &str) -> (&str, &str) {
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

/// A time by how long ago it was, or as it is written. A time without a zone is one of this machine's.
pub fn since(text: &str) -> Result<Timestamp, ParseError> {
    let wrong = || ParseError::Since(text.to_owned());
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<DateTime>() {
        return time.to_zoned(TimeZone::system()).map(|time| time.timestamp()).map_err(|_| wrong());
    }
    let ago = text.parse::<Span>().map_err(|_| wrong())?;
    match Zoned::now().checked_sub(ago) {
        Ok(time) if !ago.is_negative() => Ok(time.timestamp()),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_how_long_ago_or_as_it_is_written() {
        let now = Timestamp::now();
        for (text, ago) in [("10m", 600), ("1d", 86_400), ("90s", 90), ("1h30m", 5400)] {
            let seconds = (now - since(text).unwrap()).get_seconds();
            assert!(
                (seconds - ago).abs() <= 3601,
                "{text}: {seconds} (a day may have a change of the clock)"
            );
        }
        assert_eq!(since("2026-11-24T03:00:00Z").unwrap().to_string(), "2026-11-24T03:00:00Z");
        assert!(since("2026-11-24T03:00").is_ok() && since("2026-11-24 03:00:05").is_ok());
    }
}
