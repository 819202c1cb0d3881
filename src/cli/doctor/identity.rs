//! Whose the device is: two adapters of one name, two ports of one device, an adapter that is there under another name, one that
//! is not open, and one that no port serves.

use std::path::Path;

use super::{Finding, Observation, Subject};
use crate::ownership::{Machine, Record, leads};

/// Letters of a serial number from which on it is worth comparing.
const SERIAL_MIN: usize = 4;

/// The ttys of this machine, as udev knows them.
#[derive(Debug, Default)]
pub(super) struct Ttys {
    machine: Machine,
    records: Vec<(u64, Record)>,
}

impl Ttys {
    pub(super) fn look() -> Self {
        let machine = Machine::default();
        let records = machine.records();
        Self { machine, records }
    }

    fn record(&self, tty: u64) -> Option<&Record> {
        self.records.iter().find(|(number, _)| *number == tty).map(|(_, record)| record)
    }

    fn kernel_name(&self, tty: u64) -> String {
        self.machine.kernel_name(tty).unwrap_or_else(|| "a tty".to_owned())
    }
}

/// The port that a device belongs to, if it is there.
pub(super) fn owner<'a>(sight: &'a Observation, device: &Path) -> Option<&'a crate::ownership::Claim> {
    let tty = leads(device)?;
    let clash = sight.ttys.record(tty).and_then(|record| record.clash.as_deref());
    sight.claims.owner(tty, clash, leads)
}

/// Whether the device that is there is another port's.
pub(super) fn is_anothers(sight: &Observation, patient: &Subject<'_>) -> bool {
    owner(sight, &patient.device).is_some_and(|owner| owner.port != *patient.name)
}

pub(super) fn look(sight: &Observation, patient: &Subject<'_>) -> Option<Finding> {
    let tty = leads(&patient.device)?;
    let name = patient.name;
    let shown = patient.device.display();
    let by_device = patient.settings.device.is_some();
    if let Some(finding) = by_device.then(|| clash(&sight.ttys, patient)).flatten() {
        return Some(finding);
    }
    match owner(sight, &patient.device) {
        // A port of the kernel's name steps back for one that has a `device`: so it is meant.
        Some(owner) if owner.port != *name && !by_device => None,
        Some(owner) if owner.port != *name && owner.by_device => Some(patient.finding(
            format!(
                "{shown} and the device of {}, {}, are one: {}",
                owner.port,
                owner.path.display(),
                sight.ttys.kernel_name(tty)
            ),
            format!(
                "{} has it; one of the two has to go, or to have another device: consolectl list",
                owner.port
            ),
        )),
        Some(owner) if owner.port != *name => {
            let link = sight.ttys.record(tty).and_then(|record| link(record, "by-path"));
            Some(patient.finding(
                format!(
                    "{shown} leads to {}, a second adapter with the serial number of the one that this port had",
                    sight.ttys.kernel_name(tty)
                ),
                format!("consolectl device {name} {}", link.unwrap_or_else(|| "BY-PATH".to_owned())),
            ))
        }
        _ => closed(sight, patient),
    }
}

/// Several adapters that have the patient's `device` for a name.
fn clash(ttys: &Ttys, patient: &Subject<'_>) -> Option<Finding> {
    let named = |record: &Record| record.links.contains(&patient.device);
    let all: Vec<_> = ttys.records.iter().filter(|(_, record)| named(record)).collect();
    if all.len() < 2 {
        return None;
    }
    let names: Vec<_> = all.iter().map(|(tty, _)| ttys.kernel_name(*tty)).collect();
    let what = format!(
        "{} is the name of {} adapters with the same serial number: {}",
        patient.device.display(),
        all.len(),
        names.join(", ")
    );
    let mut mend = "give the port the one that is meant, by the USB socket that it is in:".to_owned();
    for (tty, record) in all {
        let by_path = link(record, "by-path").unwrap_or_else(|| "BY-PATH".to_owned());
        mend.push_str(&format!(
            "\n  consolectl device {} {by_path}   ({})",
            patient.name,
            ttys.kernel_name(*tty)
        ));
    }
    Some(patient.finding(what, mend))
}

/// A device that is there, and not open although nobody has stopped its port.
fn closed(sight: &Observation, patient: &Subject<'_>) -> Option<Finding> {
    let name = patient.unit;
    // A modem, or one that somebody has kept from us: our rules have passed it over.
    let record = leads(&patient.device).and_then(|tty| sight.ttys.record(tty));
    if patient.settings.device.is_none() && record.is_some_and(|record| !record.for_consoles) {
        return None;
    }
    let state = |unit: String| sight.units.state(&unit);
    let is_meant = patient.settings.enabled
        && state("consoleserver.target".to_owned()) == Some("active")
        && state(format!("console-attach@{name}.socket")) == Some("active");
    let service = format!("console@{name}.service");
    (is_meant && state(service.clone()) == Some("inactive")).then(|| {
        let what =
            format!("{} is there, and the port is not open: nothing is logged", patient.device.display());
        patient.finding(what, format!("systemctl start {service}"))
    })
}

