//! Which ports a command means: its patterns, compared with the ports that exist.

use std::collections::BTreeSet;
use std::path::Path;

use super::client::{Client, CommandError, Done, Place};
use super::local;
use super::targets::Targets;
use super::tree::Target;
use crate::config::Config;
use crate::port::pattern::select_all;
use crate::port::{PortGroups, PortName, PortPattern};

/// The groups of the configuration. A file that cannot be read has none: the commands that need one report it as unknown.
pub(super) fn groups() -> PortGroups {
    PortGroups::new()
}

/// The names that patterns stand for without a look at what exists.
fn literal(patterns: &[PortPattern]) -> Option<Vec<PortName>> {
    let mut seen = BTreeSet::new();
    let names: Vec<_> = patterns.iter().map(PortPattern::literal).collect::<Option<_>>()?;
    Some(names.into_iter().filter(|name| seen.insert(*name)).cloned().collect())
}

/// `p01`, `2 ports (p01, p02)` or `48 ports (p01 … p48)`
pub(super) fn counted(ports: &[PortName]) -> String {
    match ports {
        [] => "no port".to_owned(),
        [only] => only.to_string(),
        [one, other] => format!("2 ports ({one}, {other})"),
        [first, .., last] => format!("{} ports ({first} … {last})", ports.len()),
    }
}

impl Place {
    /// The ports that are served here and are meant. Of a name, its beginning is enough if only one port begins so.
    pub(super) fn select(&self, patterns: &[PortPattern]) -> Done<Vec<PortName>> {
        if let Some(names) = literal(patterns) {
            return names.iter().map(|name| self.whole(name)).collect();
        }
        let served = local::served(&self.runtime)?;
        Ok(select_all(patterns, &served, &groups())?)
    }

    /// The one port that is meant, by a command that takes exactly one.
    pub(super) fn one(&self, command: &'static str, pattern: &PortPattern) -> Done<PortName> {
        match self.select(std::slice::from_ref(pattern))?.as_slice() {
            [port] => Ok(port.clone()),
            ports => {
                Err(CommandError::OnePort { command, pattern: pattern.to_string(), ports: counted(ports) })
            }
        }
    }
}

impl Client {
    /// The names of all ports; of the configuration file, where the service does not run.
    async fn existing(&self) -> Done<Vec<PortName>> {
        match self.names().await {
            Err(CommandError::Service(error)) if error.is_absence() => {
                Ok(Config::load_or_last_good(Path::new("/"))?.config.ports.into_keys().collect())
            }
            names => names,
        }
    }

    /// The ports that are meant by a command that changes or drives them. A single name is for the service to judge.
    pub(super) async fn select(&self, patterns: &[PortPattern]) -> Done<Vec<PortName>> {
        match literal(patterns).as_deref() {
            Some([only]) => Ok(vec![only.clone()]),
            _ => Ok(select_all(patterns, &self.existing().await?, &groups())?),
        }
    }

    /// The tables and ports that are meant by a command that changes nothing: the beginning of a name is enough.
    pub(super) async fn targets(&self, of: &[Targets]) -> Done<Vec<Target>> {
        let mut targets = Vec::new();
        let mut existing = None;
        for of in of {
            let found = match of {
                Targets::Table(table) => vec![table.clone()],
                Targets::Ports(pattern) => {
                    let existing = match &mut existing {
                        Some(existing) => existing,
                        none => none.insert(self.names().await?),
                    };
                    let ports = pattern.select_abbreviated(existing, &groups())?;
                    ports.into_iter().map(Target::Port).collect()
                }
            };
            for target in found {
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        Ok(targets)
    }
}
