//! ser2net.conf, the format of ser2net before 4.0: one line per console, `PORT:STATE:TIMEOUT:DEVICE:OPTIONS`, and lines that define
//! banners, files and defaults.

use std::collections::BTreeMap;

use super::error::{ImportError, SourceLine};
use super::gensio::{self, Protocol, Serial};
use super::plan::{Draft, Plan, quoted};
use super::ser2net::{Defaults, option, without};
use super::source::Source;
use super::words::number;
use crate::config::Value;

/// Values of the state field.
const STATES: [&str; 5] = ["on", "raw", "rawlp", "telnet", "off"];

/// Definitions so far.
#[derive(Default)]
struct Known {
    defaults: Defaults,
    /// `DEVICE:name:path`
    devices: BTreeMap<String, String>,
    /// Names of texts and files that options refer to, with their kind.
    named: BTreeMap<String, &'static str>,
}

/// Whether a line has this format: in YAML, a space follows the first colon.
pub fn is_line(line: &str) -> bool {
    line.split_once(':').is_some_and(|(begin, rest)| {
        !begin.contains(char::is_whitespace) && rest.starts_with(|c: char| !c.is_whitespace())
    })
}

/// Whether a line is a definition, or has a state or a tty: /etc/passwd has colons too.
pub fn is_entry(line: &str) -> bool {
    let is_state = |field: &str| STATES.contains(&field.trim());
    let word = line.split(':').next().unwrap_or_default();
    is_line(line)
        && (DEFINITIONS.contains(&word)
            || line.split(':').skip(1).any(is_state)
            || line.contains(":/dev/tty"))
}

/// Words that begin a line other than a console.
const DEFINITIONS: [&str; 14] = [
    "BANNER",
    "CLOSEON",
    "CLOSESTR",
    "CONTROLPORT",
    "DEFAULT",
    "DELDEFAULT",
    "DEVICE",
    "LED",
    "OPENSTR",
    "ROTATOR",
    "RS485CONF",
    "SENDON",
    "SIGNATURE",
    "TRACEFILE",
];

pub fn plan(source: &Source) -> Result<Plan, ImportError> {
    let mut plan = Plan::default();
    let mut known = Known::default();
    let mut lines = source.text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let place = SourceLine { file: source.name.clone(), line: index + 1 };
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        // A backslash continues a line.
        let mut whole = line.to_owned();
        while whole.ends_with('\\') {
            whole.pop();
            let Some((_, more)) = lines.next() else { break };
            whole.push_str(more);
        }
        read(&mut plan, &mut known, whole.trim(), &place)?;
    }
    Ok(plan)
}

fn read(plan: &mut Plan, known: &mut Known, line: &str, place: &SourceLine) -> Result<(), ImportError> {
    let Some((word, rest)) = line.split_once(':') else {
        plan.report(place, quoted(line), "left out: expected PORT:STATE:TIMEOUT:DEVICE:OPTIONS");
        return Ok(());
    };
    let (name, value) = rest.split_once(':').unwrap_or((rest, ""));
    let original = |why: &str| (format!("{word} {}", quoted(name)), why.to_owned());
    let (what, why) = match word {
        "DEVICE" => {
            known.devices.insert(name.to_owned(), value.trim_end_matches(':').to_owned());
            return Ok(());
        }
        "DEFAULT" => {
            let (value, class) = match value.split_once(':') {
                Some((value, class)) => {
                    (value, Some(class.trim_end_matches(':')).filter(|class| !class.is_empty()))
                }
                None => (value, None),
            };
            known.defaults.set(plan, &name.replace('_', "-"), value, class, place);
            return Ok(());
        }
        "DELDEFAULT" => {
            known.defaults.unset(&name.replace('_', "-"), value.trim_end_matches(':'));
            return Ok(());
        }
        "BANNER" | "SIGNATURE" | "OPENSTR" | "CLOSESTR" | "CLOSEON" | "SENDON" => {
            let option = match word {
                "BANNER" => "banner",
                "SIGNATURE" => "signature",
                "OPENSTR" => "openstr",
                "CLOSESTR" => "closestr",
                "CLOSEON" => "closeon",
                _ => "sendon",
            };
            known.named.insert(name.to_owned(), option);
            original(without(option))
        }
        "TRACEFILE" => original(without("trace")),
        "RS485CONF" => original("RS-485 is set in the driver"),
        "LED" => original(without("led")),
        "ROTATOR" => original("each port has its own listener"),
        "CONTROLPORT" => original("ports are administered with consolectl(1)"),
        _ => return console(plan, known, line, place),
    };
    plan.report(place, what, why);
    Ok(())
}

