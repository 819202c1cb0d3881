//! The capture log: all output of a port, in a file. `encode` converts bytes to records (pure); `log` keeps the file
//! consistent through full disks, rotation and crashes (`write_ahead` records each write before it is made, and `recovery` finds
//! out how much of it is there); `reader` reads it back: `tail` its end, `search` words in it, and `history` also
//! rotated files, all of them by the lines of `view`. `recording` is a file beside it with the time of each byte, `cast` its form for asciinema.

mod batch;
pub mod cast;
mod encode;
mod hex;
mod history;
mod lines;
mod log;
pub mod reader;
pub mod recording;
mod recovery;
mod search;
mod tail;
mod view;
mod write_ahead;
pub mod writer;

pub use crate::printable::{escape, is_hidden};
pub use encode::{Encoder, LONGEST_RECORD, Left, Times};
pub use history::{History, guess_type, logs_in};
pub use log::{CaptureError, CaptureLog, Displaced};
pub use recovery::Recovered;
pub use search::Found;
pub use tail::Tail;
pub use view::{LineSelection, Lines, Matcher, TimeRange};
pub use write_ahead::Mark;

use crate::printable as text;
