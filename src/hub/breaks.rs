//! Breaks on their way to the line. A break comes after the input before it, unless the device accepts none: then all input before it is
//! discarded, here and in the sessions, since users send a break to a device that does not respond.

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

/// Progress of a break: it begins and ends, or it fails at the beginning or at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BreakEvent {
    /// The driver has begun it.
    Begun,
    /// It has ended.
    Ended,
    /// Why it was not sent or did not end, as a sentence.
    Failed(String),
}

/// Events of one break: a receiver with this capacity misses none.
pub const BREAK_EVENTS: usize = 2;

/// A requested break, until it has ended or is dropped on the way. The line knows the number of breaks that it has not taken
/// yet, including those that still wait in a session.
#[derive(Debug)]
pub struct Awaited {
    all: watch::Sender<usize>,
    counted: bool,
    events: mpsc::Sender<BreakEvent>,
    /// Not sent once its events are no longer received.
    while_heard: bool,
    over: bool,
}

impl Awaited {
    fn new(all: watch::Sender<usize>, events: mpsc::Sender<BreakEvent>, while_heard: bool) -> Self {
        all.send_modify(|count| *count += 1);
        Self { all, counted: true, events, while_heard, over: false }
    }

    /// Whether the user who requested it has given up.
    pub(super) fn is_given_up(&self) -> bool {
        self.while_heard && self.events.is_closed()
    }

    /// Its events are not reported.
    pub(super) fn needs_no_report(&mut self) {
        self.over = true;
    }

    /// The line has taken it.
    pub(super) fn taken(&mut self) {
        if std::mem::take(&mut self.counted) {
            self.all.send_modify(|count| *count -= 1);
        }
    }

    fn report(&mut self, event: BreakEvent) {
        self.over |= event != BreakEvent::Begun;
        // The requester may have given up, or (a session) no longer reads.
        let _ = self.events.try_send(event);
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.taken();
        if !self.over {
            self.report(BreakEvent::Failed("no break was sent: the device was unplugged".to_owned()));
        }
    }
}

impl Hub {
    /// A break, to be sent to [`Hub::input`]: from now on the line waits for the device no longer than [`STUCK_AFTER`]. It is sent even if
    /// its `events` are no longer received.
    pub fn break_of(&self, length: Duration, user: String, events: mpsc::Sender<BreakEvent>) -> Input {
        Input::Break { length, user, awaited: Awaited::new(self.breaks.clone(), events, false) }
    }

    /// The same, but only while its events are received.
    pub fn break_while_heard(&self, length: Duration, user: String) -> (Input, mpsc::Receiver<BreakEvent>) {
        let (events, received) = mpsc::channel(BREAK_EVENTS);
        (Input::Break { length, user, awaited: Awaited::new(self.breaks.clone(), events, true) }, received)
    }
}

/// Sends a break and reports its progress to the journal and the requester. Returns the number of bytes that were discarded for it.
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
        awaited.report(BreakEvent::Begun);
    };
    let (discarded, sent) = tty.send_break(length, begun).await;
    match sent {
        Ok(()) => awaited.report(BreakEvent::Ended),
        Err(error) => {
            tracing::warn!(console_user = user, "{user} requested a break of {milliseconds} ms: {error}");
            awaited.report(BreakEvent::Failed(error.to_string()));
        }
    }
    Ok(discarded)
}

/// How long the line waits for its device while a break waits for the line.
#[derive(Debug)]
pub(super) struct BreakDeadline {
    awaited: watch::Receiver<usize>,
    /// Since when nothing was written while a break waits.
    since: Option<Instant>,
    /// Bytes discarded so far for the next break; `None` if none were.
    dropped: Option<usize>,
}

impl BreakDeadline {
    pub(super) fn new(hub: &Hub) -> Self {
        Self { awaited: hub.breaks.subscribe(), since: None, dropped: None }
    }

    /// Waits until the number of waiting breaks changes. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.awaited.changed().await.is_err() {
            // The sender lives in the hub, which the line holds.
            std::future::pending().await
        }
    }

    /// Applies that. Returns how many bytes were discarded for a break that was given up.
    pub(super) fn check_input(&mut self) -> usize {
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

    /// When the current write is given up.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.since.map(|since| since + STUCK_AFTER)
    }

    /// Discards this many bytes, and from now on all input before the break.
    pub(super) fn give_up(&mut self, bytes: usize) {
        *self.dropped.get_or_insert(0) += bytes;
    }

    /// Whether all input before the break is discarded.
    pub(super) fn has_given_up(&self) -> bool {
        self.dropped.is_some()
    }

    /// The break has come, or the line is lost. Returns how many bytes were discarded.
    pub(super) fn over(&mut self) -> usize {
        self.since = None;
        self.dropped.take().unwrap_or(0)
    }
}

/// Something that suspends output for a while. It returns the number of bytes that were discarded for it.
pub(super) struct Pause<'tty> {
    ending: Pin<Box<dyn Future<Output = io::Result<usize>> + Send + 'tty>>,
    /// The line is reopened afterwards; otherwise it is a break.
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

/// Waits until it is over; without end if there is none. Cancel safe.
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
    fn a_break_given_up_on_its_way_ends_the_discarding_for_it() {
        let (hub, _inbox) = Hub::new(Ring::create(64 * 1024).unwrap());
        let mut break_deadline = BreakDeadline::new(&hub);
        assert_eq!((break_deadline.check_input(), break_deadline.ends()), (0, None), "nobody wants one");
        let (first, mut events) = hub.break_while_heard(Duration::from_millis(1), "root".to_owned());
        let (unheard, _) = mpsc::channel(BREAK_EVENTS);
        let second = hub.break_of(Duration::from_millis(1), "root".to_owned(), unheard);
        assert_eq!(break_deadline.check_input(), 0);
        assert!(break_deadline.ends().is_some() && !break_deadline.has_given_up());
        break_deadline.give_up(5);
        break_deadline.give_up(7);
        drop(second);
        assert_eq!(break_deadline.check_input(), 0, "one is still on its way");
        assert!(break_deadline.has_given_up());
        let Input::Break { awaited, .. } = &first else { panic!() };
        assert!(!awaited.is_given_up());
        drop(first);
        let failed = BreakEvent::Failed("no break was sent: the device was unplugged".to_owned());
        assert_eq!(events.try_recv(), Ok(failed), "it has not begun");
        assert_eq!((break_deadline.check_input(), break_deadline.ends()), (12, None));
        assert!(!break_deadline.has_given_up());
    }
}
