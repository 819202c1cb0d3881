//! Who somebody is. `protocol` is what the network processes and the root helper `console-auth` say to each
//! other; `client` is the network side; `account` knows the user, for both sides; the other rooms run as root inside
//! `console-auth`: `server` keeps the order, `keyfile`, `authorized_keys` and `from` decide about keys, `pam` about everything else.
//! For the admin CLI alone, `session` keeps one program, which `run` starts as the user.

pub mod account;
pub mod authorized_keys;
pub mod client;
pub mod from;
pub mod protocol;
pub mod server;

mod interrupt;
mod keyfile;
mod pam;
mod peer;
mod refusal;
mod run;
mod session;
