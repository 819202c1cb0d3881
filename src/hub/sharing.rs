//! Whether another program also reads the device: bytes that its driver has received and that did not arrive here. Root's `cat` or a getty
//! takes them in spite of the locks, and /proc of other users is hidden from a port. Pure: counters and the time in, a number out.

use std::time::{Duration, Instant};

/// Time between two checks. Bytes that the kernel is still passing on at one check have arrived by the next one.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// More bytes than counters are off by: breaks, SysRq, a UART's FIFO that was reset.
const ENOUGH: u64 = 64;
/// Without further missing bytes for this long, the other program is gone.
const OVER: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Bytes that the driver has received; wraps.
    pub(super) received: u32,
    /// Bytes that it has lost; wraps.
    pub(super) lost: u32,
    /// Bytes that were read here, and that wait to be read.
    pub(super) here: u64,
}

#[derive(Debug, Default)]
pub(super) struct Sharing {
    before: Option<(Instant, Seen)>,
    /// Bytes received, less those lost and those that arrived here, since the first check.
    missing: i64,
    /// Missing bytes that were reported.
    told: i64,
    grown: Option<Instant>,
}

impl Sharing {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.before.is_none_or(|(at, _)| now.duration_since(at) >= CHECK_INTERVAL)
    }

    /// How many bytes another program has taken, while it does.
    pub(super) fn update(&mut self, now: Instant, seen: Seen) -> Option<u64> {
        if let Some((_, before)) = self.before.replace((now, seen)) {
            let more = i64::from(seen.received.wrapping_sub(before.received))
                - i64::from(seen.lost.wrapping_sub(before.lost))
                - i64::try_from(seen.here.saturating_sub(before.here)).unwrap_or(i64::MAX);
            let missing = self.missing.saturating_add(more);
            let sure = missing.min(self.missing);
            self.missing = missing;
            if sure.saturating_sub(self.told) >= ENOUGH as i64 {
                (self.told, self.grown) = (sure, Some(now));
            }
        }
        let goes_on = self.grown.is_some_and(|at| now.duration_since(at) < OVER);
        goes_on.then(|| u64::try_from(self.told).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks one second apart: the bytes that the driver has received, and those that have arrived here.
    fn looks(sharing: &mut Sharing, began: Instant, seen: &[(u64, u32, u64)]) -> Vec<Option<u64>> {
        let look = |(second, received, here): &(u64, u32, u64)| {
            sharing.update(
                began + Duration::from_secs(*second),
                Seen { received: *received, lost: 0, here: *here },
            )
        };
        seen.iter().map(look).collect()
    }

    #[test]
    fn bytes_taken_by_another_program_are_reported_until_a_minute_after_the_last() {
        let mut sharing = Sharing::default();
        let began = Instant::now();
        // The other program takes half of the bytes; at each check the last second is uncertain.
        let seen = [(0, u32::MAX - 99, 5000), (1, 100, 5100), (2, 300, 5200), (3, 500, 5300)];
        assert_eq!(looks(&mut sharing, began, &seen), [None, None, Some(100), Some(200)]);
        // The other program has exited.
        let seen = [(4, 700, 5500), (63, 900, 5700), (65, 900, 5700)];
        assert_eq!(looks(&mut sharing, began, &seen), [Some(300), Some(300), None]);
    }

    #[test]
    fn bytes_in_transit_or_lost_or_uncounted_are_not_reported() {
        let mut sharing = Sharing::default();
        let began = Instant::now();
        let seen = [(0, 0, 0), (1, 4000, 2000), (2, 8000, 8000), (3, 12_000, 9000), (4, 12_000, 12_000)];
        assert_eq!(looks(&mut sharing, began, &seen), [None; 5]);
        let mut uncounted = Sharing::default();
        assert_eq!(looks(&mut uncounted, began, &[(0, 0, 0), (1, 0, 9000), (2, 0, 90_000)]), [None; 3]);
        let mut lossy = Sharing::default();
        for second in 0..5u32 {
            let seen = Seen { received: second * 2000, lost: second * 1000, here: u64::from(second) * 1000 };
            assert_eq!(lossy.update(began + Duration::from_secs(second.into()), seen), None);
        }
    }
}
