//! How long a port lets its device talk unheard after it has read. What comes meanwhile waits in the kernel, and then costs one wake-up and
//! not one for each few bytes: that is nearly all that a talking port costs. Whoever types is answered at once, and the first byte
//! after a silence is read at once. Pure: bytes and the time in, a time out.

use std::time::Duration;

use tokio::time::Instant;

use crate::port::Baud;

/// With nobody there but the log and the triggers.
const ALONE: Duration = Duration::from_millis(80);
/// With somebody looking: more pictures a second than a film has.
const WATCHED: Duration = Duration::from_millis(30);
/// Bytes that the line may bring meanwhile: a quarter of what the kernel keeps (`N_TTY_BUF_SIZE`), so that no device is ever held.
const UNHEARD: f64 = 1024.0;
/// So long after something was typed, nothing is late.
const TYPING: Duration = Duration::from_secs(1);
/// A device that brings more than its line rate could (USB adapters that are none, ptys) is read without rests for so long.
const FAST: Duration = Duration::from_secs(10);

/// What decides about the next rest.
#[derive(Debug, Default)]
pub(super) struct Rests {
    /// None before.
    awake_until: Option<Instant>,
}

impl Rests {
    /// Something was typed.
    pub(super) fn typed(&mut self, now: Instant) {
        self.stay_awake(now + TYPING);
    }

    /// More was read at once than a rest may bring.
    pub(super) fn flooded(&mut self, now: Instant) {
        self.stay_awake(now + FAST);
    }

    /// How long to rest, after a read that was none of a flood; `None`: not at all.
    pub(super) fn next(&self, baud: Baud, watched: bool, now: Instant) -> Option<Duration> {
        if self.awake_until.is_some_and(|until| now < until) {
            return None;
        }
        let unheard = Duration::from_secs_f64(UNHEARD * 10.0 / f64::from(baud.get()));
        Some(unheard.min(if watched { WATCHED } else { ALONE }))
    }

    fn stay_awake(&mut self, until: Instant) {
        self.awake_until = Some(self.awake_until.map_or(until, |already| already.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baud(rate: u64) -> Baud {
        Baud::try_from(rate).unwrap()
    }

    #[test]
    fn a_rest_is_as_long_as_nobody_minds() {
        let (rests, now) = (Rests::default(), Instant::now());
        assert_eq!(rests.next(baud(9600), false, now), Some(ALONE));
        assert_eq!(rests.next(baud(9600), true, now), Some(WATCHED));
    }

    #[test]
    fn no_rest_fills_the_kernel() {
        let (rests, now) = (Rests::default(), Instant::now());
        for rate in [300u64, 9600, 115_200, 921_600, 4_000_000] {
            for watched in [false, true] {
                let rest = rests.next(baud(rate), watched, now).unwrap();
                assert!(rest.as_secs_f64() * rate as f64 / 10.0 <= UNHEARD + 0.5, "{rate} baud");
            }
        }
    }

    #[test]
    fn who_types_is_answered_at_once() {
        let (mut rests, now) = (Rests::default(), Instant::now());
        rests.typed(now);
        assert_eq!(rests.next(baud(9600), true, now + TYPING - Duration::from_millis(1)), None);
        assert_eq!(rests.next(baud(9600), true, now + TYPING), Some(WATCHED));
    }

    #[test]
    fn a_device_that_is_faster_than_it_says_is_not_held() {
        let (mut rests, now) = (Rests::default(), Instant::now());
        rests.flooded(now);
        rests.typed(now);
        let just_before = now + FAST - Duration::from_millis(1);
        assert_eq!(rests.next(baud(9600), false, just_before), None, "a key does not shorten it");
        assert!(rests.next(baud(9600), false, now + FAST).is_some());
    }
}
