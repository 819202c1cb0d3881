//! The byte stream of a line: a tty, or the stream of a source.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;

use crate::port::{LineSettings, ModemLevels};
use crate::serial::{
    self, BreakError, Counters, ModemLine, ModemLines, ReadOutcome, RejectedSetting, Splice, Tty,
    WriteOutcome,
};
use crate::source::{Connection, STREAM_STORED_AS};
use crate::system::reactor::Watched;
use crate::system::systemd;

#[derive(Debug)]
pub(super) enum Stream {
    Tty(Tty),
    /// The stream of a far end that `console-dial` has connected.
    Source(Connection),
}

impl Stream {
    pub(super) fn tty(&self) -> Option<&Tty> {
        match self {
            Self::Tty(tty) => Some(tty),
            Self::Source(_) => None,
        }
    }

    pub(super) fn source(&self) -> Option<&Connection> {
        match self {
            Self::Tty(_) => None,
            Self::Source(connection) => Some(connection),
        }
    }

    pub(super) fn unread(&self) -> usize {
        match self {
            Self::Tty(tty) => tty.unread(),
            Self::Source(connection) => connection.unread(),
        }
    }

    pub(super) fn unsent(&self) -> usize {
        match self {
            Self::Tty(tty) => tty.unsent(),
            Self::Source(connection) => connection.unsent(),
        }
    }

    /// See [`Tty::send_break`].
    pub(super) async fn send_break(
        &self,
        length: Duration,
        begun: impl FnOnce(),
    ) -> (usize, Result<(), BreakError>) {
        match self {
            Self::Tty(tty) => tty.send_break(length, begun).await,
            Self::Source(connection) => (0, connection.send_break(length, begun).await),
        }
    }

    /// See [`Tty::drain`].
    pub(super) async fn drain(&self) -> io::Result<usize> {
        match self {
            Self::Tty(tty) => tty.drain().await,
            Self::Source(connection) => {
                connection.drain().await;
                Ok(0)
            }
        }
    }

    pub(super) fn discard_output(&self) {
        if let Self::Tty(tty) = self {
            let _ = tty.discard_output();
        }
    }

    /// Closes it here and in the FD store.
    pub(super) fn close(self) {
        match self {
            Self::Tty(tty) => {
                tty.close();
                systemd::forget("tty");
            }
            Self::Source(connection) => {
                drop(connection);
                systemd::forget(STREAM_STORED_AS);
            }
        }
    }

    pub(super) fn counters(&self) -> Option<Counters> {
        self.tty().and_then(Tty::counters)
    }

    /// The modem lines; `None` if there are none. DTR and RTS of a far end that does not report them are on.
    pub(super) fn modem_lines(&self) -> io::Result<Option<ModemLines>> {
        match self {
            Self::Tty(tty) => tty.modem_lines(),
            Self::Source(connection) => Ok(connection.modem().map(|modem| ModemLines {
                dtr: modem.dtr.unwrap_or(true),
                rts: modem.rts.unwrap_or(true),
                cts: modem.cts,
                dsr: modem.dsr,
                dcd: modem.dcd,
                ri: modem.ri,
            })),
        }
    }

    /// Sets a modem line; without any, the error is `ENOTTY`.
    pub(super) fn set_modem_line(&self, line: ModemLine, on: bool) -> io::Result<()> {
        match self {
            Self::Tty(tty) => tty.set_modem_line(line, on),
            Self::Source(connection) if connection.dialer().source().has_line() => {
                connection.set_modem_line(line == ModemLine::Dtr, on).map_err(io::Error::other)
            }
            Self::Source(_) => Err(io::Error::from_raw_os_error(nix::libc::ENOTTY)),
        }
    }

    pub(super) fn set_modem_levels(&self, levels: ModemLevels, rtscts: bool) -> Vec<RejectedSetting> {
        self.tty().map(|tty| tty.set_modem_levels(levels, rtscts)).unwrap_or_default()
    }

    pub(super) fn set_low_latency(&self, wanted: bool, asked: bool) -> Vec<RejectedSetting> {
        self.tty().map(|tty| tty.set_low_latency(wanted, asked).into_iter().collect()).unwrap_or_default()
    }

    /// Applies line settings. Those of a source are part of the request to its dialer.
    pub(super) fn apply(&self, line: &LineSettings) -> io::Result<Vec<RejectedSetting>> {
        match self {
            Self::Tty(tty) => tty.apply(line),
            Self::Source(_) => Ok(Vec::new()),
        }
    }

    pub(super) fn is_the_device_itself(&self) -> bool {
        self.tty().is_some_and(Tty::is_the_device_itself)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tty(tty) => tty.as_fd(),
            Self::Source(connection) => connection.as_fd(),
        }
    }
}

impl Splice for Stream {
    fn try_splice(&self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<ReadOutcome> {
        match self {
            Self::Tty(tty) => tty.try_splice(pipe, most),
            Self::Source(connection) => connection.try_splice(pipe, most),
        }
    }
}

/// A line that the runtime watches: each arrival of input wakes the process.
pub(super) type Contact<'stream> = serial::Contact<'stream, Stream>;

/// Output to a line. It is registered with the runtime from the first write on.
#[derive(Debug)]
pub(super) enum Output<'stream> {
    Tty(serial::Output<'stream>),
    /// With a duplicate of the descriptor: epoll(7) takes each one once, and input has the other.
    Source(&'stream Connection, Option<Watched<OwnedFd>>),
}

impl<'stream> Output<'stream> {
    pub(super) fn new(stream: &'stream Stream) -> Self {
        match stream {
            Stream::Tty(tty) => Self::Tty(serial::Output::new(tty)),
            Stream::Source(connection) => Self::Source(connection, None),
        }
    }

    /// Waits for room, and writes as much as there is. Cancel safe.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<WriteOutcome> {
        let (connection, watched) = match self {
            Self::Tty(output) => return output.write(bytes).await,
            Self::Source(connection, watched) => (connection, watched),
        };
        let watched = match watched {
            Some(watched) => watched,
            none @ None => {
                let copy = connection.as_fd().try_clone_to_owned()?;
                none.insert(Watched::new(copy, Interest::WRITABLE)?)
            }
        };
        watched.async_io(Interest::WRITABLE, |_| connection.try_write(bytes)).await
    }

    /// Ends the registration until the next write.
    pub(super) fn release(&mut self) {
        match self {
            Self::Tty(output) => output.release(),
            Self::Source(_, watched) => *watched = None,
        }
    }
}
