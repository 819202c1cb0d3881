//! A read-only session at a port over its local socket, for a program that watches several: no byte of it is sent to the device.

use std::io;
use std::path::Path;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::client::{AttachError, REPLY_TIMEOUT, unexpected, unreachable};
use super::frame::{Frames, Kind};
use super::{Reply, Request, socket_path};
use crate::port::PortName;
use crate::session::Options;
use crate::system::message::{receive_async, send_async};

/// Bytes that are read at once.
const READ_CHUNK: usize = 32 * 1024;

/// What a port sends.
#[derive(Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// Bytes of the device.
    Bytes(Vec<u8>),
    /// Words of the port's: its device has gone, somebody has attached.
    Notice(String),
    /// The port has ended the session, and has said why.
    Closed,
    /// An administrator has ended the session, as the port has said.
    Disconnected,
}

/// A port that is watched.
#[derive(Debug)]
pub struct Watched {
    port: PortName,
    stream: UnixStream,
    frames: Frames,
    buffer: Vec<u8>,
}

impl Watched {
    /// Attaches read-only. A port that does not run is started by that.
    pub async fn attach(runtime_dir: &Path, port: &PortName) -> Result<Self, AttachError> {
        let path = socket_path(runtime_dir, port);
        let asked = async {
            let mut stream = match UnixStream::connect(&path).await {
                // The queue of a port that accepts nothing is full.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(AttachError::Silent(port.clone()));
                }
                stream => stream.map_err(|source| unreachable(port, &path, source))?,
            };
            let failed = |error| AttachError::Message(port.clone(), error);
            let options = Options { watch: true, ..Options::default() };
            let sent = send_async(&mut stream, &Request::Connect { terminal: false, options }).await;
            let reply = receive_async(&mut stream).await;
            // A client whose turn has not come is answered before it asks.
            if !matches!(reply, Ok(Some(_))) {
                sent.map_err(failed)?;
            }
            match reply.map_err(failed)? {
                Some(Reply::Connected) => Ok(stream),
                Some(reply) => Err(unexpected(port, reply)),
                None => Err(AttachError::Broken(port.clone())),
            }
        };
        let stream = tokio::time::timeout(REPLY_TIMEOUT, asked).await;
        let stream = stream.map_err(|_| AttachError::Silent(port.clone()))??;
        Ok(Self { port: port.clone(), stream, frames: Frames::default(), buffer: vec![0; READ_CHUNK] })
    }

    /// What comes next. Cancel safe.
    pub async fn next(&mut self) -> Result<WatchEvent, AttachError> {
        loop {
            match self.frames.next_frame()? {
                Some((Kind::Output, bytes)) => return Ok(WatchEvent::Bytes(bytes)),
                Some((Kind::Notice, bytes)) => {
                    return Ok(WatchEvent::Notice(String::from_utf8_lossy(&bytes).trim_end().to_owned()));
                }
                Some((Kind::Disconnected, _)) => return Ok(WatchEvent::Disconnected),
                Some(_) => return Ok(WatchEvent::Closed),
                None => {}
            }
            match self.stream.read(&mut self.buffer).await {
                Ok(0) => return Err(AttachError::Broken(self.port.clone())),
                Ok(count) => self.frames.receive(&self.buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(AttachError::Broken(self.port.clone()));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
