//! Options of one session, which override the port's settings.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::{EscapeError, EscapePrefix};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Escape {
    /// The one of the port's settings.
    #[default]
    AsConfigured,
    /// None: every byte goes to the device.
    Off,
    /// This one.
    Prefix(EscapePrefix),
}

impl FromStr for Escape {
    type Err = EscapeError;

    /// `none`, or keys as in the configuration.
    fn from_str(word: &str) -> Result<Self, EscapeError> {
        match word {
            "none" => Ok(Self::Off),
            keys => keys.parse().map(Self::Prefix),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    pub escape: Escape,
    /// End when the device is unplugged, even if the port has `reconnect = true`.
    pub no_reconnect: bool,
    pub force: bool,
    /// Read-only, kept while the device is unplugged, and exempt from the port's `timeout`, which frees write access.
    pub watch: bool,
}
