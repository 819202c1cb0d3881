//! Breaks on their way to the line. A break comes after the input before it, unless the device accepts none: then all input before it is
//! discarded, here and in the sessions, since users send a break to a device that does not respond.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::stream::{Output, Stream};
use super::{Hub, Input, Noted};
use crate::event::Event;
use crate::port::{Sequence, Step};
use crate::serial::{BreakError, STUCK_AFTER, WriteOutcome};

/// Progress of a break: it begins and ends, or it fails at the beginning or at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BreakEvent {
    /// The driver has begun it.
    Begun,
    Ended,
    /// Why it was not sent or did not end, as a sentence.
    Failed(String),
}

/// What is to be sent as a break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakRequest {
    /// Length of a serial break for which the sequence gives none.
    pub length: Duration,
    /// What is sent; `None` = the port's own break.
    pub sequence: Option<Sequence>,
}

impl From<Duration> for BreakRequest {
    fn from(length: Duration) -> Self {
        Self { length, sequence: None }
    }
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
    /// The break is dropped if the receiver of its events is gone.
    while_heard: bool,
    over: bool,
}

impl Awaited {
    fn new(all: watch::Sender<usize>, events: mpsc::Sender<BreakEvent>, while_heard: bool) -> Self {
        all.send_modify(|count| *count += 1);
        Self { all, counted: true, events, while_heard, over: false }
    }

    /// Whether the user who requested it has cancelled it.
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
        // The requester may have disconnected, or (a session) no longer reads.
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
    pub fn break_of(&self, what: BreakRequest, user: String, events: mpsc::Sender<BreakEvent>) -> Input {
        Input::Break { what, user, awaited: Awaited::new(self.breaks.clone(), events, false) }
    }

    /// Requests a break that is dropped if the receiver of its events is gone.
    pub fn break_while_heard(
        &self,
        what: impl Into<BreakRequest>,
        user: String,
    ) -> (Input, mpsc::Receiver<BreakEvent>) {
        let (events, received) = mpsc::channel(BREAK_EVENTS);
        let what = what.into();
        (Input::Break { what, user, awaited: Awaited::new(self.breaks.clone(), events, true) }, received)
    }

    /// Has the line send a break, and waits until it has: `Err` has the reason why it could not. `None` if the line is gone before that.
    pub(crate) async fn send_break(
        &self,
        what: impl Into<BreakRequest>,
        user: String,
    ) -> Option<Result<(), String>> {
        let (request, mut events) = self.break_while_heard(what, user);
        self.input.send(request).await.ok()?;
        while let Some(event) = events.recv().await {
            match event {
                BreakEvent::Begun => {}
                BreakEvent::Ended => return Some(Ok(())),
                BreakEvent::Failed(why) => return Some(Err(why)),
            }
        }
        None
    }
}

/// Sends a break and reports its progress to the journal and the requester. Returns the number of bytes that were discarded for it.
pub(super) async fn send(sender: Sender<'_>, user: String, mut awaited: Awaited) -> io::Result<usize> {
    let name = match sender.sequence.is_serial_break() {
        true => format!("a break of {} ms", sender.length.as_millis()),
        false => format!("the break {}", sender.sequence),
    };
    let begun = || {
        tracing::info!(message_id = Event::Break.id(), console_user = user, "{user} sends {name}");
        awaited.report(BreakEvent::Begun);
    };
    let (discarded, sent) = sender.send(begun).await;
    match sent {
        Ok(()) => awaited.report(BreakEvent::Ended),
        Err(error) => {
            tracing::warn!(console_user = user, "{user} requested {name}: {error}");
            awaited.report(BreakEvent::Failed(error.to_string()));
        }
    }
    Ok(discarded)
}

/// Sends a keepalive. A failure is reported, and the next one is tried anyway.
pub(super) async fn send_keepalive(sender: Sender<'_>) -> io::Result<usize> {
    let (discarded, sent) = sender.send(|| ()).await;
    if let Err(error) = sent {
        tracing::warn!("the keepalive was not sent: {error}");
    }
    Ok(discarded)
}

/// Text, delays and serial breaks on their way to a line.
pub(super) struct Sender<'tty> {
    pub(super) tty: &'tty Stream,
    pub(super) hub: Arc<Hub>,
    pub(super) sequence: Sequence,
    /// Length of a serial break for which the sequence gives none.
    pub(super) length: Duration,
    pub(super) log_input: bool,
}

impl Sender<'_> {
    /// Sends the sequence. `begun` is called once the first of it has been sent. Returns how many bytes before it were discarded.
    async fn send(&self, begun: impl FnOnce()) -> (usize, Result<(), BreakError>) {
        let (mut begun, mut discarded) = (Some(begun), 0);
        let mut begin = || {
            if let Some(begun) = begun.take() {
                begun();
            }
        };
        for step in self.sequence.steps() {
            let sent = match step {
                Step::Delay(time) => {
                    begin();
                    tokio::time::sleep(*time).await;
                    Ok(())
                }
                Step::Break(length) => {
                    let (more, sent) = self.tty.send_break(length.unwrap_or(self.length), &mut begin).await;
                    discarded += more;
                    sent
                }
                Step::Bytes(bytes) => {
                    let sent = self.write(bytes).await;
                    if sent.is_ok() {
                        begin();
                    }
                    sent
                }
            };
            if let Err(error) = sent {
                return (discarded, Err(error));
            }
        }
        (discarded, Ok(()))
    }

    /// Writes all of it, as long as the line takes some.
    async fn write(&self, bytes: &[u8]) -> Result<(), BreakError> {
        let mut output = Output::new(self.tty);
        let mut left = bytes;
        while !left.is_empty() {
            let count = match tokio::time::timeout(STUCK_AFTER, output.write(left)).await {
                Err(_) => return Err(BreakError::Stuck),
                Ok(Err(error)) => return Err(BreakError::Write(error)),
                Ok(Ok(WriteOutcome::HungUp)) => {
                    return Err(BreakError::Write(io::ErrorKind::BrokenPipe.into()));
                }
                Ok(Ok(WriteOutcome::Wrote(count))) => count,
            };
            self.hub.state().ring.count_sent(count);
            left = &left[count..];
        }
        if self.log_input {
            self.hub.note_that(Noted::Input(bytes.to_vec()));
        }
        Ok(())
    }
}

/// How long the line waits for its device while a break waits for the line.
#[derive(Debug)]
pub(super) struct BreakDeadline {
    awaited: watch::Receiver<usize>,
    /// Time of the last write while a break waits.
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

    /// Applies that. Returns how many bytes were discarded for a cancelled break.
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

    /// Deadline of the current write.
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
        let second = hub.break_of(Duration::from_millis(1).into(), "root".to_owned(), unheard);
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
