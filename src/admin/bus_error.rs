//! Errors on the bus. They have names of their own: tools print the standard ones in their own words, and the
//! caller needs our sentence.

use super::authorization::Denied;
use super::core::Error;

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.consoleserver1.Error")]
pub enum BusError {
    #[zbus(error)]
    Bus(zbus::Error),
    Denied(String),
    /// The request is invalid; nothing was changed.
    Rejected(String),
    Failed(String),
}

pub type Result<T, E = BusError> = std::result::Result<T, E>;

impl From<BusError> for zbus::BoxDBusError {
    fn from(error: BusError) -> Self {
        Box::new(error)
    }
}

impl From<Error> for BusError {
    fn from(error: Error) -> Self {
        match error {
            Error::Rejected(_) => Self::Rejected(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<Denied> for BusError {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied.to_string())
    }
}
