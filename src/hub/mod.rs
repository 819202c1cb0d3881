//! The hub: the one owner of a port. [`line`] reads the device into the ring and writes input from the session that has write access to
//! it; the readers, sessions and the log writer, each hold a [`Cursor`] and pull. No reader can slow down the port: the hub waits for a
//! cursor only while it keeps moving ([`backpressure`]).

mod backpressure;
mod breaks;
mod checks;
mod coalesce;
mod control;
mod counts;
mod cursor;
mod device;
mod identity;
mod input_log;
mod intake;
mod lease;
pub mod line;
mod line_config;
mod notes;
mod quality;
mod sharing;
mod source;
mod stream;
mod trial;
mod wake;
mod writing;

use std::fmt;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::port::{LineSettings, Pacing};
use crate::ring::{LogMark, LogRecord, Ring, RingError};
use crate::system::clock::clock;
use crate::system::failpoint;
use crate::system::lock::Lock;
use crate::system::systemd;

use backpressure::Cursors;
pub use breaks::{Awaited, BREAK_EVENTS, BreakEvent, BreakRequest};
pub use control::{Condition, Control};
pub use cursor::{Cursor, Pulled};
pub use line_config::{Change, LineConfig};
use notes::Notes;
pub use source::SourceConfig;

/// Input messages on their way to the device. Few and small: a session cannot take back queued input, and the rest waits in the
/// session, where it is discarded if the user leaves.
const INPUT_QUEUE: usize = 4;

/// Bytes that are replayed: some pages of a terminal. A device that sends no line ends has no last line.
const REPLAY_LIMIT: u64 = 64 * 1024;

/// Time for a line to report its state.
const EXAMINE_TIMEOUT: Duration = Duration::from_secs(1);

/// Default length of a break in milliseconds: all devices detect it, and few need a longer one.
pub const DEFAULT_BREAK_MS: u32 = 500;
/// Lengths of a break that users may request, in milliseconds.
pub const BREAK_MS_RANGE: RangeInclusive<u32> = 1..=10_000;

/// Input from a session to the device, in order.
#[derive(Debug)]
pub enum Input {
    /// Bytes without pauses.
    Bytes(Vec<u8>),
    /// Bytes with pauses after them. The sender queues the next ones only once these are `written`, so that little of a slow paste is
    /// in transit when a user leaves or another one takes over.
    Paced {
        bytes: Vec<u8>,
        pacing: Pacing,
        /// Receives when the last byte is written; dropped if it never is.
        written: oneshot::Sender<()>,
        /// Secret bytes are not logged, even if input is.
        is_secret: bool,
    },
    Break {
        what: BreakRequest,
        user: String,
        /// Created by [`Hub::break_of`].
        awaited: Awaited,
    },
    /// Not input: notified once the line has accepted all input before it. Dropped if it has not, because the device is gone or that
    /// input was discarded for a break.
    Mark(oneshot::Sender<()>),
}

impl Input {
    /// Drops it without a report: its session has no write access, and was notified.
    pub fn dismiss(self) {
        if let Self::Break { mut awaited, .. } = self {
            awaited.needs_no_report();
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum LineState {
    Starting,
    Open(LineSettings),
    /// Unplugged since this time.
    Away(Timestamp),
    /// A source whose far end is not connected: since when, and why.
    Disconnected(Timestamp, String),
    /// A source that was disconnected since this time for this reason, and is connected again: bytes go both ways, but its far end
    /// may close at once, as before ([`trial`]).
    OnTrial(Timestamp, String, LineSettings),
    /// Plugged in, but cannot be opened, and why.
    Failed(String),
    /// Plugged in, but belongs to another port, and why.
    NotOurs(String),
}

impl LineState {
    /// Whether input reaches the device.
    pub fn takes_input(&self) -> bool {
        matches!(self, Self::Open(_) | Self::OnTrial(..))
    }

    /// Whether the device is known to be closed: input is refused, not queued until it is opened.
    pub fn is_closed(&self) -> bool {
        !self.takes_input() && *self != Self::Starting
    }
}

impl fmt::Display for LineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Open(_) => f.write_str("open"),
            Self::Away(since) => write!(f, "unplugged since {}", clock(*since)),
            Self::Disconnected(since, why) | Self::OnTrial(since, why, _) => {
                write!(f, "disconnected since {}; {why}", clock(*since))
            }
            Self::Failed(why) => f.write_str(why),
            Self::NotOurs(why) => write!(f, "idle: {why}"),
        }
    }
}

