//! consoleserver: a logging serial console server made of socket-activated systemd units.
//!
//! The rooms below are in the order in which a byte meets them; a room imports only rooms above it.
//! `ARCHITECTURE.md` is the map for people.

// They panic if the terminal or pipe was closed; `writeln!` returns the error.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

pub mod event;
pub mod pattern;
pub mod port;
pub mod printable;
pub mod telnet;

pub mod system;

pub mod seats;

pub mod config;
pub mod ownership;

pub mod hostkeys;

pub mod auth;

pub mod logdir;

pub mod ring;
pub mod serial;
pub mod source;

pub mod hub;

pub mod capture;
pub mod session;
pub mod trigger;

pub mod initial;

pub mod exec;
pub mod rfc2217;

pub mod attach;
pub mod ssh;

pub mod plaintext;

pub mod service;

pub mod dial;

pub mod generator;

pub mod admin;

pub mod fleet;

pub mod cli;

pub mod gateway;

pub mod metrics;

pub mod foreground;
