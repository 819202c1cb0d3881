//! The delay between two attempts: doubled each time and randomized, so that two hundred consoles of one
//! terminal server do not reconnect at the same time.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// Delay after a unix socket has appeared: bind(2) creates it, and connections fail until listen(2).
const AFTER_ARRIVAL: Duration = Duration::from_millis(5);
/// The random part of a delay.
const JITTER: f64 = 0.25;

/// Growing delays.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    pub(super) fn of_arrival() -> Self {
        Self(AFTER_ARRIVAL)
    }

    /// The delay before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST);
        // The keys of std's RandomState are random enough for this.
        let chance = RandomState::new().hash_one(wait) as f64 / u64::MAX as f64;
        wait.mul_f64(1.0 - JITTER + 2.0 * JITTER * chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_a_quarter_of_a_second_to_half_a_minute_and_differ() {
        let mut backoff = Backoff::new();
        let waits: Vec<f64> = (0..12).map(|_| backoff.next().as_secs_f64()).collect();
        let mut middle = 0.25f64;
        for wait in &waits {
            assert!((wait / middle - 1.0).abs() <= 0.2501, "{waits:?}");
            middle = (middle * 2.0).min(30.0);
        }
        let first = || Backoff::new().next();
        assert!((0..20).any(|_| first() != first()), "two ports wait for the same time");
    }
}
