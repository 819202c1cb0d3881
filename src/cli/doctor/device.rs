//! Whether the device is there, has a driver, and may be opened.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Group, Uid, User};

use super::{Finding, Patient, Sight, identity};
use crate::session::plain;

/// Whose ttys are by Debian's udev rules, and as whom ports run.
const GROUP: &str = "dialout";
const USER: &str = "_console-port";

pub(super) fn look(sight: &Sight, patient: &Patient<'_>) -> Option<Finding> {
    let device = &patient.device;
    let shown = patient.device.display();
    let Ok(metadata) = fs::metadata(device) else {
        // A port that waits for its adapter is well, unless somebody says that it is not.
        let elsewhere = identity::elsewhere(sight, patient);
        return elsewhere.or_else(|| patient.named.then(|| absent(patient)));
    };
    if !metadata.file_type().is_char_device() {
        return Some(patient.finding(
            format!("{shown} is not a serial port"),
            format!("consolectl device {} PATH", patient.name),
        ));
    }
    let (uid, gid, mode) = (metadata.uid(), metadata.gid(), metadata.mode() & 0o777);
    let group = Group::from_gid(Gid::from_raw(gid))
        .ok()
        .flatten()
        .map_or_else(|| gid.to_string(), |group| group.name);
    let owner =
        User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    if opens(&owner, &group, mode) {
        return None;
    }
    let what = format!(
        "{shown} belongs to {owner}:{group} with mode {mode:04o}: the port, which is in {GROUP}, may not open it"
    );
    let mend = format!(
        "chgrp {GROUP} {shown} && chmod 0660 {shown}\n\
             and for the next time look for the udev rule that set it: udevadm test /sys/class/tty/{}",
        kernel_name(device)
    );
    Some(patient.finding(what, mend))
}

/// Whether a port may read and write what belongs to these.
fn opens(owner: &str, group: &str, mode: u32) -> bool {
    let bits = match (owner, group) {
        (USER, _) => mode >> 6,
        (_, GROUP) => mode >> 3,
        _ => mode,
    };
    bits & 0o6 == 0o6
}

fn absent(patient: &Patient<'_>) -> Finding {
    let mut mend =
        "is the adapter plugged in, and its cable whole? dmesg and lsusb tell what the kernel sees"
            .to_owned();
    let others = plugged();
    if !others.is_empty() {
        let name = patient.name;
        mend.push_str(&format!("\nthese are plugged in; one is taken by: consolectl device {name} PATH"));
        for path in others {
            mend.push_str(&format!("\n  {}", path.display()));
        }
    }
    patient.finding(format!("there is no {}", patient.device.display()), mend)
}

/// What is plugged in, by names that stay.
fn plugged() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/dev/serial/by-path") else { return Vec::new() };
    let mut paths: Vec<_> =
        entries.flatten().map(|entry| Path::new("/dev/serial/by-path").join(entry.file_name())).collect();
    paths.sort();
    paths
}

/// What the kernel calls a device, behind all links.
pub(super) fn kernel_name(device: &Path) -> String {
    let device = fs::canonicalize(device).unwrap_or_else(|_| device.to_owned());
    device.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// USB devices that could be serial ports, and that no driver has taken.
pub(super) fn without_driver() -> Vec<Finding> {
    let Ok(interfaces) = fs::read_dir("/sys/bus/usb/devices") else { return Vec::new() };
    interfaces.flatten().filter_map(|entry| orphan(&entry.path())).collect()
}

fn orphan(interface: &Path) -> Option<Finding> {
    let attribute = |path: &Path| Some(fs::read_to_string(path).ok()?.trim().to_owned());
    let class = attribute(&interface.join("bInterfaceClass"))?;
    // Communications, and what is its vendor's own: as nearly all adapters are.
    if !["02", "ff"].contains(&class.as_str()) || interface.join("driver").exists() {
        return None;
    }
    let modules = modules(&attribute(&interface.join("modalias"))?);
    let device = fs::canonicalize(interface).ok()?.parent()?.to_owned();
    let (vendor, product) = (attribute(&device.join("idVendor"))?, attribute(&device.join("idProduct"))?);
    let called =
        attribute(&device.join("product")).map(|name| format!(" ({})", plain(&name))).unwrap_or_default();
    let what = format!("the USB device {vendor}:{product}{called} is plugged in, and no driver has taken it");
    // Many a device of a vendor's own class is no serial port: only what a serial driver would take, or nobody knows.
    if modules.is_empty() {
        return (class == "02").then(|| {
            Finding::everywhere(
                what,
                "this kernel has no driver for it: is its package of additional modules missing?",
            )
        });
    }
    let serial = |module: &String| SERIAL.iter().any(|known| module.contains(known));
    modules.iter().any(serial).then(|| {
        Finding::everywhere(
            what,
            format!(
                "modprobe {}\nif that is refused, look for `blacklist` in /etc/modprobe.d",
                modules.join(" ")
            ),
        )
    })
}

/// Parts of the names of drivers for serial adapters (drivers/usb/serial, drivers/usb/class).
const SERIAL: [&str; 10] = [
    "ftdi_sio",
    "pl2303",
    "cp210x",
    "ch341",
    "cdc_acm",
    "mos78",
    "ti_usb",
    "mxuport",
    "usb_serial",
    "xr_serial",
];

/// The modules that would take a device (modprobe(8)).
fn modules(alias: &str) -> Vec<String> {
    let Ok(told) = Command::new("modprobe").args(["--resolve-alias", alias]).output() else {
        return Vec::new();
    };
    String::from_utf8_lossy(&told.stdout).lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_opens_what_its_user_its_group_or_everybody_may() {
        for (owner, group, mode, wanted) in [
            ("root", "dialout", 0o660, true),
            ("root", "dialout", 0o640, false),
            ("root", "dialout", 0o600, false),
            ("root", "root", 0o660, false),
            ("root", "root", 0o666, true),
            ("root", "tty", 0o620, false),
            ("_console-port", "root", 0o600, true),
        ] {
            assert_eq!(opens(owner, group, mode), wanted, "{owner}:{group} {mode:o}");
        }
    }
}
