//! The channels of one connection. Each is a session of its own, and they are bounded: each costs memory, and all but the first a seat.
//! Each is granted window by itself: while one waits for its line, the others go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use russh::server::{Handle, Msg};
use russh::{Channel, ChannelId, ChannelWriteHalf};
use thiserror::Error;
use tokio::sync::watch;

use crate::auth::protocol::{Term, WindowSize};
use crate::seats::{Full, Seat};
use crate::session::{Event, Feeder, Typed, typed_by_grants};

/// Channels of one connection at once (`MaxSessions`, `man sshd_config`).
const MAX_SESSIONS: usize = 10;
/// Channels of one connection altogether: russh keeps 3 KiB of each that it has closed (0.65: `Session::channels`). A client that keeps
/// its connection for more commands makes another one.
const MAX_SESSIONS_IN_TURN: usize = 1000;

/// Why there is no further channel.
#[derive(Debug, Error)]
pub(super) enum NoChannel {
    /// Enough are open.
    #[error("a connection has {MAX_SESSIONS} sessions at once at most")]
    TooMany,
    /// Enough have been.
    #[error("a connection has {MAX_SESSIONS_IN_TURN} sessions at most, one after the other; log in again")]
    Worn,
    /// No seat.
    #[error(transparent)]
    Full(#[from] Full),
}

/// The open channels of a connection.
#[derive(Debug, Clone, Default)]
pub struct Channels(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    channels: HashMap<ChannelId, Line>,
    ever: usize,
    /// The seats of all but one: that one has the connection's.
    seats: Vec<Seat>,
}

/// One of them.
#[derive(Debug)]
struct Line {
    feeder: Feeder,
    /// What its session needs, until that begins.
    ready: Option<Ready>,
    size: watch::Sender<WindowSize>,
}

/// What a session needs of its channel.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) typed: Typed,
    pub(super) out: ChannelWriteHalf<Msg>,
    /// The type and the size of its terminal, if it has one.
    pub(super) terminal: Option<(Term, watch::Receiver<WindowSize>)>,
}

impl Channels {
    /// Takes a channel that a client wants to open; `seat` is for one more than the connection has a seat for.
    pub(super) fn open(
        &self,
        channel: Channel<Msg>,
        handle: Handle,
        seat: impl FnOnce() -> Result<Seat, Full>,
    ) -> Result<(), NoChannel> {
        let mut open = self.lock();
        if open.channels.len() >= MAX_SESSIONS {
            return Err(NoChannel::TooMany);
        }
        if open.ever >= MAX_SESSIONS_IN_TURN {
            return Err(NoChannel::Worn);
        }
        if !open.channels.is_empty() {
            let seat = seat()?;
            open.seats.push(seat);
        }
        open.ever += 1;
        let id = channel.id();
        let (feeder, typed) = typed_by_grants(move |bytes| {
            // An error means that the connection has ended.
            let _ = handle.grant_window(id, u32::try_from(bytes).unwrap_or(u32::MAX));
        });
        // What is read comes by callbacks.
        let (_, out) = channel.split();
        let ready = Ready { typed, out, terminal: None };
        open.channels.insert(id, Line { feeder, ready: Some(ready), size: watch::Sender::default() });
        Ok(())
    }

    /// Its client wants a terminal of this type.
    pub(super) fn set_terminal(&self, id: ChannelId, term: Term, size: WindowSize) {
        if let Some(line) = self.lock().channels.get_mut(&id) {
            line.size.send_replace(size);
            if let Some(ready) = &mut line.ready {
                ready.terminal = Some((term, line.size.subscribe()));
            }
        }
    }

    /// Its client's terminal has another size now.
    pub(super) fn resize(&self, id: ChannelId, size: WindowSize) {
        if let Some(line) = self.lock().channels.get(&id) {
            line.size.send_replace(size);
        }
    }

    /// What its session needs, once.
    pub(super) fn begin(&self, id: ChannelId) -> Option<Ready> {
        self.lock().channels.get_mut(&id)?.ready.take()
    }

    /// Its client wants a break; false if that has no session, or too much waits there.
    pub(super) fn send_break(&self, id: ChannelId) -> bool {
        let open = self.lock();
        let line = open.channels.get(&id).filter(|line| line.ready.is_none());
        line.is_some_and(|line| line.feeder.feed(Event::Break))
    }

    /// Its client has done something.
    pub(super) fn feed(&self, id: ChannelId, event: Event) {
        if let Some(line) = self.lock().channels.get(&id) {
            line.feeder.feed(event);
        }
    }

    /// It is closed, from either side. Its session ends, if it has not.
    pub(super) fn close(&self, id: ChannelId) {
        let mut open = self.lock();
        open.channels.remove(&id);
        let more = open.channels.len().saturating_sub(1);
        open.seats.truncate(more);
    }

    /// The connection has ended.
    pub(super) fn close_all(&self) {
        let mut open = self.lock();
        open.channels.clear();
        open.seats.clear();
    }

    /// Whether it may have no more channels, and has none.
    pub(super) fn is_worn(&self) -> bool {
        let open = self.lock();
        open.ever >= MAX_SESSIONS_IN_TURN && open.channels.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
