//! config.ini of ConsoleServer 1.0: a section a port, called by its device.

use std::path::Path;

use super::plan::{is_by_name, shown};
use super::{Draft, ImportError, Place, Plan, Source};
use crate::config::Value;

/// The section of what concerns all ports.
const GLOBAL: &str = "GLOBAL";

/// Where a key belongs.
enum Section {
    /// Before the first one, or in one that cannot be.
    None,
    Global,
    Port(Draft),
}

/// Reads it.
pub fn plan(source: &Source) -> Result<Plan, ImportError> {
    let mut plan = Plan::default();
    let mut section = Section::None;
    for (index, line) in source.text.lines().enumerate() {
        let place = Place { file: source.name.clone(), line: index + 1 };
        let wrong =
            |why: &str| ImportError::Syntax(place.clone(), format!("{:?}: {why}", shown(line.trim())));
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with("[[") {
            plan.leave(&place, shown(line), "a section in a section is no port");
            keep(&mut plan, std::mem::replace(&mut section, Section::None));
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.split_once(']').ok_or_else(|| wrong("expected [NAME]"))?.0.trim();
            keep(&mut plan, std::mem::replace(&mut section, Section::None));
            section = begin(&mut plan, unquoted(name), &place)?;
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| wrong("expected KEY = VALUE, or [NAME]"))?;
        let (key, value) = (key.trim(), unquoted(value_alone(value.trim())));
        match &mut section {
            Section::None => plan.leave(&place, shown(line), "it is in no section that could be a port"),
            Section::Global => global(&mut plan, key, value, &place),
            Section::Port(draft) => port(&mut plan, draft, key, value, &place),
        }
    }
    keep(&mut plan, section);
    Ok(plan)
}

fn keep(plan: &mut Plan, section: Section) {
    if let Section::Port(draft) = section {
        plan.ports.push(draft);
    }
}

fn begin(plan: &mut Plan, name: &str, place: &Place) -> Result<Section, ImportError> {
    if name == GLOBAL {
        return Ok(Section::Global);
    }
    let path = Path::new(name);
    let last = path.file_name().and_then(|last| last.to_str()).unwrap_or(name);
    let Some(mut draft) = plan.port(last, place)? else { return Ok(Section::None) };
    if path.is_absolute() && !is_by_name(path, &draft.name) {
        plan.set(&mut draft, "device", name.into(), name, place);
    }
    Ok(Section::Port(draft))
}

fn global(plan: &mut Plan, key: &str, value: &str, place: &Place) {
    let said = format!("{key} = {value}");
    match key {
        "sshport" => plan.set_server("ssh_port", tcp_port(value), &said, place),
        "monitorpath" => plan.set_server("monitor", value.into(), &said, place),
        "portbase" => plan.leave(place, shown(&said), "each port says its own TCP port here"),
        "opendelay" => plan.leave(place, shown(&said), "a device is opened when udev is done with it"),
        _ => plan.leave(place, shown(&said), "there is no such thing here"),
    }
}

fn port(plan: &mut Plan, draft: &mut Draft, key: &str, value: &str, place: &Place) {
    let said = format!("{key} = {value}");
    match key {
        "enabled" => plan.set(draft, "enabled", flag(value), &said, place),
        "baudrate" => plan.set(draft, "baud", number(value), &said, place),
        "bytesize" => plan.set(draft, "bytesize", number(value), &said, place),
        "stopbits" => plan.set(draft, "stopbits", number(value), &said, place),
        "parity" => plan.set(draft, "parity", value.into(), &said, place),
        "xonxoff" => plan.set(draft, "xonxoff", flag(value), &said, place),
        "rtscts" => plan.set(draft, "rtscts", flag(value), &said, place),
        "sshport" => plan.set(draft, "ssh_port", tcp_port(value), &said, place),
        "logtype" => {
            let kind = match value {
                "0" => "none",
                "1" => "text",
                "2" => "hex",
                "3" => "both",
                other => other,
            };
            plan.set(draft, "log.type", kind.into(), &said, place);
        }
        "logfile" => plan.leave(
            place,
            shown(&said),
            format_args!("the log is /var/log/consoleserver/{}/console.log", draft.name),
        ),
        "timeout" if value.parse() == Ok(0.0) => {}
        "timeout" => plan.leave(
            place,
            shown(&said),
            "there it is how long one read may take; `timeout` here ends idle sessions",
        ),
        _ => plan.leave(place, shown(&said), "there is no such thing here"),
    }
}

/// Without a comment behind it.
fn value_alone(value: &str) -> &str {
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => match value[1..].find(quote) {
            Some(end) => &value[..end + 2],
            None => value,
        },
        _ => value.split_once('#').map_or(value, |(value, _)| value).trim_end(),
    }
}

fn unquoted(word: &str) -> &str {
    let inner = |quote| word.strip_prefix(quote).and_then(|word| word.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(word)
}

/// A number, or the word, which the key then refuses.
fn number(word: &str) -> Value {
    word.parse().map_or_else(|_| word.into(), Value::Integer)
}

fn tcp_port(word: &str) -> Value {
    if word == "0" { "none".into() } else { number(word) }
}

/// As Python's ConfigObj takes them.
fn flag(word: &str) -> Value {
    match word.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => true.into(),
        "0" | "false" | "no" | "off" => false.into(),
        _ => word.into(),
    }
}
