//! The table or port that a key belongs to, and the argument of commands that take either.

use std::fmt;
use std::str::FromStr;

use crate::config::{TemplateName, TemplateNameError};
use crate::port::{PatternError, PortError, PortName, PortPattern};

/// The table or port that a key belongs to. A port with the name of a table is written `/dev/server`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Server,
    Access,
    Defaults,
    Groups,
    /// All of `[templates]`
    Templates,
    /// `[templates.NAME]`
    Template(TemplateName),
    /// `[ports.NAME]`
    Port(PortName),
}

/// Why a word is neither a table nor a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error(transparent)]
    Port(#[from] PortError),
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error(transparent)]
    Template(#[from] TemplateNameError),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(word: &str) -> Result<Self, TargetError> {
        if let Some(template) = word.strip_prefix("templates.") {
            return Ok(Self::Template(template.parse()?));
        }
        Ok(match word {
            "server" => Self::Server,
            "access" => Self::Access,
            "defaults" => Self::Defaults,
            "groups" => Self::Groups,
            "templates" => Self::Templates,
            _ => Self::Port(word.parse()?),
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Access => "access",
            Self::Defaults => "defaults",
            Self::Groups => "groups",
            Self::Templates => "templates",
            Self::Template(name) => return write!(f, "templates.{name}"),
            Self::Port(port) => port.as_str(),
        })
    }
}

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
