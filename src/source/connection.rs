//! The stream of console bytes between `console-port` and `console-dial`. It is read like a tty: spliced into
//! the pipe in front of the ring, so that a kill loses no byte.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use rustix::net::sockopt::socket_type;
use rustix::net::{AddressFamily, SocketType, getsockname};
use tokio::time::{Instant, sleep};

use super::dialer::Dialer;
use super::message::{FromPort, PacketError, RemoteModem};
use crate::serial::{BreakError, ReadOutcome, STUCK_AFTER, WriteOutcome};
use crate::system::lock::Lock;

/// Interval at which it is checked whether the dialer has read everything: the kernel does not notify of it.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// An open stream, and the dialer at its other end.
#[derive(Debug)]
pub struct Connection {
    stream: File,
    dialer: Arc<Dialer>,
    modem: Mutex<Option<RemoteModem>>,
}

impl Connection {
    /// The stream of [`super::FromDialer::Connected`], or the one that the previous process of this port has
    /// stored.
    pub fn new(stream: OwnedFd, dialer: Arc<Dialer>) -> io::Result<Self> {
        let is_unix = getsockname(&stream)?.address_family() == AddressFamily::UNIX;
        if !is_unix || socket_type(&stream)? != SocketType::STREAM {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a unix stream socket"));
        }
        rustix::io::ioctl_fionbio(&stream, true)?;
        Ok(Self { stream: stream.into(), dialer, modem: Mutex::default() })
    }

    pub fn dialer(&self) -> &Arc<Dialer> {
        &self.dialer
    }

    /// Number of bytes that can be read.
    pub fn unread(&self) -> usize {
        rustix::io::ioctl_fionread(&self.stream).map_or(0, |count| count as usize)
    }

    /// Not 0 until the dialer has read everything that was written. The kernel counts memory here, not bytes
    /// (`unix_outq_len()`).
    pub fn unsent(&self) -> usize {
        crate::serial::unsent(&self.stream).unwrap_or(0)
    }

    /// Moves at most `most` bytes into a pipe that has room for them. The kernel moves its buffers from the
    /// socket into the pipe within the call, so a kill loses none (`unix_stream_splice_read()`).
    pub fn try_splice(&self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<ReadOutcome> {
        match splice(&self.stream, None, pipe, None, most, SpliceFFlags::SPLICE_F_NONBLOCK) {
            Ok(0) | Err(Errno::ECONNRESET) => Ok(ReadOutcome::HungUp),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(ReadOutcome::Empty),
            Ok(count) => Ok(ReadOutcome::Bytes(count)),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes as much as fits; if nothing fits, the error is `WouldBlock`.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<WriteOutcome> {
        match (&self.stream).write(bytes) {
            Ok(length) => Ok(WriteOutcome::Wrote(length)),
            Err(error) => match error.kind() {
                // The last output of the far end must still be read: the read reports the end.
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Ok(WriteOutcome::HungUp),
                io::ErrorKind::Interrupted => Err(io::ErrorKind::WouldBlock.into()),
                _ => Err(error),
            },
        }
    }

    /// Sends a break after the preceding output, if the far end supports breaks. `begun` is called when the
    /// request was sent to the dialer.
    pub async fn send_break(&self, length: Duration, begun: impl FnOnce()) -> Result<(), BreakError> {
        if let Some(target) = self.dialer.target_without_break() {
            return Err(BreakError::NoBreak(target));
        }
        // If the far end accepts nothing, the dialer does not read: the break is requested anyway.
        self.drained(STUCK_AFTER).await;
        let milliseconds = u32::try_from(length.as_millis()).unwrap_or(u32::MAX);
        self.dialer
            .send(&FromPort::Break { milliseconds })
            .map_err(|error| BreakError::Begin(io::Error::other(error)))?;
        begun();
        // Otherwise it has no length: a program gets a text, and the far end determines the length of a
        // telnet break.
        if self.dialer.source().has_line() {
            sleep(length).await;
        }
        Ok(())
    }

    /// Waits until the dialer has read what was written.
    pub async fn drain(&self) {
        self.drained(STUCK_AFTER).await;
    }

    async fn drained(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while self.unsent() > 0 && Instant::now() < deadline {
            sleep(CHECK_INTERVAL).await;
        }
    }

    /// The modem lines that the far end has reported last.
    pub fn modem(&self) -> Option<RemoteModem> {
        *self.modem.locked()
    }

    /// Stores the modem lines that the far end has reported.
    pub fn set_modem(&self, modem: RemoteModem) {
        *self.modem.locked() = Some(modem);
    }

    /// Sets DTR or else RTS at the far end. From then on it is shown as set, until the far end reports something else.
    pub fn set_modem_line(&self, dtr: bool, on: bool) -> Result<(), PacketError> {
        self.dialer.send(&FromPort::Modem { dtr, on })?;
        if let Some(modem) = &mut *self.modem.locked() {
            *(if dtr { &mut modem.dtr } else { &mut modem.rts }) = Some(on);
        }
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
