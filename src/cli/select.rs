//! Resolves the port patterns of a command to existing ports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::client::{Client, CommandError, Done, Endpoint};
use super::local;
use super::targets::Targets;
use super::tree::Target;
use super::value::Keys;
use crate::config::{Config, ConfigError, Loaded, Value};
use crate::port::pattern::select_all;
use crate::port::{GroupName, PortGroups, PortName, PortPattern};

/// The groups of a configuration, which is read only if one of the patterns refers to a group.
pub(super) fn groups_for(
    patterns: &[PortPattern],
    load: impl FnOnce() -> Result<Loaded, ConfigError>,
) -> Done<PortGroups> {
    match patterns.iter().any(|pattern| pattern.groups().next().is_some()) {
        true => Ok(load()?.config.port_groups),
        false => Ok(PortGroups::new()),
    }
}

/// The groups of console-admin's candidate.
pub(super) fn groups_of(keys: &Keys) -> PortGroups {
    let group = |(name, members): (&String, &Value)| {
        let words = members.as_array()?.iter().filter_map(Value::as_str);
        let patterns = words.map(str::parse).collect::<Result<Vec<PortPattern>, _>>();
        // console-admin has checked them.
        Some((name.parse().ok()?, patterns.ok()?))
    };
    keys.iter().filter_map(group).collect()
}

/// The names of patterns that are all plain names.
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

/// The ports of each group, or its error.
pub(super) fn selected(
    groups: &PortGroups,
    existing: &[PortName],
) -> BTreeMap<String, Result<Vec<PortName>, String>> {
    let select = |(name, _): (&GroupName, _)| {
        let pattern: PortPattern = format!("@{name}").parse().expect("the name of a group");
        (name.to_string(), pattern.select(existing, groups).map_err(|error| error.to_string()))
    };
    groups.iter().map(select).collect()
}

impl Endpoint {
    /// Resolves patterns to served ports. Names can be abbreviated as long as they are unique.
    pub(super) fn select(&self, patterns: &[PortPattern]) -> Done<Vec<PortName>> {
        if let Some(names) = literal(patterns) {
            return names.iter().map(|name| self.whole(name)).collect();
        }
        let served = local::served(&self.runtime)?;
        Ok(select_all(patterns, &served, &self.groups(patterns)?)?)
    }

    /// The groups of the configuration of these ports.
    pub(super) fn groups(&self, patterns: &[PortPattern]) -> Done<PortGroups> {
        groups_for(patterns, || match self.foreground {
            true => Config::load_file(&self.runtime.join("config.toml")),
            false => Config::load_or_last_good(Path::new("/")),
        })
    }

    /// Resolves the port of a command that takes exactly one.
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
    /// The names of all ports, from the configuration file if console-admin is not available.
    async fn existing(&self) -> Done<Vec<PortName>> {
        match self.names().await {
            Err(CommandError::Service(error)) if error.is_absence() => {
                Ok(Config::load_or_last_good(Path::new("/"))?.config.ports.into_keys().collect())
            }
            names => names,
        }
    }

    /// The groups that these patterns refer to, from the configuration file if console-admin is not available.
    pub(super) async fn groups(&self, patterns: &[PortPattern]) -> Done<PortGroups> {
        if !patterns.iter().any(|pattern| pattern.groups().next().is_some()) {
            return Ok(PortGroups::new());
        }
        let asked = async { Ok(self.service().await?.keys(&Target::Groups).await?) };
        match asked.await {
            Err(CommandError::Foreground(_)) => self.place.groups(patterns),
            Err(CommandError::Service(error)) if error.is_absence() => self.place.groups(patterns),
            keys => Ok(groups_of(&keys?.candidate)),
        }
    }

    /// Resolves the ports of a command that changes, starts or stops them. A single name is left to console-admin to check.
    pub(super) async fn select(&self, patterns: &[PortPattern]) -> Done<Vec<PortName>> {
        match literal(patterns).as_deref() {
            Some([only]) => Ok(vec![only.clone()]),
            _ => Ok(select_all(patterns, &self.existing().await?, &self.groups(patterns).await?)?),
        }
    }

    /// Resolves the tables and ports of a command that changes nothing: names can be abbreviated.
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
                    let groups = self.groups(std::slice::from_ref(pattern)).await?;
                    let ports = pattern.select_abbreviated(existing, &groups)?;
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
