//! Placeholder that the next commits replace.
fn main() {}
