//! The coalescing window: how long a port leaves its device's output in the kernel after a read. Output that arrives within the window
//! costs one wake-up instead of one for every few bytes, which is most of what a busy port costs. Input by a user and the first
//! lines of output are handled immediately. Pure: byte counts and the time in, a window out.
//!
//! The kernel discards what it holds when a tty disappears. The serial line of an adapter does not disappear; a machine that is its
//! own adapter does, with its last output: the tty of a board with native USB is never coalesced ([`super::device`]), nor is an emulator
//! on a pty, which is recognized by its rate: it sends more at once than its line rate allows.

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
/// Bytes of one talk, in which there is no [`SILENCE`], that are heard as they come.
const AT_ONCE: usize = 1024;
const SILENCE: Duration = Duration::from_millis(200);
/// Bytes by which a device may be ahead of its line rate: what a rest brings, and what an adapter makes of it.
const AHEAD: f64 = 1.5 * UNHEARD;
/// One that was further ahead is read without rests for so long.
const FAST: Duration = Duration::from_secs(3600);

/// What decides about the next rest.
#[derive(Debug, Default)]
pub(super) struct Rests {
    /// None before.
    awake_until: Option<Instant>,
    /// When something was read last, how much since the last silence, and how far it is ahead of the line rate.
    last: Option<Instant>,
    talk: usize,
    ahead: f64,
}

impl Rests {
    /// Something was typed.
    pub(super) fn typed(&mut self, now: Instant) {
        self.stay_awake(now + TYPING);
    }

    /// All that waits has been read: so much.
    pub(super) fn heard(&mut self, count: usize, baud: Baud, now: Instant) {
        let gap = self.last.replace(now).map(|last| now.saturating_duration_since(last));
        if gap.is_none_or(|gap| gap >= SILENCE) {
            self.talk = 0;
        }
        self.talk = self.talk.saturating_add(count);
        // For how long the first read of an account has waited, nobody knows.
        let Some(gap) = gap else { return };
        // What a late read finds has come since the last one; but silence saves nothing up for a burst.
        let by_rate = gap.min(SILENCE).as_secs_f64() * f64::from(baud.get()) / 10.0;
        self.ahead = (self.ahead + count as f64 - by_rate).max(0.0);
        if self.ahead > AHEAD {
            self.stay_awake(now + FAST);
        }
    }

    /// What is read from now on has nothing to do with what was read before: the line was opened, set or left alone.
    pub(super) fn begin_account(&mut self) {
        (self.last, self.ahead) = (None, 0.0);
    }

    /// How long to rest, after a read that was none of a flood; `None`: not at all.
    pub(super) fn next(&self, baud: Baud, watched: bool, now: Instant) -> Option<Duration> {
        if self.talk < AT_ONCE || self.awake_until.is_some_and(|until| now < until) {
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

    const LONG: Duration = Duration::from_secs(2);

    fn baud(rate: u64) -> Baud {
        Baud::try_from(rate).unwrap()
    }

    /// A device that has talked for a while at just this rate, a piece every ms; and the time then.
    fn talking(rate: u64) -> (Rests, Instant) {
        let (mut rests, began) = (Rests::default(), Instant::now());
        let (mut now, mut said) = (began, 0);
        while now - began < LONG + Duration::from_secs(1024 * 10 / rate) {
            now += Duration::from_millis(1);
            let due = ((now - began).as_secs_f64() * rate as f64 / 10.0) as usize;
            if due > said {
                rests.heard(due - said, baud(rate), now);
                said = due;
            }
        }
        (rests, now)
    }

    #[test]
    fn a_rest_is_as_long_as_nobody_minds() {
        let (rests, now) = talking(9600);
        assert_eq!(rests.next(baud(9600), false, now), Some(ALONE));
        assert_eq!(rests.next(baud(9600), true, now), Some(WATCHED));
    }

    #[test]
    fn no_rest_fills_the_kernel_or_looks_like_haste() {
        for rate in [1200u64, 9600, 115_200, 921_600, 4_000_000] {
            for watched in [false, true] {
                let (mut rests, now) = talking(rate);
                let rest = rests.next(baud(rate), watched, now).unwrap();
                let unheard = rest.as_secs_f64() * rate as f64 / 10.0;
                assert!(unheard <= UNHEARD + 0.5, "{rate} baud");
                rests.heard(unheard as usize, baud(rate), now + rest);
                assert!(rests.next(baud(rate), watched, now + rest).is_some(), "{rate} baud");
            }
        }
    }

    #[test]
    fn a_read_that_is_late_is_not_a_device_in_haste() {
        for rate in [9600u64, 115_200, 921_600] {
            let (mut rests, mut now) = talking(rate);
            for late in [100, 20, 150, 60, 190] {
                now += Duration::from_millis(late);
                let brought = (late * rate / 10_000) as usize;
                rests.heard(brought, baud(rate), now);
                assert!(rests.next(baud(rate), false, now).is_some(), "{late} ms at {rate} baud");
            }
        }
    }

    #[test]
    fn what_has_waited_while_nobody_read_is_no_haste() {
        let (mut rests, mut now) = (Rests::default(), Instant::now());
        rests.heard(4095, baud(9600), now);
        assert!(rests.next(baud(9600), false, now).is_some(), "a process that takes the tty over");
        rests.begin_account();
        now += Duration::from_millis(1);
        rests.heard(4095, baud(9600), now);
        assert!(rests.next(baud(9600), false, now).is_some());
        now += LONG;
        rests.heard(4095, baud(9600), now);
        assert_eq!(rests.next(baud(9600), false, now), None, "a burst after silence is");
    }

    #[test]
    fn a_line_or_two_are_heard_at_once() {
        let (mut rests, mut now) = (Rests::default(), Instant::now());
        for _ in 0..100 {
            now += SILENCE;
            rests.heard(80, baud(115_200), now);
            assert_eq!(rests.next(baud(115_200), false, now), None);
        }
    }

    #[test]
    fn who_types_is_answered_at_once() {
        let (mut rests, now) = talking(9600);
        rests.typed(now);
        assert_eq!(rests.next(baud(9600), true, now + TYPING - Duration::from_millis(1)), None);
        assert_eq!(rests.next(baud(9600), true, now + TYPING), Some(WATCHED));
    }

    #[test]
    fn a_device_that_is_faster_than_it_says_is_never_rested() {
        let (mut rests, mut now) = talking(115_200);
        // A guest boots at a pty: lines as fast as it can.
        for _ in 0..30 {
            now += Duration::from_millis(1);
            rests.heard(70, baud(115_200), now);
        }
        rests.typed(now);
        assert_eq!(rests.next(baud(115_200), false, now + LONG), None, "and a key does not shorten that");
        let (rests, now) = talking(9600);
        assert!(rests.next(baud(9600), false, now).is_some());
        let (mut rests, now) = (rests, now);
        rests.heard(2048, baud(9600), now);
        assert_eq!(rests.next(baud(9600), false, now), None);
    }
}
