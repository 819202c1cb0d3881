//! Waiting for what a device says, and showing it meanwhile.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{ExecResult, EXIT_DONE, EXIT_FAILED, Pattern, ExecError, Task};
use crate::hub::{Cursor, LineState, Pulled};
use crate::session::Outlet;

/// Bytes that are pulled at once.
const READ_CHUNK: usize = 16 * 1024;
/// Bytes that are looked through: what a pattern matches may be so long, however it is cut.
const MATCH_WINDOW_BYTES: usize = 16 * 1024;
/// A search that takes longer than this rests as long again, so that nobody who only watches has a whole processor.
const SLOW_MATCH_TIME: Duration = Duration::from_millis(5);

/// Looks for a pattern in bytes that come in pieces.
#[derive(Debug)]
struct Matcher {
    pattern: Pattern,
    window: Vec<u8>,
}

impl Matcher {
    fn new(pattern: Pattern) -> Self {
        Self { pattern, window: Vec::new() }
    }

    /// More has come: how many bytes of it until the match is complete.
    fn find(&mut self, piece: &[u8]) -> Option<usize> {
        let before = self.window.len();
        self.window.extend_from_slice(piece);
        let end = self.pattern.end_in(&self.window);
        let superfluous = self.window.len().saturating_sub(MATCH_WINDOW_BYTES);
        self.window.drain(..superfluous);
        // What was there already did not match, but may with a `$` behind which nothing stood.
        end.map(|end| end.saturating_sub(before))
    }
}

impl Task {
    pub(super) async fn expect<O: Outlet>(
        &self,
        pattern: Pattern,
        timeout: Duration,
        outlet: &mut O,
    ) -> ExecResult {
        if let LineState::Failed(why) | LineState::NotOurs(why) = &*self.console.hub.line().borrow() {
            return self.failed(why);
        }
        let cursor = self.console.hub.cursor_from_now();
        self.wait_for(cursor, pattern, timeout, outlet).await
    }

    /// Shows what comes from `cursor` on until the pattern has come.
    pub(super) async fn wait_for<O: Outlet>(
        &self,
        mut cursor: Cursor,
        pattern: Pattern,
        timeout: Duration,
        outlet: &mut O,
    ) -> ExecResult {
        let wanted = pattern.to_string();
        let mut lookout = Matcher::new(pattern);
        let shown = async {
            loop {
                match cursor.pull(READ_CHUNK).await {
                    Pulled::Bytes(bytes) => {
                        let (going_on, bytes, end) = self.find_on_thread(lookout, bytes).await?;
                        lookout = going_on;
                        outlet.send(bytes[..end.unwrap_or(bytes.len())].to_vec()).await?;
                        if end.is_some() {
                            return Ok::<_, ExecError>(());
                        }
                    }
                    Pulled::Skipped(count) => {
                        lookout.window.clear();
                        outlet.notice(format!("[{count} bytes skipped; see the log]\n")).await?;
                    }
                }
            }
        };
        match tokio::time::timeout(timeout, shown).await {
            Ok(Ok(())) => Ok(EXIT_DONE),
            Ok(Err(stop)) => Err(stop),
            Err(_) => {
                let seconds = timeout.as_secs();
                outlet.notice(format!("{wanted:?} has not come within {seconds} s\n")).await?;
                Ok(EXIT_FAILED)
            }
        }
    }

    /// Has the lookout hear these bytes, on a thread: a costly pattern takes long, and whoever is at the port shares this one.
    async fn find_on_thread(
        &self,
        mut lookout: Matcher,
        bytes: Vec<u8>,
    ) -> ExecResult<(Matcher, Vec<u8>, Option<usize>)> {
        let place = self.console.searches.clone().acquire_owned().await;
        let began = Instant::now();
        let heard = tokio::task::spawn_blocking(move || {
            // The place goes with what was begun, which nobody can end.
            let _place = place;
            let end = lookout.find(&bytes);
            (lookout, bytes, end)
        });
        let heard = heard.await.or_else(|panicked| self.failed(panicked))?;
        let took = began.elapsed();
        if heard.2.is_none() && took > SLOW_MATCH_TIME {
            sleep(took).await;
        }
        Ok(heard)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookout(pattern: &str) -> Matcher {
        Matcher::new(pattern.parse().unwrap())
    }

    proptest! {
        /// However the bytes are cut, the same place is found.
        #[test]
        fn a_match_is_found_in_every_split(cuts in proptest::collection::vec(0_usize..40, 0..6)) {
            let said = b"boot\r\nwelcome to rack 4\r\nlogin: and more";
            let mut cuts = cuts;
            cuts.extend([0, said.len()]);
            cuts.sort_unstable();
            let mut lookout = lookout("rack \\d+\\r\\nlogin:");
            let mut heard = 0;
            for pair in cuts.windows(2) {
                if let Some(end) = lookout.find(&said[pair[0]..pair[1].min(said.len())]) {
                    heard = pair[0] + end;
                    break;
                }
            }
            prop_assert_eq!(&said[..heard], &b"boot\r\nwelcome to rack 4\r\nlogin:"[..]);
        }
    }

    /// Why searches have a thread: as release, this one takes 0.2 s for a window, and 0.03 ms are usual.
    #[test]
    fn a_pattern_may_be_costly() {
        let mut lookout = lookout(COSTLY);
        let began = Instant::now();
        assert_eq!(lookout.find(&[b'x'; MATCH_WINDOW_BYTES]), None);
        eprintln!("a window took {:?}", began.elapsed());
        assert!(began.elapsed() > SLOW_MATCH_TIME);
    }

    /// As long as may be (`crate::pattern`), with more states than a search may keep.
    const COSTLY: &str = r"(?s)[ -~].{600}[\x80-\x90]";

    #[test]
    fn a_device_that_talks_for_ever_costs_no_more_than_the_window() {
        let mut lookout = lookout("needle");
        for _ in 0..100 {
            assert_eq!(lookout.find(&[b'x'; READ_CHUNK]), None);
            assert!(lookout.window.len() <= MATCH_WINDOW_BYTES);
        }
        assert_eq!(lookout.find(b"nee"), None);
        assert_eq!(lookout.find(b"dles"), Some(3));
    }
}
