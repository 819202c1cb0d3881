//! How many may come at once. A connection that has not logged in costs memory and a helper process; beyond these limits a
//! new one is closed at once, so that neither one address nor all together can keep an administrator out for
//! longer than the grace time. One that has logged in costs memory for as long as it stays.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// From connection to login (`LoginGraceTime`, `man sshd_config`): long enough to fetch a second factor. And from there to the
/// session, which any client begins at once.
const GRACE: Duration = Duration::from_secs(60);
/// Unauthenticated connections of one port.
const PER_PORT: usize = 40;
/// Of those, from one address (an IPv6 /64 is one).
const PER_SOURCE: usize = 10;
/// Connections of one port that have logged in: more people than ever watched one console.
pub const LOGGED_IN: usize = 64;
/// Between two lines in the journal about connections that were closed: a stranger could fill it otherwise.
pub const NEWS: Duration = Duration::from_secs(60);

/// The connections of a port.
#[derive(Debug)]
pub struct Limits {
    /// From connection to login, and from there to the session.
    pub grace: Duration,
    waiting: Mutex<HashMap<IpAddr, usize>>,
    logged_in: Mutex<usize>,
    told: Mutex<Option<Instant>>,
}

/// A place among those who have not logged in, given back when dropped.
#[derive(Debug)]
pub struct Ticket {
    limits: Arc<Limits>,
    source: IpAddr,
}

/// A place among those who have, given back when dropped.
#[derive(Debug)]
pub struct Seat(Arc<Limits>);

impl Ticket {
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
        Self { grace, waiting: Mutex::default(), logged_in: Mutex::default(), told: Mutex::default() }
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

    /// A place for a connection from `peer`; `None` when there is none.
    pub fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Ticket> {
        let source = source_of(peer);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.values().sum::<usize>() >= PER_PORT {
            return None;
        }
        let from_here = waiting.entry(source).or_default();
        if *from_here >= PER_SOURCE {
            return None;
        }
        *from_here += 1;
        Some(Ticket { limits: self.clone(), source })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut waiting = self.limits.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.source);
            }
        }
    }
}

fn source_of(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) if address.is_loopback() => peer,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_cannot_take_every_place() {
        let limits = Arc::new(Limits::default());
        let near: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::ffff".parse().unwrap();
        let far: IpAddr = "192.0.2.7".parse().unwrap();
        let mut tickets: Vec<_> = (0..PER_SOURCE).map(|_| limits.admit(near).unwrap()).collect();
        assert!(limits.admit(neighbour).is_none(), "the same /64");
        assert!(limits.admit(far).is_some());
        tickets.pop();
        assert!(limits.admit(neighbour).is_some());
    }

    #[test]
    fn all_sources_together_are_bounded_and_nothing_stays_behind() {
        let limits = Arc::new(Limits::default());
        let tickets: Vec<_> = (0..100u8).filter_map(|host| limits.admit([192, 0, 2, host].into())).collect();
        assert_eq!(tickets.len(), PER_PORT);
        drop(tickets);
        assert!(limits.waiting.lock().unwrap().is_empty());
    }

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
