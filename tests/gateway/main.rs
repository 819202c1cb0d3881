//! The admin CLI over SSH, as users use it: OpenSSH's client, real accounts, the real `console-cli`, `console-auth` and PAM.
//! In the place of `consolectl` is a program that prints its user and its arguments; `consolectl` itself is another
//! test's, except in `fleet`.

#[path = "../support/accounts.rs"]
mod accounts;
#[path = "../support/audit.rs"]
mod audit;
mod bench;
#[allow(dead_code)] // Of another test program, which uses all of it.
#[path = "../cli/bus.rs"]
mod bus;
#[path = "../support/client.rs"]
mod client;
#[path = "../support/programs.rs"]
mod programs;
#[path = "../support/rig.rs"]
mod rig;

mod commands;
mod ends;
mod fleet;
mod logins;
mod many_names;
mod moved_names;
mod name_faults;
mod names;
mod refused;
mod sessions;
mod terminal;
