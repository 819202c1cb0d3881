//! The capture log: everything that a port says, in a file. `encode` turns bytes into records (pure); `log` keeps the file whole through full disks, rotation and crashes; `reader` reads it
//! back: `tail` its end, `search` words in it, and `history` also what was rotated, all of them by the lines of `view`.

mod encode;
mod hex;
mod history;
mod lines;
mod log;
pub mod reader;
mod search;
mod tail;
mod trip;
mod view;
pub mod writer;

pub use crate::printable::{escape, is_hidden};
pub use encode::{Encoder, LONGEST_RECORD, Left, Times};
pub use history::{History, guess_type, logs_in};
pub use log::{CaptureError, CaptureLog, Mark};
pub use search::Found;
pub use tail::Tail;
pub use view::{Lines, Matcher, TimeRange, Wanted};

use crate::printable as text;
