//! Recent successful and failed logins by source address: like OpenSSH's `PerSourcePenalties`, and its opposite.
//! One address may be a password guesser, or a bastion host with twenty users.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A successful login makes an address known for this long: longer than a meeting.
const KNOWN_FOR: Duration = Duration::from_secs(2 * 60 * 60);
/// Failures count until this long after the last one.
const SUSPECT_FOR: Duration = Duration::from_secs(10 * 60);
/// Failed logins since the last successful one that make an address suspect: as many as may be in progress at once.
const MAX_FAILURES: u32 = super::admission::MAX_LOGINS_PER_SOURCE as u32;
/// Addresses that are remembered; the least recently seen are forgotten first.
const MAX_SOURCES: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Reputations(HashMap<IpAddr, Reputation>);

#[derive(Debug)]
struct Reputation {
    last_seen: Instant,
    logged_in: Option<Instant>,
    failures: u32,
}

impl Reputations {
    pub(super) fn succeeds(&mut self, source: IpAddr, now: Instant) {
        let standing = self.of(source, now);
        standing.logged_in = Some(now);
        standing.last_seen = now;
        standing.failures = 0;
    }

    /// Records a login that was begun and failed.
    pub(super) fn fails(&mut self, source: IpAddr, now: Instant) {
        let standing = self.of(source, now);
        if now.duration_since(standing.last_seen) >= SUSPECT_FOR {
            standing.failures = 0;
        }
        standing.failures = standing.failures.saturating_add(1);
        standing.last_seen = now;
    }

    /// Whether there was a successful login recently.
    pub(super) fn is_known(&self, source: IpAddr, now: Instant) -> bool {
        let logged_in = self.0.get(&source).and_then(|standing| standing.logged_in);
        logged_in.is_some_and(|since| now.duration_since(since) < KNOWN_FOR)
    }

    /// Whether too many logins failed.
    pub(super) fn is_suspect(&self, source: IpAddr, now: Instant) -> bool {
        self.0.get(&source).is_some_and(|standing| {
            standing.failures >= MAX_FAILURES && now.duration_since(standing.last_seen) < SUSPECT_FOR
        })
    }

    fn of(&mut self, source: IpAddr, now: Instant) -> &mut Reputation {
        if self.0.len() >= MAX_SOURCES && !self.0.contains_key(&source) {
            let oldest =
                self.0.iter().min_by_key(|(_, standing)| standing.last_seen).map(|(source, _)| *source);
            oldest.map(|source| self.0.remove(&source));
        }
        let new = || Reputation { last_seen: now, logged_in: None, failures: 0 };
        self.0.entry(source).or_insert_with(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn an_address_is_suspect_until_a_successful_login_or_a_timeout() {
        let (mut standings, now) = (Reputations::default(), Instant::now());
        for _ in 0..MAX_FAILURES {
            assert!(!standings.is_suspect(HERE, now));
            standings.fails(HERE, now);
        }
        assert!(standings.is_suspect(HERE, now) && !standings.is_known(HERE, now));
        assert!(!standings.is_suspect(HERE, now + SUSPECT_FOR));
        standings.succeeds(HERE, now);
        assert!(!standings.is_suspect(HERE, now) && standings.is_known(HERE, now));
        assert!(!standings.is_known(HERE, now + KNOWN_FOR));
        standings.fails(HERE, now + SUSPECT_FOR);
        assert!(!standings.is_suspect(HERE, now + SUSPECT_FOR));
    }

    #[test]
    fn the_number_of_remembered_addresses_is_bounded() {
        let (mut standings, now) = (Reputations::default(), Instant::now());
        for number in 0..2 * MAX_SOURCES as u32 {
            standings.fails(IpAddr::V4(number.into()), now + Duration::from_secs(number.into()));
        }
        assert_eq!(standings.0.len(), MAX_SOURCES);
        assert!(standings.0.contains_key(&IpAddr::V4((2 * MAX_SOURCES as u32 - 1).into())));
    }
}
