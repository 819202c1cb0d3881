//! A line that the runtime watches: each arrival of input wakes the process while a contact exists. Without one the kernel buffers
//! input.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use tokio::io::Interest;

use super::tty::{ReadOutcome, Tty};
use crate::system::reactor::Watched;

/// A line whose input can be moved into a pipe.
pub trait Splice: AsFd {
    /// See [`Tty::try_splice`].
    fn try_splice(&self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<ReadOutcome>;
}

impl Splice for Tty {
    fn try_splice(&self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<ReadOutcome> {
        Tty::try_splice(self, pipe, most)
    }
}

/// A line that the runtime watches. Only [`Self::readable`] waits.
#[derive(Debug)]
pub struct Contact<'line, L = Tty> {
    line: &'line L,
    watched: Watched<BorrowedFd<'line>>,
}

impl<'line, L: Splice> Contact<'line, L> {
    /// Registers the line with the runtime until the contact is dropped.
    pub fn new(line: &'line L) -> io::Result<Self> {
        let watched = Watched::new(line.as_fd(), Interest::READABLE)?;
        Ok(Self { line, watched })
    }

    /// Waits until there may be input, or the line is hung up.
    pub async fn readable(&self) -> io::Result<()> {
        self.watched.readable().await.map(drop)
    }

    /// Moves input into a pipe: see [`Tty::try_splice`].
    pub fn try_splice(&self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<ReadOutcome> {
        let read = self.watched.try_io(Interest::READABLE, |_| match self.line.try_splice(pipe, most)? {
            ReadOutcome::Empty => Err(io::ErrorKind::WouldBlock.into()),
            outcome => Ok(outcome),
        });
        match read {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(ReadOutcome::Empty),
            read => read,
        }
    }

    /// To be called when everything that [`Tty::unread`] had counted has been read: [`Self::readable`] then waits for more, without a
    /// read that finds nothing. Input that arrives after the count is reported again, since the line discipline wakes waiters each time that
    /// it receives something (`n_tty.c`), and epoll(7) is edge-triggered here.
    pub fn emptied(&self) {
        let nothing: io::Result<()> =
            self.watched.try_io(Interest::READABLE, |_| Err(io::ErrorKind::WouldBlock.into()));
        debug_assert!(nothing.is_err());
    }
}
