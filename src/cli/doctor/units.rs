//! What systemd and the port say of its units.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use super::{Finding, Observation, Subject, unit_journal};
use crate::cli::bounded;
use crate::session::plain;

/// For systemd to tell of all units.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Units of ours that are no port's, and those of triggers, of which systemd names those that it has.
pub(super) const COMMON: [&str; 15] = [
    "consoleserver.target",
    "console-admin.service",
    "console-auth-cli.socket",
    "console-auth-port.socket",
    "console-cli.service",
    "console-cli.socket",
    "console-hostkeys.service",
    "console-logrotate.service",
    LOGROTATE_TIMER,
    "console-logs.service",
    "console-logs.socket",
    "console-open.service",
    "console-rollback.service",
    "console-auth-*@*.service",
    "console-trigger@*.service",
];
const LOGROTATE_TIMER: &str = "console-logrotate.timer";
/// What has to run while the target does, and what is missing without it.
const NEEDED: [(&str, &str); 4] = [
    (LOGROTATE_TIMER, "logs are not rotated"),
    ("console-auth-port.socket", "nobody can log in to a port"),
    ("console-auth-cli.socket", "nobody can log in to the admin CLI by SSH"),
    ("console-logs.socket", "ports that start are not logged"),
];

/// Units, each with its properties; none where systemd cannot be asked.
#[derive(Debug, Default)]
pub(super) struct Units(BTreeMap<String, BTreeMap<String, String>>);

impl Units {
    /// Asks systemd for all of them. First what it has loaded, in one call: to describe a unit that is not, it would look for its files in all
    /// directories. Then what the units that run or have failed say of themselves, and those of `described`.
    pub(super) fn ask(names: &[String], described: &[String]) -> Self {
        let mut list = Command::new("systemctl");
        list.args(["list-units", "--all", "--full", "--plain", "--no-legend", "--no-pager"]);
        let Ok(told) = bounded::ask(list.args(["console*", "serial-getty@*"]), TIMEOUT) else {
            return Self::default();
        };
        if !told.status.success() {
            return Self::default();
        }
        let state = |line: &str| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.nth(1)?.to_owned()))
        };
        let loaded: BTreeMap<String, String> = told.stdout.lines().filter_map(state).collect();
        let is_at_rest = |unit: &str| {
            // A socket or path that listens has nothing to add.
            let listens = [".socket", ".path"].iter().any(|end| unit.ends_with(end));
            match loaded.get(unit).map(String::as_str) {
                None | Some("inactive") => true,
                Some("active") => listens,
                Some(_) => false,
            }
        };
        let asked: BTreeSet<&String> =
            names.iter().filter(|unit| !is_at_rest(unit)).chain(described).collect();
        let mut units = Self::describe(
            asked
                .into_iter()
                .chain(loaded.keys().filter(|unit| unit.starts_with("console") && !is_at_rest(unit))),
        );
        for unit in names.iter().filter(|unit| !unit.contains('*')) {
            let state = loaded.get(unit).map_or("inactive", String::as_str);
            let properties = units.0.entry(unit.clone()).or_default();
            properties.entry("ActiveState".to_owned()).or_insert_with(|| state.to_owned());
        }
        units
    }

    fn describe<'n>(names: impl Iterator<Item = &'n String>) -> Self {
        let names: BTreeSet<&String> = names.collect();
        if names.is_empty() {
            return Self::default();
        }
        let properties = "--property=Id,ActiveState,Result,StatusText,NRestarts,DevicePolicy,DeviceAllow";
        let asked = bounded::ask(Command::new("systemctl").args(["show", properties]).args(names), TIMEOUT);
        let Ok(told) = asked else { return Self::default() };
        let text = told.stdout;
        let unit = |block: &str| {
            let lines = block.lines().filter_map(|line| line.split_once('='));
            let mut properties: BTreeMap<String, String> = BTreeMap::new();
            // DeviceAllow has a line for each.
            for (key, value) in lines {
                let all = properties.entry(key.to_owned()).or_default();
                let space = if all.is_empty() { "" } else { " " };
                all.push_str(&format!("{space}{value}"));
            }
            Some((properties.remove("Id")?, properties))
        };
        Self(text.split("\n\n").filter_map(unit).collect())
    }

    pub(super) fn property(&self, unit: &str, key: &str) -> Option<&str> {
        self.0.get(unit)?.get(key).map(String::as_str)
    }

    /// What the units report of themselves.
    pub(super) fn statuses(&self) -> impl Iterator<Item = &str> {
        self.0.values().filter_map(|properties| properties.get("StatusText")).map(String::as_str)
    }

    /// `active`, `failed`, `inactive`…
    pub(super) fn state(&self, unit: &str) -> Option<&str> {
        self.property(unit, "ActiveState")
    }
}

