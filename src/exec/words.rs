//! The words of a command line that are not parsed yet.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::civil::{DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Span, Timestamp, Zoned};

use super::parse::ParseError;
use super::pattern::Pattern;
use super::{Command, DEFAULT_LINES, TIMEOUT_RANGE};
use crate::port::{Pause, PortError, in_units};
use crate::session::plain;

/// Words of a time, as in `3 days 2 hours ago`.
const MAX_TIME_WORDS: usize = 6;

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

    pub(super) fn timeout(&mut self) -> Result<Duration, ParseError> {
        let word = self.word("--timeout")?;
        let seconds = seconds(word, TIMEOUT_RANGE)
            .map_err(|error| self.usage_error(format!("--timeout {word}: {error}")))?;
        Ok(Duration::from_secs(seconds.into()))
    }

    pub(super) fn pause(&mut self, option: &str) -> Result<Pause, ParseError> {
        self.word(option)?.parse().map_err(|error: PortError| self.usage_error(error.to_string()))
    }

    pub(super) fn since(&mut self) -> Result<Timestamp, ParseError> {
        self.time(since)
    }

    pub(super) fn until(&mut self) -> Result<Timestamp, ParseError> {
        self.time(until)
    }

    /// A time, of which the client's shell has removed the quotes: `--since 2 hours ago` is one of three words. A pattern may follow, so
    /// the last word of the line is part of the time only if no shorter one is a time.
    fn time(
        &mut self,
        parse: impl Fn(&str) -> Result<Timestamp, ParseError>,
    ) -> Result<Timestamp, ParseError> {
        let rest = self.rest;
        let mut found = None;
        for end in rest.match_indices(char::is_whitespace).map(|(at, _)| at).take(MAX_TIME_WORDS) {
            if let Ok(time) = parse(&rest[..end]) {
                found = Some((time, rest[end..].trim_start()));
            }
        }
        let (time, after) = match (found, parse(rest)) {
            (Some(found), whole) if self.verb == "grep" || whole.is_err() => found,
            (_, Ok(time)) => (time, ""),
            (_, Err(_)) => return parse(self.word("TIME")?),
        };
        self.rest = after;
        Ok(time)
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

/// Checks that a time range is not empty.
pub fn in_order(since: Option<Timestamp>, until: Option<Timestamp>) -> Result<(), ParseError> {
    match (since, until) {
        (Some(since), Some(until)) if since >= until => Err(ParseError::EmptyRange { since, until }),
        _ => Ok(()),
    }
}

/// A number of lines, or all.
pub fn lines(text: &str) -> Result<Lines, ParseError> {
    match text {
        "all" => Ok(Lines(None)),
        _ => text.parse().map(|count| Lines(Some(count))).map_err(|_| ParseError::Lines(text.to_owned())),
    }
}

/// A number of seconds, or a time with a unit such as `2m`. The error names what is expected.
pub fn seconds(text: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    in_units(text, 1000, range.clone()).ok_or_else(|| {
        format!("expected seconds from {} to {}, or a time such as 30s or 2m", range.start(), range.end())
    })
}

/// A number of minutes, or a time with a unit such as `1h`.
pub fn minutes(text: &str, range: RangeInclusive<u32>) -> Result<u32, String> {
    in_units(text, 60_000, range.clone()).ok_or_else(|| {
        format!("expected minutes from {} to {}, or a time such as 5m or 1h", range.start(), range.end())
    })
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
    if text == "now" {
        return Some(now.timestamp());
    }
    if let Some(seconds) = text.strip_prefix('@') {
        let time = seconds.parse::<f64>().ok().filter(|time| time.is_finite())?;
        return Timestamp::from_duration(SignedDuration::try_from_secs_f64(time).ok()?).ok();
    }
    if let Some(utc) = text.strip_suffix(" UTC") {
        return instant_of(local(utc, &now.with_time_zone(TimeZone::UTC))?, &TimeZone::UTC, edge);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    if let Some(local) = local(text, now) {
        return instant_of(local, now.time_zone(), edge);
    }
    // "2h", "2h ago" and "-2h" are the same; "+2h" is later than every line.
    let ago = text.parse::<Span>().ok().filter(|_| !text.starts_with('+'))?;
    Some(now.checked_sub(ago.abs()).ok()?.timestamp())
}

/// A date, a time of day, or a day by its name, with a time of day or without.
fn local(text: &str, now: &Zoned) -> Option<DateTime> {
    let of_day = |text: &str| text.parse::<Time>().ok().filter(|_| text.contains(':'));
    let (first, rest) = first_word(text);
    let days = match first {
        "today" => Some(0),
        "yesterday" => Some(-1),
        "tomorrow" => Some(1),
        _ => None,
    };
    if let Some(days) = days {
        let date = now.date().checked_add(Span::new().days(days)).ok()?;
        return Some(date.to_datetime(if rest.is_empty() { Time::midnight() } else { of_day(rest)? }));
    }
    // A time of day comes last, because jiff also finds it in a whole date.
    text.parse::<DateTime>().ok().or_else(|| Some(now.date().to_datetime(of_day(text)?)))
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
            ("-2h", "2026-11-24T13:45:10Z"),
            ("2 hours ago", "2026-11-24T13:45:10Z"),
            ("2h ago", "2026-11-24T13:45:10Z"),
            ("90 min ago", "2026-11-24T14:15:10Z"),
            ("1 day ago", "2026-11-23T15:45:10Z"),
            ("@1764436800", "2025-11-29T17:20:00Z"),
            ("@1764436800.5", "2025-11-29T17:20:00.5Z"),
            ("2026-11-20 03:00 UTC", "2026-11-20T03:00:00Z"),
            ("2026-11-20 UTC", "2026-11-20T00:00:00Z"),
            ("16:30 UTC", "2026-11-24T16:30:00Z"),
        ] {
            let time = time(text, &now, Edge::Since).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(time.to_string(), wanted, "{text}");
        }
        // Not journalctl's.
        for (text, wanted) in
            [("yesterday 12:00", "2026-11-23T11:00:00Z"), ("today 16:30", "2026-11-24T15:30:00Z")]
        {
            assert_eq!(time(text, &now, Edge::Since).unwrap().to_string(), wanted, "{text}");
        }
        for text in
            ["", "soon", "25:00", "16", "+5m", "2026-13-01", "16:30pm", "@", "@x", "yesterday 12", "2h UTC"]
        {
            assert_eq!(time(text, &now, Edge::Since), None, "{text}");
        }
    }

    #[test]
    fn a_timeout_has_a_unit_or_none() {
        for (text, wanted) in [
            ("30", Some(30)),
            ("30s", Some(30)),
            ("2m", Some(120)),
            ("1m30s", Some(90)),
            ("2 min", Some(120)),
        ] {
            assert_eq!(seconds(text, 1..=3600).ok(), wanted, "{text}");
        }
        for text in ["", "0", "3601", "2h", "500ms", "-1", "abc", "1.5x"] {
            assert_eq!(
                seconds(text, 1..=3600),
                Err("expected seconds from 1 to 3600, or a time such as 30s or 2m".to_owned()),
                "{text}"
            );
        }
        assert_eq!(
            (minutes("5", 1..=1440), minutes("5min", 1..=1440), minutes("1h", 1..=1440)),
            (Ok(5), Ok(5), Ok(60))
        );
        assert!(minutes("90s", 1..=1440).is_err());
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
