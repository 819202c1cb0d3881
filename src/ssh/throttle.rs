//! A socket that is read only as fast as the session can use what it brings. russh grants SSH window by itself as soon as
//! it has read a packet, and blocking one of its callbacks would block the output of that client too; so the
//! brake sits below it: while too much waits for the line, this stream has nothing to read. It still notices when the
//! client has gone: someone who has left a stuck device must not stay its writer. And it counts what comes, which says who means
//! it ([`super::places`]).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::places::Place;
use crate::session::Feeder;

/// A client's connection with the brake of its session.
pub struct Throttled {
    stream: TcpStream,
    brake: Feeder,
    /// While the brake is on: done when the client has gone.
    leaving: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send>>>,
    /// Told of every write.
    written: Arc<Notify>,
    /// Told of what comes.
    place: Arc<Place>,
}

impl Throttled {
    /// Reads from `stream` only while `brake` is ready, and tells `written` of every write and `place` of what has come.
    pub fn new(stream: TcpStream, brake: Feeder, written: Arc<Notify>, place: Arc<Place>) -> Self {
        Self { stream, brake, leaving: None, written, place }
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
                let twin = SockRef::from(&self.stream).try_clone()?;
                none.insert(Box::pin(left(TcpStream::from_std(twin.into())?)))
            }
        };
        leaving.as_mut().poll(cx)
    }
}

/// Waits until the client has closed its end, whatever of it is still to be read.
async fn left(stream: TcpStream) -> io::Result<()> {
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
        if self.brake.poll_ready(cx).is_pending() {
            // Nothing read is how the end of a stream is told.
            return self.poll_left(cx);
        }
        self.leaving = None;
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.place.hears(buf.filled().len() - before);
        read
    }
}

impl AsyncWrite for Throttled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
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
