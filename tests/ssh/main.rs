//! A port over SSH, as users use it: OpenSSH's client and others, real accounts, the real `console-auth` and PAM, and a pty for
//! a device.

#[path = "../support/accounts.rs"]
mod accounts;
#[path = "../support/audit.rs"]
mod audit;
#[path = "../support/client.rs"]
mod client;
#[path = "../support/line_cable.rs"]
mod line_cable;
#[path = "../support/programs.rs"]
mod programs;
#[path = "../support/rig.rs"]
mod rig;
#[path = "../support/sshd.rs"]
mod sshd;
#[path = "../support/tmux.rs"]
mod tmux;

mod algorithms;
mod attack;
mod away;
mod cable;
mod certificate_cases;
mod certificates;
mod clients;
mod crowd;
mod encodings;
mod ends;
mod exec;
mod host_keys;
mod hostile;
mod ioctls;
mod key_sources;
mod limits;
mod logins;
mod menu;
mod notices;
mod offences;
mod pacing;
mod pam_says;
mod paste;
mod records;
mod refused;
mod rush;
mod sessions;
mod settings;
mod signals;
mod strangers;
mod timing;
mod transfer;
mod typing;
mod watching;

use client::Client;
use rig::Rig;

/// A bench with a device, a port and logins by its own key.
fn served(settings: &str) -> Rig {
    let mut rig = Rig::new(settings);
    rig.serve_logins(true);
    rig.start_plugged();
    rig
}

/// A client with a terminal, whose session has begun.
fn at_terminal(rig: &Rig) -> Client {
    let mut client = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1"]));
    client.sees("[demo ");
    client.sees("]\r\n");
    client
}

/// The `count` th program without a terminal, whose session has begun.
fn with_bytes_only(rig: &Rig, count: usize) -> Client {
    let client = Client::start(rig.ssh(&["-T", "demo@127.0.0.1"]));
    rig.wait_for_status(&format!("{count} attached"));
    client
}

/// The device of a port with `xonxoff` sends XOFF, and the port has received it.
fn stop(rig: &Rig, client: &mut Client) {
    rig.say(b"\x13stopped");
    client.sees("stopped");
}

fn go_on(rig: &Rig) {
    rig.say(b"\x11");
}