/// Where the adapter of a device that is absent may be: `device` is a link by-id with a serial number, or by-path of a USB socket.
pub(super) fn elsewhere(sight: &Observation, patient: &Subject<'_>) -> Option<Finding> {
    let wanted = patient.settings.device.as_ref()?;
    let mut there = sight.ttys.records.iter().filter(|(_, record)| like(wanted, record).is_some());
    let ((tty, record), None) = (there.next()?, there.next()) else { return None };
    let like = like(wanted, record)?;
    let kernel = sight.ttys.kernel_name(*tty);
    let now = link(record, like.kind).unwrap_or_else(|| format!("/dev/{kernel}"));
    Some(patient.finding(
        format!("{} is absent; {} is there as {kernel}", wanted.display(), like.what),
        format!("names may change with an upgrade of udev or the kernel; its name is now:\nconsolectl device {} {now}", patient.name),
    ))
}

struct Like {
    kind: &'static str,
    what: &'static str,
}

/// How a tty is like the one that a link was the name of.
fn like(wanted: &Path, record: &Record) -> Option<Like> {
    let name = wanted.file_name()?.to_str()?;
    let directory = wanted.parent()?;
    if directory.ends_with("serial/by-path") {
        let same = record
            .links
            .iter()
            .filter(|link| link.parent() == Some(directory))
            .any(|link| link.file_name().and_then(|name| name.to_str()).and_then(socket) == socket(name));
        return (same && socket(name).is_some())
            .then_some(Like { kind: "by-path", what: "an adapter in a USB socket of that number" });
    }
    let serial = record.serial_short.as_deref().filter(|serial| serial.len() >= SERIAL_MIN)?;
    let part = |part: &str| part == serial;
    let has_it = name.split(['_', '-']).any(part) || name.contains(serial);
    has_it.then_some(Like { kind: "by-id", what: "an adapter of that serial number" })
}

/// The USB socket, interface and port in a name by-path: `pci-0000:00:14.0-usb-0:1.4:1.0-port0` and `…-usbv2-0:1.4:1.0-port0` have
/// the same.
fn socket(name: &str) -> Option<&str> {
    let (_, rest) = name.rsplit_once("-usb")?;
    rest.split_once('-').map(|(_, socket)| socket)
}

/// Adapters that no port serves.
pub(super) fn unserved(sight: &Observation) -> Vec<Finding> {
    let nobodys = |(tty, record): &&(u64, Record)| {
        let adapter = Path::new("/dev").join(sight.ttys.kernel_name(*tty));
        record.for_consoles
            && record.place.as_deref().is_some_and(|place| place.contains("-usb"))
            && leads(&adapter) == Some(*tty)
            && owner(sight, &adapter).is_none()
    };
    let finding = |(tty, record): &(u64, Record)| {
        let kernel = sight.ttys.kernel_name(*tty);
        let by_path = link(record, "by-path").unwrap_or_else(|| format!("/dev/{kernel}"));
        let serial = record.serial.as_ref().map(|serial| format!(" ({serial})")).unwrap_or_default();
        Finding::everywhere(
            format!("the adapter {kernel}{serial} is plugged in, and no port serves it"),
            format!(
                "consolectl create NAME; consolectl device NAME {by_path}; consolectl reload NAME\n\
                 or, if it is for another program, set CONSOLE_IGNORE for it: see zz-consoleserver.rules"
            ),
        )
    };
    sight.ttys.records.iter().filter(nobodys).map(finding).collect()
}

fn link(record: &Record, kind: &str) -> Option<String> {
    record.name(kind).map(|name| name.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            serial_short: Some("A1B2C3".to_owned()),
            links: vec![
                "/dev/serial/by-id/usb-Future_Technology_A1B2C3-if00-port0".into(),
                "/dev/serial/by-path/pci-0000:01:00.0-usbv2-0:1.4:1.0-port0".into(),
            ],
            ..Record::default()
        }
    }

    #[test]
    fn an_adapter_is_known_by_its_serial_number_or_socket_under_another_name() {
        let like = |wanted: &str| like(Path::new(wanted), &record()).map(|like| like.kind);
        assert_eq!(like("/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A1B2C3-if00-port0"), Some("by-id"));
        assert_eq!(like("/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_ZZZZZZ-if00-port0"), None);
        assert_eq!(like("/dev/serial/by-path/pci-0000:01:00.0-usb-0:1.4:1.0-port0"), Some("by-path"));
        assert_eq!(like("/dev/serial/by-path/pci-0000:01:00.0-usb-0:1.3:1.0-port0"), None);
        assert_eq!(like("/dev/console-A1B2C3"), Some("by-id"));
        assert_eq!(like("/dev/ttyAMA0"), None);
    }
}
