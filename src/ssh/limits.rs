//! Limits on the number and duration of connections. A connection that is not authenticated holds a [slot](super::admission)
//! for the login grace time; an authenticated one costs memory for as long as it stays.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::admission::{Slot, Slots};
use crate::seats::Seats;

/// From connection to login (`LoginGraceTime`, `man sshd_config`): long enough to fetch a second factor. And from there to the
/// session, which any client begins at once.
const LOGIN_GRACE_TIME: Duration = Duration::from_secs(60);
/// Between two lines in the journal about connections that were closed: a stranger could fill it otherwise.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The connections of a port.
#[derive(Debug)]
pub struct Limits {
    /// From connection to login, and from there to the session.
    pub grace: Duration,
    slots: Slots,
    seats: Arc<Seats>,
    told: Mutex<Option<Instant>>,
}

/// A place among those who have not logged in, given back when dropped.
#[derive(Debug)]
pub struct Ticket {
    limits: Arc<Limits>,
    slot: Arc<Slot>,
}

/// Where a place's connection waits until it may ask who somebody is.
#[derive(Debug)]
pub struct Queue {
    limits: Arc<Limits>,
    slot: Arc<Slot>,
}

impl Queue {
    /// Waits for its turn; false if that does not come.
    pub async fn turn(&self) -> bool {
        self.limits.slots.turn(&self.slot).await
    }

    /// See [`Limits::is_news`].
    pub fn is_news(&self) -> bool {
        self.limits.is_news(Instant::now())
    }
}

impl Ticket {
    /// Which place it is.
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    /// Where it waits for its turn.
    pub fn queue(&self) -> Queue {
        Queue { limits: self.limits.clone(), slot: self.slot.clone() }
    }

    /// Where those sit who have logged in.
    pub fn seats(&self) -> Arc<Seats> {
        self.limits.seats.clone()
    }

    /// Somebody has, in this place.
    pub fn has_logged_in(&self) {
        self.limits.slots.logs_in(&self.slot, Instant::now());
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::with_grace(LOGIN_GRACE_TIME)
    }
}

impl Limits {
    /// Limits with another time from connection to login than [`LOGIN_GRACE_TIME`].
    pub fn with_grace(grace: Duration) -> Self {
        Self { grace, slots: Slots::default(), seats: Arc::default(), told: Mutex::default() }
    }

    /// Whether the journal is to be told of a connection closed at `now`.
    pub fn is_news(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let news = told.is_none_or(|told| now.duration_since(told) >= REPORT_INTERVAL);
        if news {
            *told = Some(now);
        }
        news
    }

    /// Whether a crowd of strangers has left, with nobody of it waiting any more; said once.
    pub fn crowd_has_left(&self) -> bool {
        self.slots.crowd_has_left()
    }

    /// A place for a connection from `peer`; `None` when there is none to be had.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Ticket> {
        let slot = self.slots.take(peer, Instant::now())?;
        Some(Ticket { limits: self.clone(), slot })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.limits.slots.give_back(&self.slot, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_told_of_refusals_once_a_minute() {
        let limits = Limits::default();
        let now = Instant::now();
        assert!(limits.is_news(now));
        assert!(!limits.is_news(now), "the same burst");
        assert!(!limits.is_news(now + REPORT_INTERVAL / 2));
        assert!(limits.is_news(now + REPORT_INTERVAL));
    }
}
