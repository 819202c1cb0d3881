//! Why a command failed: errors that several commands share, and those that a command owns.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use super::former::FormerError;
use super::local::LocalError;
use super::service::ServiceError;
use super::value::ValueError;
use crate::attach::client::AttachError;
use crate::config::ConfigError;
use crate::port::{PatternError, PortName};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// An error of the port, or of the connection to it.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The log of a port that is not served.
    #[error(transparent)]
    Former(#[from] FormerError),
    /// The ports cannot be listed or queried.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// An error of console-admin.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// An invalid key or value.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// An invalid port pattern, or one that matches no port.
    #[error(transparent)]
    Ports(#[from] PatternError),
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The foreground program does not have this command.
    #[error(
        "{0} belongs to a consoleserver that runs in the foreground: it is configured by its file, and only connect, watch, status, who, log, grep, send, expect and autobaud are available"
    )]
    Foreground(PathBuf),
    /// Several ports for a command that takes one.
    #[error("{command} takes one port, and {pattern} stands for {ports}")]
    OnePort {
        /// The command.
        command: &'static str,
        /// The argument.
        pattern: String,
        /// The ports that it stands for.
        ports: String,
    },
    /// Errors of several ports, as sentences.
    #[error("{}", .0.join("\n"))]
    Several(Vec<String>),
    /// The port is configured and not served.
    #[error("{0} is configured but closed: `start {0}` opens it, `doctor {0}` explains why it is closed")]
    NotServed(PortName),
    /// An error that only one command has.
    #[error(transparent)]
    Command(Box<dyn Error + Send + Sync>),
    /// Control-C.
    #[error("interrupted; the request may still complete")]
    Interrupted,
    /// Standard output is closed.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl CommandError {
    /// An error that only one command has.
    pub(super) fn of_command(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Command(Box::new(error))
    }
}

pub(super) type Done<T = ()> = Result<T, CommandError>;