/// A note for the log at this place of the output.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// Ring offset of the byte that follows it.
    pub offset: u64,
    pub at: Timestamp,
    pub what: Noted,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Noted {
    Message(String),
    /// Input that was sent to the device.
    Input(Vec<u8>),
    /// Notes that were dropped because too many were waiting.
    Lost {
        notes: u64,
        /// Bytes of input in them.
        typed: u64,
    },
}

/// The shared side of a port. One thread uses it; the mutex is there because russh wants its handlers to be `Send`,
/// and is never held across an await.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<State>,
    /// Changes when there is more to pull, or a note.
    heard: watch::Sender<()>,
    /// Changes when more is in the log.
    logged: watch::Sender<()>,
    /// Notified when a cursor moves while the hub waits for it.
    room: Notify,
    line: watch::Sender<LineState>,
    /// Settings that the driver refused, a sentence each.
    refused: watch::Sender<Vec<String>>,
    input: mpsc::Sender<Input>,
    control: mpsc::Sender<Control>,
    /// Where the output of the line begins that was opened or connected last; `None` before the first.
    opened: watch::Sender<Option<u64>>,
    /// Why the line is open, and its `initial` steps have failed.
    initial_failure: watch::Sender<Option<String>>,
    /// Number of breaks that wait for the line.
    breaks: watch::Sender<usize>,
    /// Number of times that queued input was discarded.
    torn: AtomicU64,
    counts: counts::Counts,
}

/// The receiving ends that the line owns.
#[derive(Debug)]
pub struct Inbox {
    input: mpsc::Receiver<Input>,
    control: mpsc::Receiver<Control>,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    cursors: Cursors,
    notes: Notes,
}

impl Hub {
    /// A hub over this ring, and the inbox of its line.
    pub fn new(ring: Ring) -> (Arc<Self>, Inbox) {
        let (input, inputs) = mpsc::channel(INPUT_QUEUE);
        let (control, controls) = mpsc::channel(control::REQUEST_QUEUE);
        let state = Mutex::new(State { ring, cursors: Cursors::default(), notes: Notes::default() });
        let hub = Self {
            state,
            heard: watch::Sender::new(()),
            logged: watch::Sender::new(()),
            room: Notify::new(),
            line: watch::Sender::new(LineState::Starting),
            refused: watch::Sender::default(),
            input,
            control,
            opened: watch::Sender::default(),
            initial_failure: watch::Sender::default(),
            breaks: watch::Sender::new(0),
            torn: AtomicU64::new(0),
            counts: counts::Counts::default(),
        };
        (Arc::new(hub), Inbox { input: inputs, control: controls })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in a session must not end the port; the state is consistent at each step of an update.
        self.state.locked()
    }

    /// Resizes the ring. A reader that is behind what a smaller ring holds skips ahead, as usual.
    pub fn resize(&self, capacity: usize) -> Result<(), RingError> {
        let mut state = self.state();
        if state.ring.capacity() != capacity {
            let resized = state.ring.resized(capacity)?;
            // The next process adopts the later one of two, so that a complete one is stored at each moment.
            let (name, before) = resized.stored_as();
            if !systemd::store(name, resized.as_fd()) {
                // systemd must not store the new ring later, when it is out of date.
                systemd::forget(name);
                return Err(RingError::NotStored);
            }
            failpoint::point("ring-stored");
            state.ring = resized;
            systemd::forget(before);
            failpoint::point("ring-resized");
        }
        Ok(())
    }

    /// Identifies the ring, whose offsets begin at 0; that of a resized one is another. 0 if it cannot be queried.
    pub(crate) fn ring_id(&self) -> u32 {
        rustix::fs::fstat(self.state().ring.as_fd()).map_or(0, |found| found.st_ino as u32)
    }

    /// The input queue. It is full while the line is slower than the input.
    pub fn input(&self) -> mpsc::Sender<Input> {
        self.input.clone()
    }

    /// Has the line write these bytes, and waits until it has. `None` if the line is gone before that.
    pub(crate) async fn write(&self, bytes: Vec<u8>, pacing: Pacing, is_secret: bool) -> Option<()> {
        let (written, is_written) = oneshot::channel();
        self.input.send(Input::Paced { bytes, pacing, written, is_secret }).await.ok()?;
        is_written.await.ok()
    }

    /// The queue of requests to the line.
    pub fn control(&self) -> mpsc::Sender<Control> {
        self.control.clone()
    }

