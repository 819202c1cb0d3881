//! Limits on the number and duration of connections. A connection that is not authenticated holds a [slot](super::admission)
//! for the login grace time; an authenticated one costs memory for as long as it stays.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::admission::{Slot, Slots};
use crate::seats::Seats;
use crate::system::lock::Lock;

/// Time from connection to login (`LoginGraceTime`, `man sshd_config`): long enough to fetch a second factor.
const LOGIN_GRACE_TIME: Duration = Duration::from_secs(60);
/// Interval between journal messages about closed connections, which unauthenticated clients could fill the journal with.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Limits {
    /// Time from connection to login.
    pub grace: Duration,
    slots: Slots,
    seats: Arc<Seats>,
    last_report: Mutex<Option<Instant>>,
}

/// A slot among the unauthenticated connections, freed when dropped.
#[derive(Debug)]
pub struct Ticket {
    limits: Arc<Limits>,
    slot: Arc<Slot>,
}

/// The queue in which a connection waits for a login helper.
#[derive(Debug)]
pub struct Queue {
    limits: Arc<Limits>,
    slot: Arc<Slot>,
}

impl Queue {
    /// Waits for a helper; false on timeout.
    pub async fn turn(&self) -> bool {
        self.limits.slots.wait_for_helper(&self.slot).await
    }

    /// See [`Limits::should_log`].
    pub fn should_log(&self) -> bool {
        self.limits.should_log(Instant::now())
    }
}

impl Ticket {
    pub fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub fn queue(&self) -> Queue {
        Queue { limits: self.limits.clone(), slot: self.slot.clone() }
    }

    /// The seats of users who have logged in.
    pub fn seats(&self) -> Arc<Seats> {
        self.limits.seats.clone()
    }

    pub fn has_logged_in(&self) {
        self.limits.slots.logged_in(&self.slot, Instant::now());
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::with_grace(LOGIN_GRACE_TIME)
    }
}

impl Limits {
    /// Limits with another grace time.
    pub fn with_grace(grace: Duration) -> Self {
        Self { grace, slots: Slots::default(), seats: Arc::default(), last_report: Mutex::default() }
    }

    /// Whether to log a connection closed at `now`.
    pub fn should_log(&self, now: Instant) -> bool {
        let mut told = self.last_report.locked();
        let news = told.is_none_or(|told| now.duration_since(told) >= REPORT_INTERVAL);
        if news {
            *told = Some(now);
        }
        news
    }

    /// Whether a crowd of unauthenticated connections was here and all are gone; true once.
    pub fn crowd_is_gone(&self) -> bool {
        self.slots.crowd_has_left()
    }

    /// A slot for a connection from `peer`; `None` if no connection can be evicted.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Ticket> {
        let slot = self.slots.take(peer, Instant::now())?;
        Some(Ticket { limits: self.clone(), slot })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.limits.slots.release(&self.slot, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_connections_are_logged_once_a_minute() {
        let limits = Limits::default();
        let now = Instant::now();
        assert!(limits.should_log(now));
        assert!(!limits.should_log(now), "the same burst");
        assert!(!limits.should_log(now + REPORT_INTERVAL / 2));
        assert!(limits.should_log(now + REPORT_INTERVAL));
    }
}
