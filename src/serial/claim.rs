//! Locking a tty. Two locks, because each stops programs that the other does not: `flock(2)` stops root and all programs
//! that check it (picocom, tio, this one), `TIOCEXCL` stops programs that do not, but not root. Neither is
//! released on close: the copy in systemd's FD store keeps both over a restart, and they end with the last copy.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::ioctl;

/// Major numbers of Unix98 pseudo terminals (linux/major.h).
const PTY_SLAVES: std::ops::RangeInclusive<u32> = 136..=143;

/// Takes both locks, or fails with `EBUSY` and leaves those of the other program as they are.
pub(super) fn claim(tty: &File) -> io::Result<()> {
    lock(tty)?;
    if is_pty(tty)? {
        return Ok(());
    }
    // open(2) by root succeeds anyway, and must not take a port from a program that did not flock it.
    if ioctl::is_exclusive(tty)? {
        return Err(Errno::EBUSY.into());
    }
    Ok(ioctl::set_exclusive(tty)?)
}

/// [`claim`] for a file descriptor from the FD store, which has the locks already unless the store lost them.
pub(super) fn claim_again(tty: &File) -> io::Result<()> {
    lock(tty)?;
    if !is_pty(tty)? {
        ioctl::set_exclusive(tty)?;
    }
    let flags = OFlag::from_bits_retain(fcntl(tty, FcntlArg::F_GETFL)?);
    fcntl(tty, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    fcntl(tty, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(())
}

/// Clears `TIOCEXCL` of a pty: see [`claim`].
pub(super) fn exempt_pty(tty: &File) -> io::Result<()> {
    if is_pty(tty)? {
        ioctl::clear_exclusive(tty)?;
    }
    Ok(())
}

/// Releases both locks. A tty whose device is gone has none.
pub(super) fn let_go(tty: &File) {
    let _ = tty.unlock();
    let _ = ioctl::clear_exclusive(tty);
}

/// Whether the device of the tty is gone.
pub(super) fn hung_up(tty: &File) -> io::Result<bool> {
    let mut asked = [PollFd::new(tty.as_fd(), PollFlags::empty())];
    poll(&mut asked, PollTimeout::ZERO)?;
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    Ok(asked[0].revents().is_some_and(|events| events.intersects(gone)))
}

fn lock(tty: &File) -> io::Result<()> {
    match tty.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Errno::EBUSY.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A pty keeps `TIOCEXCL` while its master is open, even if no process has the slave open: after a
/// crash of this program only root could open it again.
fn is_pty(tty: &File) -> io::Result<bool> {
    Ok(PTY_SLAVES.contains(&libc::major(tty.metadata()?.rdev())))
}
