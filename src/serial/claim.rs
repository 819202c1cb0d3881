//! Having a tty to oneself. Two locks, because each stops what the other does not: `flock(2)` stops root and everybody
//! who asks (picocom, tio, ourselves), `TIOCEXCL` stops everybody who does not ask, but not root. Neither is
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

/// Takes both locks, or fails with `EBUSY` and leaves the other program's as they are.
pub(super) fn claim(tty: &File) -> io::Result<()> {
    lock(tty)?;
    if is_pty(tty)? {
        return Ok(());
    }
    // Root is let through open(2) all the same, and must not take a port from a program that did not flock it.
    if ioctl::is_exclusive(tty)? {
        return Err(Errno::EBUSY.into());
    }
    Ok(ioctl::set_exclusive(tty)?)
}

/// [`claim`] for a file descriptor whose locks are ours already, unless its keeper forgot them.
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

/// Lets go of both locks. Of a tty that has gone there are none.
pub(super) fn let_go(tty: &File) {
    let _ = tty.unlock();
    let _ = ioctl::clear_exclusive(tty);
}

/// Whether the device behind the tty has gone.
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

/// A pty keeps `TIOCEXCL` for as long as its master is open, also when nobody has the slave open any more: after a
/// crash of ours nobody but root could open it again.
fn is_pty(tty: &File) -> io::Result<bool> {
    Ok(PTY_SLAVES.contains(&libc::major(tty.metadata()?.rdev())))
}
