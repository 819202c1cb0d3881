//! consoleserver: a logging serial console server made of socket-activated systemd units.
//!
//! The rooms below stand in the order in which a byte meets them; a room imports only rooms above it.
//! `ARCHITECTURE.md` is the map for people.

pub mod port;

pub mod config;
pub mod message;

pub mod auth;

pub mod persist;

pub mod hostkeys;

pub mod foreground;
