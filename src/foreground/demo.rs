//! `--demo`: a port for machines without an adapter, and a key that is valid for this port and this run only.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};

use super::ForegroundError;
use super::line::{FarEnd, Line, ShellUser};
use super::paths::{Paths, in_file, program};
use super::sockets::listen_ssh;
use crate::config::{Address, Config, Groups, Port};
use crate::hostkeys;
use crate::port::PortName;
use crate::system::persist::{self, Owner};

/// The port's name; `console-auth --demo-key` accepts its key for no other.
const DEMO_PORT: &str = "demo";
/// Where the search for a free TCP port begins, and how many are tried.
const FIRST_SSH_PORT: u16 = 8023;
const TRIED_SSH_PORTS: u16 = 200;

/// The shell's user, if we are root: not `nobody`, which ports may run as, but a uid that systemd keeps unused (systemd.io/UIDS-GIDS:
/// 65520–65533).
const SHELL_USER: Owner = Owner { uid: 65533, gid: 65533 };

/// The demonstration port before it is served.
#[derive(Debug)]
pub struct Demo {
    /// `demo`.
    pub name: PortName,
    /// The pty that the port opens.
    pub line: Line,
    /// The SSH listeners of the port, on loopback only, because a shell is behind them.
    pub ssh: Vec<TcpListener>,
    /// The public half of this run's key.
    pub public_key: PathBuf,
    far_end: FarEnd,
    ssh_port: u16,
    key: PathBuf,
    known_hosts: PathBuf,
    shell: ShellUser,
}

impl Demo {
    /// Creates the pty, the key and the listeners, and adds the port to `config`.
    pub fn prepare(paths: &Paths, config: &mut Config) -> Result<Self, ForegroundError> {
        let name: PortName = DEMO_PORT.parse().expect("a valid name");
        let (line, far_end) = Line::open(paths.port_user).map_err(ForegroundError::Pty)?;
        let listen = own_addresses();
        let taken =
            config.ports.values().filter_map(|port| port.ssh_port).chain(config.server.ssh_port).collect();
        let (ssh_port, ssh) = free_port(&name, &listen, &taken)?;
        config.ports.insert(name.clone(), port(line.path(), ssh_port, listen));

        let key = paths.runtime.join("demo_key");
        let public_key = paths.runtime.join("demo_key.pub");
        let known_hosts = paths.runtime.join("known_hosts");
        make_key(&key, &public_key, paths.person())?;
        write_known_hosts(&known_hosts, &paths.hostkeys, ssh_port)?;
        let shell = if geteuid().is_root() {
            ShellUser { owner: Some(SHELL_USER), home: "/".into() }
        } else {
            ShellUser { owner: None, home: paths.home.clone() }
        };
        Ok(Self { name, line, ssh, public_key, far_end, ssh_port, key, known_hosts, shell })
    }

    /// The commands for a second terminal.
    pub fn instructions(&self, paths: &Paths) -> Result<String, ForegroundError> {
        let word = |path: &Path| shell_word(&path.display().to_string());
        let log = paths.logs.join(DEMO_PORT).join("console.log");
        let sudo = if paths.person().is_some() { "sudo " } else { "" };
        Ok(format!(
            "\nThe port `demo` is a shell in place of a device. In a second and third terminal, run:\n\n    \
             ssh -i {key} -o IdentitiesOnly=yes -o UserKnownHostsFile={known_hosts} -p {port} demo@localhost\n    \
             {consolectl} --runtime-dir {runtime} connect demo\n\n\
             The first client has write access, the others are read-only. Ctrl-E c ? lists the escape commands, Ctrl-E c . detaches. The log:\n\n    \
             {sudo}tail -F {log}\n\n\
             Press Ctrl-C here to stop everything.\n",
            key = word(&self.key),
            known_hosts = word(&self.known_hosts),
            port = self.ssh_port,
            consolectl = word(&program("consolectl")?),
            runtime = word(&paths.runtime),
            log = word(&log),
        ))
    }

    /// Splits the demonstration into the listeners and the pty of the port, and the shell.
    pub fn split(self) -> (PortName, Line, Vec<TcpListener>, impl Future<Output = ()>) {
        (self.name, self.line, self.ssh, self.far_end.run_shells(self.shell))
    }
}

