//! Refusals as they go over the bus. Names of our own: tools show the standard ones as their own words, and ours are the sentence that
//! the caller needs.

use super::authorization::Denied;
use super::core::Error;

/// An error of a call.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.consoleserver1.Error")]
pub enum BusError {
    /// The bus itself.
    #[zbus(error)]
    Bus(zbus::Error),
    /// The caller may not.
    Denied(String),
    /// What was asked for cannot be; nothing was changed.
    Refused(String),
    /// It was tried.
    Failed(String),
}

/// What members return.
pub type Result<T, E = BusError> = std::result::Result<T, E>;

impl From<BusError> for zbus::BoxDBusError {
    fn from(error: BusError) -> Self {
        Box::new(error)
    }
}

impl From<Error> for BusError {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(_) => Self::Refused(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<Denied> for BusError {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied.to_string())
    }
}
