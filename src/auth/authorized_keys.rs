//! One authorized_keys file: which line authorizes a key, and why another one does not (AUTHORIZED_KEYS FILE FORMAT in sshd(8)). Every
//! restriction is either enforced or unsupported, and a line with an unsupported option is ignored. Options that restrict only features
//! that a console session never has (`no-pty`, `restrict` …) have no effect. Pure: `keyfile` has read the file.

use std::net::IpAddr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use russh::keys::PublicKey;
use thiserror::Error;

use super::host_patterns::{FromError, HostPatterns};

/// Bytes of the longest line that is parsed: a 16384-bit RSA key with options is below 4 KiB.
pub const LINE_LIMIT: usize = 16 * 1024;

/// Invalid lines that are reported per file: enough to find the mistake, without flooding the journal.
const MAX_REPORTED_LINES: usize = 8;

/// Options that concern only features that a console session never has.
const NO_OPS: [&str; 12] = [
    "restrict",
    "pty",
    "no-pty",
    "port-forwarding",
    "no-port-forwarding",
    "agent-forwarding",
    "no-agent-forwarding",
    "x11-forwarding",
    "no-x11-forwarding",
    "user-rc",
    "no-user-rc",
    "no-touch-required",
];

/// Why a line with the right key is ignored. The journal has it with the line number.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidKeyLine {
    /// `command=`, `cert-authority` and all others.
    #[error("unsupported option {0:?}, so the line is ignored")]
    Option(String),
    /// A flag was given a value or the other way round.
    #[error("option {0:?} needs a value in double quotes")]
    Value(String),
    /// `from="10.0.0.1` without a closing quote.
    #[error("a quoted value is not closed")]
    Quote,
    /// Trailing or doubled comma, or garbage after a value.
    #[error("the options are not separated by single commas")]
    Separator,
    /// The list is invalid.
    #[error(transparent)]
    FromList(#[from] FromError),
    /// The client's address is not in the list.
    #[error("from= does not match {0}")]
    Source(IpAddr),
    /// Neither `YYYYMMDD[Z]` nor `YYYYMMDDHHMM[SS][Z]`.
    #[error("expiry-time={0:?} is not YYYYMMDD[HHMM[SS]][Z]")]
    Time(String),
    /// The time has passed.
    #[error("the key expired at {0}")]
    Expired(Timestamp),
    /// Longer than [`LINE_LIMIT`]. The only error about a line whose key may be another one.
    #[error("the line has more than {LINE_LIMIT} bytes and was not read")]
    TooLong,
}

/// The login that a line's restrictions are checked against.
#[derive(Debug, Clone)]
pub struct LoginContext {
    /// Address of the client.
    pub rhost: IpAddr,
    /// The time of the login.
    pub now: Timestamp,
    /// The machine's zone, for an `expiry-time` without `Z`.
    pub zone: TimeZone,
}

/// Result of the search for a key in a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Number of the line that authorizes the key, from 1.
    pub admitted: Option<usize>,
    /// Lines before it that have this key and are ignored, with the reason.
    pub refused: Vec<(usize, InvalidKeyLine)>,
}

/// Searches for the first line of `file` that authorizes `key`.
pub fn search(file: &[u8], key: &PublicKey, context: &LoginContext) -> Search {
    let mut found = Search::default();
    for (line, number) in file.split(|byte| *byte == b'\n').zip(1..) {
        let verdict = match line.len() {
            0..=LINE_LIMIT => judge(&String::from_utf8_lossy(line), key, context),
            _ => Some(Err(InvalidKeyLine::TooLong)),
        };
        match verdict {
            None => {}
            Some(Ok(())) => {
                found.admitted = Some(number);
                break;
            }
            Some(Err(denied)) if found.refused.len() < MAX_REPORTED_LINES => {
                found.refused.push((number, denied))
            }
            Some(Err(_)) => {}
        }
    }
    found
}

/// `None`: a comment, or another key.
fn judge(line: &str, key: &PublicKey, context: &LoginContext) -> Option<Result<(), InvalidKeyLine>> {
    let line = line.trim_matches([' ', '\t', '\r']);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    if let Some(listed) = public_key(line) {
        return (listed.key_data() == key.key_data()).then_some(Ok(()));
    }
    let (options, rest) = line.split_at(options_length(line));
    let listed = public_key(rest)?;
    (listed.key_data() == key.key_data()).then(|| admits(options, context))
}

