//! `doctor`: why a port does not work, and what would mend it. Each room looks at one thing as far as the caller may see
//! it: the device, who holds it, the units, what the port has logged, the firewall. Nothing is changed, and no port is
//! started.

mod config_file;
mod device;
mod firewall;
mod holder;
mod host_keys;
mod identity;
mod key_sources;
mod log;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;
use serde::Serialize;

use super::bounded::{self, NoAnswer, RunningQuery, Space};
use super::local;
use super::value::nearest;
use super::words::either;
use crate::attach::client::{self, AttachError};
use crate::config::{self, Config, ConfigError, Loaded, LogType};
use crate::exec;
use crate::ownership::Claims;
use crate::port::PortName;
use holder::Process;
use identity::Ttys;
use units::Units;

/// How a wrong file is corrected and applied. Sessions stay.
const CORRECT_AND_APPLY: &str = "mend the file; then: consolectl check; consolectl reload";
/// Lines of a log that are looked at.
const LOG_LINES: u32 = 200;

/// Ports that are asked at once.
const AT_ONCE: usize = 64;
/// For a disk to say how much of it is free.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// Where; `None` = at all ports.
    port: Option<PortName>,
    /// What is wrong, as a sentence.
    what: String,
    /// What to do: commands, or words.
    mend: String,
}

impl Finding {
    fn everywhere(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { port: None, what: what.into(), mend: mend.into() }
    }
}

/// A port that is looked at.
struct Subject<'a> {
    name: &'a PortName,
    /// The name of its units.
    unit: &'a PortName,
    settings: &'a config::Port,
    device: PathBuf,
    /// Whether it was asked about, or is one of all.
    named: bool,
}

impl Subject<'_> {
    /// Where its log is.
    fn logs(&self) -> PathBuf {
        Path::new("/var/log/consoleserver").join(self.name.as_str())
    }

    fn finding(&self, what: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { port: Some(self.name.clone()), what: what.into(), mend: mend.into() }
    }
}

/// Looks at these ports, or with none at all of them, and says what is wrong. Whether nothing is.
pub fn run(runtime: &Path, ports: &[PortName], json: bool, to: &mut impl Write) -> io::Result<bool> {
    let findings = examine(runtime, ports);
    if json {
        serde_json::to_writer(&mut *to, &findings)?;
        writeln!(to)?;
    } else {
        say(&findings, to)?;
    }
    Ok(findings.is_empty())
}

fn say(findings: &[Finding], to: &mut impl Write) -> io::Result<()> {
    for Finding { port, what, mend } in findings {
        let label = port.as_ref().map(|port| format!("{port}: ")).unwrap_or_default();
        writeln!(to, "{label}{what}")?;
        for line in mend.lines() {
            writeln!(to, "    {line}")?;
        }
    }
    if findings.is_empty() {
        writeln!(to, "nothing wrong was found")?;
    }
    if !geteuid().is_root() {
        writeln!(to, "(root sees more: who holds a device or a TCP port, and the firewall)")?;
    }
    Ok(())
}

/// What of the machine concerns all ports, seen once.
struct Observation {
    units: Units,
    processes: Vec<Process>,
    /// The ports that run.
    running: BTreeSet<PortName>,
    ttys: Ttys,
    claims: Claims,
    /// Who listens on which TCP port.
    listeners: BTreeMap<u16, String>,
}

