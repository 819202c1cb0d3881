//! Converts values between the words of a command, the key table and D-Bus.

use std::collections::BTreeMap;

use thiserror::Error;

use super::target::Target;
use crate::admin::{bus, wire};
use crate::config::keys::{self, Key};
use crate::config::meant;
use crate::config::{Members, Port, Server, TemplateName, TemplateNameError, TriggerName, Value};
use crate::exec;
use crate::port::{GroupName, PatternError};

/// The keys of a port or table with their values.
pub type Keys = BTreeMap<String, Value>;

/// Why a key or value is invalid.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum ValueError {
    #[error("{of} has no key {key}: {instead}")]
    UnknownKey { of: String, key: String, instead: String },
    #[error("{0} is not a number, string, boolean or list of strings")]
    NotSent(String),
    #[error("a template has no value: set one of its keys, such as `set templates.{0} baud 115200`")]
    WholeTemplate(String),
    #[error(transparent)]
    Template(TemplateNameError),
    #[error("{0} applies to a single port: set it for a port")]
    Single(String),
    #[error("{0} is set twice")]
    Twice(String),
    #[error("{0:?}: expected KEY=VALUE, such as baud=115200")]
    NoAssignment(String),
    #[error(
        "{key} {value}: {ports} ports cannot share one value; use one per port, such as {}",
        if key == "device" { "device=/dev/ttyS[0-47]" } else { "ssh_port=[8100-8147]" }
    )]
    OfOne { key: String, value: String, ports: usize },
    #[error("{key} {value}: {values} values for {ports} ports")]
    Counts { key: String, value: String, values: usize, ports: usize },
    #[error("{0}: expected the names of new ports, such as core, p[01-48] or a,b")]
    NotNames(String),
    #[error("there are fewer than {count} free TCP ports from {first} up")]
    NoMorePorts { first: u16, count: usize },
    #[error(transparent)]
    Brackets(#[from] PatternError),
    #[error("{key} {}: {reason}", if value.is_empty() { "\"\"" } else { value })]
    Rejected { key: String, value: String, reason: String },
}

/// Parses the words of a value. The first of these that the key accepts is returned: TOML, a string, a synonym of on or off, a list of
/// the words.
pub fn parse(of: &Target, key: &str, words: &[String]) -> Result<Value, ValueError> {
    if let Some((_, inner)) = rule_and_key(of, key) {
        if inner.is_empty() || check_key(of, key).is_err() {
            return Err(unknown(of, key));
        }
        return parse_as(keys::TRIGGER, of, inner, words).map_err(|error| match error {
            ValueError::Rejected { value, reason, .. } => {
                ValueError::Rejected { key: key.to_owned(), value, reason }
            }
            error => error,
        });
    }
    match of {
        Target::Server => parse_as(keys::SERVER, of, key, words),
        Target::Access => parse_as(keys::ACCESS, of, key, words),
        Target::Groups => members(key, words),
        Target::Templates => Err(ValueError::WholeTemplate(key.to_owned())),
        Target::Defaults | Target::Template(_) | Target::Port(_) => parse_as(keys::PORT, of, key, words),
    }
}

/// The members of a group: one per word, or a TOML list.
fn members(group: &str, words: &[String]) -> Result<Value, ValueError> {
    group.parse::<GroupName>()?;
    let text = words.join(" ");
    let list = match text.parse::<Value>() {
        Ok(list @ Value::Array(_)) => list,
        _ => Value::Array(words.iter().map(|word| word.as_str().into()).collect()),
    };
    keys::GROUP[0].put(&mut Members::new(), &list).map_err(|refused| ValueError::Rejected {
        key: format!("group {group}"),
        value: text,
        reason: refused.reason,
    })?;
    Ok(list)
}

/// Whether ports inherit from a table.
fn is_inherited(of: &Target) -> bool {
    matches!(of, Target::Defaults | Target::Template(_))
}

/// Rule and key of `triggers.RULE.KEY`; the key of `triggers.RULE` is empty.
fn rule_and_key<'k>(of: &Target, key: &'k str) -> Option<(&'k str, &'k str)> {
    let has_rules = is_inherited(of) || matches!(of, Target::Port(_));
    let rest = key.strip_prefix("triggers.").filter(|_| has_rules)?;
    Some(rest.split_once('.').unwrap_or((rest, "")))
}

