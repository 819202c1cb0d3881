//! Which readers the hub waits for, and how long. Before the ring would overrun a reader, the hub waits a bounded time in which the
//! reader must read [`MIN_PROGRESS_BYTES`]; a reader that does not is *stalled*, and the hub does not wait for it again until it has
//! caught up. A client that keeps up never misses a byte even at memory speed, and a stopped one delays the port only once.
//!
//! The wait is shorter than what the kernel buffers at line rate (the 4096 bytes of N_TTY for a session; for the log
//! also part of the 64 KiB of flip buffers behind it), and MIN_PROGRESS_BYTES is four times those 4096 bytes: a reader that meets the deadline is
//! four times as fast as the line, so no sequence of waits can overflow the kernel's buffers.

use std::time::Duration;

use tokio::time::Instant;

use crate::port::Baud;

/// Bytes that a reader must read before its deadline.
const MIN_PROGRESS_BYTES: u64 = 16 * 1024;
/// Upper bounds of the wait, for slow lines, where the kernel buffers seconds of output.
const SESSION_MAX: Duration = Duration::from_millis(250);
const LOG_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Puller {
    Session,
    /// The triggers, which are not counted as a client.
    Triggers,
    Log,
}

/// How long a reader may take for [`MIN_PROGRESS_BYTES`] at this line rate.
fn wait_limit(puller: Puller, baud: Option<Baud>) -> Duration {
    let (kernel_bytes, longest) = match puller {
        Puller::Session | Puller::Triggers => (4096, SESSION_MAX),
        Puller::Log => (32 * 1024, LOG_MAX),
    };
    let at_line_rate =
        baud.map(|baud| Duration::from_secs_f64(f64::from(kernel_bytes) * 10.0 / f64::from(baud.get())));
    at_line_rate.map_or(longest, |time| time.min(longest))
}

#[derive(Debug)]
struct ReaderState {
    puller: Puller,
    position: u64,
    stalled: bool,
    /// While the hub waits for it: the deadline, and the position to reach by then.
    awaited: Option<(Instant, u64)>,
}

/// All cursors of a port: those of its clients, the log and the triggers. Slots are reused.
#[derive(Debug, Default)]
pub struct Cursors {
    readers: Vec<Option<ReaderState>>,
    /// The rate that decides how long waiting is safe; `None` until the line is open.
    baud: Option<Baud>,
}

impl Cursors {
    /// Adds a cursor and returns its slot.
    pub fn insert(&mut self, puller: Puller, position: u64) -> usize {
        let reader = Some(ReaderState { puller, position, stalled: false, awaited: None });
        match self.readers.iter().position(Option::is_none) {
            Some(free) => {
                self.readers[free] = reader;
                free
            }
            None => {
                self.readers.push(reader);
                self.readers.len() - 1
            }
        }
    }

    pub fn remove(&mut self, slot: usize) {
        self.readers[slot] = None;
    }

    pub fn is_watched(&self) -> bool {
        self.readers.iter().flatten().any(|reader| reader.puller == Puller::Session)
    }

    pub fn set_baud(&mut self, baud: Baud) {
        self.baud = Some(baud);
    }

    pub fn position(&self, slot: usize) -> u64 {
        self.readers[slot].as_ref().map_or(0, |reader| reader.position)
    }

    /// Moves a cursor to `position`. Returns whether the hub was waiting for it.
    pub fn advance(&mut self, slot: usize, position: u64, head: u64, window: u64) -> bool {
        let Some(reader) = &mut self.readers[slot] else { return false };
        reader.position = position;
        if reader.stalled && head - position.min(head) <= window / 2 {
            reader.stalled = false;
        }
        match reader.awaited {
            Some((_, goal)) if position >= goal => {
                reader.awaited = None;
                true
            }
            Some(_) => true,
            None => false,
        }
    }

    /// Marks a cursor as stalled without waiting.
    pub fn give_up(&mut self, slot: usize) {
        if let Some(reader) = &mut self.readers[slot] {
            reader.stalled = true;
            reader.awaited = None;
        }
    }

    /// Until when the hub must wait before everything below `tail` may be overwritten; `None`: no wait.
    /// A reader past its deadline is stalled from then on.
    pub fn wait_before_tail(&mut self, tail: u64, now: Instant) -> Option<Instant> {
        let mut until = None;
        for reader in self.readers.iter_mut().flatten() {
            if reader.stalled || reader.position >= tail {
                continue;
            }
            let (deadline, _) = *reader.awaited.get_or_insert_with(|| {
                (now + wait_limit(reader.puller, self.baud), reader.position + MIN_PROGRESS_BYTES)
            });
            if now >= deadline {
                reader.stalled = true;
                reader.awaited = None;
            } else {
                until = Some(until.map_or(deadline, |until: Instant| until.min(deadline)));
            }
        }
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = 256 * 1024;

    #[test]
    fn a_stopped_cursor_is_waited_for_once() {
        let mut cursors = Cursors::default();
        let slot = cursors.insert(Puller::Session, 0);
        let start = Instant::now();
        assert_eq!(cursors.wait_before_tail(0, start), None);
        assert_eq!(cursors.wait_before_tail(100, start), Some(start + SESSION_MAX));
        assert_eq!(cursors.wait_before_tail(100, start + SESSION_MAX), None);
        assert_eq!(cursors.wait_before_tail(9999, start + SESSION_MAX), None, "stalled: never again");

        cursors.advance(slot, WINDOW, WINDOW + 10, WINDOW);
        assert!(cursors.wait_before_tail(WINDOW + 1, start).is_some(), "it has caught up");
    }

    #[test]
    fn a_cursor_that_trickles_does_not_hold_the_port() {
        let mut cursors = Cursors::default();
        let slot = cursors.insert(Puller::Session, 0);
        let start = Instant::now();
        cursors.wait_before_tail(100_000, start);
        assert!(cursors.advance(slot, 1, WINDOW, WINDOW));
        assert_eq!(cursors.wait_before_tail(100_000, start + SESSION_MAX), None);
    }

    #[test]
    fn a_cursor_that_moves_gets_a_new_deadline() {
        let mut cursors = Cursors::default();
        let slot = cursors.insert(Puller::Session, 0);
        let start = Instant::now();
        cursors.wait_before_tail(100_000, start);
        assert!(cursors.advance(slot, MIN_PROGRESS_BYTES, WINDOW, WINDOW));
        let later = start + SESSION_MAX;
        assert_eq!(cursors.wait_before_tail(100_000, later), Some(later + SESSION_MAX));
    }

    #[test]
    fn no_wait_is_longer_than_the_kernel_can_bridge() {
        for rate in [9600u64, 115_200, 921_600, 4_000_000] {
            let baud = Baud::try_from(rate).unwrap();
            let received = |wait: Duration| wait.as_secs_f64() * rate as f64 / 10.0;
            assert!(received(wait_limit(Puller::Session, Some(baud))) <= 4096.0 + 1.0);
            assert!(received(wait_limit(Puller::Log, Some(baud))) <= 32.0 * 1024.0 + 1.0);
            assert!(
                MIN_PROGRESS_BYTES as f64 >= 4.0 * received(wait_limit(Puller::Session, Some(baud))) - 4.0
            );
        }
    }
}
