//! The messages between `console-port` and `console-dial`: one JSON value per packet, one of them with a
//! descriptor.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::Interest;

use crate::port::LineSettings;
use crate::system::reactor::Watched;

/// Limit of bytes of a packet; the longest contains the reason of a failure with a host name.
const MAX_PACKET_BYTES: usize = 4096;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromPort {
    /// The requested state of the connection. Sent first, and again by each new process of the port.
    Request(Request),
    /// The stream of [`FromDialer::Connected`] is in the FD store: bytes may be sent.
    Stored,
    Break {
        /// Its length, if the far end supports one.
        milliseconds: u32,
    },
    /// Set a modem control line.
    Modem {
        /// DTR if true, otherwise RTS.
        dtr: bool,
        on: bool,
    },
}

/// The requested state of the connection.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Request {
    /// Connect, and reconnect; otherwise disconnect.
    pub connect: bool,
    /// Connect immediately: without the back-off delay, and also after a rejected login.
    pub at_once: bool,
    /// Settings of the remote line (RFC 2217).
    pub line: Option<RemoteLine>,
    /// DTR of the remote line; `None` to leave it unchanged.
    pub dtr: Option<bool>,
    /// RTS, likewise.
    pub rts: Option<bool>,
    /// Set `line` also if it is the same as before, and report by [`FromDialer::Line`] with this number what the far end has set.
    #[serde(default)]
    pub report: Option<u32>,
}

/// Line settings of the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteLine {
    pub baud: u32,
    pub bytesize: u8,
    /// N, E, O, M or S.
    pub parity: char,
    pub stopbits: u8,
    pub rtscts: bool,
    pub xonxoff: bool,
}

impl From<&LineSettings> for RemoteLine {
    fn from(settings: &LineSettings) -> Self {
        Self {
            baud: settings.baud.get(),
            bytesize: settings.bytesize.bits(),
            parity: settings.parity.letter(),
            stopbits: settings.stopbits.count(),
            rtscts: settings.rtscts,
            xonxoff: settings.xonxoff,
        }
    }
}

impl RemoteLine {
    /// As settings of a port; `None` if a value is not valid.
    pub fn settings(&self) -> Option<LineSettings> {
        Some(LineSettings {
            baud: u64::from(self.baud).try_into().ok()?,
            bytesize: u64::from(self.bytesize).try_into().ok()?,
            parity: self.parity.to_string().parse().ok()?,
            stopbits: u64::from(self.stopbits).try_into().ok()?,
            rtscts: self.rtscts,
            xonxoff: self.xonxoff,
        })
    }
}

/// Modem lines of the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RemoteModem {
    pub cts: bool,
    pub dsr: bool,
    pub ri: bool,
    pub dcd: bool,
    /// Data Terminal Ready, as the far end has reported it.
    #[serde(default)]
    pub dtr: Option<bool>,
    /// Request To Send, likewise.
    #[serde(default)]
    pub rts: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum FromDialer {
    /// The far end. Sent first, and again after each [`Request`].
    Target(String),
    /// Connected. The packet carries the stream.
    Connected,
    /// The connection has ended, or could not be established.
    Disconnected {
        why: String,
        /// The far end has rejected the login: not retried until the port requests it.
        refused: bool,
    },
    /// A sentence about a request that the far end has not followed.
    Remark(String),
    /// Modem lines of the far end.
    Modem(RemoteModem),
    /// How the far end has set its line, or that it cannot be set. Sent only if [`Request::report`] asks for it: an earlier version
    /// of console-port does not know it.
    Line {
        report: u32,
        /// `None`: the far end refuses the COM port option.
        line: Option<RemoteLine>,
    },
}

/// Why a packet could not be sent or understood.
#[derive(Debug, Error)]
pub enum PacketError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("a message that this protocol does not have: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("a message of more than {MAX_PACKET_BYTES} bytes")]
    TooLong,
}

