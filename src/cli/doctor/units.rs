//! Checks the units of the ports and of the other services.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::finding::{Finding, Subject, unit_journal};
use super::log;
use super::observation::Observation;
use super::processes::TABLES;
use super::systemd::{BUS_SOCKET, LOGROTATE_TIMER, METRICS_SOCKET, Units};
use crate::config::Config;
use crate::port::PortName;
use crate::session::plain;

/// Units that must be active while the target is, and the effect if one is not.
const NEEDED: [(&str, &str); 5] = [
    (BUS_SOCKET, "nothing can be listed, changed or reloaded"),
    (LOGROTATE_TIMER, "logs are not rotated"),
    ("console-auth-port.socket", "ports reject all logins"),
    ("console-auth-cli.socket", "the admin CLI rejects all SSH logins"),
    ("console-logs.socket", "ports that start write no log"),
];

/// Other units, and the effect if one is masked.
const STARTED: [(&str, &str); 8] = [
    ("console-admin.service", "nothing can be changed or reloaded"),
    ("console-auth-cli@.service", "the admin CLI rejects all SSH logins"),
    ("console-auth-port@.service", "ports reject all logins"),
    ("console-hostkeys.service", "no host key is made"),
    ("console-logrotate.service", "logs are not rotated"),
    ("console-logs.service", "ports that start write no log"),
    ("console-open.service", "adapters that are plugged in during the boot are not opened"),
    ("console-rollback.service", "an unconfirmed commit stays after a boot"),
];

/// Sockets in the runtime directory, each of a unit.
const SOCKETS: [(&str, &str); 3] = [
    ("console-auth-cli.socket", "auth-cli"),
    ("console-auth-port.socket", "auth-port"),
    ("console-logs.socket", "logs"),
];
/// Time for a port to be ready; a slow machine needs seconds for its sandbox.
const START_TIMEOUT: Duration = Duration::from_secs(10);

const CLI_SOCKET: &str = "console-cli.socket";

pub(super) fn is_active(state: &str) -> bool {
    ["active", "reloading"].contains(&state)
}

pub(super) fn everywhere(observed: &Observation) -> Vec<Finding> {
    let units = &observed.units;
    let mut findings = Vec::new();
    match units.state("consoleserver.target") {
        Some(state) if !is_active(state) => {
            let problem = format!("consoleserver.target is {state}: no port listens or is started");
            let fix = match units.is_masked("consoleserver.target") {
                true => "systemctl unmask consoleserver.target; systemctl enable --now consoleserver.target",
                false => "systemctl enable --now consoleserver.target",
            };
            findings.push(Finding::everywhere(problem, fix));
        }
        _ => findings.extend(needed(units)),
    }
    let masked = STARTED.into_iter().filter(|(unit, _)| units.is_masked(unit));
    findings.extend(masked.map(|(unit, effect)| {
        Finding::everywhere(format!("{unit} is masked: {effect}"), format!("systemctl unmask {unit}"))
    }));
    findings.extend(units.0.keys().filter_map(|unit| failed(units, unit)));
    findings
}

/// Sockets that were removed under the units that listen on them, by a cleanup of /run: they are still active for systemd.
pub(super) fn removed(runtime: &Path, observed: &Observation) -> Option<Finding> {
    let is_gone = |(unit, name): &(&str, &str)| {
        observed.units.state(unit).is_some_and(is_active) && !runtime.join(name).exists()
    };
    let (_, name) = SOCKETS.iter().find(|socket| is_gone(socket))?;
    Some(Finding::everywhere(
        format!(
            "{} was removed while in use: logins fail, or consolectl does not reach the ports, or ports that start write no log",
            runtime.join(name).display()
        ),
        "systemd-tmpfiles --create consoleserver.conf; systemctl restart consoleserver.target (sessions end)",
    ))
}

