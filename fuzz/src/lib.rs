//! What holds for any input. One module per target, named after it; its `run` takes any bytes and panics if something
//! does not hold. libFuzzer calls it by `targets/`, and `tests/fuzz_corpora.rs` with all inputs that are kept.

pub mod attach_protocol;
pub mod auth_protocol;
pub mod authorized_keys;
pub mod certificates;
pub mod changes;
pub mod config;
pub mod encoders;
pub mod escape;
pub mod exec;
pub mod far_end;
pub mod history;
pub mod importers;
mod pieces;
pub mod replay;
pub mod ring;
pub mod telnet;
pub mod triggers;
mod wire;

/// A target.
pub type Run = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const TARGETS: [(&str, Run); 16] = [
    ("attach_protocol", attach_protocol::run),
    ("auth_protocol", auth_protocol::run),
    ("authorized_keys", authorized_keys::run),
    ("certificates", certificates::run),
    ("changes", changes::run),
    ("config", config::run),
    ("encoders", encoders::run),
    ("escape", escape::run),
    ("exec", exec::run),
    ("far_end", far_end::run),
    ("history", history::run),
    ("importers", importers::run),
    ("replay", replay::run),
    ("ring", ring::run),
    ("telnet", telnet::run),
    ("triggers", triggers::run),
];
