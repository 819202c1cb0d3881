//! Who is attached to a port and which of them writes. One writes, the rest watch; a watcher becomes the writer only by
//! asking. Everybody is told what concerns them.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::config::{Right, Writers};
pub use crate::printable::plain;

/// Notices that may wait for one session. A viewer that does not read them anyway misses further ones; `w` tells the
/// state at any time.
const NOTICES_MAX: usize = 32;

/// Somebody at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedUser {
    /// Login name.
    pub user: String,
    /// Address, or `local`.
    pub from: String,
    /// What they may do here.
    pub right: Right,
}

impl fmt::Display for AttachedUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", plain(&self.user), plain(&self.from))
    }
}

/// Why somebody does not become a writer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WriteDenied {
    /// The port's rules.
    #[error("you may only watch here")]
    ReadOnly,
    /// Somebody else writes.
    #[error("{0} writes")]
    HasWriter(AttachedUser),
}

/// One who is attached.
#[derive(Debug)]
pub struct AttachedSession {
    /// Who.
    pub client: AttachedUser,
    /// Since when.
    pub since: Timestamp,
    /// Whether this one writes.
    pub writes: bool,
    notices: mpsc::Sender<String>,
    /// Until used.
    disconnect: Option<oneshot::Sender<String>>,
}

/// What a member hears from the others.
#[derive(Debug)]
pub struct Notifications {
    /// What concerns it.
    pub notices: mpsc::Receiver<String>,
    /// Why it has to leave, once it has to.
    pub disconnect: oneshot::Receiver<String>,
}

/// Names a member while attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(u64);

/// Everybody who is attached to a port.
#[derive(Debug, Default)]
pub struct Roster {
    sessions: BTreeMap<SessionId, AttachedSession>,
    next: u64,
    writers: Writers,
}

impl Roster {
    /// Attaches somebody, as the writer if nobody is.
    pub fn attach(&mut self, client: AttachedUser) -> (SessionId, Notifications) {
        let writes = client.right == Right::Write && self.has_free_writer();
        let role = if writes { "writing" } else { "watching" };
        self.notify_all(None, &format!("{client} attached, {role}"));
        let id = SessionId(self.next);
        self.next += 1;
        let (notices, inbox) = mpsc::channel(NOTICES_MAX);
        let (dismissal, dismissed) = oneshot::channel();
        let member = AttachedSession { client, since: Timestamp::now(), writes, notices, disconnect: Some(dismissal) };
        self.sessions.insert(id, member);
        (id, Notifications { notices: inbox, disconnect: dismissed })
    }

    /// Ends all sessions of a user, saying why: how many. They leave by themselves.
    pub fn disconnect(&mut self, user: &str, why: &str) -> usize {
        let dismissals = self.sessions.values_mut().filter(|member| member.client.user == user);
        let dismissals = dismissals.filter_map(|member| member.disconnect.take());
        dismissals.filter_map(|dismissal| dismissal.send(why.to_owned()).ok()).count()
    }

    /// How many may write from now on. Those who do, do.
    pub fn set_writers(&mut self, writers: Writers) {
        self.writers = writers;
    }

    /// Whether one more may write without asking.
    fn has_free_writer(&self) -> bool {
        self.writers == Writers::Shared || self.writer().is_none()
    }

    /// Somebody has left: who.
    pub fn detach(&mut self, id: SessionId) -> Option<AttachedUser> {
        let AttachedSession { client, writes, .. } = self.sessions.remove(&id)?;
        let vacancy = if writes && self.writer().is_none() { "; nobody writes now" } else { "" };
        self.notify_all(None, &format!("{client} left{vacancy}"));
        Some(client)
    }

    /// Whether this member writes.
    pub fn writes(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|member| member.writes)
    }

    /// Who writes.
    pub fn writer(&self) -> Option<&AttachedSession> {
        self.sessions.values().find(|member| member.writes)
    }

    /// Everybody, in order of arrival.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &AttachedSession)> {
        self.sessions.iter().map(|(id, member)| (*id, member))
    }

    /// Makes `id` a writer if there is a place.
    pub fn request_write(&mut self, id: SessionId) -> Result<(), WriteDenied> {
        self.may_write(id)?;
        match self.writer() {
            Some(writer) if !self.has_free_writer() && !self.writes(id) => {
                Err(WriteDenied::HasWriter(writer.client.clone()))
            }
            _ => {
                self.grant_write(id);
                Ok(())
            }
        }
    }

    /// Makes `id` the one writer; whoever was is told by whom.
    pub fn take_over(&mut self, id: SessionId) -> Result<(), WriteDenied> {
        self.may_write(id)?;
        let Some(taker) = self.sessions.get(&id).map(|member| member.client.to_string()) else {
            return Ok(());
        };
        for (other, member) in &mut self.sessions {
            if member.writes && *other != id {
                member.writes = false;
                notify(member, format!("{taker} has taken over; you are watching"));
            }
        }
        self.grant_write(id);
        Ok(())
    }

    fn may_write(&self, id: SessionId) -> Result<(), WriteDenied> {
        match self.sessions.get(&id) {
            Some(member) if member.client.right == Right::Watch => Err(WriteDenied::ReadOnly),
            _ => Ok(()),
        }
    }

    /// Makes `id` a watcher.
    pub fn release_write(&mut self, id: SessionId) {
        let Some(member) = self.sessions.get_mut(&id) else { return };
        if std::mem::take(&mut member.writes) {
            let text = format!("{} only watches now; nobody writes", member.client);
            self.notify_all(Some(id), &text);
        }
    }

    fn grant_write(&mut self, id: SessionId) {
        let Some(member) = self.sessions.get_mut(&id) else { return };
        if !std::mem::replace(&mut member.writes, true) {
            let text = format!("{} writes now", member.client);
            self.notify_all(Some(id), &text);
        }
    }

    /// Tells everybody but `except`.
    pub fn notify_all(&mut self, except: Option<SessionId>, text: &str) {
        for (id, member) in &self.sessions {
            if Some(*id) != except {
                notify(member, text.to_owned());
            }
        }
    }
}

