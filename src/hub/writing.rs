//! Output of the line, in steps with pauses in between if the sender requests them.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::port::{LineSettings, Pacing};

/// Between two checks of an output queue that should be empty: the kernel does not report that. Twice as long
/// each time, because flow control may hold the line for hours.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

#[derive(Debug)]
pub(super) struct Writing {
    bytes: Vec<u8>,
    done: usize,
    pacing: Pacing,
    written: Option<oneshot::Sender<()>>,
    is_secret: bool,
}

impl Writing {
    pub(super) fn plain(bytes: Vec<u8>) -> Self {
        Self { bytes, done: 0, pacing: Pacing::default(), written: None, is_secret: false }
    }

    /// With pauses; `written` receives when the last byte is written. Secret bytes are not logged.
    pub(super) fn paced(
        bytes: Vec<u8>,
        pacing: Pacing,
        written: oneshot::Sender<()>,
        is_secret: bool,
    ) -> Self {
        Self { bytes, done: 0, pacing, written: Some(written), is_secret }
    }

    pub(super) fn is_secret(&self) -> bool {
        self.is_secret
    }

    pub(super) fn is_paced(&self) -> bool {
        self.pacing.is_on()
    }

    /// What can be written now, and the pause that follows.
    pub(super) fn step(&self) -> (&[u8], Duration) {
        let rest = &self.bytes[self.done..];
        let (count, pause) = self.pacing.step(rest);
        (&rest[..count], pause)
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.done
    }

    /// Counts written bytes. Returns whether these were the last.
    pub(super) fn advance(&mut self, count: usize) -> bool {
        self.done += count;
        let over = self.left() == 0;
        if over && let Some(written) = self.written.take() {
            // The sender may have disconnected.
            let _ = written.send(());
        }
        over
    }
}

/// The pause after the last write.
#[derive(Debug, Default)]
pub(super) struct Gap {
    /// When to check next; `None` if there is no pause.
    due: Option<Instant>,
    pause: Duration,
    /// The queue was not empty in time: the interval until the next check.
    held: Option<Duration>,
}

impl Gap {
    /// Begins when `count` bytes have been given to the driver. The pause counts from when they have left the line.
    pub(super) fn begin(&mut self, now: Instant, count: usize, pause: Duration, line: &LineSettings) {
        if pause.is_zero() {
            return;
        }
        self.pause = pause;
        self.held = None;
        self.due = Some(now + pause + line.time_of(count));
    }

    /// When to check; `None` if there is no pause.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The pause is over, and this many bytes are still unsent. If flow control has held them back, the pause is still to
    /// come: otherwise a device that resumes would receive the collected bytes in one burst.
    pub(super) fn update_unsent(&mut self, now: Instant, unsent: usize) {
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
    fn a_pause_restarts_after_flow_control_held_the_character() {
        let mut gap = Gap::default();
        let line = LineSettings::default();
        let now = Instant::now();
        gap.begin(now, 1, Duration::ZERO, &line);
        assert_eq!(gap.due(), None, "nothing to wait for, and nothing that would wake the port");
        gap.begin(now, 48, Duration::from_secs(1), &line);
        assert_eq!(after(&gap, now), Some(1050), "48 characters at 9600 baud, and the pause");
        gap.update_unsent(now, 0);
        assert_eq!(gap.due(), None);

        gap.begin(now, 48, Duration::from_secs(1), &line);
        let mut looks = Vec::new();
        for _ in 0..7 {
            gap.update_unsent(now, 1);
            looks.push(after(&gap, now).unwrap());
        }
        assert_eq!(looks, [5, 10, 20, 40, 80, 100, 100]);
        gap.update_unsent(now, 0);
        assert_eq!(after(&gap, now), Some(1000), "it has only just been sent");
        gap.update_unsent(now, 0);
        assert_eq!(gap.due(), None);
    }

    #[test]
    fn a_sender_is_notified_when_the_last_byte_is_written() {
        let pacing = Pacing { character: "1s".parse().unwrap(), ..Pacing::default() };
        let (written, mut told) = oneshot::channel();
        let mut writing = Writing::paced(b"\r\n".to_vec(), pacing, written, false);
        assert_eq!(writing.step(), (&b"\r"[..], Duration::from_secs(1)));
        assert!(!writing.advance(1) && told.try_recv().is_err());
        assert!(writing.advance(1));
        assert_eq!(told.try_recv(), Ok(()));
    }
}
