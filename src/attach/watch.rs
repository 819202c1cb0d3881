//! A read-only session over the local socket, for a program that watches several ports. It sends nothing to the device.

use std::io;
use std::path::Path;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::client::{AttachError, REPLY_TIMEOUT, ask_async, unexpected};
use super::frame::{Frames, Kind};
use super::{Reply, Request};
use crate::port::PortName;
use crate::session::Options;

/// Bytes read at once.
const READ_CHUNK: usize = 32 * 1024;

/// What a port sends to a watcher.
#[derive(Debug, PartialEq, Eq)]
pub enum WatchEvent {
    Bytes(Vec<u8>),
    /// A notice: the device was unplugged, a user attached.
    Notice(String),
    /// The port closed the session, after a notice with the reason.
    Closed,
    /// An administrator disconnected the user, after a notice.
    Disconnected,
}

/// A read-only session at a port.
#[derive(Debug)]
pub struct Watched {
    port: PortName,
    stream: UnixStream,
    frames: Frames,
    buffer: Vec<u8>,
}

impl Watched {
    /// Attaches read-only. This starts an idle port.
    pub async fn attach(runtime_dir: &Path, port: &PortName) -> Result<Self, AttachError> {
        let options = Options { watch: true, ..Options::default() };
        let request = Request::Connect { terminal: false, options };
        let asked = tokio::time::timeout(REPLY_TIMEOUT, ask_async(runtime_dir, port, &request)).await;
        let stream = match asked.map_err(|_| AttachError::Silent(port.clone()))?? {
            (Reply::Connected, stream) => stream,
            (reply, _) => return Err(unexpected(port, reply)),
        };
        Ok(Self { port: port.clone(), stream, frames: Frames::default(), buffer: vec![0; READ_CHUNK] })
    }

    /// The next event. Cancel safe.
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
