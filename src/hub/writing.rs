//! What the line writes, in steps with pauses between if the sender wants some.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::port::{LineSettings, Pacing};
use crate::serial::Tty;

/// How often an output queue that should be empty by now is looked at: the kernel notifies nobody of that. Twice as long
/// each time, because flow control may hold the line for hours.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// Bytes that are being written.
#[derive(Debug)]
pub(super) struct Writing {
    bytes: Vec<u8>,
    done: usize,
    pacing: Pacing,
    written: Option<oneshot::Sender<()>>,
}

impl Writing {
    /// Without pauses.
    pub(super) fn plain(bytes: Vec<u8>) -> Self {
        Self { bytes, done: 0, pacing: Pacing::default(), written: None }
    }

    /// With pauses; `written` is told as soon as the last byte is written.
    pub(super) fn paced(bytes: Vec<u8>, pacing: Pacing, written: oneshot::Sender<()>) -> Self {
        Self { bytes, done: 0, pacing, written: Some(written) }
    }

    pub(super) fn is_paced(&self) -> bool {
        self.pacing.is_on()
    }

    /// What can be written at once, and the pause that follows.
    pub(super) fn step(&self) -> (&[u8], Duration) {
        let rest = &self.bytes[self.done..];
        let (count, pause) = self.pacing.step(rest);
        (&rest[..count], pause)
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.done
    }

    /// This many bytes have been written. Returns whether that was the last of them.
    pub(super) fn advance(&mut self, count: usize) -> bool {
        self.done += count;
        let over = self.left() == 0;
        if over && let Some(written) = self.written.take() {
            // The sender may have given up.
            let _ = written.send(());
        }
        over
    }
}

/// The pause after what was written last.
#[derive(Debug, Default)]
pub(super) struct Gap {
    /// When to look next; `None` while nothing is waited for.
    due: Option<Instant>,
    pause: Duration,
    /// The queue was not empty at its time: by how much longer it is waited for.
    held: Option<Duration>,
}

impl Gap {
    /// Begins as `count` bytes have been handed to the driver. The pause counts from when they have left the line.
    pub(super) fn begin(&mut self, count: usize, pause: Duration, line: &LineSettings) {
        if pause.is_zero() {
            return;
        }
        self.pause = pause;
        self.held = None;
        self.due = Some(Instant::now() + pause + line.time_of(count));
    }

    /// When to look at it; `None` if nothing is to be waited for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Its time has come. If flow control has held the bytes back, the pause is still to come: otherwise a device that
    /// resumes would receive in one burst what has collected.
    pub(super) fn look(&mut self, tty: &Tty) {
        let now = Instant::now();
        self.due = match (tty.unsent(), self.held) {
            (0, None) => None,
            (0, Some(_)) => {
                self.held = None;
                Some(now + self.pause)
            }
            (_, held) => {
                let (least, most) = LOOK_AGAIN;
                let again = held.map_or(least, |held| (held * 2).min(most));
                self.held = Some(again);
                Some(now + again)
            }
        };
    }
}