impl Observation {
    fn new(runtime: &Path, config: &Config, patients: &[Subject<'_>]) -> Self {
        let mut units: Vec<String> = units::COMMON.map(str::to_owned).to_vec();
        let mut described = Vec::new();
        for Subject { unit: name, device, named, .. } in patients {
            let getty = format!("serial-getty@{}.service", device::kernel_name(device));
            units.extend([format!("console@{name}.service"), format!("console@{name}.socket"), getty]);
            units.extend([format!("console-attach@{name}.socket"), format!("console@{name}.path")]);
            // The device policy of one whose device is there matters also while it is closed.
            if *named || device.exists() {
                described.push(format!("console@{name}.service"));
            }
        }
        let running = local::running(runtime).unwrap_or_default().into_iter().collect();
        Self {
            units: Units::ask(&units, &described),
            processes: holder::processes(),
            running,
            ttys: Ttys::look(),
            claims: Claims::of(config),
            listeners: units::listeners(),
        }
    }
}

fn examine(runtime: &Path, ports: &[PortName]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    let (config, file) = match Config::load_or_last_good(Path::new("/")) {
        Ok(Loaded { config, path, fault, .. }) => {
            findings.extend(fault.map(|fault| stale(&fault)));
            (config, path)
        }
        Err(error) => return vec![broken(&error)],
    };
    let unconfigured = ports.iter().filter(|port| !config.ports.contains_key(*port));
    findings.extend(unconfigured.map(|port| unknown(port, &config)));
    let asked = config.ports.iter().filter(|(name, _)| ports.is_empty() || ports.contains(name));
    let patients: Vec<_> = asked
        .map(|(name, settings)| {
            let device = config.device(name, settings);
            Subject { name, unit: config.instances.of(name), settings, device, named: !ports.is_empty() }
        })
        .collect();
    let sight = Observation::new(runtime, &config, &patients);
    findings.extend(units::everywhere(&sight));
    findings.extend(config_file::look(&file));
    findings.extend(device::without_driver());
    findings.extend(host_keys::look(&sight));
    // Of ports in the foreground, which are their user's, this machine's sshd says nothing.
    if sight.units.state("consoleserver.target").is_some() {
        findings.extend(key_sources::look(&config.access, &file));
    }
    if ports.is_empty() {
        findings.extend(identity::unserved(&sight));
    }
    let logs: Vec<PathBuf> = patients.iter().map(Subject::logs).collect();
    let spaces = bounded::space_of(&logs, DISK_TIMEOUT);
    let mut logged = Vec::with_capacity(patients.len());
    let all: Vec<_> = patients.iter().zip(&spaces).collect();
    for some in all.chunks(AT_ONCE) {
        // A port that hangs answers late, and holds up no other one.
        logged.extend(std::thread::scope(|scope| {
            let ask = |(patient, space): &(&Subject<'_>, &Result<Option<Space>, NoAnswer>)| match space {
                // It would have to read what cannot be read.
                Err(NoAnswer::Timeout(_)) => Vec::new(),
                _ => examine_log(runtime, &sight, patient),
            };
            let asked: Vec<_> = some.iter().map(|one| scope.spawn(move || ask(one))).collect();
            asked.into_iter().map(|asked| asked.join().unwrap_or_default()).collect::<Vec<_>>()
        }));
    }
    for (((patient, directory), space), logged) in patients.iter().zip(&logs).zip(&spaces).zip(logged) {
        findings.extend(examine_port(&sight, patient));
        findings.extend(log::disk(directory, space, patient));
        findings.extend(logged);
    }
    findings
}

fn stale(fault: &ConfigError) -> Finding {
    Finding::everywhere(
        format!("the configuration is wrong, and the last good one is in force: {fault}"),
        CORRECT_AND_APPLY,
    )
}

fn broken(error: &ConfigError) -> Finding {
    let what = format!("the configuration is wrong, so nothing of it is in force: {error}");
    Finding::everywhere(what, CORRECT_AND_APPLY)
}

fn unknown(port: &PortName, config: &Config) -> Finding {
    let names: Vec<String> = config.ports.keys().map(ToString::to_string).collect();
    let mend = match nearest(port.as_str(), names.iter().map(String::as_str)).as_slice() {
        [] => format!("consolectl create {port}"),
        near => format!("did you mean {}? or: consolectl create {port}", either(near)),
    };
    Finding::everywhere(format!("{port} is not configured"), mend)
}

fn examine_port(sight: &Observation, patient: &Subject<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    findings.extend(identity::look(sight, patient));
    // Another port's device says nothing of this one.
    if !identity::is_anothers(sight, patient) {
        findings.extend(device::look(sight, patient));
        findings.extend(holder::look(sight, patient));
    }
    findings.extend(units::look(sight, patient));
    findings.extend(firewall::look(patient));
    findings
}

/// What the port has logged.
fn examine_log(runtime: &Path, sight: &Observation, patient: &Subject<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    // (Not of a port that sleeps: a look starts none.)
    if patient.settings.log.kind == LogType::Text && sight.running.contains(patient.name) {
        match sample(runtime, patient.name) {
            Ok(sample) => findings.extend(log::look(&sample, jiff::Timestamp::now(), patient)),
            // Whoever may not use the port does not see what it says.
            Err(AttachError::Refused(_)) => {}
            Err(error) => findings.push(patient.finding(error.to_string(), unit_journal(patient.unit))),
        }
    }
    findings
}

fn unit_journal(port: &PortName) -> String {
    format!("journalctl -u console@{port} says more")
}

fn sample(runtime: &Path, port: &PortName) -> Result<String, AttachError> {
    let mut sample = Vec::new();
    let command =
        exec::Command::Log { lines: Some(LOG_LINES), since: None, until: None, follow: false, raw: true };
    client::run(runtime, port, command, &mut sample, &mut std::io::stderr())?;
    Ok(String::from_utf8_lossy(&sample).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port to look at.
    pub(super) fn patient<T>(look: impl FnOnce(&Subject<'_>) -> T) -> T {
        let config = Config::parse("[ports.demo]\n", Path::new("config.toml")).unwrap();
        let (name, settings) = config.ports.iter().next().unwrap();
        look(&Subject { name, unit: name, settings, device: config.device(name, settings), named: true })
    }

    #[test]
    fn a_finding_says_where_what_and_what_to_do() {
        let finding = patient(|patient| patient.finding("is ill", "mend it\nso"));
        let everywhere = Finding::everywhere("all is ill", "mend all");
        let mut said = Vec::new();
        say(&[finding, everywhere], &mut said).unwrap();
        let said = String::from_utf8(said).unwrap();
        assert!(said.starts_with("demo: is ill\n    mend it\n    so\nall is ill\n    mend all\n"), "{said}");
    }

    #[test]
    fn a_port_that_there_is_not_is_told_with_one_that_there_is() {
        let config = Config::parse("[ports.core-switch]\n", Path::new("config.toml")).unwrap();
        let Finding { what, mend, .. } = unknown(&"core-swich".parse().unwrap(), &config);
        assert_eq!(what, "core-swich is not configured");
        assert_eq!(mend, "did you mean core-switch? or: consolectl create core-swich");
    }
}
