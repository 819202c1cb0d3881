//! An address to listen on. A link-local one names its interface (RFC 4007, section 11): `fe80::1%eth0`. An
//! address that no socket can be bound to is an error here, because systemd would reject the port's whole
//! socket unit for it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::str::FromStr;

use nix::net::if_::if_nametoindex;
use thiserror::Error;

/// Longest name of an interface (IFNAMSIZ without NUL).
const MAX_INTERFACE: usize = 15;

/// An IP address; a link-local one with its interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    ip: IpAddr,
    interface: Option<String>,
}

/// Why an address is rejected. The Display is the sentence that the user reads.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    #[error("{0:?} is not an IP address")]
    Syntax(String),
    #[error("{0} is link-local: add its interface, such as \"{0}%eth0\"")]
    NoInterface(IpAddr),
    #[error("{0} is not link-local: leave out \"%{1}\"")]
    NotLinkLocal(IpAddr, String),
    #[error("invalid interface name {0:?}: use 1 to 15 characters of A-Z a-z 0-9 . _ - @")]
    Interface(String),
    #[error("{0} is a multicast or broadcast address: use an address of this machine")]
    Many(IpAddr),
}

impl Address {
    /// The address without its interface.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// The interface of a link-local address.
    pub fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }

    /// Whether this is an IPv4 address.
    pub fn is_ipv4(&self) -> bool {
        self.ip.is_ipv4()
    }

    /// The address for bind(2). Fails if the interface does not exist.
    pub fn socket_addr(&self, port: u16) -> io::Result<SocketAddr> {
        match (self.ip, &self.interface) {
            (IpAddr::V6(ip), Some(name)) => {
                let index = name.parse().or_else(|_| if_nametoindex(name.as_str()))?;
                Ok(SocketAddrV6::new(ip, port, 0, index).into())
            }
            (ip, _) => Ok(SocketAddr::new(ip, port)),
        }
    }

    /// Whether a listener on this address also accepts connections to `narrow`. `::` includes IPv4
    /// (ipv6(7), IPV6_V6ONLY).
    pub(super) fn covers(&self, narrow: &Self) -> bool {
        self == narrow || self.ip.is_unspecified() && (self.ip.is_ipv6() || narrow.ip.is_ipv4())
    }
}

/// Not checked, since only addresses that can be bound are converted.
impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        Self { ip: ip.to_canonical(), interface: None }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// With or without brackets.
    fn from_str(word: &str) -> Result<Self, AddressError> {
        let syntax = || AddressError::Syntax(word.to_owned());
        let bracketed = word.strip_prefix('[').and_then(|word| word.strip_suffix(']'));
        let (ip, interface) = match bracketed.unwrap_or(word).split_once('%') {
            Some((ip, interface)) => (ip, Some(interface)),
            None => (bracketed.unwrap_or(word), None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| syntax())?;
        if bracketed.is_some() && ip.is_ipv4() {
            return Err(syntax());
        }
        let ip = ip.to_canonical();
        let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let many = ip.is_multicast() || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        match interface {
            _ if many => Err(AddressError::Many(ip)),
            None if link_local => Err(AddressError::NoInterface(ip)),
            Some(name) if !is_interface(name) => Err(AddressError::Interface(name.to_owned())),
            Some(name) if !link_local => Err(AddressError::NotLinkLocal(ip, name.to_owned())),
            interface => Ok(Self { ip, interface: interface.map(str::to_owned) }),
        }
    }
}

/// What the kernel accepts as a name (`dev_valid_name`) and is plain text in a unit file. A number is an
/// index.
fn is_interface(name: &str) -> bool {
    (1..=MAX_INTERFACE).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte))
        && ![".", ".."].contains(&name)
}

impl fmt::Display for Address {
    /// As in the configuration: IPv6 in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.ip, &self.interface) {
            (IpAddr::V4(ip), _) => write!(f, "{ip}"),
            (IpAddr::V6(ip), Some(interface)) => write!(f, "[{ip}%{interface}]"),
            (IpAddr::V6(ip), None) => write!(f, "[{ip}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_names_its_interface_and_no_other_does() {
        for (word, shown) in [
            ("fe80::1%eth0", "[fe80::1%eth0]"),
            ("[fe80::1%br-lan.7]", "[fe80::1%br-lan.7]"),
            ("fe80::1%2", "[fe80::1%2]"),
            ("::1", "[::1]"),
            ("::ffff:127.0.0.1", "127.0.0.1"),
        ] {
            assert_eq!(word.parse::<Address>().unwrap().to_string(), shown);
        }
        for (word, error) in [
            ("fe80::1", "fe80::1 is link-local: add its interface, such as \"fe80::1%eth0\""),
            ("::1%lo", "::1 is not link-local: leave out \"%lo\""),
            ("127.0.0.1%lo", "127.0.0.1 is not link-local: leave out \"%lo\""),
            ("fe80::1%", "invalid interface name \"\": use 1 to 15 characters of A-Z a-z 0-9 . _ - @"),
            ("fe80::1%a b", "invalid interface name \"a b\": use 1 to 15 characters of A-Z a-z 0-9 . _ - @"),
            ("ff02::1", "ff02::1 is a multicast or broadcast address: use an address of this machine"),
            ("ff02::1%eth0", "ff02::1 is a multicast or broadcast address: use an address of this machine"),
            ("224.0.0.1", "224.0.0.1 is a multicast or broadcast address: use an address of this machine"),
            (
                "255.255.255.255",
                "255.255.255.255 is a multicast or broadcast address: use an address of this machine",
            ),
            ("[127.0.0.1]", "\"[127.0.0.1]\" is not an IP address"),
            ("localhost", "\"localhost\" is not an IP address"),
        ] {
            assert_eq!(word.parse::<Address>().unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn an_interface_becomes_the_scope_that_bind_wants() {
        let by_name: Address = "fe80::1%lo".parse().unwrap();
        let SocketAddr::V6(address) = by_name.socket_addr(22).unwrap() else { panic!() };
        assert_eq!(address.scope_id(), if_nametoindex("lo").unwrap());
        assert!("fe80::1%nosuch0".parse::<Address>().unwrap().socket_addr(22).is_err());
    }
}