/// The loopback addresses of this machine.
fn own_addresses() -> Vec<Address> {
    [IpAddr::from(Ipv6Addr::LOCALHOST), IpAddr::from(Ipv4Addr::LOCALHOST)]
        .into_iter()
        .filter(|&address| TcpListener::bind((address, 0)).is_ok())
        .map(Address::from)
        .collect()
}

fn free_port(
    name: &PortName,
    addresses: &[Address],
    taken: &BTreeSet<u16>,
) -> Result<(u16, Vec<TcpListener>), ForegroundError> {
    let last = FIRST_SSH_PORT + TRIED_SSH_PORTS - 1;
    for number in (FIRST_SSH_PORT..=last).filter(|number| !taken.contains(number)) {
        match listen_ssh(name, addresses, number) {
            Err(ForegroundError::Listen { error, .. }) if error.kind() == ErrorKind::AddrInUse => {}
            bound => return bound.map(|listeners| (number, listeners)),
        }
    }
    Err(ForegroundError::NoFreePort { first: FIRST_SSH_PORT, last })
}

fn port(device: &Path, ssh_port: u16, listen: Vec<Address>) -> Port {
    Port {
        device: Some(device.to_owned()),
        ssh_port: Some(ssh_port),
        listen: Some(listen),
        groups: Some(Groups::Everyone),
        description: "a shell in place of a device".to_owned(),
        ..Port::default()
    }
}

fn make_key(key: &Path, public_key: &Path, owner: Option<Owner>) -> Result<(), ForegroundError> {
    let mut pair = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519)
        .map_err(ForegroundError::DemoKey)?;
    pair.set_comment("consoleserver demonstration");
    let private_text = pair.to_openssh(LineEnding::LF).map_err(ForegroundError::DemoKey)?;
    let public_text = pair.public_key().to_openssh().map_err(ForegroundError::DemoKey)? + "\n";
    persist::write(key, private_text.as_bytes(), 0o600, owner).map_err(in_file(key))?;
    persist::write(public_key, public_text.as_bytes(), 0o644, owner).map_err(in_file(public_key))
}

/// A known_hosts file, so that ssh does not ask about the host key.
fn write_known_hosts(path: &Path, hostkey_directory: &Path, ssh_port: u16) -> Result<(), ForegroundError> {
    let mut lines = String::new();
    for key in hostkeys::load(hostkey_directory)?.keys {
        let key = key.public_key().to_openssh().map_err(ForegroundError::DemoKey)?;
        lines += &format!("[localhost]:{ssh_port} {key}\n");
    }
    persist::write(path, lines.as_bytes(), 0o644, None).map_err(in_file(path))
}

/// Removes the files of a demonstration.
pub fn clear(paths: &Paths) {
    for name in ["demo_key", "demo_key.pub", "known_hosts"] {
        let path = paths.runtime.join(name);
        if let Err(error) = persist::gone(fs::remove_file(&path)) {
            tracing::warn!("{}: not removed: {error}", path.display());
        }
    }
}

fn shell_word(text: &str) -> String {
    // Fails for a NUL, which no path has.
    shlex::try_quote(text).map_or_else(|_| text.to_owned(), |quoted| quoted.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_space_or_a_quote_is_one_word() {
        assert_eq!(shell_word("/run/consoleserver"), "/run/consoleserver");
        let odd = "/home/o'neill/my $HOME/x";
        let echoed = std::process::Command::new("/bin/sh")
            .args(["-c", &format!("printf %s {}", shell_word(odd))])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(echoed.stdout).unwrap(), odd);
    }

    #[test]
    fn a_tcp_port_in_use_is_skipped() {
        let addresses = own_addresses();
        let name: PortName = DEMO_PORT.parse().unwrap();
        let (first, _held) = free_port(&name, &addresses, &BTreeSet::new()).unwrap();
        let (second, _) = free_port(&name, &addresses, &BTreeSet::new()).unwrap();
        assert!(second > first);
        let (third, _) = free_port(&name, &addresses, &BTreeSet::from([second])).unwrap();
        assert_ne!(third, second);
    }
}
