//! Attributes changes to their authors: which changes of others a change replaces, the changes of one
//! administrator, and those of a commit that was rolled back. Pure, as `edits` is.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::state::{Author, Rejected, State, is_again};
use crate::config::changes::{Change, Changes, KeyPath, stated};
use crate::config::{Text, Value};

/// Replaced changes of others that are listed; the removal of a port may replace dozens.
const NAMED_REPLACED: usize = 8;

/// An action on the configuration. The names are used in the signal and in the journal field
/// `CONSOLE_ACTION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Set,
    /// A key was unset, so that its default applies.
    Unset,
    Create,
    /// A port, or a whole trigger rule, was removed.
    Remove,
    Reload,
    /// Changes were written to the committed file.
    Commit,
    /// A commit that waited was confirmed.
    Confirm,
    Revert,
    Rollback,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Unset => "unset",
            Self::Create => "create",
            Self::Remove => "remove",
            Self::Reload => "reload",
            Self::Commit => "commit",
            Self::Confirm => "confirm",
            Self::Revert => "revert",
            Self::Rollback => "rollback",
        }
    }

    fn of(path: &KeyPath, is_there: bool) -> Self {
        match (path.key, is_there) {
            (None, true) => Self::Create,
            (None, false) => Self::Remove,
            (Some(_), true) => Self::Set,
            (Some(_), false) => Self::Unset,
        }
    }
}

/// The old and new value of a key in TOML syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Altered {
    /// The key, or the table of a port, template or trigger rule.
    pub path: KeyPath,
    pub action: Action,
    /// The old value; empty if there was none.
    pub old: String,
    /// The new value; empty if there is none.
    pub new: String,
    pub who: String,
}

impl Altered {
    /// What `action` makes of a change: its new value in place of `old`.
    pub fn new(action: Action, path: &KeyPath, change: &Change, old: Option<&Value>) -> Self {
        Self {
            path: path.clone(),
            action,
            old: shown(old, "configured"),
            new: outcome(path, change),
            who: change.who.clone(),
        }
    }
}

/// A value in TOML syntax; `table` in place of a whole table, which does not fit in a line.
pub fn shown(value: Option<&Value>, table: &str) -> String {
    match value {
        Some(Value::Table(_)) => table.to_owned(),
        value => value.map_or_else(String::new, Value::to_string),
    }
}

/// The value of a key after a change.
pub fn outcome(path: &KeyPath, change: &Change) -> String {
    match (path.key, &change.new) {
        (None, None) => "removed".to_owned(),
        (_, new) => shown(new.as_ref(), "new"),
    }
}

impl State {
    fn value(&self, path: &KeyPath) -> Option<Value> {
        let changed = || match self.candidate.get(path).or_else(|| self.running.get(path)) {
            Some(change) => change.new.clone(),
            None => stated(&self.committed.text, path),
        };
        path.effective(&self.candidate_config).or_else(changed)
    }

    /// The differences between this candidate and `next`.
    pub fn altered(&self, next: &Self, who: &str) -> Vec<Altered> {
        let who = || who.to_owned();
        let mut altered = Vec::new();
        for (path, change) in next.candidate.iter() {
            if self.candidate.get(path) != Some(change) {
                let old = shown(self.value(path).as_ref(), "configured");
                let action = Action::of(path, change.new.is_some());
                altered.push(Altered {
                    path: path.clone(),
                    action,
                    old,
                    new: outcome(path, change),
                    who: who(),
                });
            }
        }
        for (path, change) in self.candidate.iter().filter(|(path, _)| next.candidate.get(path).is_none()) {
            let gone = |name| !next.candidate_config.ports.contains_key(name);
            let is_again = is_again(&next.candidate, &path.scope) && !is_again(&self.candidate, &path.scope);
            if path.key.is_some() && (path.scope.port().is_some_and(gone) || is_again) {
                // Removed together with its table.
                continue;
            }
            let new = match path.key {
                None => "removed".to_owned(),
                Some(_) => shown(next.value(path).as_ref(), "configured"),
            };
            let action = Action::of(path, path.key.is_some() && !new.is_empty());
            altered.push(Altered { path: path.clone(), action, old: outcome(path, change), new, who: who() });
        }
        altered
    }