fn console(plan: &mut Plan, known: &Known, line: &str, place: &SourceLine) -> Result<(), ImportError> {
    // An IPv6 address contains colons: the first state ends the port.
    let state = line.match_indices(':').find_map(|(index, _)| {
        let (state, rest) = line[index + 1..].split_once(':')?;
        let state = STATES.into_iter().find(|other| *other == state.trim())?;
        Some((line[..index].trim(), state, rest))
    });
    let Some((listener, state, rest)) = state else {
        let why = "left out: expected PORT:STATE:TIMEOUT:DEVICE:OPTIONS, with a state of on, raw, rawlp, telnet or off";
        plan.report(place, quoted(line), why);
        return Ok(());
    };
    let (timeout, rest) = rest.split_once(':').unwrap_or((rest, ""));
    if timeout.trim_start().starts_with('/') {
        plan.report(place, quoted(line), "left out: no timeout: expected PORT:STATE:TIMEOUT:DEVICE:OPTIONS");
        return Ok(());
    }
    let (device, options) = split_device(rest.trim());
    // `sol.` devices have a user and a password behind the name.
    let shown = device.split_whitespace().next().unwrap_or_default();
    let title = format!("{}: {}", quoted(listener), quoted(shown));
    if device.is_empty() {
        plan.report(place, quoted(line), "left out: no device");
        return Ok(());
    }
    let path = known.devices.get(device).map_or(device, String::as_str);
    let serial = match Serial::of(&format!("{path},{options}")) {
        Ok(serial) => serial,
        Err(why) => {
            plan.report(place, title, why);
            return Ok(());
        }
    };
    // /dev/lp0, and /dev/usb/lp0 of a USB printer.
    let file = serial.device.rsplit('/').next().unwrap_or_default();
    if state == "rawlp"
        && file.strip_prefix("lp").is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
    {
        plan.report(place, title, "a printer port");
        return Ok(());
    }
    let name = match known.devices.contains_key(device) {
        true => device,
        false => serial.device.rsplit('/').next().unwrap_or_default(),
    };
    if state != "off" {
        plan.replace_off(&serial.device, place);
    }
    let Some(mut draft) = plan.port(name, &serial.device, place)? else { return Ok(()) };
    let protocol = if state == "telnet" { Protocol::Telnet } else { Protocol::Raw };
    gensio::accepter_of(plan, &mut draft, listener, protocol, place);
    match state {
        "off" => plan.set(&mut draft, "enabled", false.into(), state, place),
        "rawlp" => plan.report(place, &title, "rawlp: the output of the device is quoted too"),
        _ => {}
    }
    plan.set(&mut draft, "timeout", number(timeout.trim()), &format!("timeout {timeout}"), place);
    let line = known.defaults.line(plan, &mut draft);
    let mut original = Vec::new();
    serial.give_with(plan, &mut draft, line, place, &mut |plan, draft, word| {
        original.extend(word.split_once('=').map(|(name, _)| name.to_owned()));
        other(plan, draft, known, word, place)
    });
    known.defaults.options(plan, &mut draft, &original);
    if draft.sets_users {
        gensio::require_login(&mut draft);
    }
    plan.ports.push(draft);
    Ok(())
}

/// The device and its options. Paths in by-path contain colons.
fn split_device(rest: &str) -> (&str, &str) {
    let split = match rest.starts_with("/dev/serial/by-path/") {
        true => rest.rsplit_once(':').filter(|(_, options)| {
            options.is_empty()
                || options.starts_with(|c: char| c.is_ascii_digit()) && !options.contains("-port")
        }),
        false => rest.split_once(':'),
    };
    let (device, options) = split.unwrap_or((rest, ""));
    (device.trim(), options.trim_end_matches(':'))
}

/// An option that is not a line setting; `false` if it is unknown.
fn other(plan: &mut Plan, draft: &mut Draft, known: &Known, word: &str, place: &SourceLine) -> bool {
    let is_on = !word.starts_with('-');
    let bare = word.trim_start_matches('-');
    if known.named.contains_key(bare) {
        // Reported with its definition.
        return true;
    }
    // ser2net 2 has a colon here.
    if let Some(("tr" | "tw" | "tb", file)) = bare.split_once(['=', ':']) {
        plan.report(place, format_args!("port {}: trace {}", draft.name, quoted(file)), without("trace"));
        return true;
    }
    match bare.split_once('=') {
        Some((name, value)) => option(plan, draft, &name.replace('_', "-"), value, place),
        None if ["timestamp", "hexdump"].iter().any(|end| bare.ends_with(end)) => {
            // The log has timestamps; a dump is `log.type`.
            if bare.ends_with("hexdump") && is_on {
                plan.set(draft, "log.type", Value::from("hex"), word, place);
            }
        }
        None if !is_on => {}
        // RFC 2217.
        None if bare == "remctl" && draft.keys.contains_key("rfc2217") => {
            plan.set(draft, "remote_settings", true.into(), word, place);
        }
        None if bare == "disable-chardelay" => {}
        None if ["kickolduser", "remctl", "telnet_brk_on_sync", "chardelay"].contains(&bare) => {
            plan.report(place, format_args!("port {}: {bare}", draft.name), without(bare));
        }
        None => return false,
    }
    true
}
