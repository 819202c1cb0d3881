//! A listener that cannot accept, usually for lack of descriptors or memory: other tasks need time to release some, so it retries
//! after a pause. It keeps listening, and the failure is logged once.

use std::fmt::Display;
use std::io;
use std::time::Duration;

/// After a failed accept.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Waits until the next attempt to accept is due.
pub async fn pause() {
    tokio::time::sleep(RETRY_DELAY).await;
}

/// Whether accepts fail at present.
#[derive(Debug, Default)]
pub struct Failing(bool);

impl Failing {
    /// The next connection of a listener. Cancel safe if `accept` is.
    pub async fn accept<T, F>(&mut self, whom: &str, mut accept: impl FnMut() -> F) -> T
    where
        F: Future<Output = io::Result<T>>,
    {
        loop {
            match accept().await {
                Ok(connection) => {
                    self.is_over();
                    return connection;
                }
                Err(error) => self.accept_failed(whom, error).await,
            }
        }
    }

    /// An accept has succeeded.
    pub fn is_over(&mut self) {
        self.0 = false;
    }

    /// Reports that no `whom` can be accepted, if that is new, and waits as [`pause`].
    pub async fn accept_failed(&mut self, whom: &str, error: impl Display) {
        if !std::mem::replace(&mut self.0, true) {
            tracing::warn!("cannot accept {whom}: {error}");
        }
        pause().await;
    }
}
