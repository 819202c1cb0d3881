//! Triggers on a device's output: `lines` converts bytes to text, `rules` matches it against the configuration,
//! `watcher` does so at a cursor in the ring, and `notifier` notifies console-admin.

pub mod lines;
pub mod notifier;
pub mod rules;
pub mod watcher;

/// Bytes of a line that are checked together, and reported: a longer line is checked in overlapping pieces.
pub const LONGEST_LINE: usize = 1024;
