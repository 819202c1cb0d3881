//! Finds other processes that hold the device: a getty, ModemManager, brltty, a terminal program.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::device;
use super::finding::{Finding, Subject};
use super::observation::Observation;
use super::processes::Process;
use super::ttys::kernel_name;

pub(super) fn check(observed: &Observation, subject: &Subject<'_>) -> Vec<Finding> {
    let Some(wanted) = fs::metadata(&subject.device).ok().filter(device::is_serial) else {
        return Vec::new();
    };
    let kernel = kernel_name(&subject.device);
    if let Some(finding) = getty(observed, &kernel, subject) {
        return vec![finding];
    }
    let holds = |process: &&Process| process.devices.contains(&wanted.rdev()) && !process.is_of(subject.unit);
    let held = |process: &Process| held(subject, process, &kernel);
    observed.processes.iter().filter(holds).map(held).collect()
}

pub(super) fn held(subject: &Subject<'_>, process: &Process, kernel: &str) -> Finding {
    let problem = format!("{} is held by {} (pid {})", subject.device.display(), process.name, process.pid);
    subject.finding(problem, fix(process, kernel))
}

/// A getty on the device, even if its process cannot be inspected, and a kernel console, for which systemd starts one.
pub(super) fn getty(observed: &Observation, kernel: &str, subject: &Subject<'_>) -> Option<Finding> {
    let unit = format!("serial-getty@{kernel}.service");
    let state = observed.units.state(&unit)?;
    if !["active", "activating"].contains(&state) {
        return None;
    }
    let device = subject.device.display();
    let problem = format!("{device} is used by a getty of this machine: {unit} is {state}");
    let mut fix = format!("systemctl disable --now {unit}");
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let console =
        |word: &str| word.strip_prefix("console=").and_then(|it| it.split(',').next()) == Some(kernel);
    if line.split_whitespace().any(console) {
        fix.push_str(&format!(
            "\nand remove console={kernel} from the kernel command line, which starts it at each boot; \
             until then: systemctl mask {unit}"
        ));
    }
    Some(subject.finding(problem, fix))
}

fn fix(process: &Process, kernel: &str) -> String {
    let unit = process.group.rsplit('/').next().filter(|unit| unit.ends_with(".service"));
    match (process.name.as_str(), unit) {
        ("ModemManager", _) => format!(
            "it ignores ports with udev's mark: udevadm info /dev/{kernel} | grep ID_MM\n\
             systemctl restart ModemManager, or: systemctl disable --now ModemManager"
        ),
        ("brltty", _) => "it treats adapters as Braille displays: apt remove brltty, \
                          or: systemctl mask --now brltty.service brltty-udev.service"
            .to_owned(),
        (name, _) if name.contains("getty") => {
            format!("systemctl disable --now serial-getty@{kernel}.service")
        }
        // Checked only for devices that belong to the diagnosed port.
        (_, Some(unit)) if unit.starts_with("console@") => {
            format!(
                "it no longer belongs to that port, which releases it at a reload: systemctl reload {unit}"
            )
        }
        (_, Some(unit)) if !unit.starts_with("user@") => format!("systemctl stop {unit}"),
        _ => format!("exit it, or: kill {}", process.pid),
    }
}
