//! Limits of authenticated connections at one port or listener. They bound the memory, and are shared, since
//! one user who takes all (a script that leaves sessions open) would lock out everyone else, including those
//! who could end these sessions. An SSH connection without a session (`ssh -MN`, `ControlPersist`) gives way
//! when its slot is needed for another login.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use thiserror::Error;
use tokio::sync::Notify;

use crate::system::lock::Lock;

/// Limit of connections: more than users of any console, and three times Ansible's default forks.
pub const MAX_CONNECTIONS: usize = 96;
/// Limit for one user.
const OF_ONE_USER: usize = 64;
/// How many of the last seats are reserved for users who have none yet.
const FOR_NEWCOMERS: usize = 8;
/// How many of those are reserved for administrators.
const FOR_ADMINISTRATORS: usize = 4;

/// Groups whose members are administrators.
const GROUPS: [&str; 2] = ["root", "sudo"];

/// Why a connection is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Full {
    #[error("the limit of {MAX_CONNECTIONS} sessions is reached")]
    All,
    #[error("you have {0} sessions: the remaining ones are reserved for other users")]
    Own(usize),
    #[error("there are {0} sessions: the remaining ones are reserved for root and members of sudo")]
    Reserved(usize),
}

/// The connections, idle ones in the order in which they became idle.
#[derive(Debug, Default)]
pub struct Seats(Mutex<Vec<Arc<Taken>>>);

/// One connection; released when dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    taken: Arc<Taken>,
}

#[derive(Debug)]
struct Taken {
    user: String,
    idle: AtomicBool,
    lost: Notify,
}

/// Whether a user with this user ID and these groups is an administrator.
pub fn is_administrator(uid: u32, groups: &[String]) -> bool {
    uid == 0 || groups.iter().any(|group| GROUPS.contains(&group.as_str()))
}

impl Seats {
    /// Admits a connection of a user. If the limit is reached, the connection that has been idle for longest
    /// is dropped: one of the user's own if the user has reached the limit for one user, otherwise any.
    pub fn take(self: &Arc<Self>, user: &str, administrator: bool) -> Result<Seat, Full> {
        let mut seats = self.0.locked();
        while let Some(full) = full(&seats, user, administrator) {
            let own_only = matches!(full, Full::Own(_));
            let gives_way =
                |taken: &Arc<Taken>| taken.idle.load(Ordering::Relaxed) && (!own_only || taken.user == user);
            let loser = seats.iter().position(gives_way).ok_or(full)?;
            seats.remove(loser).lost.notify_one();
        }
        let taken =
            Arc::new(Taken { user: user.to_owned(), idle: AtomicBool::default(), lost: Notify::new() });
        seats.push(taken.clone());
        Ok(Seat { seats: self.clone(), taken })
    }
}

/// Why the user's connection exceeds a limit.
fn full(seats: &[Arc<Taken>], user: &str, administrator: bool) -> Option<Full> {
    let taken = seats.len();
    let own = seats.iter().filter(|taken| taken.user == user).count();
    if own >= OF_ONE_USER || own > 0 && taken >= MAX_CONNECTIONS - FOR_NEWCOMERS {
        return Some(Full::Own(own));
    }
    if taken >= MAX_CONNECTIONS {
        return Some(Full::All);
    }
    (taken >= MAX_CONNECTIONS - FOR_ADMINISTRATORS && !administrator).then_some(Full::Reserved(taken))
}

impl Seat {
    /// Sets whether the connection has no session and gives way to others.
    pub fn set_idle(&self, idle: bool) {
        let mut seats = self.seats.0.locked();
        self.taken.idle.store(idle, Ordering::Relaxed);
        if let Some(at) = seats.iter().position(|taken| idle && Arc::ptr_eq(taken, &self.taken)) {
            seats[at..].rotate_left(1);
        }
    }

    /// Waits until another login has taken the place. Cancel safe.
    pub async fn lost(&self) {
        self.taken.lost.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.0.locked().retain(|taken| !Arc::ptr_eq(taken, &self.taken));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn one_user_leaves_room_for_others_and_all_users_for_administrators() {
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
        assert_eq!(taken.len(), MAX_CONNECTIONS - FOR_NEWCOMERS, "two users leave room for a third");
        for user in 0..MAX_CONNECTIONS {
            taken.extend(seats.take(&format!("user-{user}"), false));
        }
        assert_eq!(taken.len(), MAX_CONNECTIONS - FOR_ADMINISTRATORS);
        assert_eq!(
            seats.take("late", false).unwrap_err(),
            Full::Reserved(MAX_CONNECTIONS - FOR_ADMINISTRATORS)
        );
        for user in 0..MAX_CONNECTIONS {
            taken.extend(seats.take(&format!("admin-{user}"), true));
        }
        assert_eq!(taken.len(), MAX_CONNECTIONS, "as many as before, and no more");
        assert_eq!(seats.take("root", true).unwrap_err(), Full::All);
        taken.clear();
        assert!(seats.0.locked().is_empty(), "nothing stays behind");
        assert!(seats.take("script", false).is_ok());
    }

    fn is_lost(seat: &Seat) -> bool {
        seat.lost().now_or_never().is_some()
    }

    #[test]
    fn idle_connections_give_way_the_longest_idle_first() {
        let seats = Arc::new(Seats::default());
        let masters: Vec<_> = (0..OF_ONE_USER).map(|_| seats.take("script", false).unwrap()).collect();
        for master in [&masters[5], &masters[3], &masters[9]] {
            master.set_idle(true);
        }
        masters[5].set_idle(false);
        let _one = seats.take("script", false).unwrap();
        assert!(is_lost(&masters[3]) && !is_lost(&masters[9]), "5 has a session again");
        let _two = seats.take("script", false).unwrap();
        assert!(is_lost(&masters[9]));
        assert_eq!(seats.take("script", false).unwrap_err(), Full::Own(OF_ONE_USER));
        assert!(!masters.iter().any(is_lost), "the others have sessions");

        masters[7].set_idle(true);
        let others: Vec<_> = (0..).map_while(|user| seats.take(&format!("user-{user}"), true).ok()).collect();
        assert_eq!(others.len(), MAX_CONNECTIONS - OF_ONE_USER + 1, "one more, in the place of the idle one");
        assert!(is_lost(&masters[7]));
        drop(masters);
        assert_eq!(seats.0.locked().len(), others.len() + 2, "a seat that was lost is given back once");
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