fn is_active(state: &str) -> bool {
    ["active", "reloading"].contains(&state)
}

pub(super) fn everywhere(sight: &Observation) -> Vec<Finding> {
    let units = &sight.units;
    let mut findings = Vec::new();
    match units.state("consoleserver.target") {
        Some(state) if !is_active(state) => {
            let what = format!("consoleserver.target is {state}: no port listens, and none is started");
            findings.push(Finding::everywhere(what, "systemctl enable --now consoleserver.target"));
        }
        _ => findings.extend(needed(units)),
    }
    findings.extend(units.0.keys().filter_map(|unit| failed(units, unit)));
    findings
}

/// What has to run while the target does, and does not.
fn needed(units: &Units) -> Vec<Finding> {
    let stopped = |unit| units.state(unit).is_some_and(|state| ["inactive", "failed"].contains(&state));
    let finding = |(unit, what): (&str, &str)| {
        let state = units.state(unit).unwrap_or_default();
        let mend = format!("systemctl reset-failed {unit}; systemctl start {unit}");
        Finding::everywhere(format!("{unit} is {state}: {what}"), mend)
    };
    NEEDED.into_iter().filter(|(unit, _)| stopped(unit)).map(finding).collect()
}

/// A unit of ours that has failed. Of a port's service and its SSH socket [`look`] says it.
fn failed(units: &Units, unit: &str) -> Option<Finding> {
    let of_port = unit.starts_with("console@") && !unit.ends_with(".path");
    let is_needed = NEEDED.iter().any(|(needed, _)| *needed == unit);
    let is_ours = unit.starts_with("console") && !unit.starts_with("consoleserver.");
    if of_port || is_needed || !is_ours || units.state(unit) != Some("failed") {
        return None;
    }
    let result = units.property(unit, "Result").unwrap_or("unknown");
    let start = if unit.starts_with("console-trigger@") { "" } else { "; then: systemctl restart " };
    let restarted = if start.is_empty() { "" } else { unit };
    Some(Finding::everywhere(
        format!("{unit} has failed ({result})"),
        format!("journalctl -u {unit} says why{start}{restarted}"),
    ))
}

pub(super) fn look(sight: &Observation, patient: &Subject<'_>) -> Vec<Finding> {
    let unit = format!("console@{}.service", patient.unit);
    let of = |key| sight.units.property(&unit, key).unwrap_or_default();
    let mut findings = Vec::new();
    // (A port that fails is started again and again: between two tries it is `activating`.)
    // (During a try its last result is forgotten, and only their number tells.)
    let tries: u32 = of("NRestarts").parse().unwrap_or(0);
    let between_tries = of("ActiveState") == "activating" && (of("Result") != "success" || tries > 1);
    if of("ActiveState") == "failed" || between_tries {
        let mend = format!("{}\nthen: systemctl restart {unit}", unit_journal(patient.unit));
        let result = if of("Result") == "success" {
            format!("restarted {tries} times")
        } else {
            of("Result").to_owned()
        };
        findings.push(patient.finding(format!("{unit} fails ({result})"), mend));
    }
    if is_active(of("ActiveState")) {
        let complaints = complaints(of("StatusText"));
        findings.extend(complaints.into_iter().map(|(what, mend)| patient.finding(what, mend)));
    }
    findings.extend(listener(sight, patient));
    findings
}

