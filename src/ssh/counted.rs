//! A client's socket with accounting: bytes received decide on evictions ([`super::admission`]), unauthenticated clients are read one at
//! a time ([`super::throttle`]), and each write starts a check that the client is still there ([`super::liveness`]).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::Socket;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::admission::Slot;

/// A client's socket.
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

/// Waits until the client has closed its end, even if input is left to read. Cancel safe.
pub(super) async fn peer_closed(plug: &Socket) -> io::Result<()> {
    // A duplicate, because the runtime can watch a descriptor only once.
    let stream = TcpStream::from_std(plug.try_clone()?.into())?;
    while !stream.ready(Interest::READABLE).await?.is_read_closed() {
        // Clears readiness, to wait for the next event, since the socket stays readable.
        let _ = stream.try_io(Interest::READABLE, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
    }
    Ok(())
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
