//! The login protocol: one unix connection a login, typed [messages](crate::system::message) both ways. The network side
//! speaks first, with [`Request::Begin`] or [`Request::HostKeys`]; every later request gets its replies before the next may be sent.
//!
//! ```text
//! Begin ─┬─ Offer{key}      → Acceptable | Denied          (any number)
//!        ├─ Key{key}        → Granted | Denied             (its signature was verified by the network side)
//!        ├─ Converse        → Prompts … Answers … Granted | Denied   (PAM)
//!        └─ Password        → Prompts … Answers … Granted | Denied   (PAM, for a client that can answer one question)
//! after Granted, on the cli socket alone:
//! Run{run, terminal}        → Running and descriptors: the session's socket, and the ends of its program | Failed   (any number)
//! on the session's socket:    Exited; closing it ends the program, closing the connection all of them
//!
//! Said comes before a reply, when PAM has something for the user to read; AccountRefused in the place of Denied.
//!
//! HostKeys                  → HostKey … HostKeysEnd      (instead of a login)
//! ```
//!
//! After `Granted` on a port's socket, or a malformed message, `console-auth` closes. The network side is *believed* about
//! the signature of a key and about `rhost`; it is told nothing but yes or no. On the cli socket it may have one program
//! run as whom it has logged in, more than once, and say what for; not which, not where, and not in what environment.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
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
    /// Who says they are logging in, from where, to which port. First, and once.
    Begin {
        /// The name given by the client; anything at all.
        user: String,
        /// Address of the client, an IPv4-mapped one already unmapped.
        rhost: IpAddr,
        /// What the login is for.
        target: Target,
        /// How root may log in there.
        root: RootLogin,
    },
    /// Send the host keys by which clients recognize this machine. Instead of `Begin`, and once.
    HostKeys,
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
    /// Ask PAM, and have a password that must be changed changed.
    Converse,
    /// Ask PAM for SSH's method `password`, which has no way to change one.
    Password,
    /// Answers to the last [`Reply::Prompts`], one each.
    Answers(Vec<Secret>),
    /// Run `consolectl` as whom was granted. On the cli socket only.
    Run {
        /// What it is to do.
        run: Run,
        /// The terminal to run it on; without, it gets three pipes.
        terminal: Option<Terminal>,
    },
}

/// What a login is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Target {
    /// The console of this port.
    Port(PortName),
    /// The admin CLI.
    Admin,
}

impl Target {
    /// The port, if it is one.
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
    /// One command of it.
    Line(Line),
    /// The console of a port.
    Console(PortName),
}

/// One command line, as the client sent it: data, which `consolectl` takes apart and no shell ever sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Line(String);

/// A terminal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Terminal {
    /// Its type, the value of `TERM`.
    pub term: Term,
    /// Its size.
    pub size: WindowSize,
}

/// How large a terminal is, in characters; 0 if nobody knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Across.
    pub columns: u16,
    /// Down.
    pub rows: u16,
}

/// A terminal type: no path, and nothing that a library could take for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Term(String);

/// Why a word is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WordError {
    /// A command line.
    #[error("a command line is at most {LINE_LIMIT} bytes of UTF-8 without a NUL")]
    Line,
    /// A terminal type.
    #[error("terminal type {0:?} is not valid: use 1 to {TERM_LIMIT} of A-Z a-z 0-9 . _ + -")]
    Term(String),
}

impl Line {
    /// The line as text.
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
    /// The type of a terminal that is not worth a name.
    pub fn dumb() -> Self {
        Self("dumb".to_owned())
    }

    /// The type as text.
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
    /// What PAM has said to the user since the last prompts, lines, printable. The reply itself follows.
    Said(String),
    /// The user has proved who they are, and PAM lets the account in no more, or not before its password is changed: what the user is
    /// told.
    AccountRefused(String),
    /// No. Why is in `console-auth`'s journal, not on the wire. Another method may be tried.
    Denied,
    /// It runs. One byte follows, with which come the session's socket, and the terminal's other side or its three ends: what it
    /// reads, what it says, what it says aside.
    Running,
    /// It does not: the machine's fault, and in the journal.
    Failed,
    /// It has ended.
    Exited(Exit),
    /// A private host key, in OpenSSH's format.
    HostKey(Secret),
    /// That was the last host key.
    HostKeysEnd {
        /// Files that are not used, each with the reason.
        skipped: Vec<String>,
        /// Why there is no key at all.
        missing: Option<String>,
    },
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this status.
    Status(u8),
    /// By this signal.
    Signal(i32),
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