/// `ssh-ed25519 AAAA… comment`, the fields any number of blanks apart.
fn public_key(text: &str) -> Option<PublicKey> {
    let mut fields = text.split([' ', '\t']).filter(|field| !field.is_empty());
    let (algorithm, data) = (fields.next()?, fields.next()?);
    PublicKey::from_openssh(&format!("{algorithm} {data}")).ok()
}

/// Length of the options, which end at the first blank outside quotes.
fn options_length(line: &str) -> usize {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b'"' if !escaped => quoted = !quoted,
            b' ' | b'\t' if !quoted => return at,
            _ => {}
        }
        escaped = byte == b'\\';
    }
    line.len()
}

fn admits(options: &str, context: &LoginContext) -> Result<(), InvalidKeyLine> {
    let mut rest = options;
    while let Some((name, value, behind)) = next_option(rest)? {
        rest = behind;
        match (name.to_ascii_lowercase().as_str(), value) {
            ("from", Some(list)) => {
                if !HostPatterns::parse(&list)?.matches(context.rhost) {
                    return Err(InvalidKeyLine::Source(context.rhost));
                }
            }
            ("expiry-time", Some(time)) => {
                let expiry = expiry(&time, &context.zone).ok_or(InvalidKeyLine::Time(time))?;
                if expiry < context.now {
                    return Err(InvalidKeyLine::Expired(expiry));
                }
            }
            (flag, None) if NO_OPS.contains(&flag) => {}
            (flag, Some(_)) if NO_OPS.contains(&flag) => {
                return Err(InvalidKeyLine::Option(format!("{flag}=")));
            }
            ("from" | "expiry-time", None) => return Err(InvalidKeyLine::Value(name.to_owned())),
            _ => return Err(InvalidKeyLine::Option(name.to_owned())),
        }
    }
    Ok(())
}

/// An option's name, its value if it has one, and what follows it.
type NextOption<'a> = Option<(&'a str, Option<String>, &'a str)>;

/// Splits off `name` or `name="value"`. Only `\"` is an escape in a value (opt_dequote in OpenSSH's misc.c).
fn next_option(text: &str) -> Result<NextOption<'_>, InvalidKeyLine> {
    if text.is_empty() {
        return Ok(None);
    }
    let end = text.find(['=', ',', '"']).unwrap_or(text.len());
    let (name, behind) = text.split_at(end);
    let (value, behind) = match behind.strip_prefix('=') {
        Some(quoted) => {
            let quoted = quoted.strip_prefix('"').ok_or_else(|| InvalidKeyLine::Value(name.to_owned()))?;
            let (value, behind) = dequote(quoted)?;
            (Some(value), behind)
        }
        None => (None, behind),
    };
    let rest = match behind.strip_prefix(',') {
        Some(rest) if !rest.is_empty() => rest,
        None if behind.is_empty() => behind,
        _ => return Err(InvalidKeyLine::Separator),
    };
    if name.is_empty() {
        return Err(InvalidKeyLine::Separator);
    }
    Ok(Some((name, value, rest)))
}

/// The value up to its closing quote, and what follows that.
fn dequote(text: &str) -> Result<(String, &str), InvalidKeyLine> {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' if characters.next_if(|(_, next)| *next == '"').is_some() => value.push('"'),
            _ => value.push(character),
        }
    }
    Err(InvalidKeyLine::Quote)
}

