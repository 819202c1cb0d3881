//! Authentication. `protocol` is the protocol between the network processes and the root helper `console-auth`; `client` is the network
//! side; `account` looks up users, for both sides. The other modules run as root inside `console-auth`: `server` handles the requests,
//! `listed` searches for a key in the `sources`, by `keyfile` and `keys_command`; `authorized_keys` and `host_patterns` check lines, and
//! `pam` everything else. For the admin CLI only, `session` supervises the programs that `run` starts as the user.

pub mod account;
pub mod authorized_keys;
pub mod client;
pub mod host_patterns;
pub mod protocol;
pub mod server;
pub mod sources;
pub mod status;

mod denied;
mod interrupt;
mod keyfile;
mod keys_command;
mod listed;
mod pam;
mod peer;
mod run;
mod session;
