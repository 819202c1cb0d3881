//! What two keys cannot both have: the same TCP port on addresses that overlap, the same device. Judged on the typed
//! configuration, so that a change by `set` meets the same rule as a file.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::{Address, Config};
use crate::port::PortName;

/// Two keys that cannot both have this value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// What both want.
    pub shared: Shared,
    /// `ports.ttyUSB1.ssh_port`
    pub key: String,
    /// `ports.ttyUSB0.ssh_port`, or `server.ssh_port`.
    pub other: String,
}

/// What there is only one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// A TCP port.
    TcpPort,
    /// A device.
    Device,
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TcpPort => "every listener needs a TCP port of its own",
            Self::Device => "every port needs a device of its own",
        })
    }
}

/// Whether somebody who listens on the one would be in the way of the other.
pub fn overlap(one: &[Address], other: &[Address]) -> bool {
    one.iter().any(|a| other.iter().any(|b| a.covers(b) || b.covers(a)))
}

impl Config {
    /// Every port that wants what another one, or the server, has already. Disabled ports count: `start` opens them.
    /// A port named `ttyUSB0` and one whose device is `/dev/ttyUSB0` are no conflict: the former yields.
    pub fn conflicts(&self) -> Vec<Conflict> {
        let mut found = Vec::new();
        let mut listeners: HashMap<u16, Vec<(String, &[Address])>> = HashMap::new();
        let mut devices: HashMap<&Path, &PortName> = HashMap::new();
        if let Some(tcp) = self.server.ssh_port {
            listeners.insert(tcp, vec![("server.ssh_port".to_owned(), &self.server.listen)]);
        }
        for (name, port) in &self.ports {
            let ssh = port.ssh_port.map(|tcp| ("ssh_port", self.listen(port), tcp));
            let plain = port
                .plain_listeners()
                .map(|(key, endpoint)| (key, std::slice::from_ref(&endpoint.address), endpoint.port));
            for (key, addresses, tcp) in ssh.into_iter().chain(plain) {
                let key = path(name, key);
                let there = listeners.entry(tcp).or_default();
                match there.iter().find(|(_, other)| overlap(addresses, other)) {
                    Some((other, _)) => {
                        found.push(Conflict { shared: Shared::TcpPort, key, other: other.clone() });
                    }
                    None => there.push((key, addresses)),
                }
            }
            if let Some(device) = &port.device {
                match devices.get(device.as_path()) {
                    Some(other) => {
                        let (key, other) = (path(name, "device"), path(other, "device"));
                        found.push(Conflict { shared: Shared::Device, key, other });
                    }
                    None => {
                        devices.insert(device, name);
                    }
                }
            }
        }
        found
    }
}

/// `ports.NAME.KEY`, quoted where TOML wants it.
fn path(name: &PortName, key: &str) -> String {
    format!("ports.{}.{key}", super::fault::segment(name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Port;

    fn conflicts(server: &str, a: &str, b: &str) -> usize {
        let port = |listen: &str| Port {
            ssh_port: Some(8023),
            listen: Some(vec![listen.parse().unwrap()]),
            ..Port::default()
        };
        let mut config = Config::default();
        config.server.ssh_port = Some(8023);
        config.server.listen = vec![server.parse().unwrap()];
        config.ports.insert("a".parse().unwrap(), port(a));
        config.ports.insert("b".parse().unwrap(), port(b));
        config.conflicts().len()
    }

    #[test]
    fn one_tcp_port_on_addresses_apart_is_no_conflict() {
        assert_eq!(conflicts("127.0.0.1", "127.0.0.2", "::1"), 0);
        assert_eq!(conflicts("::1", "0.0.0.0", "::2"), 0);
    }

    #[test]
    fn a_wildcard_meets_every_address_of_its_kind_and_the_ipv6_one_all() {
        assert_eq!(conflicts("0.0.0.0", "127.0.0.1", "::1"), 1);
        assert_eq!(conflicts("::", "127.0.0.1", "::1"), 2);
        assert_eq!(conflicts("127.0.0.1", "::1", "::"), 1);
    }
}
