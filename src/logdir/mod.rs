//! Where a port's capture log is. A port process does not open it by path: a path in the mount namespace of its
//! start would lead to the old directory after the directory is replaced or a disk is mounted over it, and would keep
//! the port from starting without the directory. Instead `console-logs` opens the directory and passes it as a
//! descriptor of a mount of its own (open_tree(2)), out of which no `..` leads, and passes another one whenever the path leads elsewhere.
//! `adopt` gives the port files that root has made in it, `rename` renames directories. `server` is that program, `client` the port's side. Without systemd the port has the path itself (`LOGS_DIRECTORY`).

mod adopt;
mod client;
mod detached;
mod peer;
mod rename;
pub mod server;
mod watch;

pub use client::{Client, LOOKUP_TIME};
pub use rename::{Held, Move, RenameError, rename};

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The socket of `console-logs`, below the runtime directory.
pub const SOCKET_NAME: &str = "logs";

/// Device, inode, and whether its mount is read-only: a mount that was made read-only stays so when its file system becomes writable
/// again.
pub type Identity = (u64, u64, bool);

/// A message of `console-logs`. A [`Told::Directory`] is followed by one byte with the descriptor (SCM_RIGHTS).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DirectoryReply {
    /// The directory follows.
    Directory {
        /// Its path on the machine, for messages.
        path: PathBuf,
        identity: Identity,
    },
    /// There is no directory at present, and why.
    Unavailable {
        /// The reason, as a sentence.
        why: String,
    },
}

/// A directory for capture logs.
#[derive(Debug, Clone)]
pub struct LogDirectory {
    path: PathBuf,
    shown: PathBuf,
}

impl LogDirectory {
    /// One that is reached by its path.
    pub fn at(path: PathBuf) -> Self {
        Self { shown: path.clone(), path }
    }

    /// Its path in this process. It leads to the current directory, also after that has changed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its path on the machine, for messages.
    pub fn shown(&self) -> &Path {
        &self.shown
    }
}

impl From<PathBuf> for LogDirectory {
    fn from(path: PathBuf) -> Self {
        Self::at(path)
    }
}

impl From<&Path> for LogDirectory {
    fn from(path: &Path) -> Self {
        Self::at(path.to_owned())
    }
}

/// Why there is no log directory. Its Display is the sentence that the administrator reads.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoLogDirectory {
    #[error(
        "console-logs.service has not provided the log directory: see systemctl status console-logs.service"
    )]
    NotYet,
    #[error(
        "console-logs.service cannot be asked for the log directory: {0}: see systemctl status console-logs.socket"
    )]
    Unreachable(String),
    /// It has replied that there is none.
    #[error("{0}")]
    Unavailable(String),
}

pub type Current = Result<LogDirectory, NoLogDirectory>;