fn parse_as<T: Default>(
    table: &'static [Key<T>],
    of: &Target,
    key: &str,
    words: &[String],
) -> Result<Value, ValueError> {
    let known = keys::find(table, key).ok_or_else(|| unknown(of, key))?;
    if is_inherited(of) && !known.general {
        return Err(ValueError::Single(key.to_owned()));
    }
    let text = words.join(" ");
    let rejected = |reason| ValueError::Rejected { key: key.to_owned(), value: text.clone(), reason };
    if LISTS_OF_NAMES.contains(&key) && words.iter().any(|word| word.starts_with(['+', '-'])) {
        return Err(rejected("a list is set as a whole: write all of its names".to_owned()));
    }
    let seconds = (key == "timeout").then(|| exec::seconds(&text, 0..=u32::MAX).ok()).flatten();
    let mut why = match is_flag(known) {
        true => format!("expected {FLAG_WORDS}"),
        // A table is set key by key here.
        false if key == "log" => keys::find(table, "log.type").unwrap_or(known).expected(None).to_string(),
        false => known.expected(None).to_string(),
    };
    // `10m`, as the keys that are times.
    let in_seconds = seconds.map(|seconds| Value::Integer(seconds.into()));
    let letter = letter(&text).filter(|_| is_flag(known));
    for candidate in meant::candidates(key, &text, words).into_iter().chain(in_seconds).chain(letter) {
        let mut tried = T::default();
        match known.put(&mut tried, &candidate) {
            // The file has the letter of a value that can be written as a word or as its first letter.
            Ok(()) => {
                return Ok(match known.get(&tried) {
                    Some(Value::String(letter)) if letter.len() == 1 && candidate.is_str() => letter.into(),
                    // `10m` of a key whose canonical form is seconds.
                    Some(seconds @ Value::Integer(_)) if candidate.is_str() => seconds,
                    _ => candidate,
                });
            }
            // A specific reason is more useful than what the key expects.
            Err(refused) if refused != known.expected(refused.element) => why = refused.to_string(),
            Err(_) => {}
        }
    }
    let advice = match meant::advice(key, &text) {
        None if key == "log" && text.starts_with('{') => {
            Some("a table is set key by key: log.type=raw log.sync=1m".to_owned())
        }
        None if words.iter().skip(1).any(|word| keys::find(table, word).is_some()) => {
            Some("several keys are written as KEY=VALUE each".to_owned())
        }
        None if is_nothing(&text) => {
            let of = if matches!(of, Target::Port(_)) { "PORT".to_owned() } else { of.to_string() };
            Some(format!("`unset {of} {key}` restores the default"))
        }
        advice => advice,
    };
    Err(rejected(match advice {
        Some(advice) => format!("{why}: {advice}"),
        None => why,
    }))
}

/// The keys that are lists of users or groups.
const LISTS_OF_NAMES: [&str; 3] = ["groups", "users", "read_only_groups"];

/// systemd's abbreviations of yes, true, no and false.
fn letter(text: &str) -> Option<Value> {
    match text.to_ascii_lowercase().as_str() {
        "y" | "t" => Some(true.into()),
        "n" | "f" => Some(false.into()),
        _ => None,
    }
}

/// Whether a value was meant to remove a key.
fn is_nothing(text: &str) -> bool {
    const WORDS: [&str; 7] = ["", "-", "default", "nil", "none", "null", "unset"];
    WORDS.contains(&text.trim().to_ascii_lowercase().as_str())
}

/// The values that a boolean key accepts.
const FLAG_WORDS: &str = "on or off (or yes/no, true/false, 1/0)";

fn is_flag<T: Default>(key: &Key<T>) -> bool {
    key.put(&mut T::default(), &true.into()).is_ok()
}

/// The names of the keys of a table or port, in the order of the key table.
pub fn names(of: &Target) -> Vec<&'static str> {
    match of {
        Target::Server => keys::SERVER.iter().map(|key| key.name).collect(),
        Target::Access => keys::ACCESS.iter().map(|key| key.name).collect(),
        Target::Defaults | Target::Template(_) => {
            keys::PORT.iter().filter(|key| key.general).map(|key| key.name).collect()
        }
        // Their keys are names that users choose.
        Target::Groups | Target::Templates => Vec::new(),
        Target::Port(_) => keys::PORT.iter().map(|key| key.name).collect(),
    }
}

