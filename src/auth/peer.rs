//! The network process at the other end of the login socket, as `console-auth` sees it: somebody who may be slow,
//! silent or taken over, and who gets a limited time.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::protocol::{Reply, Request};
use crate::system::message::{self, MessageError};

/// Time for one reply to leave. The peer reads nothing else meanwhile, so a full socket means that it hangs.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the conversation ends before the login does.
#[derive(Debug, Error)]
pub enum PeerError {
    /// It did not finish in time.
    #[error("the login took more than {} s", .0.as_secs())]
    TooSlow(Duration),
    /// It left, or said something that is no message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// It left while it was asked something.
    #[error("the client left before it answered")]
    Left,
    /// It said something else than this moment allows.
    #[error("out of turn: {0}")]
    OutOfTurn(&'static str),
}

/// The connection, with the moment at which patience ends.
pub struct Peer {
    stream: UnixStream,
    patience: Duration,
    deadline: Instant,
    /// When it last said something.
    heard: Instant,
}

impl Peer {
    /// The login on `stream` may take `patience` from now.
    pub fn new(stream: UnixStream, patience: Duration) -> Self {
        let now = Instant::now();
        Self { stream, patience, deadline: now + patience, heard: now }
    }

    /// The next request; `None` when the peer has closed.
    pub fn receive(&mut self) -> Result<Option<Request>, PeerError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(PeerError::TooSlow(self.patience));
        }
        self.stream.set_read_timeout(Some(left)).map_err(MessageError::from)?;
        let received = message::receive(&mut self.stream).map_err(|error| self.explain(error));
        self.heard = Instant::now();
        received
    }

    /// Lets time pass until so long has gone since it last said something.
    pub fn wait_since_heard(&self, time: Duration) {
        std::thread::sleep(time.saturating_sub(self.heard.elapsed()));
    }

    /// Sends one reply.
    pub fn send(&mut self, reply: &Reply) -> Result<(), PeerError> {
        self.stream.set_write_timeout(Some(SEND_TIMEOUT)).map_err(MessageError::from)?;
        message::send(&mut self.stream, reply).map_err(|error| self.explain(error))
    }

    /// The connection, when the login is over.
    pub fn into_stream(self) -> UnixStream {
        self.stream
    }

    fn explain(&self, error: MessageError) -> PeerError {
        match error {
            MessageError::Io(error) if error.kind() == io::ErrorKind::WouldBlock => {
                PeerError::TooSlow(self.patience)
            }
            error => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_left_at_the_deadline_and_not_before() {
        let (_silent, ours) = UnixStream::pair().unwrap();
        let patience = Duration::from_millis(100);
        let began = Instant::now();
        let mut peer = Peer::new(ours, patience);
        assert!(matches!(peer.receive(), Err(PeerError::TooSlow(_))));
        assert!(began.elapsed() >= patience);
        assert!(matches!(peer.receive(), Err(PeerError::TooSlow(_))), "and it stays over");
    }
}
