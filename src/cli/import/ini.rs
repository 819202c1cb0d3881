//! config.ini of ConsoleServer 1.0: a section a port, called by its device. Keys of `[DEFAULT]` count for
//! each port that does not say them. A line with a mistake is reported, and the rest goes on.

use std::path::Path;

use super::plan::shown;
use super::words::{flag, number};
use super::{Draft, ImportError, Plan, Source, SourceLine};
use crate::config::Value;

/// A line `KEY = VALUE`.
struct Entry {
    key: String,
    value: String,
    place: SourceLine,
}

/// What stands between two headings.
struct Section {
    name: String,
    place: SourceLine,
    entries: Vec<Entry>,
}

/// Reads it.
pub fn plan(source: &Source) -> Result<Plan, ImportError> {
    let mut plan = Plan::default();
    let (mut defaults, mut ports) = (Vec::new(), Vec::new());
    for section in sections(&mut plan, source) {
        match section.name.to_ascii_uppercase().as_str() {
            "GLOBAL" => {
                for Entry { key, value, place } in section.entries {
                    global(&mut plan, &key, &value, &place);
                }
            }
            "DEFAULT" | "DEFAULTS" => defaults.extend(section.entries),
            _ => ports.push(section),
        }
    }
    for section in ports {
        let Some(mut draft) = begin(&mut plan, &section)? else { continue };
        let says = |key: &str| section.entries.iter().any(|entry| meant(&entry.key) == meant(key));
        let inherited = defaults.iter().filter(|entry| !says(&entry.key));
        for Entry { key, value, place } in inherited.chain(&section.entries) {
            port(&mut plan, &mut draft, key, value, place);
        }
        plan.ports.push(draft);
    }
    Ok(plan)
}

fn sections(plan: &mut Plan, source: &Source) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    // Behind a heading that is none, nothing belongs to the section before it.
    let mut lost = true;
    for (index, line) in source.text.lines().enumerate() {
        let place = SourceLine { file: source.name.clone(), line: index + 1 };
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            lost = true;
            match rest.split_once(']') {
                _ if rest.starts_with('[') => {
                    plan.leave(&place, shown(line), "a section in a section is no port")
                }
                Some((name, _)) => {
                    lost = false;
                    let name = unquoted(name.trim()).to_owned();
                    sections.push(Section { name, place, entries: Vec::new() });
                }
                None => plan.leave(&place, shown(line), "left out: expected [NAME]"),
            }
            continue;
        }
        // ConfigParser takes a colon too.
        let split = line.split_once('=').or_else(|| line.split_once(':'));
        match (split, sections.last_mut().filter(|_| !lost)) {
            (Some((key, value)), Some(section)) => section.entries.push(Entry {
                key: key.trim().to_ascii_lowercase(),
                value: unquoted(value_alone(value.trim())).to_owned(),
                place,
            }),
            (None, Some(_)) => plan.leave(&place, shown(line), "expected KEY = VALUE, or [NAME]"),
            (_, None) => plan.leave(&place, shown(line), "it is in no section that could be a port"),
        }
    }
    sections
}

/// The key of a word that is used for it too.
fn meant(key: &str) -> &str {
    match key {
        "baud" | "speed" => "baudrate",
        "databits" | "bits" => "bytesize",
        "ssh_port" | "port" => "sshport",
        "enable" => "enabled",
        key => key,
    }
}

fn begin(plan: &mut Plan, section: &Section) -> Result<Option<Draft>, ImportError> {
    let path = Path::new(&section.name);
    let last = path.file_name().and_then(|last| last.to_str()).unwrap_or(&section.name);
    let device = match path.is_absolute() {
        true => section.name.clone(),
        false => format!("/dev/{}", section.name),
    };
    plan.port(last, &device, &section.place)
}

fn global(plan: &mut Plan, key: &str, value: &str, place: &SourceLine) {
    let said = format!("{key} = {value}");
    match key {
        "sshport" => plan.set_server("ssh_port", tcp_port(value), &said, place),
        "monitorpath" => plan.set_server("monitor", value.into(), &said, place),
        "portbase" => {
            plan.leave(place, shown(&said), "each port says its own TCP port here; --first-port gives them")
        }
        "opendelay" => plan.leave(place, shown(&said), "a device is opened when udev is done with it"),
        _ => plan.leave(place, shown(&said), "there is no such thing here"),
    }
}

fn port(plan: &mut Plan, draft: &mut Draft, key: &str, value: &str, place: &SourceLine) {
    let said = format!("{key} = {value}");
    match meant(key) {
        "enabled" => plan.set(draft, "enabled", flag(value), &said, place),
        "baudrate" => plan.set(draft, "baud", number(value), &said, place),
        "bytesize" => plan.set(draft, "bytesize", number(value), &said, place),
        "stopbits" => plan.set(draft, "stopbits", number(value), &said, place),
        "parity" => plan.set(draft, "parity", letter(value), &said, place),
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

/// `none`, `even`, or the letter.
fn letter(word: &str) -> Value {
    let word = word.to_ascii_lowercase();
    let known = ["none", "even", "odd", "mark", "space"];
    match known.into_iter().find(|known| *known == word || known[..1] == word) {
        Some(known) => known[..1].to_ascii_uppercase().into(),
        None => word.into(),
    }
}

fn tcp_port(word: &str) -> Value {
    if word == "0" { "none".into() } else { number(word) }
}
