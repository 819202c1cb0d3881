//! Configuration → what is to be written, without writing it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::machine::{Impossible, Machine};
use super::text::{device_unit, path_value};
use crate::config::{Address, Config, Port};
use crate::port::PortName;

const HEADER: &str = "# Made by console-generator: a change here is lost with the next daemon-reload.\n";

/// Where the units stand that links point to.
const UNITS: &str = "/usr/lib/systemd/system";

/// Who starts a port's sockets and watches: the one switch for the whole set. (That they listen early at a boot follows from
/// their own ordering, not from who wants them.)
pub(crate) const STARTER: &str = "consoleserver.target.wants";

/// Drivers that console@.service itself allows; others get a `DeviceAllow=` of their own.
const ALLOWED: [&str; 7] = ["ttyUSB", "ttyACM", "ttyS", "ttyAMA", "ttySC", "ttyMAX", "ttyXRUSB"];

/// Names of listeners in one warning.
const NAMED: usize = 3;

/// One thing to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file with this text.
    File(String),
    /// A symbolic link to this.
    Link(PathBuf),
}

/// What is to be made, by path below the generator's directory, and what could not be said to systemd.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// By relative path.
    pub entries: BTreeMap<PathBuf, Entry>,
    /// A sentence each.
    pub warnings: Vec<String>,
}

/// Addresses that are left out, and of whose listeners.
type LeftOut = BTreeMap<String, Vec<String>>;

/// What systemd is to do for `config`, which was read from `source` (or from nowhere), on this machine.
pub fn plan(config: &Config, source: Option<&Path>, machine: &Machine) -> Plan {
    let mut plan = Plan::default();
    let mut left_out = LeftOut::new();
    plan.admin_cli(config, source, &mut |all| possible(all, "the admin CLI", machine, &mut left_out));
    for (name, port) in &config.ports {
        let unit = config.instances.of(name);
        if let (true, Some(other)) = (unit == name, config.instances.other_in(name)) {
            plan.warnings.push(format!(
                "{name} is left out: console@{name}.service is {other}, which was called so, until that is stopped"
            ));
            continue;
        }
        let possible = &mut |all: &[Address]| possible(all, name.as_str(), machine, &mut left_out);
        plan.sockets(config, unit, port, source, possible);
        let device = config.device(name, port);
        if let Some(driver) = machine.driver(&device).filter(|driver| !ALLOWED.contains(&driver.as_str())) {
            plan.file(
                format!("console@{unit}.service.d/20-device.conf"),
                format!("{HEADER}[Service]\nDeviceAllow=char-{driver} rw\n"),
            );
        }
        match (port.enabled, device.starts_with("/dev")) {
            (false, _) => {}
            // The udev rules start these, because they know which adapters are to be left alone.
            (true, true) if port.device.is_none() && is_adapter(name.as_str()) => {}
            (true, true) => {
                plan.wanted_by_device(unit, &device);
                if port.device.is_none() {
                    // It was there long before it was configured, and its device unit with it.
                    plan.link(format!("{STARTER}/console@{unit}.service"), "console@.service");
                }
            }
            (true, false) => plan.path_unit(unit, &device),
        }
    }
    plan.warnings.extend(left_out.into_iter().map(|(why, names)| match names.len().checked_sub(NAMED) {
        None | Some(0) => format!("{why} ({})", names.join(", ")),
        Some(more) => format!("{why} ({} and {more} more)", names[..NAMED].join(", ")),
    }));
    plan
}

/// Those of the addresses that systemd can be asked to listen on: for one that cannot be, it would refuse them all.
fn possible(all: &[Address], whose: &str, machine: &Machine, left_out: &mut LeftOut) -> Vec<Address> {
    let mut leave = |address: &Address, why: String| {
        left_out.entry(format!("{address} is left out: {why}")).or_default().push(whose.to_owned());
    };
    let is_possible = |address: &&Address| match machine.refuses(address) {
        None => true,
        // IPv4 alone then, as `listen` says it.
        Some(Impossible::NoIpv6) if address.ip().is_unspecified() => true,
        Some(Impossible::NoIpv6) => {
            leave(address, "this kernel has no IPv6".to_owned());
            false
        }
        Some(Impossible::NoInterface) => {
            let interface = address.interface().unwrap_or_default();
            leave(
                address,
                format!(
                    "there is no interface {interface}; once there is: systemctl daemon-reload, and restart the socket"
                ),
            );
            false
        }
    };
    all.iter().filter(is_possible).cloned().collect()
}

/// Leaves out what cannot be.
type Possible<'a> = &'a mut dyn FnMut(&[Address]) -> Vec<Address>;

impl Plan {
    /// The listener of the admin CLI.
    fn admin_cli(&mut self, config: &Config, source: Option<&Path>, possible: Possible<'_>) {
        let Some(tcp) = config.server.ssh_port else { return };
        let addresses = possible(&config.server.listen);
        if addresses.is_empty() {
            return;
        }
        let socket = "console-cli.socket";
        self.file(format!("{socket}.d/10-listen.conf"), listen(&[(addresses, tcp)], source));
        self.link(format!("{STARTER}/{socket}"), socket);
    }

