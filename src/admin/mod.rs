//! Administration over D-Bus: `console-admin` tries a change, reloads the ports that it concerns, and commits it. `bus` is the
//! interface as its callers see it; `manager` and `port` are its objects, `guarded` by the `authorizer`, and `origin` is where a caller is. `act` tells
//! of each change, in the journal and by a signal. `core` does the work, with
//! `reload` and `commit`: `state` is what is changed, `edits` how and `authors` by whom, `apply` thinks what a reload has to do, `units` and `live` have systemd and the ports do it, `confirm` is a
//! commit that may yet go back, and `files` is where it all lies in between.

mod act;
mod apply;
pub mod authorization;
mod authors;
pub mod bus;
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
mod refused;
mod reload;
mod rename;
pub mod service;
pub mod state;
mod units;
mod watcher;
pub mod wire;
