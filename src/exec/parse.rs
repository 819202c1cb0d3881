//! What is said in one line, understood. An SSH client hands over one string, from which its user's shell has taken the quotes:
//! so a backslash is nobody's but ours, and a pattern or a text is all the rest of the line.

use thiserror::Error;

use super::foreign::{ForeignCommand, foreign};
use super::pattern::PatternError;
use super::text::unescape;
use super::words::{Lines, Words, first_word, lines};
use super::{Command, DEFAULT_TIMEOUT, SendOptions};
use crate::config::EscapeError;
use crate::hub::{BREAK_MS_RANGE, DEFAULT_BREAK_MS};
use crate::session::{Options, plain};

/// Bytes of a line.
const MAX_COMMAND_BYTES: usize = 4096;

/// Why a line is no command. Its Display is what the user reads.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseError {
    /// What is meant for a shell.
    #[error(transparent)]
    Foreign(#[from] ForeignCommand),
    /// A first word that there is not.
    #[error("{0:?} is not a command here: help lists them")]
    Unknown(String),
    /// Not text.
    #[error("a command is UTF-8 text of at most {MAX_COMMAND_BYTES} bytes")]
    NotText,
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
    #[error(
        "{0:?} is no time: expected how long ago (10m, 2h, 1d) or a time (16:30, today, 2026-11-24T03:00)"
    )]
    Time(String),
    /// A number of lines.
    #[error("-n {0}: expected 0 to {max}, or all", max = u32::MAX)]
    Lines(String),
    /// A backslash.
    #[error("send: {0:?} is not an escape: there are \\r \\n \\t \\e \\a \\b \\\\ \\\" \\' \\xHH and \\OOO")]
    Escape(String),
}

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A session, as without a command, but with these options.
    Session(Options),
    /// A command.
    Command(Command),
}

/// A verb, how it is used, and what for.
pub(super) const COMMANDS: [(&str, &str, &str); 8] = [
    (
        "connect",
        "connect [--escape KEYS|none] [--no-reconnect] [--force]",
        "the console, as without a command: with other escape keys or none; ending with the device; taking over from who writes",
    ),
    (
        "log",
        "log [-n LINES|all] [--since TIME] [--until TIME] [--raw] [-f]",
        "the last lines of the log, or those of a time; -f goes on; --raw with control sequences",
    ),
    (
        "grep",
        "grep [-i] [--since TIME] [--until TIME] [--raw] PATTERN",
        "the lines of the log, rotated ones too, that match",
    ),
    ("status", "status", "how the port does; 0 if its line is open"),
    ("break", "break [--force] [MILLISECONDS]", "a break"),
    (
        "send",
        "send [--force] [--expect PATTERN] [--timeout SECONDS] [--output-delay TIME] [--output-line-delay TIME] [--raw] TEXT",
        r"types TEXT, in which \r is Return, and waits for PATTERN; pauses such as 20ms after each character or line; --raw without omap",
    ),
    ("expect", "expect [--timeout SECONDS] PATTERN", "waits until the device says it; 0 if it has"),
    ("help", "help", "this"),
];

/// Understands a line.
pub fn parse(line: &[u8]) -> Result<Request, ParseError> {
    if let Some(refused) = foreign(line) {
        return Err(refused.into());
    }
    let text = std::str::from_utf8(line).ok().filter(|text| text.len() <= MAX_COMMAND_BYTES);
    let text = text.ok_or(ParseError::NotText)?.trim();
    let (verb, rest) = first_word(text);
    let mut words = Words { verb: "", usage: "", rest };
    if let Some((verb, usage, _)) = COMMANDS.iter().find(|(name, ..)| *name == verb) {
        (words.verb, words.usage) = (verb, usage);
    }
    let command = match words.verb {
        "connect" => return connect(words).map(Request::Session),
        "log" => log(words),
        "grep" => grep(words),
        "status" => words.finish(Command::Status),
        "break" => send_break(words),
        "send" => send(words),
        "expect" => expect(words),
        "help" => words.finish(Command::Help),
        _ => Err(ParseError::Unknown(verb.to_owned())),
    };
    command.map(Request::Command)
}

fn connect(mut words: Words<'_>) -> Result<Options, ParseError> {
    let mut options = Options::default();
    loop {
        match words.option() {
            Some("--escape") => {
                let keys = words.word("KEYS")?;
                options.escape = keys.parse().map_err(|error: EscapeError| words.usage_error(error.to_string()))?;
            }
            Some("--no-reconnect") => options.no_reconnect = true,
            Some("--force") => options.force = true,
            Some(other) => return Err(words.unknown_option(other)),
            None => break,
        }
    }
    match words.rest {
        "" => Ok(options),
        rest => Err(words.usage_error(format!("{:?} is too much", plain(rest)))),
    }
}

