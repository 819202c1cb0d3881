//! The local socket of a port, `$RUNTIME_DIRECTORY/attach/NAME`: one typed request, one typed reply ([`crate::system::message`]), and
//! after `Connected` the bytes of the console: plain bytes to the port, [`frame`]s from it. The kernel identifies the caller
//! (`SO_PEERCRED`), and the port's access groups decide.

pub mod administer;
mod autobaud;
pub mod client;
pub mod frame;
mod limits;
pub mod metrics;
mod outlet;
mod run;
pub mod server;
pub mod watch;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Instances;
use crate::exec;
use crate::port::{BreakName, PortName};
use crate::serial::Counters;
use crate::session::Options;

/// A request of a local client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    Connect {
        /// With a terminal there are a banner, a replay and escape commands; otherwise device output only.
        terminal: bool,
        #[serde(default)]
        options: Options,
    },
    /// Return the state of the port.
    Status,
    /// Return figures of the port, for `console-metrics`. It does not count as a client, so a port without a device still exits.
    Metrics,
    /// Run a command. Its output and exit code are sent as frames.
    Run(exec::Command),
    /// Read from the device at the usual rates, for a user who may write, while no other user has write access. Replies with a
    /// [`Reply::Tried`] for each rate, and `Done`. The rate is restored when the caller disconnects.
    Autobaud,
    /// Read the configuration again and apply it. This and the following are for administrators (uid 0 or console-admin).
    Apply,
    Break {
        milliseconds: u32,
        #[serde(default)]
        name: Option<BreakName>,
        by: String,
    },
    /// Record an event in the log, and notify the sessions.
    Note {
        /// One line.
        text: String,
    },
    Disconnect {
        user: String,
        by: String,
    },
}

impl Request {
    /// Whether only administrators may make this request.
    fn requires_administrator(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Status | Self::Metrics | Self::Run(_) | Self::Autobaud => false,
            Self::Apply | Self::Break { .. } | Self::Note { .. } | Self::Disconnect { .. } => true,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Bytes follow.
    Connected,
    /// Denied or failed, with the reason.
    Rejected(String),
    Status(Status),
    Metrics(metrics::Metrics),
    /// The configuration is in effect, with these exceptions.
    Applied(Vec<String>),
    Tried(Tried),
    Done,
    /// The number of sessions that end.
    Disconnected(u32),
}

/// Result of `autobaud` at one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    pub baud: u32,
    pub bytes: usize,
    /// Per cent of them that are text.
    pub text: usize,
    /// Whether this is the rate, so that the others need not be tried.
    pub is_text: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// One word or sentence: `open`, `unplugged since …`, or why it cannot be opened.
    pub state: String,
    /// `115200 8N1`.
    pub settings: String,
    /// Bytes ever received from the device.
    pub received: u64,
    /// Bytes ever sent to it.
    pub sent: u64,
    /// Why the log cannot be written now.
    pub log_trouble: Option<String>,
    /// Why older settings are in effect than those in the configuration file.
    #[serde(default)]
    pub stale: Option<String>,
    /// Bytes missing from the log, ever.
    pub log_lost: u64,
    /// The driver's counters; `None` if it has none, or the tty is not open.
    pub errors: Option<LineErrors>,
    pub users: Vec<User>,
}

/// Line errors that the driver has counted (`man 2const TIOCGICOUNT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineErrors {
    /// Framing errors: most often a wrong baud rate.
    pub framing: u32,
    pub parity: u32,
    /// Times that bytes were lost, in the hardware or in the kernel's buffer.
    pub overruns: u32,
    pub breaks: u32,
}

impl From<Counters> for LineErrors {
    fn from(Counters { frame, parity, overrun, buffer_overrun, breaks, .. }: Counters) -> Self {
        Self { framing: frame, parity, overruns: overrun.saturating_add(buffer_overrun), breaks }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub name: String,
    /// Address, or `local`.
    pub from: String,
    pub since: Timestamp,
    /// Whether the session has write access.
    pub writes: bool,
}

/// Path of a port's socket, which is named after the port's units.
pub fn socket_path(runtime_dir: &Path, port: &PortName) -> PathBuf {
    runtime_dir.join("attach").join(Instances::of_runtime(runtime_dir).of(port).as_str())
}
