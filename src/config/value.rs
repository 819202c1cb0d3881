//! Parsers of single values, from the configuration file, the bus or a command line, and their counterparts.
//! A parser only rejects a value; the table in `keys` holds the text that describes valid ones.

use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::address::{Address, AddressError};
use super::endpoint::{Endpoint, EndpointError};
use super::{
    EscapePrefix, Groups, Initial, KeysCommand, KeysCommandUser, KeysFile, LogType, Pattern, RootLogin,
    Writers,
};
use crate::port::{Breaks, Mapping, PortPattern, Sequence, SequenceError, Source, SourceError};

/// A value that has not been checked yet.
pub type Value = toml::Value;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rejected {
    /// The value is not what the key expects.
    Value,
    Element(usize),
    /// The text is appended to what the key expects.
    Because(String),
}

pub(super) type Parsed<T> = Result<T, Rejected>;

/// Unit of the ring size: a multiple of every page size that Linux has (4, 16 and 64 KiB).
const SCROLLBACK_UNIT: usize = 64 * 1024;
const MAX_SCROLLBACK: usize = 16 * 1024 * 1024;
/// One year in seconds: sums of times cannot overflow.
const MAX_TIMEOUT: u64 = 365 * 24 * 3600;
const SYNC_RANGE: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// From 1 s, shorter is an ordinary pause in output, up to one week.
const SILENCE_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
/// With a shorter cooldown, a device that floods would start its hook unit all the time.
const COOLDOWN_RANGE: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(24 * 3600);
const KEEPALIVE_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
/// Elements of a list of addresses or groups.
const MAX_LIST: usize = 32;
/// Members of a group of ports: enough to list every port.
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

fn because(error: impl ToString) -> Rejected {
    Rejected::Because(error.to_string())
}

/// A value, or this word for its absence.
pub(super) fn show_or(word: &str, value: Option<Value>) -> Value {
    value.unwrap_or_else(|| word.into())
}

/// A list, each element by its Display.
pub(super) fn show_list<T: ToString>(elements: impl IntoIterator<Item = T>) -> Value {
    Value::Array(elements.into_iter().map(|element| element.to_string().into()).collect())
}

/// A type with its own conversion from numbers.
pub(super) fn numeric<T: TryFrom<u64>>(value: &Value) -> Parsed<T> {
    accept(number(value)?.try_into().ok())
}

/// A type with its own parser.
pub(super) fn word<T: std::str::FromStr>(value: &Value) -> Parsed<T> {
    accept(text(value)?.parse().ok())
}

/// A type whose values are words.
pub(super) trait Words: Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

impl Words for Writers {
    const WORDS: &'static [(&'static str, Self)] = &[("one", Self::One), ("shared", Self::Shared)];
}

impl Words for RootLogin {
    const WORDS: &'static [(&'static str, Self)] =
        &[("key", Self::Key), ("yes", Self::Yes), ("no", Self::No)];
}

impl Words for LogType {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("none", Self::None),
        ("raw", Self::Raw),
        ("text", Self::Text),
        ("hex", Self::Hex),
        ("both", Self::Both),
    ];
}

pub(super) fn one_of<T: Words>(value: &Value) -> Parsed<T> {
    let word = text(value)?;
    accept(T::WORDS.iter().find(|(known, _)| *known == word).map(|(_, value)| *value))
}

pub(super) fn show_word<T: Words>(value: T) -> Value {
    T::WORDS.iter().find(|(_, other)| *other == value).map_or("", |(word, _)| *word).into()
}

pub(super) fn source(value: &Value) -> Parsed<Source> {
    text(value)?.parse().map_err(|error: SourceError| because(error))
}

pub(super) fn sequence(value: &Value) -> Parsed<Sequence> {
    text(value)?.parse().map_err(|error: SequenceError| because(error))
}

pub(super) fn breaks(value: &Value) -> Parsed<Breaks> {
    let mut breaks = Breaks::default();
    for text in elements(value, 0, |text| Some(text.to_owned()))? {
        breaks.add(&text).map_err(because)?;
    }
    Ok(breaks)
}