/// Units of ports that are not configured: a port that was removed from the file, and is still served.
pub(super) fn unconfigured(observed: &Observation, config: &Config) -> Vec<Finding> {
    let mut found: BTreeMap<PortName, Vec<&str>> = BTreeMap::new();
    for unit in observed.units.0.keys().filter(|unit| observed.units.state(unit).is_some_and(is_active)) {
        if let Some(name) = PortName::of_unit(unit)
            && !config.ports.contains_key(config.instances.port(&name))
        {
            found.entry(name).or_default().push(unit);
        }
    }
    let finding = |(name, units): (PortName, Vec<&str>)| {
        let problem = format!("{name} is not configured, and its units are active");
        Finding::everywhere(problem, format!("consolectl reload\nor: systemctl stop {}", units.join(" ")))
    };
    found.into_iter().map(finding).collect()
}

/// The SSH port of the admin CLI, if another program uses it.
pub(super) fn admin_listener(observed: &Observation, config: &Config) -> Option<Finding> {
    let tcp = config.server.ssh_port.filter(|_| observed.units.state(CLI_SOCKET) == Some("failed"))?;
    let user = listener_name(observed, tcp)?;
    Some(Finding::everywhere(
        format!("{CLI_SOCKET} does not listen on {tcp}: {user} uses that TCP port"),
        format!(
            "exit that program, then: systemctl restart {CLI_SOCKET}\nto use another one: consolectl cliport N"
        ),
    ))
}

/// Units that must be active and are not.
fn needed(units: &Units) -> Vec<Finding> {
    let stopped = |unit| units.state(unit).is_some_and(|state| ["inactive", "failed"].contains(&state));
    let finding = |(unit, effect): (&str, &str)| {
        let (state, fix) = match units.is_masked(unit) {
            true => ("masked", unmask_and_start(units, unit)),
            false => (
                units.state(unit).unwrap_or_default(),
                format!("systemctl reset-failed {unit}; systemctl start {unit}"),
            ),
        };
        Finding::everywhere(format!("{unit} is {state}: {effect}"), fix)
    };
    NEEDED.into_iter().filter(|(unit, _)| stopped(unit)).map(finding).collect()
}

/// (A template is masked as a whole, and its instance cannot be unmasked. `start` of a port's socket fails while the port runs: "Socket service
/// already active, refusing".)
fn unmask_and_start(units: &Units, unit: &str) -> String {
    let template = || {
        let ((prefix, _), (_, kind)) = (unit.split_once('@')?, unit.rsplit_once('.')?);
        Some(format!("{prefix}@.{kind}")).filter(|template| units.is_masked(template))
    };
    let verb = if unit.ends_with(".socket") { "restart" } else { "start" };
    format!("systemctl unmask {}; systemctl {verb} {unit}", template().unwrap_or_else(|| unit.to_owned()))
}

/// A failed unit. [`check`] reports a port's service and its SSH socket, and `metrics` that of Prometheus.
fn failed(units: &Units, unit: &str) -> Option<Finding> {
    let of_port = unit.starts_with("console@") && !unit.ends_with(".path");
    let is_checked = unit == METRICS_SOCKET || NEEDED.iter().any(|(needed, _)| *needed == unit);
    let is_ours = unit.starts_with("console") && !unit.starts_with("consoleserver.");
    if of_port || is_checked || !is_ours || units.state(unit) != Some("failed") {
        return None;
    }
    let result = units.property(unit, "Result").unwrap_or("unknown");
    let on_demand = ["console-trigger@", "console-power@"].iter().any(|kind| unit.starts_with(kind));
    let then = if on_demand { String::new() } else { format!("; then: systemctl restart {unit}") };
    Some(Finding::everywhere(
        format!("{unit} has failed ({result})"),
        format!("see journalctl -u {unit}{then}"),
    ))
}

