//! The pipe between the tty and the ring. `splice(2)` moves the bytes of a read from the tty into it inside one system call and touches
//! no page of this process, so after a kill each byte is either in the tty or in the pipe. No other process writes to the pipe, so its
//! `FIONREAD` is the number of bytes that the ring has not taken yet. (`read(2)` of a tty returns its count in a register, which a
//! kill discards, and the bytes themselves do not show where they end, since a device may send any. `FIONREAD` of the tty before and
//! after cannot show it either: more may have arrived, and N_TTY counts bytes before a read may have them, `commit_head` in n_tty.c.)

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

use super::{READ_MAX, RingError};

/// A pipe that keeps its bytes over a kill, because it is in the FD store.
#[derive(Debug)]
pub(super) struct Intake(File);

impl Intake {
    /// A new, empty one: both of its ends in one descriptor, so that the FD store has both or none, and never one that is hung up,
    /// which systemd drops.
    pub(super) fn create() -> Result<Self, RingError> {
        Self::open().map_err(RingError::Intake)
    }

    fn open() -> io::Result<Self> {
        let (end, _other) = pipe2(OFlag::O_CLOEXEC)?;
        let both = File::options()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(format!("/proc/self/fd/{}", end.as_raw_fd()))?;
        // The default of 64 KiB counts against the user's limit (`pipe-user-pages-soft`), which all ports share. Above that limit the
        // kernel makes pipes of two pages anyway, so a failure changes nothing.
        let _ = fcntl(&both, FcntlArg::F_SETPIPE_SZ(2 * READ_MAX as i32));
        Ok(Self(both))
    }

    /// The pipe that an earlier process of this port left in the FD store.
    pub(super) fn adopt(fd: OwnedFd) -> Result<Self, RingError> {
        let file = File::from(fd);
        let is_ours = file.metadata().is_ok_and(|found| found.file_type().is_fifo())
            && fcntl(&file, FcntlArg::F_GETFL).is_ok_and(|flags| {
                OFlag::from_bits_truncate(flags).contains(OFlag::O_RDWR | OFlag::O_NONBLOCK)
            });
        if is_ours {
            Ok(Self(file))
        } else {
            Err(RingError::Foreign("its pipe was not created by this program"))
        }
    }

    pub(super) fn try_clone(&self) -> Result<Self, RingError> {
        self.0.try_clone().map(Self).map_err(RingError::Intake)
    }

    /// Bytes that the ring has not taken yet.
    pub(super) fn waiting(&self) -> io::Result<usize> {
        Ok(rustix::io::ioctl_fionread(&self.0)? as usize)
    }

    pub(super) fn read(&self, space: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(space)
    }
}

impl AsFd for Intake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