/// Rejects a key that the table or port does not have.
pub fn check_key(of: &Target, key: &str) -> Result<(), ValueError> {
    match of {
        Target::Groups => return Ok(key.parse::<GroupName>().map(drop)?),
        Target::Templates => return key.parse::<TemplateName>().map(drop).map_err(ValueError::Template),
        _ => {}
    }
    let known = match rule_and_key(of, key) {
        Some((rule, key)) => {
            let is_key = key.is_empty() || keys::find(keys::TRIGGER, key).is_some();
            is_key && rule.parse::<TriggerName>().is_ok()
        }
        None => names(of).contains(&key),
    };
    if known { Ok(()) } else { Err(unknown(of, key)) }
}

fn unknown(of: &Target, key: &str) -> ValueError {
    if is_inherited(of) && keys::find(keys::PORT, key).is_some() {
        return ValueError::Single(key.to_owned());
    }
    if let Some((rule, wanted)) = rule_and_key(of, key) {
        let known: Vec<&str> = keys::TRIGGER.iter().map(|key| key.name).collect();
        let instead = match rule.parse::<TriggerName>() {
            Err(error) => error.to_string(),
            Ok(_) if wanted.is_empty() => format!("it is a rule; its keys are {}", known.join(", ")),
            Ok(_) => format!("the keys of a rule are {}", known.join(", ")),
        };
        return ValueError::UnknownKey { of: of.to_string(), key: key.to_owned(), instead };
    }
    let names = names(of);
    let near = meant::synonym(key)
        .filter(|name| names.contains(name))
        .or_else(|| similar(key, names.iter().copied()));
    // `keepalive`, `log.level`
    let table = key.split('.').next().unwrap_or(key);
    let is_in_table = |name: &&&str| name.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
    let in_table: Vec<&str> = names.iter().filter(is_in_table).copied().collect();
    let instead = match near {
        Some(near) => format!("did you mean {near}?"),
        None if key == "triggers" && names.contains(&"baud") => {
            let keys = keys::TRIGGER.iter().map(|key| format!("triggers.RULE.{}", key.name));
            format!("the keys of a rule are {}", keys.collect::<Vec<_>>().join(", "))
        }
        None if !in_table.is_empty() => format!("the keys of {table} are {}", in_table.join(", ")),
        None => format!("its keys are {}", names.join(", ")),
    };
    ValueError::UnknownKey { of: of.to_string(), key: key.to_owned(), instead }
}

/// The known word nearest to a misspelled one.
pub fn similar<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let distance = |name: &&str| strsim::damerau_levenshtein(&word, &name.to_lowercase());
    known.into_iter().min_by_key(distance).filter(|name| distance(name) <= name.len().div_ceil(4))
}

/// The words that a key accepts, for completion; none if it accepts any text or a wide range of numbers. Found by trial.
pub fn fixed(of: &Target, key: &str) -> Vec<&'static str> {
    const WORDS: &str = "none raw text hex both one shared even odd mark space leave on off key yes no never \
         default compatible strict crlf crcrlf igncr lfcr lfcrlf ignlf bsdel delbs 1 2 5 6 7 8";
    if key == "baud" {
        return meant::RATES.to_vec();
    }
    let list = |word: &str| Value::Array(vec![word.into()]);
    if accepts(of, key, &"Zz".into()) || accepts(of, key, &list("Zz")) {
        return Vec::new();
    }
    if accepts(of, key, &true.into()) {
        return vec!["on", "off"];
    }
    let wide = accepts(of, key, &Value::Integer(99));
    let is_one = |word: &&str| match word.parse() {
        Ok(number) => !wide && accepts(of, key, &Value::Integer(number)),
        Err(_) => accepts(of, key, &(*word).into()) || accepts(of, key, &list(word)),
    };
    WORDS.split(' ').filter(is_one).collect()
}

fn accepts(of: &Target, key: &str, value: &Value) -> bool {
    fn put<T: Default>(table: &'static [Key<T>], key: &str, value: &Value) -> bool {
        keys::find(table, key).is_some_and(|known| known.put(&mut T::default(), value).is_ok())
    }
    match (rule_and_key(of, key), of) {
        (Some((_, key)), _) => put(keys::TRIGGER, key, value),
        (None, Target::Server) => put(keys::SERVER, key, value),
        (None, Target::Access) => put(keys::ACCESS, key, value),
        (None, Target::Defaults | Target::Template(_) | Target::Port(_)) => put(keys::PORT, key, value),
        (None, Target::Groups | Target::Templates) => false,
    }
}

