//! Parses a command line. An SSH client sends one string, from which its user's shell has removed the quotes: so a pattern or a text is
//! the whole rest of the line, and backslashes in it are kept.

use jiff::Timestamp;
use thiserror::Error;

use super::foreign::{ForeignCommand, foreign, probe};
use super::pattern::PatternError;
use super::text::unescape;
use super::words::{Lines, Words, first_word, in_order, lines};
use super::{Command, DEFAULT_TIMEOUT, SendOptions};
use crate::config::EscapeError;
use crate::hub::DEFAULT_BREAK_MS;
use crate::port::nearest::nearest;
use crate::port::{BreakArgument, BreakArgumentError};
use crate::session::{Options, plain};
use crate::system::clock::date_and_clock;

const MAX_COMMAND_BYTES: usize = 4096;

/// Why a command line is invalid. Display is the error message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseError {
    #[error(transparent)]
    Foreign(#[from] ForeignCommand),
    #[error("unknown command {word:?}{} help lists the commands", hint.map_or(";".to_owned(), |name| format!(": did you mean {name}?")))]
    Unknown {
        word: String,
        /// The command that was probably meant.
        hint: Option<&'static str>,
    },
    #[error("a command is UTF-8 text of at most {MAX_COMMAND_BYTES} bytes")]
    NotText,
    #[error("{verb}: {what}; usage: {usage}")]
    Usage { verb: &'static str, what: String, usage: &'static str },
    #[error("{0}")]
    Pattern(#[from] PatternError),
    #[error(
        "invalid time {0:?}: expected a duration ago (10m, 2h, 1d) or a time (16:30, today, 2026-11-24T03:00)"
    )]
    Time(String),
    #[error("--since must be before --until: it is {}, and --until is {}", date_and_clock(*since), date_and_clock(*until))]
    EmptyRange { since: Timestamp, until: Timestamp },
    #[error("-n {0}: expected 0 to {max}, or all", max = u32::MAX)]
    Lines(String),
    #[error(
        "send: invalid escape sequence {0:?}: expected \\r \\n \\t \\e \\a \\b \\\\ \\\" \\' \\xHH or \\OOO"
    )]
    Escape(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A session, as without a command, with these options.
    Session(Options),
    Command(Command),
}

/// Name, usage and description of each command.
pub(super) const COMMANDS: [(&str, &str, &str); 9] = [
    (
        "connect",
        "connect [--escape KEYS|none] [--no-reconnect] [--force]",
        "attach to the console, as without a command; with another escape prefix or none; end when the device is unplugged; take over write access",
    ),
    (
        "log",
        "log [-n LINES|all] [--since TIME] [--until TIME] [--raw] [-f]",
        "print the last lines of the log, or those of a time range; -f follows; --raw keeps control sequences",
    ),
    (
        "grep",
        "grep [-i] [--since TIME] [--until TIME] [--raw] PATTERN",
        "print the matching lines of the log, rotated files included",
    ),
    ("status", "status", "print the state of the port; exit code 0 if its tty is open"),
    ("break", "break [--force] [MILLISECONDS|NAME]", "send a break, or the break of that name"),
    (
        "send",
        "send [--force] [--expect PATTERN] [--timeout SECONDS] [--output-delay TIME] [--output-line-delay TIME] [--raw] TEXT",
        r"send TEXT, in which \r is Return, and wait for PATTERN; delays such as 20ms after each character or line; --raw without omap",
    ),
    (
        "expect",
        "expect [--timeout SECONDS] PATTERN",
        "wait until the output matches PATTERN; exit code 0 if it does",
    ),
    ("version", "version", "print the version"),
    ("help", "help [COMMAND]", "print this list, or one command of it"),
];

/// What other programs call these commands, as `consolectl` takes it.
const ALIASES: [(&str, &str); 12] = [
    ("?", "help"),
    ("--help", "help"),
    ("-h", "help"),
    ("--version", "version"),
    ("-V", "version"),
    ("attach", "connect"),
    ("console", "connect"),
    ("logs", "log"),
    ("tail", "log"),
    ("search", "grep"),
    ("send-break", "break"),
    ("info", "status"),
];

/// Words that are not commands, and the command that was probably meant.
const SYNONYMS: [(&str, &str); 5] = [
    // (No alias: `ssh HOST 'cat >file' <file` means something else.)
    ("cat", "log"),
    ("show", "status"),
    ("users", "status"),
    ("w", "status"),
    ("who", "status"),
];

/// The command that was probably meant.
fn meant(word: &str) -> Option<&'static str> {
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == word).map(|(_, name)| *name);
    synonym.or_else(|| nearest(word, COMMANDS.iter().map(|(name, ..)| *name)).first().copied())
}

