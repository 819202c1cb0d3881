#![allow(dead_code)] // Each test program uses its own part of this.
//! Other SSH clients than OpenSSH: PuTTY's plink, and paramiko, on which scripts are built.

use std::path::Path;
use std::process::Command;

use crate::rig::run;

/// A client program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Plink,
    Paramiko,
}

/// How a client logs in.
#[derive(Debug, Clone, Copy)]
pub enum By<'a> {
    /// A login by the private key in this file, in OpenSSH's format.
    Key(&'a Path),
    Password(&'a str),
}

impl Program {
    pub const ALL: [Self; 2] = [Self::Plink, Self::Paramiko];

    /// The client at this port of 127.0.0.1, with a terminal or without; the server has the host keys in `hostkeys`.
    pub fn at(self, port: u16, hostkeys: &Path, user: &str, by: By<'_>, terminal: bool) -> Command {
        let port = port.to_string();
        match self {
            Self::Plink => {
                let mut command = Command::new("plink");
                // Its file of known hosts.
                command.env("PUTTYDIR", hostkeys.join("putty"));
                command.args([
                    "-ssh",
                    "-batch",
                    "-no-antispoof",
                    "-hostkey",
                    &fingerprint(hostkeys),
                    "-P",
                    &port,
                ]);
                match by {
                    By::Key(key) => command.args(["-noagent", "-i", &putty_key(key)]),
                    By::Password(password) => command.args(["-noagent", "-pw", password]),
                };
                command.arg(if terminal { "-t" } else { "-T" }).arg(format!("{user}@127.0.0.1"));
                command
            }
            Self::Paramiko => {
                let mut command =
                    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/paramiko-client"));
                command.args([&port, user]);
                match by {
                    By::Key(key) => command.arg("--key").arg(key),
                    By::Password(password) => command.args(["--password", password]),
                };
                if terminal {
                    command.args(["--terminal", "90x30"]);
                }
                command
            }
        }
    }
}

/// A client with a key that then requests more than a session, or violates the protocol: `act` of the program selects how.
pub fn hostile(port: u16, user: &str, key: &Path, act: &[&str]) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/hostile-client"));
    command.args([&port.to_string(), user]).arg(key).args(act);
    command
}

/// A client that waits where others do not: `act` selects where.
pub fn careful(port: u16, user: &str, key: &Path, act: &str) -> Command {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/careful-client"));
    command.args([&port.to_string(), user]).arg(key).arg(act);
    command
}

/// All SSH requests besides a session, sent by [`hostile`], were rejected.
#[track_caller]
pub fn all_refused(answers: &str) {
    assert!(!answers.contains("GRANTED"), "{answers}");
    // The number of its requests: nine channels, six global requests, nine of the session.
    assert_eq!(answers.matches(": refused\n").count(), 24, "{answers}");
}

/// plink's expected key: of the keys there, the one that every client prefers.
pub fn fingerprint(hostkeys: &Path) -> String {
    let key = hostkeys.join("hostkey_ed25519");
    let listed = Command::new("ssh-keygen").arg("-lf").arg(key).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    listed.split(' ').nth(1).expect("a fingerprint").to_owned()
}

/// The same key in PuTTY's format.
pub fn putty_key(key: &Path) -> String {
    let converted = key.with_extension("ppk");
    run(Command::new("puttygen").arg(key).args(["-O", "private", "-o"]).arg(&converted));
    converted.into_os_string().into_string().unwrap()
}