/// Keys received over D-Bus.
pub fn keys(from: &bus::Keys) -> Keys {
    from.iter().filter_map(|(name, value)| Some((name.clone(), wire::from_bus(value)?))).collect()
}

/// A value as it is displayed, and as commands parse it.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// The typed port of these keys. A key of a later version is ignored.
pub fn port(keys: &Keys) -> Port {
    typed(keys::PORT, keys)
}

/// The typed `[server]` of these keys.
pub fn server(keys: &Keys) -> Server {
    typed(keys::SERVER, keys)
}

fn typed<T: Default>(table: &'static [Key<T>], keys: &Keys) -> T {
    let mut typed = T::default();
    for (name, value) in keys {
        if let Some(key) = keys::find(table, name) {
            // console-admin has checked the value; a value that only a later version accepts is not shown.
            let _ = key.put(&mut typed, value);
        }
    }
    typed
}

pub fn json(keys: &Keys) -> serde_json::Value {
    let json = |value: &Value| match value {
        Value::Boolean(flag) => (*flag).into(),
        Value::Integer(number) => (*number).into(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().into(),
        other => text(other).into(),
    };
    keys.iter().map(|(name, value)| (name.clone(), json(value))).collect::<serde_json::Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(of: &str, key: &str, words: &[&str]) -> Result<Value, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        parse(&of.parse().unwrap(), key, &words).map_err(|error| error.to_string())
    }

    #[test]
    fn words_are_parsed_as_the_type_of_the_key() {
        let list = |words: &[&str]| Value::Array(words.iter().map(|word| (*word).into()).collect());
        for (of, key, words, wanted) in [
            ("ttyUSB0", "baud", &["115200"][..], Value::Integer(115200)),
            ("ttyUSB0", "timeout", &["600"], Value::Integer(600)),
            ("ttyUSB0", "timeout", &["10m"], Value::Integer(600)),
            ("ttyUSB0", "timeout", &["1", "hour"], Value::Integer(3600)),
            ("ttyUSB0", "rtscts", &["0"], false.into()),
            ("ttyUSB0", "rtscts", &["1"], true.into()),
            ("ttyUSB0", "rtscts", &["true"], true.into()),
            ("ttyUSB0", "rtscts", &["on"], true.into()),
            ("ttyUSB0", "rtscts", &["OFF"], false.into()),
            ("ttyUSB0", "xonxoff", &["yes"], true.into()),
            ("ttyUSB0", "log.input", &["No"], false.into()),
            ("ttyUSB0", "enabled", &["disabled"], false.into()),
            ("ttyUSB0", "triggers.panic.start", &["on"], true.into()),
            ("ttyUSB0", "dtr", &["on"], "on".into()),
            ("ttyUSB0", "dtr", &["0"], "off".into()),
            ("ttyUSB0", "rts", &["yes"], "on".into()),
            ("ttyUSB0", "parity", &["none"], "N".into()),
            ("ttyUSB0", "parity", &["Even"], "E".into()),
            ("ttyUSB0", "ssh_port", &["off"], "none".into()),
            ("ttyUSB0", "timeout", &["never"], Value::Integer(0)),
            ("ttyUSB0", "log.type", &["off"], "none".into()),
            ("ttyUSB0", "log.type", &["TEXT"], "text".into()),
            ("ttyUSB0", "log.sync", &["off"], "never".into()),
            ("ttyUSB0", "escape", &["off"], "none".into()),
            ("ttyUSB0", "description", &["off"], "off".into()),
            ("ttyUSB0", "description", &["On"], "On".into()),
            ("access", "root", &["off"], "no".into()),
            ("access", "root", &["yes"], "yes".into()),
            ("ttyUSB0", "enabled", &["0"], false.into()),
            ("ttyUSB0", "parity", &["E"], "E".into()),
            ("ttyUSB0", "stopbits", &["1"], Value::Integer(1)),
            ("ttyUSB0", "ssh_port", &["0"], "none".into()),
            ("ttyUSB0", "ssh_port", &["8023"], Value::Integer(8023)),
            ("ttyUSB0", "timeout", &["0"], Value::Integer(0)),
            ("ttyUSB0", "log.type", &["raw"], "raw".into()),
            ("ttyUSB0", "log.sync", &["10s"], "10s".into()),
            ("ttyUSB0", "log.sync", &["\"10s\""], "10s".into()),
            ("ttyUSB0", "output_delay", &["20ms"], "20ms".into()),
            ("ttyUSB0", "output_line_delay", &["0"], "none".into()),
            ("ttyUSB0", "imap", &["lfcrlf", "delbs"], list(&["lfcrlf", "delbs"])),
            ("ttyUSB0", "imap", &["lfcrlf,delbs"], "lfcrlf,delbs".into()),
            ("ttyUSB0", "omap", &["none"], "none".into()),
            ("defaults", "omap", &["[]"], list(&[])),
            ("ttyUSB0", "description", &["core", "switch"], "core switch".into()),
            ("ttyUSB0", "description", &["4"], "4".into()),
            ("ttyUSB0", "description", &[""], "".into()),
            ("ttyUSB0", "groups", &["adm"], list(&["adm"])),
            ("ttyUSB0", "device", &["/dev/serial/by-id/x"], "/dev/serial/by-id/x".into()),
            ("ttyUSB0", "triggers.panic.match", &["Kernel", "panic"], "Kernel panic".into()),
            ("ttyUSB0", "triggers.panic.match", &["[0-9]+$"], "[0-9]+$".into()),
            ("ttyUSB0", "triggers.panic.start", &["true"], true.into()),
            ("defaults", "triggers.quiet.silence", &["5m"], "5m".into()),
            ("server", "ssh_port", &["0"], "none".into()),
            ("server", "listen", &["127.0.0.1", "::1"], list(&["127.0.0.1", "::1"])),
            ("server", "listen", &["[\"[::]\"]"], list(&["[::]"])),
            ("server", "monitor", &["/dev"], "/dev".into()),
            ("access", "groups", &["*"], list(&["*"])),
            ("access", "groups", &["[]"], list(&[])),
            ("defaults", "baud", &["9600"], Value::Integer(9600)),
            // The notation of other programs, where it has one meaning.
            ("ttyUSB0", "baud", &["115.2k"], Value::Integer(115200)),
            ("ttyUSB0", "baud", &["9600", "baud"], Value::Integer(9600)),
            ("ttyUSB0", "device", &["ttyS4"], "/dev/ttyS4".into()),
            ("ttyUSB0", "device", &["usb-X-if00-port0"], "/dev/serial/by-id/usb-X-if00-port0".into()),
            ("ttyUSB0", "listen", &["localhost"], list(&["127.0.0.1", "[::1]"])),
            ("ttyUSB0", "log.sync", &["5"], "5s".into()),
            ("ttyUSB0", "scrollback", &["512k"], "512K".into()),
            ("ttyUSB0", "escape", &["^e", "c"], "^Ec".into()),
            ("access", "root", &["prohibit-password"], "key".into()),
            ("ttyUSB0", "rtscts", &["y"], true.into()),
            ("ttyUSB0", "rtscts", &["F"], false.into()),
            ("ttyUSB0", "dtr", &["high"], "on".into()),
            ("ttyUSB0", "rts", &["Low"], "off".into()),
            ("ttyUSB0", "timeout", &["infinity"], Value::Integer(0)),
            ("ttyUSB0", "log.sync", &["infinity"], "never".into()),
        ] {
            assert_eq!(parsed(of, key, words), Ok(wanted), "{of} {key} {words:?}");
        }
    }

    #[test]
    fn an_invalid_value_is_reported_with_what_is_expected() {
        for (of, key, words, wanted) in [
            ("ttyUSB0", "baud", &["fast"][..], "baud fast: expected a number from 1 to 4294967295"),
            ("ttyUSB0", "rtscts", &["2"], "rtscts 2: expected on or off (or yes/no, true/false, 1/0)"),
            ("ttyUSB0", "bytesize", &["9"], "bytesize 9: expected 5, 6, 7 or 8"),
            (
                "ttyUSB0",
                "log.type",
                &["octal"],
                "log.type octal: expected \"none\", \"raw\", \"text\", \"hex\" or \"both\"",
            ),
            (
                "ttyUSB0",
                "output_delay",
                &["20"],
                "output_delay 20: expected a time from \"1ms\" to \"10s\", or \"none\"",
            ),
            (
                "ttyUSB0",
                "imap",
                &["INLCRNL"],
                "imap INLCRNL: expected a list of mappings (crlf, crcrlf or igncr; lfcr, lfcrlf or ignlf; bsdel; delbs), such as [\"lfcrlf\"]: INLCRNL is tio's name: use lfcrlf in imap",
            ),
            (
                "ttyUSB0",
                "baud",
                &["115200,8n1"],
                "baud 115200,8n1: expected a number from 1 to 4294967295: these are separate keys: baud = 115200, bytesize = 8, parity = \"N\", stopbits = 1",
            ),
            ("ttyUSB0", "baud", &["115k"], "baud 115k: expected a number from 1 to 4294967295"),
            (
                "ttyUSB0",
                "baud",
                &["9600", "parity", "E"],
                "baud 9600 parity E: expected a number from 1 to 4294967295: several keys are written as KEY=VALUE each",
            ),
            (
                "ttyUSB0",
                "source",
                &[""],
                "source \"\": expected \"unix:/PATH\", \"tcp:HOST:PORT\", \"telnet:HOST:PORT\", \"rfc2217:HOST:PORT\" or \"unit\": it begins with neither unix: nor tcp: nor telnet: nor rfc2217:, and is not \"unit\": `unset PORT source` restores the default",
            ),
            (
                "server",
                "listen",
                &["default"],
                "listen default: expected a list of 1 to 32 IP addresses such as [\"[::]\"] or [\"127.0.0.1\", \"[::1]\"]: `unset server listen` restores the default",
            ),
            (
                "ttyUSB0",
                "users",
                &["+carol"],
                "users +carol: a list is set as a whole: write all of its names",
            ),
            (
                "access",
                "groups",
                &["adm", "-lab"],
                "groups adm -lab: a list is set as a whole: write all of its names",
            ),
            (
                "ttyUSB0",
                "log",
                &["{ type = \"raw\", sync = \"1m\" }"],
                "log { type = \"raw\", sync = \"1m\" }: expected \"none\", \"raw\", \"text\", \"hex\" or \"both\": a table is set key by key: log.type=raw log.sync=1m",
            ),
            (
                "ttyUSB0",
                "parity",
                &["f"],
                "parity f: expected \"none\", \"even\", \"odd\", \"mark\" or \"space\", or the first letter",
            ),
            (
                "ttyUSB0",
                "keepalive",
                &["5m"],
                "ttyUSB0 has no key keepalive: the keys of keepalive are keepalive.interval, keepalive.text",
            ),
            (
                "defaults",
                "log.level",
                &["info"],
                "defaults has no key log.level: the keys of log are log.type, log.file, log.input, log.journal, log.record, log.sync",
            ),
            (
                "ttyUSB0",
                "triggers",
                &["x"],
                "ttyUSB0 has no key triggers: the keys of a rule are triggers.RULE.match, triggers.RULE.silence, triggers.RULE.cooldown, triggers.RULE.start",
            ),
            ("access", "root", &["true"], "root true: expected \"key\", \"yes\" or \"no\""),
            ("ttyUSB0", "buad", &["1"], "ttyUSB0 has no key buad: did you mean baud?"),
            ("ttyUSB0", "speed", &["9600"], "ttyUSB0 has no key speed: did you mean baud?"),
            ("ttyUSB0", "LogFile", &["x"], "ttyUSB0 has no key LogFile: did you mean log.file?"),
            ("server", "cliport", &["1"], "server has no key cliport: did you mean ssh_port?"),
            (
                "ttyUSB0",
                "triggers.x.match",
                &["a("],
                "triggers.x.match a(: expected a regular expression of at most 256 bytes: unclosed group (character 2)",
            ),
            (
                "ttyUSB0",
                "triggers.x",
                &["a"],
                "ttyUSB0 has no key triggers.x: it is a rule; its keys are match, silence, cooldown, start",
            ),
            (
                "ttyUSB0",
                "triggers.x.mach",
                &["a"],
                "ttyUSB0 has no key triggers.x.mach: the keys of a rule are match, silence, cooldown, start",
            ),
            (
                "server",
                "baud",
                &["1"],
                "server has no key baud: its keys are ssh_port, listen, monitor, ssh_algorithms, banner",
            ),
            ("defaults", "ssh_port", &["8023"], "ssh_port applies to a single port: set it for a port"),
        ] {
            assert_eq!(parsed(of, key, words), Err(wanted.to_owned()));
        }
    }
}