    /// The uncommitted changes of other users that `next` replaces: one sentence each.
    pub fn overridden(&self, next: &Self, author: &Author) -> Vec<String> {
        let is_others = |changes: &Changes| changes.iter().any(|(_, change)| change.who != author.who);
        if !is_others(&self.candidate) && !is_others(&self.running) {
            return Vec::new();
        }
        let after = next.pending();
        let sentence = |(path, change): (&KeyPath, &Change)| {
            let is_kept = change.who == author.who
                || after.get(path).is_some_and(|now| now.who == change.who || now.new == change.new);
            (!is_kept).then(|| {
                let ago = ago(change.when, author.when);
                match (path.key, &change.new) {
                    (None, None) => format!("replaced: {} removed {path} {ago}, it is restored", change.who),
                    (None, Some(_)) => {
                        format!("replaced: {} created {path} {ago}, it is removed", change.who)
                    }
                    (Some(_), new) => {
                        let was = shown(new.as_ref(), "");
                        let was = if was.is_empty() { "its default".to_owned() } else { was };
                        format!("replaced: {} changed {path} to {was} {ago}", change.who)
                    }
                }
            })
        };
        let mut sentences: Vec<String> = self.pending().iter().filter_map(sentence).collect();
        if sentences.len() > NAMED_REPLACED {
            let more = sentences.len() - NAMED_REPLACED;
            sentences.truncate(NAMED_REPLACED);
            sentences.push(format!("and {more} more changes of other users replaced"));
        }
        sentences
    }

    /// The uncommitted changes of one user, if they can be committed without those of others.
    pub fn changes_of(&self, who: &str) -> Result<Changes, Rejected> {
        let pending = self.pending();
        self.check_renames_of(who, pending)?;
        let mut own = Changes::default();
        for (path, change) in pending.iter().filter(|(_, change)| change.who == who) {
            let port = path.scope.port().map(|port| KeyPath::table(port.clone()));
            let tables = port.into_iter().chain([KeyPath { scope: path.scope.clone(), key: None }]);
            for table in tables.filter(|table| table != path) {
                if let Some(other) = pending.get(&table).filter(|other| other.who != who) {
                    return Err(Rejected::Depends {
                        key: path.to_string(),
                        table: table.to_string(),
                        who: other.who.clone(),
                    });
                }
            }
            own.insert(path.clone(), change.clone());
        }
        let text = own.apply(&self.committed.text).map_err(|error| Rejected::Whole(error.to_string()))?;
        own.candidate(&text).map_err(Rejected::Alone)?;
        Ok(own)
    }

    /// Rejects a rename unless all changes of the port are by the same user: it changes two tables, and
    /// moves the keys of the port.
    fn check_renames_of(&self, who: &str, pending: &Changes) -> Result<(), Rejected> {
        for (to, from) in pending.renames() {
            let is_of = |path: &KeyPath| path.scope.port().is_some_and(|port| *port == to || *port == from);
            let of = || pending.iter().filter(|(path, _)| is_of(path));
            let other = of().find(|(_, change)| change.who != who);
            if let (true, Some((path, change))) = (of().any(|(_, change)| change.who == who), other) {
                return Err(Rejected::Depends {
                    key: KeyPath::table(to).to_string(),
                    table: path.to_string(),
                    who: change.who.clone(),
                });
            }
        }
        Ok(())
    }

    /// The state after these changes only were committed as this text.
    pub fn settled_of(&self, committed: Text, which: &Changes) -> Self {
        let (mut running, mut candidate) = (self.running.clone(), self.candidate.clone());
        for (path, _) in which.iter() {
            running.remove(path);
            candidate.remove(path);
        }
        self.with(committed, None, running, candidate)
    }

