//! Checks that the device is present, has a driver and can be opened.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{Gid, Group, Uid, User};

use super::finding::{Finding, Subject};
use super::identity;
use super::observation::Observation;
use super::ttys::{is_pty, is_serial, kernel_name, node_name};
use crate::cli::adapters;
use crate::port::{driver_of, natural_order};
use crate::session::plain;

/// The group of ttys in Debian's udev rules, and the user of the port processes.
const GROUP: &str = "dialout";
pub(super) const PORT_USER: &str = "_console-port";

pub(super) fn check(observed: &Observation, subject: &Subject<'_>) -> Option<Finding> {
    let device = &subject.device;
    let shown = subject.device.display();
    let metadata = match fs::metadata(device) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // A port that waits for its adapter is a problem only if the user asks about it.
            let elsewhere = identity::elsewhere(observed, subject);
            return elsewhere.or_else(|| subject.named.then(|| absent(subject)));
        }
        Err(error) => {
            return Some(
                subject.finding(format!("{shown} cannot be examined: {error}"), format!("ls -l {shown}")),
            );
        }
    };
    if metadata.is_file() && device.starts_with("/dev") {
        return Some(stray_file(subject));
    }
    if metadata.file_type().is_socket() {
        return Some(socket(subject));
    }
    if !metadata.file_type().is_char_device() {
        return Some(subject.finding(format!("{shown} is not a serial port"), instead(subject)));
    }
    let kernel = node_name(metadata.rdev());
    let pty = is_pty(metadata.rdev());
    if !is_serial(&metadata) {
        let kernel = kernel.unwrap_or_default();
        return Some(subject.finding(
            format!("{shown} is not a serial port: its kernel name is {kernel}"),
            instead(subject),
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
        return kernel.as_deref().and_then(driver_of).and_then(|driver| policy(observed, subject, driver));
    }
    Some(denied(subject, &owner, &group, mode, pty))
}

/// Output that was redirected to the name of an absent device, which then cannot get that name.
pub(super) fn stray_file(subject: &Subject<'_>) -> Finding {
    let shown = subject.device.display();
    subject.finding(
        format!("{shown} is a regular file, which a program created while the adapter was unplugged"),
        format!("rm {shown}; then unplug the adapter and plug it in again"),
    )
}

/// The device is a unix socket, such as QEMU's for a guest's console.
pub(super) fn socket(subject: &Subject<'_>) -> Finding {
    let shown = subject.device.display();
    subject.finding(
        format!("{shown} is a unix socket, not a device"),
        format!("in place of `device`, set: source = \"unix:{shown}\""),
    )
}

/// A device that the port process cannot open.
pub(super) fn denied(subject: &Subject<'_>, owner: &str, group: &str, mode: u32, is_pty: bool) -> Finding {
    let shown = subject.device.display();
    let problem = format!(
        "{shown} belongs to {owner}:{group} with mode {mode:04o}: the port runs in the group {GROUP} and cannot open it"
    );
    let kernel = kernel_name(&subject.device);
    let fix = match group {
        _ if is_pty => format!(
            "it is a pseudo-terminal: the program that creates it must set the group {GROUP} and mode 0660, \
             such as socat's PTY,group={GROUP},mode=0660"
        ),
        "tty" => format!(
            "a getty leaves these permissions: systemctl disable --now serial-getty@{kernel}.service\n\
             then: udevadm trigger --action=add /dev/{kernel}"
        ),
        _ => format!(
            "chgrp {GROUP} {shown} && chmod 0660 {shown}\n\
             to find the udev rule that set them: udevadm test /sys/class/tty/{kernel}"
        ),
    };
    subject.finding(problem, fix)
}

/// A device policy of the unit that does not allow the driver of the device.
pub(super) fn policy(observed: &Observation, subject: &Subject<'_>, driver: &str) -> Option<Finding> {
    let unit = subject.unit.service();
    if !["closed", "strict"].contains(&observed.units.property(&unit, "DevicePolicy")?) {
        return None;
    }
    let allowed = observed.units.property(&unit, "DeviceAllow")?;
    let device = subject.device.display().to_string();
    // systemctl prints them in one line or several.
    let is_allowed = allowed.split_whitespace().any(|word| {
        word == device || word.strip_prefix("char-").is_some_and(|name| name == driver || name == "*")
    });
    if is_allowed {
        return None;
    }
    let problem = format!("the device policy of {unit} does not allow {device}, whose driver is {driver}");
    Some(subject.finding(
        problem,
        format!(
            "systemctl daemon-reload && systemctl restart {unit}\n\
             if that is not enough, add this with `systemctl edit {unit}`:\n  [Service]\n  DeviceAllow=char-{driver} rw"
        ),
    ))
}

/// Whether a port process may read and write a device with these permissions.
fn opens(owner: &str, group: &str, mode: u32) -> bool {
    let bits = match (owner, group) {
        (PORT_USER, _) => mode >> 6,
        (_, GROUP) => mode >> 3,
        _ => mode,
    };
    bits & 0o6 == 0o6
}

/// How to set another device.
fn instead(subject: &Subject<'_>) -> String {
    let name = subject.name;
    let others = plugged();
    if others.is_empty() {
        return format!("consolectl device {name} PATH");
    }
    let mut fix = format!("to use one of the devices that are plugged in: consolectl device {name} PATH");
    for path in others {
        let adapter = adapters::description(&kernel_name(&path));
        fix.push_str(&format!("\n  {}", path.display()));
        fix.extend(adapter.map(|adapter| format!("  {}", plain(&adapter))));
    }
    fix
}

fn absent(subject: &Subject<'_>) -> Finding {
    let mut fix =
        "check that the adapter is plugged in and the cable is intact: dmesg and lsusb show what the kernel detects"
            .to_owned();
    if !plugged().is_empty() {
        fix.push_str(&format!("\n{}", instead(subject)));
    }
    subject.finding(format!("{} does not exist", subject.device.display()), fix)
}

/// The devices that are plugged in, by persistent names.
fn plugged() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/dev/serial/by-path") else { return Vec::new() };
    let mut paths: Vec<_> =
        entries.flatten().map(|entry| Path::new("/dev/serial/by-path").join(entry.file_name())).collect();
    paths.sort_by(|one, other| natural_order(&one.to_string_lossy(), &other.to_string_lossy()));
    paths
}

