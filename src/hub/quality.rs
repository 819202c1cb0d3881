//! Line errors, from the driver's counters: reported once a burst, because a wrong baud rate causes one for each byte.
//! Pure: counters and the time in, sentences out.

use std::time::{Duration, Instant};

use crate::serial::Counters;

/// Time between two reads of the counters while a device sends: each is a system call. A break is noted within this time.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Without further errors for this long, a burst is over.
const BURST_END_TIME: Duration = Duration::from_secs(10);
/// Framing and parity errors of one burst that are more than plugging in a cable causes.
const MIN_BURST_ERRORS: u32 = 8;

/// State of the error counters.
#[derive(Debug, Default)]
pub(super) struct Quality {
    before: Option<Counters>,
    breaks: Burst,
    errors: Burst,
    lost: Burst,
}

#[derive(Debug, Default)]
struct Burst {
    count: u32,
    last: Option<Instant>,
    told: bool,
}

impl Burst {
    /// Counts `more`. Returns the size of the burst when it must be reported, once per burst.
    fn grow(&mut self, more: u32, enough: u32, now: Instant) -> Option<u32> {
        if self.last.is_some_and(|last| now.duration_since(last) >= BURST_END_TIME) {
            *self = Self::default();
        }
        if more == 0 {
            return None;
        }
        self.count = self.count.saturating_add(more);
        self.last = Some(now);
        let news = self.count >= enough && !self.told;
        self.told |= news;
        news.then_some(self.count)
    }
}

impl Quality {
    /// What to report about the current counters.
    pub(super) fn update(&mut self, now: Instant, counters: Counters) -> Vec<String> {
        let Some(before) = self.before.replace(counters) else { return Vec::new() };
        let since = |field: fn(&Counters) -> u32| field(&counters).wrapping_sub(field(&before));
        let mut said = Vec::new();
        if let Some(count) = self.breaks.grow(since(|c| c.breaks), 1, now) {
            said.push(format!("{count} {} received", if count == 1 { "break" } else { "breaks" }));
        }
        let errors = since(|c| c.frame).saturating_add(since(|c| c.parity));
        if let Some(count) = self.errors.grow(errors, MIN_BURST_ERRORS, now) {
            said.push(format!("line errors: wrong baud rate? ({count} framing and parity errors)"));
        }
        let lost = since(|c| c.overrun).saturating_add(since(|c| c.buffer_overrun));
        if let Some(count) = self.lost.grow(lost, 1, now) {
            said.push(format!("the device sends faster than this machine reads: {count} overruns"));
        }
        said
    }

    /// For a device that was just opened, with these counters.
    pub(super) fn since(before: Option<Counters>) -> Self {
        Self { before, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_burst_is_reported_once() {
        let mut quality = Quality::default();
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let framing = |frame| Counters { frame, ..Counters::default() };
        assert!(quality.update(at(0), framing(100)).is_empty(), "what was before us is not news");
        assert!(quality.update(at(1), framing(102)).is_empty(), "a plug pushed in");
        let told = ["line errors: wrong baud rate? (50 framing and parity errors)"];
        assert_eq!(quality.update(at(2), framing(150)), told);
        assert!(quality.update(at(3), framing(900)).is_empty());
        assert!(quality.update(at(20), framing(900)).is_empty());
        assert_eq!(quality.update(at(21), framing(950)), told);
    }

    #[test]
    fn breaks_and_overruns_are_reported_and_counters_may_wrap() {
        let mut quality = Quality::default();
        let now = Instant::now();
        quality.update(now, Counters { breaks: u32::MAX, ..Counters::default() });
        let counters = Counters { breaks: 0, overrun: 3, ..Counters::default() };
        assert_eq!(
            quality.update(now, counters),
            ["1 break received", "the device sends faster than this machine reads: 3 overruns"]
        );
    }
}
