//! `consolectl` over a real bus, with the real `console-admin` behind it: its commands, its prompt, its exit status.

#[path = "../support/accounts.rs"]
mod accounts;
mod admin_session;
mod autobaud;
mod bus;
#[path = "../support/client.rs"]
mod client;
mod commands;
mod completion;
mod golden;
mod import;
mod inherit;
mod learn;
#[path = "../support/line_cable.rs"]
mod line_cable;
mod many;
mod messages;
mod pipe;
mod prompt;
#[path = "../support/rig.rs"]
mod rig;
mod ssh_config;
#[path = "../support/tmux.rs"]
mod tmux;
mod transfer;
mod two_prompts;
