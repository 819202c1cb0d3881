//! The capture log: everything that a port says, in a file. `text` makes bytes printable and `encode` turns them into
//! records (both pure); `log` keeps the file whole through full disks, rotation and crashes; `tail` reads it back.

mod encode;
mod log;
pub mod tail;
mod text;
pub mod writer;

pub use encode::{Encoder, LONGEST_RECORD, Left, Times};
pub use log::{CaptureError, CaptureLog, Mark};
pub use text::escape;
