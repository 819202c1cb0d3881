//! What the udev rules ask: whose a tty is, and whether a USB adapter may be one of ours. They ask the configuration itself,
//! because what a generator has written is away for a moment in each daemon-reload.

use std::fmt;
use std::path::{Path, PathBuf};

use super::plan::is_adapter;
use crate::config::Config;
use crate::port::PortName;

/// Whose a tty is; the Display is what `IMPORT{program}` reads (`man udev`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The port.
    pub port: &'a PortName,
    /// It is opened as soon as it is seen.
    pub enabled: bool,
}

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "CONSOLE_PORT={}", self.port)?;
        if self.enabled {
            writeln!(f, "CONSOLE_START=1")?;
        }
        Ok(())
    }
}

/// The port of the tty that the kernel calls `kernel` and udev gives `links`, which are relative to /dev: the one whose
/// `device` leads there, else the one of its name.
pub fn owner<'a>(config: &'a Config, kernel: &str, links: &[PathBuf]) -> Option<Owner<'a>> {
    let dev = Path::new("/dev");
    let node = dev.join(kernel);
    let paths: Vec<PathBuf> = links.iter().map(|link| dev.join(link)).chain([node.clone()]).collect();
    let by_device =
        config.ports.iter().find(|(_, port)| port.device.as_ref().is_some_and(|d| paths.contains(d)));
    let by_name = || {
        config.ports.iter().find(|(name, port)| port.device.is_none() && config.device(name, port) == node)
    };
    by_device.or_else(by_name).map(|(port, settings)| Owner { port, enabled: settings.enabled })
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

    fn asked(config: &Config, kernel: &str, links: &[&str]) -> String {
        let links: Vec<_> = links.iter().map(PathBuf::from).collect();
        owner(config, kernel, &links).map(|owner| owner.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_tty_is_its_device_ports_and_else_the_port_of_its_name() {
        let config = config(
            "[ports.ttyUSB0]\n[ports.ttyUSB1]\nenabled = false\n[ports.ttyUSB2]\n\
             [ports.core]\ndevice = \"/dev/serial/by-path/here\"\n[ports.exact]\ndevice = \"/dev/ttyUSB2\"\n",
        );
        let links = ["serial/by-id/x", "serial/by-path/here"];
        assert_eq!(asked(&config, "ttyUSB0", &links), "CONSOLE_PORT=core\nCONSOLE_START=1\n");
        assert_eq!(asked(&config, "ttyUSB0", &[]), "CONSOLE_PORT=ttyUSB0\nCONSOLE_START=1\n");
        assert_eq!(asked(&config, "ttyUSB1", &[]), "CONSOLE_PORT=ttyUSB1\n");
        assert_eq!(asked(&config, "ttyUSB2", &[]), "CONSOLE_PORT=exact\nCONSOLE_START=1\n");
        assert_eq!(asked(&config, "core", &[]), "");
        assert_eq!(asked(&config, "ttyUSB3", &["serial/by-path/there"]), "");
    }

    #[test]
    fn a_monitored_directory_other_than_dev_owns_no_tty() {
        let config = config("[server]\nmonitor = \"/srv/ports\"\n[ports.ttyUSB0]\n");
        assert_eq!(asked(&config, "ttyUSB0", &[]), "");
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
