//! Power commands for a port's device. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A power command, and the end of the name of the unit that runs it: `console-power@PORT:VERB.service`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PowerVerb {
    On,
    Off,
    /// Switch off and on again.
    Cycle,
    /// Print whether it is on or off.
    Status,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a power command: expected on, off, cycle or status")]
pub struct PowerVerbError(pub String);

impl PowerVerb {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::On, Self::Off, Self::Cycle, Self::Status];

    /// Whether the device loses power, so that the user is asked to confirm.
    pub fn cuts_power(self) -> bool {
        matches!(self, Self::Off | Self::Cycle)
    }

    /// As a user types it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Cycle => "cycle",
            Self::Status => "status",
        }
    }
}

impl fmt::Display for PowerVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PowerVerb {
    type Err = PowerVerbError;

    fn from_str(word: &str) -> Result<Self, PowerVerbError> {
        Self::ALL
            .into_iter()
            .find(|verb| verb.as_str() == word)
            .ok_or_else(|| PowerVerbError(word.to_owned()))
    }
}
