//! What the udev rules ask: whose a tty is, and whether a USB adapter may be one of ours. They ask the configuration itself,
//! because what a generator has written is away for a moment in each daemon-reload.

use std::fmt;
use std::path::{Path, PathBuf};

use super::plan::is_adapter;
use crate::config::Config;
use crate::ownership::{Claims, Machine, Readiness, leads};
use crate::port::PortName;

/// Whose a tty is; the Display is what `IMPORT{program}` reads (`man udev`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The port.
    pub port: PortName,
    /// It is opened as soon as it is seen.
    pub enabled: bool,
    /// `console@INSTANCE.service` is its unit, if that has another name than the port.
    pub instance: Option<PortName>,
}

/// What udev is to know of a tty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// Whose it is.
    pub owner: Option<Owner>,
    /// The port whose `device` leads to another tty already, by a link that this one has been given, too.
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

/// A tty of which udev asks. It is about to get its links, which are not made yet.
#[derive(Debug, Clone)]
pub struct UdevTty<'a> {
    /// What the kernel calls it.
    pub kernel: &'a str,
    /// Its links, relative to /dev.
    pub links: &'a [PathBuf],
    /// Its device number.
    pub tty: u64,
    /// `CONSOLE_CLASH`, as it was when the tty appeared: a change does not take it back, or a session would change its device as
    /// the other adapter goes.
    pub clash: Option<String>,
}

/// Whose it is. `leads` tells where paths lead at present, and `has` whether another tty has been given a link and is no second
/// adapter itself.
pub fn properties(
    config: &Config,
    asked: &UdevTty<'_>,
    leads: impl Fn(&Path) -> Option<u64>,
    has: impl Fn(u64, &Path) -> bool,
) -> Properties {
    let dev = Path::new("/dev");
    let node = dev.join(asked.kernel);
    let links: Vec<PathBuf> = asked.links.iter().map(|link| dev.join(link)).collect();
    let others = |path: &Path| leads(path).filter(|other| *other != asked.tty && has(*other, path));
    let will_lead = |path: &Path| match () {
        () if path == node => Some(asked.tty),
        () if links.iter().any(|link| link == path) => others(path).or(Some(asked.tty)),
        () => leads(path),
    };
    let claims = Claims::of(config);
    let linked = claims.iter().filter(|claim| claim.by_device && links.contains(&claim.path));
    let clash = linked
        .filter(|claim| others(&claim.path).is_some() || asked.clash.as_deref() == Some(claim.port.as_str()))
        .map(|claim| claim.port.clone())
        .next();
    let owner = claims.owner(asked.tty, clash.as_ref().map(PortName::as_str), will_lead);
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
    // Without a node (it went again at once) no path leads there.
    let tty = leads(&Path::new("/dev").join(kernel)).unwrap_or(u64::MAX);
    let has =
        |other: u64, path: &Path| machine.namesakes(path, tty).iter().any(|(namesake, _)| *namesake == other);
    properties(config, &UdevTty { kernel, links, tty, clash }, leads, has)
}

/// The units' instances of the enabled ports whose devices are there: they are opened when the whole is started. What udev has not come to yet, its rules
/// start.
pub fn present(config: &Config) -> Vec<PortName> {
    let machine = Machine::default();
    let claims = Claims::of(config);
    let is_there = |claim: &&crate::ownership::Claim| {
        let Some(tty) = leads(&claim.path) else { return false };
        let Readiness::Ready(record) = machine.readiness(&claim.path, tty) else { return false };
        let clash = record.as_ref().and_then(|record| record.clash.as_deref());
        // An adapter that has the kernel's name only is for consoles if our rules have not passed it over.
        let by_name = !claim.by_device && is_adapter(claim.port.as_str());
        let passed_over = by_name && record.as_ref().is_some_and(|record| !record.for_consoles);
        claim.enabled
            && !passed_over
            && claims.owner(tty, clash, leads).is_some_and(|owner| owner.port == claim.port)
    };
    claims.iter().filter(is_there).map(|claim| config.instances.of(&claim.port).clone()).collect()
}