pub(super) fn initial(value: &Value) -> Parsed<Initial> {
    Initial::read(accept(value.as_array())?).map_err(Rejected::Because)
}

pub(super) fn show_initial(initial: &Initial) -> Value {
    Value::Array(initial.steps().iter().map(|step| step.show().into()).collect())
}

/// conserver's `idletimeout`; shorter than a second it would be a flood.
pub(super) fn keepalive(value: &Value) -> Parsed<Option<Duration>> {
    (text(value)? != "never").then(|| time(value, &KEEPALIVE_RANGE)).transpose()
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

pub(super) fn endpoint(value: &Value) -> Parsed<Option<Endpoint>> {
    let endpoint = Some(text(value)?).filter(|text| *text != "none").map(str::parse);
    endpoint.transpose().map_err(|error| match error {
        EndpointError::Syntax(_) => Rejected::Value,
        error => because(error),
    })
}

/// Drops addresses that another address of the list covers: `["0.0.0.0", "[::]"]` becomes `["[::]"]`.
pub(super) fn addresses(value: &Value) -> Parsed<Vec<Address>> {
    let mut kept: Vec<Address> = Vec::new();
    for (index, address) in elements(value, 1, |word| Some(word.parse::<Address>()))?.into_iter().enumerate()
    {
        let address = address.map_err(|error| match error {
            AddressError::Syntax(_) => Rejected::Element(index),
            error => because(error),
        })?;
        if !kept.iter().any(|other| other.covers(&address)) {
            kept.retain(|other| !address.covers(other));
            kept.push(address);
        }
    }
    Ok(kept)
}

pub(super) fn groups(value: &Value) -> Parsed<Groups> {
    let names = elements(value, 0, |name| is_group(name).then(|| name.to_owned()))?;
    Ok(if names.iter().any(|name| name == "*") { Groups::Everyone } else { Groups::Members(names) })
}

/// A group name is only compared with names from NSS, and directories do return "domain users". Rejected are
/// names that no group has and that suggest a mistake: a number, a pattern, sudo's `%name`.
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
        Groups::Everyone => show_list(["*"]),
        Groups::Members(names) => show_list(names),
    }
}

/// User names are compared with those from NSS.
pub(super) fn users(value: &Value) -> Parsed<Vec<String>> {
    let plain = |name: &str| {
        (1..=256).contains(&name.len())
            && !name.starts_with(['-', '+', '%', '@'])
            && !name.contains(|c: char| c.is_control() || ":,/*".contains(c))
            && name.trim() == name
    };
    elements(value, 0, |name| plain(name).then(|| name.to_owned()))
}

fn elements<T>(value: &Value, at_least: usize, parse: impl Fn(&str) -> Option<T>) -> Parsed<Vec<T>> {
    let list = accept(value.as_array().filter(|list| (at_least..=MAX_LIST).contains(&list.len())))?;
    let parsed =
        |(index, element): (usize, &Value)| element.as_str().and_then(&parse).ok_or(Rejected::Element(index));
    list.iter().enumerate().map(parsed).collect()
}

/// Port patterns, as on the command line.
pub(super) fn patterns(value: &Value) -> Parsed<Vec<PortPattern>> {
    let list = accept(value.as_array().filter(|list| list.len() <= MAX_PATTERNS))?;
    let pattern = |(index, element): (usize, &Value)| {
        let word = element.as_str().ok_or(Rejected::Element(index))?;
        word.parse::<PortPattern>().map_err(because)
    };
    list.iter().enumerate().map(pattern).collect()
}

/// An absolute path without `..` and control characters.
pub(super) fn path(value: &Value) -> Parsed<PathBuf> {
    let word = text(value)?;
    let path = Path::new(word);
    let right = path.is_absolute()
        && word.len() <= 1024
        && path.file_name().is_some()
        && !word.contains(char::is_control)
        && word.trim() == word
        && !path.components().any(|part| part == Component::ParentDir);
    accept(right.then(|| path.to_owned()))
}

/// Paths are read as UTF-8 only.
pub(super) fn show_path(path: &Path) -> Value {
    path.to_string_lossy().into_owned().into()
}

