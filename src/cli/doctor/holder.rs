//! Finds other processes that hold the device: a getty, ModemManager, brltty, a terminal program.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::finding::{Finding, Subject};
use super::observation::Observation;
use super::processes::Process;
use super::ttys::{is_serial, kernel_name};

/// The kernel's consoles on this machine (Documentation/admin-guide/serial-console.rst).
const CONSOLES: &str = "/sys/class/tty/console/active";

pub(super) fn check(observed: &Observation, subject: &Subject<'_>) -> Vec<Finding> {
    let Some(wanted) = fs::metadata(&subject.device).ok().filter(is_serial) else {
        return Vec::new();
    };
    let kernel = kernel_name(&subject.device);
    if let Some(finding) = getty(observed, &kernel, subject) {
        return vec![finding];
    }
    let consoles = fs::read_to_string(CONSOLES).unwrap_or_default();
    let holds = |process: &&Process| process.devices.contains(&wanted.rdev()) && !process.is_of(subject.unit);
    let held = |process: &Process| held(observed, subject, process, &kernel);
    observed
        .processes
        .iter()
        .filter(holds)
        .map(held)
        .chain(kernel_console(&consoles, &kernel, subject))
        .collect()
}

pub(super) fn held(
    observed: &Observation,
    subject: &Subject<'_>,
    process: &Process,
    kernel: &str,
) -> Finding {
    let user = process.user().map(|user| format!(" of {user}")).unwrap_or_default();
    let problem =
        format!("{} is held by {}{user} (pid {})", subject.device.display(), process.name, process.pid);
    subject.finding(problem, fix(observed, process, kernel))
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

/// The kernel of this machine prints its messages to the device.
pub(super) fn kernel_console(consoles: &str, kernel: &str, subject: &Subject<'_>) -> Option<Finding> {
    if !consoles.split_whitespace().any(|console| console == kernel) {
        return None;
    }
    let device = subject.device.display();
    Some(subject.finding(
        format!(
            "{device} is a console of this machine's kernel: its messages are sent to the device as input"
        ),
        format!(
            "remove console={kernel} from the kernel command line (/etc/default/grub; on a Raspberry Pi \
             console=serial0 from cmdline.txt), and reboot"
        ),
    ))
}

fn fix(observed: &Observation, process: &Process, kernel: &str) -> String {
    match (process.name.as_str(), process.unit()) {
        ("ModemManager", _) => format!(
            "it ignores ports with udev's mark: udevadm info /dev/{kernel} | grep ID_MM\n\
             systemctl restart ModemManager, or: systemctl disable --now ModemManager"
        ),
        ("brltty", _) => "it treats adapters as Braille displays: apt remove brltty, \
                          or: systemctl mask --now brltty.service brltty-udev.service"
            .to_owned(),
        // Checked only for devices that belong to the diagnosed port.
        (_, Some(unit)) if unit.starts_with("console@") => {
            format!(
                "it no longer belongs to that port, which releases it at a reload: systemctl reload {unit}"
            )
        }
        (_, Some(unit)) if !unit.starts_with("user@") => stop(observed, unit),
        (name, None) if name.contains("getty") => {
            format!("systemctl disable --now serial-getty@{kernel}.service")
        }
        _ => match process.container() {
            Some((program, id)) => format!("it runs in a container: {program} stop {id}"),
            None => format!("exit it, or: kill {}", process.pid),
        },
    }
}

/// The command that stops a unit, and keeps it from starting again, if it would: at the next boot, or by a socket, as gpsd does.
fn stop(observed: &Observation, unit: &str) -> String {
    let of = |key| observed.units.property(unit, key).unwrap_or_default();
    let triggers = of("TriggeredBy");
    match of("UnitFileState").starts_with("enabled") || !triggers.is_empty() {
        true => format!("systemctl disable --now {}", [unit, triggers].join(" ").trim_end()),
        false => format!("systemctl stop {unit}"),
    }
}
