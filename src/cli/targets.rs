//! What a command is about: ports by a pattern, or a table of all of them.

use std::fmt;
use std::str::FromStr;

use super::tree::Target;
use crate::port::{PatternError, PortName, PortPattern};

/// Ports, or a table. A port that is called like a table is meant by `/dev/server`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// `[server]`, `[access]`, `[defaults]`
    Table(Target),
    /// `[ports.NAME]` of each port that the pattern selects.
    Ports(PortPattern),
}

impl Targets {
    /// A target of the same kind, for questions about keys: which exist, what they take.
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
    type Err = PatternError;

    fn from_str(word: &str) -> Result<Self, PatternError> {
        match word.parse() {
            Ok(table @ (Target::Server | Target::Access | Target::Defaults)) => Ok(Self::Table(table)),
            _ => Ok(Self::Ports(word.parse()?)),
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
