//! Administration over D-Bus by `console-admin`. `bus` declares the interface; `manager` and `port` implement
//! it, `guarded` by `authorization`; `origin` finds where a caller comes from, and `act` reports each change
//! in the journal and by a signal. `core` does the work with `reload` and `commit`: `state` holds the
//! changes, `edits` makes them and `authors` attributes them, `apply` plans a reload, `units` and `live` call
//! systemd and the ports, `confirm` is a commit that may be rolled back, and `files` keeps all of it on disk.

mod act;
mod apply;
pub mod authorization;
mod authors;
pub mod bus;
mod bus_error;
mod commit;
pub mod confirm;
mod core;
mod edits;
mod files;
mod guarded;
mod live;
mod manager;
pub mod origin;
mod port;
mod port_move;
mod power;
mod reload;
mod rename;
pub mod service;
pub mod state;
pub(crate) mod units;
mod watcher;
pub mod wire;
