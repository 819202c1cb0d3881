//! The clients, and the command line of each for the same tasks.

use std::process::Command;

use crate::programs::{By, fingerprint, putty_key};
use crate::rig::Rig;
use crate::{PASSWORD, USER, here, python};

/// A client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    OpenSsh,
    Plink,
    Dbclient,
    Paramiko,
    Asyncssh,
    Libssh2,
}

impl Tool {
    pub const ALL: [Self; 6] =
        [Self::OpenSsh, Self::Plink, Self::Dbclient, Self::Paramiko, Self::Asyncssh, Self::Libssh2];

    /// The client's command line to run one command at the port.
    pub fn command(self, rig: &Rig, by: By<'_>, line: &str) -> Command {
        let mut command = match self {
            Self::Paramiko | Self::Asyncssh | Self::Libssh2 => self.library(rig, by, "run"),
            _ => self.program(rig, by, false, &[]),
        };
        command.arg(line);
        command
    }

    /// A session without a terminal, with a keepalive each second if the client supports it.
    pub fn pipe(self, rig: &Rig) -> Command {
        let key = rig.path("key");
        let by = By::Key(&key);
        match self {
            Self::OpenSsh => {
                self.program(rig, by, false, &["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=3"])
            }
            // dbclient disconnects after three unanswered keepalives.
            Self::Dbclient => self.program(rig, by, false, &["-K", "1"]),
            Self::Plink => self.program(rig, by, false, &[]),
            _ => self.library(rig, by, "pipe"),
        }
    }

    /// A library's client.
    pub fn library(self, rig: &Rig, by: By<'_>, act: &str) -> Command {
        let mut command = Command::new(python());
        let library = format!("{self:?}").to_lowercase();
        // cryptography warns asyncssh of ciphers that it will remove.
        command.args(["-W", "ignore", &here("by-library"), &library, &rig.tcp_port.to_string(), USER]);
        match by {
            By::Key(key) => command.arg("--key").arg(key),
            By::Password(password) => command.args(["--password", password]),
        };
        command.arg(act);
        command
    }

    /// A program's client, with a terminal or without.
    pub fn program(self, rig: &Rig, by: By<'_>, terminal: bool, options: &[&str]) -> Command {
        let port = rig.tcp_port.to_string();
        let terminal_word = if terminal { "-tt" } else { "-T" };
        match self {
            Self::OpenSsh => {
                let mut command = match by {
                    By::Key(_) => Command::new("ssh"),
                    By::Password(password) => {
                        let mut command = Command::new("sshpass");
                        command.args(["-p", password, "ssh", "-o", "PubkeyAuthentication=no"]);
                        command
                    }
                };
                command.args(["-F", "none", "-o", "UserKnownHostsFile=/dev/null", "-o"]);
                command.args(["StrictHostKeyChecking=no", "-o", "LogLevel=ERROR", "-p", &port]);
                if let By::Key(key) = by {
                    command.arg("-i").arg(key);
                }
                command.args(options).args([terminal_word, &format!("{USER}@127.0.0.1")]);
                command
            }
            Self::Dbclient => {
                let mut command = Command::new("dbclient");
                command.args(["-y", "-y", "-p", &port]);
                match by {
                    By::Key(key) => {
                        let converted = key.with_extension("dropbear");
                        if !converted.exists() {
                            crate::rig::run(
                                Command::new("dropbearconvert")
                                    .args(["openssh", "dropbear"])
                                    .arg(key)
                                    .arg(&converted),
                            );
                        }
                        command.arg("-i").arg(converted);
                    }
                    By::Password(password) => {
                        command.env("DROPBEAR_PASSWORD", password);
                    }
                }
                command
                    .args(options)
                    .args([if terminal { "-t" } else { "-T" }, &format!("{USER}@127.0.0.1")]);
                command
            }
            Self::Plink => {
                let hostkeys = rig.path("hostkeys");
                let mut command = Command::new("plink");
                // The directory of PuTTY's known host keys.
                command.env("PUTTYDIR", hostkeys.join("putty"));
                command.args(["-ssh", "-batch", "-no-antispoof", "-noagent", "-P", &port]);
                command.args(["-hostkey", &fingerprint(&hostkeys)]);
                match by {
                    By::Key(key) => command.args(["-i", &putty_key(key)]),
                    By::Password(password) => command.args(["-pw", password]),
                };
                command.args(options);
                command.args([if terminal { "-t" } else { "-T" }, &format!("{USER}@127.0.0.1")]);
                command
            }
            library => panic!("{library:?} is not a program"),
        }
    }

    /// Both methods of login.
    pub fn logins(key: &std::path::Path) -> [By<'_>; 2] {
        [By::Key(key), By::Password(PASSWORD)]
    }
}
