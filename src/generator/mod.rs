//! The systemd generator: turns the configuration into drop-ins, links and `.path` units
//! (systemd.generator(7)). `plan` is pure; `write` makes the files. Only port names, addresses and escaped
//! paths get into units, so that no text of the configuration can become a directive.

pub mod logrotate;
mod machine;
mod plan;
mod text;
pub mod udev;
mod write;

pub use machine::Machine;
pub(crate) use plan::STARTER;
pub use plan::{Entry, Plan, plan, source_drop_in};
pub use write::{WriteError, write, written};
