//! Single values: from what a file, the bus or a command line says to a type, and back. A parser says only that a
//! value is refused; what would be right stands once, in the table of `keys`.

use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::address::{Address, AddressError};
use super::{
    EscapePrefix, Groups, KeySourceError, KeysCommand, KeysCommandUser, KeysFile, LogType, Pattern,
    RootLogin, Writers,
};
use crate::port::{Mapping, PortPattern};

/// A value before it has a meaning: a TOML value.
pub type Value = toml::Value;

/// Why a parser takes no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rejected {
    /// Not what the key expects.
    Value,
    /// This element of the list is not.
    Element(usize),
    /// What is expected, but for this.
    Because(String),
}

pub(super) type Parsed<T> = Result<T, Rejected>;

/// The granule of the ring: a multiple of every page size that Linux has (4, 16 and 64 KiB).
const SCROLLBACK_UNIT: usize = 64 * 1024;
const MAX_SCROLLBACK: usize = 16 * 1024 * 1024;
/// Seconds in a year: nobody waits longer, and no sum of times overflows.
const MAX_TIMEOUT: u64 = 365 * 24 * 3600;
const SYNC_RANGE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// A silence that is not just a pause, up to a week.
const SILENCE_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
/// Shorter, and a device that floods starts its unit all the time.
const COOLDOWN_RANGE: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(24 * 3600);
/// Elements of a list of addresses or groups.
const MAX_LIST: usize = 32;
/// Members of a group of ports: each port by its name.
const MAX_PATTERNS: usize = 1024;

fn accept<T>(parsed: Option<T>) -> Parsed<T> {
    parsed.ok_or(Rejected::Value)
}

pub(super) fn text(value: &Value) -> Parsed<&str> {
    accept(value.as_str())
}

pub(super) fn flag(value: &Value) -> Parsed<bool> {
    accept(value.as_bool())
}

pub(super) fn number(value: &Value) -> Parsed<u64> {
    accept(value.as_integer().and_then(|number| number.try_into().ok()))
}

/// A type that knows itself which numbers it takes.
pub(super) fn numeric<T: TryFrom<u64>>(value: &Value) -> Parsed<T> {
    accept(number(value)?.try_into().ok())
}

/// A type that knows itself which words it takes.
pub(super) fn word<T: std::str::FromStr>(value: &Value) -> Parsed<T> {
    accept(text(value)?.parse().ok())
}

pub(super) fn tcp_port(value: &Value) -> Parsed<Option<u16>> {
    match value.as_str() {
        Some("none") => Ok(None),
        Some(_) => Err(Rejected::Value),
        None => match numeric(value)? {
            0 => Err(Rejected::Value),
            port => Ok(Some(port)),
        },
    }
}

pub(super) fn show_tcp_port(port: Option<u16>) -> Value {
    port.map_or("none".into(), |port| Value::Integer(port.into()))
}

/// Addresses that another one of the list covers are left out: `["0.0.0.0", "[::]"]` is `["[::]"]`.
pub(super) fn addresses(value: &Value) -> Parsed<Vec<Address>> {
    let mut kept: Vec<Address> = Vec::new();
    for (index, address) in elements(value, 1, |word| Some(word.parse::<Address>()))?.into_iter().enumerate()
    {
        let address = address.map_err(|error| match error {
            AddressError::Syntax(_) => Rejected::Element(index),
            error => Rejected::Because(error.to_string()),
        })?;
        if !kept.iter().any(|other| other.covers(&address)) {
            kept.retain(|other| !address.covers(other));
            kept.push(address);
        }
    }
    Ok(kept)
}

pub(super) fn show_addresses(addresses: &[Address]) -> Value {
    Value::Array(addresses.iter().map(|address| address.to_string().into()).collect())
}

pub(super) fn groups(value: &Value) -> Parsed<Groups> {
    let names = elements(value, 0, |name| is_group(name).then(|| name.to_owned()))?;
    Ok(if names.iter().any(|name| name == "*") { Groups::Everyone } else { Groups::Members(names) })
}

/// A group is only ever compared with names that NSS gives, and directories do give "domain users"; refused is what
/// no group is called and somebody means differently: a number, a pattern, sudo's `%name`.
fn is_group(name: &str) -> bool {
    let plain = |c: char| !c.is_control() && !":,/*".contains(c);
    name == "*"
        || (1..=256).contains(&name.len())
            && name.chars().all(plain)
            && name.trim() == name
            && !name.starts_with(['-', '%', '@', '!'])
            && !name.bytes().all(|b| b.is_ascii_digit())
}

pub(super) fn show_groups(groups: &Groups) -> Value {
    match groups {
        Groups::Everyone => Value::Array(vec!["*".into()]),
        Groups::Members(names) => Value::Array(names.iter().map(|name| name.as_str().into()).collect()),
    }
}

/// Names are compared with those that the account database gives.
pub(super) fn users(value: &Value) -> Parsed<Vec<String>> {
    let plain = |name: &str| {
        (1..=256).contains(&name.len())
            && !name.starts_with(['-', '+', '%', '@'])
            && !name.contains(|c: char| c.is_control() || ":,/*".contains(c))
            && name.trim() == name
    };
    elements(value, 0, |name| plain(name).then(|| name.to_owned()))
}

