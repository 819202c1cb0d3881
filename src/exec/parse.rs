//! What is said in one line, understood. An SSH client hands over one string, from which its user's shell has taken the quotes:
//! so a backslash is nobody's but ours, and a pattern or a text is all the rest of the line.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Zoned};
use thiserror::Error;

use super::pattern::{Pattern, PatternError};
use super::{BREAK, BREAKS, Command, TIMEOUT, TIMEOUTS};

/// Bytes of a line.
const LENGTH: usize = 4096;
/// Lines of a log if nothing is said.
const LINES: u32 = 20;

/// Why a line is no command. Its Display is what the user reads.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseError {
    /// A first word that there is not.
    #[error("{0:?} is not a command here: help lists them")]
    Unknown(String),
    /// Not text.
    #[error("a command is UTF-8 text of at most {LENGTH} bytes")]
    NoText,
    /// Something is missing, or too much.
    #[error("{verb}: {what}; usage: {usage}")]
    Usage {
        /// The command.
        verb: &'static str,
        /// What is wrong.
        what: String,
        /// How it is used.
        usage: &'static str,
    },
    /// A pattern.
    #[error("{0}")]
    Pattern(#[from] PatternError),
    /// A time.
    #[error("--since {0:?}: expected how long ago (10m, 2h, 1d) or a time (2026-11-24T03:00)")]
    Since(String),
    /// A backslash.
    #[error("send: {0:?} is not an escape: there are \\r \\n \\t \\e \\a \\b \\\\ \\\" \\' \\xHH and \\OOO")]
    Escape(String),
}

/// A verb, how it is used, and what for.
pub(super) const VERBS: [(&str, &str, &str); 7] = [
    (
        "log",
        "log [-n LINES] [--since TIME] [-f]",
        "the last lines of the log, or those since a time; -f goes on",
    ),
    ("grep", "grep [-i] [--since TIME] PATTERN", "the lines of the log, rotated ones too, that match"),
    ("status", "status", "how the port does; 0 if its line is open"),
    ("break", "break [--force] [MILLISECONDS]", "a break"),
    (
        "send",
        "send [--force] [--expect PATTERN] [--timeout SECONDS] TEXT",
        r"types TEXT, in which \r is Return, and waits for PATTERN",
    ),
    ("expect", "expect [--timeout SECONDS] PATTERN", "waits until the device says it; 0 if it has"),
    ("help", "help", "this"),
];

/// Understands a line.
pub fn parse(line: &[u8]) -> Result<Command, ParseError> {
    let text = std::str::from_utf8(line).ok().filter(|text| text.len() <= LENGTH);
    let text = text.ok_or(ParseError::NoText)?.trim();
    let (verb, rest) = first_word(text);
    let mut words = Words { verb: "", usage: "", rest };
    if let Some((verb, usage, _)) = VERBS.iter().find(|(name, ..)| *name == verb) {
        (words.verb, words.usage) = (verb, usage);
    }
    match words.verb {
        "log" => log(words),
        "grep" => grep(words),
        "status" => words.nothing(Command::Status),
        "break" => send_break(words),
        "send" => send(words),
        "expect" => expect(words),
        "help" => words.nothing(Command::Help),
        _ => Err(ParseError::Unknown(verb.to_owned())),
    }
}

fn log(mut words: Words<'_>) -> Result<Command, ParseError> {
    let (mut lines, mut since, mut follow) = (None, None, false);
    loop {
        match words.option() {
            Some("-f" | "--follow") => follow = true,
            Some("-n" | "--lines") => lines = Some(words.number("-n", 0..=u32::MAX)?),
            Some("--since") => since = Some(words.since()?),
            Some(other) => match other.strip_prefix("-n").and_then(|count| count.parse().ok()) {
                Some(count) => lines = Some(count),
                None => return Err(words.wrong(format!("{other} is not an option"))),
            },
            None => break,
        }
    }
    if lines.is_none() && since.is_none() {
        lines = Some(LINES);
    }
    words.nothing(Command::Log { lines, since, follow })
}

fn grep(mut words: Words<'_>) -> Result<Command, ParseError> {
    let (mut ignore_case, mut since) = (false, None);
    loop {
        match words.option() {
            Some("-i" | "--ignore-case") => ignore_case = true,
            Some("--since") => since = Some(words.since()?),
            Some("--") | None => break,
            Some(other) => return Err(words.option_unknown(other)),
        }
    }
    let mut pattern = words.pattern()?;
    if ignore_case {
        pattern = pattern.ignoring_case()?;
    }
    Ok(Command::Grep { pattern, since })
}