/// Whether a port may be on the USB device that udev gives this `ID_PATH`. One that is named after an adapter may be on any,
/// and where one with a by-id path is cannot be told from the place.
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

    /// What udev is told of a tty with the number 10; some paths lead to others that have them for a name.
    fn told(
        config: &Config,
        kernel: &str,
        links: &[&str],
        others: &[(&str, u64)],
        clash: Option<&str>,
    ) -> String {
        let links: Vec<_> = links.iter().map(PathBuf::from).collect();
        let asked = UdevTty { kernel, links: &links, tty: 10, clash: clash.map(str::to_owned) };
        let leads =
            |path: &Path| others.iter().find(|(link, _)| Path::new(link) == path).map(|(_, tty)| *tty);
        properties(config, &asked, leads, |tty, _| tty != 99).to_string()
    }

    #[test]
    fn a_tty_is_its_device_ports_and_else_the_port_of_its_name() {
        let config = config(
            "[ports.ttyUSB0]\n[ports.ttyUSB1]\nenabled = false\n[ports.ttyUSB2]\n\
             [ports.core]\ndevice = \"/dev/serial/by-path/here\"\n[ports.exact]\ndevice = \"/dev/ttyUSB2\"\n",
        );
        let asked = |kernel, links: &[&str]| told(&config, kernel, links, &[], None);
        let links = ["serial/by-id/x", "serial/by-path/here"];
        assert_eq!(asked("ttyUSB0", &links), "CONSOLE_PORT=core\nCONSOLE_START=1\n");
        assert_eq!(asked("ttyUSB0", &[]), "CONSOLE_PORT=ttyUSB0\nCONSOLE_START=1\n");
        assert_eq!(asked("ttyUSB1", &[]), "CONSOLE_PORT=ttyUSB1\n");
        assert_eq!(asked("ttyUSB2", &[]), "CONSOLE_PORT=exact\nCONSOLE_START=1\n");
        assert_eq!(asked("core", &[]), "");
        assert_eq!(asked("ttyUSB3", &["serial/by-path/there"]), "");
    }

    #[test]
    fn a_port_that_was_renamed_while_it_ran_is_started_by_its_unit() {
        let mut config = config("[ports.core]\ndevice = \"/dev/ttyUSB0\"\n");
        let mut instances = crate::config::Instances::default();
        instances.set("core".parse().unwrap(), "ttyUSB0".parse().unwrap());
        config.take_instances(instances);
        let told = told(&config, "ttyUSB0", &[], &[], None);
        assert_eq!(told, "CONSOLE_PORT=core\nCONSOLE_START=1\nCONSOLE_INSTANCE=ttyUSB0\n");
    }

    #[test]
    fn the_second_adapter_of_one_serial_number_is_the_port_of_its_name() {
        let config = config("[ports.ttyUSB1]\n[ports.one]\ndevice = \"/dev/serial/by-id/A\"\n");
        let links = ["serial/by-id/A"];
        let first = [("/dev/serial/by-id/A", 7)];
        let own = "CONSOLE_PORT=ttyUSB1\nCONSOLE_START=1\nCONSOLE_CLASH=one\n";
        let ones = "CONSOLE_PORT=one\nCONSOLE_START=1\n";
        assert_eq!(told(&config, "ttyUSB1", &links, &first, None), own);
        assert_eq!(told(&config, "ttyUSB1", &links, &[], None), ones, "no other is there");
        assert_eq!(
            told(&config, "ttyUSB1", &links, &[("/dev/serial/by-id/A", 10)], None),
            ones,
            "its own link"
        );
        // The link of one that has gone, or that is a second one itself.
        assert_eq!(told(&config, "ttyUSB1", &links, &[("/dev/serial/by-id/A", 99)], None), ones);
        // A change comes after the first one has gone.
        assert_eq!(told(&config, "ttyUSB1", &links, &[("/dev/serial/by-id/A", 10)], Some("one")), own);
        assert_eq!(
            told(&config, "ttyUSB1", &[], &[], Some("one")),
            "CONSOLE_PORT=ttyUSB1\nCONSOLE_START=1\n"
        );
    }

    #[test]
    fn a_monitored_directory_other_than_dev_owns_no_tty() {
        let config = config("[server]\nmonitor = \"/srv/ports\"\n[ports.ttyUSB0]\n");
        assert_eq!(told(&config, "ttyUSB0", &[], &[], None), "");
        assert!(!may_be_on(&config, "x"));
    }

    #[test]
    fn an_adapter_may_be_ours_by_name_by_id_or_at_its_place() {
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