pub(super) fn show_users(users: &[String]) -> Value {
    Value::Array(users.iter().map(|name| name.as_str().into()).collect())
}

pub(super) fn writers(value: &Value) -> Parsed<Writers> {
    match text(value)? {
        "one" => Ok(Writers::One),
        "shared" => Ok(Writers::Shared),
        _ => Err(Rejected::Value),
    }
}

pub(super) fn show_writers(writers: Writers) -> Value {
    match writers {
        Writers::One => "one",
        Writers::Shared => "shared",
    }
    .into()
}

fn elements<T>(value: &Value, at_least: usize, parse: impl Fn(&str) -> Option<T>) -> Parsed<Vec<T>> {
    let list = accept(value.as_array().filter(|list| (at_least..=MAX_LIST).contains(&list.len())))?;
    let parsed =
        |(index, element): (usize, &Value)| element.as_str().and_then(&parse).ok_or(Rejected::Element(index));
    list.iter().enumerate().map(parsed).collect()
}

/// Ports as commands take them.
pub(super) fn patterns(value: &Value) -> Parsed<Vec<PortPattern>> {
    let list = accept(value.as_array().filter(|list| list.len() <= MAX_PATTERNS))?;
    let pattern = |(index, element): (usize, &Value)| {
        let word = element.as_str().ok_or(Rejected::Element(index))?;
        word.parse::<PortPattern>().map_err(|error| Rejected::Because(error.to_string()))
    };
    list.iter().enumerate().map(pattern).collect()
}

pub(super) fn show_patterns(patterns: &[PortPattern]) -> Value {
    Value::Array(patterns.iter().map(|pattern| pattern.to_string().into()).collect())
}

/// Absolute, and nothing in it that walks upwards or breaks a line.
pub(super) fn path(value: &Value) -> Parsed<PathBuf> {
    let word = text(value)?;
    let path = Path::new(word);
    let right = path.is_absolute()
        && word.len() <= 1024
        && path.file_name().is_some()
        && !word.contains(char::is_control)
        && !path.components().any(|part| part == Component::ParentDir);
    accept(right.then(|| path.to_owned()))
}

/// The reader only takes UTF-8 paths.
pub(super) fn show_path(path: &Path) -> Value {
    path.to_string_lossy().into_owned().into()
}

/// As the argument of sshd's `Banner` (sshd_config(5)).
pub(super) fn banner(value: &Value) -> Parsed<Option<PathBuf>> {
    match text(value)? {
        "none" => Ok(None),
        _ => path(value).map(Some),
    }
}

pub(super) fn show_banner(path: Option<&Path>) -> Value {
    path.map_or("none".into(), show_path)
}

pub(super) fn timeout(value: &Value) -> Parsed<Option<Duration>> {
    match number(value)? {
        0 => Ok(None),
        seconds @ 1..=MAX_TIMEOUT => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(Rejected::Value),
    }
}

pub(super) fn show_timeout(timeout: Option<Duration>) -> Value {
    Value::Integer(timeout.map_or(0, |timeout| timeout.as_secs().min(MAX_TIMEOUT) as i64))
}

pub(super) fn log_type(value: &Value) -> Parsed<LogType> {
    match text(value)? {
        "none" => Ok(LogType::None),
        "raw" => Ok(LogType::Raw),
        "text" => Ok(LogType::Text),
        "hex" => Ok(LogType::Hex),
        "both" => Ok(LogType::Both),
        _ => Err(Rejected::Value),
    }
}

pub(super) fn show_log_type(kind: LogType) -> Value {
    match kind {
        LogType::None => "none",
        LogType::Raw => "raw",
        LogType::Text => "text",
        LogType::Hex => "hex",
        LogType::Both => "both",
    }
    .into()
}

pub(super) fn file_name(value: &Value) -> Parsed<String> {
    let name = text(value)?;
    let right = matches!(name.len(), 1..=64)
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !name.starts_with('.');
    accept(right.then(|| name.to_owned()))
}

pub(super) fn description(value: &Value) -> Parsed<String> {
    let text = text(value)?;
    accept((text.chars().count() <= 80 && !text.contains(char::is_control)).then(|| text.to_owned()))
}

pub(super) fn sync(value: &Value) -> Parsed<Option<Duration>> {
    if text(value)? == "never" {
        return Ok(None);
    }
    time(value, &SYNC_RANGE).map(Some)
}

pub(super) fn show_sync(sync: Option<Duration>) -> Value {
    sync.map_or("never".into(), show_time)
}

pub(super) fn silence(value: &Value) -> Parsed<Duration> {
    time(value, &SILENCE_RANGE)
}

pub(super) fn rest(value: &Value) -> Parsed<Duration> {
    time(value, &COOLDOWN_RANGE)
}

