//! Recent successful and failed logins by source address: like OpenSSH's `PerSourcePenalties`, and its opposite.
//! One address may be a password guesser, or a bastion host with twenty users.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Somebody who has logged in from there so long ago makes an address known: a working day with its meetings.
const KNOWN_FOR: Duration = Duration::from_secs(2 * 60 * 60);
/// Failures are held against an address for so long since the last.
const SUSPECT_FOR: Duration = Duration::from_secs(10 * 60);
/// So many logins that came to nothing since the last that did: as many as may be tried at once.
const MAX_FAILURES: u32 = super::admission::MAX_LOGINS_PER_SOURCE as u32;
/// Addresses that are remembered. Of more, the ones that were heard of longest ago are forgotten.
const MAX_SOURCES: usize = 512;

/// The addresses.
#[derive(Debug, Default)]
pub(super) struct Standings(HashMap<IpAddr, Standing>);

#[derive(Debug)]
struct Standing {
    heard: Instant,
    logged_in: Option<Instant>,
    failures: u32,
}

impl Standings {
    /// Somebody has logged in from there.
    pub(super) fn succeeds(&mut self, source: IpAddr, now: Instant) {
        let standing = self.of(source, now);
        standing.logged_in = Some(now);
        standing.heard = now;
        standing.failures = 0;
    }

    /// Somebody there had begun to log in, and has not.
    pub(super) fn fails(&mut self, source: IpAddr, now: Instant) {
        let standing = self.of(source, now);
        if now.duration_since(standing.heard) >= SUSPECT_FOR {
            standing.failures = 0;
        }
        standing.failures = standing.failures.saturating_add(1);
        standing.heard = now;
    }

    /// Whether somebody has logged in from there lately.
    pub(super) fn is_known(&self, source: IpAddr, now: Instant) -> bool {
        let logged_in = self.0.get(&source).and_then(|standing| standing.logged_in);
        logged_in.is_some_and(|since| now.duration_since(since) < KNOWN_FOR)
    }

    /// Whether too many logins from there came to nothing.
    pub(super) fn is_suspect(&self, source: IpAddr, now: Instant) -> bool {
        self.0.get(&source).is_some_and(|standing| {
            standing.failures >= MAX_FAILURES && now.duration_since(standing.heard) < SUSPECT_FOR
        })
    }

    fn of(&mut self, source: IpAddr, now: Instant) -> &mut Standing {
        if self.0.len() >= MAX_SOURCES && !self.0.contains_key(&source) {
            let oldest = self.0.iter().min_by_key(|(_, standing)| standing.heard).map(|(source, _)| *source);
            oldest.map(|source| self.0.remove(&source));
        }
        let new = || Standing { heard: now, logged_in: None, failures: 0 };
        self.0.entry(source).or_insert_with(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    #[test]
    fn an_address_is_suspect_until_somebody_logs_in_or_time_has_passed() {
        let (mut standings, now) = (Standings::default(), Instant::now());
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
    fn as_many_addresses_as_there_are_cost_no_more_memory() {
        let (mut standings, now) = (Standings::default(), Instant::now());
        for number in 0..2 * MAX_SOURCES as u32 {
            standings.fails(IpAddr::V4(number.into()), now + Duration::from_secs(number.into()));
        }
        assert_eq!(standings.0.len(), MAX_SOURCES);
        assert!(standings.0.contains_key(&IpAddr::V4((2 * MAX_SOURCES as u32 - 1).into())));
    }
}
