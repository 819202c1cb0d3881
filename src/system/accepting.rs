//! A listener that cannot accept, for want of descriptors or memory mostly: others need time to give some back, so it is tried again
//! after a pause. Listening goes on, and the journal is told once.

use std::fmt::Display;
use std::time::Duration;

/// After a failed accept.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Waits until an accept is worth another try.
pub async fn pause() {
    tokio::time::sleep(RETRY_DELAY).await;
}

/// Whether accepts fail at present.
#[derive(Debug, Default)]
pub struct Failing(bool);

impl Failing {
    /// One has not.
    pub fn is_over(&mut self) {
        self.0 = false;
    }

    /// Says that no `whom` can be accepted, if that is news; then waits as [`pause`].
    pub async fn goes_on(&mut self, whom: &str, error: impl Display) {
        if !std::mem::replace(&mut self.0, true) {
            tracing::warn!("no {whom} can be accepted: {error}");
        }
        pause().await;
    }
}