/// What of a port's STATUS= is a complaint, and what to do. See `service/port.rs`, which says it.
fn complaints(status: &str) -> Vec<(String, String)> {
    let mut parts = status.split("; ");
    let line = parts.next().unwrap_or_default();
    let is_source = line.starts_with("disconnected since ");
    let helps = |part| if is_source { SOURCE_HELP } else { what_helps(part) };
    let beside = parts.map(|part| (plain(part), helps(part).to_owned()));
    beside.chain(complaint_of_line(line)).collect()
}

/// For a port whose source is not connected.
const SOURCE_HELP: &str = "consolectl show PORT source; journalctl -u console-source@PORT";

/// What to do about a complaint that stands behind the state of an open line.
fn what_helps(part: &str) -> &'static str {
    if part.contains(" is not being written") || part.starts_with("cannot ") || part.starts_with("the log ") {
        "what comes is kept in memory for a while only: df, dmesg"
    } else if part.starts_with("another program reads ") {
        "end that program: each of the two gets only a part of what the device says"
    } else if part.ends_with(" (it is still open here)") {
        "until then it is shared with that program: each of the two gets only a part of what the device says"
    } else {
        "its driver or adapter cannot do that: consolectl set PORT KEY VALUE"
    }
}

fn complaint_of_line(line: &str) -> Option<(String, String)> {
    let well = line.starts_with(|first: char| first.is_ascii_digit())
        || ["unplugged", "disconnected", "connected", "starting", "idle:", ""]
            .iter()
            .any(|word| line.split([' ', ',']).next() == Some(word));
    if !well {
        let why = line.find(" attached").and_then(|at| line[..at].rfind(", ")).map_or(line, |at| &line[..at]);
        return Some((
            plain(why),
            "the reason is mended elsewhere; the port tries again by itself".to_owned(),
        ));
    }
    let lost = line.split(", ").find_map(|part| part.strip_suffix(" lost by the log"))?;
    Some((
        format!("{lost} bytes are missing in the log since the port runs: its disk was too slow, or full"),
        "the log says where: grep 'bytes lost here'".to_owned(),
    ))
}

/// A port with a TCP port that does not listen.
fn listener(sight: &Observation, patient: &Subject<'_>) -> Option<Finding> {
    let (name, tcp) = (patient.name, patient.settings.ssh_port.filter(|_| patient.settings.enabled)?);
    let unit = format!("console@{}.socket", patient.unit);
    let state = sight.units.state(&unit)?;
    let what = match (who_listens(sight, tcp), is_active(state)) {
        (Some(_), true) => return None,
        // Who cannot see any listener cannot see that there is none.
        (None, true) if !std::path::Path::new(TABLES[0]).exists() => return None,
        (None, true) => {
            let what =
                format!("does not listen on {tcp}: systemd has read that number and not opened it yet");
            return Some(patient.finding(what, format!("consolectl reload {name}")));
        }
        (Some(who), false) => format!("does not listen on {tcp}: {who} has that TCP port"),
        (None, false) => format!("does not listen on {tcp}: {unit} is {state}"),
    };
    let mend = format!(
        "journalctl -u {unit} says why; then: systemctl daemon-reload; systemctl restart {unit}\n\
         or another one: consolectl sshport {name} N"
    );
    Some(patient.finding(what, mend))
}

/// Who listens on TCP ports (proc_net_tcp(5)).
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// The TCP ports on which somebody listens, each with its socket: `socket:[12345]`.
pub(super) fn listeners() -> BTreeMap<u16, String> {
    const LISTEN: &str = "0A";
    let mut listeners = BTreeMap::new();
    for table in TABLES {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(&LISTEN), Some(inode)) = (fields.get(1), fields.get(3), fields.get(9))
            else {
                continue;
            };
            let port = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
            if let Some(port) = port {
                listeners.entry(port).or_insert_with(|| format!("socket:[{inode}]"));
            }
        }
    }
    listeners
}

