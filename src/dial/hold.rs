//! Holds back the output of a program after one has ended with an error, until it differs from what that one has printed: its error is
//! the reason that is reported, not output of the console. ipmitool prints a line at its start, and fails 6 s later.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes of the output that are compared, and held back.
const MAX_HEAD_BYTES: usize = 4 * 1024;
/// Time for which output is held back that is the same so far as that of a program that has failed: longer than ipmitool takes with `-R 2`
/// and ssh with `ConnectTimeout=10`.
const SAME_TIME: Duration = Duration::from_secs(30);
/// The same if no output was discarded so far.
const UNKNOWN_TIME: Duration = Duration::from_secs(10);
/// After output that differs: the text of an error may have a number that differs, and the program ends after it.
const DIFFERENT_TIME: Duration = Duration::from_secs(1);

/// The programs that have failed.
#[derive(Debug, Default)]
pub(super) struct Failures {
    /// The last program has ended with an error.
    last_failed: bool,
    /// The last output that was discarded.
    output: Option<Vec<u8>>,
}

/// The output of the present program.
#[derive(Debug)]
pub(super) struct Hold {
    head: Vec<u8>,
    holds: bool,
    until: Option<Instant>,
    differs: bool,
    /// When the first output was passed on.
    passed: Option<Instant>,
}

impl Hold {
    pub(super) fn new(failures: &Failures) -> Self {
        Self { head: Vec::new(), holds: failures.last_failed, until: None, differs: false, passed: None }
    }

    /// Whether output is held back.
    pub(super) fn holds(&self) -> bool {
        self.holds
    }

    /// Until when, if there is any.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until.filter(|_| self.holds)
    }

    /// Output is passed on from now on.
    pub(super) fn release(&mut self, now: Instant) {
        self.holds = false;
        if !self.head.is_empty() {
            self.passed.get_or_insert(now);
        }
    }

    /// When output was passed on first.
    pub(super) fn passed(&self) -> Option<Instant> {
        self.passed
    }

    /// The program has printed this.
    pub(super) fn heard(&mut self, bytes: &[u8], failures: &Failures, now: Instant) {
        let room = MAX_HEAD_BYTES - self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if !self.holds || self.head.len() == MAX_HEAD_BYTES {
            return self.release(now);
        }
        let time = match &failures.output {
            None => UNKNOWN_TIME,
            Some(known) if known.starts_with(&self.head) => SAME_TIME,
            Some(_) if self.differs => return,
            Some(_) => {
                self.differs = true;
                self.until = None;
                DIFFERENT_TIME
            }
        };
        self.until.get_or_insert(now + time);
    }

    /// The program has ended. Returns whether the output that is held back is its error, and is discarded.
    pub(super) fn end(&mut self, failed: bool, failures: &mut Failures, now: Instant) -> bool {
        let discards = failed && self.holds;
        failures.last_failed = failed;
        if discards {
            failures.output = Some(std::mem::take(&mut self.head));
            self.holds = false;
        } else {
            self.release(now);
        }
        discards
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &[u8] = b"Loading IANA PEN Registry...\r\n";
    const ERROR: &[u8] = b"Error: Unable to establish IPMI v2 / RMCP+ session\r\n";
    const SESSION: &[u8] = b"[SOL Session operational.  Use ~? for help]\r\n";

    /// The times were measured with ipmitool 1.8.19 and an address that does not reply.
    #[test]
    fn the_output_of_ipmitool_is_held_back_until_it_has_a_session() {
        let mut failures = Failures::default();
        let at = Instant::now();
        let mut first = Hold::new(&failures);
        first.heard(START, &failures, at);
        assert!(!first.holds(), "nothing has failed");
        assert!(!first.end(true, &mut failures, at), "the session was lost after a while");
        for limit in [UNKNOWN_TIME, SAME_TIME] {
            let mut failing = Hold::new(&failures);
            assert_eq!(failing.until(), None, "it is silent");
            failing.heard(START, &failures, at);
            assert_eq!(failing.until(), Some(at + limit));
            failing.heard(ERROR, &failures, at + Duration::from_secs(6));
            assert!(failing.end(true, &mut failures, at + Duration::from_secs(6)));
            assert_eq!(failing.passed(), None);
        }
        let mut back = Hold::new(&failures);
        back.heard(START, &failures, at);
        back.heard(SESSION, &failures, at);
        back.heard(b"login: ", &failures, at);
        assert_eq!(back.until(), Some(at + DIFFERENT_TIME));
        back.release(at);
        assert_eq!((back.holds(), back.until(), back.passed()), (false, None, Some(at)));
        assert!(!back.end(false, &mut failures, at));
        assert!(!Hold::new(&failures).holds(), "it has ended without an error");
    }

    #[test]
    fn held_back_output_is_bounded_and_that_of_a_program_that_succeeds_is_passed_on() {
        let mut failures = Failures { last_failed: true, output: None };
        let now = Instant::now();
        let mut long = Hold::new(&failures);
        long.heard(&[b'x'; MAX_HEAD_BYTES - 1], &failures, now);
        assert!(long.holds());
        long.heard(b"xx", &failures, now);
        assert!(!long.holds() && long.head.len() == MAX_HEAD_BYTES);
        let mut short = Hold::new(&failures);
        short.heard(b"done\n", &failures, now);
        assert!(!short.end(false, &mut failures, now));
    }
}
