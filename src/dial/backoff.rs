//! The time between two attempts: doubled each time, with a part by chance, so that two hundred consoles of one terminal server do
//! not come back in the same moment.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);
/// After a unix socket has appeared: bind(2) makes it, and until listen(2) it refuses connections.
const AFTER_ARRIVAL: Duration = Duration::from_millis(5);
/// A quarter more or less.
const JITTER: f64 = 0.25;

/// Waits that grow.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    pub(super) fn of_arrival() -> Self {
        Self(AFTER_ARRIVAL)
    }

    /// The wait before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST);
        // A hasher's keys are random (std's RandomState), and good enough for this.
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
