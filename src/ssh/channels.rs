//! The channels of one connection. Each is a session, and their number is limited: each costs memory, and all but the first a seat. Each
//! has its own window: one that waits for the device does not block the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use russh::server::{Handle, Msg};
use russh::{Channel, ChannelId, ChannelWriteHalf};
use thiserror::Error;
use tokio::sync::watch;

use crate::auth::protocol::{Term, WindowSize};
use crate::seats::{Full, Seat};
use crate::session::{Event, Feeder, QueuedInput, input_queue_by_grants};
use crate::system::lock::Lock;

/// Channels of one connection at once (`MaxSessions`, `man sshd_config`).
const MAX_SESSIONS: usize = 10;
/// Channels of one connection in total: russh keeps 3 KiB of each closed one (0.65: `Session::channels`). A client that runs more commands
/// needs a new connection.
const MAX_SESSIONS_TOTAL: usize = 1000;

#[derive(Debug, Error)]
pub(super) enum ChannelRejected {
    #[error("at most {MAX_SESSIONS} sessions at once per connection")]
    TooMany,
    #[error("at most {MAX_SESSIONS_TOTAL} sessions in total per connection; log in again")]
    UsedUp,
    #[error(transparent)]
    Full(#[from] Full),
}

#[derive(Debug, Clone, Default)]
pub struct Channels(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    channels: HashMap<ChannelId, ChannelState>,
    ever: usize,
    /// Seats of all sessions but the first, which uses the seat of the connection.
    seats: Vec<Seat>,
}

#[derive(Debug)]
struct ChannelState {
    feeder: Feeder,
    /// The parts for its session, until that starts.
    parts: Option<SessionParts>,
    size: watch::Sender<WindowSize>,
}

#[derive(Debug)]
pub(super) struct SessionParts {
    pub(super) typed: QueuedInput,
    pub(super) out: ChannelWriteHalf<Msg>,
    /// The type and the size of its terminal, if it has one.
    pub(super) terminal: Option<(Term, watch::Receiver<WindowSize>)>,
}

impl Channels {
    /// Opens a channel; `seat` takes a seat for all but the first one.
    pub(super) fn open(
        &self,
        channel: Channel<Msg>,
        handle: Handle,
        seat: impl FnOnce() -> Result<Seat, Full>,
    ) -> Result<(), ChannelRejected> {
        let mut open = self.0.locked();
        if open.channels.len() >= MAX_SESSIONS {
            return Err(ChannelRejected::TooMany);
        }
        if open.ever >= MAX_SESSIONS_TOTAL {
            return Err(ChannelRejected::UsedUp);
        }
        if !open.channels.is_empty() {
            let seat = seat()?;
            open.seats.push(seat);
        }
        open.ever += 1;
        let id = channel.id();
        let (feeder, typed) = input_queue_by_grants(move |bytes| {
            // Fails if the connection has ended.
            let _ = handle.grant_window(id, u32::try_from(bytes).unwrap_or(u32::MAX));
        });
        // Input arrives by callbacks.
        let (_, out) = channel.split();
        let ready = SessionParts { typed, out, terminal: None };
        open.channels.insert(id, ChannelState { feeder, parts: Some(ready), size: watch::Sender::default() });
        Ok(())
    }

    /// The client has requested a terminal.
    pub(super) fn set_terminal(&self, id: ChannelId, term: Term, size: WindowSize) {
        if let Some(line) = self.0.locked().channels.get_mut(&id) {
            line.size.send_replace(size);
            if let Some(ready) = &mut line.parts {
                ready.terminal = Some((term, line.size.subscribe()));
            }
        }
    }

    /// The size of the client's terminal has changed.
    pub(super) fn resize(&self, id: ChannelId, size: WindowSize) {
        if let Some(line) = self.0.locked().channels.get(&id) {
            line.size.send_replace(size);
        }
    }

    /// The parts for its session, once.
    pub(super) fn begin(&self, id: ChannelId) -> Option<SessionParts> {
        self.0.locked().channels.get_mut(&id)?.parts.take()
    }

    /// Queues a break; false if there is no session, or its queue is full.
    pub(super) fn send_break(&self, id: ChannelId) -> bool {
        let open = self.0.locked();
        let line = open.channels.get(&id).filter(|line| line.parts.is_none());
        line.is_some_and(|line| line.feeder.feed(Event::Break))
    }

    pub(super) fn feed(&self, id: ChannelId, event: Event) {
        if let Some(line) = self.0.locked().channels.get(&id) {
            line.feeder.feed(event);
        }
    }

    /// Closes a channel, from either side. Its session ends.
    pub(super) fn close(&self, id: ChannelId) {
        let mut open = self.0.locked();
        open.channels.remove(&id);
        let more = open.channels.len().saturating_sub(1);
        open.seats.truncate(more);
    }

    /// Closes all channels at the end of the connection.
    pub(super) fn close_all(&self) {
        let mut open = self.0.locked();
        open.channels.clear();
        open.seats.clear();
    }

    /// Whether no more channels are allowed, and none is open.
    pub(super) fn is_used_up(&self) -> bool {
        let open = self.0.locked();
        open.ever >= MAX_SESSIONS_TOTAL && open.channels.is_empty()
    }
}
