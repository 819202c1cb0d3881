//! Who has the device open beside its port: a getty, ModemManager, brltty, somebody's terminal program.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::device::kernel_name;
use super::{Finding, Observation, Subject};
use crate::port::PortName;
use crate::session::plain;

/// A process, and what it has open. Only root sees that of other people's.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    pub(super) name: String,
    /// Its control group, which names its unit.
    group: String,
    /// Device numbers of its character devices.
    devices: Vec<u64>,
    /// What its sockets are called: `socket:[12345]`.
    sockets: Vec<String>,
}

/// The processes of which something can be seen.
pub(super) fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pid = |entry: fs::DirEntry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()));
    entries.flatten().filter_map(pid).filter_map(|(pid, path)| Process::look(pid, &path)).collect()
}

impl Process {
    /// `None` if it has gone, or is not ours to look into.
    fn look(pid: u32, path: &Path) -> Option<Self> {
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

    /// Whether it serves this port, or keeps its descriptors (systemd).
    fn is_of(&self, port: &PortName) -> bool {
        self.pid == 1 || self.group.ends_with(&format!("/console@{port}.service"))
    }
}

pub(super) fn look(sight: &Observation, patient: &Subject<'_>) -> Vec<Finding> {
    let Ok(wanted) = fs::metadata(&patient.device) else { return Vec::new() };
    let kernel = kernel_name(&patient.device);
    if let Some(finding) = login_prompt(sight, &kernel, patient) {
        return vec![finding];
    }
    let holds = |process: &&Process| process.devices.contains(&wanted.rdev()) && !process.is_of(patient.unit);
    let finding = |process: &Process| {
        let what = format!("{} is held by {} (pid {})", patient.device.display(), process.name, process.pid);
        patient.finding(what, mend(process, &kernel))
    };
    sight.processes.iter().filter(holds).map(finding).collect()
}

/// A getty of this line, whether we see its process or not; and a kernel console, for which systemd starts one.
fn login_prompt(sight: &Observation, kernel: &str, patient: &Subject<'_>) -> Option<Finding> {
    let unit = format!("serial-getty@{kernel}.service");
    let state = sight.units.state(&unit)?;
    if !["active", "activating"].contains(&state) {
        return None;
    }
    let device = patient.device.display();
    let what = format!("{device} has a login prompt of this machine on it: {unit} is {state}");
    let mut mend = format!("systemctl disable --now {unit}");
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let console =
        |word: &str| word.strip_prefix("console=").and_then(|it| it.split(',').next()) == Some(kernel);
    if line.split_whitespace().any(console) {
        mend.push_str(&format!(
            "\nand take console={kernel} from the kernel's command line, which starts it at each boot; \
             until then: systemctl mask {unit}"
        ));
    }
    Some(patient.finding(what, mend))
}

fn mend(process: &Process, kernel: &str) -> String {
    let unit = process.group.rsplit('/').next().filter(|unit| unit.ends_with(".service"));
    match (process.name.as_str(), unit) {
        ("ModemManager", _) => format!(
            "it leaves our ports alone if udev has marked them: udevadm info /dev/{kernel} | grep ID_MM\n\
             systemctl restart ModemManager, or: systemctl disable --now ModemManager"
        ),
        ("brltty", _) => "it takes adapters for Braille displays: apt remove brltty, \
                          or: systemctl mask --now brltty.service brltty-udev.service"
            .to_owned(),
        (name, _) if name.contains("getty") => {
            format!("systemctl disable --now serial-getty@{kernel}.service")
        }
        // The device belongs to the port that is looked at, or it would not be asked who holds it.
        (_, Some(unit)) if unit.starts_with("console@") => {
            format!(
                "it is not that port's any more, and it lets go of it when it is told: systemctl reload {unit}"
            )
        }
        (_, Some(unit)) if !unit.starts_with("user@") => format!("systemctl stop {unit}"),
        _ => format!("end it, or: kill {}", process.pid),
    }
}
