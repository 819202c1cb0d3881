//! Whether a source that is connected again is reported as reconnected. A far end that is switched off may accept every connection and
//! close it: a proxy, a terminal server whose line is in use, a program of `source = "unit"` that reports an error. So a new connection
//! counts once it has sent output or has lasted; until then the port takes input, and is shown as disconnected.

use std::time::Duration;

use tokio::time::Instant;

use crate::port::Source;

/// A connection that has ended before this has not lasted. The dialer resets its back-off after the same time.
const LASTING: Duration = Duration::from_secs(10);
/// A silent connection counts after this time if the one before has lasted.
const SILENCE: Duration = Duration::from_secs(1);
/// Time for a program, which is silent while it connects. Longer than ssh with `ConnectTimeout=10` and two addresses, and than ipmitool with `-R 2`.
const PROGRAM_SILENCE: Duration = Duration::from_secs(30);

/// How the last connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Lasted,
    /// Early, without output.
    Silent,
    /// Early, after output: a reason why it was closed, so output proves nothing.
    Spoke,
}

/// The trial of the present connection, and the result of the one before.
#[derive(Debug)]
pub(super) struct Trial {
    last: Last,
    /// `None` if the process before was connected already.
    connected: Option<Instant>,
    /// Bytes received in total before the connection.
    received: u64,
    /// When the connection counts although it is silent; `None` if it counts already.
    due: Option<Instant>,
    /// Whether output makes it count.
    by_output: bool,
}

impl Trial {
    pub(super) fn new() -> Self {
        Self { last: Last::Lasted, connected: None, received: 0, due: None, by_output: true }
    }

    /// Connected. `again`: the port was reported as disconnected.
    pub(super) fn begin(&mut self, again: bool, received: u64, source: &Source, now: Instant) {
        let silence = match (source, self.last) {
            (Source::Unit, _) => PROGRAM_SILENCE,
            (_, Last::Lasted) => SILENCE,
            (_, Last::Silent | Last::Spoke) => LASTING,
        };
        (self.connected, self.received, self.due) = (Some(now), received, again.then(|| now + silence));
        // The dialer holds back the error of a program.
        self.by_output = self.last != Last::Spoke || *source == Source::Unit;
    }

    /// When it counts, if it does not yet.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether output that arrives now makes it count.
    pub(super) fn is_ended_by_output(&self) -> bool {
        self.due.is_some() && self.by_output
    }

    pub(super) fn succeed(&mut self) {
        self.due = None;
    }

    /// The connection has ended; `by_far_end`: the reason is not on this side. Returns whether it had counted as connected.
    pub(super) fn end(&mut self, by_far_end: bool, received: u64, now: Instant) -> bool {
        let has_lasted = self.connected.is_none_or(|connected| now.duration_since(connected) >= LASTING);
        self.last = match received > self.received {
            _ if !by_far_end || has_lasted => Last::Lasted,
            true => Last::Spoke,
            false => Last::Silent,
        };
        self.due.take().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_by_output_or_time_and_one_that_spoke_and_ended_early_by_time() {
        let source: Source = "tcp:ts:23".parse().unwrap();
        let now = Instant::now();
        let mut kept = Trial::new();
        assert!(kept.end(true, 1_000_000, now), "kept from the process before");
        kept.begin(true, 1_000_000, &source, now);
        assert!(kept.is_ended_by_output(), "the far end did not close at once");
        let mut trial = Trial::new();
        trial.begin(false, 0, &source, now);
        assert_eq!(trial.due(), None, "the first one counts at once");
        let now = now + LASTING;
        assert!(trial.end(true, 100, now));
        trial.begin(true, 100, &source, now);
        assert_eq!(trial.due(), Some(now + SILENCE));
        assert!(!trial.end(true, 100, now), "closed at once");
        trial.begin(true, 100, &source, now);
        assert_eq!(trial.due(), Some(now + LASTING));
        assert!(trial.is_ended_by_output());
        trial.succeed();
        assert!(trial.end(true, 120, now), "it has counted");
        trial.begin(true, 120, &source, now);
        assert!(!trial.is_ended_by_output(), "`port in use`, as before");
        assert!(!trial.end(true, 130, now));
        trial.begin(true, 130, &"unit".parse().unwrap(), now);
        assert!(trial.is_ended_by_output(), "the dialer has held back errors");
        assert!(!trial.end(true, 130, now));
        trial.begin(true, 130, &source, now);
        assert!(!trial.end(true, 140, now));
        trial.begin(true, 140, &source, now);
        assert!(!trial.end(false, 140, now));
        trial.begin(true, 140, &"unit".parse().unwrap(), now);
        assert_eq!(trial.due(), Some(now + PROGRAM_SILENCE));
        assert!(trial.is_ended_by_output());
    }
}