    /// Queries the line. Empty if it does not reply within a second.
    pub async fn examine(&self) -> Condition {
        let (told, condition) = oneshot::channel();
        let asked = async {
            self.control.send(Control::Examine(told)).await.ok()?;
            condition.await.ok()
        };
        tokio::time::timeout(EXAMINE_TIMEOUT, asked).await.ok().flatten().unwrap_or_default()
    }

    /// Number of times that queued input was discarded because its device was unplugged: the rest of that input must not follow, even if
    /// another device is plugged in immediately.
    pub fn torn(&self) -> u64 {
        self.torn.load(Ordering::Relaxed)
    }

    /// State of the line, and its changes.
    pub fn line(&self) -> watch::Receiver<LineState> {
        self.line.subscribe()
    }

    /// Problems of the open line: settings that its driver refused, another program that uses it; a sentence each, and their changes.
    pub fn refused(&self) -> watch::Receiver<Vec<String>> {
        self.refused.subscribe()
    }

    /// Where the output of the line begins that was opened or connected last, by this process; changes with each.
    pub fn opened(&self) -> watch::Receiver<Option<u64>> {
        self.opened.subscribe()
    }

    /// The line was opened or connected, and has sent nothing yet.
    fn has_opened(&self) {
        let (head, _) = self.traffic();
        self.opened.send_replace(Some(head));
    }

    /// Why the `initial` steps of this line have failed, and its changes.
    pub fn initial_failure(&self) -> watch::Receiver<Option<String>> {
        self.initial_failure.subscribe()
    }

    /// The `initial` steps have failed, or begin again.
    pub(crate) fn set_initial_failure(&self, why: Option<String>) {
        self.initial_failure.send_if_modified(|failure| {
            let differs = *failure != why;
            *failure = why;
            differs
        });
    }

    /// Bytes received and sent in total.
    pub fn traffic(&self) -> (u64, u64) {
        let state = self.state();
        (state.ring.head(), state.ring.sent())
    }

    /// The last `lines` lines, at most [`REPLAY_LIMIT`] bytes, and the offset after them.
    pub fn last_words(&self, lines: usize) -> (Vec<u8>, u64) {
        let ring = &self.state().ring;
        let head = ring.head();
        let from = ring.last_lines(lines).max(head.saturating_sub(REPLAY_LIMIT));
        let mut words = Vec::with_capacity((head - from) as usize);
        ring.copy_range(from, head, &mut words);
        (words, head)
    }

    pub fn log_mark(&self) -> LogMark {
        self.log_record().mark
    }

    /// Position of the log, and of the write in progress.
    pub fn log_record(&self) -> LogRecord {
        self.state().ring.log_record()
    }

    pub(crate) fn record_log(&self, change: impl FnOnce(&mut LogRecord)) {
        let ring = &mut self.state().ring;
        let mut record = ring.log_record();
        change(&mut record);
        ring.set_log_record(record);
    }

    /// Notifies the waiting tasks that more is in the log.
    pub(crate) fn log_has_moved(&self) {
        self.logged.send_replace(());
    }

    /// Changes when more is in the log.
    pub fn logged(&self) -> watch::Receiver<()> {
        self.logged.subscribe()
    }

    /// Adds a note to the log after the output that was received so far.
    pub fn note(&self, text: String) {
        self.note_that(Noted::Message(text));
    }

    /// Adds a note to the log, and the same message to the journal.
    pub(crate) fn report(&self, text: String) {
        tracing::warn!("{text}");
        self.note(text);
    }

    pub(crate) fn note_that(&self, what: Noted) {
        let mut state = self.state();
        let offset = state.ring.head();
        state.notes.push(Note { offset, at: Timestamp::now(), what });
        drop(state);
        self.heard.send_replace(());
    }

    /// The first note that is not written yet.
    pub fn next_note(&self) -> Option<Note> {
        self.state().notes.first().cloned()
    }

    /// Queues these notes again, before all others.
    pub(crate) fn note_again(&self, notes: Vec<Note>) {
        self.state().notes.again(notes);
    }

    /// Whether the ring still holds everything from `position` on.
    pub(crate) fn keeps_from(&self, position: u64) -> bool {
        self.state().ring.tail() <= position
    }

    /// Returns up to `limit` bytes before this position, as far as the ring still contains them.
    pub(crate) fn bytes_before(&self, position: u64, limit: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.state().ring.copy_range(position.saturating_sub(limit as u64), position, &mut bytes);
        bytes
    }

    /// Removes `note` from the queue, if it is still the first.
    pub fn note_written(&self, note: &Note) {
        self.state().notes.written(note);
    }
}
