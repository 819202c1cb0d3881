//! Names of the units of a port. A port that was renamed while it ran has units of another name: its instance.

use super::PortName;

impl PortName {
    pub fn service(&self) -> String {
        format!("console@{self}.service")
    }

    pub fn ssh_socket(&self) -> String {
        format!("console@{self}.socket")
    }

    pub fn local_socket(&self) -> String {
        format!("console-attach@{self}.socket")
    }

    /// The socket by which the port reaches the program that connects it to its source.
    pub fn source_socket(&self) -> String {
        format!("console-source@{self}.socket")
    }

    pub fn source_service(&self) -> String {
        format!("console-source@{self}.service")
    }

    /// The unit that watches for a device unknown to udev.
    pub fn path_unit(&self) -> String {
        format!("console@{self}.path")
    }

    /// The instance of a unit of a port; `None` if it is another unit.
    pub fn of_unit(unit: &str) -> Option<Self> {
        let instance = unit.strip_prefix("console@").or_else(|| unit.strip_prefix("console-attach@"))?;
        instance.rsplit_once('.')?.0.parse().ok()
    }
}
