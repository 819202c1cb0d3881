//! Who somebody is. `protocol` is what the network processes and the root helper `console-auth` say to each
//! other; `client` is the network side; `account` knows the user, for both sides; the other rooms run as root inside
//! `console-auth`: `server` keeps the order, `listed` looks for a key where `sources` says, by `keyfile` and
//! `keys_command`, and `authorized_keys` and `from` decide about lines, `pam` about everything else.
//! For the admin CLI alone, `session` keeps one program, which `run` starts as the user.

pub mod account;
pub mod authorized_keys;
pub mod client;
pub mod host_patterns;
pub mod protocol;
pub mod server;
pub mod sources;

mod denied;
mod interrupt;
mod keyfile;
mod keys_command;
mod listed;
mod pam;
mod peer;
mod run;
mod session;
