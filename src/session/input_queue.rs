//! Input that a client has sent and its session has not passed on yet. Nothing is dropped, and the queue is bounded: above [`QUEUE_BYTES`]
//! the client is stopped until the tty has taken some of it. A local client is stopped by not reading its socket, an SSH client
//! by withholding its window (`ssh::tuning`), so that its other messages, such as keepalives and key exchanges, are still answered.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::system::lock::Lock;

/// Bytes that may wait, counted with [`ENTRY_OVERHEAD_BYTES`] per event. One more SSH window may be in transit (`ssh::tuning`).
const QUEUE_BYTES: usize = 16 * 1024;
/// The same for a session at a console, where only the session with write access has waiting input. It is more than any paste: an SSH
/// client whose window is used up does not read its terminal (OpenSSH, PuTTY), so an escape command or break after a longer paste has
/// no effect. sshd takes 2 MiB.
const PASTE_LIMIT: usize = 1024 * 1024;
/// Breaks may wait beyond that, since they are the way to get through to a device that takes no input; but not without limit.
const BREAK_QUEUE_BYTES: usize = 64 * 1024;
/// Window granted to an SSH client at once, instead of a few bytes at a time. Less than its window (`ssh::tuning`).
pub const WINDOW_GRANT_BYTES: usize = 8 * 1024;
/// Weight of an event beside its bytes, so that a flood of empty events is bounded too.
const ENTRY_OVERHEAD_BYTES: usize = 16;

#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes typed, pasted or piped.
    Bytes(Vec<u8>),
    /// A break (RFC 4335).
    Break,
    /// A break of this length (RFC 2217).
    TimedBreak(Duration),
    End,
}

impl Event {
    /// How much this event counts until [`Typed::settle`].
    pub fn weight(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len() + ENTRY_OVERHEAD_BYTES,
            Self::Break | Self::TimedBreak(_) | Self::End => ENTRY_OVERHEAD_BYTES,
        }
    }
}

/// Lets the client send this many more bytes.
type Grant = Box<dyn Fn(usize) + Send>;

struct Gate {
    limit: usize,
    waiting: usize,
    /// Woken when less than the limit waits.
    reader: Option<Waker>,
    grant: Option<Grant>,
    /// Bytes received and not granted again yet.
    owed: usize,
    ended: bool,
}

impl Gate {
    fn has_room(&self) -> bool {
        self.waiting < self.limit
    }

    /// Grants the client as many bytes as were received, if there is room.
    fn replenish(&mut self) {
        if self.owed >= WINDOW_GRANT_BYTES
            && self.has_room()
            && let Some(grant) = &self.grant
        {
            grant(std::mem::take(&mut self.owed));
        }
    }

    fn take(&mut self, weight: usize) {
        self.waiting = self.waiting.saturating_sub(weight);
        if self.has_room() {
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
            self.replenish();
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, waiting, owed, .. } = self;
        write!(f, "Gate({waiting} of {limit}, {owed} owed)")
    }
}

/// The client's end of the queue.
#[derive(Debug, Clone)]
pub struct Feeder {
    events: mpsc::UnboundedSender<Event>,
    gate: Arc<Mutex<Gate>>,
}

/// The session's end of the queue.
#[derive(Debug)]
pub struct QueuedInput {
    events: mpsc::UnboundedReceiver<Event>,
    gate: Arc<Mutex<Gate>>,
}

/// A queue for a client that is read only while [`Feeder::poll_ready`].
pub fn input_queue() -> (Feeder, QueuedInput) {
    ends(None)
}

/// A queue for a client that sends no more than it is granted; `grant` is called when there is room.
pub fn input_queue_by_grants(grant: impl Fn(usize) + Send + 'static) -> (Feeder, QueuedInput) {
    ends(Some(Box::new(grant)))
}

fn ends(grant: Option<Grant>) -> (Feeder, QueuedInput) {
    let (sender, events) = mpsc::unbounded_channel();
    let gate = Gate { limit: QUEUE_BYTES, waiting: 0, reader: None, grant, owed: 0, ended: false };
    let gate = Arc::new(Mutex::new(gate));
    (Feeder { events: sender, gate: gate.clone() }, QueuedInput { events, gate })
}

