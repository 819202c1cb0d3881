//! Queries of the udev rules: which port a tty belongs to, and whether a USB adapter may be used by a port.
//! They read the configuration, because generated files are missing for a moment in each daemon-reload.

use std::fmt;
use std::path::{Path, PathBuf};

use super::plan::is_adapter;
use crate::config::Config;
use crate::ownership::{Claims, Machine, Readiness, leads};
use crate::port::PortName;

/// The port that a tty belongs to. The Display is the format of `IMPORT{program}` (udev(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub port: PortName,
    /// Whether it is opened as soon as its device appears.
    pub enabled: bool,
    /// The instance name of its unit, if it differs from the port's name.
    pub instance: Option<PortName>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// The port that it belongs to.
    pub owner: Option<Owner>,
    /// The port whose `device` leads to another tty already, by a link that this tty has been assigned too.
    pub clash: Option<PortName>,
}

impl fmt::Display for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Owner { port, enabled, instance }) = &self.owner {
            writeln!(f, "CONSOLE_PORT={port}")?;
            if *enabled {
                writeln!(f, "CONSOLE_START=1")?;
            }
            if let Some(instance) = instance {
                writeln!(f, "CONSOLE_INSTANCE={instance}")?;
            }
        }
        self.clash.iter().try_for_each(|port| writeln!(f, "CONSOLE_CLASH={port}"))
    }
}

/// A tty in a query of udev. Its links are not created yet.
#[derive(Debug, Clone)]
pub struct UdevTty<'a> {
    pub kernel: &'a str,
    /// Its links, relative to /dev.
    pub links: &'a [PathBuf],
    pub tty: u64,
    /// `CONSOLE_CLASH` at the time when the tty appeared. A later event must not clear it, or a session would
    /// change to another device when the first adapter is unplugged.
    pub clash: Option<String>,
}

/// The properties of a tty. `leads` returns the device number that a path leads to now, and `has` whether
/// another tty has been assigned a link and is not a second adapter itself.
pub fn properties(
    config: &Config,
    requested: &UdevTty<'_>,
    leads: impl Fn(&Path) -> Option<u64>,
    has: impl Fn(u64, &Path) -> bool,
) -> Properties {
    let dev = Path::new("/dev");
    let node = dev.join(requested.kernel);
    let links: Vec<PathBuf> = requested.links.iter().map(|link| dev.join(link)).collect();
    let others = |path: &Path| leads(path).filter(|other| *other != requested.tty && has(*other, path));
    let will_lead = |path: &Path| match () {
        () if path == node => Some(requested.tty),
        () if links.iter().any(|link| link == path) => others(path).or(Some(requested.tty)),
        () => leads(path),
    };
    let claims = Claims::of(config);
    let linked = claims.iter().filter(|claim| claim.by_device && links.contains(&claim.path));
    let clash = linked
        .filter(|claim| {
            others(&claim.path).is_some() || requested.clash.as_deref() == Some(claim.port.as_str())
        })
        .map(|claim| claim.port.clone())
        .next();
    let owner = claims.owner(requested.tty, clash.as_ref().map(PortName::as_str), will_lead);
    let owner = owner.map(|claim| Owner {
        port: claim.port.clone(),
        enabled: claim.enabled,
        instance: Some(config.instances.of(&claim.port)).filter(|unit| **unit != claim.port).cloned(),
    });
    Properties { owner, clash }
}

/// [`properties`] on this machine.
pub fn on_this_machine(
    config: &Config,
    kernel: &str,
    links: &[PathBuf],
    clash: Option<String>,
) -> Properties {
    let machine = Machine::default();
    // Without a node, because it was unplugged again, no path leads to it.
    let tty = leads(&Path::new("/dev").join(kernel)).unwrap_or(u64::MAX);
    let has =
        |other: u64, path: &Path| machine.namesakes(path, tty).iter().any(|(namesake, _)| *namesake == other);
    properties(config, &UdevTty { kernel, links, tty, clash }, leads, has)
}

/// The instances of the enabled ports whose devices exist: they are opened when the target is started. The
/// udev rules start ports whose events are not processed yet.
pub fn present(config: &Config) -> Vec<PortName> {
    let machine = Machine::default();
    let claims = Claims::of(config);
    let is_there = |claim: &&crate::ownership::Claim| {
        let Some(tty) = leads(&claim.path) else { return false };
        let Readiness::Ready(record) = machine.readiness(&claim.path, tty) else { return false };
        let clash = record.as_ref().and_then(|record| record.clash.as_deref());
        // An adapter with only the kernel's name is used if the udev rules have not excluded it.
        let by_name = !claim.by_device && is_adapter(claim.port.as_str());
        let is_excluded = by_name && record.as_ref().is_some_and(|record| !record.for_consoles);
        claim.enabled
            && !is_excluded
            && claims.owner(tty, clash, leads).is_some_and(|owner| owner.port == claim.port)
    };
    claims.iter().filter(is_there).map(|claim| config.instances.of(&claim.port).clone()).collect()
}

