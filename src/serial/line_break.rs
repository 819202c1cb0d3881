//! Break: the line held at space for longer than any character. The ioctls block while flow control holds output
//! back, so all waiting is done here, and a caller that stops waiting leaves no line in break.

use std::fs::File;
use std::io;
use std::time::Duration;

use nix::errno::Errno;
use thiserror::Error;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::ioctl;
use super::line::is_unsupported;

/// Output that has not moved for this long is held back by flow control.
pub const STUCK_AFTER: Duration = Duration::from_millis(500);

/// Time between two checks of the output queue: the kernel does not report that it is empty.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// Why a break was not sent, or did not end. Its Display is the sentence that the user reads.
#[derive(Debug, Error)]
pub enum BreakError {
    /// The driver does not support it: CH34x and some CDC-ACM devices (`EOPNOTSUPP`), adapters without a UART.
    #[error("no break was sent: the driver does not support it ({0})")]
    Unsupported(io::Error),
    #[error(
        "no break was sent: {0} carries plain bytes, in which there are no serial breaks; `break` of the port may be a text"
    )]
    NoBreak(String),
    /// A break that is a text, at a device that takes nothing.
    #[error("no break was sent: the device takes no input")]
    Stuck,
    #[error("no break was sent: {0}")]
    Write(io::Error),
    /// The driver supports it and failed: `EIO` or `ETIMEDOUT` of a USB control transfer.
    #[error("no break was sent: the driver failed ({0})")]
    Begin(io::Error),
    /// It began and did not end.
    #[error("the break did not end, the line may still be held in it: the driver failed ({0})")]
    End(io::Error),
    /// Output before it could be neither sent nor discarded.
    #[error("no break was sent: the output before it cannot be drained ({0})")]
    Drain(io::Error),
}

/// See [`super::Tty::send_break`].
pub(super) async fn send(
    tty: &File,
    length: Duration,
    begun: impl FnOnce(),
) -> (usize, Result<(), BreakError>) {
    let discarded = match drain(tty).await {
        Ok(discarded) => discarded,
        Err(error) => return (0, Err(BreakError::Drain(error))),
    };
    (discarded, hold(tty, length, begun).await)
}

/// The ioctls wait for the UART's own queue and for USB transfers, hence the threads. The first one returns the guard,
/// so that the break also ends if the caller stops waiting.
async fn hold(tty: &File, length: Duration, begun: impl FnOnce()) -> Result<(), BreakError> {
    let tty = tty.try_clone().map_err(BreakError::Begin)?;
    let held = spawn_blocking(|| Held::begin(tty)).await.map_err(|lost| BreakError::Begin(lost.into()))??;
    begun();
    sleep(length).await;
    spawn_blocking(|| held.end()).await.map_err(|lost| BreakError::End(lost.into()))?
}

/// Waits until all output is sent. Stuck output is discarded. Returns the number of discarded bytes. It ends, because the
/// queue (64 KiB at most, in the kernel) either shrinks or is stuck.
pub(super) async fn drain(tty: &File) -> io::Result<usize> {
    let mut unsent = ioctl::unsent(tty)?;
    let mut moved = Instant::now();
    while unsent > 0 {
        if moved.elapsed() >= STUCK_AFTER {
            ioctl::discard_output(tty)?;
            return Ok(unsent);
        }
        sleep(CHECK_INTERVAL).await;
        let now = ioctl::unsent(tty)?;
        if now < unsent {
            moved = Instant::now();
        }
        // Never increased: later input must not delay the break.
        unsent = now.min(unsent);
    }
    Ok(0)
}

/// A line in break, until this is dropped.
struct Held {
    tty: File,
    ended: bool,
}

impl Held {
    fn begin(tty: File) -> Result<Self, BreakError> {
        match ioctl::begin_break(&tty) {
            Ok(()) => Ok(Self { tty, ended: false }),
            Err(errno) if is_unsupported(errno) => Err(BreakError::Unsupported(errno.into())),
            Err(errno) => {
                // After a timeout the device may have begun it anyway. If this fails too, there is nothing to add.
                let _ = ioctl::end_break(&tty);
                Err(BreakError::Begin(errno.into()))
            }
        }
    }

    fn end(mut self) -> Result<(), BreakError> {
        self.ended = true;
        ioctl::end_break(&self.tty).map_err(|errno| BreakError::End(errno.into()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.ended
            && let Err(errno) = ioctl::end_break(&self.tty)
            && !matches!(errno, Errno::EIO | Errno::ENODEV | Errno::ENXIO)
        {
            // (If the device is gone, so is the break.)
            tracing::warn!("{}", BreakError::End(errno.into()));
        }
    }
}
