//! Finds other processes that hold the device: a getty, ModemManager, brltty, a terminal program.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::device::kernel_name;
use super::{Finding, Observation, Subject};
use crate::port::PortName;
use crate::session::plain;

/// A process and its open devices and sockets. Only root can inspect other users' processes.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    pub(super) name: String,
    /// Its control group, which names its unit.
    group: String,
    /// Device numbers of its character devices.
    devices: Vec<u64>,
    /// Its sockets, as in /proc: `socket:[12345]`.
    sockets: Vec<String>,
}

/// The processes that can be inspected.
pub(super) fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pid = |entry: fs::DirEntry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()));
    entries.flatten().filter_map(pid).filter_map(|(pid, path)| Process::inspect(pid, &path)).collect()
}

impl Process {
    /// `None` if it has exited or may not be inspected.
    fn inspect(pid: u32, path: &Path) -> Option<Self> {
        let (mut devices, mut sockets) = (Vec::new(), Vec::new());
        for descriptor in fs::read_dir(path.join("fd")).ok()?.flatten() {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            if target.starts_with("/dev") {
                devices.extend(fs::metadata(descriptor.path()).map(|metadata| metadata.rdev()));
            } else if let Some(socket) = target.to_str().filter(|name| name.starts_with("socket:")) {
                sockets.push(socket.to_owned());
            }
        }
        let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
        let group = read("cgroup").lines().find_map(|line| line.strip_prefix("0::").map(str::to_owned));
        let name = plain(read("comm").trim());
        Some(Self { pid, name, group: group.unwrap_or_default(), devices, sockets })
    }

    pub(super) fn has_socket(&self, socket: &str) -> bool {
        self.sockets.iter().any(|own| own == socket)
    }

    /// Whether it is the process of this port, or systemd, which stores its descriptors.
    fn is_of(&self, port: &PortName) -> bool {
        self.pid == 1 || self.group.ends_with(&format!("/console@{port}.service"))
    }
}

pub(super) fn check(observed: &Observation, subject: &Subject<'_>) -> Vec<Finding> {
    let Ok(wanted) = fs::metadata(&subject.device) else { return Vec::new() };
    let kernel = kernel_name(&subject.device);
    if let Some(finding) = login_prompt(observed, &kernel, subject) {
        return vec![finding];
    }
    let holds = |process: &&Process| process.devices.contains(&wanted.rdev()) && !process.is_of(subject.unit);
    let finding = |process: &Process| {
        let problem =
            format!("{} is held by {} (pid {})", subject.device.display(), process.name, process.pid);
        subject.finding(problem, fix(process, &kernel))
    };
    observed.processes.iter().filter(holds).map(finding).collect()
}

/// A getty on the device, even if its process cannot be inspected, and a kernel console, for which systemd starts one.
fn login_prompt(observed: &Observation, kernel: &str, subject: &Subject<'_>) -> Option<Finding> {
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