/// Accepts what sshd accepts for `Banner` (sshd_config(5)).
pub(super) fn banner(value: &Value) -> Parsed<Option<PathBuf>> {
    (text(value)? != "none").then(|| path(value)).transpose()
}

/// An absolute path, or sshd's word `none`.
pub(super) fn optional_path(value: &Value) -> Parsed<Option<PathBuf>> {
    (!text(value)?.eq_ignore_ascii_case("none")).then(|| path(value)).transpose()
}

/// A number of seconds, or a time as of the other keys.
pub(super) fn timeout(value: &Value) -> Parsed<Option<Duration>> {
    const RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(MAX_TIMEOUT);
    match value {
        Value::String(word) if word == "none" || word == "never" => Ok(None),
        // D-Bus and the canonical form have whole seconds.
        Value::String(_) => match time(value, &RANGE)? {
            time if time.subsec_nanos() == 0 => Ok(Some(time)),
            _ => Err(Rejected::Value),
        },
        _ => match number(value)? {
            0 => Ok(None),
            seconds @ 1..=MAX_TIMEOUT => Ok(Some(Duration::from_secs(seconds))),
            _ => Err(Rejected::Value),
        },
    }
}

pub(super) fn show_timeout(timeout: Option<Duration>) -> Value {
    Value::Integer(timeout.map_or(0, |timeout| timeout.as_secs().min(MAX_TIMEOUT) as i64))
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
    (text(value)? != "never").then(|| time(value, &SYNC_RANGE)).transpose()
}

pub(super) fn silence(value: &Value) -> Parsed<Duration> {
    time(value, &SILENCE_RANGE)
}

pub(super) fn cooldown(value: &Value) -> Parsed<Duration> {
    time(value, &COOLDOWN_RANGE)
}

/// A time as in systemd.time(7), without fractions: `5s`, `1min 30s`. A unit is required.
pub(super) fn time(value: &Value, range: &RangeInclusive<Duration>) -> Parsed<Duration> {
    let mut rest = text(value)?.trim();
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let (count, more) = quantity(rest)?;
        let more = more.trim_start();
        let end = more.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(more.len());
        let (unit, more) = more.split_at(end);
        let milliseconds = match unit {
            "ms" | "msec" => 1,
            "s" | "sec" | "second" | "seconds" => 1000,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hr" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            _ => return Err(Rejected::Value),
        };
        let part = accept(count.checked_mul(milliseconds).map(Duration::from_millis))?;
        sum = accept(sum.checked_add(part))?;
        rest = more.trim_start();
    }
    accept(Some(sum).filter(|time| range.contains(time)))
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

/// Rounded up to [`SCROLLBACK_UNIT`], so that the ring can be mapped with any page size.
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

/// A list, or as in sshd_config(5) one text of several words, or "none".
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

pub(super) fn keys_command(value: &Value) -> Parsed<Option<KeysCommand>> {
    let command = Some(text(value)?).filter(|text| !text.eq_ignore_ascii_case("none"));
    command.map(KeysCommand::parse).transpose().map_err(because)
}

pub(super) fn keys_command_user(value: &Value) -> Parsed<Option<KeysCommandUser>> {
    KeysCommandUser::parse(text(value)?).map(Some).map_err(because)
}

pub(super) fn principals(value: &Value) -> Parsed<Option<KeysFile>> {
    KeysFile::parse_as("principals", text(value)?).map_err(because)
}

pub(super) fn escape(value: &Value) -> Parsed<Option<EscapePrefix>> {
    (text(value)? != "none").then(|| word(value)).transpose()
}

/// A list of words, or picocom's notation, `"lfcrlf,delbs"`.
pub(super) fn mapping(value: &Value) -> Parsed<Mapping> {
    let mapping = match value.as_str() {
        Some(list) => list.parse::<Mapping>(),
        None => {
            let words = elements(value, 0, |word| Some(word.to_owned()))?;
            Mapping::of(words.iter().map(String::as_str))
        }
    };
    mapping.map_err(because)
}