fn log(mut words: Words<'_>) -> Result<Command, ParseError> {
    let (mut count, mut since, mut until, mut follow, mut raw) = (None, None, None, false, false);
    loop {
        match words.option() {
            Some("-f" | "--follow") => follow = true,
            Some("-n" | "--lines") => count = Some(lines(words.word("-n")?)?),
            Some("--since") => since = Some(words.since()?),
            Some("--until") => until = Some(words.until()?),
            Some("--raw") => raw = true,
            Some(other) => match other.strip_prefix("-n").map(lines) {
                Some(Ok(lines)) => count = Some(lines),
                _ => return Err(words.usage_error(format!("{other} is not an option"))),
            },
            None => break,
        }
    }
    if follow && until.is_some() {
        return Err(words.usage_error("-f goes on without end, and --until ends".to_owned()));
    }
    let count = count.unwrap_or_else(|| Lines::default_for(since, until));
    words.finish(Command::Log { lines: count.0, since, until, follow, raw })
}

fn grep(mut words: Words<'_>) -> Result<Command, ParseError> {
    let (mut ignore_case, mut since, mut until, mut raw) = (false, None, None, false);
    loop {
        match words.option() {
            Some("-i" | "--ignore-case") => ignore_case = true,
            Some("--since") => since = Some(words.since()?),
            Some("--until") => until = Some(words.until()?),
            Some("--raw") => raw = true,
            Some("--") | None => break,
            Some(other) => return Err(words.unknown_option(other)),
        }
    }
    let mut pattern = words.pattern()?;
    if ignore_case {
        pattern = pattern.ignoring_case()?;
    }
    Ok(Command::Grep { pattern, since, until, raw })
}

fn send_break(mut words: Words<'_>) -> Result<Command, ParseError> {
    let force = words.rest.starts_with("--force") && words.option() == Some("--force");
    let milliseconds = match words.rest {
        "" => DEFAULT_BREAK_MS,
        _ => words.number("MILLISECONDS", BREAK_MS_RANGE)?,
    };
    words.finish(Command::Break { milliseconds, force })
}

fn send(mut words: Words<'_>) -> Result<Command, ParseError> {
    let (mut force, mut expected, mut timeout) = (false, None, DEFAULT_TIMEOUT);
    let mut typing = SendOptions::default();
    loop {
        match words.option() {
            Some("--force") => force = true,
            Some("--raw") => typing.raw = true,
            Some("--output-delay") => typing.output_delay = Some(words.pause("--output-delay")?),
            Some("--output-line-delay") => {
                typing.output_line_delay = Some(words.pause("--output-line-delay")?);
            }
            Some("--timeout") => timeout = words.timeout()?,
            Some("--expect") => expected = Some(words.word("PATTERN")?.parse()?),
            Some("--") | None => break,
            Some(other) => return Err(words.unknown_option(other)),
        }
    }
    let text = words.text("TEXT")?;
    Ok(Command::Send { bytes: unescape(text)?, force, expected, timeout, typing })
}

