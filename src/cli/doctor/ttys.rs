//! The ttys of this machine, from udev's database.

use std::fs;
use std::path::Path;

use crate::ownership::{Machine, Record};

/// The ttys in udev's database.
#[derive(Debug, Default)]
pub(super) struct Ttys {
    machine: Machine,
    pub(super) records: Vec<(u64, Record)>,
}

impl Ttys {
    pub(super) fn read() -> Self {
        let machine = Machine::default();
        let records = machine.records();
        Self { machine, records }
    }

    pub(super) fn record(&self, tty: u64) -> Option<&Record> {
        self.records.iter().find(|(number, _)| *number == tty).map(|(_, record)| record)
    }

    pub(super) fn kernel_name(&self, tty: u64) -> String {
        self.machine.kernel_name(tty).unwrap_or_else(|| "a tty".to_owned())
    }
}

/// The kernel name of a device, after resolving links.
pub(super) fn kernel_name(device: &Path) -> String {
    let device = fs::canonicalize(device).unwrap_or_else(|_| device.to_owned());
    device.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
