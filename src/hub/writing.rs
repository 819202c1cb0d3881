//! What the line writes, in steps with pauses between if the sender wants some.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::port::{LineSettings, Pacing};

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
    pub(super) fn begin(&mut self, now: Instant, count: usize, pause: Duration, line: &LineSettings) {
        if pause.is_zero() {
            return;
        }
        self.pause = pause;
        self.held = None;
        self.due = Some(now + pause + line.time_of(count));
    }

    /// When to look at it; `None` if nothing is to be waited for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Its time has come, and so many bytes are still unsent. If flow control has held them back, the pause is still to
    /// come: otherwise a device that resumes would receive in one burst what has collected.
    pub(super) fn look(&mut self, now: Instant, unsent: usize) {
        self.due = match (unsent, self.held) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn after(gap: &Gap, begin: Instant) -> Option<u128> {
        Some((gap.due()? - begin).as_millis())
    }

    /// For TIOCOUTQ a pty's queue is always empty, so the tests with ptys never see one that is held.
    #[test]
    fn a_pause_begins_again_when_flow_control_has_held_its_character() {
        let mut gap = Gap::default();
        let line = LineSettings::default();
        let now = Instant::now();
        gap.begin(now, 1, Duration::ZERO, &line);
        assert_eq!(gap.due(), None, "nothing to wait for, and nothing that would wake the port");
        gap.begin(now, 48, Duration::from_secs(1), &line);
        assert_eq!(after(&gap, now), Some(1050), "48 characters at 9600 baud, and the pause");
        gap.look(now, 0);
        assert_eq!(gap.due(), None);

        gap.begin(now, 48, Duration::from_secs(1), &line);
        let mut looks = Vec::new();
        for _ in 0..7 {
            gap.look(now, 1);
            looks.push(after(&gap, now).unwrap());
        }
        assert_eq!(looks, [5, 10, 20, 40, 80, 100, 100]);
        gap.look(now, 0);
        assert_eq!(after(&gap, now), Some(1000), "it has only just been sent");
        gap.look(now, 0);
        assert_eq!(gap.due(), None);
    }

    #[test]
    fn a_sender_is_told_when_the_last_byte_is_written_and_only_then() {
        let pacing = Pacing { character: "1s".parse().unwrap(), ..Pacing::default() };
        let (written, mut told) = oneshot::channel();
        let mut writing = Writing::paced(b"\r\n".to_vec(), pacing, written);
        assert_eq!(writing.step(), (&b"\r"[..], Duration::from_secs(1)));
        assert!(!writing.advance(1) && told.try_recv().is_err());
        assert!(writing.advance(1));
        assert_eq!(told.try_recv(), Ok(()));
    }
}
