//! `org.consoleserver1` as its clients see it: names, object paths, arguments and results.
//! org.consoleserver1(5) documents it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use zbus::zvariant::Type;
use zbus::{ObjectPath, OwnedObjectPath, OwnedVariant, Variant};

use crate::port::PortName;

pub const BUS_NAME: &str = "org.consoleserver1";
/// The object with `org.consoleserver1.Manager`; there is no object above it.
pub const OBJECT_PATH: &str = "/org/consoleserver1";
const PORT_PATH_PREFIX: &str = "/org/consoleserver1/port/";

/// Keys of the configuration by name, `log.type`. A key without a value and default is absent.
pub type Keys = HashMap<String, OwnedVariant>;

/// An uncommitted change. Values are in TOML syntax.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Change {
    /// `ports.ttyUSB0.baud`; `ports.ttyUSB0` for a port that was created or removed.
    pub key: String,
    /// The committed value; empty if there is none.
    pub old: String,
    /// The new value; empty if the key was unset or the port removed.
    pub new: String,
    pub who: String,
    /// Time, as RFC 3339.
    pub when: String,
}

/// The author of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct By {
    pub who: String,
    /// Address, terminal, or `local`.
    pub from: String,
    /// The systemd unit of the calling process; empty if unknown.
    pub session: String,
    /// The caller's unique bus name; empty for console-admin itself.
    pub caller: String,
}

/// A session at a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Session {
    pub user: String,
    /// Address, or `local`.
    pub from: String,
    /// Start, as RFC 3339.
    pub since: String,
    /// Whether the session has write access.
    pub writes: bool,
}

/// A port of any of the three configurations.
#[derive(Debug, Clone, Serialize, Deserialize, Type)]
pub struct ListedPort {
    pub path: OwnedObjectPath,
    pub name: String,
    /// The property `Unit`.
    pub unit: String,
    /// The keys of [`LISTED_KEYS`] that have a value: the running ones or, for a port that was never reloaded, the candidate's.
    pub keys: Keys,
}

/// The keys that a list of ports shows.
pub const LISTED_KEYS: [&str; 7] =
    ["description", "source", "baud", "bytesize", "parity", "stopbits", "escape"];

/// A port that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct RunningPort {
    pub name: String,
    /// The property `State`.
    pub state: String,
    /// The property `Counters`; empty if the port does not reply.
    pub counters: HashMap<String, u64>,
    pub sessions: Vec<Session>,
}

/// The object path of a port. Characters that D-Bus paths do not allow become `_xx` (as in
/// sd_bus_path_encode(3)).
pub fn port_path(port: &PortName) -> OwnedObjectPath {
    let mut path = PORT_PATH_PREFIX.to_owned();
    for (index, byte) in port.as_str().bytes().enumerate() {
        match byte {
            b'0'..=b'9' if index == 0 => path.push_str(&format!("_{byte:02x}")),
            _ if byte.is_ascii_alphanumeric() => path.push(char::from(byte)),
            _ => path.push_str(&format!("_{byte:02x}")),
        }
    }
    ObjectPath::try_from(path).expect("all characters are valid in a path").into()
}

/// The port of an object path; `None` if it is not the path of a port.
pub fn port_of(path: &str) -> Option<PortName> {
    let mut name = Vec::new();
    let mut rest = path.strip_prefix(PORT_PATH_PREFIX)?.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'_' => {
                let digits = [rest.next()?, rest.next()?];
                name.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
            }
            _ => name.push(byte),
        }
    }
    let port: PortName = std::str::from_utf8(&name).ok()?.parse().ok()?;
    (port_path(&port).as_str() == path).then_some(port)
}

