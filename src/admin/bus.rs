//! `org.consoleserver1` as its callers see it: names, object paths, what calls take and return. `man org.consoleserver1` is
//! the same for people.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use zbus::zvariant::Type;
use zbus::{ObjectPath, OwnedObjectPath, OwnedVariant, Variant};

use crate::port::PortName;

/// The name on the bus.
pub const BUS_NAME: &str = "org.consoleserver1";
/// The object with `org.consoleserver1.Manager`, above which nothing of ours is.
pub const OBJECT_PATH: &str = "/org/consoleserver1";
const PORT_PATH_PREFIX: &str = "/org/consoleserver1/port/";

/// Keys of DESIGN's configuration, `log.type`, by name. A key that is absent in the file and has no default is absent here.
pub type Keys = HashMap<String, OwnedVariant>;

/// A change that is not committed: everything as text, values as TOML writes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Change {
    /// `ports.ttyUSB0.baud`; of a port created or removed, `ports.ttyUSB0`.
    pub key: String,
    /// The committed value; empty if there is none.
    pub old: String,
    /// The new value; empty if the key is unset, or the port removed.
    pub new: String,
    /// Who has changed it.
    pub who: String,
    /// When, as RFC 3339 writes it.
    pub when: String,
}

/// Who has changed something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct By {
    /// User name.
    pub who: String,
    /// Address, terminal, or `local`.
    pub from: String,
    /// The systemd unit of the calling process; empty if it is not known.
    pub session: String,
    /// The caller's name on the bus; empty for console-admin itself.
    pub caller: String,
}

/// Somebody at a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Type)]
pub struct Session {
    /// Login name.
    pub user: String,
    /// Address, or `local`.
    pub from: String,
    /// Since when, as RFC 3339 writes it.
    pub since: String,
    /// Whether this one writes.
    pub writes: bool,
}

/// The object of a port. What D-Bus takes in a path stays, the rest becomes `_xx` (as `sd_bus_path_encode(3)` does it).
pub fn port_path(port: &PortName) -> OwnedObjectPath {
    let mut path = PORT_PATH_PREFIX.to_owned();
    for (index, byte) in port.as_str().bytes().enumerate() {
        match byte {
            b'0'..=b'9' if index == 0 => path.push_str(&format!("_{byte:02x}")),
            _ if byte.is_ascii_alphanumeric() => path.push(char::from(byte)),
            _ => path.push_str(&format!("_{byte:02x}")),
        }
    }
    ObjectPath::try_from(path).expect("made of what a path may have").into()
}

/// The port of an object path; `None` if it is none of ours.
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

