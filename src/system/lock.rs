//! Locks that outlive a panic: a session that panics must not end the others, and no update leaves an inconsistent state at any step.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mutex whose poison is ignored.
pub trait Lock<T> {
    fn locked(&self) -> MutexGuard<'_, T>;
}

impl<T> Lock<T> for Mutex<T> {
    fn locked(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
