//! The configuration as one typed value: what a file may say, once it has been read, checked and found right.
//! `file` finds and reads the file, `read` walks its tree, `keys` is the one table of keys, `value` parses single
//! values, `conflicts` finds what two ports cannot both have, `salvage` takes what is right in a wrong file, and `write`
//! says it all back as TOML. `template` is what ports inherit, `group` names several of them; `trigger` is what a port looks for; `changes` is what an administrator tries before it is committed, `edit` writes it into a text,
//! and `commit` alone writes /etc.

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
mod instances;
mod key_sources;
pub mod keys;
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

use crate::port::{LineSettings, Mapping, ModemLevels, Pacing, PortGroups, PortName};

pub use access::{Access, Groups, Right, RootLogin, Rules, Writers};
pub use address::{Address, AddressError};
pub use conflicts::{Conflict, Shared, overlap};
pub use endpoint::{Endpoint, EndpointError};
pub use escape::{EscapeError, EscapePrefix};
pub use fault::{ConfigError, Fault};
pub use file::{LAST_GOOD, Loaded, Text, committed, permit, text as load_text};
pub use group::Members;
pub use instances::Instances;
pub use key_sources::{KeySourceError, KeyTokens, KeysCommand, KeysCommandUser, KeysFile, Tokens};
pub use salvage::{Salvaged, without_broken_tables};
pub use ssh::{SshAlgorithms, SshOffer, UnknownAlgorithms};
pub use template::{Layer, MAX_TEMPLATES, Origin, TemplateName, TemplateNameError};
pub use trigger::{MAX_TRIGGERS, Pattern, Trigger, TriggerName, TriggerNameError, Triggers};
pub use value::Value;

/// Everything that the configuration says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[access]`
    pub access: Access,
    /// `[groups]`: groups of ports. Those of logins are in [`Access`] and [`Port`].
    pub port_groups: PortGroups,
    /// `[defaults]`
    pub defaults: Layer,
    /// `[templates.NAME]`
    pub templates: BTreeMap<TemplateName, Layer>,
    /// `[ports.NAME]`, with `[defaults]` and the port's template already applied.
    pub ports: BTreeMap<PortName, Port>,
    /// The keys that each port's own table states: `baud`, `triggers.panic`.
    pub own: BTreeMap<PortName, BTreeSet<String>>,
    /// Ports that run in units of another name, as they were renamed while they ran. No file says this: `console-admin` keeps it.
    pub instances: Instances,
}

impl Config {
    /// Addresses that a port listens on: its own, else the server's.
    pub fn listen<'a>(&'a self, port: &'a Port) -> &'a [Address] {
        port.listen.as_deref().unwrap_or(&self.server.listen)
    }

    /// Where a port's device is: its own path, else the monitored directory's entry of its name.
    pub fn device(&self, name: &PortName, port: &Port) -> PathBuf {
        port.device.clone().unwrap_or_else(|| self.server.monitor.join(name.as_str()))
    }

    /// Which ports run in units of another name, as far as there are such ports.
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

    /// What a port's SSH listener offers; without a port, that of the admin CLI.
    pub fn ssh_offer(&self, port: Option<&Port>) -> SshOffer {
        let banner = port.and_then(|port| port.banner.as_ref()).unwrap_or(&self.server.banner);
        SshOffer { algorithms: self.server.ssh_algorithms, banner: banner.clone() }
    }

    /// Who may use a port: its own groups, else `[access]`'s; and whom the port names beside them.
    pub fn rules(&self, port: &Port) -> Rules {
        Rules {
            groups: port.groups.as_ref().unwrap_or(&self.access.groups).clone(),
            users: port.users.clone(),
            read_only: port.read_only_groups.clone(),
        }
    }
}

