//! Breaks on their way to the line. One comes after what was typed before it, unless the line takes nothing: then whatever stands before it
//! is thrown away, here and with the sessions, since a break is what one sends to a device that does not listen.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::stream::Stream;
use super::{Hub, Input};
use crate::event::Event;
use crate::serial::STUCK_AFTER;

/// What became of a break. A break begins and then ends, or it fails: at the beginning, or at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BreakEvent {
    /// The driver has begun it.
    Begun,
    /// It is over.
    Ended,
    /// Why it was not sent or did not end, as a sentence.
    Failed(String),
}

/// Events of one break: a receiver with so much room misses none.
pub const BREAK_EVENTS: usize = 2;

/// A break that somebody wants, until it is over or it is dropped on the way. The line knows how many there are that it has not taken
/// yet, also of those that still wait with a session.
#[derive(Debug)]
pub struct Awaited {
    all: watch::Sender<usize>,
    /// Counted in `all`.
    counted: bool,
    events: mpsc::Sender<BreakEvent>,
    /// Not sent any more once nobody receives its events.
    while_heard: bool,
    over: bool,
}

impl Awaited {
    fn new(all: watch::Sender<usize>, events: mpsc::Sender<BreakEvent>, while_heard: bool) -> Self {
        all.send_modify(|count| *count += 1);
        Self { all, counted: true, events, while_heard, over: false }
    }

    /// Whether the user who wanted it has given up.
    pub(super) fn is_given_up(&self) -> bool {
        self.while_heard && self.events.is_closed()
    }

    /// Nobody is to hear what becomes of it.
    pub(super) fn needs_no_report(&mut self) {
        self.over = true;
    }

    /// The line has taken it, and waits for nothing any more.
    pub(super) fn taken(&mut self) {
        if std::mem::take(&mut self.counted) {
            self.all.send_modify(|count| *count -= 1);
        }
    }

    fn tell(&mut self, event: BreakEvent) {
        self.over |= event != BreakEvent::Begun;
        // Whoever asked may have given up, or (a session) reads nothing any more.
        let _ = self.events.try_send(event);
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.taken();
        if !self.over {
            self.tell(BreakEvent::Failed("no break was sent: the device has gone".to_owned()));
        }
    }
}

impl Hub {
    /// A break, to be handed to [`Hub::input`]: from now on the line is waited for no longer than [`STUCK_AFTER`]. It is sent even if
    /// nobody receives its `events` any more.
    pub fn break_of(&self, length: Duration, user: String, events: mpsc::Sender<BreakEvent>) -> Input {
        Input::Break { length, user, awaited: Awaited::new(self.breaks.clone(), events, false) }
    }

    /// The same, but only for as long as its events are received.
    pub fn break_while_heard(&self, length: Duration, user: String) -> (Input, mpsc::Receiver<BreakEvent>) {
        let (events, received) = mpsc::channel(BREAK_EVENTS);
        (Input::Break { length, user, awaited: Awaited::new(self.breaks.clone(), events, true) }, received)
    }
}

/// Sends a break and tells what becomes of it: the journal, and the user who asked. How many bytes were discarded for it.
pub(super) async fn send(
    tty: &Stream,
    length: Duration,
    user: String,
    mut awaited: Awaited,
) -> io::Result<usize> {
    let milliseconds = length.as_millis();
    let begun = || {
        tracing::info!(
            message_id = Event::Break.id(),
            console_user = user,
            "{user} sends a break of {milliseconds} ms"
        );
        awaited.tell(BreakEvent::Begun);
    };
    let (discarded, sent) = tty.send_break(length, begun).await;
    match sent {
        Ok(()) => awaited.tell(BreakEvent::Ended),
        Err(error) => {
            tracing::warn!(console_user = user, "{user} wants a break of {milliseconds} ms: {error}");
            awaited.tell(BreakEvent::Failed(error.to_string()));
        }
    }
    Ok(discarded)
}