pub(super) fn check(observed: &Observation, subject: &Subject<'_>) -> Vec<Finding> {
    let unit = subject.unit.service();
    let of = |key| observed.units.property(&unit, key).unwrap_or_default();
    let mut findings = Vec::new();
    if observed.units.is_masked(&unit) {
        let problem = format!("{unit} is masked: the port cannot be started");
        findings.push(subject.finding(problem, unmask_and_start(&observed.units, &unit)));
    }
    let socket = subject.unit.local_socket();
    if observed.units.is_masked(&socket) {
        let problem = format!("{socket} is masked: the port cannot be started");
        findings.push(subject.finding(problem, unmask_and_start(&observed.units, &socket)));
    }
    if of("LoadState") == "bad-setting" {
        // org.freedesktop.DBus.Error.InvalidArgs "Unit … has a bad unit file setting.": verify prints which.
        let problem = format!("systemd rejects the unit file of {unit}: the port cannot be started");
        let fix = format!(
            "systemd-analyze verify {unit}{}\nthen: systemctl daemon-reload",
            observed.units.own_settings(&unit)
        );
        return vec![subject.finding(problem, fix)];
    }
    // A failing port is restarted repeatedly: between two attempts it is `activating`, and during an attempt Result is `success`, so that
    // only NRestarts shows it.
    let restarts: u32 = of("NRestarts").parse().unwrap_or(0);
    let is_restarting = of("ActiveState") == "activating" && (of("Result") != "success" || restarts > 1);
    if of("ActiveState") == "failed" || is_restarting {
        let fix = format!(
            "{}{}\nthen: systemctl restart {unit}",
            unit_journal(subject.unit),
            observed.units.own_settings(&unit)
        );
        let result = if of("Result") == "success" {
            format!("restarted {restarts} times")
        } else {
            of("Result").to_owned()
        };
        // systemd.exec(5): EXIT_GROUP, EXIT_USER.
        let finding = match of("ExecMainStatus") {
            "216" | "217" => subject.finding(
                format!("{unit} fails: a user or group of the unit does not exist"),
                format!(
                    "systemd-sysusers; then: systemctl restart {unit}\n\
                     if that is not enough: getent passwd _console-port; getent group adm dialout"
                ),
            ),
            _ => subject.finding(format!("{unit} fails ({result})"), fix),
        };
        findings.push(finding);
    }
    let started = since_change(of("StateChangeTimestampMonotonic"));
    if of("ActiveState") == "activating" && !is_restarting && started > Some(START_TIMEOUT) {
        let problem =
            format!("{unit} has been starting for more than {} s and is not ready", START_TIMEOUT.as_secs());
        let fix = format!(
            "{}{}\nthen: systemctl restart {unit}",
            unit_journal(subject.unit),
            observed.units.own_settings(&unit)
        );
        findings.push(subject.finding(problem, fix));
    }
    if is_active(of("ActiveState")) {
        let problems = problems(subject, of("StatusText")).into_iter();
        let problems = problems.chain(login_helper(&observed.units, of("StatusText")));
        // A drop-in may be the cause of any of them.
        let with_settings =
            |(problem, fix)| subject.finding(problem, format!("{fix}{}", observed.units.own_settings(&unit)));
        findings.extend(problems.map(with_settings));
        findings.extend(unseen(observed, subject, of("StatusText")));
    }
    findings.extend(listener(observed, subject));
    findings
}

/// How long ago systemd changed the state of a unit, by the kernel's monotonic clock, in microseconds.
fn since_change(timestamp: &str) -> Option<Duration> {
    let then = Duration::from_micros(timestamp.parse().ok().filter(|then| *then > 0)?);
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?);
    now.checked_sub(then)
}

/// A port that does not reach the login helper, although the helper's socket listens.
fn login_helper(units: &Units, status: &str) -> Option<(String, String)> {
    let socket = "console-auth-port.socket";
    let part = status.split("; ").find(|part| part.starts_with("SSH is not available: the login helper "))?;
    // Otherwise the socket is reported, once for all ports.
    units.state(socket).is_some_and(is_active).then(|| (plain(part), format!("systemctl restart {socket}")))
}

/// A device that is present, and that the port waits for: its unit hides it, or there is no hardware.
fn unseen(observed: &Observation, subject: &Subject<'_>, status: &str) -> Option<Finding> {
    let (unit, shown) = (subject.unit.service(), subject.device.display());
    if !status.starts_with("unplugged") || !subject.device.exists() {
        return None;
    }
    if observed.units.property(&unit, "PrivateDevices") == Some("yes") {
        let problem = format!("PrivateDevices=yes hides {shown} from the port");
        let fix = format!("remove that setting{}", observed.units.own_settings(&unit));
        return Some(
            subject
                .finding(problem, format!("{fix}\nthen: systemctl daemon-reload; systemctl restart {unit}")),
        );
    }
    // The 8250 driver makes ttyS0 to ttyS3, also for lines that a board does not have: EIO.
    Some(subject.finding(
        format!("{shown} exists, but its driver reports that there is no hardware"),
        format!(
            "/proc/tty/driver/serial lists ttyS lines, those without hardware as uart:unknown; see dmesg\n\
             to use another device: consolectl device {} PATH",
            subject.name
        ),
    ))
}

