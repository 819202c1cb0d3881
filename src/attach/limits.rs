//! How many local clients may be in the room, and how many of one account before it is known whether that one may. The
//! sockets are open to every account, so without the second limit anybody could take all places and say nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::Uid;

/// Clients of one account that have not been judged yet. Root is not counted.
const PER_UID: usize = 4;

/// The clients that have not been judged yet, by uid.
#[derive(Debug, Clone, Default)]
pub(super) struct Unjudged(Arc<Mutex<HashMap<u32, usize>>>);

/// A place among them, given back when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    unjudged: Unjudged,
    uid: u32,
}

impl Unjudged {
    /// A place for a client of this account; `None` when it has too many.
    pub(super) fn admit(&self, uid: u32) -> Option<Ticket> {
        let mut unjudged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = unjudged.entry(uid).or_default();
        if *count >= PER_UID && !Uid::from_raw(uid).is_root() {
            return None;
        }
        *count += 1;
        Some(Ticket { unjudged: self.clone(), uid })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut unjudged = self.unjudged.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = unjudged.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                unjudged.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_account_cannot_take_every_place_and_root_can() {
        let unjudged = Unjudged::default();
        let mut tickets: Vec<_> = (0..PER_UID).map(|_| unjudged.admit(1000).unwrap()).collect();
        assert!(unjudged.admit(1000).is_none());
        assert!(unjudged.admit(1001).is_some());
        tickets.pop();
        assert!(unjudged.admit(1000).is_some());
        tickets.extend((0..10 * PER_UID).map(|_| unjudged.admit(0).unwrap()));
        drop(tickets);
        assert!(unjudged.0.lock().unwrap().is_empty(), "nothing stays behind");
    }
}