/// USB devices that may be serial adapters and have no driver.
pub(super) fn without_driver() -> Vec<Finding> {
    let Ok(interfaces) = fs::read_dir("/sys/bus/usb/devices") else { return Vec::new() };
    interfaces.flatten().filter_map(|entry| orphan(&entry.path())).collect()
}

fn orphan(interface: &Path) -> Option<Finding> {
    let attribute = |path: &Path| Some(fs::read_to_string(path).ok()?.trim().to_owned());
    let class = attribute(&interface.join("bInterfaceClass"))?;
    // Class 02 is CDC; ff is vendor specific, as for nearly all adapters.
    if !["02", "ff"].contains(&class.as_str()) || interface.join("driver").exists() {
        return None;
    }
    let modules = modules(&attribute(&interface.join("modalias"))?);
    let device = fs::canonicalize(interface).ok()?.parent()?.to_owned();
    let (vendor, product) = (attribute(&device.join("idVendor"))?, attribute(&device.join("idProduct"))?);
    let called =
        attribute(&device.join("product")).map(|name| format!(" ({})", plain(&name))).unwrap_or_default();
    let problem = format!("the USB device {vendor}:{product}{called} is plugged in and has no driver");
    // Many vendor-specific devices are not serial ports: report only those for which there is a serial driver, and CDC devices.
    if modules.is_empty() {
        return (class == "02").then(|| {
            Finding::everywhere(
                problem,
                "this kernel has no driver for it: install the package with additional kernel modules",
            )
        });
    }
    let serial = |module: &String| SERIAL.split(' ').any(|known| module.contains(known));
    modules.iter().any(serial).then(|| {
        Finding::everywhere(
            problem,
            format!(
                "modprobe {}\nif that fails, search for `blacklist` in /etc/modprobe.d",
                modules.join(" ")
            ),
        )
    })
}

/// Parts of the names of drivers for serial adapters (drivers/usb/serial, drivers/usb/class).
const SERIAL: &str = "ftdi_sio pl2303 cp210x ch341 cdc_acm mos78 ti_usb mxuport usb_serial xr_serial";

/// The modules that match a device (modprobe(8)).
fn modules(alias: &str) -> Vec<String> {
    let Ok(output) = Command::new("modprobe").args(["--resolve-alias", alias]).output() else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_group_and_mode_decide_whether_a_port_opens_a_device() {
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