    /// The state after the commit of these changes was rolled back to this text: nothing else runs, and the
    /// changes become the candidate, below those made since. Idempotent.
    pub fn rolled_back(&self, committed: Text, commit: &Changes, author: &Author) -> Self {
        let mut later = self.pending().clone();
        // Repeated: the renames of the commit are among these already.
        let names = later.renames();
        for (to, from) in commit.renames().iter().filter(|(to, from)| names.get(*to) == Some(*from)) {
            later.remove(&KeyPath::table(to.clone()));
            later.remove(&KeyPath::table(from.clone()));
        }
        let both = self.with(committed.clone(), None, commit.clone(), later).pending().clone();
        let mut candidate = Changes::default();
        // Names that several reloads passed from port to port cannot become the candidate: in one step they
        // would mix up the ports.
        let renames = both.renames();
        let passed_on = renames.values().any(|from| renames.contains_key(from));
        for (path, change) in both.iter().filter(|_| !passed_on) {
            let old = stated(&committed.text, &both.origin(path));
            candidate.insert(path.clone(), Change { old, ..change.clone() });
        }
        let reverted = self.reverted(committed, author);
        let mut next = self.with(reverted.committed, None, Changes::default(), candidate);
        (next.revision, next.last) = (reverted.revision.max(self.revision + 1), reverted.last);
        next
    }
}

/// `1 change`, `2 changes`
pub fn counted(count: usize) -> String {
    if count == 1 { "1 change".to_owned() } else { format!("{count} changes") }
}

/// `2 of 3 changes are carol's`; `None` if all are of `who`.
pub fn shares(changes: &Changes, who: &str) -> Option<String> {
    const MAX_LISTED_USERS: usize = 3;
    let mut others: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, change) in changes.iter().filter(|(_, change)| change.who != who) {
        *others.entry(&change.who).or_default() += 1;
    }
    let all = changes.len();
    let mut parts: Vec<String> = others
        .iter()
        .take(MAX_LISTED_USERS)
        .map(|(name, count)| format!("{count} {} {name}'s", if *count == 1 { "is" } else { "are" }))
        .collect();
    let (first, more) = (parts.first_mut()?, others.len().saturating_sub(MAX_LISTED_USERS));
    *first = first.replacen(' ', &format!(" of {} ", counted(all)), 1);
    if more > 0 {
        parts.push(format!("the others are by {more} more users"));
    }
    Some(parts.join(", "))
}

