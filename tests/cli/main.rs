//! `consolectl` over a real bus, with the real `console-admin` behind it: its words, its prompt, its exit status.

mod admin_session;
mod bus;
mod commands;
mod completion;
mod pipe;
mod prompt;