/// `org.consoleserver1.Manager`. A `revision` of 0 is not checked; any other must be that of the last change, or the call is
/// refused and says whose change came between.
#[zbus::proxy(
    interface = "org.consoleserver1.Manager",
    default_service = "org.consoleserver1",
    default_path = "/org/consoleserver1"
)]
pub trait Manager {
    /// A new port: 9600 8N1, enabled, without a listener.
    fn create_port(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    /// Gives a port another name. Its device stays, its log goes along, and so do its sessions at the reload.
    fn rename_port(&self, from: &str, to: &str, revision: u64) -> zbus::Result<OwnedObjectPath>;
    /// A new port with the settings of another one, but `ssh_port` and `device`.
    fn copy_port(&self, from: &str, to: &str, revision: u64) -> zbus::Result<OwnedObjectPath>;
    /// Takes a port out. Returns remarks, as `Set` does.
    fn remove_port(&self, name: &str) -> zbus::Result<Vec<String>>;
    /// Sets a key of the candidate. Returns what it has replaced of other people's uncommitted changes, a sentence each. Without a
    /// port, `key` begins with its table: `server.ssh_port`, `defaults.baud`, `templates.cisco.baud`, which makes the template if it
    /// is not there, or is a group of ports: `groups.core`.
    fn set(&self, port: &str, key: &str, value: &Variant<'_>, revision: u64) -> zbus::Result<Vec<String>>;
    /// Makes ports and sets keys (port, key, value), all of it or nothing. Returns remarks, as `Set` does.
    fn set_many(
        &self,
        ports: &[&str],
        values: &[(&str, &str, &Variant<'_>)],
        revision: u64,
    ) -> zbus::Result<Vec<String>>;
    /// Takes a key out of the candidate, so that its default holds; or a group of ports, `groups.core`; or a whole template,
    /// `templates.cisco`, that no port is like. Returns remarks, as `Set` does.
    fn unset(&self, port: &str, key: &str, revision: u64) -> zbus::Result<Vec<String>>;
    /// Takes keys (port, key) out of the candidate: all of them or none. Returns remarks, as `Set` does.
    fn unset_many(&self, keys: &[(&str, &str)], revision: u64) -> zbus::Result<Vec<String>>;
    /// Takes ports out: all of them or none. Returns remarks, as `Set` does.
    fn remove_ports(&self, names: &[&str], revision: u64) -> zbus::Result<Vec<String>>;
    /// Applies the candidate's settings of these ports together. Returns remarks, a sentence each.
    fn reload_ports(&self, names: &[&str]) -> zbus::Result<Vec<String>>;
    /// Applies the changes of everything that is not of one port: `[server]`, `[access]`, `[groups]`, `[defaults]` and the templates.
    /// Returns remarks, a sentence each.
    fn reload(&self) -> zbus::Result<Vec<String>>;
    /// Reloads what was changed and not reloaded, then writes every change to the disk. Returns remarks.
    fn commit(&self, revision: u64) -> zbus::Result<Vec<String>>;
    /// As `Commit`, and back to what was before unless `Confirm` is called in time.
    fn commit_confirmed(&self, revision: u64, seconds: u32) -> zbus::Result<Vec<String>>;
    /// As the two, of the caller's own changes alone; with 0 seconds they stay. Refused where they depend on those of others.
    fn commit_mine(&self, revision: u64, seconds: u32) -> zbus::Result<Vec<String>>;
    /// Keeps what `CommitConfirmed` has committed.
    fn confirm(&self) -> zbus::Result<()>;
    /// Forgets every change that is not committed, and reloads what runs with one. If a commit waits for `Confirm`, that goes back instead, and
    /// its changes are uncommitted again. Returns remarks.
    fn revert(&self) -> zbus::Result<Vec<String>>;
    /// Every change that is not committed, those that run already included.
    fn changes(&self) -> zbus::Result<Vec<Change>>;
    /// Whether the caller may change anything.
    fn may_administer(&self) -> zbus::Result<bool>;

    /// Keys of `[server]`, `[access]`, `[groups]`, `[defaults]` and the templates with their tables' names, as the next reload would
    /// have them. `templates.cisco` alone has the ports that are like it.
    #[zbus(property(emits_changed_signal = "false"))]
    fn candidate(&self) -> zbus::Result<Keys>;
    /// As they run.
    #[zbus(property(emits_changed_signal = "false"))]
    fn running(&self) -> zbus::Result<Keys>;
    /// As they are on the disk.
    #[zbus(property(emits_changed_signal = "false"))]
    fn committed(&self) -> zbus::Result<Keys>;
    /// How many changes are not committed.
    #[zbus(property(emits_changed_signal = "false"))]
    fn uncommitted(&self) -> zbus::Result<u32>;
    /// Goes up with each change.
    #[zbus(property(emits_changed_signal = "false"))]
    fn revision(&self) -> zbus::Result<u64>;
    /// Keys that were also edited on the disk meanwhile, and what is wrong there: a sentence each.
    #[zbus(property(emits_changed_signal = "false"))]
    fn conflicts(&self) -> zbus::Result<Vec<String>>;
    /// Seconds until a commit that waits for `Confirm` is rolled back; 0 if none does.
    #[zbus(property(emits_changed_signal = "false"))]
    fn confirm_within(&self) -> zbus::Result<u32>;
    /// The last change: its key, who, when (RFC 3339). Empty since a boot.
    #[zbus(property(emits_changed_signal = "false"))]
    fn last_change(&self) -> zbus::Result<(String, String, String)>;
    /// The last commit: who, when (RFC 3339), of how many changes. Empty if there was none.
    #[zbus(property(emits_changed_signal = "false"))]
    fn last_commit(&self) -> zbus::Result<(String, String, u32)>;
    /// The program's version.
    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> zbus::Result<String>;
    /// `server.monitor`.
    #[zbus(property(emits_changed_signal = "false"))]
    fn monitor_path(&self) -> zbus::Result<String>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_monitor_path(&self, value: &str) -> zbus::Result<()>;
    /// TCP port of the admin CLI; 0 = none.
    #[zbus(property(emits_changed_signal = "false"))]
    fn ssh_port(&self) -> zbus::Result<u16>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_ssh_port(&self, value: u16) -> zbus::Result<()>;
    /// `server.listen`.
    #[zbus(property(emits_changed_signal = "false"))]
    fn listen(&self) -> zbus::Result<Vec<String>>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_listen(&self, value: &[&str]) -> zbus::Result<()>;
    /// `access.groups`.
    #[zbus(property(emits_changed_signal = "false"))]
    fn access_groups(&self) -> zbus::Result<Vec<String>>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_access_groups(&self, value: &[&str]) -> zbus::Result<()>;

    /// Somebody has changed something: `set`, `unset`, `create`, `remove`, `reload`, `commit`, `confirm`, `revert` or `rollback`; who, from
    /// where, in which session (a unit), by which name on the bus; the revision; key, old and new value of up to 16 keys, and of how many
    /// it was; and all of it as a sentence.
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

    /// A port has seen what it was to look for.
    #[zbus(signal)]
    fn triggered(&self, port: &str, rule: &str, line: &str) -> zbus::Result<()>;
}

/// `org.consoleserver1.Port`.
#[zbus::proxy(interface = "org.consoleserver1.Port", default_service = "org.consoleserver1")]
pub trait Port {
    /// Opens a configured port now, enabled or not, and its listeners.
    fn start(&self) -> zbus::Result<()>;
    /// Closes it, and its listeners.
    fn stop(&self) -> zbus::Result<()>;
    /// Applies the candidate's settings of this port. Returns remarks: what the driver refused, what was restarted.
    fn reload(&self) -> zbus::Result<Vec<String>>;
    /// Sends a break of so many milliseconds.
    fn send_break(&self, milliseconds: u32) -> zbus::Result<()>;
    /// Who is attached.
    fn sessions(&self) -> zbus::Result<Vec<Session>>;
    /// Ends the sessions of a user: how many.
    fn disconnect(&self, user: &str) -> zbus::Result<u32>;

    /// All keys as the next reload would have them; empty if the port is to be removed.
    #[zbus(property(emits_changed_signal = "false"))]
    fn candidate(&self) -> zbus::Result<Keys>;
    /// Which table each key of the candidate is from: `port`, `template NAME`, `defaults`, or `built-in` for none.
    #[zbus(property(emits_changed_signal = "false"))]
    fn origins(&self) -> zbus::Result<HashMap<String, String>>;
    /// All keys as they run; empty if the port was never reloaded.
    #[zbus(property(emits_changed_signal = "false"))]
    fn running(&self) -> zbus::Result<Keys>;
    /// All keys as they are on the disk; empty if the port is not there.
    #[zbus(property(emits_changed_signal = "false"))]
    fn committed(&self) -> zbus::Result<Keys>;
    /// A word or a sentence: `open`, `unplugged since …`, `not running`, or why it cannot be opened.
    #[zbus(property(emits_changed_signal = "false"))]
    fn state(&self) -> zbus::Result<String>;
    /// How many are attached.
    #[zbus(property(emits_changed_signal = "false"))]
    fn users(&self) -> zbus::Result<u32>;
    /// Bytes ever received from the device.
    #[zbus(property(emits_changed_signal = "false"))]
    fn bytes_received(&self) -> zbus::Result<u64>;
    /// Bytes ever sent to it.
    #[zbus(property(emits_changed_signal = "false"))]
    fn bytes_sent(&self) -> zbus::Result<u64>;
    /// What is counted at the port: `received`, `sent`, `log-lost`; where the driver counts them, `framing`, `parity`, `overruns`
    /// and `breaks`.
    #[zbus(property(emits_changed_signal = "false"))]
    fn counters(&self) -> zbus::Result<HashMap<String, u64>>;
    /// `baud` of the candidate.
    #[zbus(property(emits_changed_signal = "false"))]
    fn baud(&self) -> zbus::Result<u32>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_baud(&self, value: u32) -> zbus::Result<()>;
    /// `bytesize` of the candidate.
    #[zbus(property(emits_changed_signal = "false"))]
    fn byte_size(&self) -> zbus::Result<u8>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_byte_size(&self, value: u8) -> zbus::Result<()>;
    /// `parity` of the candidate.
    #[zbus(property(emits_changed_signal = "false"))]
    fn parity(&self) -> zbus::Result<String>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_parity(&self, value: &str) -> zbus::Result<()>;
    /// `stopbits` of the candidate.
    #[zbus(property(emits_changed_signal = "false"))]
    fn stop_bits(&self) -> zbus::Result<u8>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_stop_bits(&self, value: u8) -> zbus::Result<()>;
    /// `rtscts` of the candidate.
    #[zbus(property(emits_changed_signal = "false"))]
    fn rts_cts(&self) -> zbus::Result<bool>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_rts_cts(&self, value: bool) -> zbus::Result<()>;
    /// `xonxoff` of the candidate.
    #[zbus(property(emits_changed_signal = "false"))]
    fn xon_xoff(&self) -> zbus::Result<bool>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_xon_xoff(&self, value: bool) -> zbus::Result<()>;
    /// `ssh_port` of the candidate; 0 = none.
    #[zbus(property(emits_changed_signal = "false"))]
    fn ssh_port(&self) -> zbus::Result<u16>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_ssh_port(&self, value: u16) -> zbus::Result<()>;
    /// `log.file` of the candidate.
    #[zbus(property(emits_changed_signal = "false"))]
    fn log_file(&self) -> zbus::Result<String>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_log_file(&self, value: &str) -> zbus::Result<()>;
    /// `log.type` of the candidate.
    #[zbus(property(emits_changed_signal = "false"))]
    fn log_type(&self) -> zbus::Result<String>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_log_type(&self, value: &str) -> zbus::Result<()>;
    /// `timeout` of the candidate; 0 = none.
    #[zbus(property(emits_changed_signal = "false"))]
    fn timeout(&self) -> zbus::Result<u32>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_timeout(&self, value: u32) -> zbus::Result<()>;
    /// `description` of the candidate.
    #[zbus(property(emits_changed_signal = "false"))]
    fn description(&self) -> zbus::Result<String>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_description(&self, value: &str) -> zbus::Result<()>;
    /// `device` of the candidate; empty = the monitored directory's entry of the port's name.
    #[zbus(property(emits_changed_signal = "false"))]
    fn device(&self) -> zbus::Result<String>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_device(&self, value: &str) -> zbus::Result<()>;
    /// `enabled` of the candidate.
    #[zbus(property(emits_changed_signal = "false"))]
    fn enabled(&self) -> zbus::Result<bool>;
    /// Sets it in the candidate.
    #[zbus(property)]
    fn set_enabled(&self, value: bool) -> zbus::Result<()>;
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
