//! `expect`: waits for a match in the output of a device, and prints the output.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{EXIT_DONE, EXIT_FAILED, ExecError, ExecResult, Pattern, Task};
use crate::config::Right;
use crate::hub::{Cursor, LineState, Pulled};
use crate::session::{AttachedUser, Outlet};

/// Bytes read at once.
const READ_CHUNK: usize = 16 * 1024;
/// Bytes that are searched: the longest match, however the output is split.
const MATCH_WINDOW_BYTES: usize = 16 * 1024;
/// A search that takes longer than this is followed by a pause of the same length, so that a read-only user cannot use a whole CPU.
const SLOW_MATCH_TIME: Duration = Duration::from_millis(5);

/// Finds a pattern in a stream of bytes.
#[derive(Debug)]
struct Matcher {
    pattern: Pattern,
    window: Vec<u8>,
}

impl Matcher {
    fn new(pattern: Pattern) -> Self {
        Self { pattern, window: Vec::new() }
    }

    /// Adds `piece`. Returns how many bytes of it complete the match.
    fn find(&mut self, piece: &[u8]) -> Option<usize> {
        let before = self.window.len();
        self.window.extend_from_slice(piece);
        let end = self.pattern.end_in(&self.window);
        let excess = self.window.len().saturating_sub(MATCH_WINDOW_BYTES);
        self.window.drain(..excess);
        // A match may end before `piece`: a `$` that did not match when more could follow.
        end.map(|end| end.saturating_sub(before))
    }
}

pub(super) async fn expect<O: Outlet>(
    task: &Task,
    pattern: Pattern,
    timeout: Duration,
    outlet: &mut O,
) -> ExecResult {
    if let LineState::Failed(why) | LineState::NotOurs(why) = &*task.console.hub.line().borrow() {
        return task.failed(why);
    }
    // A source that is connected on demand is connected while a session is attached: one without write access, which waits.
    let reader = AttachedUser { right: Right::Watch, ..task.user.clone() };
    let _session = task.console.settings().on_demand.then(|| task.console.attach(reader));
    let cursor = task.console.hub.cursor_from_now();
    wait_for(task, cursor, pattern, timeout, outlet).await
}

/// Prints the output from `cursor` on until it matches.
pub(super) async fn wait_for<O: Outlet>(
    task: &Task,
    mut cursor: Cursor,
    pattern: Pattern,
    timeout: Duration,
    outlet: &mut O,
) -> ExecResult {
    let wanted = pattern.to_string();
    let mut matcher = Matcher::new(pattern);
    let shown = async {
        loop {
            match cursor.pull(READ_CHUNK).await {
                Pulled::Bytes(bytes) => {
                    let (next, bytes, end) = find_on_thread(task, matcher, bytes).await?;
                    matcher = next;
                    outlet.send(bytes[..end.unwrap_or(bytes.len())].to_vec()).await?;
                    if end.is_some() {
                        return Ok::<_, ExecError>(());
                    }
                }
                Pulled::Skipped(count) => {
                    matcher.window.clear();
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
            outlet.notice(format!("no match for {wanted:?} within {seconds} s\n")).await?;
            Ok(EXIT_FAILED)
        }
    }
}

/// Searches on a blocking thread, because a costly pattern takes long and all users of the port share the runtime thread.
async fn find_on_thread(
    task: &Task,
    mut matcher: Matcher,
    bytes: Vec<u8>,
) -> ExecResult<(Matcher, Vec<u8>, Option<usize>)> {
    let permit = task.console.searches.clone().acquire_owned().await;
    let began = Instant::now();
    let searched = tokio::task::spawn_blocking(move || {
        // Held until the search ends, which cannot be cancelled.
        let _permit = permit;
        let end = matcher.find(&bytes);
        (matcher, bytes, end)
    });
    let searched = searched.await.or_else(|panicked| task.failed(panicked))?;
    let took = began.elapsed();
    if searched.2.is_none() && took > SLOW_MATCH_TIME {
        sleep(took).await;
    }
    Ok(searched)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matcher(pattern: &str) -> Matcher {
        Matcher::new(pattern.parse().unwrap())
    }

    proptest! {
        /// The match ends at the same byte in every split.
        #[test]
        fn a_match_is_found_in_every_split(cuts in proptest::collection::vec(0_usize..40, 0..6)) {
            let output = b"boot\r\nwelcome to rack 4\r\nlogin: and more";
            let mut cuts = cuts;
            cuts.extend([0, output.len()]);
            cuts.sort_unstable();
            let mut matcher = matcher("rack \\d+\\r\\nlogin:");
            let mut found = 0;
            for pair in cuts.windows(2) {
                if let Some(end) = matcher.find(&output[pair[0]..pair[1].min(output.len())]) {
                    found = pair[0] + end;
                    break;
                }
            }
            prop_assert_eq!(&output[..found], &b"boot\r\nwelcome to rack 4\r\nlogin:"[..]);
        }
    }

    /// Why searches run on a thread: this one takes 0.2 s for a window in a release build, where 0.03 ms are usual.
    #[test]
    fn a_pattern_may_be_costly() {
        let mut matcher = matcher(COSTLY);
        let began = Instant::now();
        assert_eq!(matcher.find(&[b'x'; MATCH_WINDOW_BYTES]), None);
        eprintln!("a window took {:?}", began.elapsed());
        assert!(began.elapsed() > SLOW_MATCH_TIME);
    }

    /// As long as allowed (`crate::pattern`), with more states than a search may cache.
    const COSTLY: &str = r"(?s)[ -~].{600}[\x80-\x90]";

    #[test]
    fn memory_is_bounded_by_the_window() {
        let mut matcher = matcher("needle");
        for _ in 0..100 {
            assert_eq!(matcher.find(&[b'x'; READ_CHUNK]), None);
            assert!(matcher.window.len() <= MATCH_WINDOW_BYTES);
        }
        assert_eq!(matcher.find(b"nee"), None);
        assert_eq!(matcher.find(b"dles"), Some(3));
    }
}