fn expect(mut words: Words<'_>) -> Result<Command, ParseError> {
    let mut timeout = DEFAULT_TIMEOUT;
    loop {
        match words.option() {
            Some("--timeout") => timeout = words.timeout()?,
            Some("--") | None => break,
            Some(other) => return Err(words.unknown_option(other)),
        }
    }
    // It may also stand behind the pattern.
    if let Some((before, seconds)) = words.rest.rsplit_once(" --timeout ")
        && seconds.trim().parse::<u32>().is_ok()
    {
        timeout = Words { rest: seconds.trim(), ..words }.timeout()?;
        words.rest = before.trim_end();
    }
    Ok(Command::Expect { pattern: words.pattern()?, timeout })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::exec::Pattern;
    use crate::session::Escape;

    fn understood(line: &str) -> Command {
        match parse(line.as_bytes()) {
            Ok(Request::Command(command)) => command,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn every_command_is_understood() {
        let log =
            |lines, follow| Command::Log { lines: Some(lines), since: None, until: None, follow, raw: false };
        let grep = |text| Command::Grep { pattern: pattern(text), since: None, until: None, raw: false };
        let at = |time: &str| Some(time.parse().unwrap());
        let send = |text: &[u8]| Command::Send {
            bytes: text.to_vec(),
            force: false,
            expected: None,
            timeout: DEFAULT_TIMEOUT,
            typing: SendOptions::default(),
        };
        for (line, wanted) in [
            ("log", log(20, false)),
            ("  log -f ", log(20, true)),
            ("log -n 5 --follow", log(5, true)),
            ("log -n5", log(5, false)),
            (
                "log -n all --raw",
                Command::Log { lines: None, since: None, until: None, follow: false, raw: true },
            ),
            (
                "log --until 2026-11-24T03:00Z",
                Command::Log {
                    lines: None,
                    since: None,
                    until: at("2026-11-24T03:00:00Z"),
                    follow: false,
                    raw: false,
                },
            ),
            (
                "grep --raw --since 2026-11-24T03:00Z x",
                Command::Grep {
                    pattern: pattern("x"),
                    since: at("2026-11-24T03:00:00Z"),
                    until: None,
                    raw: true,
                },
            ),
            ("grep panic", grep("panic")),
            ("grep -i Kernel  panic", grep("(?i)Kernel  panic")),
            ("grep 'two words'", grep("two words")),
            (r"grep \bv\d+$", grep(r"\bv\d+$")),
            ("grep -- -x", grep("-x")),
            ("status", Command::Status),
            ("break", Command::Break { milliseconds: DEFAULT_BREAK_MS, force: false }),
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
                    typing: SendOptions::default(),
                },
            ),
            (
                r"send --output-delay 20ms --output-line-delay none --raw ls\r",
                Command::Send {
                    bytes: b"ls\r".to_vec(),
                    force: false,
                    expected: None,
                    timeout: DEFAULT_TIMEOUT,
                    typing: SendOptions {
                        output_delay: Some("20ms".parse().unwrap()),
                        output_line_delay: Some("none".parse().unwrap()),
                        raw: true,
                    },
                },
            ),
            ("expect login:", Command::Expect { pattern: pattern("login:"), timeout: DEFAULT_TIMEOUT }),
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
    fn a_session_may_be_asked_for_with_options() {
        let keys = Escape::Prefix("^Xy".parse().unwrap());
        for (line, wanted) in [
            ("connect", Options::default()),
            ("connect --escape none", Options { escape: Escape::Off, ..Options::default() }),
            ("connect --escape ^Xy --force", Options { escape: keys, force: true, ..Options::default() }),
            ("connect --no-reconnect", Options { no_reconnect: true, ..Options::default() }),
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(Request::Session(wanted)), "{line:?}");
        }
    }

    #[test]
    fn what_is_no_command_is_told_in_one_line() {
        for (line, wanted) in [
            ("reboot now", r#""reboot" is not a command here: help lists them"#),
            ("log 5", r#"log: "5" is too much; usage: log [-n"#),
            ("log -n many", "-n many: expected 0 to 4294967295, or all"),
            ("log --since soon", r#""soon" is no time: expected how long ago"#),
            ("log --since -5m", "expected how long ago"),
            ("log --until 25:00", r#""25:00" is no time"#),
            ("log -f --until now", "-f goes on without end, and --until ends; usage: log"),
            ("log -x", "-x is not an option"),
            ("log -\x1b]0;x\x07", "-?]0;x? is not an option"),
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
            (
                "send --output-delay 20 x",
                r#"pause "20" is not possible: use "1ms" to "10s", or "none"; usage: send"#,
            ),
            ("send --output-line-delay", "--output-line-delay is missing"),
            ("expect --timeout 0 x", "--timeout 0: expected 1 to 86400"),
            ("expect x --timeout 99999", "--timeout 99999: expected 1 to 86400"),
            ("status please", "is too much"),
            ("connect --escape", "connect: KEYS is missing; usage: connect [--escape KEYS|none]"),
            ("connect --escape cc", "use a control character and one more"),
            ("connect --raw", "--raw is not an option"),
            ("connect demo", "\"demo\" is too much"),
        ] {
            let error = parse(line.as_bytes()).map(|command| panic!("{line:?}: {command:?}"));
            let Err(error) = error.map_err(|error| error.to_string());
            assert!(error.contains(wanted) && error.lines().count() == 1, "{line:?}: {error}");
        }
        assert_eq!(parse(b"grep \xff"), Err(ParseError::NotText));
        assert_eq!(parse(&[b'x'; 5000]), Err(ParseError::NotText));
    }
}
