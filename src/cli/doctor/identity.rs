//! Checks which port a device belongs to: two adapters with one name, two ports with one device, an adapter with another name, a device
//! that is not open, an adapter without a port.

use std::path::Path;

use super::finding::{Finding, Subject};
use super::observation::Observation;
use super::ttys::Ttys;
use crate::ownership::{Record, leads};

/// Serial numbers shorter than this are not compared.
const MIN_SERIAL_LENGTH: usize = 4;

/// The port that a device belongs to, if it is present.
pub(super) fn owner<'a>(observed: &'a Observation, device: &Path) -> Option<&'a crate::ownership::Claim> {
    let tty = leads(device)?;
    let clash = observed.ttys.record(tty).and_then(|record| record.clash.as_deref());
    observed.claims.owner(tty, clash, leads)
}

/// Whether the device belongs to another port.
pub(super) fn is_anothers(observed: &Observation, subject: &Subject<'_>) -> bool {
    owner(observed, &subject.device).is_some_and(|owner| owner.port != *subject.name)
}

pub(super) fn check(observed: &Observation, subject: &Subject<'_>) -> Option<Finding> {
    let tty = leads(&subject.device)?;
    let name = subject.name;
    let shown = subject.device.display();
    let by_device = subject.settings.device.is_some();
    if let Some(finding) = by_device.then(|| clash(&observed.ttys, subject)).flatten() {
        return Some(finding);
    }
    match owner(observed, &subject.device) {
        // Intended: a port named after the kernel's name yields to one with a `device`.
        Some(owner) if owner.port != *name && !by_device => None,
        Some(owner) if owner.port != *name && owner.by_device => Some(subject.finding(
            format!(
                "{shown} and {1}, the device of {0}, are the same: {2}",
                owner.port,
                owner.path.display(),
                observed.ttys.kernel_name(tty)
            ),
            format!("{} uses it; remove one of the two, or set another device: consolectl list", owner.port),
        )),
        Some(owner) if owner.port != *name => {
            let link = observed.ttys.record(tty).and_then(|record| link(record, "by-path"));
            Some(subject.finding(
                format!(
                    "{shown} now points to {}, a second adapter with the same serial number as this port's adapter",
                    observed.ttys.kernel_name(tty)
                ),
                format!("consolectl device {name} {}", link.unwrap_or_else(|| "BY-PATH".to_owned())),
            ))
        }
        _ => closed(observed, subject),
    }
}

/// Several adapters with the same persistent name, which is the port's `device`.
pub(super) fn clash(ttys: &Ttys, subject: &Subject<'_>) -> Option<Finding> {
    let named = |record: &Record| record.links.contains(&subject.device);
    let all: Vec<_> = ttys.records.iter().filter(|(_, record)| named(record)).collect();
    if all.len() < 2 {
        return None;
    }
    let names: Vec<_> = all.iter().map(|(tty, _)| ttys.kernel_name(*tty)).collect();
    let problem = format!(
        "{} is the name of {} adapters with the same serial number: {}",
        subject.device.display(),
        all.len(),
        names.join(", ")
    );
    let mut fix = "set the right one by its USB socket:".to_owned();
    for (tty, record) in all {
        let by_path = link(record, "by-path").unwrap_or_else(|| "BY-PATH".to_owned());
        fix.push_str(&format!(
            "\n  consolectl device {} {by_path}   # {}",
            subject.name,
            ttys.kernel_name(*tty)
        ));
    }
    Some(subject.finding(problem, fix))
}

/// A device that is present and not open, although its port is not stopped.
fn closed(observed: &Observation, subject: &Subject<'_>) -> Option<Finding> {
    let name = subject.unit;
    // A device that the udev rules skip, such as a modem.
    let record = leads(&subject.device).and_then(|tty| observed.ttys.record(tty));
    if subject.settings.device.is_none() && record.is_some_and(|record| !record.for_consoles) {
        return None;
    }
    let state = |unit: String| observed.units.state(&unit);
    let is_meant = subject.settings.enabled
        && state("consoleserver.target".to_owned()) == Some("active")
        && state(name.local_socket()) == Some("active");
    let service = name.service();
    // A masked unit is reported as such.
    let is_stopped = state(service.clone()) == Some("inactive") && !observed.units.is_masked(&service);
    (is_meant && is_stopped).then(|| {
        let problem = format!(
            "{} is present, but the port is not open and nothing is logged",
            subject.device.display()
        );
        let settings = observed.units.own_settings(&service);
        subject.finding(problem, format!("consolectl start {}{settings}", subject.name))
    })
}

