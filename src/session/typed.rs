//! What a client has sent and its session has not handed on yet. Nothing is dropped and nothing grows: past
//! [`LIMIT`] the reading side stops reading from its socket until the line has taken some of it, which
//! throttles a paste at its source.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::mpsc;

/// Bytes that may wait, each event counted with [`OVERHEAD`]. One SSH window more may be on its way (`ssh::tuning`).
const LIMIT: usize = 16 * 1024;
/// What an event costs beside its bytes, so that a flood of empty ones is bounded too.
const OVERHEAD: usize = 16;

/// What the client did.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// It typed, pasted or piped.
    Bytes(Vec<u8>),
    /// It asked for a break (RFC 4335).
    Break,
    /// It will send no more.
    End,
}

impl Event {
    /// What this event counts for until [`Typed::settle`]d.
    pub fn weight(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len() + OVERHEAD,
            Self::Break | Self::End => OVERHEAD,
        }
    }
}

#[derive(Debug, Default)]
struct Gate {
    waiting: usize,
    reader: Option<Waker>,
}

/// The client's end.
#[derive(Debug, Clone)]
pub struct Feeder {
    events: mpsc::UnboundedSender<Event>,
    gate: Arc<Mutex<Gate>>,
}

/// The session's end.
#[derive(Debug)]
pub struct Typed {
    events: mpsc::UnboundedReceiver<Event>,
    gate: Arc<Mutex<Gate>>,
}

/// The two ends.
pub fn typed() -> (Feeder, Typed) {
    let (sender, events) = mpsc::unbounded_channel();
    let gate = Arc::new(Mutex::new(Gate::default()));
    (Feeder { events: sender, gate: gate.clone() }, Typed { events, gate })
}

impl Feeder {
    /// Hands an event over. The caller reads on from its socket only when [`Feeder::poll_ready`] says so.
    pub fn feed(&self, event: Event) {
        let weight = event.weight();
        self.gate.lock().unwrap_or_else(PoisonError::into_inner).waiting += weight;
        // A session that has ended needs no more input.
        let _ = self.events.send(event);
    }

    /// Ready while less than [`LIMIT`] waits.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        if gate.waiting < LIMIT || self.events.is_closed() {
            return Poll::Ready(());
        }
        gate.reader = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Typed {
    /// The next event; `None` once the client is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The device has taken what weighed so much.
    pub fn settle(&self, weight: usize) {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.waiting = gate.waiting.saturating_sub(weight);
        if gate.waiting < LIMIT
            && let Some(reader) = gate.reader.take()
        {
            reader.wake();
        }
    }
}

impl Drop for Typed {
    fn drop(&mut self) {
        self.events.close();
        self.settle(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_paste_stops_its_reader_until_the_line_has_taken_some() {
        let (feeder, mut typed) = typed();
        let mut context = Context::from_waker(Waker::noop());
        let paste = || Event::Bytes(vec![b'x'; LIMIT]);
        assert!(feeder.poll_ready(&mut context).is_ready());
        feeder.feed(paste());
        assert!(feeder.poll_ready(&mut context).is_pending());
        assert_eq!(typed.next().await, Some(paste()));
        assert!(feeder.poll_ready(&mut context).is_pending(), "read, but not taken by the device");
        typed.settle(paste().weight());
        assert!(feeder.poll_ready(&mut context).is_ready());
    }

    #[test]
    fn the_reader_of_an_ended_session_is_let_go() {
        let (feeder, typed) = typed();
        feeder.feed(Event::Bytes(vec![0; 2 * LIMIT]));
        drop(typed);
        assert!(feeder.poll_ready(&mut Context::from_waker(Waker::noop())).is_ready());
    }
}
