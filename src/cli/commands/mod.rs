//! The commands. A file has the arguments of a command, runs it, and has the error that only this command has.

pub(super) mod at_port;
pub(super) mod autobaud;
pub(super) mod change;
pub(super) mod check;
pub(super) mod commit;
pub(super) mod connect;
mod denials;
pub(super) mod dial;
pub(super) mod diff;
pub(super) mod drive;
pub(super) mod learn;
mod lines;
pub(super) mod list;
mod many;
pub(super) mod power;
pub(super) mod rename;
mod replay;
pub(super) mod sessions;
pub(super) mod shorthand;
pub(super) mod show;
pub(super) mod ssh_config;
pub(super) mod status;
pub(super) mod transfer;
mod watch;
