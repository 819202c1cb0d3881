//! The state of the machine that several checks need.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::finding::Subject;
use super::processes::{Process, listeners, processes};
use super::systemd::{self, Units};
use super::ttys::{Ttys, is_serial, kernel_name};
use crate::cli::local;
use crate::config::Config;
use crate::ownership::Claims;
use crate::port::PortName;

/// The state of the machine that concerns all ports, collected once.
pub(super) struct Observation {
    pub(super) units: Units,
    pub(super) processes: Vec<Process>,
    pub(super) running: BTreeSet<PortName>,
    pub(super) ttys: Ttys,
    pub(super) claims: Claims,
    /// The listener of each TCP port.
    pub(super) listeners: BTreeMap<u16, String>,
}

impl Observation {
    pub(super) fn new(runtime: &Path, config: &Config, subjects: &[Subject<'_>]) -> Self {
        let mut units: Vec<String> = systemd::COMMON.map(str::to_owned).to_vec();
        // An active socket is described too: its addresses matter.
        let mut described = vec![systemd::METRICS_SOCKET.to_owned()];
        for Subject { unit: name, device, named, .. } in subjects {
            let getty = format!("serial-getty@{}.service", kernel_name(device));
            units.extend([name.service(), name.ssh_socket(), getty, name.local_socket(), name.path_unit()]);
            // The device policy matters also for a closed port whose device is present.
            if *named || device.exists() {
                described.push(name.service());
            }
        }
        let processes = processes();
        let devices: Vec<u64> = subjects
            .iter()
            .filter_map(|subject| subject.device.metadata().ok().filter(is_serial))
            .map(|metadata| metadata.rdev())
            .collect();
        let holds = |process: &&Process| process.devices.iter().any(|device| devices.contains(device));
        described.extend(processes.iter().filter(holds).filter_map(Process::unit).map(str::to_owned));
        let running = local::running(runtime).unwrap_or_default().into_iter().collect();
        Self {
            units: Units::query(&units, &described),
            processes,
            running,
            ttys: Ttys::read(),
            claims: Claims::of(config),
            listeners: listeners(),
        }
    }
}
