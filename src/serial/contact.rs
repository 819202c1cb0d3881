//! A tty while the runtime watches it: whatever comes wakes the process for as long as a contact lives. Who does not want that lets go of
//! it for a while, and the kernel keeps what comes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use tokio::io::Interest;

use super::tty::{ReadOutcome, Tty, WriteOutcome};
use crate::system::reactor::Watched;

/// A tty under the runtime's eye. Only [`Self::readable`] and [`Self::writable`] wait.
#[derive(Debug)]
pub struct Contact<'tty> {
    tty: &'tty Tty,
    watched: Watched<BorrowedFd<'tty>>,
}

impl<'tty> Contact<'tty> {
    pub(super) fn new(tty: &'tty Tty) -> io::Result<Self> {
        let watched = Watched::new(tty.as_fd(), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { tty, watched })
    }

    /// Waits until there may be something to read, or the port is hung up.
    pub async fn readable(&self) -> io::Result<()> {
        self.watched.readable().await.map(drop)
    }

    /// Waits until there may be room to write, or the port is hung up.
    pub async fn writable(&self) -> io::Result<()> {
        self.watched.writable().await.map(drop)
    }

    /// Moves what is there into a pipe: see [`Tty::try_splice`].
    pub fn try_splice(&self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<ReadOutcome> {
        let read = self.watched.try_io(Interest::READABLE, |_| match self.tty.try_splice(pipe, most)? {
            ReadOutcome::Empty => Err(io::ErrorKind::WouldBlock.into()),
            outcome => Ok(outcome),
        });
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(ReadOutcome::Empty),
            read => read,
        }
    }

    /// To be told when everything that [`Tty::unread`] had counted has been read: [`Self::readable`] then waits for more, without a
    /// read that only finds nothing. What comes after the count is told anew, for each time the line discipline gets something it
    /// wakes who waits (`n_tty.c`), and epoll(7) looks at edges.
    pub fn emptied(&self) {
        let nothing: io::Result<()> =
            self.watched.try_io(Interest::READABLE, |_| Err(io::ErrorKind::WouldBlock.into()));
        debug_assert!(nothing.is_err());
    }

    /// Writes as much as there is room for.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<WriteOutcome> {
        let written = self.watched.try_io(Interest::WRITABLE, |_| match self.tty.try_write(bytes)? {
            WriteOutcome::Full => Err(io::ErrorKind::WouldBlock.into()),
            outcome => Ok(outcome),
        });
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(WriteOutcome::Full),
            written => written,
        }
    }
}
