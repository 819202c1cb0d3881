//! Administration over D-Bus: `console-admin` tries a change, reloads the ports that it concerns, and commits it. `bus` is the
//! interface as its callers see it.

pub mod bus;
