//! A socket that is read only as fast as the session can use what it brings. russh grants SSH window by itself as soon as
//! it has read a packet, and blocking one of its callbacks would block the output of that client too; so the
//! brake sits below it: while too much waits for the line, this stream has nothing to read. It still notices when the
//! client has gone: someone who has left a stuck device must not stay its writer. And it counts what comes, which says who means
//! it ([`super::places`]), and has strangers wait for their turn ([`super::pace`]).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::Socket;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::channels::Channels;
use super::places::Place;

/// A client's connection with the brake of its session.
pub struct Throttled {
    stream: TcpStream,
    /// The same socket.
    plug: Arc<Socket>,
    brake: Channels,
    /// While the brake is on: done when the client has gone.
    leaving: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>,
    /// Told of every write.
    written: Arc<Notify>,
    /// Told of what comes.
    place: Arc<Place>,
}

impl Throttled {
    /// Reads from `stream` only while `brake` is ready, and tells `written` of every write and `place` of what has come.
    pub fn new(
        stream: TcpStream,
        plug: Arc<Socket>,
        brake: Channels,
        written: Arc<Notify>,
        place: Arc<Place>,
    ) -> Self {
        Self { stream, plug, brake, leaving: None, written, place }
    }

    fn tell(&self, done: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(done, Poll::Ready(Ok(1..))) {
            self.written.notify_one();
        }
        done
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let leaving = match &mut self.leaving {
            Some(leaving) => leaving,
            none => {
                let plug = self.plug.clone();
                none.insert(Box::pin(async move { left(&plug).await }))
            }
        };
        leaving.as_mut().poll(cx)
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

impl AsyncRead for Throttled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.place.turn().end();
        if self.brake.poll_ready(cx).is_pending() {
            // Nothing read is how the end of a stream is told.
            return self.poll_left(cx);
        }
        self.leaving = None;
        ready!(self.stream.poll_read_ready(cx))?;
        ready!(self.place.poll_turn(cx));
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.place.hears(buf.filled().len() - before);
        if read.is_pending() {
            self.place.turn().end();
        }
        read
    }
}

impl AsyncWrite for Throttled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.place.turn().end();
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
