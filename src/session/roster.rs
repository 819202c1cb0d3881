//! The sessions attached to a port, and which of them have write access: one, unless `write = "shared"`; the others are read-only.
//! A read-only session gets write access only by asking for it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::config::{Right, Writers};
pub use crate::printable::plain;

/// Notices queued for one session. Further ones are dropped if its client does not read; `w` prints the state at any time.
const NOTICES_MAX: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedUser {
    pub user: String,
    /// Address, or `local`.
    pub from: String,
    pub right: Right,
}

impl fmt::Display for AttachedUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", plain(&self.user), plain(&self.from))
    }
}

/// Why a session does not get write access.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WriteDenied {
    #[error("your access to this port is read-only")]
    ReadOnly,
    #[error("{0} has write access")]
    HasWriter(AttachedUser),
}

#[derive(Debug)]
pub struct AttachedSession {
    pub(crate) client: AttachedUser,
    pub(crate) since: Timestamp,
    /// Whether it has write access.
    pub writes: bool,
    notices: mpsc::Sender<String>,
    /// Taken when used.
    disconnect: Option<oneshot::Sender<String>>,
}

/// Messages that a session receives from others.
#[derive(Debug)]
pub struct Notifications {
    pub notices: mpsc::Receiver<String>,
    /// The reason, when an administrator disconnects the user.
    pub disconnect: oneshot::Receiver<String>,
}

/// Identifies a session while it is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(u64);

/// All sessions attached to a port.
#[derive(Debug, Default)]
pub struct Roster {
    sessions: BTreeMap<SessionId, AttachedSession>,
    next: u64,
    writers: Writers,
}

impl Roster {
    /// Attaches a session, with write access if it is free.
    pub fn attach(&mut self, client: AttachedUser) -> (SessionId, Notifications) {
        let writes = client.right == Right::Write && self.has_free_writer();
        let role = if writes { "read-write" } else { "read-only" };
        self.notify_all(None, &format!("{client} attached, {role}"));
        let id = SessionId(self.next);
        self.next += 1;
        let (notices, inbox) = mpsc::channel(NOTICES_MAX);
        let (dismissal, dismissed) = oneshot::channel();
        let attached =
            AttachedSession { client, since: Timestamp::now(), writes, notices, disconnect: Some(dismissal) };
        self.sessions.insert(id, attached);
        (id, Notifications { notices: inbox, disconnect: dismissed })
    }

    /// Asks all sessions of a user to end, with a reason. Returns their number. They detach themselves.
    pub fn disconnect(&mut self, user: &str, why: &str) -> usize {
        let dismissals = self.sessions.values_mut().filter(|attached| attached.client.user == user);
        let dismissals = dismissals.filter_map(|attached| attached.disconnect.take());
        dismissals.filter_map(|dismissal| dismissal.send(why.to_owned()).ok()).count()
    }

    /// Sets how many sessions may have write access. Those that have it keep it.
    pub fn set_writers(&mut self, writers: Writers) {
        self.writers = writers;
    }

    /// Whether one more session may have write access.
    fn has_free_writer(&self) -> bool {
        self.writers == Writers::Shared || self.writer().is_none()
    }

    /// Removes a session. Returns its user.
    pub fn detach(&mut self, id: SessionId) -> Option<AttachedUser> {
        let AttachedSession { client, writes, .. } = self.sessions.remove(&id)?;
        let vacancy = if writes && self.writer().is_none() { "; no client has write access" } else { "" };
        self.notify_all(None, &format!("{client} detached{vacancy}"));
        Some(client)
    }

    /// Whether this session has write access.
    pub fn writes(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|attached| attached.writes)
    }

    /// The session with write access, or the first of them.
    pub fn writer(&self) -> Option<&AttachedSession> {
        self.sessions.values().find(|attached| attached.writes)
    }

    /// All sessions, in the order in which they attached.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &AttachedSession)> {
        self.sessions.iter().map(|(id, attached)| (*id, attached))
    }

    /// Gives `id` write access if it is free.
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

    /// Makes `id` the only writer, and notifies the sessions that lose write access.
    pub fn take_over(&mut self, id: SessionId) -> Result<(), WriteDenied> {
        self.may_write(id)?;
        let Some(taker) = self.sessions.get(&id).map(|attached| attached.client.to_string()) else {
            return Ok(());
        };
        for (other, attached) in &mut self.sessions {
            if attached.writes && *other != id {
                attached.writes = false;
                notify(attached, format!("{taker} took over; you are now read-only"));
            }
        }
        self.grant_write(id);
        Ok(())
    }

    fn may_write(&self, id: SessionId) -> Result<(), WriteDenied> {
        match self.sessions.get(&id) {
            Some(attached) if attached.client.right == Right::Watch => Err(WriteDenied::ReadOnly),
            _ => Ok(()),
        }
    }

    /// Makes `id` read-only.
    pub fn release_write(&mut self, id: SessionId) {
        let Some(attached) = self.sessions.get_mut(&id) else { return };
        if std::mem::take(&mut attached.writes) {
            let text = format!("{} is now read-only; no client has write access", attached.client);
            self.notify_all(Some(id), &text);
        }
    }

    fn grant_write(&mut self, id: SessionId) {
        let Some(attached) = self.sessions.get_mut(&id) else { return };
        if !std::mem::replace(&mut attached.writes, true) {
            let text = format!("{} now has write access", attached.client);
            self.notify_all(Some(id), &text);
        }
    }

    /// Sends a notice to all sessions but `except`.
    pub fn notify_all(&mut self, except: Option<SessionId>, text: &str) {
        for (id, attached) in &self.sessions {
            if Some(*id) != except {
                notify(attached, text.to_owned());
            }
        }
    }
}

