//! One authorized_keys file: which line authorizes a key or a certificate, and why another one does not (AUTHORIZED_KEYS FILE FORMAT in
//! sshd(8)). Every restriction is either enforced or unsupported, and a line with an unsupported option is ignored. Options that restrict
//! only features that a console session never has (`no-pty`, `restrict` …) have no effect. The options are those of a line of
//! authorized_principals as well. Pure: `keyfile` has read the file.

use std::net::IpAddr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use russh::keys::ssh_key::public::KeyData;
use thiserror::Error;

use super::certificate::{self, BLANKS, Offered, RequiredOfSecurityKey, UserCertificate};
use super::host_patterns::{FromError, HostPatterns};

/// Bytes of the longest line that is parsed: a 16384-bit RSA key with options is below 4 KiB.
pub const LINE_LIMIT: usize = 16 * 1024;

/// Names in one `principals=`: MAX_PROP in OpenSSH's match.c.
const PRINCIPALS_LIMIT: usize = 40;

/// Invalid lines that are reported per file: enough to find the mistake, without flooding the journal.
const MAX_REPORTED_LINES: usize = 8;

/// Options that concern only features that a console session never has.
const NO_OPS: [&str; 11] = [
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
];

/// Those with a value: they limit forwarding, or set variables, which sshd does not do either by default (PermitUserEnvironment). With
/// sshd such a key opens a shell.
const NO_OPS_WITH_VALUE: [&str; 4] = ["permitopen", "permitlisten", "tunnel", "environment"];

/// Options without a value that have an effect.
const FLAGS: [&str; 3] = ["cert-authority", "verify-required", "no-touch-required"];

/// Why a line with the right key is ignored. The journal has it with the line number.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidKeyLine {
    /// `command=` and all others.
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
    #[error(transparent)]
    FromList(#[from] FromError),
    #[error("from= does not match {0}")]
    Source(IpAddr),
    #[error("expiry-time={0:?} is not YYYYMMDD[HHMM[SS]][Z]")]
    Time(String),
    #[error("the key expired at {0}")]
    Expired(Timestamp),
    /// The key itself was offered.
    #[error("cert-authority authorizes certificates of this key, and not the key itself")]
    Authority,
    /// A certificate was offered.
    #[error("the line has the key of the certificate's authority, but not the option cert-authority")]
    NoAuthority,
    #[error("principals= requires cert-authority")]
    PrincipalsOfKey,
    #[error("{0} is not allowed in a file of principals")]
    InPrincipals(&'static str),
    #[error("the certificate is for none of the principals {0:?}")]
    Principals(String),
    /// Longer than [`LINE_LIMIT`]. The only error about a line whose key may be another one.
    #[error("the line has more than {LINE_LIMIT} bytes and was not read")]
    TooLong,
}

/// The login that a line's restrictions are checked against.
#[derive(Debug, Clone)]
pub struct LoginContext {
    pub user: String,
    pub rhost: IpAddr,
    pub now: Timestamp,
    /// The machine's zone, for an `expiry-time` without `Z`.
    pub zone: TimeZone,
}

/// Result of the search for a key in a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// Number of the line that authorizes the key, from 1.
    pub admitted: Option<usize>,
    /// The requirements of that line for a security key. Later lines do not count, as with sshd.
    pub required: Option<RequiredOfSecurityKey>,
    /// Lines before it that have this key and are ignored, with the reason.
    pub refused: Vec<(usize, InvalidKeyLine)>,
}

/// Searches for the first line of `file` that authorizes what is `offered`.
pub fn search(file: &[u8], offered: &Offered, context: &LoginContext) -> Search {
    search_lines(file, |line| judge(line, offered, context))
}

/// Searches for the first line of a file of principals (AuthorizedPrincipalsFile in sshd_config(5)) with one of the certificate's.
pub fn search_principals(file: &[u8], certificate: &UserCertificate, context: &LoginContext) -> Search {
    search_lines(file, |line| judge_principal(line, certificate, context))
}

/// The decision of a line; `None` if the line is about another key.
type Verdict = Option<Result<RequiredOfSecurityKey, InvalidKeyLine>>;

