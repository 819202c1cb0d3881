//! The byte stream of a tty: tokio-serial's [`SerialStream`], on a duplicate of the descriptor. Opening, settings and locks stay the
//! [`Tty`]'s.
//!
//! All output goes through it. Input does not: its `AsyncRead` copies into this process, where a kill loses what was read and not yet
//! published (the reason is at the ring's pipe), and nothing but such a read clears the readiness that it keeps. The stream exists only while
//! the tty is read immediately: what is registered with the runtime is woken by each piece that the device sends.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, FromRawFd, IntoRawFd};

use serialport::TTYPort;
use tokio::io::AsyncWriteExt;
use tokio_serial::SerialStream;

use super::tty::{Tty, WriteOutcome, is_hang_up};

/// Output to a tty. It opens its stream with the first write.
#[derive(Debug)]
pub struct Output<'tty> {
    tty: &'tty Tty,
    stream: Option<SerialStream>,
}

impl<'tty> Output<'tty> {
    /// Without a stream.
    pub fn new(tty: &'tty Tty) -> Self {
        Self { tty, stream: None }
    }

    /// Waits for room, and writes as much as there is. Cancel safe.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<WriteOutcome> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none @ None => match stream(self.tty) {
                Ok(stream) => none.insert(stream),
                Err(error) if is_hang_up(&error) => return Ok(WriteOutcome::HungUp),
                Err(error) => return Err(error),
            },
        };
        match stream.write(bytes).await {
            Ok(length) => Ok(WriteOutcome::Wrote(length)),
            Err(error) if is_hang_up(&error) => Ok(WriteOutcome::HungUp),
            Err(error) => Err(error),
        }
    }

    /// Closes the stream until the next write.
    pub fn release(&mut self) {
        self.stream = None;
    }
}

fn stream(tty: &Tty) -> io::Result<SerialStream> {
    let copy = tty.as_fd().try_clone_to_owned()?;
    // SAFETY: the descriptor is open, and this copy of it has no other owner.
    let port = unsafe { TTYPort::from_raw_fd(copy.into_raw_fd()) };
    let stream = SerialStream::try_from(port)?;
    // The conversion has set both locks again. A pty must not have the one of them.
    tty.exempt_pty()?;
    Ok(stream)
}
