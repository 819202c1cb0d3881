//! Why a port cannot be opened or taken over: sentences with the path and what to do.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use thiserror::Error;

/// Why a port cannot be opened. Its Display is the sentence that the user reads.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Nothing there, or nothing behind it.
    #[error("there is no device at {path} ({source}): is the adapter plugged in?")]
    Absent {
        /// The device.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Opened, or locked, by somebody else.
    #[error("{path} is in use by another program: `fuser {path}` tells which")]
    Busy {
        /// The device.
        path: PathBuf,
    },
    /// Not for us.
    #[error("no permission for {path}: is group dialout missing?")]
    Denied {
        /// The device.
        path: PathBuf,
    },
    /// A file, a disk, a terminal-less device.
    #[error("{path} is not a serial port")]
    NotATty {
        /// The device.
        path: PathBuf,
    },
    /// Anything else.
    #[error("{path} cannot be opened: {source}")]
    Io {
        /// The device.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a kept file descriptor cannot be used: close it, and open the port anew.
#[derive(Debug, Error)]
pub enum AdoptError {
    /// Whatever it is, not a serial port.
    #[error("the kept file descriptor is not a serial port")]
    NotATty,
    /// Its device has gone.
    #[error("the kept file descriptor of {0} is hung up")]
    HungUp(PathBuf),
    /// The path names another device now, or none.
    #[error("the kept file descriptor is no longer the device at {0}")]
    OtherDevice(PathBuf),
    /// Another program has locked it.
    #[error("{0} is in use by another program")]
    Busy(PathBuf),
    /// Anything else.
    #[error("{0} cannot be taken over: {1}")]
    Io(PathBuf, io::Error),
}

impl OpenError {
    pub(super) fn from_io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match Errno::from_raw(source.raw_os_error().unwrap_or(0)) {
            // EIO: a built-in ttyS without a UART behind it, or a pty whose master is closed.
            Errno::ENOENT | Errno::ENOTDIR | Errno::ENXIO | Errno::ENODEV | Errno::EIO => {
                Self::Absent { path, source }
            }
            Errno::EBUSY => Self::Busy { path },
            Errno::EACCES | Errno::EPERM => Self::Denied { path },
            Errno::ENOTTY => Self::NotATty { path },
            _ => Self::Io { path, source },
        }
    }
}
