//! One address with its TCP port, as the plain listeners of a port have: `[::1]:7001`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::address::{Address, AddressError};

/// An address and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub address: Address,
    pub port: u16,
}

/// Why a word is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EndpointError {
    #[error("{0:?} is not an address and a TCP port")]
    Syntax(String),
    /// `::1:7001` is an address itself.
    #[error("{0:?}: write an IPv6 address in brackets")]
    Brackets(String),
    #[error(transparent)]
    Address(#[from] AddressError),
}

impl Endpoint {
    /// Whether only programs of this machine reach it.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(word: &str) -> Result<Self, EndpointError> {
        let syntax = || EndpointError::Syntax(word.to_owned());
        let (address, port) = word.rsplit_once(':').ok_or_else(syntax)?;
        let port = match port.parse() {
            Ok(0) | Err(_) => return Err(syntax()),
            Ok(port) => port,
        };
        if address.contains(':') && !address.starts_with('[') {
            return Err(EndpointError::Brackets(word.to_owned()));
        }
        Ok(Self { address: address.parse()?, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.address, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_and_a_port() {
        for (word, loopback) in [
            ("[::1]:7001", true),
            ("127.0.0.1:7002", true),
            ("127.1.2.3:65535", true),
            ("0.0.0.0:7001", false),
            ("[::]:7001", false),
            ("[fe80::1%eth0]:7001", false),
            ("192.0.2.1:1", false),
        ] {
            let endpoint: Endpoint = word.parse().unwrap();
            assert_eq!((endpoint.to_string().as_str(), endpoint.is_loopback()), (word, loopback));
        }
        for word in [
            "7001",
            ":7001",
            "127.0.0.1:0",
            "127.0.0.1:70000",
            "127.0.0.1:",
            "localhost:7001",
            "::1:7001",
            "[::1]",
        ] {
            assert!(word.parse::<Endpoint>().is_err(), "{word}");
        }
    }
}
