//! The argument of commands that take ports or a table.

use std::fmt;
use std::str::FromStr;

use super::tree::{Target, TargetError};
use crate::port::{PortName, PortPattern};

/// Ports or a table. A port with the name of a table is written `/dev/server`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// `[server]`, `[access]`, `[defaults]`, `[groups]`, `[templates.NAME]`
    Table(Target),
    /// `[ports.NAME]` of each port that the pattern selects.
    Ports(PortPattern),
}

impl Targets {
    /// A target with the same keys.
    pub fn kind(&self) -> Target {
        match self {
            Self::Table(table) => table.clone(),
            Self::Ports(pattern) => Target::Port(match pattern.literal() {
                Some(port) => port.clone(),
                None => "ports".parse::<PortName>().expect("a port name"),
            }),
        }
    }
}

impl FromStr for Targets {
    type Err = TargetError;

    fn from_str(word: &str) -> Result<Self, TargetError> {
        match word.parse() {
            Err(TargetError::Port(_)) | Ok(Target::Port(_)) => Ok(Self::Ports(word.parse()?)),
            table => Ok(Self::Table(table?)),
        }
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(table) => table.fmt(f),
            Self::Ports(pattern) => pattern.fmt(f),
        }
    }
}

impl From<Target> for Targets {
    fn from(target: Target) -> Self {
        match target {
            Target::Port(port) => Self::Ports(port.into()),
            table => Self::Table(table),
        }
    }
}
