//! The local socket of a port, `$RUNTIME_DIRECTORY/attach/NAME`: one typed request, one typed reply ([`crate::system::message`]), and
//! after `Connected` the bytes of the console: plain ones to the port, [`frame`]s from it. Who the caller is the kernel says (`SO_PEERCRED`); whether
//! that one may use the port, the port's access groups.

pub mod administer;
mod autobaud;
pub mod client;
pub mod frame;
mod limits;
mod outlet;
mod run;
pub mod server;
pub mod watch;

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Instances;
use crate::exec;
use crate::port::PortName;
use crate::serial::Counters;
use crate::session::Options;

/// What a local client may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Become the console.
    Connect {
        /// Whether the caller has a terminal: banner, replay and escapes, or bytes only.
        terminal: bool,
        /// What else the caller wants of the session.
        #[serde(default)]
        options: Options,
    },
    /// How the port does.
    Status,
    /// A command at the port: what it says, and its exit code, as frames.
    Run(exec::Command),
    /// Listen to the device at the usual rates, for whoever may write and is not in the way of who does. Replies with a
    /// [`Reply::Tried`] for each rate, and `Done`; the rate comes back as soon as the caller is gone.
    Autobaud,
    /// Of an administrator (uid 0 or console-admin), as are the following: read the configuration again and apply it.
    Apply,
    /// Send a break.
    Break {
        /// How long.
        milliseconds: u32,
        /// Who says so.
        by: String,
    },
    /// End the sessions of a user.
    Disconnect {
        /// Login name.
        user: String,
        /// Who says so.
        by: String,
    },
}

impl Request {
    /// Whether it changes something for others.
    fn is_of_administrators(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Status | Self::Run(_) | Self::Autobaud => false,
            Self::Apply | Self::Break { .. } | Self::Disconnect { .. } => true,
        }
    }
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Bytes follow.
    Connected,
    /// No: why.
    Refused(String),
    /// How the port does.
    Status(Status),
    /// The configuration is in force; what could not be as it says, a sentence each.
    Applied(Vec<String>),
    /// A rate was tried.
    Tried(Tried),
    /// It is done.
    Done,
    /// So many sessions end.
    Disconnected(u32),
}

/// What was heard at a line rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Bits per second.
    pub baud: u32,
    /// Bytes that came.
    pub bytes: usize,
    /// How many of a hundred of them are text.
    pub text: usize,
    /// Whether it is text, so that the others need not be tried.
    pub is_text: bool,
}

/// How a port does.
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
    /// Why the log cannot be written at present.
    pub log_trouble: Option<String>,
    /// That older settings are in force than the configuration file should have, and why.
    #[serde(default)]
    pub stale: Option<String>,
    /// Bytes that the log had to leave out, ever.
    pub log_lost: u64,
    /// What the driver has counted; `None` if it does not count, or nothing is open.
    pub errors: Option<LineErrors>,
    /// Who is attached.
    pub users: Vec<User>,
}

/// Line errors that a driver has counted since it has the device (`man 2const TIOCGICOUNT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineErrors {
    /// Framing errors: most often a wrong baud rate.
    pub framing: u32,
    /// Parity errors.
    pub parity: u32,
    /// Times that bytes were lost, in the hardware or in the kernel's buffer.
    pub overruns: u32,
    /// Breaks received.
    pub breaks: u32,
}

impl From<Counters> for LineErrors {
    fn from(Counters { frame, parity, overrun, buffer_overrun, breaks, .. }: Counters) -> Self {
        Self { framing: frame, parity, overruns: overrun.saturating_add(buffer_overrun), breaks }
    }
}

/// Somebody who is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Address, or `local`.
    pub from: String,
    /// Since when.
    pub since: Timestamp,
    /// Whether this one writes.
    pub writes: bool,
}

/// Where a port's socket is: it has the name of the port's units.
pub fn socket_path(runtime_dir: &Path, port: &PortName) -> PathBuf {
    runtime_dir.join("attach").join(Instances::of_runtime(runtime_dir).of(port).as_str())
}
