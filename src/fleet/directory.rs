//! What a server publishes in DNS: its settings, and the records of each name. Pure.
//!
//! A name belongs to the server that has its marker, a TXT record below `_consoleserver.`. RFC 2136 compares it in a prerequisite of every
//! update, in the DNS server, so that of two servers with a port of the same name the first one keeps it.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::file::{line_of, valid_zone};
use crate::config::{Config, Port};
use crate::port::PortName;

/// The file, below the root. Without it nothing is published.
pub const FILE: &str = "etc/consoleserver/directory.toml";
/// The default of `ttl`: a change is visible after this time.
const DEFAULT_TTL: u32 = 60;
/// A day; RFC 2181, 8 permits more.
const MAX_TTL: u32 = 86400;
/// RFC 1035, 3.3: bytes of a character string.
const MAX_STRING: usize = 255;

/// `directory.toml`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub zone: String,
    /// The DNS server that takes updates: a name or an address.
    pub server: String,
    /// The name of this console server; `None` = its host name.
    pub name: Option<String>,
    /// Addresses at which clients reach it; none = those from which it reaches the DNS server.
    pub addresses: Vec<IpAddr>,
    /// TTL of the records, in seconds.
    pub ttl: u32,
    /// Whether to publish fingerprints of the host keys.
    pub sshfp: bool,
}

#[derive(Debug, Error)]
pub enum SettingsError {
    #[error("{path}:{line}: {message}")]
    Syntax { path: PathBuf, line: usize, message: String },
    #[error("{path}: {key} = {value:?}: {wanted}")]
    Value { path: PathBuf, key: &'static str, value: String, wanted: &'static str },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    zone: String,
    server: String,
    name: Option<String>,
    #[serde(default)]
    addresses: Vec<IpAddr>,
    #[serde(default = "default_ttl")]
    ttl: u32,
    #[serde(default)]
    sshfp: bool,
}

fn default_ttl() -> u32 {
    DEFAULT_TTL
}

impl Settings {
    /// Parses the file; `path` is its name in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let Text { zone, server, name, addresses, ttl, sshfp } =
            toml::from_str(text).map_err(|error| SettingsError::Syntax {
                path: path.to_owned(),
                line: line_of(&error, text),
                message: error.message().to_owned(),
            })?;
        let invalid = |key, value: &str, wanted| SettingsError::Value {
            path: path.to_owned(),
            key,
            value: value.to_owned(),
            wanted,
        };
        let zone =
            valid_zone(&zone).ok_or_else(|| invalid("zone", &zone, "use a DNS name: console.example"))?;
        if server.parse::<IpAddr>().is_err() && valid_zone(&server).is_none() {
            return Err(invalid(
                "server",
                &server,
                "use the name or address of the zone's primary DNS server",
            ));
        }
        if let Some(name) = name.as_deref().filter(|name| label(name).is_none()) {
            return Err(invalid("name", name, "use letters, digits and -"));
        }
        if !(1..=MAX_TTL).contains(&ttl) {
            return Err(invalid("ttl", &ttl.to_string(), "use 1 to 86400 seconds"));
        }
        if let Some(address) = addresses.iter().find(|address| !is_reachable(**address)) {
            return Err(invalid("addresses", &address.to_string(), "use addresses that clients can reach"));
        }
        Ok(Self { zone, server, name, addresses, ttl, sshfp })
    }
}

/// Whether other machines may reach an address.
pub fn is_reachable(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || is_link_local)
}

/// A name as labels of DNS, which ignores case; `None` if it is not a valid one.
pub fn label(name: &str) -> Option<String> {
    (name.len() <= 63).then(|| valid_zone(name)).flatten()
}

/// Whether a port has the kernel's name of a tty, which every server has.
fn is_kernel_name(name: &str) -> bool {
    let kind = name.strip_prefix("tty").map(|rest| rest.trim_end_matches(|c: char| c.is_ascii_digit()));
    kind.is_some_and(|kind| {
        !kind.is_empty() && kind.len() + 3 < name.len() && kind.bytes().all(|c| c.is_ascii_uppercase())
    })
}

