//! The ttys of this machine, from udev's database.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::libc::{major, minor};

use crate::ownership::{Machine, Record};
use crate::port::driver_of;

/// Major numbers of Unix98 pseudo terminals (linux/major.h).
const PTY_SLAVES: std::ops::RangeInclusive<u32> = 136..=143;

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

/// Whether it is a tty with a driver that this program knows. Other devices, such as /dev/null, are open in programs that no user should
/// stop.
pub(super) fn is_serial(metadata: &fs::Metadata) -> bool {
    metadata.file_type().is_char_device()
        && (is_pty(metadata.rdev())
            || node_name(metadata.rdev()).is_none_or(|kernel| driver_of(&kernel).is_some()))
}

/// Whether a device is the terminal side of a pseudo terminal.
pub(super) fn is_pty(device: u64) -> bool {
    PTY_SLAVES.contains(&major(device))
}

/// The kernel name of a character device.
pub(super) fn node_name(device: u64) -> Option<String> {
    let entry = format!("/sys/dev/char/{}:{}", major(device), minor(device));
    Some(fs::canonicalize(entry).ok()?.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_tty_is_a_serial_port() {
        for other in ["/dev/null", "/dev/zero", "/etc/passwd", "/dev"] {
            assert!(!is_serial(&fs::metadata(other).unwrap()), "{other}");
        }
        let pty = nix::pty::openpty(None, None).unwrap();
        assert!(is_serial(&fs::File::from(pty.slave).metadata().unwrap()));
    }
}
