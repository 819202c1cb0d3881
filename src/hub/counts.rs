//! Counters for monitoring, since the start of the process.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Hub, LineState};

/// Counters that nothing else of the port needs.
#[derive(Debug, Default)]
pub(super) struct Counts {
    plug_events: AtomicU64,
    triggers: AtomicU64,
}

impl Hub {
    /// Changes the state of the line. A device that appears or disappears is a plug event; the first opening of a process is none,
    /// because a restart of the process opens the device that was plugged in before.
    pub(super) fn set_line(&self, state: LineState) {
        let is_open = matches!(state, LineState::Open(_));
        let before = self.line.send_replace(state);
        if !matches!(before, LineState::Starting) && matches!(before, LineState::Open(_)) != is_open {
            self.counts.plug_events.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often the device was plugged in or unplugged, or the source connected or disconnected.
    pub fn plug_events(&self) -> u64 {
        self.counts.plug_events.load(Ordering::Relaxed)
    }

    pub(crate) fn count_trigger(&self) {
        self.counts.triggers.fetch_add(1, Ordering::Relaxed);
    }

    /// How often triggers have fired.
    pub fn triggers(&self) -> u64 {
        self.counts.triggers.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::port::LineSettings;
    use crate::ring::Ring;

    #[test]
    fn a_device_that_comes_or_goes_is_counted_and_a_change_of_settings_is_not() {
        let (hub, _inbox) = Hub::new(Ring::create(64 * 1024).unwrap());
        let open = || LineState::Open(LineSettings::default());
        for (state, events) in [
            (open(), 0),
            (open(), 0),
            (LineState::Away(Timestamp::now()), 1),
            (LineState::Failed("denied".into()), 1),
            (open(), 2),
            (LineState::Disconnected(Timestamp::now(), "refused".into()), 3),
            // A far end that accepts and closes is not flapping.
            (LineState::OnTrial(Timestamp::now(), "refused".into(), LineSettings::default()), 3),
            (LineState::Disconnected(Timestamp::now(), "refused".into()), 3),
            (LineState::OnTrial(Timestamp::now(), "refused".into(), LineSettings::default()), 3),
            (open(), 4),
        ] {
            hub.set_line(state);
            assert_eq!(hub.plug_events(), events);
        }
    }
}
