//! What the user of one session asks for, beside what the port's settings say.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::{EscapeError, EscapePrefix};

/// The escape prefix of one session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Escape {
    /// The port's.
    #[default]
    AsConfigured,
    /// None: every byte goes to the device.
    Off,
    /// This one.
    Prefix(EscapePrefix),
}

impl FromStr for Escape {
    type Err = EscapeError;

    /// `none`, or keys as the configuration has them.
    fn from_str(word: &str) -> Result<Self, EscapeError> {
        match word {
            "none" => Ok(Self::Off),
            keys => keys.parse().map(Self::Prefix),
        }
    }
}

/// Options of a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// The escape prefix.
    pub escape: Escape,
    /// Whether to end with the device, even if the port's sessions wait for its return.
    pub no_reconnect: bool,
    /// Whether to take over from the client that has write access.
    pub force: bool,
    /// Whether to watch only: read-only, whatever the device does, and not subject to the port's `timeout`, which is for those who
    /// may be in the way of others.
    pub watch: bool,
}
