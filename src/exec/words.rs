//! The words of a command line that are not parsed yet.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::civil::{DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp, Zoned};

use super::parse::ParseError;
use super::pattern::Pattern;
use super::{Command, DEFAULT_LINES, TIMEOUT_RANGE};
use crate::port::{Pause, PortError};
use crate::session::plain;

/// The rest of a command line.
pub(super) struct Words<'a> {
    pub verb: &'static str,
    pub usage: &'static str,
    pub rest: &'a str,
}

impl<'a> Words<'a> {
    pub(super) fn usage_error(&self, what: String) -> ParseError {
        ParseError::Usage { verb: self.verb, what: plain(&what), usage: self.usage }
    }

    pub(super) fn unknown_option(&self, option: &str) -> ParseError {
        self.usage_error(format!(
            "unknown option {option} (write -- before a text that begins with a hyphen)"
        ))
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

    /// The next word, which may be quoted.
    pub(super) fn word(&mut self, what: &str) -> Result<&'a str, ParseError> {
        let quote = self.rest.chars().next().filter(|first| matches!(first, '"' | '\''));
        let (word, rest) = match quote.and_then(|quote| self.rest[1..].split_once(quote)) {
            Some((word, rest)) => (word, rest.trim_start()),
            None => first_word(self.rest),
        };
        if word.is_empty() {
            return Err(self.usage_error(match what.starts_with('-') {
                true => format!("missing value of {what}"),
                false => format!("missing {what}"),
            }));
        }
        self.rest = rest;
        Ok(word)
    }

    pub(super) fn number(&mut self, what: &str, range: RangeInclusive<u32>) -> Result<u32, ParseError> {
        let word = self.word(what)?;
        word.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.usage_error(format!("{what} {word}: expected {least} to {most}"))
        })
    }

    pub(super) fn timeout(&mut self) -> Result<Duration, ParseError> {
        let seconds = self.number("--timeout", TIMEOUT_RANGE)?;
        Ok(Duration::from_secs(seconds.into()))
    }

    pub(super) fn pause(&mut self, option: &str) -> Result<Pause, ParseError> {
        self.word(option)?.parse().map_err(|error: PortError| self.usage_error(error.to_string()))
    }

    pub(super) fn since(&mut self) -> Result<Timestamp, ParseError> {
        since(self.word("TIME")?)
    }

    pub(super) fn until(&mut self) -> Result<Timestamp, ParseError> {
        until(self.word("TIME")?)
    }

    /// The rest of the line, without quotes around it.
    pub(super) fn text(&mut self, what: &str) -> Result<&'a str, ParseError> {
        let rest = std::mem::take(&mut self.rest);
        let quoted = |quote| rest.strip_prefix(quote)?.strip_suffix(quote);
        match quoted('"').or_else(|| quoted('\'')).unwrap_or(rest) {
            "" => Err(self.usage_error(format!("missing {what}"))),
            text => Ok(text),
        }
    }

    pub(super) fn pattern(&mut self) -> Result<Pattern, ParseError> {
        Ok(self.text("PATTERN")?.parse()?)
    }

    pub(super) fn finish(&self, command: Command) -> Result<Command, ParseError> {
        match self.rest {
            "" => Ok(command),
            rest => Err(self.usage_error(format!("unexpected argument {rest:?}"))),
        }
    }
}

pub(super) fn first_word(text: &str) -> (&str, &str) {
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

/// A number of log lines; `None`: all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines(pub Option<u32>);

impl Lines {
    /// The default: the last lines, or all of a time range.
    pub fn default_for(since: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        Self((since.is_none() && until.is_none()).then_some(DEFAULT_LINES))
    }
}

/// A number of lines, or all.
pub fn lines(text: &str) -> Result<Lines, ParseError> {
    match text {
        "all" => Ok(Lines(None)),
        _ => text.parse().map(|count| Lines(Some(count))).map_err(|_| ParseError::Lines(text.to_owned())),
    }
}

/// The start of a time range: a duration ago, or a time, in this machine's time zone unless it has one.
pub fn since(text: &str) -> Result<Timestamp, ParseError> {
    time(text, &Zoned::now(), Edge::Since).ok_or_else(|| ParseError::Time(text.to_owned()))
}

/// The end of a time range.
pub fn until(text: &str) -> Result<Timestamp, ParseError> {
    time(text, &Zoned::now(), Edge::Until).ok_or_else(|| ParseError::Time(text.to_owned()))
}

/// Which end of a time range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    Since,
    Until,
}

