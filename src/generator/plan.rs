//! Configuration → what is to be written, without writing it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::text::{below_dev, device_unit, path_value};
use crate::config::{Config, Port};
use crate::port::PortName;

const HEADER: &str = "# Made by console-generator: a change here is lost with the next daemon-reload.\n";

/// Where the units stand that links point to.
const UNITS: &str = "/usr/lib/systemd/system";

/// Who starts a port's sockets: the boot, and `systemctl start consoleserver.target`.
const STARTERS: [&str; 2] = ["sockets.target", "consoleserver.target"];

/// Empty files for the udev rules, which cannot read the configuration: `managed/NAME` and `managed/serial/by-path/…`
/// for each device below /dev that an enabled port has, `owned/…` for those that a port has by its `device` path.
const MARKS: &str = "consoleserver";

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
    // The rules take a missing directory for a daemon-reload that is going on.
    plan.file(format!("{MARKS}/managed/.here"), String::new());
    for (name, port) in &config.ports {
        plan.sockets(config, name, port, source);
        if port.enabled {
            plan.opened_when_seen(name, &config.device(name, port), port.device.is_some());
        }
    }
    plan
}

impl Plan {
    /// The sockets of a port. A disabled one has them too, for `systemctl start`, but nothing starts them.
    fn sockets(&mut self, config: &Config, name: &PortName, port: &Port, source: Option<&Path>) {
        let mut sockets = vec![format!("console-attach@{name}.socket")];
        if let Some(tcp) = port.ssh_port {
            let socket = format!("console@{name}.socket");
            self.file(format!("{socket}.d/10-listen.conf"), listen(config.listen(port), tcp, source));
            sockets.push(socket);
        }
        let all = sockets.join(" ");
        self.file(
            format!("console@{name}.service.d/10-sockets.conf"),
            format!("{HEADER}[Unit]\nRequires={all}\nAfter={all}\n"),
        );
        if port.enabled {
            for socket in sockets {
                let template = if socket.starts_with("console@") { "console@" } else { "console-attach@" };
                for starter in STARTERS {
                    self.link(format!("{starter}.wants/{socket}"), &format!("{template}.socket"));
                }
            }
        }
    }

    /// The service as soon as the device is there: through its device unit if it is below /dev, else by a `.path` unit.
    fn opened_when_seen(&mut self, name: &PortName, device: &Path, owned: bool) {
        let service = format!("console@{name}.service");
        if !device.starts_with("/dev") {
            return self.path_unit(name, device);
        }
        let mark = below_dev(device);
        if let Some(device) = mark {
            let device = device.display();
            self.file(format!("{MARKS}/managed/{device}"), String::new());
            if owned {
                self.file(format!("{MARKS}/owned/{device}"), String::new());
            }
        }
        match (adapter(device).filter(|_| !owned), device_unit(device)) {
            // The udev rules decide which adapters are left alone, and give the others this unit as a second name.
            (Some(kernel), _) => {
                self.link(format!("console-{kernel}.device.wants/{service}"), "console@.service");
            }
            (None, Some(unit)) => self.link(format!("{unit}.wants/{service}"), "console@.service"),
            (None, None) => self.warnings.push(format!(
                "{name}: {device:?} is too long for a device unit: the port is opened by its first login only"
            )),
        }
    }

    fn path_unit(&mut self, name: &PortName, device: &Path) {
        let Some(value) = path_value(device) else {
            self.warnings.push(format!(
                "{name}: systemd cannot watch for {device:?}: the port is opened by its first login only"
            ));
            return;
        };
        let unit = format!("console@{name}.path");
        let text = format!(
            "{HEADER}[Unit]\nDescription=Device of serial console {name}\nPartOf=consoleserver.target\n\n\
             [Path]\nPathExists={value}\n"
        );
        self.file(unit.clone(), text);
        for starter in ["paths.target", "consoleserver.target"] {
            self.entries
                .insert(format!("{starter}.wants/{unit}").into(), Entry::Link(format!("../{unit}").into()));
        }
    }

    fn file(&mut self, path: String, text: String) {
        self.entries.insert(path.into(), Entry::File(text));
    }

    fn link(&mut self, path: String, unit: &str) {
        self.entries.insert(path.into(), Entry::Link(Path::new(UNITS).join(unit)));
    }
}

/// The kernel's name of a USB adapter.
fn adapter(device: &Path) -> Option<&str> {
    let name = device.strip_prefix("/dev").ok()?.to_str()?;
    let number = name.strip_prefix("ttyUSB").or_else(|| name.strip_prefix("ttyACM"))?;
    (matches!(number.len(), 1..=5) && number.bytes().all(|b| b.is_ascii_digit())).then_some(name)
}

/// The listeners of `console@NAME.socket`.
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
    if addresses.iter().any(|address| !address.is_unspecified()) {
        // The address may come later than the boot gets here (DHCP), or go and come back.
        text.push_str("FreeBind=yes\n");
    }
    text
}
