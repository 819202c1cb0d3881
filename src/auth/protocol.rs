//! The login protocol: one unix connection per login, typed [messages](crate::system::message) both ways. The network side begins, with
//! [`Request::Begin`] or [`Request::HostKeys`]; each request gets its replies before the next may be sent.
//!
//! ```text
//! Begin ─┬─ Offer{key}      → Acceptable | Denied          (any number)
//!        ├─ Key{key}        → Granted | Denied             (its signature was verified by the network side)
//!        ├─ Converse        → Prompts … Answers … Granted | Denied   (PAM)
//!        └─ Password        → Prompts … Answers … Granted | Denied   (PAM, for a client that can answer one question)
//! after Granted, on the cli socket only:
//! Run{run, terminal}        → Running and descriptors: the session's socket, and the ends of its program | Failed   (any number)
//! on the session's socket:    Exited; closing it ends the program, closing the connection all of them
//!
//! Messages precedes a reply if PAM has messages for the user; AccountDenied replaces Denied.
//!
//! HostKeys                  → HostKey … HostCertificate … HostKeysEnd      (instead of a login)
//! ```
//!
//! After `Granted` on a port's socket, or after an invalid message, `console-auth` closes. The network side is *trusted* about the signature
//! of a key, its flags, and about `rhost`; it gets only the decision. On the cli socket it may run one program as the user, more than once, and choose
//! its task, but not the program, its directory or its environment.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::config::RootLogin;
use crate::port::PortName;

/// Bytes of the longest command line. A console server's commands are short; this is a page of them.
const LINE_LIMIT: usize = 4096;
/// Bytes of the longest terminal type; terminfo's are half of it.
const TERM_LIMIT: usize = 40;

/// From the network process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Begins a login: the first request, once.
    Begin {
        /// The client's user name; any text.
        user: String,
        /// Address of the client, an IPv4-mapped one already unmapped.
        rhost: IpAddr,
        target: Target,
        /// How root may log in.
        root: RootLogin,
    },
    /// Requests the host keys, instead of `Begin`, once.
    HostKeys,
    /// Asks whether this key or certificate (OpenSSH format, `ssh-ed25519 AAAA…`) would be accepted, without proof.
    Offer {
        /// The public key or certificate.
        key: String,
    },
    /// Logs in by this key or certificate: the client's signature is valid.
    Key {
        /// The public key or certificate.
        key: String,
        /// The flags of the signature, if the key is a security key.
        flags: Option<SecurityKeyFlags>,
    },
    /// Logs in by PAM, which may ask for a new password.
    Converse,
    /// Logs in by PAM for SSH's method `password`, which cannot change one.
    Password,
    /// Answers to the last [`Reply::Prompts`].
    Answers(Vec<Secret>),
    /// Runs `consolectl` as the user. On the cli socket only.
    Run {
        run: Run,
        /// The terminal of the program; without one it gets three pipes.
        terminal: Option<Terminal>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Target {
    Port(PortName),
    Admin,
}

impl Target {
    /// The port, unless it is the admin CLI.
    pub fn port(&self) -> Option<&PortName> {
        match self {
            Self::Port(port) => Some(port),
            Self::Admin => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port) => port.fmt(f),
            Self::Admin => f.write_str("the admin CLI"),
        }
    }
}

/// What `consolectl` is started for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Run {
    /// The prompt of the admin CLI.
    Admin,
    Line(Line),
    Console(PortName),
}

/// A command line as the client sent it, which `consolectl` parses; no shell is involved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Line(String);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Terminal {
    /// Its type, the value of `TERM`.
    pub term: Term,
    pub size: WindowSize,
}

/// Size of a terminal in characters; 0 if unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    pub columns: u16,
    pub rows: u16,
}

/// A terminal type, which cannot be a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Term(String);

/// Why a command line or terminal type is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WordError {
    #[error("a command line is at most {LINE_LIMIT} bytes of UTF-8 without a NUL")]
    Line,
    #[error("terminal type {0:?} is not valid: use 1 to {TERM_LIMIT} of A-Z a-z 0-9 . _ + -")]
    Term(String),
}

impl Line {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Line {
    type Error = WordError;

