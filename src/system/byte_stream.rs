//! A byte stream that is read until the kernel has no more. tokio's own types take a short read for the last one, but a read of a TCP
//! socket ends at urgent data (tcp(7)), behind which there may be more.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use super::reactor::{Steady, Watched};

/// A non-blocking pty master or socket.
pub struct ByteStream<T: Steady>(Watched<T>);

impl<T: Steady> ByteStream<T> {
    /// For reading and writing.
    pub fn new(stream: T) -> io::Result<Self> {
        Ok(Self(Watched::new(stream, Interest::READABLE | Interest::WRITABLE)?))
    }

    /// For reading only: another descriptor is written to.
    pub fn reader(stream: T) -> io::Result<Self> {
        Ok(Self(Watched::new(stream, Interest::READABLE)?))
    }
}

impl<T: Steady + Unpin> AsyncRead for ByteStream<T>
where
    for<'t> &'t T: Read,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let space = into.initialize_unfilled();
            match ready.try_io(|stream| stream.get_ref().read(space)) {
                // EIO: the program has closed its end of a pty (tty_io.c).
                Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::EIO) => return Poll::Ready(Ok(())),
                Ok(read) => {
                    into.advance(read?);
                    return Poll::Ready(Ok(()));
                }
                Err(_would_block) => {}
            }
        }
    }
}

impl<T: Steady + Unpin> AsyncWrite for ByteStream<T>
where
    for<'t> &'t T: Write,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(written) = ready.try_io(|stream| stream.get_ref().write(bytes)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
