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

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Former(#[from] FormerError),
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Value(#[from] ValueError),
    #[error(transparent)]
    Ports(#[from] PatternError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "{0} belongs to a consoleserver that runs in the foreground: it is configured by its file, and only connect, watch, status, who, log, grep, play, send, expect, transfer and autobaud are available"
    )]
    Foreground(PathBuf),
    #[error("{command} takes one port, and {pattern} stands for {ports}")]
    OnePort { command: &'static str, pattern: String, ports: String },
    #[error("{}", .0.join("\n"))]
    Several(Vec<String>),
    #[error("{0} is configured but closed: `start {0}` opens it, `doctor {0}` explains why it is closed")]
    NotServed(PortName),
    #[error(transparent)]
    Command(Box<dyn Error + Send + Sync>),
    #[error("interrupted; the request may still complete")]
    Interrupted,
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
