//! The ports that commands use over their own sockets, and the resolution of patterns to them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::{CommandError, Done};
use super::former::Former;
use super::local;
use super::select::{have_groups, literal};
use super::service::{ServiceError, unknown_port};
use super::summary::counted;
use crate::config::Config;
use crate::port::pattern::select_all;
use crate::port::{PortGroups, PortName, PortPattern};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// One port, by its name.
    One(PortName),
    /// The ports of a list, a range, a pattern or a group, even if there is only one.
    Several(Vec<PortName>),
}

/// The ports that commands use: those of systemd, or of a foreground program.
#[derive(Debug)]
pub struct Endpoint {
    /// The directory of their sockets.
    pub runtime: PathBuf,
    /// The directory of their logs, if it is known.
    pub logs: Option<PathBuf>,
    /// Whether a foreground program serves them.
    pub(super) foreground: bool,
}

impl Endpoint {
    /// The ports of systemd, unless a directory is given or a foreground program runs.
    pub fn new(given: Option<PathBuf>, logs: Option<PathBuf>) -> Self {
        // systemd also sets this variable for services with their own runtime directory, which is ignored.
        let ours = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
        let given = given.or(ours.filter(|directory| local::marks(directory).exists()));
        let foreground = given.is_some();
        let runtime = given.unwrap_or_else(|| crate::system::systemd::RUNTIME_DIRECTORY.into());
        // A foreground program has its own log directory.
        let logs = logs.or((runtime.as_path() == crate::system::systemd::RUNTIME_DIRECTORY)
            .then(|| local::LOG_DIRECTORY.into()));
        Self { foreground: foreground || local::marks(&runtime).exists(), runtime, logs }
    }

    /// Resolves a name or unique abbreviation to a served port.
    pub(super) fn whole(&self, port: &PortName) -> Done<PortName> {
        // Even if the directory cannot be listed, the socket may be accessible.
        let Ok(served) = local::served(&self.runtime) else { return Ok(port.clone()) };
        if served.contains(port) {
            return Ok(port.clone());
        }
        let renamed = self.logs.as_deref().and_then(|logs| Former::renamed(logs, port));
        if let Some(now) = renamed.filter(|now| served.contains(now)) {
            // Ignored if standard error is closed.
            let _ = writeln!(io::stderr(), "{port} was renamed to {now}");
            return Ok(now);
        }
        let unknown = unknown_port(port, &served);
        if let ServiceError::UnknownPort { whole: Some(whole), .. } = unknown {
            return Ok(whole);
        }
        // (The foreground program has its own configuration file.)
        let configured = || {
            let loaded = Config::load_or_last_good(Path::new("/"));
            loaded.is_ok_and(|loaded| loaded.config.ports.contains_key(port))
        };
        match !self.foreground && configured() {
            true => Err(CommandError::NotServed(port.clone())),
            false => Err(unknown.into()),
        }
    }

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
        if !have_groups(patterns) {
            return Ok(PortGroups::new());
        }
        let loaded = match self.foreground {
            true => Config::load_file(&self.runtime.join("config.toml")),
            false => Config::load_or_last_good(Path::new("/")),
        };
        Ok(loaded?.config.port_groups)
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

    /// Resolves the ports of a command that uses them. A pattern includes ports that are configured but closed, so that they are
    /// reported rather than skipped.
    pub(super) fn selection(&self, pattern: &PortPattern) -> Done<Selection> {
        match pattern.literal() {
            Some(port) => Ok(Selection::One(self.whole(port)?)),
            None => Ok(Selection::Several(self.select_known(pattern, self.known()?)?)),
        }
    }

    /// Resolves several patterns; each port once.
    pub(super) fn selections(&self, patterns: &[PortPattern]) -> Done<Vec<PortName>> {
        each_once(patterns.iter().map(|pattern| self.selection(pattern)))
    }

    /// Resolves the ports of a command that reads logs, which includes ports that are not served.
    pub(super) fn with_log(&self, pattern: &PortPattern) -> Done<Selection> {
        let Some(port) = pattern.literal() else {
            // (A log directory that the caller may not list is skipped; served ports read their own logs.)
            let former =
                self.logs.as_deref().map_or_else(Vec::new, |logs| Former::all(logs, &[]).unwrap_or_default());
            let former = former.into_iter().map(|former| former.port);
            let known = self.known()?.into_iter().chain(former).collect();
            return Ok(Selection::Several(self.select_known(pattern, known)?));
        };
        match self.whole(port) {
            Err(_) if self.logs.as_deref().is_some_and(|logs| Former::find(logs, port).is_some()) => {
                Ok(Selection::One(port.clone()))
            }
            whole => Ok(Selection::One(whole?)),
        }
    }

    /// The same for several patterns; each port once. An unknown name is kept, since there may be a log of it.
    pub(super) fn all_with_log(&self, patterns: &[PortPattern]) -> Done<Vec<PortName>> {
        each_once(patterns.iter().map(|pattern| match (self.with_log(pattern), pattern.literal()) {
            (Err(_), Some(port)) => Ok(Selection::One(port.clone())),
            (selection, _) => selection,
        }))
    }

    /// The ports that are served or configured.
    fn known(&self) -> Done<Vec<PortName>> {
        let mut known = local::served(&self.runtime)?;
        // (The foreground program has its own configuration file.)
        if !self.foreground
            && let Ok(loaded) = Config::load_or_last_good(Path::new("/"))
        {
            known.extend(loaded.config.ports.into_keys());
        }
        Ok(known)
    }

    fn select_known(&self, pattern: &PortPattern, mut known: Vec<PortName>) -> Done<Vec<PortName>> {
        known.sort();
        known.dedup();
        Ok(pattern.select_abbreviated(&known, &self.groups(std::slice::from_ref(pattern))?)?)
    }
}

fn each_once(selections: impl Iterator<Item = Done<Selection>>) -> Done<Vec<PortName>> {
    let mut ports = Vec::new();
    for selection in selections {
        let more = match selection? {
            Selection::One(port) => vec![port],
            Selection::Several(ports) => ports,
        };
        for port in more {
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
    }
    Ok(ports)
}