impl Feeder {
    /// Queues an event; false if it was dropped because the queue is full. Bytes are never dropped: the caller reads from its socket only
    /// while [`Feeder::poll_ready`], or the client sends only what it was granted.
    pub fn feed(&self, event: Event) -> bool {
        let mut gate = self.gate.locked();
        match &event {
            Event::Bytes(bytes) if bytes.is_empty() => return true,
            Event::Bytes(bytes) => gate.owed += bytes.len(),
            Event::Break | Event::TimedBreak(_) if gate.waiting >= gate.limit + BREAK_QUEUE_BYTES => {
                return false;
            }
            Event::Break | Event::TimedBreak(_) => {}
            Event::End if std::mem::replace(&mut gate.ended, true) => return true,
            Event::End => {}
        }
        let weight = event.weight();
        // Fails if the session has ended, which needs no more input.
        if self.events.send(event).is_ok() {
            gate.waiting += weight;
        }
        gate.replenish();
        true
    }

    /// Waits until the session has handed over everything that it was fed, or has ended. Cancel safe.
    pub async fn drained(&self) {
        std::future::poll_fn(|context| {
            let mut gate = self.gate.locked();
            if gate.waiting == 0 || self.events.is_closed() {
                return Poll::Ready(());
            }
            gate.reader = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Ready while less than the limit waits.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut gate = self.gate.locked();
        if gate.has_room() || self.events.is_closed() {
            return Poll::Ready(());
        }
        gate.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl QueuedInput {
    /// The next event; `None` when the client has disconnected. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The device has taken input of this weight.
    pub fn settle(&self, weight: usize) {
        self.gate.locked().take(weight);
    }

    /// Raises the limit to a whole paste.
    pub(super) fn hold_pastes(&self) {
        let mut gate = self.gate.locked();
        gate.limit = PASTE_LIMIT;
        gate.take(0);
    }
}

impl Drop for QueuedInput {
    fn drop(&mut self) {
        self.events.close();
        self.settle(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_paste_pauses_reading_until_the_tty_has_taken_some() {
        let (feeder, mut queued) = input_queue();
        let mut context = Context::from_waker(Waker::noop());
        let paste = || Event::Bytes(vec![b'x'; QUEUE_BYTES]);
        assert!(feeder.poll_ready(&mut context).is_ready());
        feeder.feed(paste());
        assert!(feeder.poll_ready(&mut context).is_pending());
        assert_eq!(queued.next().await, Some(paste()));
        assert!(feeder.poll_ready(&mut context).is_pending(), "read, but not taken by the device");
        queued.settle(paste().weight());
        assert!(feeder.poll_ready(&mut context).is_ready());
    }

    #[test]
    fn a_client_is_granted_as_much_as_it_has_sent_while_there_is_room() {
        let granted = Arc::new(Mutex::new(Vec::new()));
        let grants = granted.clone();
        let (feeder, queued) = input_queue_by_grants(move |bytes| grants.lock().unwrap().push(bytes));
        let granted = || std::mem::take(&mut *granted.lock().unwrap());
        let sent = |bytes| {
            let event = Event::Bytes(vec![b'x'; bytes]);
            let weight = event.weight();
            assert!(feeder.feed(event));
            weight
        };
        let key = sent(1);
        assert!(granted().is_empty(), "no grant for each key");
        let first = sent(WINDOW_GRANT_BYTES);
        assert_eq!(granted(), [WINDOW_GRANT_BYTES + 1]);
        let second = sent(WINDOW_GRANT_BYTES);
        assert!(granted().is_empty(), "no room");
        let breaks = (0..).take_while(|_| feeder.feed(Event::Break)).count();
        assert!((1..=BREAK_QUEUE_BYTES / ENTRY_OVERHEAD_BYTES).contains(&breaks), "{breaks} breaks");
        queued.settle(second + breaks * ENTRY_OVERHEAD_BYTES);
        assert_eq!(granted(), [WINDOW_GRANT_BYTES]);

        queued.settle(key + first);
        queued.hold_pastes();
        let mut waiting = 0;
        while waiting < PASTE_LIMIT {
            waiting += sent(WINDOW_GRANT_BYTES);
        }
        assert_eq!(
            granted().len(),
            (waiting - 1) / (WINDOW_GRANT_BYTES + ENTRY_OVERHEAD_BYTES),
            "all but the last"
        );
        drop(queued);
        assert_eq!(granted(), [WINDOW_GRANT_BYTES], "input of an ended session counts for nothing");
    }

    #[test]
    fn empty_events_are_not_queued() {
        let (feeder, mut queued) = input_queue();
        for _ in 0..3 {
            feeder.feed(Event::Bytes(Vec::new()));
            feeder.feed(Event::End);
        }
        assert_eq!(queued.events.try_recv().ok(), Some(Event::End));
        assert!(queued.events.try_recv().is_err());
    }

    #[test]
    fn a_client_of_an_ended_session_is_not_paused() {
        let (feeder, queued) = input_queue();
        feeder.feed(Event::Bytes(vec![0; 2 * QUEUE_BYTES]));
        drop(queued);
        assert!(feeder.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
