//! A client's socket with accounting: bytes received decide on evictions ([`super::admission`]), unauthenticated clients are read one at
//! a time ([`super::throttle`]), and each write starts a check that the client is still there ([`super::liveness`]).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::admission::Slot;
use super::hello::Socket;

pub struct ClientStream {
    stream: TcpStream,
    /// Notified of every write.
    written: Arc<Notify>,
    /// Counts bytes received.
    slot: Arc<Slot>,
}

impl ClientStream {
    /// Notifies `written` of every write, and counts bytes received in `slot`.
    pub fn new(stream: TcpStream, written: Arc<Notify>, slot: Arc<Slot>) -> Self {
        Self { stream, written, slot }
    }

    fn note_write(&self, done: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(done, Poll::Ready(Ok(1..))) {
            self.written.notify_one();
        }
        done
    }
}

impl Socket for ClientStream {
    fn has_unread(&self) -> bool {
        rustix::io::ioctl_fionread(&self.stream).is_ok_and(|count| count > 0)
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.slot.turn().end();
        ready!(self.stream.poll_read_ready(cx))?;
        ready!(self.slot.poll_turn(cx));
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.slot.received(buf.filled().len() - before);
        if read.is_pending() {
            self.slot.turn().end();
        }
        read
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.slot.turn().end();
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(done)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
