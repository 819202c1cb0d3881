//! The hub: the one owner of a port. [`line`] reads the device into the ring and writes to it what the one writing session
//! types; everybody else, sessions and the log writer, holds a [`Cursor`] and pulls. Nobody who pulls can slow
//! the port: the hub waits for a cursor only while that one keeps moving ([`backpressure`]).

mod backpressure;
mod breaks;
mod coalesce;
mod control;
mod cursor;
mod device;
mod identity;
pub mod line;
mod notes;
mod quality;
mod sharing;
mod wake;
mod writing;

use std::fmt;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::port::{LineSettings, Pacing};
use crate::ring::{LogMark, LogRecord, Ring, RingError};
use crate::system::clock::clock;
use crate::system::failpoint;
use crate::system::systemd;

use backpressure::Cursors;
pub use breaks::{Awaited, BREAK_EVENTS, BreakEvent};
pub use control::{Condition, Control};
pub use cursor::{Cursor, Pulled};
use notes::Notes;

/// Messages of input on their way to the device. Few and small: what a session has handed over cannot be taken back,
/// and the rest waits with the session, where a leaving user can leave it.
const INPUT_QUEUE: usize = 4;

/// Bytes that are shown again at once: some pages of a terminal. A device that sends no line ends has no last line.
const WORDS: u64 = 64 * 1024;

/// For a line to say how it is.
const EXAMINE_TIMEOUT: Duration = Duration::from_secs(1);

/// Milliseconds of a break, if nothing is said: nothing shorter is seen by all devices, and few need more.
pub const DEFAULT_BREAK_MS: u32 = 500;
/// Milliseconds that may be said.
pub const BREAK_MS_RANGE: RangeInclusive<u32> = 1..=10_000;

/// What a session wants the device to get, in order.
#[derive(Debug)]
pub enum Input {
    /// Bytes, as typed.
    Bytes(Vec<u8>),
    /// Bytes with pauses after them. The sender hands over the next ones only once these are `written`, so that little
    /// of a slow paste is on its way when a user leaves or another one takes over.
    Paced {
        /// The bytes.
        bytes: Vec<u8>,
        /// The pauses.
        pacing: Pacing,
        /// Told when the last byte is written; dropped if it never is.
        written: oneshot::Sender<()>,
    },
    /// A break condition.
    Break {
        /// So long.
        length: Duration,
        /// Who wants it.
        user: String,
        /// [`Hub::break_of`] makes it.
        awaited: Awaited,
    },
    /// Nothing: told once the line has taken all that was wanted before. Dropped if it has not, because its device has gone or a
    /// break had to get through.
    Mark(oneshot::Sender<()>),
}

impl Input {
    /// Drops it without a report: its session may not write, and has been told that.
    pub fn dismiss(self) {
        if let Self::Break { mut awaited, .. } = self {
            awaited.needs_no_report();
        }
    }
}

/// How the device is.
#[derive(Debug, Clone, PartialEq)]
pub enum LineState {
    /// Nothing was tried yet.
    Starting,
    /// Open, set as said.
    Open(LineSettings),
    /// Not there, since.
    Away(Timestamp),
    /// There, but not to be opened: why.
    Failed(String),
    /// There, and another port's: why.
    NotOurs(String),
}

impl fmt::Display for LineState {
    /// A word, or the reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("starting"),
            Self::Open(_) => f.write_str("open"),
            Self::Away(since) => write!(f, "unplugged since {}", clock(*since)),
            Self::Failed(why) => f.write_str(why),
            Self::NotOurs(why) => write!(f, "idle: {why}"),
        }
    }
}

/// Something that the log should say at this place.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// Ring offset before which it stands.
    pub offset: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub what: Noted,
}

/// What a note says.
#[derive(Debug, Clone, PartialEq)]
pub enum Noted {
    /// Words of ours.
    Said(String),
    /// What the device was sent.
    Typed(Vec<u8>),
    /// Notes that could not wait any longer.
    Lost {
        /// How many.
        notes: u64,
        /// Typed bytes in them.
        typed: u64,
    },
}

/// The shared side of a port. One thread uses it; the mutex is there because russh wants its handlers to be `Send`,
/// and is never held across an await.
#[derive(Debug)]
pub struct Hub {
    state: Mutex<State>,
    /// Ticks when there is more to pull, or a note.
    heard: watch::Sender<()>,
    /// Ticks when the log has taken more.
    logged: watch::Sender<()>,
    /// A cursor has moved while the hub waits for it.
    room: Notify,
    line: watch::Sender<LineState>,
    /// What the driver has refused of the settings in force, a sentence each.
    refused: watch::Sender<Vec<String>>,
    input: mpsc::Sender<Input>,
    control: mpsc::Sender<Control>,
    /// How many breaks wait for the line.
    breaks: watch::Sender<usize>,
    /// How often input that was on its way to the device was thrown away.
    torn: AtomicU64,
}

