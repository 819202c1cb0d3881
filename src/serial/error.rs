//! Why a port cannot be opened or adopted: sentences with the path and what to do.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use thiserror::Error;

use crate::port::{LineSettings, driver_of};

/// Why a port cannot be opened. Its Display is the sentence that the user reads.
#[derive(Debug, Error)]
pub enum OpenError {
    /// No device node, or no device behind it.
    #[error("there is no device at {0} ({1}): is the adapter plugged in?")]
    Absent(PathBuf, io::Error),
    /// Opened, or locked, by another program.
    #[error("{0} is in use by another program: run `fuser {0}` to find it")]
    Busy(PathBuf),
    /// No access by owner, group and mode (`EACCES`); with these and what to do, as the end of the sentence.
    #[error("no permission for {0}{1}")]
    Denied(PathBuf, String),
    /// Access by owner, group and mode, but refused (`EPERM`): by the device policy of the unit, or of a container. With the name of the
    /// driver's devices, such as `ttyTHS`.
    #[error(
        "the device policy of console@.service does not allow {0}: try `systemctl daemon-reload`, which allows the drivers of \
         configured devices, and restart the port, or add `DeviceAllow=char-{1} rw` by `systemctl edit console@.service`"
    )]
    Forbidden(PathBuf, String),
    /// Open, but the driver refuses to set the line at all.
    #[error("{0} cannot be set to {1}: the driver failed ({2})")]
    Settings(PathBuf, LineSettings, io::Error),
    /// A file, a disk, a device that is not a tty.
    #[error("{0} is not a serial port")]
    NotATty(PathBuf),
    #[error("{0} cannot be opened: {1}")]
    Io(PathBuf, io::Error),
}

/// Why a file descriptor from the FD store cannot be used: close it, and reopen the port.
#[derive(Debug, Error)]
pub enum AdoptError {
    #[error("the stored file descriptor is not a serial port")]
    NotATty,
    #[error("the stored file descriptor of {0} is hung up")]
    HungUp(PathBuf),
    #[error("the stored file descriptor is no longer the device at {0}")]
    OtherDevice(PathBuf),
    #[error("{0} is in use by another program")]
    Busy(PathBuf),
    #[error("{0} cannot be taken over: {1}")]
    Io(PathBuf, io::Error),
}

impl OpenError {
    pub(super) fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match Errno::from_raw(source.raw_os_error().unwrap_or(0)) {
            // EIO: a built-in ttyS without a UART behind it, or a pty whose master is closed.
            Errno::ENOENT | Errno::ENOTDIR | Errno::ENXIO | Errno::ENODEV | Errno::EIO => {
                Self::Absent(path, source)
            }
            Errno::EBUSY => Self::Busy(path),
            Errno::EACCES => {
                let reason = why_denied(&path);
                Self::Denied(path, reason)
            }
            Errno::EPERM => {
                let driver = driver_name(&path);
                Self::Forbidden(path, driver)
            }
            Errno::ENOTTY => Self::NotATty(path),
            _ => Self::Io(path, source),
        }
    }
}

/// The group of ttys by Debian's udev rules.
const GROUP: &str = "dialout";

/// Owner, group and mode of a device that may not be opened, and what to do.
fn why_denied(path: &Path) -> String {
    let Ok(metadata) = fs::metadata(path) else { return String::new() };
    let owner = name_of("/etc/passwd", metadata.uid());
    let group = name_of("/etc/group", metadata.gid());
    reason(path, &owner, &group, metadata.mode() & 0o777)
}

/// The name of a user or group. Not by NSS, which may query a directory server and take its time: this is called by the task that
/// reads the line.
fn name_of(table: &str, id: u32) -> String {
    let text = fs::read_to_string(table).unwrap_or_default();
    let named = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    };
    text.lines().find_map(named).unwrap_or_else(|| id.to_string())
}

fn reason(path: &Path, owner: &str, group: &str, mode: u32) -> String {
    let whose = format!(", which is {owner}:{group} {mode:04o}");
    let kernel = kernel_name(path);
    match group {
        GROUP if mode & 0o060 == 0o060 => format!("{whose}: is group {GROUP} missing?"),
        // agetty and login(1) change the owner and do not restore it.
        "tty" => format!(
            "{whose}, as a login prompt (getty) leaves it: `systemctl disable --now serial-getty@{kernel}.service`, \
             then `udevadm trigger --action=add /dev/{kernel}` restores it"
        ),
        _ => format!(
            "{whose}, not group {GROUP}: `udevadm trigger --action=add /dev/{kernel}` applies the udev rules"
        ),
    }
}

/// The kernel's name of it, after all links.
fn kernel_name(path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// `ttyTHS` of `/dev/ttyTHS0`: the device cgroup knows all devices of the driver by this name (`man 5 systemd.resource-control`).
fn driver_name(path: &Path) -> String {
    let kernel = kernel_name(path);
    driver_of(&kernel).map_or_else(|| kernel.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_device_names_its_owner_and_the_command_that_helps() {
        let path = Path::new("/dev/ttyUSB0");
        assert_eq!(
            reason(path, "root", "dialout", 0o660),
            ", which is root:dialout 0660: is group dialout missing?"
        );
        let getty = reason(path, "root", "tty", 0o600);
        assert!(
            getty.contains("serial-getty@ttyUSB0.service")
                && getty.contains("udevadm trigger --action=add /dev/ttyUSB0"),
            "{getty}"
        );
        assert!(!getty.contains("dialout missing"), "{getty}");
        let other = reason(path, "root", "uucp", 0o660);
        assert!(other.starts_with(", which is root:uucp 0660, not group dialout: "), "{other}");
    }

    #[test]
    fn a_device_refused_by_the_policy_does_not_suggest_a_group() {
        let error = OpenError::from_io(Path::new("/dev/ttyTHS12"), Errno::EPERM.into()).to_string();
        assert!(error.contains("DeviceAllow=char-ttyTHS rw") && !error.contains("dialout"), "{error}");
    }
}
