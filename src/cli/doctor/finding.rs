//! A finding, and the port that it is about.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config;
use crate::port::PortName;

/// A problem and what fixes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Finding {
    /// The port; `None` = all ports.
    pub(in crate::cli) port: Option<PortName>,
    /// The problem, as a sentence.
    pub(in crate::cli) problem: String,
    /// What fixes it: commands, or a sentence.
    pub(in crate::cli) fix: String,
}

impl Finding {
    pub(super) fn everywhere(problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { port: None, problem: problem.into(), fix: fix.into() }
    }
}

pub(super) struct Subject<'a> {
    pub(super) name: &'a PortName,
    pub(super) unit: &'a PortName,
    pub(super) settings: &'a config::Port,
    pub(super) device: PathBuf,
    /// Whether the user named this port, rather than asking about all ports.
    pub(super) named: bool,
}

impl Subject<'_> {
    pub(super) fn logs(&self) -> PathBuf {
        Path::new("/var/log/consoleserver").join(self.name.as_str())
    }

    pub(super) fn finding(&self, problem: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { port: Some(self.name.clone()), problem: problem.into(), fix: fix.into() }
    }
}

/// Where to find the messages of a port.
pub(super) fn unit_journal(port: &PortName) -> String {
    format!("see journalctl -u console@{port}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::Config;

    pub(in crate::cli::doctor) fn subject<T>(check: impl FnOnce(&Subject<'_>) -> T) -> T {
        let config = Config::parse("[ports.demo]\n", Path::new("config.toml")).unwrap();
        let (name, settings) = config.ports.iter().next().unwrap();
        check(&Subject { name, unit: name, settings, device: config.device(name, settings), named: true })
    }
}
