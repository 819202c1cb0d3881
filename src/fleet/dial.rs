//! Finds a console by its name in DNS, and connects to it.

use std::io;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::file::{FleetFile, FleetFileError};
use super::resolve::{ResolvConf, ResolveError, Srv};

/// The suffix of console names in the package's file for ssh_config(5).
const SUFFIX: &str = ".console";
/// Timeout for one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a console cannot be connected to.
#[derive(Debug, Error)]
pub enum DialError {
    #[error(transparent)]
    File(#[from] FleetFileError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("invalid name of a console {0:?}: use letters, digits and . _ -")]
    Name(String),
    #[error(
        "{0} needs a zone: set zone = \"console.example\" in ~/.config/consolectl.toml or /etc/consoleserver/hosts.toml, or a search domain in /etc/resolv.conf"
    )]
    NoZone(String),
    #[error("there is no console {name}: DNS has no SRV record {}", .tried.join(" or "))]
    Unknown { name: String, tried: Vec<String> },
    #[error("{name} is at {target}, TCP port {tcp_port}: {error}")]
    Connect { name: String, target: String, tcp_port: u16, error: io::Error },
}

/// Connects to the console with this name: `core-switch.console`, or a name below the zone.
pub async fn dial(name: &str, root: &Path) -> Result<TcpStream, DialError> {
    let zone = FleetFile::load(root)?.zone;
    let resolv = ResolvConf::load(root)?;
    let candidates = candidates(name, zone.as_deref(), &resolv.domains)?;
    for candidate in &candidates {
        let found = resolv.srv(candidate).await?;
        if !found.is_empty() {
            return connect(name, &found).await;
        }
    }
    Err(DialError::Unknown { name: name.to_owned(), tried: candidates })
}

/// The names of the SRV records to look for, in their order.
fn candidates(name: &str, zone: Option<&str>, domains: &[String]) -> Result<Vec<String>, DialError> {
    let typed = name.strip_suffix('.').unwrap_or(name);
    let is_valid = typed.len() <= 200
        && typed.split('.').all(|label| (1..=63).contains(&label.len()))
        && typed.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !is_valid {
        return Err(DialError::Name(name.to_owned()));
    }
    let typed = typed.to_ascii_lowercase();
    let service = |name: &str| format!("_ssh._tcp.{name}");
    match zone {
        Some(zone) if typed.ends_with(&format!(".{zone}")) => Ok(vec![service(&typed)]),
        Some(zone) => Ok(vec![service(&format!("{}.{zone}", typed.strip_suffix(SUFFIX).unwrap_or(&typed)))]),
        None if domains.is_empty() => Err(DialError::NoZone(name.to_owned())),
        // The zone is console.DOMAIN.
        None => Ok(domains.iter().map(|domain| service(&format!("{typed}.{domain}"))).collect()),
    }
}

async fn connect(name: &str, found: &[Srv]) -> Result<TcpStream, DialError> {
    let mut failed = None;
    for Srv { target, tcp_port, .. } in found {
        let error = match connect_one(target, *tcp_port).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let (name, target, tcp_port) = (name.to_owned(), target.clone(), *tcp_port);
        failed = Some(DialError::Connect { name, target, tcp_port, error });
    }
    Err(failed.expect("there is at least one record"))
}

async fn connect_one(target: &str, tcp_port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in lookup_host((target, tcp_port)).await? {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Keys are typed one at a time.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_in_the_zone_or_the_search_domains() {
        let domains = ["a.example".to_owned(), "b.example".to_owned()];
        let of = |name: &str, zone: Option<&str>| {
            candidates(name, zone, &domains).map(|names| names.join(" ")).map_err(|error| error.to_string())
        };
        let zone = Some("console.example");
        assert_eq!(of("Core-1.console", zone).unwrap(), "_ssh._tcp.core-1.console.example");
        assert_eq!(of("core-1", zone).unwrap(), "_ssh._tcp.core-1.console.example");
        assert_eq!(of("core-1.console.example.", zone).unwrap(), "_ssh._tcp.core-1.console.example");
        assert_eq!(
            of("core-1.console", None).unwrap(),
            "_ssh._tcp.core-1.console.a.example _ssh._tcp.core-1.console.b.example"
        );
        for name in ["", ".", "a..b", "a b", "$(id).console", "é.console", &"x".repeat(64)] {
            assert!(of(name, zone).unwrap_err().starts_with("invalid name of a console"), "{name:?}");
        }
        let error = candidates("core.console", None, &[]).unwrap_err().to_string();
        assert!(error.starts_with("core.console needs a zone: set zone"), "{error}");
    }
}
