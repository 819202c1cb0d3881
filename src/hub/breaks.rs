//! Breaks on their way to the line. One comes after what was typed before it, unless the line takes nothing: then whatever stands before it
//! is thrown away, here and with the sessions, since a break is what one sends to a device that does not listen.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::{Hub, Input};
use crate::serial::STUCK_AFTER;

/// A break that somebody wants, until the line has taken it or it is dropped on the way. The line knows how many there are, also
/// of those that still wait with a session.
#[derive(Debug)]
pub struct Awaited {
    all: watch::Sender<usize>,
    told: Option<oneshot::Sender<()>>,
}

impl Awaited {
    fn new(all: watch::Sender<usize>, told: Option<oneshot::Sender<()>>) -> Self {
        all.send_modify(|count| *count += 1);
        Self { all, told }
    }

    /// Whether who wanted to be told has given up, and has said so.
    pub(super) fn is_given_up(&self) -> bool {
        self.told.as_ref().is_some_and(oneshot::Sender::is_closed)
    }

    /// The line has taken it.
    pub(super) fn begins(mut self) {
        if let Some(told) = self.told.take() {
            // Whoever asked may have given up.
            let _ = told.send(());
        }
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.all.send_modify(|count| *count -= 1);
    }
}

impl Hub {
    /// A break, to be handed to [`Hub::input`]: from now on the line is waited for no longer than [`STUCK_AFTER`].
    pub fn break_of(&self, length: Duration, user: String) -> Input {
        Input::Break { length, user, awaited: Awaited::new(self.breaks.clone(), None) }
    }

    /// The same, and who is told when it begins; dropped if it never does.
    pub fn break_that_tells(&self, length: Duration, user: String) -> (Input, oneshot::Receiver<()>) {
        let (told, begun) = oneshot::channel();
        (Input::Break { length, user, awaited: Awaited::new(self.breaks.clone(), Some(told)) }, begun)
    }
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
        let (first, mut begun) = hub.break_that_tells(Duration::from_millis(1), "root".to_owned());
        let second = hub.break_of(Duration::from_millis(1), "root".to_owned());
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
        assert!(begun.try_recv().is_err(), "it has not begun");
        assert_eq!((patience.look(), patience.ends()), (12, None));
        assert!(!patience.has_given_up());
    }
}
