//! Authentication. `protocol` is the protocol between the network processes and the root helper `console-auth`; `client` is the network
//! side; `account` looks up users, for both sides. The other modules run as root inside `console-auth`: `server` handles the requests,
//! `certificate` is what a client offers, as a type; `listed` searches for it in the `sources`, by `keyfile` and `keys_command`, and in
//! the files of `trust` (what is revoked, by `krl`, and the authorities); `authorized_keys` and `host_patterns` check lines, and `pam`
//! everything else. For the admin CLI only, `session` supervises the programs that `run` starts as the user.

pub mod account;
pub mod authorized_keys;
pub mod certificate;
pub mod client;
pub mod host_patterns;
pub mod krl;
pub mod protocol;
pub mod server;
pub mod sources;
pub mod status;
pub mod trust;

mod denied;
mod interrupt;
mod keyfile;
mod keys_command;
mod listed;
mod pam;
mod peer;
mod run;
mod session;
