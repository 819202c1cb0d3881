//! The capture log: everything that a port says, in a file. `text` makes bytes printable and `encode` turns them into
//! records (both pure); `log` keeps the file whole through full disks, rotation and crashes (`write_ahead` records each
//! write before it is made, and `recovery` finds out what of it is there); `reader` reads it back: `tail` its end,
//! `search` words in it, and `history` also what was rotated.

mod encode;
mod hex;
mod history;
mod lines;
mod log;
pub mod reader;
mod recovery;
mod search;
mod tail;
mod text;
mod trip;
mod write_ahead;
pub mod writer;

pub use encode::{Encoder, LONGEST_RECORD, Left, Times};
pub use history::{History, Sieve, Wanted};
pub use log::{CaptureError, CaptureLog, Displaced};
pub use recovery::Recovered;
pub use search::Found;
pub use text::{escape, is_hidden};
pub use write_ahead::{Mark, Step, WriteAhead};
