//! Administration over D-Bus: `console-admin` tries a change, reloads the ports that it concerns, and commits it. `bus` is the
//! interface as its callers see it; `manager` and `port` are its objects, `guarded` by the `bouncer`. `core` does the work, with
//! `reload` and `commit`: `state` is what is changed, `apply` thinks what a reload has to do, `units` and `live` have systemd and the ports do it, `confirm` is a
//! commit that may yet go back, and `files` is where it all lies in between.

mod apply;
pub mod bouncer;
pub mod bus;
mod commit;
pub mod confirm;
mod core;
mod edits;
mod files;
mod guarded;
mod hand_over;
mod live;
mod manager;
mod port;
mod refused;
mod reload;
mod rename;
pub mod service;
pub mod state;
mod units;
mod watcher;
pub mod wire;
