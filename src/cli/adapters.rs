//! USB adapters that are plugged in and that no port names as its `device`.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::Config;
use crate::ownership::{Claims, Machine, Record, leads};
use crate::port::{PortName, natural_order};

/// The tty of an adapter; an adapter with several ports has several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// The kernel's name, such as `ttyUSB0`, which may change at the next boot.
    pub tty: String,
    maker: Option<String>,
    product: Option<String>,
    serial: Option<String>,
    /// The name in /dev/serial/by-path, which stays with the USB socket.
    pub path: Option<PathBuf>,
    /// The port that serves it by the kernel's name, which another adapter may have after the next boot.
    pub port: Option<PortName>,
}

impl Adapter {
    fn new(tty: String, record: &Record, port: Option<PortName>) -> Self {
        Self {
            tty,
            maker: record.maker.clone(),
            product: record.product.clone(),
            serial: record.serial_short.clone(),
            path: record.name("by-path").map(Path::to_owned),
            port,
        }
    }

    /// Lines of the table: the adapter, and below it the unabbreviated path.
    pub fn lines(&self) -> Vec<String> {
        let what: Vec<&str> =
            [&self.maker, &self.product].into_iter().flatten().map(String::as_str).collect();
        let mut first = format!("{:<10}", self.tty);
        first.push_str(if what.is_empty() { "unknown adapter" } else { "" });
        first.push_str(&what.join(" "));
        match &self.serial {
            Some(serial) => first.push_str(&format!(", serial number {serial}")),
            None => first.push_str(", no serial number"),
        }
        let mut lines = vec![first];
        if let Some(path) = &self.path {
            lines.push(format!("{:<10}{}", "", path.display()));
        }
        if let Some(port) = &self.port {
            lines.push(format!("{:<10}served by port {port}, by the kernel's current name", ""));
        }
        lines
    }
}

/// The adapters of this machine that no `device` names, in order.
pub fn unbound(config: &Config) -> Vec<Adapter> {
    let machine = Machine::default();
    let claims = Claims::of(config);
    let mut adapters = Vec::new();
    for (tty, record) in machine.records() {
        let Some(kernel) = machine.kernel_name(tty) else { continue };
        let is_usb = record.place.as_deref().is_some_and(|place| place.contains("-usb"));
        // (udev's record may outlive its adapter.)
        if !record.for_consoles || !is_usb || leads(&Path::new("/dev").join(&kernel)) != Some(tty) {
            continue;
        }
        match claims.owner(tty, record.clash.as_deref(), leads) {
            Some(owner) if owner.by_device => {}
            owner => adapters.push(Adapter::new(kernel, &record, owner.map(|owner| owner.port.clone()))),
        }
    }
    adapters.sort_by(|one, other| natural_order(&one.tty, &other.tty));
    adapters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_is_shown_with_vendor_product_serial_number_and_path() {
        let record = Record {
            maker: Some("FTDI".to_owned()),
            product: Some("FT232R USB UART".to_owned()),
            serial_short: Some("A1B2C3".to_owned()),
            links: vec!["/dev/serial/by-path/pci-0000:01:00.0-usb-0:1.4:1.0-port0".into()],
            ..Record::default()
        };
        let adapter = Adapter::new("ttyUSB3".to_owned(), &record, None);
        assert_eq!(
            adapter.lines(),
            [
                "ttyUSB3   FTDI FT232R USB UART, serial number A1B2C3",
                "          /dev/serial/by-path/pci-0000:01:00.0-usb-0:1.4:1.0-port0",
            ]
        );
        let unknown =
            Adapter::new("ttyACM0".to_owned(), &Record::default(), Some("ttyACM0".parse().unwrap()));
        assert_eq!(unknown.lines()[0], "ttyACM0   unknown adapter, no serial number");
        assert!(unknown.lines()[1].contains("served by port ttyACM0"));
    }
}