fn notify(member: &AttachedSession, text: String) {
    // Full: see NOTICES_MAX. Closed: the session is just ending.
    let _ = member.notices.try_send(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(user: &str) -> AttachedUser {
        AttachedUser { user: user.to_owned(), from: "::1".to_owned(), right: Right::Write }
    }

    fn said(notifications: &mut Notifications) -> Vec<String> {
        std::iter::from_fn(|| notifications.notices.try_recv().ok()).collect()
    }

    #[test]
    fn the_first_writes_and_no_watcher_is_promoted_unasked() {
        let mut roster = Roster::default();
        let (alice, _alice_inbox) = roster.attach(client("alice"));
        let (bob, mut bob_inbox) = roster.attach(client("bob"));
        assert!(roster.writes(alice) && !roster.writes(bob));
        assert_eq!(roster.attach(bob), Err(WriteDenied::HasWriter(client("alice"))));
        roster.detach(alice);
        assert!(!roster.writes(bob));
        assert_eq!(said(&mut bob_inbox), ["alice (::1) left; nobody writes now"]);
        assert_eq!(roster.attach(bob), Ok(()));
        assert!(roster.writes(bob));
    }

    #[test]
    fn the_loser_of_a_force_is_told_by_whom() {
        let mut roster = Roster::default();
        let (alice, mut alice_inbox) = roster.attach(client("alice"));
        let (bob, mut bob_inbox) = roster.attach(client("bob"));
        roster.take_over(bob).unwrap();
        assert!(roster.writes(bob) && !roster.writes(alice));
        assert_eq!(
            said(&mut alice_inbox),
            [
                "bob (::1) attached, watching",
                "bob (::1) has taken over; you are watching",
                "bob (::1) writes now"
            ]
        );
        roster.release_write(bob);
        assert!(roster.writer().is_none());
        assert_eq!(said(&mut bob_inbox), Vec::<String>::new());
    }

    #[test]
    fn who_may_only_watch_never_writes() {
        let mut roster = Roster::default();
        let (carol, mut notifications) = roster.attach(AttachedUser { right: Right::Watch, ..client("carol") });
        assert!(!roster.writes(carol));
        assert_eq!(roster.attach(carol), Err(WriteDenied::ReadOnly));
        assert_eq!(roster.take_over(carol), Err(WriteDenied::ReadOnly));
        let (alice, _alice_ears) = roster.attach(client("alice"));
        assert!(roster.writes(alice) && !roster.writes(carol));
        assert_eq!(said(&mut notifications), ["alice (::1) attached, writing"]);
    }

    #[test]
    fn a_shared_port_has_many_writers_until_one_takes_over() {
        let mut roster = Roster::default();
        roster.set_writers(Writers::Shared);
        let (alice, mut notifications) = roster.attach(client("alice"));
        let (bob, _bob_ears) = roster.attach(client("bob"));
        assert!(roster.writes(alice) && roster.writes(bob));
        roster.take_over(bob).unwrap();
        assert!(!roster.writes(alice) && roster.writes(bob));
        assert_eq!(
            said(&mut notifications),
            ["bob (::1) attached, writing", "bob (::1) has taken over; you are watching"]
        );
        assert_eq!(roster.attach(alice), Ok(()));
        assert!(roster.writes(alice) && roster.writes(bob));
    }

    #[test]
    fn who_is_dismissed_is_told_why_and_the_others_stay() {
        let mut roster = Roster::default();
        let (_, mut alice) = roster.attach(client("alice"));
        let (_, mut bob) = roster.attach(client("bob"));
        assert_eq!(roster.disconnect("alice", "go"), 1);
        assert_eq!(alice.disconnect.try_recv().as_deref(), Ok("go"));
        assert!(bob.disconnect.try_recv().is_err());
        assert_eq!(roster.disconnect("alice", "go"), 0, "already told");
        assert_eq!(roster.disconnect("carol", "go"), 0);
    }

    #[test]
    fn a_viewer_that_reads_no_notices_costs_no_memory() {
        let mut roster = Roster::default();
        let (_, mut inbox) = roster.attach(client("stopped"));
        for _ in 0..1000 {
            let (id, _) = roster.attach(client("fickle"));
            roster.detach(id);
        }
        assert_eq!(said(&mut inbox).len(), NOTICES_MAX);
    }

    #[test]
    fn a_name_with_an_escape_sequence_is_harmless() {
        assert_eq!(client("a\x1b[2J\u{9b}b\u{202e}").to_string(), "a?[2J?b? (::1)");
    }
}
