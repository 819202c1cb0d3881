//! `doctor`: diagnoses why a port does not work, and prints what fixes it. Each file checks one thing, as far as the caller may see it:
//! the device, the processes that hold it, the units, the log, the firewall. Nothing is changed, and no port is started.

pub(in crate::cli) mod config_file;
mod device;
pub(in crate::cli) mod finding;
mod firewall;
#[cfg(test)]
#[path = "tests.rs"]
mod golden;
mod holder;
mod host_keys;
mod identity;
mod key_sources;
mod log;
mod metrics;
mod observation;
mod processes;
mod systemd;
mod ttys;
mod units;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use nix::unistd::geteuid;

use super::args::Output;
use super::bounded::{self, NoAnswer};
use super::endpoint::Endpoint;
use super::error::{CommandError, Done};
use super::listing;
use crate::attach::client::{self, AttachError};
use crate::config::{Config, ConfigError, Loaded, LogType};
use crate::exec;
use crate::fleet;
use crate::port::nearest::{either, nearest};
use crate::port::{PortName, PortPattern};
use finding::{Finding, Subject, unit_journal};
use observation::Observation;

/// The commands that apply a corrected file. Sessions are kept.
const APPLY_COMMANDS: &str = "consolectl check; consolectl reload";
/// Lines of a log that are checked.
const LOG_LINES: u32 = 200;

/// Ports that are queried concurrently.
const AT_ONCE: usize = 64;
/// Time for a disk to report its free space.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Doctor {
    /// Ports; default: all
    #[arg(id = "port", value_name = "PORT")]
    pub ports: Vec<PortPattern>,
    #[command(flatten)]
    pub output: Output,
}

/// Diagnoses these ports, or all if there are none, and prints the findings: whether there are none.
pub(super) fn run(Doctor { ports, output }: Doctor, endpoint: &Endpoint, to: &mut impl Write) -> Done<bool> {
    if endpoint.foreground {
        return Err(CommandError::Foreground(endpoint.runtime.clone()));
    }
    let findings = examine(&endpoint.runtime, &configured(&ports)?);
    match output.json {
        true => listing::json(&findings, to)?,
        false => print(&findings, to)?,
    }
    Ok(findings.is_empty())
}

/// Resolves patterns to ports of the configuration file.
fn configured(patterns: &[PortPattern]) -> Done<Vec<PortName>> {
    let mut ports = Vec::new();
    for pattern in patterns {
        ports.extend(match pattern.literal() {
            Some(port) => vec![port.clone()],
            None => {
                let config = Config::load_or_last_good(Path::new("/"))?.config;
                let names: Vec<PortName> = config.ports.into_keys().collect();
                pattern.select(&names, &config.port_groups)?
            }
        });
    }
    Ok(ports)
}

fn print(findings: &[Finding], to: &mut impl Write) -> io::Result<()> {
    for Finding { port, problem, fix } in findings {
        let label = port.as_ref().map(|port| format!("{port}: ")).unwrap_or_default();
        writeln!(to, "{label}{problem}")?;
        for line in fix.lines() {
            writeln!(to, "    {line}")?;
        }
    }
    if findings.is_empty() {
        writeln!(to, "no problems found")?;
    }
    if !geteuid().is_root() {
        writeln!(
            to,
            "(run as root to check also which process holds a device or a TCP port, and the firewall)"
        )?;
    }
    Ok(())
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
    let subjects: Vec<_> = asked
        .map(|(name, settings)| {
            let device = config.device(name, settings);
            Subject { name, unit: config.instances.of(name), settings, device, named: !ports.is_empty() }
        })
        .collect();
    let observed = Observation::new(runtime, &config, &subjects);
    let taken = units::admin_listener(&observed, &config);
    let mut of_units = units::everywhere(&observed);
    // The TCP port that is in use explains the failure of the socket.
    of_units.retain(|found| taken.is_none() || !found.problem.starts_with("console-cli.socket has failed"));
    findings.extend(of_units.into_iter().chain(taken));
    findings.extend(units::unconfigured(&observed, &config));
    findings.extend(units::removed(runtime, &observed));
    findings.extend(metrics::check(&observed));
    findings.extend(config_file::check(&file));
    findings.extend(config_file::writable(&file));
    // A machine that leads to the ports of others may have none.
    if config.ports.is_empty() && !Path::new("/etc/consoleserver/hosts.toml").exists() {
        findings.push(config_file::without_ports(&file));
    }
    findings.extend(config_file::ignored(Path::new("/")).iter().map(|path| config_file::not_read(path)));
    findings.extend(device::without_driver());
    findings.extend(host_keys::check(&observed));
    // This machine's sshd does not matter for the foreground program.
    if observed.units.state("consoleserver.target").is_some() {
        findings.extend(key_sources::check(&config.access, &file));
    }
    if ports.is_empty() {
        findings.extend(identity::unserved(&observed));
    }
    let published = fleet::remarks(Path::new("/")).into_iter();
    let published = published.map(|fleet::Remark { port, problem, fix }| Finding { port, problem, fix });
    findings.extend(published.filter(|Finding { port, .. }| {
        ports.is_empty() || port.as_ref().is_none_or(|port| ports.contains(port))
    }));
    let logs: Vec<PathBuf> = subjects.iter().map(Subject::logs).collect();
    let spaces = bounded::space_of(&logs, DISK_TIMEOUT);
    let all: Vec<_> = subjects.iter().zip(&spaces).collect();
    let logged = bounded::each_at_once(&all, AT_ONCE, |(subject, space)| match space {
        // The port would hang on reading its log.
        Err(NoAnswer::Timeout(_)) => Vec::new(),
        _ => examine_log(runtime, &observed, subject),
    });
    for (((subject, directory), space), logged) in subjects.iter().zip(&logs).zip(&spaces).zip(logged) {
        findings.extend(examine_port(&observed, subject));
        findings.extend(log::disk(directory, space, subject));
        findings.extend(logged.unwrap_or_default());
    }
    findings
}

