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

/// More updates a second than users can tell apart, and on average a line is in the log after half of it.
const WINDOW: Duration = Duration::from_millis(56);
/// Bytes that the line may bring within a window: a quarter of what the kernel holds (`N_TTY_BUF_SIZE`), so that flow control never
/// stops a device.
const WINDOW_BYTES: f64 = 1024.0;
/// After input by a user, output is read immediately for this long.
const TYPING_TIME: Duration = Duration::from_secs(1);
/// Bytes of output without a [`SILENCE`] in between that are read immediately.
const IMMEDIATE_BYTES: usize = 1024;
const SILENCE: Duration = Duration::from_millis(200);
/// Bytes by which a device may be ahead of its line rate: what a window brings, and what an adapter buffers.
const MAX_BYTES_AHEAD: f64 = 1.5 * WINDOW_BYTES;
/// A device that was further ahead is read immediately for this long.
const FAST_TIME: Duration = Duration::from_secs(3600);

/// The events that decide about the next window.
#[derive(Debug, Default)]
pub(super) struct Coalescing {
    /// Until when output is read immediately; `None`: not since the beginning.
    immediate_until: Option<Instant>,
    last: Option<Instant>,
    /// Bytes read since the last silence.
    burst: usize,
    /// Bytes by which the device is ahead of its line rate.
    ahead: f64,
}

impl Coalescing {
    pub(super) fn typed(&mut self, now: Instant) {
        self.read_immediately_until(now + TYPING_TIME);
    }

    /// All output was read: `count` bytes.
    pub(super) fn received(&mut self, count: usize, baud: Baud, now: Instant) {
        let gap = self.last.replace(now).map(|last| now.saturating_duration_since(last));
        if gap.is_none_or(|gap| gap >= SILENCE) {
            self.burst = 0;
        }
        self.burst = self.burst.saturating_add(count);
        // How long the first read has waited is unknown.
        let Some(gap) = gap else { return };
        // A late read returns what has come since the last one, but silence earns no credit for a burst.
        let by_rate = gap.min(SILENCE).as_secs_f64() * f64::from(baud.get()) / 10.0;
        self.ahead = (self.ahead + count as f64 - by_rate).max(0.0);
        if self.ahead > MAX_BYTES_AHEAD {
            self.read_immediately_until(now + FAST_TIME);
        }
    }

    /// Later reads are not compared with earlier ones: the line was opened, set or not read for a while.
    pub(super) fn restart(&mut self) {
        (self.last, self.ahead) = (None, 0.0);
    }

    /// The window after a read that was not part of a flood; `None`: the next read is immediate.
    pub(super) fn window(&self, baud: Baud, now: Instant) -> Option<Duration> {
        if self.burst < IMMEDIATE_BYTES || self.immediate_until.is_some_and(|until| now < until) {
            return None;
        }
        let filled = Duration::from_secs_f64(WINDOW_BYTES * 10.0 / f64::from(baud.get()));
        Some(filled.min(WINDOW))
    }

    fn read_immediately_until(&mut self, until: Instant) {
        self.immediate_until = Some(self.immediate_until.map_or(until, |already| already.max(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(2);

    fn baud(rate: u64) -> Baud {
        Baud::try_from(rate).unwrap()
    }

    /// A device that has sent for a while at exactly this rate, a few bytes every ms; and the time then.
    fn talking(rate: u64) -> (Coalescing, Instant) {
        let (mut coalescing, began) = (Coalescing::default(), Instant::now());
        let (mut now, mut said) = (began, 0);
        while now - began < LONG + Duration::from_secs(1024 * 10 / rate) {
            now += Duration::from_millis(1);
            let due = ((now - began).as_secs_f64() * rate as f64 / 10.0) as usize;
            if due > said {
                coalescing.received(due - said, baud(rate), now);
                said = due;
            }
        }
        (coalescing, now)
    }

    #[test]
    fn a_window_has_its_full_length_at_a_slow_rate() {
        let (coalescing, now) = talking(9600);
        assert_eq!(coalescing.window(baud(9600), now), Some(WINDOW));
    }

    #[test]
    fn a_window_never_fills_the_kernel_buffer_or_counts_as_ahead_of_the_rate() {
        for rate in [1200u64, 9600, 115_200, 921_600, 4_000_000] {
            let (mut coalescing, now) = talking(rate);
            let window = coalescing.window(baud(rate), now).unwrap();
            let bytes = window.as_secs_f64() * rate as f64 / 10.0;
            assert!(bytes <= WINDOW_BYTES + 0.5, "{rate} baud");
            coalescing.received(bytes as usize, baud(rate), now + window);
            assert!(coalescing.window(baud(rate), now + window).is_some(), "{rate} baud");
        }
    }

    #[test]
    fn a_late_read_does_not_count_as_ahead_of_the_rate() {
        for rate in [9600u64, 115_200, 921_600] {
            let (mut coalescing, mut now) = talking(rate);
            for late in [100, 20, 150, 60, 190] {
                now += Duration::from_millis(late);
                let brought = (late * rate / 10_000) as usize;
                coalescing.received(brought, baud(rate), now);
                assert!(coalescing.window(baud(rate), now).is_some(), "{late} ms at {rate} baud");
            }
        }
    }

    #[test]
    fn output_from_before_a_restart_does_not_count_as_ahead_of_the_rate() {
        let (mut coalescing, mut now) = (Coalescing::default(), Instant::now());
        coalescing.received(4095, baud(9600), now);
        assert!(coalescing.window(baud(9600), now).is_some(), "a process that takes the tty over");
        coalescing.restart();
        now += Duration::from_millis(1);
        coalescing.received(4095, baud(9600), now);
        assert!(coalescing.window(baud(9600), now).is_some());
        now += LONG;
        coalescing.received(4095, baud(9600), now);
        assert_eq!(coalescing.window(baud(9600), now), None, "a burst after silence is ahead of the rate");
    }

    #[test]
    fn the_first_lines_are_read_immediately() {
        let (mut coalescing, mut now) = (Coalescing::default(), Instant::now());
        for _ in 0..100 {
            now += SILENCE;
            coalescing.received(80, baud(115_200), now);
            assert_eq!(coalescing.window(baud(115_200), now), None);
        }
    }

    #[test]
    fn input_makes_reads_immediate_for_a_second() {
        let (mut coalescing, now) = talking(9600);
        coalescing.typed(now);
        assert_eq!(coalescing.window(baud(9600), now + TYPING_TIME - Duration::from_millis(1)), None);
        assert_eq!(coalescing.window(baud(9600), now + TYPING_TIME), Some(WINDOW));
    }

    #[test]
    fn a_device_faster_than_its_rate_is_read_immediately() {
        let (mut coalescing, mut now) = talking(115_200);
        // A guest boots on a pty: lines as fast as it can.
        for _ in 0..30 {
            now += Duration::from_millis(1);
            coalescing.received(70, baud(115_200), now);
        }
        coalescing.typed(now);
        assert_eq!(coalescing.window(baud(115_200), now + LONG), None, "and input does not shorten that");
        let (coalescing, now) = talking(9600);
        assert!(coalescing.window(baud(9600), now).is_some());
        let (mut coalescing, now) = (coalescing, now);
        coalescing.received(2048, baud(9600), now);
        assert_eq!(coalescing.window(baud(9600), now), None);
    }
}