fn send_break(mut words: Words<'_>) -> Result<Command, ParseError> {
    let force = words.rest.starts_with("--force") && words.option() == Some("--force");
    let milliseconds = match words.rest {
        "" => BREAK,
        _ => words.number("MILLISECONDS", BREAKS)?,
    };
    words.nothing(Command::Break { milliseconds, force })
}

fn send(mut words: Words<'_>) -> Result<Command, ParseError> {
    let (mut force, mut expected, mut timeout) = (false, None, TIMEOUT);
    loop {
        match words.option() {
            Some("--force") => force = true,
            Some("--timeout") => timeout = words.timeout()?,
            Some("--expect") => expected = Some(words.word("PATTERN")?.parse()?),
            Some("--") | None => break,
            Some(other) => return Err(words.option_unknown(other)),
        }
    }
    let text = words.text("TEXT")?;
    Ok(Command::Send { bytes: unescape(text)?, force, expected, timeout })
}

fn expect(mut words: Words<'_>) -> Result<Command, ParseError> {
    let mut timeout = TIMEOUT;
    loop {
        match words.option() {
            Some("--timeout") => timeout = words.timeout()?,
            Some("--") | None => break,
            Some(other) => return Err(words.option_unknown(other)),
        }
    }
    // It may also stand behind the pattern.
    if let Some((before, seconds)) = words.rest.rsplit_once(" --timeout ")
        && let Ok(seconds) = seconds.trim().parse::<u32>()
    {
        words.rest = before.trim_end();
        timeout = words.checked_timeout(seconds)?;
    }
    Ok(Command::Expect { pattern: words.pattern()?, timeout })
}

/// What is left of a line.
struct Words<'a> {
    verb: &'static str,
    usage: &'static str,
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn wrong(&self, what: String) -> ParseError {
        ParseError::Usage { verb: self.verb, what, usage: self.usage }
    }

    fn option_unknown(&self, option: &str) -> ParseError {
        self.wrong(format!("{option} is not an option (-- before a text that begins so)"))
    }

    /// The next word, if it is an option.
    fn option(&mut self) -> Option<&'a str> {
        let (word, rest) = first_word(self.rest);
        if word.len() < 2 || !word.starts_with('-') {
            return None;
        }
        self.rest = rest;
        Some(word)
    }

    /// The next word, which may stand in quotes.
    fn word(&mut self, what: &str) -> Result<&'a str, ParseError> {
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

    fn number(&mut self, what: &str, range: std::ops::RangeInclusive<u32>) -> Result<u32, ParseError> {
        let word = self.word(what)?;
        word.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.wrong(format!("{what} {word}: expected {least} to {most}"))
        })
    }

    fn timeout(&mut self) -> Result<Duration, ParseError> {
        let seconds = self.number("--timeout", TIMEOUTS)?;
        Ok(Duration::from_secs(seconds.into()))
    }

    fn checked_timeout(&self, seconds: u32) -> Result<Duration, ParseError> {
        let (least, most) = (TIMEOUTS.start(), TIMEOUTS.end());
        match TIMEOUTS.contains(&seconds) {
            true => Ok(Duration::from_secs(seconds.into())),
            false => Err(self.wrong(format!("--timeout {seconds}: expected {least} to {most}"))),
        }
    }

    fn since(&mut self) -> Result<Timestamp, ParseError> {
        since(self.word("TIME")?)
    }

    /// All that is left. Quotes around it are not meant.
    fn text(&mut self, what: &str) -> Result<&'a str, ParseError> {
        let rest = std::mem::take(&mut self.rest);
        let quoted = |quote| rest.strip_prefix(quote)?.strip_suffix(quote);
        match quoted('"').or_else(|| quoted('\'')).unwrap_or(rest) {
            "" => Err(self.wrong(format!("{what} is missing"))),
            text => Ok(text),
        }
    }

    fn pattern(&mut self) -> Result<Pattern, ParseError> {
        Ok(self.text("PATTERN")?.parse()?)
    }

    fn nothing(&self, command: Command) -> Result<Command, ParseError> {
        match self.rest {
            "" => Ok(command),
            rest => Err(self.wrong(format!("{rest:?} is too much"))),
        }
    }
}

