//! The unit names of ports. systemd cannot rename a running unit, and the sessions of a port live in its
//! process: a port that is renamed stays in `console@OLD.service` until it is stopped or the machine reboots.
//! These ports are listed in the file of the running configuration, so that names and units change together.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::changes::RUNNING_FILE;
use super::file;
use crate::port::PortName;

/// Ports whose units have another name, with that name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Instances(BTreeMap<PortName, PortName>);

/// The part of the file that is read here.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    instances: Instances,
}

impl Instances {
    /// The instances of the machine below `root`. Empty if the file cannot be read: `Changes::read` reports the
    /// error.
    pub fn running(root: &Path) -> Self {
        Self::in_file(&root.join(RUNNING_FILE))
    }

    /// The instances of the machine with this runtime directory (`/run/consoleserver`).
    pub fn of_runtime(directory: &Path) -> Self {
        Path::new(RUNNING_FILE)
            .strip_prefix("run/consoleserver")
            .map(|file| Self::in_file(&directory.join(file)))
            .unwrap_or_default()
    }

    fn in_file(path: &Path) -> Self {
        let text = file::text(path).ok().flatten();
        text.and_then(|text| toml::from_str(&text).ok())
            .map(|File { instances }| instances)
            .unwrap_or_default()
    }

    /// The instance of a port's units: `console@INSTANCE.service`.
    pub fn of<'n>(&'n self, port: &'n PortName) -> &'n PortName {
        self.0.get(port).unwrap_or(port)
    }

    /// The port whose units have this instance name.
    pub fn port<'n>(&'n self, instance: &'n PortName) -> &'n PortName {
        self.0.iter().find(|(_, other)| *other == instance).map_or(instance, |(port, _)| port)
    }

    /// The port that runs in units of this name but has another name itself.
    pub fn other_in(&self, name: &PortName) -> Option<&PortName> {
        self.0.iter().find(|(port, instance)| *instance == name && *port != name).map(|(port, _)| port)
    }

    /// Sets the instance name of a port's units.
    pub fn set(&mut self, port: PortName, instance: PortName) {
        match port == instance {
            true => drop(self.0.remove(&port)),
            false => drop(self.0.insert(port, instance)),
        }
    }

    /// Removes the entries for which `keep(port, instance)` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&PortName, &PortName) -> bool) {
        self.0.retain(|port, instance| keep(port, instance));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&PortName, &PortName)> {
        self.0.iter()
    }

    /// Whether every port runs in units of its own name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(port: &str) -> PortName {
        port.parse().unwrap()
    }

    #[test]
    fn a_renamed_port_is_found_by_port_and_by_instance_name() {
        let mut instances = Instances::default();
        instances.set(name("new"), name("old"));
        assert_eq!((instances.of(&name("new")), instances.of(&name("x"))), (&name("old"), &name("x")));
        assert_eq!((instances.port(&name("old")), instances.port(&name("x"))), (&name("new"), &name("x")));
        assert_eq!(instances.other_in(&name("old")), Some(&name("new")));
        assert_eq!(instances.other_in(&name("new")), None);
        // Two ports that swapped names.
        instances.set(name("old"), name("new"));
        assert_eq!(
            (instances.port(&name("old")), instances.port(&name("new"))),
            (&name("new"), &name("old"))
        );
        instances.set(name("new"), name("new"));
        assert_eq!(instances.of(&name("new")), &name("new"));
    }

    #[test]
    fn instances_are_read_from_the_running_file() {
        let room = tempfile::tempdir().unwrap();
        assert!(Instances::of_runtime(room.path()).is_empty());
        std::fs::create_dir(room.path().join("admin")).unwrap();
        std::fs::write(room.path().join("admin/running.toml"), "[instances]\ncore = \"ttyUSB0\"\n").unwrap();
        assert_eq!(Instances::of_runtime(room.path()).of(&name("core")), &name("ttyUSB0"));
    }
}
