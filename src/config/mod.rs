//! The configuration as one typed value, read and checked. `file` finds the file, `read` parses it by the
//! table in `keys`, `meant` suggests what a wrong key or value was meant to be, `value` parses single values,
//! `conflicts` finds values that two ports cannot share, `salvage` uses the valid part of an invalid file, and `write` prints the configuration as TOML. `template`
//! is what ports inherit, `group` names several ports, `trigger` is a port's trigger rules. `changes` holds
//! changes that are not committed, `edit` writes them into a text, and only `commit` writes /etc.

mod access;
mod address;
pub mod changes;
pub mod commit;
pub mod compare;
mod conflicts;
mod edit;
mod endpoint;
mod escape;
mod fault;
mod file;
mod group;
mod initial;
mod instances;
mod key_path;
mod key_sources;
pub mod keys;
pub mod meant;
mod read;
mod salvage;
mod ssh;
mod template;
mod trigger;
mod value;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use crate::port::{
    Breaks, LineSettings, Mapping, ModemLevels, Pacing, PortGroups, PortName, Sequence, Source,
};

pub use access::{Access, Groups, Right, RootLogin, Rules, Writers};
pub use address::{Address, AddressError};
pub use conflicts::{Conflict, Shared, overlap};
pub use endpoint::{Endpoint, EndpointError};
pub use escape::{EscapeError, EscapePrefix};
pub use fault::{ConfigError, Fault};
pub use file::{LAST_GOOD, Loaded, Text, committed, only as load_only, permit, text as load_text};
pub use group::Members;
pub use initial::{CredentialName, Expected, Initial, InitialStep, MAX_INITIAL_STEPS};
pub use instances::Instances;
pub use key_sources::{KeySourceError, KeyTokens, KeysCommand, KeysCommandUser, KeysFile, Tokens};
pub use salvage::{Salvaged, without_broken_tables};
pub use ssh::{SshAlgorithms, SshOffer, UnknownAlgorithms};
pub use template::{Layer, MAX_TEMPLATES, Origin, TemplateName, TemplateNameError};
pub use trigger::{MAX_TRIGGERS, Pattern, Trigger, TriggerName, TriggerNameError, Triggers};
pub use value::Value;

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[access]`
    pub access: Access,
    /// `[groups]`: groups of ports. Groups of users are in [`Access`] and [`Port`].
    pub port_groups: PortGroups,
    /// `[defaults]`
    pub defaults: Layer,
    /// `[templates.NAME]`
    pub templates: BTreeMap<TemplateName, Layer>,
    /// `[ports.NAME]`, with `[defaults]` and the port's template already applied.
    pub ports: BTreeMap<PortName, Port>,
    /// The keys stated in each port's own table: `baud`, `triggers.panic`.
    pub own: BTreeMap<PortName, BTreeSet<String>>,
    /// Ports that run in units of another name because they were renamed while they ran. Not in any file
    /// that an administrator writes: `console-admin` keeps it.
    pub instances: Instances,
}

impl Config {
    /// Addresses that a port listens on: its own, otherwise the server's.
    pub fn listen<'a>(&'a self, port: &'a Port) -> &'a [Address] {
        port.listen.as_deref().unwrap_or(&self.server.listen)
    }

    /// Path of a port's device: its own, otherwise the entry of the port's name in the monitored directory. A source is shown as
    /// it is written.
    pub fn device(&self, name: &PortName, port: &Port) -> PathBuf {
        if let Some(source) = &port.source {
            return source.to_string().into();
        }
        port.device.clone().unwrap_or_else(|| self.server.monitor.join(name.as_str()))
    }

    /// Sets the units of renamed ports, without those of ports that do not exist.
    pub fn take_instances(&mut self, mut instances: Instances) {
        instances.retain(|port, _| self.ports.contains_key(port));
        self.instances = instances;
    }

    /// Everything that a port listens on over TCP: SSH, and the plain listeners.
    pub fn tcp_listeners<'a>(&'a self, port: &'a Port) -> impl Iterator<Item = (&'a [Address], u16)> {
        let ssh = port.ssh_port.map(|tcp| (self.listen(port), tcp));
        let plain = port
            .plain_listeners()
            .map(|(_, endpoint)| (std::slice::from_ref(&endpoint.address), endpoint.port));
        ssh.into_iter().chain(plain)
    }

    /// The algorithms and banner of a port's SSH listener; `None` is the admin CLI.
    pub fn ssh_offer(&self, port: Option<&Port>) -> SshOffer {
        let banner = port.and_then(|port| port.banner.as_ref()).unwrap_or(&self.server.banner);
        SshOffer { algorithms: self.server.ssh_algorithms, banner: banner.clone() }
    }

    /// The access rules of a port: its own groups, otherwise those of `[access]`.
    pub fn rules(&self, port: &Port) -> Rules {
        Rules {
            groups: port.groups.as_ref().unwrap_or(&self.access.groups).clone(),
            users: port.users.clone(),
            read_only: port.read_only_groups.clone(),
        }
    }
}

/// `[server]`: settings of all ports.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// TCP port of the admin CLI; `None` = no listener.
    pub ssh_port: Option<u16>,
    /// Addresses to listen on, for every listener; a port may have its own.
    pub listen: Vec<Address>,
    /// Directory in which ports appear, `/dev`.
    pub monitor: PathBuf,
    /// Algorithms that every SSH listener offers.
    pub ssh_algorithms: SshAlgorithms,
    /// File whose text is shown before a login over SSH; a port may have its own. `None` = no text.
    pub banner: Option<PathBuf>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            ssh_port: Some(8022),
            listen: vec![IpAddr::from(Ipv6Addr::UNSPECIFIED).into()],
            monitor: "/dev".into(),
            ssh_algorithms: SshAlgorithms::default(),
            banner: None,
        }
    }
}

/// `[ports.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// Whether the port listens, and opens its device as soon as it appears.
    pub enabled: bool,
    /// The template that provides the keys that the port does not state itself.
    pub like: Option<TemplateName>,
    pub line: LineSettings,
    /// Path of the device; `None` = the entry of the port's name in the monitored directory.
    pub device: Option<PathBuf>,
    /// What the port is connected to in place of a device.
    pub source: Option<Source>,
    /// Connect the source only while a session is attached.
    pub on_demand: bool,
    /// What is sent and waited for after each connect.
    pub initial: Initial,
    /// What is sent to an idle device.
    pub keepalive: Keepalive,
    pub break_sequence: Sequence,
    pub breaks: Breaks,
    /// TCP port of the console; `None` = no SSH listener.
    pub ssh_port: Option<u16>,
    /// Addresses to listen on; `None` = the server's.
    pub listen: Option<Vec<Address>>,
    /// File whose text is shown before the login; `None` = the server's, `Some(None)` = no text.
    pub banner: Option<Option<PathBuf>>,
    /// Groups whose members have write access; `None` = those of `[access]`.
    pub groups: Option<Groups>,
    /// Users that have write access in addition.
    pub users: Vec<String>,
    /// Groups whose members have read-only access.
    pub read_only_groups: Groups,
    /// How many sessions have write access at a time.
    pub write: Writers,
    /// Idle timeout of a session; `None` = no timeout.
    pub timeout: Option<Duration>,
    pub log: Log,
    /// Label for users.
    pub description: String,
    /// Size of the ring in bytes: a multiple of 64 KiB, and so of any page size.
    pub scrollback: usize,
    /// Ask the driver for low latency (FTDI's 16 ms timer becomes 1 ms).
    pub low_latency: bool,
    /// State of DTR and RTS after the device is opened.
    pub modem: ModemLevels,
    /// Whether a client of RFC 2217 may set the line, DTR and RTS while it is connected.
    pub remote_settings: bool,
    /// Where RFC 2217 is served without a login; `None` = nowhere.
    pub rfc2217: Option<Endpoint>,
    /// Where the bytes of the line are served without a login; `None` = nowhere.
    pub raw: Option<Endpoint>,
    /// Whether those two may be reached from other machines.
    pub plaintext_beyond_loopback: bool,
    /// Delays in output to the device.
    pub pacing: Pacing,
    /// Character mapping of input from the device.
    pub imap: Mapping,
    /// Character mapping of output to the device.
    pub omap: Mapping,
    /// The escape prefix of sessions with a terminal; `None` = no escapes.
    pub escape: Option<EscapePrefix>,
    /// Whether sessions wait for the device to be plugged in again after it is unplugged.
    pub reconnect: bool,
    /// Lines shown to a session as it attaches.
    pub replay: usize,
    pub triggers: Triggers,
}

