//! USB adapters that are plugged in and that no port names as its `device`.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio_serial::{SerialPortType, UsbPortInfo, available_ports};

use crate::config::Config;
use crate::ownership::{Claims, Machine, Record, leads};
use crate::port::{PortName, natural_order};

/// The tty of an adapter; an adapter with several ports has several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Adapter {
    /// The kernel's name, such as `ttyUSB0`, which may change at the next boot.
    pub tty: String,
    /// `0403:6001`
    id: String,
    maker: Option<String>,
    product: Option<String>,
    serial: Option<String>,
    /// The name in /dev/serial/by-path, which stays with the USB socket.
    pub path: Option<PathBuf>,
    /// The port that serves it by the kernel's name, which another adapter may have after the next boot.
    pub port: Option<PortName>,
}

impl Adapter {
    fn new(tty: String, usb: UsbPortInfo, record: &Record, port: Option<PortName>) -> Self {
        Self {
            tty,
            id: format!("{:04x}:{:04x}", usb.vid, usb.pid),
            // Some adapters state no names: then those of udev's database.
            maker: usb.manufacturer.or_else(|| record.maker.clone()),
            product: usb.product.or_else(|| record.product.clone()),
            serial: usb.serial_number,
            path: record.name("by-path").map(Path::to_owned),
            port,
        }
    }

    /// Vendor, product and serial number.
    fn description(&self) -> String {
        let names: Vec<&str> =
            [&self.maker, &self.product].into_iter().flatten().map(String::as_str).collect();
        let names = if names.is_empty() { "unknown adapter".to_owned() } else { names.join(" ") };
        let serial = self
            .serial
            .as_ref()
            .map_or_else(|| "no serial number".to_owned(), |serial| format!("serial number {serial}"));
        format!("{names} ({}), {serial}", self.id)
    }

    /// Two lines for users: the adapter, and below it its path.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{:<10}{}", self.tty, self.description())];
        if let Some(path) = &self.path {
            lines.push(format!("{:<10}{}", "", path.display()));
        }
        if let Some(port) = &self.port {
            lines.push(format!("{:<10}served by port {port}, by the kernel's current name", ""));
        }
        lines
    }
}

/// The USB ttys of this machine: path and adapter.
fn usb_ttys() -> Vec<(PathBuf, UsbPortInfo)> {
    // `available_ports` panics without this directory.
    if !Path::new("/sys/class/tty").is_dir() {
        return Vec::new();
    }
    // This fails only if a tty disappears while the directory is read.
    let ports = available_ports().unwrap_or_default();
    let usb = |port: tokio_serial::SerialPortInfo| match port.port_type {
        SerialPortType::UsbPort(usb) => Some((PathBuf::from(port.port_name), usb)),
        _ => None,
    };
    ports.into_iter().filter_map(usb).collect()
}

/// The adapter of a USB tty, `ttyUSB0`: vendor, product and serial number.
pub fn description(tty: &str) -> Option<String> {
    let (_, usb) = usb_ttys().into_iter().find(|(path, _)| path.ends_with(tty))?;
    Some(Adapter::new(tty.to_owned(), usb, &Record::default(), None).description())
}

/// The adapters of this machine that no port has for its `device`, in order.
pub fn unbound(config: &Config) -> Vec<Adapter> {
    let machine = Machine::default();
    let claims = Claims::of(config);
    let mut adapters = Vec::new();
    for (path, usb) in usb_ttys() {
        let Some(tty) = leads(&path) else { continue };
        let record = machine.record(tty);
        // Without a record there is no udev, and nothing excludes the tty.
        if record.as_ref().is_some_and(|record| !record.for_consoles) {
            continue;
        }
        let (record, name) = (record.unwrap_or_default(), path.file_name().unwrap_or_default());
        let kernel = name.to_string_lossy().into_owned();
        match claims.owner(tty, record.clash.as_deref(), leads) {
            Some(owner) if owner.by_device => {}
            owner => adapters.push(Adapter::new(kernel, usb, &record, owner.map(|owner| owner.port.clone()))),
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
        let usb = UsbPortInfo {
            vid: 0x0403,
            pid: 0x6001,
            serial_number: Some("A1B2C3".to_owned()),
            manufacturer: Some("FTDI".to_owned()),
            product: Some("FT232R USB UART".to_owned()),
        };
        let record = Record {
            links: vec!["/dev/serial/by-path/pci-0000:01:00.0-usb-0:1.4:1.0-port0".into()],
            ..Record::default()
        };
        let adapter = Adapter::new("ttyUSB3".to_owned(), usb.clone(), &record, None);
        assert_eq!(
            adapter.lines(),
            [
                "ttyUSB3   FTDI FT232R USB UART (0403:6001), serial number A1B2C3",
                "          /dev/serial/by-path/pci-0000:01:00.0-usb-0:1.4:1.0-port0",
            ]
        );
        let nameless = UsbPortInfo { serial_number: None, manufacturer: None, product: None, ..usb };
        let port = Some("ttyACM0".parse().unwrap());
        let unknown = Adapter::new("ttyACM0".to_owned(), nameless, &Record::default(), port);
        assert_eq!(unknown.lines()[0], "ttyACM0   unknown adapter (0403:6001), no serial number");
        assert!(unknown.lines()[1].contains("served by port ttyACM0"));
    }
}
