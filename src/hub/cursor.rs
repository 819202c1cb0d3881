//! A cursor: the position of a reader in the ring. Its owner pulls; nothing is pushed.

use std::sync::Arc;

use tokio::sync::watch;

use super::Hub;
use super::backpressure::Puller;

/// The position of a reader in the ring.
#[derive(Debug)]
pub struct Cursor {
    hub: Arc<Hub>,
    slot: usize,
    heard: watch::Receiver<()>,
}

#[derive(Debug, PartialEq)]
pub enum Pulled {
    Bytes(Vec<u8>),
    /// The reader had fallen behind by more than the ring holds, and skipped this many bytes.
    Skipped(u64),
}

impl Hub {
    pub fn session_cursor(self: &Arc<Self>, position: u64) -> Cursor {
        self.cursor(Puller::Session, position)
    }

    /// The cursor of a session, at the end of the output so far.
    pub fn cursor_from_now(self: &Arc<Self>) -> Cursor {
        let (head, _) = self.traffic();
        self.session_cursor(head)
    }

    pub fn trigger_cursor(self: &Arc<Self>, position: u64) -> Cursor {
        self.cursor(Puller::Triggers, position)
    }

    /// The cursor of the log writer, at the position of the log.
    pub fn log_cursor(self: &Arc<Self>) -> Cursor {
        let position = self.log_mark().position;
        self.cursor(Puller::Log, position)
    }

    fn cursor(self: &Arc<Self>, puller: Puller, position: u64) -> Cursor {
        let mut heard = self.heard.subscribe();
        heard.mark_changed();
        let slot = self.state().cursors.insert(puller, position);
        Cursor { hub: self.clone(), slot, heard }
    }
}

impl Cursor {
    pub fn position(&self) -> u64 {
        self.hub.state().cursors.position(self.slot)
    }

    /// Waits for bytes and returns up to `most` of them, copied out of the ring. Cancel safe.
    pub async fn pull(&mut self, most: usize) -> Pulled {
        loop {
            self.heard.borrow_and_update();
            if let Some(pulled) = self.pull_now(most) {
                return pulled;
            }
            self.heard_more().await;
        }
    }

    fn pull_now(&mut self, most: usize) -> Option<Pulled> {
        let mut state = self.hub.state();
        let position = state.cursors.position(self.slot);
        let (tail, head, window) = (state.ring.tail(), state.ring.head(), state.ring.window() as u64);
        let pulled = if position < tail {
            // To the middle of the ring: at the tail it would be overrun again immediately.
            Pulled::Skipped(head.saturating_sub(window / 2).max(tail) - position)
        } else {
            let piece = state.ring.read(position);
            if piece.is_empty() {
                return None;
            }
            Pulled::Bytes(piece[..piece.len().min(most)].to_vec())
        };
        let onward = match &pulled {
            Pulled::Bytes(bytes) => bytes.len() as u64,
            Pulled::Skipped(count) => *count,
        };
        if state.cursors.advance(self.slot, position + onward, head, window) {
            self.hub.room.notify_one();
        }
        Some(pulled)
    }

    /// Waits until there is output or a note that came after the last [`Cursor::peek`]. Cancel safe.
    pub async fn heard_more(&mut self) {
        // The sender lives in the hub that we hold.
        let _ = self.heard.changed().await;
    }

    /// Copies up to `most` bytes from the cursor on into `bytes`, without moving it. Returns how many bytes between the cursor and the
    /// first byte copied were overwritten.
    pub fn peek(&mut self, bytes: &mut Vec<u8>, most: usize) -> u64 {
        self.heard.borrow_and_update();
        bytes.clear();
        let state = self.hub.state();
        let position = state.cursors.position(self.slot);
        let start = position.max(state.ring.tail());
        state.ring.copy_range(start, start.saturating_add(most as u64), bytes);
        start - position
    }

    pub fn is_a_quarter_behind(&self) -> bool {
        let state = self.hub.state();
        let waiting = state.ring.head() - state.cursors.position(self.slot);
        waiting >= state.ring.window() as u64 / 4
    }

    /// How many bytes after the cursor were overwritten.
    pub fn overrun(&self) -> u64 {
        let state = self.hub.state();
        state.ring.tail().saturating_sub(state.cursors.position(self.slot))
    }

    pub fn move_to(&mut self, position: u64) {
        let mut state = self.hub.state();
        let (head, window) = (state.ring.head(), state.ring.window() as u64);
        if state.cursors.advance(self.slot, position, head, window) {
            self.hub.room.notify_one();
        }
    }

    /// The reader cannot read at present: the hub does not wait for it until it has caught up.
    pub fn give_up(&self) {
        self.hub.state().cursors.give_up(self.slot);
        self.hub.room.notify_one();
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.hub.state().cursors.remove(self.slot);
        // The hub may be waiting for this cursor.
        self.hub.room.notify_one();
    }
}