    fn try_from(line: String) -> Result<Self, WordError> {
        if line.len() > LINE_LIMIT || line.contains('\0') { Err(WordError::Line) } else { Ok(Self(line)) }
    }
}

impl From<Line> for String {
    fn from(line: Line) -> Self {
        line.0
    }
}

impl Term {
    /// The type `dumb`.
    pub fn dumb() -> Self {
        Self("dumb".to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Term {
    type Err = WordError;

    fn from_str(word: &str) -> Result<Self, WordError> {
        let valid = matches!(word.len(), 1..=TERM_LIMIT)
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
            && !word.starts_with('.');
        if valid { Ok(Self(word.to_owned())) } else { Err(WordError::Term(word.to_owned())) }
    }
}

impl TryFrom<String> for Term {
    type Error = WordError;

    fn try_from(word: String) -> Result<Self, WordError> {
        word.parse()
    }
}

impl From<Term> for String {
    fn from(term: Term) -> Self {
        term.0
    }
}

/// The flags byte in the signature of a security key (PROTOCOL.u2f in OpenSSH; FIDO's authenticator data).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecurityKeyFlags(pub u8);

impl SecurityKeyFlags {
    /// The key was touched (user presence).
    pub fn touched(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// The user was verified, by PIN or fingerprint.
    pub fn verified(self) -> bool {
        self.0 & 0x04 != 0
    }
}

/// From `console-auth`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// The offered key would be accepted.
    Acceptable,
    /// PAM asks questions.
    Prompts {
        /// PAM's messages since the last prompts (information and errors), one per line.
        instructions: String,
        /// The questions; never empty.
        prompts: Vec<Prompt>,
    },
    Granted(Identity),
    /// PAM's messages since the last prompts, printable lines. The reply itself follows.
    Messages(String),
    /// The user is authenticated, but PAM denies the account, or requires a new password first: the message for the user.
    AccountDenied(String),
    /// Denied. The reason is only in the journal. Another method may be tried.
    Denied,
    /// The program runs. One byte follows with descriptors: the session's socket, and the terminal's master or three pipes (standard
    /// input, output and error).
    Running,
    /// The program could not be started; the reason is in the journal.
    Failed,
    Exited(Exit),
    /// A private host key, in OpenSSH's format.
    HostKey(Secret),
    /// A host certificate for one of these keys, in OpenSSH's format.
    HostCertificate(String),
    HostKeysEnd {
        /// Files that are not used, each with the reason.
        ignored: Vec<String>,
        /// Why there is no key at all.
        missing: Option<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// The program exited with this status.
    Status(u8),
    Signal(i32),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    pub text: String,
    /// Whether the answer may be echoed.
    pub echo: bool,
}

/// A user in the account database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    pub name: String,
    pub uid: u32,
    /// Names of all groups, the primary one included.
    pub groups: Vec<String>,
}

/// A password or another answer, in the encoding of the client's terminal: sshd passes the bytes to PAM, and so do we. Not printed by
/// Debug. In a message, a string with a character for each byte.
#[derive(Clone, PartialEq)]
pub struct Secret(pub Vec<u8>);

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0.iter().copied().map(char::from).collect::<String>())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes: Result<_, _> = String::deserialize(from)?.chars().map(u8::try_from).collect();
        bytes.map(Self).map_err(D::Error::custom)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_type_is_a_short_word() {
        for good in ["xterm-256color", "vt100", "screen.xterm-new", "linux+x"] {
            assert_eq!(good.parse::<Term>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "../../etc/x", "a b", "a=b", "xterm\n", "ä", &"x".repeat(41)] {
            assert_eq!(bad.parse::<Term>(), Err(WordError::Term(bad.to_owned())), "{bad:?}");
        }
    }

    #[test]
    fn a_command_line_is_bounded_data() {
        let line = "show 'a b'; reboot\n--x";
        assert_eq!(Line::try_from(line.to_owned()).unwrap().as_str(), line);
        assert_eq!(Line::try_from("a\0b".to_owned()), Err(WordError::Line));
        assert_eq!(Line::try_from("x".repeat(LINE_LIMIT + 1)), Err(WordError::Line));
    }
}
