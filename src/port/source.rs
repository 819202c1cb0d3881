//! What a port is connected to in place of a tty: parse and Display of the key `source`.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// Bytes of the longest path of a unix socket (unix(7): `sun_path` holds 108 with the final NUL).
const MAX_UNIX_PATH_BYTES: usize = 107;
/// Bytes of the longest host name (RFC 1035, 2.3.4).
const MAX_HOST_BYTES: usize = 253;
/// Bytes of the longest name of an interface (netdevice(7): `IFNAMSIZ` is 16 with the final NUL).
const MAX_INTERFACE_BYTES: usize = 15;

/// The far end of a port without a tty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A listening unix socket, as QEMU's `-chardev socket`.
    Unix(PathBuf),
    /// A TCP port that carries plain bytes.
    Tcp(Endpoint),
    /// A TCP port that speaks telnet (RFC 854, binary by RFC 856).
    Telnet(Endpoint),
    /// A TCP port that speaks telnet with the COM port option (RFC 2217).
    Rfc2217(Endpoint),
    /// A program that a drop-in of `console-source@PORT.service` runs.
    Unit,
}

/// A TCP port of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A name, an IPv4 or an IPv6 address (without brackets, with its zone).
    pub host: String,
    /// The TCP port, which is not 0.
    pub port: u16,
}

/// Why a word is not a valid source. The Display continues a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SourceError {
    #[error("it begins with neither unix: nor tcp: nor telnet: nor rfc2217:, and is not \"unit\"")]
    Kind,
    /// The path is not absolute, contains "..", or has a control character.
    #[error("unix: needs an absolute path without \"..\" and control characters")]
    Path,
    #[error("the path of a unix socket has at most {MAX_UNIX_PATH_BYTES} bytes")]
    LongPath,
    #[error("{0}: needs HOST:PORT, such as ts1.example.com:7001 or [2001:db8::1]:7001")]
    Endpoint(&'static str),
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(word: &str) -> Result<Self, SourceError> {
        if word == "unit" {
            return Ok(Self::Unit);
        }
        let (kind, rest) = word.split_once(':').ok_or(SourceError::Kind)?;
        match kind {
            "unix" => unix_path(rest).map(Self::Unix),
            "tcp" => endpoint("tcp", rest).map(Self::Tcp),
            "telnet" => endpoint("telnet", rest).map(Self::Telnet),
            "rfc2217" => endpoint("rfc2217", rest).map(Self::Rfc2217),
            _ => Err(SourceError::Kind),
        }
    }
}

fn unix_path(text: &str) -> Result<PathBuf, SourceError> {
    let path = Path::new(text);
    let is_clean = path.is_absolute()
        && !path.components().any(|part| part == Component::ParentDir)
        && !text.contains(char::is_control)
        && text.trim() == text;
    match (is_clean, text.len() <= MAX_UNIX_PATH_BYTES) {
        (false, _) => Err(SourceError::Path),
        (true, false) => Err(SourceError::LongPath),
        (true, true) => Ok(path.to_owned()),
    }
}

fn endpoint(kind: &'static str, text: &str) -> Result<Endpoint, SourceError> {
    let wrong = SourceError::Endpoint(kind);
    let (host, port) = text.rsplit_once(':').ok_or(wrong.clone())?;
    let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or(wrong.clone())?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        Some(address) => ipv6(address).ok_or(wrong)?,
        None if is_host(host) => host.to_owned(),
        None => return Err(wrong),
    };
    Ok(Endpoint { host, port })
}

/// An IPv6 address; a link-local one may have its interface as a zone (RFC 4007, section 11): `fe80::1%eth0`.
fn ipv6(text: &str) -> Option<String> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let address: Ipv6Addr = address.parse().ok()?;
    match zone {
        None => Some(address.to_string()),
        Some(zone) if zone.len() <= MAX_INTERFACE_BYTES && is_host(zone) => Some(format!("{address}%{zone}")),
        Some(_) => None,
    }
}

/// Letters, digits, dots, dashes and underscores, as host names and IPv4 addresses have them: nothing that a unit file or a command
/// line reads otherwise.
fn is_host(host: &str) -> bool {
    (1..=MAX_HOST_BYTES).contains(&host.len())
        && !host.starts_with('-')
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

impl Source {
    /// Whether break, line settings and modem lines have a meaning at the far end.
    pub fn has_line(&self) -> bool {
        matches!(self, Self::Rfc2217(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(endpoint) => write!(f, "tcp:{endpoint}"),
            Self::Telnet(endpoint) => write!(f, "telnet:{endpoint}"),
            Self::Rfc2217(endpoint) => write!(f, "rfc2217:{endpoint}"),
            Self::Unit => f.write_str("unit"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_parsed_and_displayed_as_it_was_written() {
        for word in [
            "unix:/run/qemu/node17",
            "tcp:192.0.2.1:7001",
            "tcp:[2001:db8::1]:7001",
            "tcp:[fe80::1%eth0.100]:23",
            "telnet:ts1.example.com:23",
            "rfc2217:ts_2:4001",
            "unit",
        ] {
            assert_eq!(word.parse::<Source>().map(|source| source.to_string()).as_deref(), Ok(word));
        }
    }

    #[test]
    fn what_is_no_source_is_rejected_with_the_reason() {
        let kind = ["", "unix", "/run/x", "udp:a:1", "Unit", "unit:"].map(|word| (word, SourceError::Kind));
        let path = ["unix:", "unix:run/x", "unix:/a/../b", "unix:/a\nb", "unix:/a "];
        let tcp = [
            "tcp:a",
            "tcp::1",
            "tcp:a:0",
            "tcp:a:65536",
            "tcp:2001:db8::1:7001",
            "tcp:a b:1",
            "tcp:-a:1",
            "tcp:[a]:1",
            "tcp:[fe80::1%]:1",
            "tcp:[fe80::1%eth0 x]:1",
            "tcp:[fe80::1%sixteen-letters-]:1",
            "tcp:ts1%eth0:1",
        ];
        let all = kind
            .into_iter()
            .chain(path.map(|word| (word, SourceError::Path)))
            .chain(tcp.map(|word| (word, SourceError::Endpoint("tcp"))));
        for (word, error) in all {
            assert_eq!(word.parse::<Source>(), Err(error), "{word:?}");
        }
        let long = format!("unix:/{}", "x".repeat(107));
        assert_eq!(long.parse::<Source>(), Err(SourceError::LongPath));
    }
}
