//! config.ini of ConsoleServer 1.0: one section per port, named after its device. `[DEFAULT]` has the defaults of all ports. A line with an
//! error is reported, and the rest is read.

use std::path::Path;

use super::error::{ImportError, SourceLine};
use super::plan::{Draft, Plan, quoted};
use super::source::Source;
use super::words::{flag, number};
use crate::config::Value;

/// A line `KEY = VALUE`.
struct Entry {
    key: String,
    value: String,
    place: SourceLine,
}

struct Section {
    name: String,
    place: SourceLine,
    entries: Vec<Entry>,
}

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
    // Lines after an invalid heading do not belong to the preceding section.
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
                    plan.report(&place, quoted(line), "nested sections are not ports")
                }
                Some((name, _)) => {
                    lost = false;
                    let name = unquoted(name.trim()).to_owned();
                    sections.push(Section { name, place, entries: Vec::new() });
                }
                None => plan.report(&place, quoted(line), "left out: expected [NAME]"),
            }
            continue;
        }
        // ConfigParser accepts a colon too.
        let split = line.split_once('=').or_else(|| line.split_once(':'));
        match (split, sections.last_mut().filter(|_| !lost)) {
            (Some((key, value)), Some(section)) => section.entries.push(Entry {
                key: key.trim().to_ascii_lowercase(),
                value: unquoted(value_alone(value.trim())).to_owned(),
                place,
            }),
            (None, Some(_)) => plan.report(&place, quoted(line), "expected KEY = VALUE, or [NAME]"),
            (_, None) => plan.report(&place, quoted(line), "outside of a section of a port"),
        }
    }
    sections
}

/// Whether a line is the heading of a tty or of defaults, or sets a key of a port.
pub fn is_line(line: &str) -> bool {
    let key = line.split(['=', ':']).next().unwrap_or_default().trim().to_ascii_lowercase();
    match line.strip_prefix('[') {
        Some(name) => {
            ["tty", "/", "GLOBAL", "DEFAULT"].iter().any(|begin| name.trim_start().starts_with(begin))
        }
        None => KEYS.contains(&meant(&key)),
    }
}

/// Keys that other programs' files hardly have.
const KEYS: [&str; 8] =
    ["baudrate", "bytesize", "logtype", "parity", "rtscts", "sshport", "stopbits", "xonxoff"];

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
    let original = format!("{key} = {value}");
    match key {
        "sshport" => plan.set_server("ssh_port", tcp_port(value), &original, place),
        "monitorpath" => plan.set_server("monitor", value.into(), &original, place),
        "portbase" => plan.report(
            place,
            quoted(&original),
            "each port has its own ssh_port here; --first-port assigns them",
        ),
        "opendelay" => {
            plan.report(place, quoted(&original), "a device is opened after udev has processed it")
        }
        _ => plan.report(place, quoted(&original), "not supported here"),
    }
}

fn port(plan: &mut Plan, draft: &mut Draft, key: &str, value: &str, place: &SourceLine) {
    let original = format!("{key} = {value}");
    match meant(key) {
        "enabled" => plan.set(draft, "enabled", flag(value), &original, place),
        "baudrate" => plan.set(draft, "baud", number(value), &original, place),
        "bytesize" => plan.set(draft, "bytesize", number(value), &original, place),
        "stopbits" => plan.set(draft, "stopbits", number(value), &original, place),
        "parity" => plan.set(draft, "parity", letter(value), &original, place),
        "xonxoff" => plan.set(draft, "xonxoff", flag(value), &original, place),
        "rtscts" => plan.set(draft, "rtscts", flag(value), &original, place),
        "sshport" => plan.set(draft, "ssh_port", tcp_port(value), &original, place),
        "logtype" => {
            let kind = match value {
                "0" => "none",
                "1" => "text",
                "2" => "hex",
                "3" => "both",
                other => other,
            };
            plan.set(draft, "log.type", kind.into(), &original, place);
        }
        "logfile" => plan.report(
            place,
            quoted(&original),
            format_args!("the log is /var/log/consoleserver/{}/console.log", draft.name),
        ),
        "timeout" if value.parse() == Ok(0.0) => {}
        "timeout" => plan.report(
            place,
            quoted(&original),
            "there, the timeout of a read; here, `timeout` disconnects idle sessions",
        ),
        _ => plan.report(place, quoted(&original), "not supported here"),
    }
}

/// Removes a trailing comment.
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