/// Who listens on a TCP port, if somebody does.
fn who_listens(sight: &Observation, tcp: u16) -> Option<String> {
    let socket = sight.listeners.get(&tcp)?;
    let owner = sight.processes.iter().find(|process| process.has_socket(socket));
    Some(owner.map_or_else(|| "another program".to_owned(), |process| process.name.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(of: &[(&str, &str, &str)]) -> Units {
        let properties = |state: &str, result: &str| {
            [("ActiveState", state), ("Result", result)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into()
        };
        Units(of.iter().map(|(unit, state, result)| (unit.to_string(), properties(state, result))).collect())
    }

    fn found(of: &[(&str, &str, &str)]) -> Vec<String> {
        let sight = Observation {
            units: units(of),
            processes: Vec::new(),
            running: Default::default(),
            ttys: Default::default(),
            claims: Default::default(),
            listeners: Default::default(),
        };
        everywhere(&sight).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn each_unit_of_ours_that_has_failed_is_named_once() {
        let well = ("consoleserver.target", "active", "");
        assert_eq!(found(&[well, (LOGROTATE_TIMER, "active", "success")]), [""; 0]);
        assert_eq!(
            found(&[well, (LOGROTATE_TIMER, "failed", "start-limit-hit")]),
            ["console-logrotate.timer is failed: logs are not rotated"]
        );
        assert_eq!(
            found(&[
                well,
                ("console-attach@ttyUSB0.socket", "failed", "service-start-limit-hit"),
                ("console-logrotate.service", "failed", "exit-code"),
                ("console@demo.path", "failed", "trigger-limit-hit"),
                // Said of the port.
                ("console@demo.service", "failed", "exit-code"),
                // Somebody else's.
                ("serial-getty@ttyUSB0.service", "failed", "exit-code"),
            ]),
            [
                "console-attach@ttyUSB0.socket has failed (service-start-limit-hit)",
                "console-logrotate.service has failed (exit-code)",
                "console@demo.path has failed (trigger-limit-hit)",
            ]
        );
        assert_eq!(
            found(&[("consoleserver.target", "inactive", ""), (LOGROTATE_TIMER, "inactive", "success")]),
            ["consoleserver.target is inactive: no port listens, and none is started"]
        );
    }

    #[test]
    fn a_status_is_a_complaint_or_not() {
        for well in [
            "9600 8N1, 0 attached, 5 bytes in, 0 out",
            "unplugged since 12:01:07, 1 attached, 0 bytes in, 0 out",
            "starting, 0 attached",
            "idle: /dev/ttyUSB0 is the device of the port p1 (/dev/serial/by-path/x leads to it), 0 attached",
            "",
        ] {
            assert!(complaints(well).is_empty(), "{well:?}");
        }
        for (status, wanted) in [
            (
                "/dev/ttyUSB0 is in use by another program: `fuser /dev/ttyUSB0` tells which, 0 attached, 0 bytes in, 0 out",
                "is in use by another program",
            ),
            ("cannot be served: /etc/consoleserver/config.toml: line 3: baud", "line 3: baud"),
            (
                "9600 8N1, 0 attached, 5 bytes in, 0 out; the log /var/log/x is not being written: its disk hangs",
                "its disk hangs",
            ),
            (
                "9600 8N1, 0 attached, 9 bytes in, 0 out; cannot write the log /x: No space left on device (os error 28)",
                "No space left",
            ),
            (
                "6000000 8N1, 0 attached, 5 bytes in, 0 out; baud 6000000: the driver set 3000000",
                "baud 6000000: the driver set 3000000",
            ),
            (
                "9600 8N1, 0 attached, 500 bytes in, 0 out, 123 lost by the log",
                "123 bytes are missing in the log",
            ),
        ] {
            let found = complaints(status);
            let [(what, _)] = found.as_slice() else { panic!("{status:?}: {found:?}") };
            assert!(what.contains(wanted), "{status:?}: {what}");
        }
    }
}
