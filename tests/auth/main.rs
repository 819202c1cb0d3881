//! Logins as `console-auth` decides about them: the real program, real PAM, real accounts. Most tests speak the protocol
//! by hand. Every denial is the same on the wire; its reason is in the program's messages.

#[path = "../support/accounts.rs"]
mod accounts;
mod client;
mod commands;
mod helper;
mod keys;
mod passwords;
mod protocol;
mod run;
mod who;
