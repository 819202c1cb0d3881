//! A client's socket, of which we know what comes and goes: what has come decides who waits on ([`super::admission`]), strangers are read
//! one at a time ([`super::throttle`]), and what went out decides when a client is asked whether it is still there ([`super::liveness`]).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::Socket;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::admission::Slot;

/// A client's connection.
pub struct Counted {
    stream: TcpStream,
    /// Told of every write.
    written: Arc<Notify>,
    /// Told of what comes.
    slot: Arc<Slot>,
}

impl Counted {
    /// Tells `written` of every write to `stream`, and `place` of what has come.
    pub fn new(stream: TcpStream, written: Arc<Notify>, slot: Arc<Slot>) -> Self {
        Self { stream, written, slot }
    }

    fn tell(&self, done: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(done, Poll::Ready(Ok(1..))) {
            self.written.notify_one();
        }
        done
    }
}

/// Waits until the client has closed its end, whatever of it is still to be read. Cancel safe.
pub(super) async fn left(plug: &Socket) -> io::Result<()> {
    // The runtime watches a descriptor once, and the connection's own is watched already.
    let stream = TcpStream::from_std(plug.try_clone()?.into())?;
    while !stream.ready(Interest::READABLE).await?.is_read_closed() {
        // What is readable stays so; this asks to be told of the next change.
        let _ = stream.try_io(Interest::READABLE, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
    }
    Ok(())
}

impl AsyncRead for Counted {
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
        self.slot.hears(buf.filled().len() - before);
        if read.is_pending() {
            self.slot.turn().end();
        }
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.slot.turn().end();
        let done = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.tell(done)
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
        self.tell(done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
