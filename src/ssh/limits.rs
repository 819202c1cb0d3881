//! How many may come at once, and for how long. One that has not logged in has a [place](super::places) for the grace time;
//! one that has costs memory for as long as it stays.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::places::{Place, Places};

/// From connection to login (`LoginGraceTime`, `man sshd_config`): long enough to fetch a second factor. And from there to the
/// session, which any client begins at once.
const GRACE: Duration = Duration::from_secs(60);
/// Connections of one port that have logged in: more people than ever watched one console.
pub const LOGGED_IN: usize = 64;
/// Between two lines in the journal about connections that were closed: a stranger could fill it otherwise.
pub const NEWS: Duration = Duration::from_secs(60);

/// The connections of a port.
#[derive(Debug)]
pub struct Limits {
    /// From connection to login, and from there to the session.
    pub grace: Duration,
    places: Places,
    logged_in: Mutex<usize>,
    told: Mutex<Option<Instant>>,
}

/// A place among those who have not logged in, given back when dropped.
#[derive(Debug)]
pub struct Ticket {
    limits: Arc<Limits>,
    place: Arc<Place>,
}

/// Where a place's connection waits until it may ask who somebody is.
#[derive(Debug)]
pub struct Queue {
    limits: Arc<Limits>,
    place: Arc<Place>,
}

impl Queue {
    /// Waits for its turn; false if that does not come.
    pub async fn turn(&self) -> bool {
        self.limits.places.turn(&self.place).await
    }

    /// See [`Limits::is_news`].
    pub fn is_news(&self) -> bool {
        self.limits.is_news(Instant::now())
    }
}

/// A place among those who have, given back when dropped.
#[derive(Debug)]
pub struct Seat(Arc<Limits>);

impl Ticket {
    /// Which place it is.
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// Where it waits for its turn.
    pub fn queue(&self) -> Queue {
        Queue { limits: self.limits.clone(), place: self.place.clone() }
    }

    /// A place among those who have logged in; `None` when there is none.
    pub fn seat(&self) -> Option<Seat> {
        let mut taken = self.limits.logged_in.lock().unwrap_or_else(PoisonError::into_inner);
        if *taken >= LOGGED_IN {
            return None;
        }
        *taken += 1;
        Some(Seat(self.limits.clone()))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        *self.0.logged_in.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::with_grace(GRACE)
    }
}

impl Limits {
    /// Limits with another time from connection to login than [`GRACE`].
    pub fn with_grace(grace: Duration) -> Self {
        Self { grace, places: Places::default(), logged_in: Mutex::default(), told: Mutex::default() }
    }

    /// Whether the journal is to be told of a connection closed at `now`.
    pub fn is_news(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let news = told.is_none_or(|told| now.duration_since(told) >= NEWS);
        if news {
            *told = Some(now);
        }
        news
    }

    /// Whether a crowd of strangers has left, with nobody of it waiting any more; said once.
    pub fn crowd_has_left(&self) -> bool {
        self.places.crowd_has_left()
    }

    /// A place for a connection from `peer`; `None` when there is none to be had.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Ticket> {
        let place = self.places.take(peer, Instant::now())?;
        Some(Ticket { limits: self.clone(), place })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.limits.places.give_back(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_have_logged_in_are_bounded_and_leave_their_seats() {
        let limits = Arc::new(Limits::default());
        let ticket = limits.admit([192, 0, 2, 1].into()).unwrap();
        let mut seats: Vec<_> = (0..LOGGED_IN).map(|_| ticket.seat().unwrap()).collect();
        assert!(ticket.seat().is_none());
        seats.pop();
        assert!(ticket.seat().is_some());
    }

    #[test]
    fn the_journal_is_told_of_refusals_once_a_minute() {
        let limits = Limits::default();
        let now = Instant::now();
        assert!(limits.is_news(now));
        assert!(!limits.is_news(now), "the same burst");
        assert!(!limits.is_news(now + NEWS / 2));
        assert!(limits.is_news(now + NEWS));
    }
}
