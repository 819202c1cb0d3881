//! The device's output on its way into the ring: how much is read in a row, which reader is waited for, and what is still read before a
//! tty is closed.

use std::io;
use std::sync::{Arc, MutexGuard};

use tokio::time::Instant;

use super::stream::{Contact, Stream};
use super::{Hub, State};
use crate::ring::READ_MAX;
use crate::serial::{ReadOutcome, Splice};
use crate::system::failpoint;

/// Reads in a row before the sessions run.
const BURST: usize = 8;

/// A read of this many bytes counts as a flood, and more may be read before another task runs: no line
/// delivers as many within a coalescing window (`WINDOW_BYTES`).
const FLOOD: usize = 2048;

/// Bytes that are read from a tty that is closed: what the kernel buffers, with a limit, since the device may continue to send.
const DRAIN_LIMIT: usize = 64 * 1024;

/// Reads the device into the ring of `hub`.
#[derive(Debug)]
pub(super) struct Intake {
    hub: Arc<Hub>,
}

/// Result of the reads in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadStatus {
    Nothing,
    /// All output that the kernel had.
    All,
    /// Not all output: there is more than one turn may read, or the hub must wait for a reader first.
    NotAll,
    HungUp,
}

struct Taken {
    outcome: ReadOutcome,
    /// Whether no more output is known to be waiting; another read might still return some.
    all: bool,
}

impl Intake {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// Waits for the slowest reader that is not stalled, then for the device. Cancel safe.
    pub(super) async fn room_then_readable(&self, contact: &Contact<'_>) -> io::Result<()> {
        loop {
            let moved = self.hub.room.notified();
            let Some(until) = self.must_wait() else { break };
            let _ = tokio::time::timeout_at(until, moved).await;
        }
        contact.readable().await
    }

    /// Reads the output of the device, and adds to `count` how many bytes that were, also before an error.
    pub(super) fn read(
        &self,
        tty: &Stream,
        contact: Option<&Contact<'_>>,
        count: &mut usize,
    ) -> io::Result<ReadStatus> {
        for _ in 0..BURST {
            if self.must_wait().is_some() {
                break;
            }
            match self.read_once(tty, contact)? {
                Taken { outcome: ReadOutcome::Bytes(more), all } => {
                    *count += more;
                    if all {
                        return Ok(ReadStatus::All);
                    }
                }
                Taken { outcome: ReadOutcome::Empty, .. } => {
                    return Ok(if *count == 0 { ReadStatus::Nothing } else { ReadStatus::All });
                }
                Taken { outcome: ReadOutcome::HungUp, .. } => return Ok(ReadStatus::HungUp),
            }
        }
        Ok(ReadStatus::NotAll)
    }

    /// Reads what the kernel holds and would discard with the tty. No reader is waited for: it is notified of how many bytes it missed, whereas
    /// unread output would be lost without a trace.
    pub(super) fn read_last_words(&self, tty: &Stream) {
        let mut left = DRAIN_LIMIT;
        while left > 0
            && let Ok(Taken { outcome: ReadOutcome::Bytes(count), .. }) = self.read_once(tty, None)
        {
            left = left.saturating_sub(count);
        }
    }

    fn read_once(&self, tty: &Stream, contact: Option<&Contact<'_>>) -> io::Result<Taken> {
        let state = self.hub.state();
        let Some(contact) = contact else {
            // One read returns all that waits; what comes after it is for the next window.
            let outcome = tty.try_splice(state.ring.intake(), READ_MAX)?;
            return self.publish(state, outcome, 0);
        };
        let unread = tty.unread();
        let outcome = contact.try_splice(state.ring.intake(), unread.clamp(1, READ_MAX))?;
        let taken = self.publish(state, outcome, unread)?;
        if let Taken { outcome: ReadOutcome::Bytes(count), all: true } = taken
            && count == unread
            // A stream socket may have been closed in between, which only the next read reports.
            && tty.tty().is_some()
        {
            contact.emptied();
        }
        Ok(taken)
    }

    /// Publishes what was spliced into the pipe. Fewer than `unread` bytes are not all that waited.
    fn publish(
        &self,
        mut state: MutexGuard<'_, State>,
        outcome: ReadOutcome,
        unread: usize,
    ) -> io::Result<Taken> {
        let ReadOutcome::Bytes(count) = outcome else { return Ok(Taken { outcome, all: true }) };
        failpoint::point("spliced");
        state.ring.take_in(count)?;
        failpoint::point("published");
        drop(state);
        self.hub.heard.send_replace(());
        Ok(Taken { outcome, all: count >= unread && count < FLOOD })
    }

    /// Until when the hub must wait for a reader before the next read.
    fn must_wait(&self) -> Option<Instant> {
        let mut state = self.hub.state();
        let next_head = state.ring.head() + READ_MAX as u64;
        let next_tail = next_head.saturating_sub(state.ring.window() as u64);
        state.cursors.wait_before_tail(next_tail, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use nix::pty::openpty;
    use nix::unistd::{ttyname, write};

    use super::*;
    use crate::port::LineSettings;
    use crate::ring::Ring;
    use crate::serial::Tty;

    #[tokio::test]
    async fn a_read_that_ends_where_the_ring_wraps_is_one() {
        let pty = openpty(None, None).unwrap();
        let path = ttyname(&pty.slave).unwrap();
        let tty = Stream::Tty(Tty::open(&path, &LineSettings::default(), false).unwrap().0);
        let (hub, _inbox) = Hub::new(Ring::create(2 * READ_MAX).unwrap());
        let intake = Intake::new(hub.clone());
        // The third read reaches the end of the ring with 1192 bytes.
        for (count, all) in [(3500, 3500), (3500, 7000), (3000, 10_000)] {
            write(&pty.master, &vec![b'x'; count]).unwrap();
            while tty.unread() < count {
                tokio::task::yield_now().await;
            }
            assert_eq!(intake.read(&tty, None, &mut 0).unwrap(), ReadStatus::All);
            assert_eq!((tty.unread(), hub.traffic().0), (0, all));
        }
    }
}