/// `org.consoleserver1.Manager`: the members that our own programs use. A `revision` of 0 is not checked; any other must be the current one,
/// otherwise the call is rejected with the author of the change that came in between.
#[zbus::proxy(
    interface = "org.consoleserver1.Manager",
    default_service = "org.consoleserver1",
    default_path = "/org/consoleserver1"
)]
pub trait Manager {
    /// Creates a port: 9600 8N1, enabled, without a listener.
    fn create_port(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    /// Renames a port. It keeps its device, its log and, at the reload, its sessions.
    fn rename_port(&self, from: &str, to: &str, revision: u64) -> zbus::Result<OwnedObjectPath>;
    /// Creates a port with the settings of another one except `ssh_port` and `device`.
    fn copy_port(&self, from: &str, to: &str, revision: u64) -> zbus::Result<OwnedObjectPath>;
    /// Removes a port. Returns remarks, as `Set` does.
    fn remove_port(&self, name: &str) -> zbus::Result<Vec<String>>;
    /// Sets a key of the candidate. Returns one sentence for each uncommitted change of another user that it
    /// replaces. Without a port, `key` begins with its table: `server.ssh_port`, `defaults.baud`,
    /// `templates.cisco.baud`, which creates the template if necessary, or is a group of ports:
    /// `groups.core`.
    fn set(&self, port: &str, key: &str, value: &Variant<'_>, revision: u64) -> zbus::Result<Vec<String>>;
    /// Creates ports and sets keys (port, key, value), all or none. Returns remarks, as `Set` does.
    fn set_many(
        &self,
        ports: &[&str],
        values: &[(&str, &str, &Variant<'_>)],
        revision: u64,
    ) -> zbus::Result<Vec<String>>;
    /// Removes a key from the candidate, so that its default applies; or a group of ports, `groups.core`; or
    /// a template that no port uses, `templates.cisco`. Returns remarks, as `Set` does.
    fn unset(&self, port: &str, key: &str, revision: u64) -> zbus::Result<Vec<String>>;
    /// Removes keys (port, key) from the candidate, all or none. Returns remarks, as `Set` does.
    fn unset_many(&self, keys: &[(&str, &str)], revision: u64) -> zbus::Result<Vec<String>>;
    /// Removes ports, all or none. Returns remarks, as `Set` does.
    fn remove_ports(&self, names: &[&str], revision: u64) -> zbus::Result<Vec<String>>;
    /// Applies the candidate's settings of these ports together. Returns remarks, one sentence each.
    fn reload_ports(&self, names: &[&str]) -> zbus::Result<Vec<String>>;
    /// Applies all changes that are not of a single port: `[server]`, `[access]`, `[groups]`, `[defaults]`
    /// and the templates.
    /// Returns remarks, one sentence each.
    fn reload(&self) -> zbus::Result<Vec<String>>;
    /// Reloads all changes that were not reloaded, then writes all changes to the file. Returns remarks.
    fn commit(&self, revision: u64) -> zbus::Result<Vec<String>>;
    /// As `Commit`, rolled back unless `Confirm` is called in time.
    fn commit_confirmed(&self, revision: u64, seconds: u32) -> zbus::Result<Vec<String>>;
    /// As `Commit` and, unless `seconds` is 0, `CommitConfirmed`, of the caller's own changes only.
    /// Rejected if they depend on changes of others.
    fn commit_mine(&self, revision: u64, seconds: u32) -> zbus::Result<Vec<String>>;
    /// Confirms the commit of `CommitConfirmed`.
    fn confirm(&self) -> zbus::Result<()>;
    /// Discards all uncommitted changes, and reloads those that run. If a commit waits for `Confirm`, it is
    /// rolled back instead, and its changes are uncommitted again. Returns remarks.
    fn revert(&self) -> zbus::Result<Vec<String>>;
    /// All uncommitted changes, including those that run.
    fn changes(&self) -> zbus::Result<Vec<Change>>;
    /// State, counters and sessions of the ports that run, without their keys.
    fn running_ports(&self) -> zbus::Result<Vec<RunningPort>>;
    /// Whether the caller may change anything.
    fn may_administer(&self) -> zbus::Result<bool>;

    /// Keys of `[server]`, `[access]`, `[groups]`, `[defaults]` and the templates with the names of their
    /// tables, in the candidate.
    /// `templates.cisco` alone lists the ports that use it.
    #[zbus(property(emits_changed_signal = "false"))]
    fn candidate(&self) -> zbus::Result<Keys>;
    /// Likewise, in the running configuration.
    #[zbus(property(emits_changed_signal = "false"))]
    fn running(&self) -> zbus::Result<Keys>;
    /// Likewise, in the committed configuration.
    #[zbus(property(emits_changed_signal = "false"))]
    fn committed(&self) -> zbus::Result<Keys>;
    /// Number of uncommitted changes.
    #[zbus(property(emits_changed_signal = "false"))]
    fn uncommitted(&self) -> zbus::Result<u32>;
    /// Incremented with each change.
    #[zbus(property(emits_changed_signal = "false"))]
    fn revision(&self) -> zbus::Result<u64>;
    /// Keys that were also edited in the file, and errors in the file: one sentence each.
    #[zbus(property(emits_changed_signal = "false"))]
    fn conflicts(&self) -> zbus::Result<Vec<String>>;
    /// Seconds until a commit that waits for `Confirm` is rolled back; 0 = none waits.
    #[zbus(property(emits_changed_signal = "false"))]
    fn confirm_within(&self) -> zbus::Result<u32>;
    /// The last change: key, author, time (RFC 3339). Empty if there was none since boot.
    #[zbus(property(emits_changed_signal = "false"))]
    fn last_change(&self) -> zbus::Result<(String, String, String)>;
    /// The last commit: author, time (RFC 3339), number of changes. Empty if there was none.
    #[zbus(property(emits_changed_signal = "false"))]
    fn last_commit(&self) -> zbus::Result<(String, String, u32)>;
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn monitor_path(&self) -> zbus::Result<String>;
    /// TCP port of the admin CLI; 0 = none.
    #[zbus(property(emits_changed_signal = "false"))]
    fn ssh_port(&self) -> zbus::Result<u16>;
    #[zbus(property)]
    fn set_ssh_port(&self, value: u16) -> zbus::Result<()>;

    /// A change was made: `set`, `unset`, `create`, `remove`, `reload`, `commit`, `confirm`, `revert` or
    /// `rollback`; its author; the revision; key, old and new value of up to 16 keys, and the number of all;
    /// and a sentence about all of it.
    #[zbus(signal)]
    fn changed(
        &self,
        action: &str,
        by: By,
        revision: u64,
        keys: Vec<(String, String, String)>,
        count: u32,
        text: &str,
    ) -> zbus::Result<()>;
}

/// `org.consoleserver1.Port`: the members that our own programs use.
#[zbus::proxy(interface = "org.consoleserver1.Port", default_service = "org.consoleserver1")]
pub trait Port {
    /// Opens a configured port and its listeners now, even if it is not enabled.
    fn start(&self) -> zbus::Result<()>;
    /// Closes the port and its listeners.
    fn stop(&self) -> zbus::Result<()>;
    /// Applies the candidate's settings of this port. Returns remarks: settings that the driver rejected,
    /// units that were restarted.
    fn reload(&self) -> zbus::Result<Vec<String>>;
    /// Sends a break of this duration.
    fn send_break(&self, milliseconds: u32) -> zbus::Result<()>;
    fn send_named_break(&self, name: &str) -> zbus::Result<()>;
    /// Runs `console-power@PORT:VERB.service`; `verb` is `on`, `off`, `cycle` or `status`. Returns its output.
    fn power(&self, verb: &str) -> zbus::Result<String>;
    /// The attached sessions.
    fn sessions(&self) -> zbus::Result<Vec<Session>>;
    /// Disconnects the sessions of a user. Returns their number.
    fn disconnect(&self, user: &str) -> zbus::Result<u32>;

    /// All keys in the candidate; empty if the port is to be removed.
    #[zbus(property(emits_changed_signal = "false"))]
    fn candidate(&self) -> zbus::Result<Keys>;
    /// The table that each key of the candidate comes from: `port`, `template NAME`, `defaults`, or
    /// `built-in`.
    #[zbus(property(emits_changed_signal = "false"))]
    fn origins(&self) -> zbus::Result<HashMap<String, String>>;
    /// All keys in the running configuration; empty if the port was never reloaded.
    #[zbus(property(emits_changed_signal = "false"))]
    fn running(&self) -> zbus::Result<Keys>;
    /// All keys in the committed configuration; empty if the port is not in it.
    #[zbus(property(emits_changed_signal = "false"))]
    fn committed(&self) -> zbus::Result<Keys>;
    /// A word or a sentence: `open`, `unplugged since …`, `not running`, or why the device cannot be opened.
    #[zbus(property(emits_changed_signal = "false"))]
    fn state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn baud(&self) -> zbus::Result<u32>;
    /// `ssh_port` of the candidate; 0 = none.
    #[zbus(property(emits_changed_signal = "false"))]
    fn ssh_port(&self) -> zbus::Result<u16>;
    #[zbus(property)]
    fn set_ssh_port(&self, value: u16) -> zbus::Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_a_path_that_leads_back_to_it() {
        for (name, path) in [
            ("ttyUSB0", "/org/consoleserver1/port/ttyUSB0"),
            ("core-switch", "/org/consoleserver1/port/core_2dswitch"),
            ("1.a_b", "/org/consoleserver1/port/_31_2ea_5fb"),
        ] {
            let port: PortName = name.parse().unwrap();
            assert_eq!(port_path(&port).as_str(), path);
            assert_eq!(port_of(path), Some(port));
        }
        for path in
            ["/org/consoleserver1/port/", "/org/consoleserver1/port/_zz", "/org/consoleserver1/port/_61"]
        {
            assert_eq!(port_of(path), None, "{path}");
        }
    }
}