/// Times as journalctl(1) takes them: a time without a date is one of today's, a date without a time its midnight.
fn time(text: &str, now: &Zoned, edge: Edge) -> Option<Timestamp> {
    let midnight = |days: i64| Some(now.date().checked_add(Span::new().days(days)).ok()?.at(0, 0, 0, 0));
    let local = match text {
        "now" => return Some(now.timestamp()),
        "today" => midnight(0),
        "yesterday" => midnight(-1),
        "tomorrow" => midnight(1),
        _ => None,
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    let of_today = || Some(now.date().to_datetime(text.parse::<Time>().ok().filter(|_| text.contains(':'))?));
    // A time of day comes last, because jiff also finds it in a whole date.
    if let Some(local) = local.or_else(|| text.parse::<DateTime>().ok()).or_else(of_today) {
        return instant_of(local, now.time_zone(), edge);
    }
    let ago = text.parse::<Span>().ok().filter(|ago| !ago.is_negative())?;
    Some(now.checked_sub(ago).ok()?.timestamp())
}

/// The timestamp of a local time. When clocks go back there are two, and a range includes all between them; when they go forward there
/// is none, and the time of the change is used.
fn instant_of(local: DateTime, zone: &TimeZone, edge: Edge) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_zoned(local);
    match (ambiguous.offset(), edge) {
        (AmbiguousOffset::Gap { .. }, _) => {
            let before = ambiguous.earlier().ok()?.timestamp();
            Some(zone.following(before).next()?.timestamp())
        }
        (_, Edge::Since) => Some(ambiguous.earlier().ok()?.timestamp()),
        (_, Edge::Until) => Some(ambiguous.later().ok()?.timestamp()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_duration_ago_or_a_date() {
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

    /// An afternoon in Germany's time zone, as tzset(3) writes it.
    fn in_berlin() -> Zoned {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        "2026-11-24T15:45:10Z".parse::<Timestamp>().unwrap().to_zoned(zone)
    }

    /// `systemd-analyze timestamp` of systemd 252 reads the same words as journalctl(1).
    #[test]
    fn times_are_parsed_as_journalctl_does() {
        let now = in_berlin();
        for (text, wanted) in [
            ("now", "2026-11-24T15:45:10Z"),
            ("today", "2026-11-23T23:00:00Z"),
            ("yesterday", "2026-11-22T23:00:00Z"),
            ("16:30", "2026-11-24T15:30:00Z"),
            ("16:30:05", "2026-11-24T15:30:05Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("2026-11-20 03:00", "2026-11-20T02:00:00Z"),
            ("2026-11-20T03:00+05:00", "2026-11-19T22:00:00Z"),
            ("2h", "2026-11-24T13:45:10Z"),
        ] {
            let time = time(text, &now, Edge::Since).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(time.to_string(), wanted, "{text}");
        }
        for text in ["", "soon", "25:00", "16", "-5m", "2026-13-01", "16:30pm"] {
            assert_eq!(time(text, &now, Edge::Since), None, "{text}");
        }
    }

    /// Germany's changes: on 2026-10-25 at 03:00 back to 02:00, on 2026-03-29 at 02:00 forward to 03:00.
    #[test]
    fn a_local_time_that_exists_twice_or_not_at_all_is_resolved_by_the_end_of_the_range() {
        let now = in_berlin();
        for (text, since, until) in [
            ("2026-10-25T02:30", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
            ("2026-03-29T02:30", "2026-03-29T01:00:00Z", "2026-03-29T01:00:00Z"),
            ("2026-10-25T03:30", "2026-10-25T02:30:00Z", "2026-10-25T02:30:00Z"),
            ("2026-10-25T02:30:00+01:00", "2026-10-25T01:30:00Z", "2026-10-25T01:30:00Z"),
        ] {
            let at = |edge| time(text, &now, edge).unwrap().to_string();
            assert_eq!((at(Edge::Since).as_str(), at(Edge::Until).as_str()), (since, until), "{text}");
        }
    }
}