/// The adapter of an absent `device` under another name, found by the serial number in a by-id link or the USB socket in a by-path link.
pub(super) fn elsewhere(observed: &Observation, subject: &Subject<'_>) -> Option<Finding> {
    let wanted = subject.settings.device.as_ref()?;
    let mut there = observed.ttys.records.iter().filter(|(_, record)| like(wanted, record).is_some());
    let ((tty, record), None) = (there.next()?, there.next()) else { return None };
    let like = like(wanted, record)?;
    let kernel = observed.ttys.kernel_name(*tty);
    let now = link(record, like.kind).unwrap_or_else(|| format!("/dev/{kernel}"));
    Some(subject.finding(
        format!("{} does not exist, but {} is present as {kernel}", wanted.display(), like.what),
        format!("names may change with an upgrade of udev or the kernel; to use the current name:\nconsolectl device {} {now}", subject.name),
    ))
}

struct Like {
    kind: &'static str,
    what: &'static str,
}

/// Whether a tty matches an absent link, and by what.
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
            .then_some(Like { kind: "by-path", what: "an adapter in the USB socket of that number" });
    }
    let serial = record.serial_short.as_deref().filter(|serial| serial.len() >= MIN_SERIAL_LENGTH)?;
    let part = |part: &str| part == serial;
    let has_it = name.split(['_', '-']).any(part) || name.contains(serial);
    has_it.then_some(Like { kind: "by-id", what: "an adapter with that serial number" })
}

/// The USB socket, interface and port in a name by-path: `pci-0000:00:14.0-usb-0:1.4:1.0-port0` and `…-usbv2-0:1.4:1.0-port0` have
/// the same.
fn socket(name: &str) -> Option<&str> {
    let (_, rest) = name.rsplit_once("-usb")?;
    rest.split_once('-').map(|(_, socket)| socket)
}

pub(super) fn unserved(observed: &Observation) -> Vec<Finding> {
    let nobodys = |(tty, record): &&(u64, Record)| {
        let adapter = Path::new("/dev").join(observed.ttys.kernel_name(*tty));
        record.for_consoles
            && record.place.as_deref().is_some_and(|place| place.contains("-usb"))
            && leads(&adapter) == Some(*tty)
            && owner(observed, &adapter).is_none()
    };
    let finding = |(tty, record): &(u64, Record)| {
        let kernel = observed.ttys.kernel_name(*tty);
        let by_path = link(record, "by-path").unwrap_or_else(|| format!("/dev/{kernel}"));
        let serial = record.serial.as_ref().map(|serial| format!(" ({serial})")).unwrap_or_default();
        Finding::everywhere(
            format!("the adapter {kernel}{serial} is plugged in and has no port"),
            format!(
                "consolectl create NAME; consolectl device NAME {by_path}; consolectl reload NAME\n\
                 if it is for another program, set CONSOLE_IGNORE for it: see zz-consoleserver.rules"
            ),
        )
    };
    observed.ttys.records.iter().filter(nobodys).map(finding).collect()
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
    fn a_renamed_adapter_is_found_by_its_serial_number_or_usb_socket() {
        let like = |wanted: &str| like(Path::new(wanted), &record()).map(|like| like.kind);
        assert_eq!(like("/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_A1B2C3-if00-port0"), Some("by-id"));
        assert_eq!(like("/dev/serial/by-id/usb-FTDI_FT232R_USB_UART_ZZZZZZ-if00-port0"), None);
        assert_eq!(like("/dev/serial/by-path/pci-0000:01:00.0-usb-0:1.4:1.0-port0"), Some("by-path"));
        assert_eq!(like("/dev/serial/by-path/pci-0000:01:00.0-usb-0:1.3:1.0-port0"), None);
        assert_eq!(like("/dev/console-A1B2C3"), Some("by-id"));
        assert_eq!(like("/dev/ttyAMA0"), None);
    }
}
