//! How many local clients may be in the room, and how many before it is known whether they may. The sockets are open to every
//! account, so without limits of their own anybody could take all places and say nothing. One account may have many uids
//! (subuid (5)), so those of all together are bounded too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::Uid;
use thiserror::Error;

/// Clients of one uid that have not been judged yet. Root is not counted.
const MAX_CLIENTS_PER_UID: usize = 4;
/// Clients of all people's uids that have not.
const MAX_CLIENTS_OF_PEOPLE: usize = 64;
/// Uids below this are the system's (`SYS_UID_MAX`, login.defs (5)). They are few and nobody can have more of them; console-admin's
/// is among them, and must get through to a port that people crowd.
const FIRST_PERSONAL_UID: u32 = 1000;

/// Why one more has to stay outside.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum QueueFull {
    /// Of this uid there are enough.
    #[error("too many clients of uid {0} wait for an answer; try again")]
    Uid(u32),
    /// Of all of them there are.
    #[error("too many local clients wait for an answer; try again")]
    Total,
}

/// The clients that have not been judged yet, by uid.
#[derive(Debug, Clone, Default)]
pub(super) struct PendingClients(Arc<Mutex<HashMap<u32, usize>>>);

/// A place among them, given back when dropped.
#[derive(Debug)]
pub(super) struct PendingSlot {
    pending: PendingClients,
    uid: u32,
}

impl PendingClients {
    /// A place for a client of this uid.
    pub(super) fn admit(&self, uid: u32) -> Result<PendingSlot, QueueFull> {
        let mut unjudged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = unjudged.get(&uid).copied().unwrap_or_default();
        if own >= MAX_CLIENTS_PER_UID && !Uid::from_raw(uid).is_root() {
            return Err(QueueFull::Uid(uid));
        }
        let people = unjudged.iter().filter(|(uid, _)| **uid >= FIRST_PERSONAL_UID);
        if uid >= FIRST_PERSONAL_UID && people.map(|(_, count)| count).sum::<usize>() >= MAX_CLIENTS_OF_PEOPLE
        {
            return Err(QueueFull::Total);
        }
        unjudged.insert(uid, own + 1);
        Ok(PendingSlot { pending: self.clone(), uid })
    }
}

impl Drop for PendingSlot {
    fn drop(&mut self) {
        let mut unjudged = self.pending.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let unjudged = PendingClients::default();
        let mut tickets: Vec<_> = (0..MAX_CLIENTS_PER_UID).map(|_| unjudged.admit(1000).unwrap()).collect();
        assert_eq!(unjudged.admit(1000).unwrap_err(), QueueFull::Uid(1000));
        assert!(unjudged.admit(1001).is_ok());
        tickets.pop();
        assert!(unjudged.admit(1000).is_ok());
        tickets.extend((0..10 * MAX_CLIENTS_PER_UID).map(|_| unjudged.admit(0).unwrap()));
        drop(tickets);
        assert!(unjudged.0.lock().unwrap().is_empty(), "nothing stays behind");
    }
    #[test]
    fn people_with_many_uids_cannot_take_every_place_and_the_system_gets_through() {
        let unjudged = PendingClients::default();
        let mut tickets: Vec<_> =
            (0..MAX_CLIENTS_OF_PEOPLE as u32).map(|n| unjudged.admit(100_000 + n).unwrap()).collect();
        assert_eq!(unjudged.admit(1000).unwrap_err(), QueueFull::Total);
        assert!(unjudged.admit(FIRST_PERSONAL_UID - 1).is_ok() && unjudged.admit(0).is_ok());
        tickets.pop();
        assert!(unjudged.admit(1000).is_ok());
    }
}
