//! What the configuration means for systemd, as drop-ins, links and `.path` units in the directory that systemd gives a
//! generator (`man systemd.generator`). `plan` only thinks; `write` does. Nothing of the configuration gets into a unit
//! but what has been taken apart into port names, addresses and escaped paths, so no string becomes a directive.

pub mod logrotate;
mod machine;
mod plan;
mod text;
pub mod udev;
mod write;

pub use machine::Machine;
pub(crate) use plan::STARTER;
pub use plan::{Entry, Plan, plan};
pub use write::{WriteError, write, written};
