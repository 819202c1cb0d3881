//! Requests of sessions to the line beside input: its state, modem lines, reopening. They bypass the input queue, because users ask about
//! a line that accepts no input.

use std::path::PathBuf;

use tokio::sync::oneshot;

use crate::port::LineSettings;
use crate::serial::{Counters, ModemLine, ModemLines};

/// Requests on their way to the line. More wait at their senders.
pub(super) const REQUEST_QUEUE: usize = 4;

#[derive(Debug)]
pub enum Control {
    /// Query the state of the line.
    Examine(oneshot::Sender<Condition>),
    /// Close the line and open it again.
    Reopen,
    /// Set the line otherwise until the lease ends. The reply is the keys of the settings that the driver refused.
    Lease {
        settings: LineSettings,
        /// Ends when its sender is dropped. The line drops it when it is set or closed. `None` changes the settings of the own lease,
        /// so that no input is sent between two rates.
        lease: Option<oneshot::Receiver<()>>,
        /// Whether input is sent in that time. DTR and RTS are then restored too.
        sends: bool,
        told: oneshot::Sender<Result<Vec<&'static str>, String>>,
    },
    /// Set a modem line of the port. The reply is whether the driver could.
    Set(ModemLine, bool, oneshot::Sender<Result<(), String>>),
}

#[derive(Debug, Clone, Default)]
pub struct Condition {
    pub path: PathBuf,
    /// The driver's counters; `None` if it has none, or the line is not open.
    pub counters: Option<Counters>,
    /// The modem lines; `None` if there are none, or the line is not open.
    pub modem: Option<ModemLines>,
    /// Why the modem lines cannot be read, although the device may have some.
    pub modem_error: Option<String>,
}
