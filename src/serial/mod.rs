//! The device edge: one locked serial tty, its byte stream, line settings, break, modem lines and counters, and the
//! watch for an unplugged device. Only the hub uses this room.

mod claim;
mod contact;
mod error;
mod ioctl;
mod line;
mod line_break;
mod stream;
mod tty;
mod watch;

pub use contact::{Contact, Splice};
pub use error::{AdoptError, OpenError};
pub(crate) use ioctl::unsent;
pub use ioctl::{Counters, ModemLine, ModemLines};
pub use line::RejectedSetting;
pub use line_break::{BreakError, STUCK_AFTER};
pub use stream::Output;
pub use tty::{ReadOutcome, Tty, WriteOutcome};
pub use watch::{DeviceWatch, WatchError};
