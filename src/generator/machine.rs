//! Facts about the machine that determine units: IPv6 support, network interfaces, and the driver of a
//! device. systemd rejects a whole socket unit for one address that cannot be bound, before our code runs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Address;
use crate::port::driver_of;

/// Why an address is left out of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Impossible {
    NoIpv6,
    NoInterface,
}

/// The machine as seen in /proc, /sys and /dev below a root.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// The machine whose files are below `root`.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Why an address cannot be bound. An address that is assigned later can (`FreeBind=`).
    pub(super) fn impossible(&self, address: &Address) -> Option<Impossible> {
        if address.is_ipv4() {
            return None;
        }
        if !self.has_ipv6() {
            return Some(Impossible::NoIpv6);
        }
        let missing = address.interface().is_some_and(|name| !self.has_interface(name));
        missing.then_some(Impossible::NoInterface)
    }

    /// As in systemd (`socket_ipv6_is_supported`): with `ipv6.disable=1` the file does not exist. A root
    /// without /proc counts as a machine with IPv6.
    fn has_ipv6(&self) -> bool {
        let net = self.root.join("proc/net");
        !net.exists() || net.join("if_inet6").exists()
    }

    fn has_interface(&self, name: &str) -> bool {
        let all = self.root.join("sys/class/net");
        let Ok(entries) = fs::read_dir(&all) else { return true };
        let index = |path: PathBuf| fs::read_to_string(path.join("ifindex")).ok();
        match name.bytes().all(|byte| byte.is_ascii_digit()) {
            true => entries.flatten().filter_map(|entry| index(entry.path())).any(|it| it.trim() == name),
            false => all.join(name).exists(),
        }
    }

    /// The driver's name of its devices: `ttyTHS` of /dev/ttyTHS0, or of a link to it. `None` if it is not
    /// a serial line.
    pub(super) fn driver(&self, device: &Path) -> Option<String> {
        let below = self.root.join(device.strip_prefix("/").ok()?);
        let device = fs::canonicalize(&below).unwrap_or(below);
        let directly =
            device.parent() == Some(&*self.root.join("dev")) || device.parent() == Some(Path::new("/dev"));
        let name = device.file_name()?.to_str()?;
        driver_of(name).filter(|_| directly).map(str::to_owned)
    }
}
