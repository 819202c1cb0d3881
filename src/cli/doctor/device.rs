//! Whether the device is there, has a driver, and may be opened.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::libc::{major, minor};
use nix::unistd::{Gid, Group, Uid, User};

use super::{Finding, Observation, Subject, identity};
use crate::cli::adapters;
use crate::port::{driver_of, natural_order};
use crate::session::plain;

/// Whose ttys are by Debian's udev rules, and as whom ports run.
const GROUP: &str = "dialout";
const USER: &str = "_console-port";
/// Major numbers of Unix98 pseudo terminals (linux/major.h).
const PTY_SLAVES: std::ops::RangeInclusive<u32> = 136..=143;

pub(super) fn look(sight: &Observation, patient: &Subject<'_>) -> Option<Finding> {
    let device = &patient.device;
    let shown = patient.device.display();
    let Ok(metadata) = fs::metadata(device) else {
        // A port that waits for its adapter is well, unless somebody says that it is not.
        let elsewhere = identity::elsewhere(sight, patient);
        return elsewhere.or_else(|| patient.named.then(|| absent(patient)));
    };
    if !metadata.file_type().is_char_device() {
        return Some(patient.finding(format!("{shown} is not a serial port"), instead(patient)));
    }
    let kernel = node_name(metadata.rdev());
    let pty = PTY_SLAVES.contains(&major(metadata.rdev()));
    if !pty && kernel.as_deref().is_some_and(|kernel| driver_of(kernel).is_none()) {
        let kernel = kernel.unwrap_or_default();
        return Some(patient.finding(
            format!("{shown} is not a serial line: the kernel calls it {kernel}"),
            instead(patient),
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
        return kernel.as_deref().and_then(driver_of).and_then(|driver| policy(sight, patient, driver));
    }
    let what = format!(
        "{shown} belongs to {owner}:{group} with mode {mode:04o}: the port, which is in {GROUP}, may not open it"
    );
    let kernel = kernel_name(device);
    let mend = match group.as_str() {
        _ if pty => format!(
            "it is a pseudo-terminal: let the program that makes it give it to group {GROUP} with mode 0660, \
             as socat's PTY,group={GROUP},mode=0660"
        ),
        "tty" => format!(
            "a login prompt leaves a line so: systemctl disable --now serial-getty@{kernel}.service\n\
             then: udevadm trigger --action=add /dev/{kernel}"
        ),
        _ => format!(
            "chgrp {GROUP} {shown} && chmod 0660 {shown}\n\
             and for the next time look for the udev rule that set it: udevadm test /sys/class/tty/{kernel}"
        ),
    };
    Some(patient.finding(what, mend))
}

/// The device policy of a port's unit, which does not know the driver of its device.
fn policy(sight: &Observation, patient: &Subject<'_>, driver: &str) -> Option<Finding> {
    let unit = format!("console@{}.service", patient.unit);
    if !["closed", "strict"].contains(&sight.units.property(&unit, "DevicePolicy")?) {
        return None;
    }
    let allowed = sight.units.property(&unit, "DeviceAllow")?;
    let device = patient.device.display().to_string();
    // systemctl shows them with a space between each word, or a line for each.
    let is_allowed = allowed.split_whitespace().any(|word| {
        word == device || word.strip_prefix("char-").is_some_and(|name| name == driver || name == "*")
    });
    if is_allowed {
        return None;
    }
    let what = format!("the device policy of {unit} does not allow {device}, whose driver is {driver}");
    Some(patient.finding(
        what,
        format!(
            "systemctl daemon-reload && systemctl restart {unit}\n\
             or, if that is not enough, add this by `systemctl edit {unit}`:\n  [Service]\n  DeviceAllow=char-{driver} rw"
        ),
    ))
}

/// What the kernel calls a character device.
fn node_name(device: u64) -> Option<String> {
    let entry = format!("/sys/dev/char/{}:{}", major(device), minor(device));
    Some(fs::canonicalize(entry).ok()?.file_name()?.to_string_lossy().into_owned())
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

/// How the port gets another device.
fn instead(patient: &Subject<'_>) -> String {
    let name = patient.name;
    let others = plugged();
    if others.is_empty() {
        return format!("consolectl device {name} PATH");
    }
    let mut mend = format!("these are plugged in; one is taken by: consolectl device {name} PATH");
    for path in others {
        let adapter = adapters::description(&kernel_name(&path));
        mend.push_str(&format!("\n  {}", path.display()));
        mend.extend(adapter.map(|adapter| format!("  {}", plain(&adapter))));
    }
    mend
}

fn absent(patient: &Subject<'_>) -> Finding {
    let mut mend =
        "is the adapter plugged in, and its cable whole? dmesg and lsusb tell what the kernel sees"
            .to_owned();
    if !plugged().is_empty() {
        mend.push_str(&format!("\n{}", instead(patient)));
    }
    patient.finding(format!("there is no {}", patient.device.display()), mend)
}

/// What is plugged in, by names that stay.
fn plugged() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/dev/serial/by-path") else { return Vec::new() };
    let mut paths: Vec<_> =
        entries.flatten().map(|entry| Path::new("/dev/serial/by-path").join(entry.file_name())).collect();
    paths.sort_by(|one, other| natural_order(&one.to_string_lossy(), &other.to_string_lossy()));
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