/// `[server]`: what concerns all ports.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// TCP port of the admin CLI; `None` = no listener.
    pub ssh_port: Option<u16>,
    /// Addresses to listen on, for every listener; a port may have its own.
    pub listen: Vec<Address>,
    /// Directory watched for ports, `/dev`.
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
    /// Opened as soon as it is seen, and listening.
    pub enabled: bool,
    /// The template whose keys hold where the port states none of its own.
    pub like: Option<TemplateName>,
    /// How the line is set.
    pub line: LineSettings,
    /// Stable path of the device; `None` = the monitored directory's entry of the port's name.
    pub device: Option<PathBuf>,
    /// TCP port of the console; `None` = no SSH listener.
    pub ssh_port: Option<u16>,
    /// Addresses to listen on; `None` = the server's.
    pub listen: Option<Vec<Address>>,
    /// File whose text is shown before the login; `None` = the server's, `Some(None)` = no text.
    pub banner: Option<Option<PathBuf>>,
    /// Whose members may use this console; `None` = `[access]`'s.
    pub groups: Option<Groups>,
    /// Who may use it beside them.
    pub users: Vec<String>,
    /// Whose members may watch.
    pub read_only_groups: Groups,
    /// How many may write at a time.
    pub write: Writers,
    /// Seconds a session may idle; `None` = for ever.
    pub timeout: Option<Duration>,
    /// What is logged, and where.
    pub log: Log,
    /// Label for people.
    pub description: String,
    /// Bytes of the ring that sessions and the log writer read from: a multiple of 64 KiB, so of any page size.
    pub scrollback: usize,
    /// Ask the driver for low latency (FTDI's 16 ms timer becomes 1 ms).
    pub low_latency: bool,
    /// DTR and RTS from the open on.
    pub modem: ModemLevels,
    /// Whether a client of RFC 2217 may set the line, DTR and RTS while it is there.
    pub remote_settings: bool,
    /// Where RFC 2217 is served without a login; `None` = nowhere.
    pub rfc2217: Option<Endpoint>,
    /// Where the bytes of the line are served without a login; `None` = nowhere.
    pub raw: Option<Endpoint>,
    /// Whether those two may be reached from other machines.
    pub plaintext_beyond_loopback: bool,
    /// Pauses between what is sent to the device.
    pub pacing: Pacing,
    /// Characters replaced on their way from the device to a terminal.
    pub imap: Mapping,
    /// Characters replaced on their way from a terminal to the device.
    pub omap: Mapping,
    /// The escape prefix of sessions with a terminal; `None` = no escapes.
    pub escape: Option<EscapePrefix>,
    /// Whether sessions wait for the device's return when it goes away.
    pub reconnect: bool,
    /// Lines shown to a session as it attaches.
    pub replay: usize,
    /// What of the device is watched for.
    pub triggers: Triggers,
}

impl Port {
    /// Its listeners without a login, by their keys.
    pub fn plain_listeners(&self) -> impl Iterator<Item = (&'static str, &Endpoint)> {
        [("rfc2217", &self.rfc2217), ("raw", &self.raw)]
            .into_iter()
            .filter_map(|(key, endpoint)| Some((key, endpoint.as_ref()?)))
    }
}

impl Default for Port {
    fn default() -> Self {
        Self {
            enabled: true,
            like: None,
            line: LineSettings::default(),
            device: None,
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

/// `log = { … }` of a port.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// What is written.
    pub kind: LogType,
    /// Bare file name inside the port's own directory.
    pub file: String,
    /// Also what sessions type.
    pub input: bool,
    /// Also to the journal.
    pub journal: bool,
    /// How long a line may wait for `fdatasync`; `None` = never synced by us.
    pub sync: Option<Duration>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            kind: LogType::Text,
            file: "console.log".to_owned(),
            input: false,
            journal: false,
            sync: Some(Duration::from_secs(5)),
        }
    }
}

/// What is written to the capture log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogType {
    /// Nothing.
    None,
    /// The bytes as they came.
    Raw,
    /// A line a record, with time and direction, printable.
    Text,
    /// Hexadecimal rows of 16 bytes.
    Hex,
    /// Hexadecimal and text rows.
    Both,
}
