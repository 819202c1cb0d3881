//! `consolectl` over a real bus, with the real `console-admin` behind it: its words, its prompt, its exit status.

mod admin_session;
mod bus;
#[path = "../support/client.rs"]
mod client;
mod commands;
mod completion;
mod import;
mod pipe;
mod prompt;
#[path = "../support/rig.rs"]
mod rig;
mod ssh_config;