/// How long the line waits for its device while a break waits for the line.
#[derive(Debug)]
pub(super) struct Patience {
    awaited: watch::Receiver<usize>,
    /// Since when nothing was written while a break waits.
    since: Option<Instant>,
    /// Bytes thrown away so far for the break that comes. `None` while nothing is.
    dropped: Option<usize>,
}

impl Patience {
    pub(super) fn new(hub: &Hub) -> Self {
        Self { awaited: hub.breaks.subscribe(), since: None, dropped: None }
    }

    /// Waits until more or fewer breaks wait. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.awaited.changed().await.is_err() {
            // The sender lives in the hub, which the line holds.
            std::future::pending().await
        }
    }

    /// What follows from that: how many bytes were thrown away for a break that does not come any more.
    pub(super) fn look(&mut self) -> usize {
        if *self.awaited.borrow_and_update() > 0 {
            self.since.get_or_insert_with(Instant::now);
            return 0;
        }
        self.since = None;
        self.dropped.take().unwrap_or(0)
    }

    /// Something was written, or is about to be.
    pub(super) fn moved(&mut self) {
        self.since = self.since.map(|_| Instant::now());
    }

    /// When what is being written is to be given up.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.since.map(|since| since + STUCK_AFTER)
    }

    /// So many bytes are thrown away, and from now on all that stands before the break.
    pub(super) fn give_up(&mut self, bytes: usize) {
        *self.dropped.get_or_insert(0) += bytes;
    }

    /// Whether all that comes before the break is thrown away.
    pub(super) fn has_given_up(&self) -> bool {
        self.dropped.is_some()
    }

    /// The break has come, or the line is lost: how many bytes were thrown away.
    pub(super) fn over(&mut self) -> usize {
        self.since = None;
        self.dropped.take().unwrap_or(0)
    }
}

/// What keeps the line from being written to for a while. It comes to the bytes that were thrown away for it.
pub(super) struct Pause<'tty> {
    ending: Pin<Box<dyn Future<Output = io::Result<usize>> + Send + 'tty>>,
    /// The line is opened anew afterwards; else it was a break.
    pub(super) reopens: bool,
}

impl<'tty> Pause<'tty> {
    pub(super) fn of_break(sending: impl Future<Output = io::Result<usize>> + Send + 'tty) -> Self {
        Self { ending: Box::pin(sending), reopens: false }
    }

    pub(super) fn before_reopening(draining: impl Future<Output = io::Result<usize>> + Send + 'tty) -> Self {
        Self { ending: Box::pin(draining), reopens: true }
    }
}

/// Waits until it is over; for ever if there is none. Cancel safe.
pub(super) async fn over(pause: &mut Option<Pause<'_>>) -> io::Result<usize> {
    match pause {
        Some(pause) => pause.ending.as_mut().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Ring;

    #[test]
    fn a_break_that_is_given_up_on_its_way_ends_what_was_begun_for_it() {
        let (hub, _inbox) = Hub::new(Ring::create(64 * 1024).unwrap());
        let mut patience = Patience::new(&hub);
        assert_eq!((patience.look(), patience.ends()), (0, None), "nobody wants one");
        let (first, mut events) = hub.break_while_heard(Duration::from_millis(1), "root".to_owned());
        let (unheard, _) = mpsc::channel(BREAK_EVENTS);
        let second = hub.break_of(Duration::from_millis(1), "root".to_owned(), unheard);
        assert_eq!(patience.look(), 0);
        assert!(patience.ends().is_some() && !patience.has_given_up());
        patience.give_up(5);
        patience.give_up(7);
        drop(second);
        assert_eq!(patience.look(), 0, "one is still on its way");
        assert!(patience.has_given_up());
        let Input::Break { awaited, .. } = &first else { panic!() };
        assert!(!awaited.is_given_up());
        drop(first);
        let failed = BreakEvent::Failed("no break was sent: the device has gone".to_owned());
        assert_eq!(events.try_recv(), Ok(failed), "it has not begun");
        assert_eq!((patience.look(), patience.ends()), (12, None));
        assert!(!patience.has_given_up());
    }
}
