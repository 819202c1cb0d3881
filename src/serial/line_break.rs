//! Break: the line held at space for longer than any character. The ioctls block where flow control holds output
//! back, so all waiting is done here, and whoever stops waiting leaves no line in break.

use std::fs::File;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::ioctl;

/// Output that has not moved for so long is held back by flow control.
pub const STUCK_AFTER: Duration = Duration::from_millis(500);

/// How often the queue is looked at: the kernel tells nobody when it is empty.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// See [`super::Tty::send_break`].
pub(super) async fn send(tty: &File, length: Duration) -> io::Result<usize> {
    let discarded = drain(tty).await?;
    let tty = tty.try_clone()?;
    // The ioctl waits for the UART's own queue, hence the thread. The guard comes back through it, so that the break
    // also ends if nobody waits for it any more.
    let held = tokio::task::spawn_blocking(|| Held::begin(tty)).await??;
    sleep(length).await;
    held.end()?;
    Ok(discarded)
}

/// Waits until output is sent. What is stuck is thrown away: returns how many bytes that were. Ends, because the
/// queue (64 KiB at most, in the kernel) either shrinks or is stuck.
pub(super) async fn drain(tty: &File) -> io::Result<usize> {
    let mut unsent = ioctl::unsent(tty)?;
    let mut moved = Instant::now();
    while unsent > 0 {
        if moved.elapsed() >= STUCK_AFTER {
            ioctl::discard_output(tty)?;
            return Ok(unsent);
        }
        sleep(LOOK_EVERY).await;
        let now = ioctl::unsent(tty)?;
        if now < unsent {
            moved = Instant::now();
        }
        // Never up again: what is typed meanwhile must not keep the break waiting.
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
    fn begin(tty: File) -> io::Result<Self> {
        ioctl::begin_break(&tty)?;
        Ok(Self { tty, ended: false })
    }

    fn end(mut self) -> io::Result<()> {
        self.ended = true;
        Ok(ioctl::end_break(&self.tty)?)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.ended {
            // The only failure there is: the device has gone, and the break with it.
            let _ = ioctl::end_break(&self.tty);
        }
    }
}