fn time(value: &Value, range: &RangeInclusive<Duration>) -> Parsed<Duration> {
    let (count, unit) = quantity(text(value)?)?;
    let milliseconds = match unit {
        "ms" => Some(count),
        "s" => count.checked_mul(1000),
        "m" => count.checked_mul(60_000),
        "h" => count.checked_mul(3_600_000),
        _ => None,
    };
    accept(milliseconds.map(Duration::from_millis).filter(|time| range.contains(time)))
}

pub(super) fn show_time(time: Duration) -> Value {
    match time.as_millis() {
        time if time % 60_000 == 0 => format!("{}m", time / 60_000).into(),
        time if time % 1000 == 0 => format!("{}s", time / 1000).into(),
        time => format!("{time}ms").into(),
    }
}

pub(super) fn pattern(value: &Value) -> Parsed<Pattern> {
    Pattern::new(text(value)?).map_err(Rejected::Because)
}

/// Rounded up to [`SCROLLBACK_UNIT`], so that the ring can be mapped on every kernel.
pub(super) fn scrollback(value: &Value) -> Parsed<usize> {
    let (count, unit) = quantity(text(value)?)?;
    let bytes = match unit {
        "K" => count.checked_mul(1024),
        "M" => count.checked_mul(1024 * 1024),
        _ => None,
    };
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    accept(bytes.filter(|bytes| (SCROLLBACK_UNIT..=MAX_SCROLLBACK).contains(bytes)))
        .map(|bytes| bytes.next_multiple_of(SCROLLBACK_UNIT))
}

pub(super) fn show_scrollback(bytes: usize) -> Value {
    match bytes / 1024 {
        kib if kib % 1024 == 0 => format!("{}M", kib / 1024),
        kib => format!("{kib}K"),
    }
    .into()
}

/// `500ms` → 500 and `ms`.
fn quantity(word: &str) -> Parsed<(u64, &str)> {
    let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (count, unit) = word.split_at(end);
    accept(count.parse().ok().map(|count| (count, unit)))
}

pub(super) fn replay(value: &Value) -> Parsed<usize> {
    accept(number(value)?.try_into().ok().filter(|lines| *lines <= 10_000))
}

pub(super) fn root_login(value: &Value) -> Parsed<RootLogin> {
    match text(value)? {
        "key" => Ok(RootLogin::Key),
        "yes" => Ok(RootLogin::Yes),
        "no" => Ok(RootLogin::No),
        _ => Err(Rejected::Value),
    }
}

pub(super) fn show_root_login(root: RootLogin) -> Value {
    match root {
        RootLogin::Key => "key",
        RootLogin::Yes => "yes",
        RootLogin::No => "no",
    }
    .into()
}

/// A list; or as in sshd_config (5), words in one text, or the word "none".
pub(super) fn keys_files(value: &Value) -> Parsed<Vec<KeysFile>> {
    let words: Vec<&str> = match value {
        Value::String(text) if text.split_whitespace().next().is_some() => text.split_whitespace().collect(),
        Value::Array(list) => {
            let words =
                list.iter().enumerate().map(|(index, word)| word.as_str().ok_or(Rejected::Element(index)));
            words.collect::<Parsed<_>>()?
        }
        _ => return Err(Rejected::Value),
    };
    if words.len() > MAX_LIST {
        return Err(Rejected::Value);
    }
    let files = words.into_iter().map(|word| KeysFile::parse(word).map_err(because));
    files.filter_map(Parsed::transpose).collect()
}

pub(super) fn show_keys_files(files: &[KeysFile]) -> Value {
    Value::Array(files.iter().map(|file| file.as_str().into()).collect())
}

pub(super) fn keys_command(value: &Value) -> Parsed<Option<KeysCommand>> {
    match text(value)? {
        none if none.eq_ignore_ascii_case("none") => Ok(None),
        command => KeysCommand::parse(command).map(Some).map_err(because),
    }
}

pub(super) fn keys_command_user(value: &Value) -> Parsed<Option<KeysCommandUser>> {
    KeysCommandUser::parse(text(value)?).map(Some).map_err(because)
}

fn because(error: KeySourceError) -> Rejected {
    Rejected::Because(error.to_string())
}

pub(super) fn escape(value: &Value) -> Parsed<Option<EscapePrefix>> {
    match text(value)? {
        "none" => Ok(None),
        _ => word(value).map(Some),
    }
}

/// A list of words, or picocom's own way to write one, `"lfcrlf,delbs"`.
pub(super) fn mapping(value: &Value) -> Parsed<Mapping> {
    let mapping = match value.as_str() {
        Some(list) => list.parse::<Mapping>(),
        None => {
            let words = elements(value, 0, |word| Some(word.to_owned()))?;
            Mapping::of(words.iter().map(String::as_str))
        }
    };
    mapping.map_err(|error| Rejected::Because(error.to_string()))
}

pub(super) fn show_mapping(mapping: &Mapping) -> Value {
    Value::Array(mapping.words().map(Value::from).collect())
}

pub(super) fn show_escape(escape: Option<EscapePrefix>) -> Value {
    escape.map_or("none".into(), |prefix| prefix.to_string().into())
}