fn stale(fault: &ConfigError) -> Finding {
    Finding::everywhere(
        format!("the configuration is invalid, and the last valid one is in use: {fault}"),
        format!("correct the file, then: {APPLY_COMMANDS}"),
    )
}

fn broken(error: &ConfigError) -> Finding {
    let problem = format!("the configuration is invalid and not in use: {error}");
    Finding::everywhere(problem, format!("correct the file, then: {APPLY_COMMANDS}"))
}

fn unknown(port: &PortName, config: &Config) -> Finding {
    let names: Vec<String> = config.ports.keys().map(ToString::to_string).collect();
    let fix = match nearest(port.as_str(), names.iter().map(String::as_str)).as_slice() {
        [] => format!("consolectl create {port}"),
        near => format!("did you mean {}? To create it: consolectl create {port}", either(near)),
    };
    Finding::everywhere(format!("{port} is not configured"), fix)
}

fn examine_port(observed: &Observation, subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    if subject.settings.source.is_none() {
        findings.extend(identity::check(observed, subject));
        // A device that belongs to another port is not this one's problem.
        if !identity::is_anothers(observed, subject) {
            findings.extend(device::check(observed, subject));
            findings.extend(holder::check(observed, subject));
        }
    }
    let of_units = units::check(observed, subject);
    // The status repeats what was found about the device.
    let is_new = |found: &Finding| !findings.iter().any(|before| found.problem == before.problem);
    let of_units: Vec<Finding> = of_units.into_iter().filter(is_new).collect();
    findings.extend(of_units);
    findings.extend(firewall::check(subject));
    findings
}

/// Checks the log of a port.
fn examine_log(runtime: &Path, observed: &Observation, subject: &Subject<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    // (Not for an idle port, which the query would start, or one between two failures, which does not answer.)
    let is_served = observed.running.contains(subject.name)
        && observed.units.state(&subject.unit.service()).is_some_and(units::is_active);
    if subject.settings.log.kind == LogType::Text && is_served {
        match sample(runtime, subject.name) {
            Ok(sample) => findings.extend(log::check(&sample, jiff::Timestamp::now(), subject)),
            // Users without access to the port may not read its log.
            Err(AttachError::Rejected(_)) => {}
            Err(error) => findings.push(subject.finding(error.to_string(), unit_journal(subject.unit))),
        }
    }
    findings
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
    use super::finding::tests::subject;
    use super::*;

    #[test]
    fn a_finding_is_printed_with_its_port_and_fix() {
        let finding = subject(|subject| subject.finding("is broken", "fix it\nso"));
        let everywhere = Finding::everywhere("all is broken", "fix all");
        let mut printed = Vec::new();
        print(&[finding, everywhere], &mut printed).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        assert!(
            printed.starts_with("demo: is broken\n    fix it\n    so\nall is broken\n    fix all\n"),
            "{printed}"
        );
    }

    #[test]
    fn an_unknown_port_is_reported_with_the_nearest_one() {
        let config = Config::parse("[ports.core-switch]\n", Path::new("config.toml")).unwrap();
        let Finding { problem, fix, .. } = unknown(&"core-swich".parse().unwrap(), &config);
        assert_eq!(problem, "core-swich is not configured");
        assert_eq!(fix, "did you mean core-switch? To create it: consolectl create core-swich");
    }
}
