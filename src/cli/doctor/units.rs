//! What systemd and the port say of its units.

use std::collections::BTreeMap;
use std::process::Command;

use super::{Finding, Patient, Sight, unit_journal};
use crate::session::plain;

/// Units, each with its properties; none where systemd cannot be asked.
#[derive(Debug, Default)]
pub(super) struct Units(BTreeMap<String, BTreeMap<String, String>>);

impl Units {
    /// Asks systemd once, for all of them.
    pub(super) fn ask(names: &[String]) -> Self {
        let properties = "--property=Id,ActiveState,Result,StatusText";
        let asked = Command::new("systemctl").args(["show", properties]).args(names).output();
        let Ok(told) = asked else { return Self::default() };
        let text = String::from_utf8_lossy(&told.stdout).into_owned();
        let unit = |block: &str| {
            let lines = block.lines().filter_map(|line| line.split_once('='));
            let mut properties: BTreeMap<_, _> =
                lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            Some((properties.remove("Id")?, properties))
        };
        Self(text.split("\n\n").filter_map(unit).collect())
    }

    fn property(&self, unit: &str, key: &str) -> Option<&str> {
        self.0.get(unit)?.get(key).map(String::as_str)
    }

    /// `active`, `failed`, `inactive`…
    pub(super) fn state(&self, unit: &str) -> Option<&str> {
        self.property(unit, "ActiveState")
    }
}

fn is_active(state: &str) -> bool {
    ["active", "reloading"].contains(&state)
}

pub(super) fn everywhere(sight: &Sight) -> Option<Finding> {
    let state = sight.units.state("consoleserver.target").filter(|state| !is_active(state))?;
    let what = format!("consoleserver.target is {state}: no port listens, and none is started");
    Some(Finding::everywhere(what, "systemctl enable --now consoleserver.target"))
}

pub(super) fn look(sight: &Sight, patient: &Patient<'_>) -> Vec<Finding> {
    let unit = format!("console@{}.service", patient.name);
    let of = |key| sight.units.property(&unit, key).unwrap_or_default();
    let mut findings = Vec::new();
    // (A port that fails is started again and again: between two tries it is `activating`.)
    let between_tries = of("ActiveState") == "activating" && of("Result") != "success";
    if of("ActiveState") == "failed" || between_tries {
        let mend = format!("{}\nthen: systemctl restart {unit}", unit_journal(patient.name));
        findings.push(patient.finding(format!("{unit} fails ({})", of("Result")), mend));
    }
    if is_active(of("ActiveState")) {
        findings.extend(complaint(of("StatusText")).map(|(what, mend)| patient.finding(what, mend)));
    }
    findings.extend(listener(sight, patient));
    findings
}

/// What of a port's STATUS= is a complaint, and what to do. See `service/port.rs`, which says it.
fn complaint(status: &str) -> Option<(String, String)> {
    let (line, log) = status.split_once("; ").unwrap_or((status, ""));
    if log.contains(" is not being written") || log.starts_with("cannot ") || log.starts_with("the log ") {
        return Some((log.to_owned(), "what comes is kept in memory for a while only: df, dmesg".to_owned()));
    }
    let well = line.starts_with(|first: char| first.is_ascii_digit())
        || ["unplugged", "starting", "idle:", ""]
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
fn listener(sight: &Sight, patient: &Patient<'_>) -> Option<Finding> {
    let (name, tcp) = (patient.name, patient.settings.ssh_port.filter(|_| patient.settings.enabled)?);
    let unit = format!("console@{name}.socket");
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

/// Who listens on a TCP port, if somebody does.
fn who_listens(sight: &Sight, tcp: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let listens = |table: &str| {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        text.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (_, port) = fields.get(1)?.rsplit_once(':')?;
            let is_it = u16::from_str_radix(port, 16) == Ok(tcp) && *fields.get(3)? == LISTEN;
            is_it.then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
        })
    };
    let socket = TABLES.into_iter().find_map(listens)?;
    let owner = sight.processes.iter().find(|process| process.has_socket(&socket));
    Some(owner.map_or_else(|| "another program".to_owned(), |process| process.name.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_complaint_or_not() {
        for well in [
            "9600 8N1, 0 attached, 5 bytes in, 0 out",
            "unplugged since 12:01:07, 1 attached, 0 bytes in, 0 out",
            "starting, 0 attached",
            "idle: /dev/ttyUSB0 is the device of the port p1 (/dev/serial/by-path/x leads to it), 0 attached",
            "",
        ] {
            assert_eq!(complaint(well), None, "{well:?}");
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
                "9600 8N1, 0 attached, 500 bytes in, 0 out, 123 lost by the log",
                "123 bytes are missing in the log",
            ),
        ] {
            let (what, _) = complaint(status).unwrap_or_else(|| panic!("{status:?} is well"));
            assert!(what.contains(wanted), "{status:?}: {what}");
        }
    }
}