fn search_lines(file: &[u8], judge: impl Fn(&str) -> Verdict) -> Search {
    let mut found = Search::default();
    for (line, number) in file.split(|byte| *byte == b'\n').zip(1..) {
        let verdict = match line.len() {
            0..=LINE_LIMIT => judge(&String::from_utf8_lossy(line)),
            _ => Some(Err(InvalidKeyLine::TooLong)),
        };
        match verdict {
            None => {}
            Some(Ok(required)) => {
                (found.admitted, found.required) = (Some(number), Some(required));
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
fn judge(line: &str, offered: &Offered, context: &LoginContext) -> Verdict {
    // A carriage return at the end belongs to the comment or the key.
    let line = line.trim_matches(BLANKS);
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (options, listed) = match certificate::parse(line) {
        Ok(listed) => ("", listed),
        Err(_) => {
            let (options, rest) = line.split_at(options_length(line));
            (options, certificate::parse(rest).ok()?)
        }
    };
    is_about(&listed, offered).then(|| admits(options, context, Subject::Line(offered)))
}

/// Whether a line with this key is about what is offered: the key itself, or that of a certificate's authority.
fn is_about(listed: &KeyData, offered: &Offered) -> bool {
    match offered {
        Offered::Key(key) => key.key_data() == listed,
        Offered::Certificate(certificate) => certificate.authority().key_data() == listed,
    }
}

/// A line of a file of principals: options, blanks, and the name, which is the last word (process_principals in OpenSSH's
/// auth2-pubkeyfile.c). `None`: a comment, or another principal.
fn judge_principal(line: &str, certificate: &UserCertificate, context: &LoginContext) -> Verdict {
    // A carriage return is part of the name, as in sshd.
    let line = line.split('#').next().unwrap_or_default().trim_matches(BLANKS);
    if line.is_empty() {
        return None;
    }
    // The last blank, or without one the last tab (strrchr).
    let (options, principal) = line.rsplit_once(' ').or_else(|| line.rsplit_once('\t')).unwrap_or(("", line));
    let principal = principal.trim_start_matches('\t');
    let options = options.trim_matches(BLANKS);
    certificate.is_for(principal).then(|| admits(options, context, Subject::Principal))
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

/// The kind of line that the options belong to.
#[derive(Clone, Copy)]
enum Subject<'a> {
    /// A line of authorized_keys about what was offered.
    Line(&'a Offered),
    /// A line of a file of principals.
    Principal,
}

fn admits(
    options: &str,
    context: &LoginContext,
    subject: Subject<'_>,
) -> Result<RequiredOfSecurityKey, InvalidKeyLine> {
    let mut required = RequiredOfSecurityKey { touch: true, verification: false };
    let mut is_authority = false;
    let mut principals = None;
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
            ("cert-authority", None) => is_authority = true,
            // A second list is an error in sshd.
            ("principals", Some(list)) if principals.is_none() => principals = Some(list),
            ("verify-required", None) => required.verification = true,
            ("no-touch-required", None) => required.touch = false,
            (flag, None) if NO_OPS.contains(&flag) => {}
            (name, Some(_)) if NO_OPS_WITH_VALUE.contains(&name) => {}
            (flag, Some(_)) if NO_OPS.contains(&flag) || FLAGS.contains(&flag) => {
                return Err(InvalidKeyLine::Option(format!("{flag}=")));
            }
            ("from" | "expiry-time" | "principals", None) => {
                return Err(InvalidKeyLine::Value(name.to_owned()));
            }
            (flag, None) if NO_OPS_WITH_VALUE.contains(&flag) => {
                return Err(InvalidKeyLine::Value(name.to_owned()));
            }
            _ => return Err(InvalidKeyLine::Option(name.to_owned())),
        }
    }
    match subject {
        Subject::Principal if is_authority => Err(InvalidKeyLine::InPrincipals("cert-authority")),
        Subject::Principal if principals.is_some() => Err(InvalidKeyLine::InPrincipals("principals=")),
        Subject::Principal => Ok(required),
        Subject::Line(Offered::Key(_)) if is_authority => Err(InvalidKeyLine::Authority),
        Subject::Line(Offered::Key(_)) if principals.is_some() => Err(InvalidKeyLine::PrincipalsOfKey),
        Subject::Line(Offered::Key(_)) => Ok(required),
        Subject::Line(Offered::Certificate(_)) if !is_authority => Err(InvalidKeyLine::NoAuthority),
        Subject::Line(Offered::Certificate(certificate)) => {
            // Each name as a whole: OpenSSH before 10.3 splits a certificate's name with a comma.
            let principals = principals.unwrap_or_else(|| context.user.clone());
            let is_for_one = listed_names(&principals).any(|name| certificate.is_for(name));
            if is_for_one {
                Ok(required.with(certificate))
            } else {
                Err(InvalidKeyLine::Principals(principals))
            }
        }
    }
}

/// The names of `principals=` that count in sshd: those before the first empty one, and at most 40 (match_list in OpenSSH's match.c).
fn listed_names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').take_while(|name| !name.is_empty()).take(PRINCIPALS_LIMIT)
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
            user: "alice".to_owned(),
            rhost: "192.0.2.7".parse().unwrap(),
            now: "2026-11-22T12:00:00Z".parse().unwrap(),
            zone: TimeZone::fixed(jiff::tz::offset(2)),
        }
    }

    fn offered() -> Offered {
        Offered::parse(KEY).unwrap()
    }

    fn find(file: &str) -> Search {
        search(file.as_bytes(), &offered(), &context())
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
        for options in [
            "restrict",
            "no-pty,no-X11-forwarding",
            "RESTRICT,pty,agent-forwarding,no-user-rc",
            // sshd of Debian 12 opens a shell with each of these.
            "tunnel=\"0\"",
            "environment=\"A=b\"",
            "restrict,permitopen=\"h:1\",permitopen=\"[::1]:2\"",
            "permitlisten=\"8080\"",
        ] {
            assert_eq!(verdict(options), Ok(()), "{options}");
        }
        assert_eq!(verdict("permitopen"), Err(InvalidKeyLine::Value("permitopen".to_owned())));
    }

    #[test]
    fn what_is_not_understood_does_not_admit() {
        for (options, name) in [
            ("command=\"/bin/true\"", "command"),
            ("restrict,command=\"echo \\\"a b\\\", c\"", "command"),
            ("verify-required=\"\"", "verify-required="),
            ("no-such-thing", "no-such-thing"),
            ("no-pty=\"\"", "no-pty="),
        ] {
            assert_eq!(verdict(options), Err(InvalidKeyLine::Option(name.to_owned())), "{options}");
        }
    }

    #[test]
    fn the_line_of_an_authority_does_not_admit_its_own_key() {
        assert_eq!(verdict("cert-authority"), Err(InvalidKeyLine::Authority));
        assert_eq!(verdict("cert-authority,principals=\"alice\""), Err(InvalidKeyLine::Authority));
        assert_eq!(verdict("principals=\"alice\""), Err(InvalidKeyLine::PrincipalsOfKey));
    }

    #[test]
    fn the_first_line_that_admits_decides_about_touch() {
        let required = |file: &str| find(file).required.unwrap();
        let required_of = |touch, verification| RequiredOfSecurityKey { touch, verification };
        assert_eq!(required(KEY), required_of(true, false));
        assert_eq!(required(&format!("no-touch-required {KEY}")), required_of(false, false));
        assert_eq!(
            required(&format!("verify-required {KEY}\nno-touch-required {KEY}")),
            required_of(true, true)
        );
    }

    #[test]
    fn broken_syntax_does_not_admit() {
        assert_eq!(verdict("from=192.0.2.7"), Err(InvalidKeyLine::Value("from".to_owned())));
        assert_eq!(verdict("from"), Err(InvalidKeyLine::Value("from".to_owned())));
        assert_eq!(verdict("restrict,"), Err(InvalidKeyLine::Separator));
        assert_eq!(verdict("restrict,,pty"), Err(InvalidKeyLine::Separator));
        assert_eq!(verdict("from=\"192.0.2.7\"pty"), Err(InvalidKeyLine::Separator));
        assert_eq!(verdict("\"\""), Err(InvalidKeyLine::Separator));
        assert_eq!(admits("from=\"192.0.2.7", &context(), Subject::Principal), Err(InvalidKeyLine::Quote));
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
    fn principals_end_at_an_empty_name_and_after_forty() {
        let names = |list: &str| listed_names(list).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names("operator,alice,"), ["operator", "alice"]);
        assert_eq!(names("operator,,alice"), ["operator"]);
        assert!(names(",alice").is_empty() && names("").is_empty());
        let many = (0..41).map(|number| format!("u{number}")).collect::<Vec<_>>();
        assert_eq!(names(&many.join(",")), many[..40]);
    }

    #[test]
    fn a_line_too_long_is_named_and_the_next_one_read() {
        let found = find(&format!("{}{KEY}\n{KEY}", " ".repeat(LINE_LIMIT)));
        assert_eq!((found.admitted, found.refused), (Some(2), vec![(1, InvalidKeyLine::TooLong)]));
    }

    #[test]
    fn a_file_full_of_refusals_does_not_fill_the_journal() {
        let found = find(&format!("command=\"x\" {KEY}\n").repeat(1000));
        assert_eq!((found.admitted, found.refused.len()), (None, MAX_REPORTED_LINES));
    }

    proptest! {
        #[test]
        fn no_file_panics(file: Vec<u8>) {
            search(&file, &offered(), &context());
        }

        #[test]
        fn no_options_panic(options in r#"([a-z-]{0,5}|[=,"\\ ]|from="|expiry-time="|20\d{6}|"\x{fc}){0,12}"#) {
            find(&format!("{options} {KEY}"));
            let _ = admits(&options, &context(), Subject::Principal);
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
            prop_assume!(!NO_OPS.contains(&name.as_str()) && !FLAGS.contains(&name.as_str()));
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
            InvalidKeyLine::Authority,
            InvalidKeyLine::NoAuthority,
            InvalidKeyLine::PrincipalsOfKey,
            InvalidKeyLine::InPrincipals("principals="),
            InvalidKeyLine::Principals("alice,operator".to_owned()),
            InvalidKeyLine::TooLong,
        ];
        let text: String = errors.iter().map(|error| format!("{error}\n")).collect();
        snapbox::assert_data_eq!(text, snapbox::file!["../../tests/golden/auth/key-lines.txt"].raw());
    }
}
