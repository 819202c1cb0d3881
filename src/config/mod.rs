//! The configuration as one typed value: what a file may say, once it has been read, checked and found right.
//! `read` turns files into these types and names file, line, key and value of whatever is wrong.

mod access;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::port::{LineSettings, PortName};

pub use access::{Access, Groups, RootLogin};

/// Everything that the configuration says.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[access]`
    pub access: Access,
    /// `[ports.NAME]`, with `[defaults]` already applied.
    pub ports: BTreeMap<PortName, Port>,
}

/// `[server]`: what concerns all ports.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// TCP port of the admin CLI; `None` = no listener.
    pub ssh_port: Option<u16>,
    /// Addresses to listen on, for every listener; a port may have its own.
    pub listen: Vec<IpAddr>,
    /// Directory watched for ports, `/dev`.
    pub monitor: PathBuf,
}

/// `[ports.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Port {
    /// Opened as soon as it is seen, and listening.
    pub enabled: bool,
    /// How the line is set.
    pub line: LineSettings,
    /// Stable path of the device; `None` = the monitored directory's entry of the port's name.
    pub device: Option<PathBuf>,
    /// TCP port of the console; `None` = no SSH listener.
    pub ssh_port: Option<u16>,
    /// Addresses to listen on; `None` = the server's.
    pub listen: Option<Vec<IpAddr>>,
    /// Who may use this console; `None` = `[access]`'s.
    pub groups: Option<Groups>,
    /// Seconds a session may idle; `None` = for ever.
    pub timeout: Option<Duration>,
    /// What is logged, and where.
    pub log: Log,
    /// Label for people.
    pub description: String,
    /// Bytes of the ring that sessions and the log writer read from.
    pub scrollback: usize,
    /// Ask the driver for low latency (FTDI's 16 ms timer becomes 1 ms).
    pub low_latency: bool,
    /// The escape prefix of sessions with a terminal; `None` = no escapes.
    pub escape: Option<EscapePrefix>,
    /// Lines shown to a session as it attaches.
    pub replay: usize,
}

/// The two characters that begin an escape command: `^Ec` is Control-E, then `c` (conserver's).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EscapePrefix(pub [u8; 2]);

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