pub fn parse(line: &[u8]) -> Result<Request, ParseError> {
    if let Some(command) = foreign(line).or_else(|| probe(line)) {
        return Err(command.into());
    }
    let text = std::str::from_utf8(line).ok().filter(|text| text.len() <= MAX_COMMAND_BYTES);
    let text = text.ok_or(ParseError::NotText)?.trim();
    let (verb, rest) = first_word(text);
    let mut words = Words { verb: "", usage: "", rest };
    if let Some((verb, usage, _)) = named(verb) {
        (words.verb, words.usage) = (verb, usage);
        if *verb != "help" && matches!(rest, "--help" | "-h") {
            return Ok(Request::Command(Command::Help { command: Some((*verb).to_owned()) }));
        }
    }
    let command = match words.verb {
        "connect" => return connect(words).map(Request::Session),
        "log" => log(words),
        "grep" => grep(words),
        "status" => words.finish(Command::Status),
        "break" => send_break(words),
        "send" => send(words),
        "expect" => expect(words),
        "version" => words.finish(Command::Version),
        "help" => help(words),
        _ => Err(ParseError::Unknown { word: verb.to_owned(), hint: meant(verb) }),
    };
    command.map(Request::Command)
}

/// A command by its name or an alias, in any case, as at `consolectl`'s prompt.
fn named(word: &str) -> Option<&'static (&'static str, &'static str, &'static str)> {
    let lower = word.to_lowercase();
    // -V and -v, -H and -h are not the same.
    let word = if word.starts_with('-') { word } else { &lower };
    let name = ALIASES.iter().find(|(alias, _)| *alias == word).map_or(word, |(_, name)| name);
    COMMANDS.iter().find(|(known, ..)| *known == name)
}

fn help(mut words: Words<'_>) -> Result<Command, ParseError> {
    if words.rest.is_empty() {
        return Ok(Command::Help { command: None });
    }
    let word = words.word("COMMAND")?;
    let (name, ..) =
        named(word).ok_or_else(|| ParseError::Unknown { word: word.to_owned(), hint: meant(word) })?;
    words.finish(Command::Help { command: Some((*name).to_owned()) })
}

fn connect(mut words: Words<'_>) -> Result<Options, ParseError> {
    let mut options = Options::default();
    loop {
        match words.option() {
            Some("--escape") => {
                let keys = words.word("KEYS")?;
                options.escape =
                    keys.parse().map_err(|error: EscapeError| words.usage_error(error.to_string()))?;
            }
            Some("--no-reconnect") => options.no_reconnect = true,
            Some("--force") => options.force = true,
            Some(other) => return Err(words.unknown_option(other)),
            None => break,
        }
    }
    match words.rest {
        "" => Ok(options),
        rest => Err(words.usage_error(format!("unexpected argument {:?}", plain(rest)))),
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
            // -n100, and tail(1)'s -100.
            Some(other) => match other.strip_prefix("-n").or_else(|| other.strip_prefix('-')).map(lines) {
                Some(Ok(lines)) => count = Some(lines),
                _ => return Err(words.usage_error(format!("unknown option {other}"))),
            },
            None => break,
        }
    }
    if follow && until.is_some() {
        return Err(words.usage_error("-f and --until exclude each other".to_owned()));
    }
    in_order(since, until)?;
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
    in_order(since, until)?;
    let mut pattern = words.pattern()?;
    if ignore_case {
        pattern = pattern.ignoring_case()?;
    }
    Ok(Command::Grep { pattern, since, until, raw })
}

