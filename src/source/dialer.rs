//! The port's connection to its `console-dial`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use thiserror::Error;

use super::connection::Connection;
use super::message::{FromDialer, FromPort, PacketError, Packets, Request};
use crate::port::Source;
use crate::system::lock::Lock;

/// Why there is no dialer. The Display is the sentence that the user reads.
#[derive(Debug, Error)]
pub enum DialerError {
    #[error(
        "console-source@{unit}.socket does not listen ({source}): `systemctl status console-source@{unit}.socket` reports why"
    )]
    NoSocket {
        unit: String,
        /// The error of connect(2).
        source: io::Error,
    },
    #[error(
        "console-source@{unit}.service failed ({why}): `journalctl -u console-source@{unit}` reports why"
    )]
    Failed { unit: String, why: String },
    /// It was started for another `source`.
    #[error(
        "console-source@{unit}.service connects to {target}, not to {wanted}: `systemctl daemon-reload` makes its new unit"
    )]
    OtherTarget { unit: String, target: String, wanted: String },
}

#[derive(Debug)]
pub enum DialerEvent {
    Connected(Connection),
    /// See [`FromDialer::Disconnected`].
    Disconnected {
        why: String,
        /// Whether the login was rejected.
        refused: bool,
    },
    Other(FromDialer),
}

/// The connection to the dialer of one port.
#[derive(Debug)]
pub struct Dialer {
    packets: Packets,
    unit: String,
    source: Source,
    requested: Mutex<Option<Request>>,
}

impl Dialer {
    /// Connects to the socket unit of this port, which starts the dialer.
    pub fn connect(socket: &Path, unit: &str, source: &Source) -> Result<Self, DialerError> {
        Self::try_connect(socket)
            .and_then(|packets| Self::adopt(packets, unit, source))
            .map_err(|source| DialerError::NoSocket { unit: unit.to_owned(), source })
    }

    fn try_connect(path: &Path) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(socket)
    }

    /// The connection that the previous process of this port has stored.
    pub fn adopt(socket: OwnedFd, unit: &str, source: &Source) -> io::Result<Self> {
        let packets = Packets::new(socket)?;
        Ok(Self { packets, unit: unit.to_owned(), source: source.clone(), requested: Mutex::default() })
    }

    /// Sends a request, unless it is equal to the previous one.
    pub fn request(&self, request: Request) -> Result<(), DialerError> {
        let mut requested = self.requested.locked();
        if requested.as_ref() == Some(&request) {
            return Ok(());
        }
        self.send(&FromPort::Request(request.clone())).map_err(|error| self.failed(error.to_string()))?;
        *requested = Some(Request { at_once: false, ..request });
        Ok(())
    }

    pub(super) fn send(&self, message: &FromPort) -> Result<(), PacketError> {
        self.packets.send(message, None)
    }

    /// Reports that the stream of a new connection is stored.
    pub fn stored(&self) -> Result<(), DialerError> {
        self.send(&FromPort::Stored).map_err(|error| self.failed(error.to_string()))
    }

    /// Waits for an event of the dialer. Cancel safe.
    pub async fn event(self: &Arc<Self>) -> Result<DialerEvent, DialerError> {
        loop {
            let received = self.packets.receive().await;
            if let Some(event) = self.understood(received)? {
                return Ok(event);
            }
        }
    }

    /// The reason for the end of the connection, if the dialer has reported it already. It does so before it
    /// closes the stream.
    pub fn reason(self: &Arc<Self>) -> Option<String> {
        while let Ok(Some((message, _))) = self.packets.try_receive::<FromDialer>() {
            if let FromDialer::Disconnected { why, .. } = message {
                return Some(why);
            }
        }
        None
    }

    fn understood(
        self: &Arc<Self>,
        received: Result<Option<(FromDialer, Option<OwnedFd>)>, PacketError>,
    ) -> Result<Option<DialerEvent>, DialerError> {
        match received {
            Ok(Some((FromDialer::Connected, Some(stream)))) => Connection::new(stream, self.clone())
                .map(|connection| Some(DialerEvent::Connected(connection)))
                .map_err(|error| self.failed(error.to_string())),
            Ok(Some((FromDialer::Connected, None))) => Err(self.failed("no stream came".to_owned())),
            Ok(Some((FromDialer::Disconnected { why, refused }, _))) => {
                Ok(Some(DialerEvent::Disconnected { why, refused }))
            }
            Ok(Some((FromDialer::Target(target), _))) if target == self.source.to_string() => Ok(None),
            Ok(Some((FromDialer::Target(target), _))) => Err(DialerError::OtherTarget {
                unit: self.unit.clone(),
                target,
                wanted: self.source.to_string(),
            }),
            Ok(Some((other, _))) => Ok(Some(DialerEvent::Other(other))),
            Ok(None) => Err(self.failed("it ended".to_owned())),
            Err(error) => Err(self.failed(error.to_string())),
        }
    }

    fn failed(&self, why: String) -> DialerError {
        DialerError::Failed { unit: self.unit.clone(), why }
    }

    /// The far end, if it does not support breaks.
    pub(super) fn target_without_break(&self) -> Option<String> {
        match self.source {
            Source::Telnet(_) | Source::Rfc2217(_) | Source::Unit => None,
            Source::Unix(_) | Source::Tcp(_) => Some(self.source.to_string()),
        }
    }

    /// The far end to which the dialer connects.
    pub fn source(&self) -> &Source {
        &self.source
    }
}

impl AsFd for Dialer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.packets.as_fd()
    }
}

/// Path of the socket of an instance's dialer, below the directory of sockets. It has its own directory, the
/// only one that is visible in the port's sandbox.
pub fn socket_path(runtime: &Path, unit: &str) -> PathBuf {
    runtime.join("source").join(unit).join("socket")
}
