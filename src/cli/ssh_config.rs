//! `ssh-config`: entries for the configuration of people's OpenSSH, so that `ssh core-switch` is a console.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::str::FromStr;

use clap::Args;
use thiserror::Error;

use super::service::PortView;
use super::value::{self, Keys};
use crate::config::Address;
use crate::port::PortName;
use crate::session::plain;

/// What the entry of the admin CLI is called.
const CLI: &str = "consolectl";

/// How others reach this machine, and what they call its consoles.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct SshConfigOptions {
    /// How others reach this machine; else by its own name
    #[arg(long, value_name = "NAME")]
    pub host: Option<Host>,
    /// What the names of the entries begin with: rack1- makes rack1-ttyUSB0
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<Prefix>,
    /// Login name; else whatever ssh takes
    #[arg(long, value_name = "NAME")]
    pub user: Option<Login>,
}

/// A word that cannot stand in a line of ssh_config(5) as it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("use {0}")]
pub struct Unfit(&'static str);

fn fit(word: &str, others: &str, longest: usize) -> bool {
    let first = word.chars().next();
    (1..=longest).contains(&word.len())
        && first != Some('-')
        && word.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

/// A name or address of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(String);

impl FromStr for Host {
    type Err = Unfit;

    fn from_str(word: &str) -> Result<Self, Unfit> {
        const USE: &str = "a host name or an address without brackets: A-Z a-z 0-9 . _ - : %";
        // 253 is the longest name of the DNS.
        if fit(word, "._-:%", 253) { Ok(Self(word.to_owned())) } else { Err(Unfit(USE)) }
    }
}

/// What the names of entries begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl FromStr for Prefix {
    type Err = Unfit;

    fn from_str(word: &str) -> Result<Self, Unfit> {
        const USE: &str = "1 to 64 of A-Z a-z 0-9 . _ - and begin with none of -";
        if fit(word, "._-", 64) { Ok(Self(word.to_owned())) } else { Err(Unfit(USE)) }
    }
}

/// A login name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login(String);

impl FromStr for Login {
    type Err = Unfit;

    fn from_str(word: &str) -> Result<Self, Unfit> {
        const USE: &str = "a login name: 1 to 64 of A-Z a-z 0-9 . _ - @ and begin with none of -";
        if fit(word, "._-@", 64) { Ok(Self(word.to_owned())) } else { Err(Unfit(USE)) }
    }
}

impl Host {
    /// What the kernel calls this machine.
    pub fn of_this_machine() -> Result<Self, String> {
        const FILE: &str = "/proc/sys/kernel/hostname";
        let name = std::fs::read_to_string(FILE).map_err(|error| format!("{FILE}: {error}"))?;
        let name = name.trim_end();
        name.parse()
            .map_err(|_| format!("this machine calls itself {:?}, which is no host name", plain(name)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Under this name its host key is known, that of all ports. The machine's sshd, of the plain name, has another.
    fn alias(&self) -> String {
        format!("{}-consoles", self.0.replace('%', "-"))
    }

    /// ssh takes `%` as the beginning of a token.
    fn as_host_name(&self) -> String {
        self.0.replace('%', "%%")
    }
}

/// An entry.
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

/// The entries of the ports that have a TCP port, as they run, and of the admin CLI, by the keys of `[server]`.
pub fn entries(
    ports: &BTreeMap<PortName, PortView>,
    server: &Keys,
    host: &Host,
    wish: &SshConfigOptions,
) -> String {
    let mut text = format!(
        "# The consoles of {}, by consolectl ssh-config. Include this file in ~/.ssh/config.\n",
        host.0
    );
    let prefix = wish.prefix.as_ref().map_or("", |Prefix(prefix)| prefix);
    let entry = |name: &str, comment, port| Entry {
        name: format!("{prefix}{name}"),
        comment,
        port,
        host,
        user: wish.user.as_ref(),
    };
    let server = value::server(server);
    for (name, view) in ports {
        let own = value::port(view.effective());
        let Some(port) = own.ssh_port else { continue };
        let mut comment = Vec::new();
        if !own.description.is_empty() {
            comment.push(plain(&own.description));
        }
        comment.extend(only_here(own.listen.as_deref().unwrap_or(&server.listen)));
        let _ = write!(text, "{}", entry(name.as_str(), comment, port));
    }
    match server.ssh_port {
        Some(_) if ports.keys().any(|port| port.as_str() == CLI) => {
            text.push_str("\n# No entry for the admin CLI: a port has its name.\n");
        }
        Some(port) => {
            let mut comment = vec!["the admin CLI".to_owned()];
            comment.extend(only_here(&server.listen));
            let _ = write!(text, "{}", entry(CLI, comment, port));
        }
        None => {}
    }
    text
}

/// What is to be said of a listener that nobody else reaches.
fn only_here(listen: &[Address]) -> Option<String> {
    let local = !listen.is_empty() && listen.iter().all(|address| address.ip().is_loopback());
    local.then(|| "listens on this machine's loopback addresses only".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::show::Three;
    use crate::config::Value;

    fn view(pairs: &[(&str, Value)]) -> PortView {
        let running = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        PortView { keys: Three { running, ..Three::default() }, ..PortView::default() }
    }

    fn server(ssh_port: Value) -> Keys {
        [("ssh_port".to_owned(), ssh_port)].into()
    }

    const PLAIN: SshConfigOptions = SshConfigOptions { host: None, prefix: None, user: None };

    #[test]
    fn each_listener_has_an_entry_and_all_share_one_host_key() {
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
        let wish = SshConfigOptions {
            prefix: Some("r1-".parse().unwrap()),
            user: Some("bob".parse().unwrap()),
            ..PLAIN
        };
        let host = "fe80::1%eth0".parse().unwrap();
        let wanted = "\
            # The consoles of fe80::1%eth0, by consolectl ssh-config. Include this file in ~/.ssh/config.\n\
            \n# rack 4, top\nHost r1-core\n    HostName fe80::1%%eth0\n    Port 8100\n    User bob\n    \
            HostKeyAlias fe80::1-eth0-consoles\n\
            \n# listens on this machine's loopback addresses only\nHost r1-lab\n    HostName fe80::1%%eth0\n    \
            Port 8101\n    User bob\n    HostKeyAlias fe80::1-eth0-consoles\n\
            \n# the admin CLI\nHost r1-consolectl\n    HostName fe80::1%%eth0\n    Port 8022\n    User bob\n    \
            HostKeyAlias fe80::1-eth0-consoles\n";
        assert_eq!(entries(&ports, &server(Value::Integer(8022)), &host, &wish), wanted);
    }

    #[test]
    fn the_admin_cli_without_a_listener_or_a_name_of_its_own_has_no_entry() {
        let host = "rack".parse().unwrap();
        let ports = BTreeMap::new();
        assert!(!entries(&ports, &server("none".into()), &host, &PLAIN).contains("Host "));
        let ports = [(CLI.parse().unwrap(), view(&[("ssh_port", Value::Integer(1))]))].into();
        let text = entries(&ports, &server(Value::Integer(8022)), &host, &PLAIN);
        assert_eq!(text.matches("Host ").count(), 1, "{text}");
        assert!(text.contains("a port has its name"), "{text}");
    }

    #[test]
    fn words_that_could_be_more_than_a_word_are_refused() {
        for bad in ["", "-x", "a b", "a\nProxyCommand id", "a\"", "*", "ä", "[::1]"] {
            assert!(bad.parse::<Host>().is_err(), "{bad:?}");
            assert!(bad.parse::<Prefix>().is_err(), "{bad:?}");
            assert!(bad.parse::<Login>().is_err(), "{bad:?}");
        }
    }
}
