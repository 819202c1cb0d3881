//! The login protocol: one unix connection a login, typed [messages](crate::message) both ways. The network side
//! speaks first, with [`Request::Begin`]; every later request gets its replies before the next may be sent.
//!
//! ```text
//! Begin ─┬─ Offer{key}      → Acceptable | Denied          (any number)
//!        ├─ Key{key}        → Granted | Denied             (its signature was verified by the network side)
//!        └─ Converse        → Prompts … Answers … Granted | Denied   (PAM)
//! ```
//!
//! After `Granted` or a malformed message `console-auth` closes. The network side is *believed* about the signature
//! of a key and about `rhost`; it is told nothing but yes or no, and cannot ask for anything to be run.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::RootLogin;
use crate::port::PortName;

/// From the network process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Who says they are logging in, from where, to which port. First, and once.
    Begin {
        /// The name given by the client; anything at all.
        user: String,
        /// Address of the client, an IPv4-mapped one already unmapped.
        rhost: IpAddr,
        /// The port that the login is for.
        port: PortName,
        /// How root may log in there.
        root: RootLogin,
    },
    /// Would this key (OpenSSH format, `ssh-ed25519 AAAA…`) be taken? Proves nothing.
    Offer {
        /// The public key.
        key: String,
    },
    /// The client has signed with this key and the signature is right.
    Key {
        /// The public key.
        key: String,
    },
    /// Ask PAM.
    Converse,
    /// Answers to the last [`Reply::Prompts`], one each.
    Answers(Vec<Secret>),
}

/// From `console-auth`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The offered key would be taken.
    Acceptable,
    /// PAM asks.
    Prompts {
        /// What PAM said since the last prompts (information and errors), a line each.
        instructions: String,
        /// The questions; never empty.
        prompts: Vec<Prompt>,
    },
    /// This is somebody, and the account is in order.
    Granted(Identity),
    /// No. Why is in `console-auth`'s journal, not on the wire. Another method may be tried.
    Denied,
}

/// One question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// The text, as PAM gave it.
    pub text: String,
    /// Whether the answer may be shown as it is typed.
    pub echo: bool,
}

/// Who somebody is, as the system knows them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Canonical user name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Names of all groups, the primary one included.
    pub groups: Vec<String>,
}

/// A password or another answer: not printed by Debug.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