#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name, in lower case.
    pub name: String,
    /// A random number, since machines with the same name exist.
    pub id: String,
    /// Addresses for ports that listen on all.
    pub addresses: Vec<IpAddr>,
    /// Data of SSHFP records: `4 2 0123…`
    pub fingerprints: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The port; `None` is the server itself.
    pub port: Option<PortName>,
    addresses: Vec<IpAddr>,
    tcp_port: u16,
    strings: Vec<String>,
}

/// A problem that `doctor` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// The port; `None` = all.
    pub port: Option<PortName>,
    /// The problem, as a sentence.
    pub problem: String,
    pub fix: String,
}

/// The names of a configuration, in lower case, and ports that cannot have one.
pub fn entries(config: &Config, identity: &Identity) -> (BTreeMap<String, Entry>, Vec<Remark>) {
    let mut entries = BTreeMap::new();
    let mut remarks = Vec::new();
    if let Some(tcp_port) = config.server.ssh_port {
        let addresses = published(&config.server.listen.iter().map(|a| a.ip()).collect::<Vec<_>>(), identity);
        if !addresses.is_empty() {
            let strings = vec![format!("server={}", identity.name)];
            entries.insert(identity.name.clone(), Entry { port: None, addresses, tcp_port, strings });
        }
    }
    for (port, settings) in &config.ports {
        let Some(entry) = entry(config, port, settings, identity) else { continue };
        let Some(name) = label(port.as_str()) else {
            remarks.push(Remark {
                port: Some(port.clone()),
                problem: "is not published in DNS: its name is not a DNS name".to_owned(),
                fix: format!("consolectl rename {port} NAME"),
            });
            continue;
        };
        if let Some(other) = entries.get(&name) {
            let other = other.port.as_ref().map_or("this server".to_owned(), ToString::to_string);
            remarks.push(Remark {
                port: Some(port.clone()),
                problem: format!("is not published in DNS: {other} has the name {name} there"),
                fix: format!("consolectl rename {port} NAME"),
            });
            continue;
        }
        entries.insert(name, entry);
    }
    (entries, remarks)
}

/// A port that other machines can reach, and whose name is its own.
fn entry(config: &Config, port: &PortName, settings: &Port, identity: &Identity) -> Option<Entry> {
    let tcp_port = settings.ssh_port.filter(|_| settings.enabled && !is_kernel_name(port.as_str()))?;
    let listen: Vec<IpAddr> = config.listen(settings).iter().map(|address| address.ip()).collect();
    let addresses = published(&listen, identity);
    if addresses.is_empty() {
        return None;
    }
    let mut strings = vec![format!("server={}", identity.name)];
    if !settings.description.is_empty() {
        strings.push(format!("description={}", settings.description));
    }
    Some(Entry { port: Some(port.clone()), addresses, tcp_port, strings })
}

fn published(listen: &[IpAddr], identity: &Identity) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for address in listen {
        match address {
            // `::` accepts IPv4 too.
            IpAddr::V6(all) if all.is_unspecified() => found.extend(&identity.addresses),
            IpAddr::V4(all) if all.is_unspecified() => {
                found.extend(identity.addresses.iter().filter(|address| address.is_ipv4()));
            }
            address if is_reachable(*address) => found.push(*address),
            _ => {}
        }
    }
    found.sort();
    found.dedup();
    found
}

/// A character string of nsupdate(1) and zone files, cut to 255 bytes.
fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for byte in text.bytes().take(MAX_STRING) {
        match byte {
            b'"' | b'\\' => quoted.extend(['\\', char::from(byte)]),
            b' '..=b'~' => quoted.push(char::from(byte)),
            _ => quoted.push_str(&format!("\\{byte:03}")),
        }
    }
    quoted + "\""
}

/// Updates of one name, as lines for nsupdate(1).
pub struct Updates<'a> {
    pub settings: &'a Settings,
    pub identity: &'a Identity,
    /// The digest of everything that the server publishes. A zone that is restored from a backup has another one.
    pub digest: Option<&'a str>,
}

