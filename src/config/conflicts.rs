//! Values that two keys cannot both have: the same TCP port on overlapping addresses, the same device.
//! Checked on the typed configuration, so that `set` and a file obey the same rule.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use super::{Address, Config};
use crate::port::PortName;

/// Two keys with the same exclusive value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub shared: Shared,
    /// `ports.ttyUSB1.ssh_port`
    pub key: String,
    /// `ports.ttyUSB0.ssh_port`, or `server.ssh_port`.
    pub other: String,
}

/// A resource with one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    TcpPort,
    Device,
    /// What one port is connected to.
    Line,
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TcpPort => "each listener needs its own TCP port",
            Self::Device => "each port needs its own device",
            Self::Line => "a port has either a device or a source",
        })
    }
}

/// Whether listeners on these addresses would conflict on the same TCP port.
pub fn overlap(one: &[Address], other: &[Address]) -> bool {
    one.iter().any(|a| other.iter().any(|b| a.covers(b) || b.covers(a)))
}

impl Config {
    /// Every port that claims what another port, or the server, has. Disabled ports count, because `start`
    /// opens them.
    /// A port named `ttyUSB0` and a port with `device = "/dev/ttyUSB0"` do not conflict: the second one has
    /// the device.
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
            if port.device.is_some() && port.source.is_some() {
                let (key, other) = (path(name, "source"), path(name, "device"));
                found.push(Conflict { shared: Shared::Line, key, other });
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

/// `ports.NAME.KEY`, quoted where TOML requires it.
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
    fn the_same_tcp_port_on_disjoint_addresses_is_no_conflict() {
        assert_eq!(conflicts("127.0.0.1", "127.0.0.2", "::1"), 0);
        assert_eq!(conflicts("::1", "0.0.0.0", "::2"), 0);
    }

    #[test]
    fn a_wildcard_conflicts_with_each_address_of_its_family_and_the_ipv6_wildcard_with_all() {
        assert_eq!(conflicts("0.0.0.0", "127.0.0.1", "::1"), 1);
        assert_eq!(conflicts("::", "127.0.0.1", "::1"), 2);
        assert_eq!(conflicts("127.0.0.1", "::1", "::"), 1);
    }
}