/// One end of a `SOCK_SEQPACKET` connection, registered with the runtime. Only [`Self::receive`] waits.
#[derive(Debug)]
pub struct Packets(Watched<OwnedFd>);

impl Packets {
    /// Takes a connected socket and makes it non-blocking.
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        Ok(Self(Watched::new(socket, Interest::READABLE)?))
    }

    /// Sends a message, with or without a descriptor. A full queue is an error, because the peer does not
    /// read.
    pub fn send<T: Serialize>(
        &self,
        message: &T,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), PacketError> {
        let packet = serde_json::to_vec(message)?;
        if packet.len() > MAX_PACKET_BYTES {
            return Err(PacketError::TooLong);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.map(|descriptor| [descriptor]);
        if let Some(descriptors) = &descriptors
            && !control.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&*self.0, &[IoSlice::new(&packet)], &mut control, flags).map_err(io::Error::from)?;
        Ok(())
    }

    /// Receives a message and its descriptor; `None` once the peer has closed. Cancel safe.
    pub async fn receive<T: DeserializeOwned>(&self) -> Result<Option<(T, Option<OwnedFd>)>, PacketError> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(received) = ready.try_io(|socket| receive(socket.get_ref())) {
                return parse(received?);
            }
        }
    }

    /// [`Self::receive`] without waiting.
    pub fn try_receive<T: DeserializeOwned>(&self) -> Result<Option<(T, Option<OwnedFd>)>, PacketError> {
        match receive(self.0.get_ref()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            received => parse(received?),
        }
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

/// A received packet; `None` at the end of the connection.
type Received = Option<(Vec<u8>, Option<OwnedFd>)>;

fn receive(socket: &OwnedFd) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut packet = vec![0; MAX_PACKET_BYTES];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut packet)], &mut control, flags)?;
    let mut descriptors = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let descriptor = descriptors.next().and_then(|mut descriptors| descriptors.next());
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, PacketError::TooLong));
    }
    packet.truncate(received.bytes);
    // No message of this protocol is empty.
    Ok((received.bytes > 0).then_some((packet, descriptor)))
}

fn parse<T: DeserializeOwned>(received: Received) -> Result<Option<(T, Option<OwnedFd>)>, PacketError> {
    let Some((packet, descriptor)) = received else { return Ok(None) };
    Ok(Some((serde_json::from_slice(&packet)?, descriptor)))
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[tokio::test]
    async fn messages_and_descriptors_arrive_whole_and_the_end_is_seen() {
        let (near, far) = pair();
        let (near, far) = (Packets::new(near).unwrap(), Packets::new(far).unwrap());
        let (kept, sent) = std::os::unix::net::UnixStream::pair().unwrap();
        near.send(&FromDialer::Target("unit".to_owned()), None).unwrap();
        near.send(&FromDialer::Connected, Some(sent.as_fd())).unwrap();
        drop((near, sent));
        let (first, none) = far.receive::<FromDialer>().await.unwrap().unwrap();
        assert_eq!((first, none.is_none()), (FromDialer::Target("unit".to_owned()), true));
        let (second, stream) = far.receive::<FromDialer>().await.unwrap().unwrap();
        assert_eq!(second, FromDialer::Connected);
        use std::io::{Read, Write};
        std::os::unix::net::UnixStream::from(stream.unwrap()).write_all(b"x").unwrap();
        let mut heard = String::new();
        (&kept).read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "x");
        assert!(far.receive::<FromDialer>().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn garbage_and_packets_that_are_too_long_are_errors() {
        let (near, far) = pair();
        let far = Packets::new(far).unwrap();
        rustix::io::write(&near, b"{}").unwrap();
        assert!(matches!(far.receive::<FromPort>().await, Err(PacketError::Malformed(_))));
        rustix::io::write(&near, &[b' '; MAX_PACKET_BYTES + 1]).unwrap();
        assert!(matches!(far.receive::<FromPort>().await, Err(PacketError::Io(_))));
    }
}
