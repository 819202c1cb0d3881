//! Configuration → what is to be written, without writing it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::text::{device_unit, path_value};
use crate::config::{Config, Port};
use crate::port::PortName;

const HEADER: &str = "# Made by console-generator: a change here is lost with the next daemon-reload.\n";

/// Where the units stand that links point to.
const UNITS: &str = "/usr/lib/systemd/system";

/// Who starts a port's sockets and watches: the one switch for the whole set. (That they listen early at a boot follows from
/// their own ordering, not from who wants them.)
const STARTER: &str = "consoleserver.target.wants";

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

/// What systemd is to do for `config`, which was read from `source` (or from nowhere).
pub fn plan(config: &Config, source: Option<&Path>) -> Plan {
    let mut plan = Plan::default();
    plan.admin_cli(config, source);
    for (name, port) in &config.ports {
        plan.sockets(config, name, port, source);
        let device = config.device(name, port);
        match (port.enabled, device.starts_with("/dev")) {
            (false, _) => {}
            // The udev rules start these, because they know which adapters are to be left alone.
            (true, true) if port.device.is_none() && is_adapter(name.as_str()) => {}
            (true, true) => {
                plan.wanted_by_device(name, &device);
                if port.device.is_none() {
                    // It was there long before it was configured, and its device unit with it.
                    plan.link(format!("{STARTER}/console@{name}.service"), "console@.service");
                }
            }
            (true, false) => plan.path_unit(name, &device),
        }
    }
    plan
}

impl Plan {
    /// The listener of the admin CLI.
    fn admin_cli(&mut self, config: &Config, source: Option<&Path>) {
        let Some(tcp) = config.server.ssh_port else { return };
        let socket = "console-cli.socket";
        self.file(format!("{socket}.d/10-listen.conf"), listen(&config.server.listen, tcp, source));
        self.link(format!("{STARTER}/{socket}"), socket);
    }

    /// The sockets of a port. A disabled one has them too, for `systemctl start`, but nothing starts them.
    fn sockets(&mut self, config: &Config, name: &PortName, port: &Port, source: Option<&Path>) {
        let mut sockets = vec![("console-attach@", format!("console-attach@{name}.socket"))];
        if let Some(tcp) = port.ssh_port {
            let socket = format!("console@{name}.socket");
            self.file(format!("{socket}.d/10-listen.conf"), listen(config.listen(port), tcp, source));
            sockets.push(("console@", socket));
        }
        // Its directory also tells the local socket that the port is configured (ConditionPathExists=), as that of the
        // SSH socket tells that one.
        let all = sockets.iter().map(|(_, socket)| socket.as_str()).collect::<Vec<_>>().join(" ");
        self.file(
            format!("console@{name}.service.d/10-sockets.conf"),
            format!("{HEADER}[Unit]\nRequires={all}\nAfter={all}\n"),
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
fn listen(addresses: &[IpAddr], tcp: u16, source: Option<&Path>) -> String {
    let mut text = HEADER.to_owned();
    if let Some(source) = source.and_then(path_value) {
        // With it `systemctl status` says when the file has changed since.
        text.push_str(&format!("[Unit]\nSourcePath={source}\n\n"));
    }
    text.push_str("[Socket]\nListenStream=\n");
    let ipv4_is_listed = addresses.iter().any(IpAddr::is_ipv4);
    for address in addresses {
        // The number alone is [::] with IPv4, or IPv4 alone on a kernel without IPv6; `[::]:NUMBER` would fail there.
        let line = match address.is_unspecified() && address.is_ipv6() && !ipv4_is_listed {
            true => format!("ListenStream={tcp}\n"),
            false => format!("ListenStream={}\n", SocketAddr::new(*address, tcp)),
        };
        text.push_str(&line);
    }
    text.push_str(if ipv4_is_listed { "BindIPv6Only=ipv6-only\n" } else { "BindIPv6Only=both\n" });
    text
}