fn notify(attached: &AttachedSession, text: String) {
    // Full: see NOTICES_MAX. Closed: the session is ending.
    let _ = attached.notices.try_send(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(user: &str) -> AttachedUser {
        AttachedUser { user: user.to_owned(), from: "::1".to_owned(), right: Right::Write }
    }

    fn received(notifications: &mut Notifications) -> Vec<String> {
        std::iter::from_fn(|| notifications.notices.try_recv().ok()).collect()
    }

    #[test]
    fn the_first_session_has_write_access_and_no_other_gets_it_unasked() {
        let mut roster = Roster::default();
        let (alice, _alice_inbox) = roster.attach(client("alice"));
        let (bob, mut bob_inbox) = roster.attach(client("bob"));
        assert!(roster.writes(alice) && !roster.writes(bob));
        assert_eq!(roster.request_write(bob), Err(WriteDenied::HasWriter(client("alice"))));
        roster.detach(alice);
        assert!(!roster.writes(bob));
        assert_eq!(received(&mut bob_inbox), ["alice (::1) detached; no client has write access"]);
        assert_eq!(roster.request_write(bob), Ok(()));
        assert!(roster.writes(bob));
    }

    #[test]
    fn the_session_that_loses_write_access_is_told_who_took_over() {
        let mut roster = Roster::default();
        let (alice, mut alice_inbox) = roster.attach(client("alice"));
        let (bob, mut bob_inbox) = roster.attach(client("bob"));
        roster.take_over(bob).unwrap();
        assert!(roster.writes(bob) && !roster.writes(alice));
        assert_eq!(
            received(&mut alice_inbox),
            [
                "bob (::1) attached, read-only",
                "bob (::1) took over; you are now read-only",
                "bob (::1) now has write access"
            ]
        );
        roster.release_write(bob);
        assert!(roster.writer().is_none());
        assert_eq!(received(&mut bob_inbox), Vec::<String>::new());
    }

    #[test]
    fn a_user_with_read_only_access_never_gets_write_access() {
        let mut roster = Roster::default();
        let (carol, mut notifications) =
            roster.attach(AttachedUser { right: Right::Watch, ..client("carol") });
        assert!(!roster.writes(carol));
        assert_eq!(roster.request_write(carol), Err(WriteDenied::ReadOnly));
        assert_eq!(roster.take_over(carol), Err(WriteDenied::ReadOnly));
        let (alice, _alice_inbox) = roster.attach(client("alice"));
        assert!(roster.writes(alice) && !roster.writes(carol));
        assert_eq!(received(&mut notifications), ["alice (::1) attached, read-write"]);
    }

    #[test]
    fn a_shared_port_has_many_writers_until_one_takes_over() {
        let mut roster = Roster::default();
        roster.set_writers(Writers::Shared);
        let (alice, mut notifications) = roster.attach(client("alice"));
        let (bob, _bob_inbox) = roster.attach(client("bob"));
        assert!(roster.writes(alice) && roster.writes(bob));
        roster.take_over(bob).unwrap();
        assert!(!roster.writes(alice) && roster.writes(bob));
        assert_eq!(
            received(&mut notifications),
            ["bob (::1) attached, read-write", "bob (::1) took over; you are now read-only"]
        );
        assert_eq!(roster.request_write(alice), Ok(()));
        assert!(roster.writes(alice) && roster.writes(bob));
    }

    #[test]
    fn a_disconnected_user_is_told_why_and_the_others_stay() {
        let mut roster = Roster::default();
        let (_, mut alice) = roster.attach(client("alice"));
        let (_, mut bob) = roster.attach(client("bob"));
        assert_eq!(roster.disconnect("alice", "go"), 1);
        assert_eq!(alice.disconnect.try_recv().as_deref(), Ok("go"));
        assert!(bob.disconnect.try_recv().is_err());
        assert_eq!(roster.disconnect("alice", "go"), 0, "already notified");
        assert_eq!(roster.disconnect("carol", "go"), 0);
    }

    #[test]
    fn notices_for_a_client_that_does_not_read_are_bounded() {
        let mut roster = Roster::default();
        let (_, mut inbox) = roster.attach(client("stopped"));
        for _ in 0..1000 {
            let (id, _) = roster.attach(client("fickle"));
            roster.detach(id);
        }
        assert_eq!(received(&mut inbox).len(), NOTICES_MAX);
    }

    #[test]
    fn a_name_with_an_escape_sequence_is_harmless() {
        assert_eq!(client("a\x1b[2J\u{9b}b\u{202e}").to_string(), "a?[2J?b? (::1)");
    }
}
