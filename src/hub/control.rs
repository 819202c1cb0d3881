//! What sessions want of the line beside input: how it is, its modem lines set, opened anew. Not in a row with input, because
//! it is a line that takes nothing which people ask about.

use std::path::PathBuf;

use tokio::sync::oneshot;

use crate::port::LineSettings;
use crate::serial::{Counters, ModemLine, ModemLines};

/// Wishes on their way to the line. More wait with whoever has them.
pub(super) const REQUEST_QUEUE: usize = 4;

/// What a session wants.
#[derive(Debug)]
pub enum Control {
    /// To know how the line is.
    Examine(oneshot::Sender<Condition>),
    /// The line closed and opened again.
    Reopen,
    /// The line set otherwise until the lease ends; the keys of the settings that the driver has refused.
    Lease {
        /// How.
        settings: LineSettings,
        /// Ends when its other end is dropped. It is dropped here when the line is set anew or closed. `None` is for who has
        /// one: so nothing is sent between two rates.
        lease: Option<oneshot::Receiver<()>>,
        /// Whether input is sent in the meantime. DTR and RTS are then given back too.
        sends: bool,
        /// What came of it.
        told: oneshot::Sender<Result<Vec<&'static str>, String>>,
    },
    /// A modem line of ours on or off; whether the driver could.
    Set(ModemLine, bool, oneshot::Sender<Result<(), String>>),
}

/// How a line is.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// The device.
    pub path: PathBuf,
    /// What the driver has counted; `None` if it does not count, or nothing is open.
    pub counters: Option<Counters>,
    /// The modem lines; `None` if there are none, or nothing is open.
    pub modem: Option<ModemLines>,
    /// Why the modem lines cannot be read, although there may be some.
    pub modem_error: Option<String>,
}
