//! `ssh-config`: entries for ssh_config(5), so that `ssh core-switch` attaches to a console.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::io;
use std::str::FromStr;

use clap::Args;
use thiserror::Error;

use crate::cli::client::Client;
use crate::cli::error::{CommandError, Done};
use crate::cli::service::PortView;
use crate::cli::target::Target;
use crate::cli::value::{self, Keys};
use crate::config::Address;
use crate::port::PortName;
use crate::session::plain;

/// The entry of the admin CLI.
const CLI: &str = "consolectl";

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SshConfigOptions {
    /// Name or address of this machine for clients; default: its host name
    #[arg(long, value_name = "NAME")]
    pub host: Option<Host>,
    /// Prefix of the entries' names: rack1- gives rack1-ttyUSB0
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<Prefix>,
    /// Login name; default: ssh's
    #[arg(long, value_name = "NAME")]
    pub user: Option<Login>,
}

/// Why a word cannot be put into a line of ssh_config(5) unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("use {0}")]
pub struct Unfit(&'static str);

fn fit(word: &str, others: &str, longest: usize) -> bool {
    let first = word.chars().next();
    (1..=longest).contains(&word.len())
        && first != Some('-')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

/// A host name or address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(String);

impl FromStr for Host {
    type Err = Unfit;

    fn from_str(word: &str) -> Result<Self, Unfit> {
        const USE: &str = "a host name or an address without brackets: A-Z a-z 0-9 . _ - : %";
        // RFC 1035, 2.3.4: 255 octets on the wire, which are 253 characters.
        if fit(word, "._-:%", 253) { Ok(Self(word.to_owned())) } else { Err(Unfit(USE)) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl FromStr for Prefix {
    type Err = Unfit;

    fn from_str(word: &str) -> Result<Self, Unfit> {
        const USE: &str = "1 to 64 of A-Z a-z 0-9 . _ -, not starting with -";
        if fit(word, "._-", 64) { Ok(Self(word.to_owned())) } else { Err(Unfit(USE)) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login(String);

impl FromStr for Login {
    type Err = Unfit;

    fn from_str(word: &str) -> Result<Self, Unfit> {
        const USE: &str = "a login name: 1 to 64 of A-Z a-z 0-9 . _ - @, not starting with -";
        if fit(word, "._-@", 64) { Ok(Self(word.to_owned())) } else { Err(Unfit(USE)) }
    }
}

/// Why the host name of this machine cannot be used.
#[derive(Debug, Error)]
pub enum NoHostName {
    #[error("{0}: {1}; use --host to set the name in the entries")]
    Unreadable(&'static str, io::Error),
    #[error("the host name of this machine, {0:?}, is invalid; use --host to set the name in the entries")]
    Invalid(String),
}

pub(in crate::cli) async fn run(options: SshConfigOptions, client: &Client, to: &mut impl io::Write) -> Done {
    let host = match &options.host {
        Some(host) => host.clone(),
        None => Host::of_this_machine().map_err(CommandError::of_command)?,
    };
    let service = client.service().await?;
    let (ports, server) = tokio::try_join!(service.ports(), service.keys(&Target::Server))?;
    Ok(to.write_all(entries(&ports, &server.running, &host, &options).as_bytes())?)
}

impl Host {
    /// The host name that the kernel has.
    pub fn of_this_machine() -> Result<Self, NoHostName> {
        const FILE: &str = "/proc/sys/kernel/hostname";
        let name = std::fs::read_to_string(FILE).map_err(|error| NoHostName::Unreadable(FILE, error))?;
        let name = name.trim_end();
        name.parse().map_err(|_| NoHostName::Invalid(plain(name)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name under which known_hosts has the host key, which all ports share. The machine's sshd, under the plain name, has another key.
    fn alias(&self) -> String {
        format!("{}-consoles", self.0.replace('%', "-"))
    }

    /// `%` starts a token in ssh_config(5).
    fn as_host_name(&self) -> String {
        self.0.replace('%', "%%")
    }
}

struct Entry<'a> {
    name: String,
    comment: Vec<String>,
    port: u16,
    host: &'a Host,
    user: Option<&'a Login>,
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, comment, port, host, user } = self;
        writeln!(f)?;
        for line in comment {
            writeln!(f, "# {line}")?;
        }
        writeln!(f, "Host {name}\n    HostName {}\n    Port {port}", host.as_host_name())?;
        if let Some(Login(user)) = user {
            writeln!(f, "    User {user}")?;
        }
        writeln!(f, "    HostKeyAlias {}", host.alias())
    }
}

/// Entries of the ports whose running configuration has an SSH port, and of the admin CLI.
fn entries(
    ports: &BTreeMap<PortName, PortView>,
    server: &Keys,
    host: &Host,
    options: &SshConfigOptions,
) -> String {
    let mut text = format!(
        "# Consoles of {}, printed by consolectl ssh-config. Include this file in ~/.ssh/config.\n",
        host.0
    );
    let prefix = options.prefix.as_ref().map_or("", |Prefix(prefix)| prefix);
    let entry = |name: &str, comment, port| Entry {
        name: format!("{prefix}{name}"),
        comment,
        port,
        host,
        user: options.user.as_ref(),
    };
    let server = value::server(server);
    for (name, view) in ports {
        let own = value::port(view.effective());
        let Some(port) = own.ssh_port else { continue };
        let mut comment = Vec::new();
        if !own.description.is_empty() {
            comment.push(plain(&own.description));
        }
        comment.extend(loopback_comment(own.listen.as_deref().unwrap_or(&server.listen)));
        let _ = write!(text, "{}", entry(name.as_str(), comment, port));
    }
    match server.ssh_port {
        Some(_) if ports.keys().any(|port| port.as_str() == CLI) => {
            text.push_str("\n# No entry for the admin CLI: a port is named consolectl.\n");
        }
        Some(port) => {
            let mut comment = vec!["the admin CLI".to_owned()];
            comment.extend(loopback_comment(&server.listen));
            let _ = write!(text, "{}", entry(CLI, comment, port));
        }
        None => {}
    }
    text
}

/// The comment of a listener that other machines cannot reach.
fn loopback_comment(listen: &[Address]) -> Option<String> {
    let local = !listen.is_empty() && listen.iter().all(|address| address.ip().is_loopback());
    local.then(|| "listens on loopback addresses only".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::configurations::Configurations;
    use crate::config::Value;

    fn view(pairs: &[(&str, Value)]) -> PortView {
        let running = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        PortView { keys: Configurations { running, ..Configurations::default() }, ..PortView::default() }
    }

    fn server(ssh_port: Value) -> Keys {
        [("ssh_port".to_owned(), ssh_port)].into()
    }

    const PLAIN: SshConfigOptions = SshConfigOptions { host: None, prefix: None, user: None };

    #[test]
    fn each_listener_has_an_entry_with_the_same_host_key_alias() {
        let ports: BTreeMap<PortName, PortView> = [
            ("core", view(&[("ssh_port", Value::Integer(8100)), ("description", "rack 4, top".into())])),
            ("none", view(&[("ssh_port", "none".into())])),
            (
                "lab",
                view(&[
                    ("ssh_port", Value::Integer(8101)),
                    ("listen", Value::Array(vec!["127.0.0.1".into()])),
                ]),
            ),
        ]
        .map(|(name, view)| (name.parse().unwrap(), view))
        .into();
        let options = SshConfigOptions {
            prefix: Some("r1-".parse().unwrap()),
            user: Some("bob".parse().unwrap()),
            ..PLAIN
        };
        let host = "fe80::1%eth0".parse().unwrap();
        let wanted = "\
            # Consoles of fe80::1%eth0, printed by consolectl ssh-config. Include this file in ~/.ssh/config.\n\
            \n# rack 4, top\nHost r1-core\n    HostName fe80::1%%eth0\n    Port 8100\n    User bob\n    \
            HostKeyAlias fe80::1-eth0-consoles\n\
            \n# listens on loopback addresses only\nHost r1-lab\n    HostName fe80::1%%eth0\n    \
            Port 8101\n    User bob\n    HostKeyAlias fe80::1-eth0-consoles\n\
            \n# the admin CLI\nHost r1-consolectl\n    HostName fe80::1%%eth0\n    Port 8022\n    User bob\n    \
            HostKeyAlias fe80::1-eth0-consoles\n";
        assert_eq!(entries(&ports, &server(Value::Integer(8022)), &host, &options), wanted);
    }

    #[test]
    fn the_admin_cli_has_no_entry_without_a_listener_or_if_a_port_has_its_name() {
        let host = "rack".parse().unwrap();
        let ports = BTreeMap::new();
        assert!(!entries(&ports, &server("none".into()), &host, &PLAIN).contains("Host "));
        let ports = [(CLI.parse().unwrap(), view(&[("ssh_port", Value::Integer(1))]))].into();
        let text = entries(&ports, &server(Value::Integer(8022)), &host, &PLAIN);
        assert_eq!(text.matches("Host ").count(), 1, "{text}");
        assert!(text.contains("a port is named consolectl"), "{text}");
    }

    #[test]
    fn words_that_could_inject_directives_are_rejected() {
        for bad in ["", "-x", "a b", "a\nProxyCommand id", "a\"", "*", "ä", "[::1]"] {
            assert!(bad.parse::<Host>().is_err(), "{bad:?}");
            assert!(bad.parse::<Prefix>().is_err(), "{bad:?}");
            assert!(bad.parse::<Login>().is_err(), "{bad:?}");
        }
    }
}