/// `2 minutes ago`
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    match (count, unit) {
        (0, "second") => "just now".to_owned(),
        (1, unit) => format!("1 {unit} ago"),
        (count, unit) => format!("{count} {unit}s ago"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::PortName;

    const TEXT: &str = "[ports.a]\nssh_port = 1001\nbaud = 9600\n[ports.b]\nssh_port = 1002\n";

    fn text(text: &str) -> Text {
        Text { text: text.to_owned(), path: "/etc/config.toml".into() }
    }
    fn state() -> State {
        State::new(text(TEXT), None, Changes::default(), Changes::default(), 1, None)
    }
    fn at(who: &str, second: i64) -> Author {
        Author { who: who.to_owned(), when: Timestamp::from_second(second).unwrap() }
    }
    fn name(port: &str) -> PortName {
        port.parse().unwrap()
    }
    impl State {
        fn by(&self, who: &str, path: &str, value: impl Into<Value>) -> Self {
            self.set(path.parse().unwrap(), Some(value.into()), &at(who, 0)).unwrap()
        }
        fn keys(&self) -> Vec<String> {
            self.pending().iter().map(|(path, change)| format!("{path} by {}", change.who)).collect()
        }
    }
    fn reported(before: &State, after: &State) -> Vec<String> {
        let line = |one: Altered| format!("{} {} {:?} {:?}", one.action.as_str(), one.path, one.old, one.new);
        before.altered(after, "alice").into_iter().map(line).collect()
    }

    #[test]
    fn each_change_is_reported_with_its_old_and_new_value() {
        let set = state().by("alice", "ports.a.baud", 300);
        assert_eq!(reported(&state(), &set), ["set ports.a.baud \"9600\" \"300\""]);
        let back = set.by("alice", "ports.a.baud", 9600);
        assert_eq!(reported(&set, &back), ["set ports.a.baud \"300\" \"9600\""]);
        let unset = state().set("ports.a.baud".parse().unwrap(), None, &at("alice", 0)).unwrap();
        assert_eq!(reported(&state(), &unset), ["unset ports.a.baud \"9600\" \"\""]);
        let made = state().create(&name("c"), &at("alice", 0)).unwrap();
        assert_eq!(reported(&state(), &made), ["create ports.c \"\" \"new\""]);
        let of_it = made.by("alice", "ports.c.baud", 300);
        let gone = of_it.remove(&name("c"), &at("alice", 0)).unwrap();
        assert_eq!(reported(&of_it, &gone), ["remove ports.c \"new\" \"removed\""]);
        let gone = set.remove(&name("a"), &at("alice", 0)).unwrap();
        assert_eq!(reported(&set, &gone), ["remove ports.a \"configured\" \"removed\""]);
    }

    #[test]
    fn replaced_changes_of_others_are_reported_and_one_s_own_are_not() {
        let carol = state().by("carol", "ports.a.baud", 300);
        let later = at("alice", 125);
        let over = carol.set("ports.a.baud".parse().unwrap(), Some(600.into()), &later).unwrap();
        assert_eq!(
            carol.overridden(&over, &later),
            ["replaced: carol changed ports.a.baud to 300 2 minutes ago"]
        );
        // Also if the change runs already, if the key is set back, and if its port is removed.
        let runs = carol.reloaded(|_| true);
        let back = runs.set("ports.a.baud".parse().unwrap(), Some(9600.into()), &later).unwrap();
        assert_eq!(runs.overridden(&back, &later).len(), 1);
        let gone = carol.remove(&name("a"), &later).unwrap();
        assert_eq!(carol.overridden(&gone, &later).len(), 1);
        for mine in [carol.by("alice", "ports.b.baud", 300), carol.by("alice", "ports.a.baud", 300)] {
            assert_eq!(carol.overridden(&mine, &later), [""; 0]);
        }
        assert_eq!(carol.overridden(&over, &at("carol", 1)), [""; 0]);
    }

    #[test]
    fn one_s_own_changes_are_committed_and_the_others_stay_uncommitted() {
        let both = state().by("carol", "ports.a.baud", 300).reloaded(|_| true);
        let both = both.by("alice", "ports.a.parity", "E").by("carol", "ports.b.baud", 600);
        let own = both.changes_of("alice").unwrap();
        assert_eq!(own.len(), 1);
        let runs = both.reloaded_keys(&own);
        assert_eq!((runs.running.len(), runs.candidate.len()), (2, 1));
        let after = runs.settled_of(text(&own.apply(TEXT).unwrap()), &own);
        assert_eq!(after.keys(), ["ports.a.baud by carol", "ports.b.baud by carol"]);
        assert_eq!(after.running_config.ports[&name("a")].line.baud.get(), 300);
        assert_eq!(after.conflicts(), [""; 0]);
    }

    #[test]
    fn changes_that_depend_on_those_of_others_are_rejected_with_their_author() {
        let theirs = state().create(&name("c"), &at("carol", 0)).unwrap();
        let both = theirs.by("alice", "ports.c.baud", 300);
        assert_eq!(
            both.changes_of("alice").unwrap_err().to_string(),
            "ports.c.baud depends on ports.c, which carol changed and did not commit: let carol commit first, or use \
            `commit` for all changes"
        );
        assert_eq!(both.changes_of("carol").unwrap().len(), 1);
        // A TCP port that is freed by carol's change.
        let moved = state().by("carol", "ports.a.ssh_port", 1009).by("alice", "ports.b.ssh_port", 1001);
        let refused = moved.changes_of("alice").unwrap_err().to_string();
        assert!(
            refused.starts_with("without the changes of other users yours would be invalid: "),
            "{refused}"
        );
    }

    #[test]
    fn a_commit_that_is_rolled_back_becomes_the_candidate_below_later_changes() {
        let tried = state().by("carol", "ports.a.baud", 300).create(&name("c"), &at("alice", 0)).unwrap();
        let commit = tried.by("alice", "ports.c.baud", 300).pending().clone();
        let after = state().settled(text(&commit.apply(TEXT).unwrap()));
        let since = after.by("dave", "ports.a.baud", 1200).by("dave", "ports.b.parity", "E");
        let back = since.rolled_back(text(TEXT), &commit, &at("console-admin", 9));
        let expected =
            ["ports.a.baud by dave", "ports.b.parity by dave", "ports.c by alice", "ports.c.baud by alice"];
        let mut keys = back.keys();
        keys.sort();
        assert_eq!(keys, expected);
        assert!(back.running.is_empty() && back.revision > since.revision);
        assert_eq!(back.conflicts(), [""; 0]);
        let merged = back.merged().unwrap();
        assert!(merged.contains("baud = 1200") && merged.contains("[ports.c]"), "{merged}");
        let twice = back.rolled_back(text(TEXT), &commit, &at("console-admin", 9));
        assert_eq!(twice.keys(), back.keys());
        // A port that the commit created and that was removed since does not come back.
        let gone = after.remove(&name("c"), &at("dave", 0)).unwrap();
        assert_eq!(gone.rolled_back(text(TEXT), &commit, &at("x", 9)).keys(), ["ports.a.baud by carol"]);
    }

    #[test]
    fn shares_name_the_other_authors() {
        let three = state().by("carol", "ports.a.baud", 300).by("carol", "ports.b.baud", 300);
        let three = three.by("alice", "ports.b.parity", "E").pending().clone();
        assert_eq!(shares(&three, "alice").unwrap(), "2 of 3 changes are carol's");
        assert_eq!(shares(&three, "carol").unwrap(), "1 of 3 changes is alice's");
        assert_eq!(shares(&three, "dave").unwrap(), "1 of 3 changes is alice's, 2 are carol's");
        assert_eq!(shares(state().by("alice", "ports.a.baud", 300).pending(), "alice"), None);
    }

    #[test]
    fn a_rename_is_committed_alone_only_if_all_changes_of_its_port_are_one_s_own() {
        let leads = |_: &std::path::Path| None;
        let renamed = state().rename(&name("a"), &name("core"), &at("alice", 0), leads).unwrap();
        let own = renamed.changes_of("alice").unwrap();
        assert!(own.apply(TEXT).unwrap().contains("[ports.core]"));
        for both in [
            renamed.by("carol", "ports.core.baud", 300),
            renamed.rename(&name("core"), &name("edge"), &at("carol", 0), leads).unwrap(),
        ] {
            for who in ["alice", "carol"] {
                let refused = both.changes_of(who).unwrap_err();
                assert!(matches!(refused, Rejected::Depends { .. }), "{who}: {refused}");
            }
        }
        // If another user removes the port, the removal of its old name is that user's change too.
        let gone = renamed.remove(&name("core"), &at("carol", 0)).unwrap();
        assert_eq!(gone.keys(), ["ports.a by carol"]);
    }

    #[test]
    fn names_passed_between_ports_do_not_become_the_candidate_after_a_rollback() {
        let leads = |_: &std::path::Path| None;
        let to = |state: State, from: &str, to: &str| {
            state.rename(&name(from), &name(to), &at("alice", 0), leads).unwrap().reloaded(|_| true)
        };
        let commit = to(to(state(), "a", "c"), "b", "a").pending().clone();
        let after = state().settled(text(&commit.apply(TEXT).unwrap()));
        let back = after.rolled_back(text(TEXT), &commit, &at("console-admin", 9));
        assert_eq!(back.keys(), [""; 0]);
        assert_eq!(back.merged().unwrap(), TEXT);
        // A single rename does.
        let commit = to(state(), "a", "c").pending().clone();
        let after = state().settled(text(&commit.apply(TEXT).unwrap()));
        let back = after.rolled_back(text(TEXT), &commit, &at("console-admin", 9));
        assert!(back.merged().unwrap().contains("[ports.c]"), "{:?}", back.keys());
        let twice = back.rolled_back(text(TEXT), &commit, &at("console-admin", 9));
        assert_eq!(twice.keys(), back.keys());
    }
}