impl Updates<'_> {
    fn fqdn(&self, name: &str) -> String {
        format!("{name}.{}.", self.settings.zone)
    }

    /// The name of the record that marks the owner of a name.
    pub fn marker(&self, name: &str) -> String {
        format!("_consoleserver.{}", self.fqdn(name))
    }

    /// The name of the list of all servers.
    fn services(&self) -> String {
        format!("_consoleserver._tcp.{}.", self.settings.zone)
    }

    /// The name of the server's records for DNS-SD.
    pub fn instance(&self) -> String {
        format!("{}._consoleserver._tcp.{}.", self.identity.name, self.settings.zone)
    }

    /// A digest of these entries. It differs between versions of this program, which then publish everything again.
    pub fn digest(&self, entries: &BTreeMap<&str, &Entry>) -> String {
        let mut hasher = std::hash::DefaultHasher::new();
        for (name, entry) in entries {
            self.additions(name, entry).hash(&mut hasher);
        }
        format!("{:016x}", hasher.finish())
    }

    /// The string that distinguishes a copy of a zone from another zone of the same name.
    pub fn primary(&self) -> String {
        quoted(&format!("primary={}", self.settings.server))
    }

    fn marker_data(&self) -> String {
        let Identity { name, id, .. } = self.identity;
        format!("{} {}", quoted(&format!("server={name}")), quoted(&format!("id={id}")))
    }

    /// Changes nothing: NOERROR or NXRRSET from a DNS server that accepts updates of this zone from this server.
    pub fn probe(&self) -> String {
        self.is_ours(&self.identity.name)
    }

    fn is_ours(&self, name: &str) -> String {
        format!("prereq yxrrset {} TXT {}\n", self.marker(name), self.marker_data())
    }

    fn deletions(&self, name: &str) -> String {
        let fqdn = self.fqdn(name);
        let of = |kind| format!("update delete {fqdn} {kind}\n");
        ["A", "AAAA", "TXT", "SSHFP"].map(of).concat() + &format!("update delete _ssh._tcp.{fqdn} SRV\n")
    }

    fn additions(&self, name: &str, entry: &Entry) -> String {
        let (fqdn, ttl) = (self.fqdn(name), self.settings.ttl);
        let mut lines = String::new();
        let mut add = |of: &str, data: String| lines.push_str(&format!("update add {of} {ttl} {data}\n"));
        for address in &entry.addresses {
            add(&fqdn, format!("{} {address}", if address.is_ipv4() { "A" } else { "AAAA" }));
        }
        let strings = entry.strings.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(" ");
        add(&fqdn, format!("TXT {strings}"));
        for fingerprint in &self.identity.fingerprints {
            add(&fqdn, format!("SSHFP {fingerprint}"));
        }
        let srv = format!("SRV 0 0 {} {fqdn}", entry.tcp_port);
        add(&format!("_ssh._tcp.{fqdn}"), srv.clone());
        if entry.port.is_none() {
            // DNS-SD (RFC 6763): a list of all servers.
            let (services, instance) = (self.services(), self.instance());
            add(&services, format!("PTR {instance}"));
            add(&instance, srv);
            let digest = self.digest.map(|digest| format!(" \"published={digest}\"")).unwrap_or_default();
            add(&instance, format!("TXT {strings} {}{digest}", self.primary()));
        }
        lines
    }

    /// Replaces the records of a name that is ours; otherwise NXRRSET.
    pub fn refresh(&self, name: &str, entry: &Entry) -> String {
        let instance = match entry.port {
            Some(_) => String::new(),
            None => {
                let instance = self.instance();
                format!("update delete {instance} SRV\nupdate delete {instance} TXT\n")
            }
        };
        self.is_ours(name) + &self.deletions(name) + &instance + &self.additions(name, entry)
    }

    /// Adds the records of a name that has no owner; otherwise YXDOMAIN or YXRRSET.
    pub fn claim(&self, name: &str, entry: &Entry) -> String {
        let (fqdn, marker, ttl) = (self.fqdn(name), self.marker(name), self.settings.ttl);
        format!("prereq nxdomain {fqdn}\nprereq nxdomain {marker}\nprereq nxrrset _ssh._tcp.{fqdn} SRV\n")
            + &format!("update add {marker} {ttl} TXT {}\n", self.marker_data())
            + &self.additions(name, entry)
    }

    /// Makes a name of this server's former name ours, in one step: another server must not get it in between. Otherwise NXRRSET.
    pub fn take_over(&self, former: &Updates<'_>, name: &str, entry: &Entry) -> String {
        let (marker, ttl) = (self.marker(name), self.settings.ttl);
        former.is_ours(name)
            + &self.deletions(name)
            + &format!("update delete {marker} TXT\nupdate add {marker} {ttl} TXT {}\n", self.marker_data())
            + &self.additions(name, entry)
    }

    /// Removes a name that is ours; otherwise NXRRSET.
    pub fn release(&self, name: &str) -> String {
        let (services, instance) = (self.services(), self.instance());
        let server = match name == self.identity.name {
            true => format!(
                "update delete {services} PTR {instance}\nupdate delete {instance} SRV\nupdate delete {instance} TXT\n"
            ),
            false => String::new(),
        };
        self.is_ours(name)
            + &self.deletions(name)
            + &server
            + &format!("update delete {} TXT\n", self.marker(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            name: "rack1".to_owned(),
            id: "7".to_owned(),
            addresses: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
            fingerprints: Vec::new(),
        }
    }

    #[test]
    fn names_that_every_server_has_and_ports_that_nobody_reaches_are_left_out() {
        let text = "[ports.ttyUSB0]\nssh_port = 8023\n[ports.Core-1]\nssh_port = 8024\ndescription = 'x'\n\
                    [ports.core-1]\nssh_port = 8025\n[ports.off]\nenabled = false\nssh_port = 8026\n[ports.none]\n\
                    [ports.lab]\nssh_port = 8027\nlisten = ['127.0.0.1', '192.0.2.9']\n\
                    [ports.local]\nssh_port = 8028\nlisten = ['::1']\n[ports.v4]\nssh_port = 8029\nlisten = ['0.0.0.0']\n\
                    [ports.'a..b']\nssh_port = 8030\n[ports.ttyS]\nssh_port = 8031\n";
        let config = Config::parse(text, Path::new("config.toml")).unwrap();
        let (entries, remarks) = entries(&config, &identity());
        let names: Vec<_> = entries.keys().map(String::as_str).collect();
        assert_eq!(names, ["core-1", "lab", "rack1", "ttys", "v4"]);
        let addresses =
            |name: &str| entries[name].addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>();
        assert_eq!(addresses("core-1"), ["192.0.2.7", "2001:db8::7"]);
        assert_eq!(addresses("lab"), ["192.0.2.9"]);
        assert_eq!(addresses("v4"), ["192.0.2.7"]);
        assert_eq!(entries["rack1"].tcp_port, 8022);
        let mut about: Vec<_> = remarks.iter().map(|remark| remark.port.as_ref().unwrap().as_str()).collect();
        about.sort_unstable();
        assert_eq!(about, ["a..b", "core-1"], "{remarks:?}");
    }

    #[test]
    fn a_string_cannot_leave_its_quotes_or_its_line() {
        assert_eq!(quoted("a \"b\" \\"), r#""a \"b\" \\""#);
        assert_eq!(quoted("x\nsend é;"), r#""x\010send \195\169;""#);
        assert_eq!(quoted(&"x".repeat(300)).len(), 257);
    }

    #[test]
    fn a_wrong_setting_has_its_line_or_key() {
        let parsed = |text: &str| {
            Settings::parse(text, Path::new("directory.toml")).map_err(|error| error.to_string())
        };
        let good = "zone = 'console.example'\nserver = 'ns1.example'\n";
        assert_eq!(parsed(good).unwrap().ttl, 60);
        for (more, wanted) in [
            ("ttl = 0\n", "directory.toml: ttl = \"0\""),
            ("addresses = ['127.0.0.1']\n", "directory.toml: addresses = \"127.0.0.1\""),
            ("name = 'a b'\n", "directory.toml: name = \"a b\""),
            ("tll = 5\n", "directory.toml:3: unknown field `tll`"),
        ] {
            let error = parsed(&format!("{good}{more}")).unwrap_err();
            assert!(error.starts_with(wanted), "{error}");
        }
        assert!(parsed("zone = 'x'\n").unwrap_err().contains("missing field `server`"));
        assert!(parsed("zone = 'x'\nserver = 'a\\nsend'\n").is_err());
    }
}
