//! How many may knock at once. A connection that has not logged in costs memory and a helper process; beyond these limits a
//! new one is closed at once, so that neither one address nor all together can keep an administrator out for
//! longer than the grace time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// From connection to login (`LoginGraceTime`, `man sshd_config`): long enough to fetch a second factor.
const GRACE: Duration = Duration::from_secs(60);
/// Unauthenticated connections of one port.
const PER_PORT: usize = 40;
/// Of those, from one address (an IPv6 /64 is one).
const PER_SOURCE: usize = 10;

/// The connections that have not logged in yet.
#[derive(Debug)]
pub struct Limits {
    /// From connection to login.
    pub grace: Duration,
    waiting: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among them, given back when dropped.
#[derive(Debug)]
pub struct Ticket {
    limits: Arc<Limits>,
    source: IpAddr,
}

impl Default for Limits {
    fn default() -> Self {
        Self::with_grace(GRACE)
    }
}

impl Limits {
    /// Limits with another time from connection to login than [`GRACE`].
    pub fn with_grace(grace: Duration) -> Self {
        Self { grace, waiting: Mutex::default() }
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
}