/// `YYYYMMDD[HHMM[SS]][Z]`: in the machine's zone, with `Z` in UTC.
fn expiry(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let (digits, zone) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, &TimeZone::UTC),
        None => (text, zone),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(digits.len(), 8 | 12 | 14) {
        return None;
    }
    let part = |from: usize, length: usize| digits.get(from..from + length).map_or(Ok(0), str::parse);
    let year = part(0, 4).ok().filter(|year| *year >= 1970)?;
    let [month, day, hour, minute, second] = [4, 6, 8, 10, 12].map(|from| part(from, 2));
    let number = |part: Result<i16, _>| part.ok().and_then(|part| i8::try_from(part).ok());
    let time =
        DateTime::new(year, number(month)?, number(day)?, number(hour)?, number(minute)?, number(second)?, 0);
    Some(time.ok()?.to_zoned(zone.clone()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKI/9gdlBNNq2lICe+kic2SLt7h+hBTAhGykEIU5PH/L";

    fn context() -> LoginContext {
        LoginContext {
            rhost: "192.0.2.7".parse().unwrap(),
            now: "2026-11-22T12:00:00Z".parse().unwrap(),
            zone: TimeZone::fixed(jiff::tz::offset(2)),
        }
    }

    fn find(file: &str) -> Search {
        search(file.as_bytes(), &PublicKey::from_openssh(KEY).unwrap(), &context())
    }

    fn verdict(options: &str) -> Result<(), InvalidKeyLine> {
        let found = find(&format!("{options} {KEY} someone@somewhere"));
        match found.admitted {
            Some(1) => Ok(()),
            _ => Err(found.refused.into_iter().next().expect("the line has the key").1),
        }
    }

    #[test]
    fn the_key_counts_and_not_the_comment() {
        assert_eq!(find(&format!("{KEY} any comment, with \"quotes\"\n")).admitted, Some(1));
        assert_eq!(find(&format!("# {KEY}\n\n  \t{KEY}\r\n")).admitted, Some(3));
        assert_eq!(find(&format!("{OTHER}\n{}\n", KEY.replace(' ', "\t  "))).admitted, Some(2));
        assert_eq!(find(&format!("{OTHER} {KEY}\n")), Search::default());
        assert_eq!(find("ssh-ed25519\nssh-ed25519 AAAA\nrubbish\n\0\n"), Search::default());
    }

    #[test]
    fn options_about_things_that_a_console_never_has_change_nothing() {
        for options in ["restrict", "no-pty,no-X11-forwarding", "RESTRICT,pty,agent-forwarding,no-user-rc"] {
            assert_eq!(verdict(options), Ok(()), "{options}");
        }
    }

    #[test]
    fn what_is_not_understood_does_not_admit() {
        for (options, name) in [
            ("command=\"/bin/true\"", "command"),
            ("restrict,command=\"echo \\\"a b\\\", c\"", "command"),
            ("cert-authority", "cert-authority"),
            ("principals=\"a\"", "principals"),
            ("tunnel=\"0\"", "tunnel"),
            ("environment=\"A=b\"", "environment"),
            ("permitopen=\"h:1\"", "permitopen"),
            ("verify-required", "verify-required"),
            ("no-such-thing", "no-such-thing"),
            ("no-pty=\"\"", "no-pty="),
        ] {
            assert_eq!(verdict(options), Err(InvalidKeyLine::Option(name.to_owned())), "{options}");
        }
    }

    #[test]
    fn broken_syntax_does_not_admit() {
        assert_eq!(verdict("from=192.0.2.7"), Err(InvalidKeyLine::Value("from".to_owned())));
        assert_eq!(verdict("from"), Err(InvalidKeyLine::Value("from".to_owned())));
        assert_eq!(verdict("restrict,"), Err(InvalidKeyLine::Separator));
        assert_eq!(verdict("restrict,,pty"), Err(InvalidKeyLine::Separator));
        assert_eq!(verdict("from=\"192.0.2.7\"pty"), Err(InvalidKeyLine::Separator));
        assert_eq!(verdict("\"\""), Err(InvalidKeyLine::Separator));
        assert_eq!(admits("from=\"192.0.2.7", &context()), Err(InvalidKeyLine::Quote));
        assert_eq!(find(&format!("from=\"192.0.2.7 {KEY}")), Search::default(), "all of it is options");
    }

    #[test]
    fn an_escaped_quote_belongs_to_the_value() {
        assert_eq!(dequote(r#"a\"b\\c\n" rest"#), Ok((r#"a"b\\c\n"#.to_owned(), " rest")));
        assert_eq!(dequote(r#"open\""#), Err(InvalidKeyLine::Quote));
    }

    #[test]
    fn from_is_held_against_the_client() {
        assert_eq!(verdict("from=\"192.0.2.0/24,!192.0.2.9\""), Ok(()));
        assert_eq!(verdict("From=\"10.0.0.0/8\""), Err(InvalidKeyLine::Source("192.0.2.7".parse().unwrap())));
        assert!(verdict("from=\"*\",from=\"10.0.0.1\"").is_err(), "every list must match");
        assert!(matches!(verdict("from=\"10.0.0.1/8\""), Err(InvalidKeyLine::FromList(_))));
    }

    #[test]
    fn expiry_is_local_time_unless_it_says_z() {
        assert_eq!(verdict("expiry-time=\"20270101\""), Ok(()));
        assert_eq!(verdict("expiry-time=\"202611221201Z\""), Ok(()));
        assert_eq!(verdict("expiry-time=\"20261122140001\""), Ok(()), "two hours east");
        for past in ["20261122", "202611221359", "20261122115959Z", "19700101"] {
            assert!(
                matches!(verdict(&format!("expiry-time=\"{past}\"")), Err(InvalidKeyLine::Expired(_))),
                "{past}"
            );
        }
        for bad in
            ["", "Z", "2026", "20261301", "20260230", "2026112224", "202611222400", "20261122+1", "19691231"]
        {
            let denied = Err(InvalidKeyLine::Time(bad.to_owned()));
            assert_eq!(verdict(&format!("expiry-time=\"{bad}\"")), denied, "{bad}");
        }
    }

    #[test]
    fn a_later_line_may_admit_what_an_earlier_one_refused() {
        let found = find(&format!("command=\"x\" {KEY}\n{KEY}\n"));
        assert_eq!(found.admitted, Some(2));
        assert_eq!(found.refused, [(1, InvalidKeyLine::Option("command".to_owned()))]);
    }

    #[test]
    fn a_line_too_long_is_named_and_the_next_one_read() {
        let found = find(&format!("{}{KEY}\n{KEY}", " ".repeat(LINE_LIMIT)));
        assert_eq!(found, Search { admitted: Some(2), refused: vec![(1, InvalidKeyLine::TooLong)] });
    }

    #[test]
    fn a_file_full_of_refusals_does_not_fill_the_journal() {
        let found = find(&format!("command=\"x\" {KEY}\n").repeat(1000));
        assert_eq!((found.admitted, found.refused.len()), (None, MAX_REPORTED_LINES));
    }

    proptest! {
        #[test]
        fn no_file_panics(file: Vec<u8>) {
            search(&file, &PublicKey::from_openssh(KEY).unwrap(), &context());
        }

        #[test]
        fn no_options_panic(options in r#"([a-z-]{0,5}|[=,"\\ ]|from="|expiry-time="|20\d{6}|"\x{fc}){0,12}"#) {
            find(&format!("{options} {KEY}"));
            let _ = admits(&options, &context());
        }

        #[test]
        fn a_value_comes_back_as_it_was_quoted(value in r#"[a-z\\ ,"=]{0,20}"#) {
            // A backslash just before a quote cannot be written in this format.
            prop_assume!(!value.contains("\\\"") && !value.ends_with('\\'));
            let quoted = format!("x=\"{}\",y", value.replace('"', "\\\""));
            prop_assert_eq!(options_length(&format!("{quoted} rest")), quoted.len());
            prop_assert_eq!(next_option(&quoted), Ok(Some(("x", Some(value), "y"))));
        }

        #[test]
        fn no_unknown_option_admits(name in "[a-z-]{1,20}") {
            prop_assume!(!NO_OPS.contains(&name.as_str()));
            let behind = format!("restrict,{name}");
            prop_assert!(verdict(&name).is_err());
            prop_assert!(verdict(&behind).is_err());
        }
    }

    #[test]
    fn error_messages() {
        let errors = [
            InvalidKeyLine::Option("command".to_owned()),
            InvalidKeyLine::Value("from".to_owned()),
            InvalidKeyLine::Quote,
            InvalidKeyLine::Separator,
            FromError::Empty.into(),
            FromError::Mask("10.0.0.1/8".to_owned()).into(),
            FromError::NegatedName("bad.example.org".to_owned()).into(),
            InvalidKeyLine::Source(context().rhost),
            InvalidKeyLine::Time("tomorrow".to_owned()),
            InvalidKeyLine::Expired(context().now),
            InvalidKeyLine::TooLong,
        ];
        let text: String = errors.iter().map(|error| format!("{error}\n")).collect();
        snapbox::assert_data_eq!(text, snapbox::file!["../../tests/golden/auth/key-lines.txt"].raw());
    }
}
