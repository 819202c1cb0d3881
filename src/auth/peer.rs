//! The network process at the other end of `console-auth`'s socket, which may be slow, silent or compromised, and gets limited time.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::protocol::{Reply, Request};
use crate::system::message::{self, MessageError};

/// Timeout of sending a reply. The peer waits for it, so a full socket means that it hangs.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a login ends early.
#[derive(Debug, Error)]
pub enum PeerError {
    #[error("the login took more than {} s", .0.as_secs())]
    TooSlow(Duration),
    #[error(transparent)]
    Message(#[from] MessageError),
    /// It disconnected during a question, or before it had the reply.
    #[error("the client disconnected before it was logged in")]
    Left,
    #[error("protocol error: {0}")]
    OutOfTurn(&'static str),
}

impl PeerError {
    /// Whether a client just went away or waited too long, as clients do all day: nothing of the server has failed.
    pub fn is_of_the_client(&self) -> bool {
        matches!(self, Self::Left | Self::TooSlow(_))
    }
}

/// The connection, with its deadline.
pub struct Peer {
    stream: UnixStream,
    timeout: Duration,
    deadline: Instant,
    last_message: Instant,
}

impl Peer {
    /// The login on `stream` may take `timeout` from now.
    pub fn new(stream: UnixStream, timeout: Duration) -> Self {
        let now = Instant::now();
        Self { stream, timeout, deadline: now + timeout, last_message: now }
    }

    /// The next request; `None` when the peer has closed.
    pub fn receive(&mut self) -> Result<Option<Request>, PeerError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(PeerError::TooSlow(self.timeout));
        }
        self.stream.set_read_timeout(Some(left)).map_err(MessageError::from)?;
        let received = message::receive(&mut self.stream).map_err(|error| self.explain(error));
        self.last_message = Instant::now();
        received
    }

    /// Waits until this much time has passed since the last message.
    pub fn wait_since_last_message(&self, time: Duration) {
        std::thread::sleep(time.saturating_sub(self.last_message.elapsed()));
    }

    pub fn send(&mut self, reply: &Reply) -> Result<(), PeerError> {
        self.stream.set_write_timeout(Some(SEND_TIMEOUT)).map_err(MessageError::from)?;
        message::send(&mut self.stream, reply).map_err(|error| self.explain(error))
    }

    /// The connection, after the login.
    pub fn into_stream(self) -> UnixStream {
        self.stream
    }

    fn explain(&self, error: MessageError) -> PeerError {
        match error {
            MessageError::Io(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                PeerError::Left
            }
            MessageError::Io(error) if error.kind() == io::ErrorKind::WouldBlock => {
                PeerError::TooSlow(self.timeout)
            }
            error => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_times_out_at_the_deadline() {
        let (_silent, ours) = UnixStream::pair().unwrap();
        let limit = Duration::from_millis(100);
        let began = Instant::now();
        let mut peer = Peer::new(ours, limit);
        assert!(matches!(peer.receive(), Err(PeerError::TooSlow(_))));
        assert!(began.elapsed() >= limit);
        assert!(matches!(peer.receive(), Err(PeerError::TooSlow(_))), "and again");
    }
}
