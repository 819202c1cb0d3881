//! The capture log: everything that a port says, in a file. `text` makes bytes printable and `encode` turns them into
//! records (both pure); `log` keeps the file whole through full disks, rotation and crashes, by a `ledger` of its writes and the `traces` that are found later; `reader` reads it
//! back: `tail` its end, `search` words in it, and `history` also what was rotated.

mod encode;
mod hex;
mod history;
mod ledger;
mod lines;
mod log;
pub mod reader;
mod search;
mod tail;
mod text;
mod traces;
mod trip;
pub mod writer;

pub use encode::{Encoder, LONGEST_RECORD, Left, Times};
pub use history::{History, Sieve, Wanted};
pub use ledger::{Ledger, Mark, Step};
pub use log::{CaptureError, CaptureLog};
pub use search::Found;
pub use text::{escape, is_hidden};
pub use traces::Outcome;