fn send_break(mut words: Words<'_>) -> Result<Command, ParseError> {
    let force = words.rest.starts_with("--force") && words.option() == Some("--force");
    let (mut milliseconds, mut name) = (DEFAULT_BREAK_MS, None);
    if !words.rest.is_empty() {
        let argument = words.word("MILLISECONDS")?.parse();
        match argument.map_err(|error: BreakArgumentError| words.usage_error(error.to_string()))? {
            BreakArgument::Length(length) => milliseconds = length,
            BreakArgument::Name(wanted) => name = Some(wanted),
        }
    }
    words.finish(Command::Break { milliseconds, name, force })
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
    // --timeout may also follow the pattern.
    if let Some((before, seconds)) = words.rest.rsplit_once(" --timeout ")
        && seconds.trim().starts_with(|first: char| first.is_ascii_digit())
        && !seconds.trim().contains(char::is_whitespace)
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

    fn command(line: &str) -> Command {
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
    fn every_command_is_parsed() {
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
            ("break", Command::Break { milliseconds: DEFAULT_BREAK_MS, name: None, force: false }),
            ("break 250", Command::Break { milliseconds: 250, name: None, force: false }),
            (
                "break sysrq",
                Command::Break {
                    milliseconds: DEFAULT_BREAK_MS,
                    name: Some("sysrq".parse().unwrap()),
                    force: false,
                },
            ),
            ("break --force 250", Command::Break { milliseconds: 250, name: None, force: true }),
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
            ("help", Command::Help { command: None }),
            ("?", Command::Help { command: None }),
            ("--help", Command::Help { command: None }),
            ("help Send", Command::Help { command: Some("send".to_owned()) }),
            ("tail --help", Command::Help { command: Some("log".to_owned()) }),
            ("send -h", Command::Help { command: Some("send".to_owned()) }),
            ("version", Command::Version),
            ("-V", Command::Version),
            ("LOG -f", log(20, true)),
            ("tail -5", log(5, false)),
            ("expect x --timeout 2m", Command::Expect { pattern: pattern("x"), timeout: seconds(120) }),
            ("expect --timeout 2m x", Command::Expect { pattern: pattern("x"), timeout: seconds(120) }),
            (
                "grep --since 2026-11-24 03:00 UTC panic",
                Command::Grep {
                    pattern: pattern("panic"),
                    since: at("2026-11-24T03:00:00Z"),
                    until: None,
                    raw: false,
                },
            ),
            (
                "log --since 2024-11-24 03:00 UTC --until @1764436800",
                Command::Log {
                    lines: None,
                    since: at("2024-11-24T03:00:00Z"),
                    until: at("2025-11-29T17:20:00Z"),
                    follow: false,
                    raw: false,
                },
            ),
        ] {
            assert_eq!(command(line), wanted, "{line:?}");
        }
    }

    #[test]
    fn connect_is_a_session_with_options() {
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
    fn an_invalid_command_line_is_reported_in_one_line() {
        let mut golden = String::new();
        for (line, wanted) in [
            ("reboot now", r#"unknown command "reboot"; help lists the commands"#),
            ("logg", r#"unknown command "logg": did you mean log? help lists the commands"#),
            ("who", r#"unknown command "who": did you mean status? help lists the commands"#),
            ("log 5", r#"log: unexpected argument "5"; usage: log [-n"#),
            ("log -n many", "-n many: expected 0 to 4294967295, or all"),
            ("log --since soon", r#"invalid time "soon": expected a duration ago"#),
            ("log --since +5m", "expected a duration ago"),
            ("help logg", r#"unknown command "logg": did you mean log?"#),
            ("log --until 25:00", r#"invalid time "25:00""#),
            ("log -f --until now", "-f and --until exclude each other; usage: log"),
            ("log -x", "unknown option -x"),
            ("log -\x1b]0;x\x07", "unknown option -?]0;x?"),
            ("true", "true: there is no shell here; `status` succeeds if the port is open"),
            ("grep", "grep: missing PATTERN; usage: grep"),
            ("grep a(", "unclosed group"),
            ("break 0", "invalid break \"0\": expected milliseconds from 10 to 10000"),
            ("break 5 6", "unexpected argument \"6\""),
            ("send", "send: missing TEXT"),
            (r"send a\q", r#"invalid escape sequence "\\q""#),
            (r"send a\", "invalid escape sequence"),
            (r"send \x", "invalid escape sequence"),
            (r"send \777", "invalid escape sequence"),
            ("send --expect", "missing PATTERN"),
            ("send --output-delay 20 x", r#"invalid delay "20": use "1ms" to "10s", or "none"; usage: send"#),
            ("send --output-line-delay", "missing value of --output-line-delay"),
            (
                "expect --timeout 0 x",
                "--timeout 0: expected seconds from 1 to 86400, or a time such as 30s or 2m; usage: expect",
            ),
            ("expect x --timeout 99999", "--timeout 99999: expected seconds from 1 to 86400"),
            ("status please", "unexpected argument \"please\""),
            ("connect --escape", "connect: missing KEYS; usage: connect [--escape KEYS|none]"),
            ("connect --escape cc", "use a control character and one more"),
            ("connect --raw", "unknown option --raw"),
            ("connect demo", "unexpected argument \"demo\""),
        ] {
            let error = parse(line.as_bytes()).map(|command| panic!("{line:?}: {command:?}"));
            let Err(error) = error.map_err(|error| error.to_string());
            assert!(error.contains(wanted) && error.lines().count() == 1, "{line:?}: {error}");
            golden.push_str(&format!("{}\n  {error}\n", line.escape_debug()));
        }
        snapbox::assert_data_eq!(golden, snapbox::file!["../../tests/golden/exec/errors.txt"].raw());
        for line in
            ["log --since 1h --until 2h", "grep --since 2026-11-30T10:00Z --until 2026-11-30T09:00Z x"]
        {
            let error = parse(line.as_bytes()).map(|command| panic!("{line:?}: {command:?}"));
            let Err(error) = error.map_err(|error| error.to_string());
            assert!(error.starts_with("--since must be before --until: it is 20"), "{line:?}: {error}");
        }
        assert_eq!(parse(b"grep \xff"), Err(ParseError::NotText));
        assert_eq!(parse(&[b'x'; 5000]), Err(ParseError::NotText));
    }
}
