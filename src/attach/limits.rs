//! Limits on local clients whose access is not checked yet. The sockets are open to every account, so without a limit one account could
//! take all connections without sending a request. One account may have many uids (subuid(5)), so their total is limited too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use nix::unistd::Uid;
use thiserror::Error;

use crate::system::lock::Lock;

/// Pending clients of one uid. Root has no limit.
const MAX_CLIENTS_PER_UID: usize = 4;
/// Pending clients of all uids of people.
const MAX_CLIENTS_OF_PEOPLE: usize = 64;
/// Uids below this are system accounts (`SYS_UID_MAX`, login.defs(5)), which are few. console-admin's is one of them, and must get
/// through to a port that is busy with other clients.
const FIRST_PERSONAL_UID: u32 = 1000;

/// Why a client is rejected.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum QueueFull {
    #[error("too many pending clients of uid {0}; try again")]
    Uid(u32),
    #[error("too many pending local clients; try again")]
    Total,
}

/// Number of pending clients by uid.
#[derive(Debug, Clone, Default)]
pub(super) struct PendingClients(Arc<Mutex<HashMap<u32, usize>>>);

/// Counts a pending client until dropped.
#[derive(Debug)]
pub(super) struct PendingSlot {
    pending: PendingClients,
    uid: u32,
}

impl PendingClients {
    pub(super) fn admit(&self, uid: u32) -> Result<PendingSlot, QueueFull> {
        let mut pending = self.0.locked();
        let own = pending.get(&uid).copied().unwrap_or_default();
        if own >= MAX_CLIENTS_PER_UID && !Uid::from_raw(uid).is_root() {
            return Err(QueueFull::Uid(uid));
        }
        let people = pending.iter().filter(|(uid, _)| **uid >= FIRST_PERSONAL_UID);
        if uid >= FIRST_PERSONAL_UID && people.map(|(_, count)| count).sum::<usize>() >= MAX_CLIENTS_OF_PEOPLE
        {
            return Err(QueueFull::Total);
        }
        pending.insert(uid, own + 1);
        Ok(PendingSlot { pending: self.clone(), uid })
    }
}

impl Drop for PendingSlot {
    fn drop(&mut self) {
        let mut pending = self.pending.0.locked();
        if let Some(count) = pending.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                pending.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_uid_cannot_take_all_slots_and_root_has_no_limit() {
        let pending = PendingClients::default();
        let mut slots: Vec<_> = (0..MAX_CLIENTS_PER_UID).map(|_| pending.admit(1000).unwrap()).collect();
        assert_eq!(pending.admit(1000).unwrap_err(), QueueFull::Uid(1000));
        assert!(pending.admit(1001).is_ok());
        slots.pop();
        assert!(pending.admit(1000).is_ok());
        slots.extend((0..10 * MAX_CLIENTS_PER_UID).map(|_| pending.admit(0).unwrap()));
        drop(slots);
        assert!(pending.0.lock().unwrap().is_empty(), "all are freed");
    }
    #[test]
    fn an_account_with_many_uids_does_not_block_system_accounts() {
        let pending = PendingClients::default();
        let mut slots: Vec<_> =
            (0..MAX_CLIENTS_OF_PEOPLE as u32).map(|n| pending.admit(100_000 + n).unwrap()).collect();
        assert_eq!(pending.admit(1000).unwrap_err(), QueueFull::Total);
        assert!(pending.admit(FIRST_PERSONAL_UID - 1).is_ok() && pending.admit(0).is_ok());
        slots.pop();
        assert!(pending.admit(1000).is_ok());
    }
}