/// What the line takes from the hub.
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
    /// A hub over this ring, and what [`line::run`] takes from.
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
            breaks: watch::Sender::new(0),
            torn: AtomicU64::new(0),
        };
        (Arc::new(hub), Inbox { input: inputs, control: controls })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panicking session must not take the port with it; every update under the lock is whole at each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the ring another capacity, if it has not that one already. Whoever is behind what a smaller one holds is moved
    /// forward, as ever.
    pub fn resize(&self, capacity: usize) -> Result<(), RingError> {
        let mut state = self.state();
        if state.ring.capacity() != capacity {
            let resized = state.ring.resized(capacity)?;
            // The next process goes on with the later of two, so there is no moment without a whole one.
            let (name, before) = resized.stored_as();
            if !systemd::store(name, resized.as_fd()) {
                // It would be stored later, when it is out of date.
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

    /// Where input goes. Full means that the line is slower than what is typed.
    pub fn input(&self) -> mpsc::Sender<Input> {
        self.input.clone()
    }

    /// Where wishes for the line go.
    pub fn control(&self) -> mpsc::Sender<Control> {
        self.control.clone()
    }

    /// How the line is. A line that has not answered within a second is one of which nothing is known.
    pub async fn examine(&self) -> Condition {
        let (told, condition) = oneshot::channel();
        let asked = async {
            self.control.send(Control::Examine(told)).await.ok()?;
            condition.await.ok()
        };
        tokio::time::timeout(EXAMINE_TIMEOUT, asked).await.ok().flatten().unwrap_or_default()
    }

    /// How often input that was on its way was thrown away, because its device had gone: what belongs to it must not follow, even if
    /// another device is there at once.
    pub fn torn(&self) -> u64 {
        self.torn.load(Ordering::Relaxed)
    }

    /// How the device is, and whenever that changes.
    pub fn line(&self) -> watch::Receiver<LineState> {
        self.line.subscribe()
    }

    /// What is wrong with the open line: settings that its driver refused, another program that uses it; a sentence each, and whenever
    /// that changes.
    pub fn refused(&self) -> watch::Receiver<Vec<String>> {
        self.refused.subscribe()
    }

    /// Bytes ever received and sent.
    pub fn traffic(&self) -> (u64, u64) {
        let state = self.state();
        (state.ring.head(), state.ring.sent())
    }

    /// The last `lines` lines, but not more than [`WORDS`] bytes of them, and the offset behind them.
    pub fn last_words(&self, lines: usize) -> (Vec<u8>, u64) {
        let ring = &self.state().ring;
        let head = ring.head();
        let mut at = ring.last_lines(lines).max(head.saturating_sub(WORDS));
        let mut words = Vec::with_capacity((head - at) as usize);
        while at < head {
            let piece = ring.read(at);
            words.extend_from_slice(piece);
            at += piece.len() as u64;
        }
        (words, head)
    }

    /// How far the log has come.
    pub fn log_mark(&self) -> LogMark {
        self.log_record().mark
    }

    /// How far the log has come, and what it was about to write.
    pub fn log_record(&self) -> LogRecord {
        self.state().ring.log_record()
    }

    /// Changes that.
    pub(crate) fn record_log(&self, change: impl FnOnce(&mut LogRecord)) {
        let ring = &mut self.state().ring;
        let mut record = ring.log_record();
        change(&mut record);
        ring.set_log_record(record);
    }

    /// Tells who waits for the log that it has taken more.
    pub(crate) fn log_has_moved(&self) {
        self.logged.send_replace(());
    }

    /// Ticks when the log has taken more.
    pub fn logged(&self) -> watch::Receiver<()> {
        self.logged.subscribe()
    }

    /// Has the log say something after all that was received so far.
    pub fn note(&self, text: String) {
        self.note_that(Noted::Said(text));
    }

    pub(crate) fn note_that(&self, what: Noted) {
        let mut state = self.state();
        let offset = state.ring.head();
        state.notes.push(Note { offset, at: Timestamp::now(), what });
        drop(state);
        self.heard.send_replace(());
    }

    /// The first note that is still to be written.
    pub fn next_note(&self) -> Option<Note> {
        self.state().notes.first().cloned()
    }

    /// Has these be written again, before all others.
    pub(crate) fn note_again(&self, notes: Vec<Note>) {
        self.state().notes.again(notes);
    }

    /// Whether the ring has all that was said since.
    pub(crate) fn keeps_from(&self, position: u64) -> bool {
        self.state().ring.tail() <= position
    }

    /// Takes `note` off the queue, if it is still the first.
    pub fn note_written(&self, note: &Note) {
        self.state().notes.written(note);
    }
}
