//! `doctor`: why a port does not work, and what would mend it. Each room looks at one thing as far as the caller may see
//! it: the device, who holds it, the units, what the port has logged, the firewall. Nothing is changed, and no port is
//! started.

mod device;
mod firewall;
mod holder;
mod log;
mod units;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use serde::Serialize;

use super::local;
use super::value::similar;
use crate::attach::client::{self, AttachError};
use crate::config::{self, Config, ConfigError, LogType};
use crate::exec;
use crate::port::PortName;
use holder::Process;
use units::Units;

/// Lines of a log that are looked at.
const LINES: u32 = 200;

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
struct Patient<'a> {
    name: &'a PortName,
    settings: &'a config::Port,
    device: PathBuf,
    /// Whether it was asked about, or is one of all.
    named: bool,
}

impl Patient<'_> {
    fn finding(&self, what: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { port: Some(self.name.clone()), what: what.into(), mend: mend.into() }
    }
}

/// Looks at a port, or at all of them, and says what is wrong. Whether nothing is.
pub fn run(runtime: &Path, port: Option<&PortName>, json: bool, to: &mut impl Write) -> io::Result<bool> {
    let findings = examine(runtime, port);
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
struct Sight {
    units: Units,
    processes: Vec<Process>,
}

impl Sight {
    fn new(patients: &[Patient<'_>]) -> Self {
        let mut units = vec!["consoleserver.target".to_owned()];
        for Patient { name, device, .. } in patients {
            let getty = format!("serial-getty@{}.service", device::kernel_name(device));
            units.extend([format!("console@{name}.service"), format!("console@{name}.socket"), getty]);
        }
        Self { units: Units::ask(&units), processes: holder::processes() }
    }
}

fn examine(runtime: &Path, port: Option<&PortName>) -> Vec<Finding> {
    let config = match Config::load(Path::new("/")) {
        Ok(loaded) => loaded.config,
        Err(error) => return vec![broken(&error)],
    };
    let mut findings: Vec<Finding> = Vec::new();
    if let Some(port) = port
        && !config.ports.contains_key(port)
    {
        findings.push(unknown(port, &config));
    }
    let asked = config.ports.iter().filter(|(name, _)| port.is_none_or(|port| port == *name));
    let patients: Vec<_> = asked
        .map(|(name, settings)| {
            let device = config.device(name, settings);
            Patient { name, settings, device, named: port.is_some() }
        })
        .collect();
    let sight = Sight::new(&patients);
    findings.extend(units::everywhere(&sight));
    findings.extend(device::without_driver());
    findings.extend(patients.iter().flat_map(|patient| examine_port(runtime, &sight, patient)));
    findings
}

fn broken(error: &ConfigError) -> Finding {
    let what = format!("the configuration is wrong, so nothing of it is in force: {error}");
    Finding::everywhere(
        what,
        "mend the file, then: systemctl daemon-reload; systemctl restart consoleserver.target",
    )
}

fn unknown(port: &PortName, config: &Config) -> Finding {
    let names: Vec<String> = config.ports.keys().map(ToString::to_string).collect();
    let mend = match similar(port.as_str(), names.iter().map(String::as_str)) {
        Some(like) => format!("did you mean {like}? or: consolectl create {port}"),
        None => format!("consolectl create {port}"),
    };
    Finding::everywhere(format!("{port} is not configured"), mend)
}

fn examine_port(runtime: &Path, sight: &Sight, patient: &Patient<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    findings.extend(device::look(patient));
    findings.extend(holder::look(sight, patient));
    findings.extend(units::look(sight, patient));
    findings.extend(log::disk(&Path::new("/var/log/consoleserver").join(patient.name.as_str()), patient));
    findings.extend(firewall::look(patient));
    // (Not of a port that sleeps: a look starts none.)
    if patient.settings.log.kind == LogType::Text && local::runs(runtime, patient.name) {
        match sample(runtime, patient.name) {
            Ok(sample) => findings.extend(log::look(&sample, jiff::Timestamp::now(), patient)),
            // Whoever may not use the port does not see what it says.
            Err(AttachError::Refused(_)) => {}
            Err(error) => findings.push(patient.finding(error.to_string(), unit_journal(patient.name))),
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
        exec::Command::Log { lines: Some(LINES), since: None, until: None, follow: false, raw: true };
    client::run(runtime, port, command, &mut sample)?;
    Ok(String::from_utf8_lossy(&sample).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port to look at.
    pub(super) fn patient<T>(look: impl FnOnce(&Patient<'_>) -> T) -> T {
        let config = Config::parse("[ports.demo]\n", Path::new("config.toml")).unwrap();
        let (name, settings) = config.ports.iter().next().unwrap();
        look(&Patient { name, settings, device: config.device(name, settings), named: true })
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