/// Whether a port may use the USB device with this `ID_PATH`. A port with the name of an adapter may use any,
/// and so may one with a by-id path.
pub fn may_be_on(config: &Config, id_path: &str) -> bool {
    config.ports.iter().any(|(name, port)| match &port.device {
        None => config.server.monitor == Path::new("/dev") && is_adapter(name.as_str()),
        Some(device) => {
            let here = |rest: &str| rest.is_empty() || rest.starts_with([':', '-']);
            let by_path = device.strip_prefix("/dev/serial/by-path").ok().and_then(Path::to_str);
            let on_it = by_path.and_then(|link| link.strip_prefix(id_path)).is_some_and(here);
            let kernel = device.strip_prefix("/dev").ok().and_then(Path::to_str);
            on_it || device.starts_with("/dev/serial/by-id") || kernel.is_some_and(is_adapter)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("test.toml")).unwrap()
    }

    /// The properties of a tty with the number 10; some paths lead to other ttys.
    fn reported(
        config: &Config,
        kernel: &str,
        links: &[&str],
        others: &[(&str, u64)],
        clash: Option<&str>,
    ) -> String {
        let links: Vec<_> = links.iter().map(PathBuf::from).collect();
        let requested = UdevTty { kernel, links: &links, tty: 10, clash: clash.map(str::to_owned) };
        let leads =
            |path: &Path| others.iter().find(|(link, _)| Path::new(link) == path).map(|(_, tty)| *tty);
        properties(config, &requested, leads, |tty, _| tty != 99).to_string()
    }

    #[test]
    fn a_tty_belongs_to_the_port_of_its_device_path_otherwise_to_the_port_of_its_name() {
        let config = config(
            "[ports.ttyUSB0]\n[ports.ttyUSB1]\nenabled = false\n[ports.ttyUSB2]\n\
             [ports.core]\ndevice = \"/dev/serial/by-path/here\"\n[ports.exact]\ndevice = \"/dev/ttyUSB2\"\n",
        );
        let requested = |kernel, links: &[&str]| reported(&config, kernel, links, &[], None);
        let links = ["serial/by-id/x", "serial/by-path/here"];
        assert_eq!(requested("ttyUSB0", &links), "CONSOLE_PORT=core\nCONSOLE_START=1\n");
        assert_eq!(requested("ttyUSB0", &[]), "CONSOLE_PORT=ttyUSB0\nCONSOLE_START=1\n");
        assert_eq!(requested("ttyUSB1", &[]), "CONSOLE_PORT=ttyUSB1\n");
        assert_eq!(requested("ttyUSB2", &[]), "CONSOLE_PORT=exact\nCONSOLE_START=1\n");
        assert_eq!(requested("core", &[]), "");
        assert_eq!(requested("ttyUSB3", &["serial/by-path/there"]), "");
    }

    #[test]
    fn a_port_that_was_renamed_while_it_ran_is_started_by_its_old_unit() {
        let mut config = config("[ports.core]\ndevice = \"/dev/ttyUSB0\"\n");
        let mut instances = crate::config::Instances::default();
        instances.set("core".parse().unwrap(), "ttyUSB0".parse().unwrap());
        config.take_instances(instances);
        let reported = reported(&config, "ttyUSB0", &[], &[], None);
        assert_eq!(reported, "CONSOLE_PORT=core\nCONSOLE_START=1\nCONSOLE_INSTANCE=ttyUSB0\n");
    }

    #[test]
    fn the_second_adapter_with_the_same_serial_number_belongs_to_the_port_of_its_name() {
        let config = config("[ports.ttyUSB1]\n[ports.one]\ndevice = \"/dev/serial/by-id/A\"\n");
        let links = ["serial/by-id/A"];
        let first = [("/dev/serial/by-id/A", 7)];
        let own = "CONSOLE_PORT=ttyUSB1\nCONSOLE_START=1\nCONSOLE_CLASH=one\n";
        let ones = "CONSOLE_PORT=one\nCONSOLE_START=1\n";
        assert_eq!(reported(&config, "ttyUSB1", &links, &first, None), own);
        assert_eq!(reported(&config, "ttyUSB1", &links, &[], None), ones, "no other is there");
        assert_eq!(
            reported(&config, "ttyUSB1", &links, &[("/dev/serial/by-id/A", 10)], None),
            ones,
            "its own link"
        );
        // The link of an adapter that was unplugged, or that is a second one itself.
        assert_eq!(reported(&config, "ttyUSB1", &links, &[("/dev/serial/by-id/A", 99)], None), ones);
        // An event after the first one was unplugged.
        assert_eq!(reported(&config, "ttyUSB1", &links, &[("/dev/serial/by-id/A", 10)], Some("one")), own);
        assert_eq!(
            reported(&config, "ttyUSB1", &[], &[], Some("one")),
            "CONSOLE_PORT=ttyUSB1\nCONSOLE_START=1\n"
        );
    }

    #[test]
    fn no_tty_belongs_to_a_port_of_a_monitored_directory_other_than_dev() {
        let config = config("[server]\nmonitor = \"/srv/ports\"\n[ports.ttyUSB0]\n");
        assert_eq!(reported(&config, "ttyUSB0", &[], &[], None), "");
        assert!(!may_be_on(&config, "x"));
    }

    #[test]
    fn an_adapter_is_reserved_by_name_by_id_or_by_its_usb_path() {
        let device = |path: &str| config(&format!("[ports.a]\ndevice = \"{path}\"\n"));
        assert!(may_be_on(&config("[ports.ttyACM3]\n"), "x"));
        assert!(!may_be_on(&config("[ports.ttyS0]\n"), "x"));
        assert!(may_be_on(&device("/dev/serial/by-id/usb-FTDI"), "x"));
        assert!(may_be_on(&device("/dev/ttyUSB7"), "x"));
        let place = device("/dev/serial/by-path/pci-0-usb-0:1:1.0-port0");
        assert!(may_be_on(&place, "pci-0-usb-0:1"));
        assert!(!may_be_on(&place, "pci-0-usb-0:1.4"));
        assert!(!may_be_on(&device("/dev/serial/by-path/pci-0-usb-0:12:1.0"), "pci-0-usb-0:1"));
    }
}