    /// The sockets of a port. A disabled one has them too, for `systemctl start`, but nothing starts them.
    fn sockets(
        &mut self,
        config: &Config,
        name: &PortName,
        port: &Port,
        source: Option<&Path>,
        possible: Possible<'_>,
    ) {
        let attach = format!("console-attach@{name}.socket");
        let mut dependencies = format!("Requires={attach}\nAfter={attach}\n");
        let mut sockets = vec![("console-attach@", attach)];
        let listeners = config.tcp_listeners(port).map(|(addresses, tcp)| (possible(addresses), tcp));
        let listeners: Vec<_> = listeners.filter(|(addresses, _)| !addresses.is_empty()).collect();
        if !listeners.is_empty() {
            let socket = format!("console@{name}.socket");
            self.file(format!("{socket}.d/10-listen.conf"), listen(&listeners, source));
            // As Requires=, but for a socket that fails (its TCP port is another program's): the console is read and logged then too.
            dependencies.push_str(&format!("Wants={socket}\nPartOf={socket}\nAfter={socket}\n"));
            sockets.push(("console@", socket));
        }
        // Its directory also tells the local socket that the port is configured (ConditionPathExists=), as that of the
        // SSH socket tells that one.
        self.file(
            format!("console@{name}.service.d/10-sockets.conf"),
            format!("{HEADER}[Unit]\n{dependencies}"),
        );
        if port.enabled {
            for (template, socket) in sockets {
                self.link(format!("{STARTER}/{socket}"), &format!("{template}.socket"));
            }
        }
    }

    /// The service as soon as the device is there, through its device unit.
    fn wanted_by_device(&mut self, name: &PortName, device: &Path) {
        match device_unit(device) {
            Some(unit) => self.link(format!("{unit}.wants/console@{name}.service"), "console@.service"),
            None => self.warnings.push(format!(
                "{name}: {device:?} is too long for a device unit: the port is opened by its first login only"
            )),
        }
    }

    /// The service as soon as the device is there, which udev does not know of.
    fn path_unit(&mut self, name: &PortName, device: &Path) {
        let Some(value) = path_value(device) else {
            self.warnings.push(format!(
                "{name}: systemd cannot watch for {device:?}: the port is opened by its first login only"
            ));
            return;
        };
        let unit = format!("console@{name}.path");
        let text = format!(
            "{HEADER}[Unit]\nDescription=Device of serial console {name}\nPartOf=consoleserver.target\n\
             StartLimitIntervalSec=0\n\n\
             [Path]\nPathExists={value}\nTriggerLimitIntervalSec=0\n"
        );
        self.file(unit.clone(), text);
        let link = format!("{STARTER}/{unit}");
        self.entries.insert(link.into(), Entry::Link(format!("../{unit}").into()));
    }

    fn file(&mut self, path: String, text: String) {
        self.entries.insert(path.into(), Entry::File(text));
    }

    fn link(&mut self, path: String, unit: &str) {
        self.entries.insert(path.into(), Entry::Link(Path::new(UNITS).join(unit)));
    }
}

/// Whether this is the kernel's name of a USB adapter.
pub(super) fn is_adapter(name: &str) -> bool {
    let number = name.strip_prefix("ttyUSB").or_else(|| name.strip_prefix("ttyACM"));
    number.is_some_and(|number| matches!(number.len(), 1..=5) && number.bytes().all(|b| b.is_ascii_digit()))
}

/// The listeners of a socket unit.
fn listen(listeners: &[(Vec<Address>, u16)], source: Option<&Path>) -> String {
    let mut text = HEADER.to_owned();
    if let Some(source) = source.and_then(path_value) {
        // With it `systemctl status` says when the file has changed since.
        text.push_str(&format!("[Unit]\nSourcePath={source}\n\n"));
    }
    text.push_str("[Socket]\nListenStream=\n");
    // Of the first one, SSH: `[::]` alone is IPv4 too. No other listener of a port has its number.
    let ipv4_is_listed =
        listeners.first().is_some_and(|(addresses, _)| addresses.iter().any(Address::is_ipv4));
    for (address, tcp) in
        listeners.iter().flat_map(|(addresses, tcp)| addresses.iter().zip(std::iter::repeat(*tcp)))
    {
        // The number alone is [::] with IPv4, or IPv4 alone on a kernel without IPv6; `[::]:NUMBER` would fail there.
        let line = match (address.ip(), address.interface()) {
            (IpAddr::V6(ip), _) if ip.is_unspecified() && !ipv4_is_listed => tcp.to_string(),
            // A specifier's percent sign is doubled; the scope comes behind the port (`man systemd.socket`).
            (IpAddr::V6(ip), Some(interface)) => format!("[{ip}]:{tcp}%%{interface}"),
            (ip, _) => SocketAddr::new(ip, tcp).to_string(),
        };
        text.push_str(&format!("ListenStream={line}\n"));
    }
    text.push_str(if ipv4_is_listed { "BindIPv6Only=ipv6-only\n" } else { "BindIPv6Only=both\n" });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_that_need_no_drop_in_are_those_of_the_unit() {
        let unit = include_str!("../../units/console@.service");
        let allowed: Vec<&str> = unit
            .lines()
            .filter_map(|line| line.strip_prefix("DeviceAllow=char-")?.strip_suffix(" rw"))
            .collect();
        assert_eq!(allowed, ALLOWED);
    }
}