impl Port {
    /// Its listeners without a login, by their keys.
    pub fn plain_listeners(&self) -> impl Iterator<Item = (&'static str, &Endpoint)> {
        [("rfc2217", &self.rfc2217), ("raw", &self.raw)]
            .into_iter()
            .filter_map(|(key, endpoint)| Some((key, endpoint.as_ref()?)))
    }

    pub fn tcp_ports(&self) -> impl Iterator<Item = u16> {
        self.ssh_port.into_iter().chain(self.plain_listeners().map(|(_, endpoint)| endpoint.port))
    }
}

impl Default for Port {
    fn default() -> Self {
        Self {
            enabled: true,
            like: None,
            line: LineSettings::default(),
            device: None,
            source: None,
            on_demand: false,
            initial: Initial::default(),
            keepalive: Keepalive::default(),
            break_sequence: Sequence::default(),
            breaks: Breaks::default(),
            ssh_port: None,
            listen: None,
            banner: None,
            groups: None,
            users: Vec::new(),
            read_only_groups: Groups::Members(Vec::new()),
            write: Writers::One,
            timeout: None,
            log: Log::default(),
            description: String::new(),
            scrollback: 256 * 1024,
            low_latency: true,
            modem: ModemLevels::default(),
            remote_settings: false,
            rfc2217: None,
            raw: None,
            plaintext_beyond_loopback: false,
            pacing: Pacing::default(),
            imap: Mapping::default(),
            omap: Mapping::default(),
            escape: Some(EscapePrefix::default()),
            reconnect: true,
            replay: 20,
            triggers: Triggers::new(),
        }
    }
}

/// `keepalive = { … }` of a port.
#[derive(Debug, Clone, PartialEq)]
pub struct Keepalive {
    /// Time without a byte in either direction after which it is sent; `None` = never.
    pub interval: Option<Duration>,
    /// The text that is sent.
    pub text: Sequence,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { interval: None, text: Sequence::of_bytes(b"\n") }
    }
}

/// `log = { … }` of a port.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    pub kind: LogType,
    /// File name inside the port's log directory.
    pub file: String,
    /// Whether input from sessions is logged too.
    pub input: bool,
    /// Whether lines are also sent to the journal.
    pub journal: bool,
    /// Whether the bytes are also recorded with their times.
    pub record: bool,
    /// Maximum delay of `fdatasync` after a line; `None` = the kernel decides.
    pub sync: Option<Duration>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            kind: LogType::Text,
            file: "console.log".to_owned(),
            input: false,
            journal: false,
            record: false,
            sync: Some(Duration::from_secs(5)),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogType {
    /// No log.
    None,
    /// The bytes as received.
    Raw,
    /// One line per record, with time and direction; control characters escaped.
    Text,
    /// Hexadecimal rows of 16 bytes.
    Hex,
    /// Hexadecimal and text rows.
    Both,
}
