//! What follows from what a device says: `lines` makes text of the bytes, `rules` looks for what the configuration
//! names in it, `watcher` does that at a cursor in the ring, and `herald` tells console-admin.

pub mod herald;
pub mod lines;
pub mod rules;
pub mod watcher;

/// Bytes of a line that are looked at together, and told: whatever is longer is looked at in pieces that overlap.
pub const LONGEST_LINE: usize = 1024;