/// The problems in a port's STATUS=, each with its fix. See `service/port.rs`.
fn problems(subject: &Subject<'_>, status: &str) -> Vec<(String, String)> {
    let mut parts = status.split("; ");
    let line = parts.next().unwrap_or_default();
    let is_source = line.starts_with("disconnected since ");
    let fix = |part| match part {
        _ if is_source => {
            format!("consolectl show {}; journalctl -u console-source@{}", subject.name, subject.unit)
        }
        part if is_of_the_log(part) => log::fix_of_failure(part),
        part => fix_of(part, subject.name),
    };
    // Reported once, for all ports.
    let is_of_host_keys =
        |part: &&str| part.starts_with("SSH is not available") || part.starts_with("host key ");
    let beside = parts.filter(|part| !is_of_host_keys(part)).map(|part| (plain(part), fix(part)));
    beside.chain(problem_of_state(line, subject.name)).collect()
}

/// Whether the port cannot write its log.
fn is_of_the_log(part: &str) -> bool {
    let begins = ["the log ", "the disk of the log ", "console-logs.service "]
        .iter()
        .any(|with| part.starts_with(with));
    begins || part.starts_with("cannot ") && part.contains(" the log ")
}

/// The fix of another problem of an open port.
fn fix_of(part: &str, name: &PortName) -> String {
    if part.starts_with("another program ") {
        "exit that program: each of the two receives only part of the output".to_owned()
    } else if part.ends_with(" (it is still open here)") || part.ends_with(" (the port still has it open)") {
        "until then, this port and that program each receive only part of the output".to_owned()
    } else if part.starts_with("settings unchanged") || part.starts_with("the configuration ") {
        "correct the file, then: consolectl check; consolectl reload".to_owned()
    } else {
        format!("the driver or adapter does not support this; to change it: consolectl set {name} KEY VALUE")
    }
}

fn problem_of_state(line: &str, name: &PortName) -> Option<(String, String)> {
    let well = line.starts_with(|first: char| first.is_ascii_digit())
        || ["unplugged", "disconnected", "connected", "starting", "idle:", ""]
            .iter()
            .any(|word| line.split([' ', ',']).next() == Some(word));
    if !well {
        let why = line.find(" attached").and_then(|at| line[..at].rfind(", ")).map_or(line, |at| &line[..at]);
        return Some((plain(why), "the port retries automatically".to_owned()));
    }
    let lost = line.split(", ").find_map(|part| part.strip_suffix(" lost by the log"))?;
    Some((
        format!(
            "{lost} bytes are missing from the log since the port was started: the disk was slow or full"
        ),
        format!("to find the places in the log: consolectl grep 'bytes lost here' {name}"),
    ))
}

/// A port that does not listen on its TCP port.
fn listener(observed: &Observation, subject: &Subject<'_>) -> Option<Finding> {
    let (name, tcp) = (subject.name, subject.settings.ssh_port.filter(|_| subject.settings.enabled)?);
    let unit = subject.unit.ssh_socket();
    let state = observed.units.state(&unit)?;
    // Reported once, for all ports.
    if observed.units.state("consoleserver.target").is_some_and(|state| !is_active(state))
        && !is_active(state)
    {
        return None;
    }
    let problem = match (listener_name(observed, tcp), is_active(state)) {
        (Some(_), true) => return None,
        // Without /proc/net/tcp nothing is known about listeners.
        (None, true) if !std::path::Path::new(TABLES[0]).exists() => return None,
        (None, true) => {
            let problem = format!(
                "does not listen on {tcp}: systemd has loaded that port number but not opened it yet"
            );
            return Some(subject.finding(problem, format!("consolectl reload {name}")));
        }
        (Some(who), false) => format!("does not listen on {tcp}: {who} uses that TCP port"),
        (None, false) if observed.units.is_masked(&unit) => {
            let problem = format!("does not listen on {tcp}: {unit} is masked");
            return Some(subject.finding(problem, unmask_and_start(&observed.units, &unit)));
        }
        (None, false) => format!("does not listen on {tcp}: {unit} is {state}"),
    };
    let fix = format!(
        "see journalctl -u {unit}; then: systemctl daemon-reload; systemctl restart {unit}\n\
         to use another one: consolectl sshport {name} N"
    );
    Some(subject.finding(problem, fix))
}

