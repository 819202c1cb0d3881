//! A listener that cannot accept, usually for lack of descriptors or memory: other tasks need time to release some, so it retries
//! after a pause. It keeps listening, and the failure is logged once.

use std::io;
use std::time::Duration;

/// After a failed accept.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Waits until the next attempt to accept is due.
pub async fn pause() {
    tokio::time::sleep(RETRY_DELAY).await;
}

#[derive(Debug, Default)]
pub struct Failing(bool);

impl Failing {
    /// The next connection of a listener. The first failure is logged, and retried after [`pause`]. Cancel safe if
    /// `accept` is.
    pub async fn accept<T, F>(&mut self, whom: &str, mut accept: impl FnMut() -> F) -> T
    where
        F: Future<Output = io::Result<T>>,
    {
        loop {
            match accept().await {
                Ok(connection) => {
                    self.0 = false;
                    return connection;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.0, true) {
                        tracing::warn!("cannot accept {whom}: {error}");
                    }
                    pause().await;
                }
            }
        }
    }
}
