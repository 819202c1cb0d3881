//! The seats of those who have logged in, at one port or listener: bounded, since each costs memory, and shared, since one user who
//! takes them all (a script that leaves its sessions open) would keep out everybody else, those included who could end these sessions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

/// All seats: more than people ever watched one console.
pub const SEATS: usize = 64;
/// Of one user.
const OF_ONE_USER: usize = 48;
/// The last ones are for users who have none yet,
const FOR_NEWCOMERS: usize = 8;
/// and the last of those for administrators.
const FOR_ADMINISTRATORS: usize = 4;

/// Groups whose members are administrators, as they are of sudo.
const GROUPS: [&str; 2] = ["root", "sudo"];

/// Why there is no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Full {
    /// Others have them.
    #[error("{SEATS} sessions are there: no more")]
    All,
    /// The user has enough.
    #[error("you have {0} sessions there: the seats that are left are for other users")]
    Own(usize),
    /// What is left is for administrators.
    #[error("{0} sessions are there: the last seats are for root and the members of sudo")]
    Reserved(usize),
}

/// The seats: how many each user has.
#[derive(Debug, Default)]
pub struct Seats(Mutex<BTreeMap<String, usize>>);

/// One of them, given back when dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    user: String,
}

/// Whether one with this user id and these groups is an administrator.
pub fn is_administrator(uid: u32, groups: &[String]) -> bool {
    uid == 0 || groups.iter().any(|group| GROUPS.contains(&group.as_str()))
}

impl Seats {
    /// A seat for a user.
    pub fn take(self: &Arc<Self>, user: &str, administrator: bool) -> Result<Seat, Full> {
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: usize = seats.values().sum();
        let own = seats.get(user).copied().unwrap_or_default();
        if taken >= SEATS {
            return Err(Full::All);
        }
        if own >= OF_ONE_USER || own > 0 && taken >= SEATS - FOR_NEWCOMERS {
            return Err(Full::Own(own));
        }
        if taken >= SEATS - FOR_ADMINISTRATORS && !administrator {
            return Err(Full::Reserved(taken));
        }
        *seats.entry(user.to_owned()).or_default() += 1;
        Ok(Seat { seats: self.clone(), user: user.to_owned() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = seats.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                seats.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_room_for_others_and_all_of_them_for_administrators() {
        let seats = Arc::new(Seats::default());
        let mut taken: Vec<Seat> = Vec::new();
        while let Ok(seat) = seats.take("script", false) {
            taken.push(seat);
        }
        assert_eq!(taken.len(), OF_ONE_USER);
        assert_eq!(
            seats.take("script", true).unwrap_err(),
            Full::Own(OF_ONE_USER),
            "nor as an administrator"
        );
        while let Ok(seat) = seats.take("another", false) {
            taken.push(seat);
        }
        assert_eq!(taken.len(), SEATS - FOR_NEWCOMERS, "two users leave room for a third");
        for user in 0..SEATS {
            taken.extend(seats.take(&format!("user-{user}"), false));
        }
        assert_eq!(taken.len(), SEATS - FOR_ADMINISTRATORS);
        assert_eq!(seats.take("late", false).unwrap_err(), Full::Reserved(SEATS - FOR_ADMINISTRATORS));
        for user in 0..SEATS {
            taken.extend(seats.take(&format!("admin-{user}"), true));
        }
        assert_eq!(taken.len(), SEATS, "as many as before, and no more");
        assert_eq!(seats.take("root", true).unwrap_err(), Full::All);
        taken.clear();
        assert!(seats.0.lock().unwrap().is_empty(), "nothing stays behind");
        assert!(seats.take("script", false).is_ok());
    }

    #[test]
    fn root_and_the_members_of_sudo_and_root_are_administrators() {
        let groups = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert!(is_administrator(0, &[]));
        assert!(
            is_administrator(1000, &groups(&["users", "sudo"])) && is_administrator(1000, &groups(&["root"]))
        );
        assert!(!is_administrator(1000, &groups(&["dialout", "sudoers"])));
    }
}