/// The name of the process that listens on a TCP port.
pub(super) fn listener_name(observed: &Observation, tcp: u16) -> Option<String> {
    let socket = observed.listeners.get(&tcp)?;
    let owner = observed.processes.iter().find(|process| process.has_socket(socket));
    Some(owner.map_or_else(|| "another program".to_owned(), |process| process.name.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::tests::subject;

    fn units(of: &[(&str, &str, &str)]) -> Units {
        let properties = |state: &str, result: &str| {
            [("ActiveState", state), ("Result", result)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into()
        };
        Units(of.iter().map(|(unit, state, result)| (unit.to_string(), properties(state, result))).collect())
    }

    fn observed(units: Units) -> Observation {
        Observation {
            units,
            processes: Vec::new(),
            running: Default::default(),
            ttys: Default::default(),
            claims: Default::default(),
            listeners: Default::default(),
        }
    }

    fn found(of: &[(&str, &str, &str)]) -> Vec<String> {
        everywhere(&observed(units(of))).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn each_failed_unit_is_reported_once() {
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
                // Reported for the port.
                ("console@demo.service", "failed", "exit-code"),
                // Not a unit of this program.
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
            ["consoleserver.target is inactive: no port listens or is started"]
        );
    }

    #[test]
    fn a_masked_unit_is_reported_with_the_command_that_unmasks_it() {
        let mut observed = observed(units(&[("consoleserver.target", "active", "")]));
        for unit in ["console-admin.service", "console-cli.socket", LOGROTATE_TIMER] {
            let properties = observed.units.0.entry(unit.to_owned()).or_default();
            properties.insert("UnitFileState".to_owned(), "masked".to_owned());
            properties.insert("ActiveState".to_owned(), "inactive".to_owned());
        }
        let found: Vec<_> =
            everywhere(&observed).into_iter().map(|finding| (finding.problem, finding.fix)).collect();
        let expected = [
            (
                "console-logrotate.timer is masked: logs are not rotated",
                "systemctl unmask console-logrotate.timer; systemctl start console-logrotate.timer",
            ),
            (
                "console-admin.service is masked: nothing can be changed or reloaded",
                "systemctl unmask console-admin.service",
            ),
        ];
        // The SSH port of the admin CLI may be masked to close it.
        assert_eq!(found, expected.map(|(problem, fix)| (problem.to_owned(), fix.to_owned())));
    }

    #[test]
    fn a_masked_socket_is_restarted_because_its_port_may_run() {
        let units = units(&[("console@demo.socket", "inactive", "")]);
        assert_eq!(
            unmask_and_start(&units, "console@demo.socket"),
            "systemctl unmask console@demo.socket; systemctl restart console@demo.socket"
        );
    }

    #[test]
    fn problems_are_read_from_the_status_of_a_port() {
        for well in [
            "9600 8N1, 0 attached, 5 bytes in, 0 out",
            "unplugged since 12:01:07, 1 attached, 0 bytes in, 0 out",
            "9600 8N1, 0 attached, 5 bytes in, 0 out; SSH is not available: host keys: x; host key ignored: y",
            "starting, 0 attached",
            "idle: /dev/ttyUSB0 is the device of the port p1 (/dev/serial/by-path/x points to it), 0 attached",
            "",
        ] {
            assert!(subject(|demo| problems(demo, well)).is_empty(), "{well:?}");
        }
        for (status, wanted) in [
            (
                "/dev/ttyUSB0 is in use by another program: `fuser /dev/ttyUSB0` shows which, 0 attached, 0 bytes in, 0 out",
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
                "123 bytes are missing from the log",
            ),
        ] {
            let found = subject(|demo| problems(demo, status));
            let [(problem, _)] = found.as_slice() else { panic!("{status:?}: {found:?}") };
            assert!(problem.contains(wanted), "{status:?}: {problem}");
        }
    }
}