fn first_word(text: &str) -> (&str, &str) {
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

/// The bytes that a text stands for.
pub fn unescape(text: &str) -> Result<Vec<u8>, ParseError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend_from_slice(plain.as_bytes());
        let (byte, length) = escape(escaped).ok_or_else(|| {
            let end = escaped.chars().next().map_or(0, char::len_utf8);
            ParseError::Escape(format!("\\{}", &escaped[..end]))
        })?;
        bytes.push(byte);
        rest = &escaped[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// What stands behind a backslash: the byte, and how many characters it took.
fn escape(text: &str) -> Option<(u8, usize)> {
    let digits = |from: usize, most: usize, radix: u32| {
        let rest = text.as_bytes().get(from..)?;
        let count = rest.iter().take(most).take_while(|&&c| char::from(c).is_digit(radix)).count();
        let byte = u8::from_str_radix(text.get(from..from + count)?, radix).ok()?;
        Some((byte, from + count))
    };
    let byte = match text.bytes().next()? {
        b'r' => b'\r',
        b'n' => b'\n',
        b't' => b'\t',
        b'e' => 0x1b,
        b'a' => 0x07,
        b'b' => 0x08,
        quoted @ (b'\\' | b'"' | b'\'') => quoted,
        b'x' => return digits(1, 2, 16),
        b'0'..=b'7' => return digits(0, 3, 8),
        _ => return None,
    };
    Some((byte, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(line: &str) -> Command {
        parse(line.as_bytes()).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn every_command_is_understood() {
        let log = |lines, follow| Command::Log { lines: Some(lines), since: None, follow };
        let send = |text: &[u8]| Command::Send {
            bytes: text.to_vec(),
            force: false,
            expected: None,
            timeout: TIMEOUT,
        };
        for (line, wanted) in [
            ("log", log(20, false)),
            ("  log -f ", log(20, true)),
            ("log -n 5 --follow", log(5, true)),
            ("log -n5", log(5, false)),
            ("grep panic", Command::Grep { pattern: pattern("panic"), since: None }),
            ("grep -i Kernel  panic", Command::Grep { pattern: pattern("(?i)Kernel  panic"), since: None }),
            ("grep 'two words'", Command::Grep { pattern: pattern("two words"), since: None }),
            (r"grep \bv\d+$", Command::Grep { pattern: pattern(r"\bv\d+$"), since: None }),
            ("grep -- -x", Command::Grep { pattern: pattern("-x"), since: None }),
            ("status", Command::Status),
            ("break", Command::Break { milliseconds: BREAK, force: false }),
            ("break 250", Command::Break { milliseconds: 250, force: false }),
            ("break --force 250", Command::Break { milliseconds: 250, force: true }),
            (r"send show version\r", send(b"show version\r")),
            (r#"send "a  b\r""#, send(b"a  b\r")),
            (r"send \e[A\x03\003\\\t\'", send(b"\x1b[A\x03\x03\\\t'")),
            ("send -- --force", send(b"--force")),
            ("send -", send(b"-")),
            (
                r"send --force --expect 'ok .*\$' --timeout 3 ls\r",
                Command::Send {
                    bytes: b"ls\r".to_vec(),
                    force: true,
                    expected: Some(pattern(r"ok .*\$")),
                    timeout: seconds(3),
                },
            ),
            ("expect login:", Command::Expect { pattern: pattern("login:"), timeout: TIMEOUT }),
            (
                "expect login: --timeout 30",
                Command::Expect { pattern: pattern("login:"), timeout: seconds(30) },
            ),
            (
                "expect --timeout 30 'login: '",
                Command::Expect { pattern: pattern("login: "), timeout: seconds(30) },
            ),
            ("help", Command::Help),
        ] {
            assert_eq!(understood(line), wanted, "{line:?}");
        }
    }

    #[test]
    fn what_is_no_command_is_told_in_one_line() {
        for (line, wanted) in [
            ("reboot now", r#""reboot" is not a command here: help lists them"#),
            ("log 5", r#"log: "5" is too much; usage: log [-n"#),
            ("log -n many", "log: -n many: expected 0 to 4294967295"),
            ("log --since soon", r#"--since "soon": expected how long ago"#),
            ("log --since -5m", "expected how long ago"),
            ("log -x", "-x is not an option"),
            ("grep", "grep: PATTERN is missing; usage: grep"),
            ("grep a(", "unclosed group"),
            ("break 0", "MILLISECONDS 0: expected 1 to 10000"),
            ("break 5 6", "is too much"),
            ("send", "send: TEXT is missing"),
            (r"send a\q", r#""\\q" is not an escape"#),
            (r"send a\", "is not an escape"),
            (r"send \x", "is not an escape"),
            (r"send \777", "is not an escape"),
            ("send --expect", "PATTERN is missing"),
            ("expect --timeout 0 x", "--timeout 0: expected 1 to 86400"),
            ("expect x --timeout 99999", "--timeout 99999: expected 1 to 86400"),
            ("status please", "is too much"),
        ] {
            let error = parse(line.as_bytes()).map(|command| panic!("{line:?}: {command:?}"));
            let Err(error) = error.map_err(|error| error.to_string());
            assert!(error.contains(wanted) && error.lines().count() == 1, "{line:?}: {error}");
        }
        assert_eq!(parse(b"grep \xff"), Err(ParseError::NoText));
        assert_eq!(parse(&[b'x'; 5000]), Err(ParseError::NoText));
    }

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
