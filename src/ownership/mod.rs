//! Which port a tty belongs to. The only rule is [`Claims::owner`]. It is used by the udev rules when a tty
//! appears, by each port before it opens a tty and while it is open, at the start of the target, by a reload,
//! and by `doctor`. It is pure; [`machine`] reads its input from /dev, /sys and udev's database.

mod machine;

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::port::PortName;

pub use machine::{Machine, Readiness, Record, leads};

/// A port and the path of its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub port: PortName,
    pub path: PathBuf,
    /// Whether the port opens its device as soon as it appears.
    pub enabled: bool,
    /// Whether the port has a `device` key, rather than the device of its name.
    pub by_device: bool,
}

/// The devices of all ports: first ports with a `device` key, then those by name, each sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims(Vec<Claim>);

impl Claims {
    pub fn of(config: &Config) -> Self {
        let claim = |(name, port): (&PortName, &crate::config::Port)| Claim {
            port: name.clone(),
            path: config.device(name, port),
            enabled: port.enabled,
            by_device: port.device.is_some(),
        };
        let (mut by_device, by_name): (Vec<_>, Vec<_>) = config
            .ports
            .iter()
            .filter(|(_, port)| port.source.is_none())
            .map(claim)
            .partition(|claim| claim.by_device);
        by_device.extend(by_name);
        Self(by_device)
    }

    /// The claims that decide whether a tty belongs to `port`: its own, and all by `device`. A port process
    /// keeps them in memory.
    pub fn concerning(config: &Config, port: &PortName) -> Self {
        let Self(mut claims) = Self::of(config);
        claims.retain(|claim| claim.by_device || claim.port == *port);
        Self(claims)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Claim> {
        self.0.iter()
    }

    /// **The rule.** A tty belongs to the first port whose `device` leads to it *now*, otherwise to the port
    /// of its name. `leads` returns the device number that a path leads to. A port in `clash` claims another
    /// tty by the same link, so its `device` does not count here.
    pub fn owner(
        &self,
        tty: u64,
        clash: Option<&str>,
        leads: impl Fn(&Path) -> Option<u64>,
    ) -> Option<&Claim> {
        let clashes = |claim: &Claim| claim.by_device && clash == Some(claim.port.as_str());
        self.0.iter().find(|claim| leads(&claim.path) == Some(tty) && !clashes(claim))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const CONFIG: &str = "[ports.ttyUSB0]\n[ports.ttyUSB1]\n[ports.p1]\ndevice = \"/dev/by-path/1\"\n\
                          [ports.one]\ndevice = \"/dev/by-id/A\"\nenabled = false\n";

    fn claims() -> Claims {
        Claims::of(&Config::parse(CONFIG, Path::new("test.toml")).unwrap())
    }

    fn owner(tty: u64, clash: Option<&str>, links: &[(&str, u64)]) -> Option<String> {
        let links: BTreeMap<&Path, u64> = links.iter().map(|(path, tty)| (Path::new(*path), *tty)).collect();
        claims().owner(tty, clash, |path| links.get(path).copied()).map(|claim| claim.port.to_string())
    }

    #[test]
    fn a_tty_belongs_to_the_port_whose_device_leads_to_it_otherwise_to_the_port_of_its_name() {
        let nodes = [("/dev/ttyUSB0", 10), ("/dev/ttyUSB1", 11)];
        let with = |links: &[(&'static str, u64)]| [&nodes[..], links].concat();
        assert_eq!(owner(10, None, &nodes).as_deref(), Some("ttyUSB0"));
        assert_eq!(owner(10, None, &with(&[("/dev/by-path/1", 10)])).as_deref(), Some("p1"));
        assert_eq!(owner(11, None, &with(&[("/dev/by-path/1", 10)])).as_deref(), Some("ttyUSB1"));
        // The link changes, and the owner with it.
        assert_eq!(owner(10, None, &with(&[("/dev/by-path/1", 11)])).as_deref(), Some("ttyUSB0"));
        // A disabled port reserves its device too.
        assert_eq!(owner(10, None, &with(&[("/dev/by-id/A", 10)])).as_deref(), Some("one"));
        // If two ports have the same tty, always the same one of them owns it.
        assert_eq!(
            owner(10, None, &with(&[("/dev/by-id/A", 10), ("/dev/by-path/1", 10)])).as_deref(),
            Some("one")
        );
        assert_eq!(owner(12, None, &nodes), None);
    }

    #[test]
    fn the_second_adapter_with_the_same_serial_number_does_not_belong_to_the_port_of_the_first() {
        let links = [("/dev/ttyUSB1", 11), ("/dev/by-id/A", 11)];
        assert_eq!(owner(11, Some("one"), &links).as_deref(), Some("ttyUSB1"));
        assert_eq!(owner(11, None, &links).as_deref(), Some("one"));
    }

    #[test]
    fn a_port_keeps_the_claims_that_can_affect_it() {
        let config = Config::parse(CONFIG, Path::new("test.toml")).unwrap();
        let kept = Claims::concerning(&config, &"ttyUSB0".parse().unwrap());
        let kept: Vec<_> = kept.iter().map(|claim| claim.port.to_string()).collect();
        assert_eq!(kept, ["one", "p1", "ttyUSB0"]);
    }
}
