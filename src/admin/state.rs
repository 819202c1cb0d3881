//! The committed, the running and the candidate configuration as one value. Each change makes a new value
//! or is rejected.
//! No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::rename::back;
use crate::config::changes::{
    self, Change, Changes, ChangesError, KeyPath, MAX_CHANGES, PathError, Scope, stated,
};
use crate::config::{Config, Instances, TemplateName, Text, Value};
use crate::port::{GroupName, PortName};

/// Bytes of all changes as a file: half of the limit of a file.
pub(super) const MAX_TEXT: usize = 512 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Rejected {
    #[error("{0}")]
    Path(#[from] PathError),
    #[error("{key} = {value}: {reason}")]
    Value { key: String, value: String, reason: String },
    #[error("{0}")]
    Whole(String),
    /// The running configuration would be invalid, although all changes together are valid.
    #[error(
        "{0}\na change that is not reloaded yet would fix that: reload it first, or use `commit`, which reloads all changes"
    )]
    Part(String),
    #[error("the committed configuration is invalid, fix it first: {0}")]
    Committed(String),
    #[error("{0}")]
    NoPort(String),
    #[error("port {0} already exists")]
    IsThere(PortName),
    #[error("there is no group {0}")]
    NoGroup(GroupName),
    #[error("there is no template {0}")]
    NoTemplate(TemplateName),
    #[error(
        "template {template} is used by {ports}: unset like there, or set another template, before it is removed"
    )]
    TemplateInUse { template: TemplateName, ports: String },
    #[error("port {0} is renamed or removed by a change that is not reloaded: reload it first")]
    InUse(PortName),
    #[error("the port is already named {0}")]
    SameName(PortName),
    #[error("{0} is a tty that is plugged in ({path}), but {1} has another device: use another name", path = .2.display())]
    TtyName(PortName, PortName, std::path::PathBuf),
    #[error(
        "{key} was changed by {who} at {when} in the meantime (revision {revision}): review it and retry"
    )]
    Stale { key: String, who: String, when: String, revision: u64 },
    #[error("revision {requested} is unknown, the current one is {revision}: review the changes and retry")]
    Unknown { requested: u64, revision: u64 },
    #[error(
        "expected at most {MAX_CHANGES} pending changes of together at most {MAX_TEXT} bytes: commit or revert first"
    )]
    TooMany,
    #[error("{}", .0.join("\n"))]
    Conflicts(Vec<String>),
    /// Cannot be committed alone: it needs another administrator's change of its table.
    #[error(
        "{key} depends on {table}, which {who} changed and did not commit: let {who} commit first, or use `commit` for all changes"
    )]
    Depends { key: String, table: String, who: String },
    #[error(
        "without the changes of other users yours would be invalid: {0}\nlet them commit first, or use `commit` for all changes"
    )]
    Alone(String),
}

/// The change that made the current revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Last {
    pub key: String,
    pub who: String,
    pub when: Timestamp,
}

/// Author and time of a change.
#[derive(Debug, Clone)]
pub struct Author {
    pub who: String,
    pub when: Timestamp,
}

#[derive(Debug, Clone)]
pub struct State {
    pub committed: Text,
    /// Changes that were reloaded but not committed.
    pub running: Changes,
    pub candidate: Changes,
    /// Incremented with each change.
    pub revision: u64,
    pub last: Option<Last>,
    /// The error in the committed file; `committed` is then the last valid one.
    pub fault: Option<String>,
    pub committed_config: Config,
    pub running_config: Config,
    /// The configuration after a reload.
    pub candidate_config: Config,
    pub(super) running_text: String,
    /// All uncommitted changes, computed when they are first needed.
    pending: OnceLock<Changes>,
    /// Ports that run in units of another name.
    pub instances: Instances,
}

impl State {
    /// Applies the changes to the text. Changes that no longer fit because the text was edited are kept,
    /// but have no effect.
    pub fn new(
        committed: Text,
        fault: Option<String>,
        running: Changes,
        candidate: Changes,
        revision: u64,
        last: Option<Last>,
    ) -> Self {
        let config = changes::candidate(&committed.text).unwrap_or_default();
        let right = |changes: &Changes, text: Result<String, ChangesError>, config: &Config| {
            let text = text.ok()?;
            let config = if changes.is_empty() { config.clone() } else { changes::candidate(&text).ok()? };
            Some((text, config))
        };
        let (running_text, running_config) = right(&running, running.apply(&committed.text), &config)
            .unwrap_or_else(|| (committed.text.clone(), config.clone()));
        let tried = candidate.apply_to_running(&running_text);
        let candidate_config = right(&candidate, tried, &running_config)
            .map_or_else(|| running_config.clone(), |(_, config)| config);
        Self {
            committed,
            running,
            candidate,
            revision,
            last,
            fault,
            committed_config: config,
            running_config,
            candidate_config,
            running_text,
            pending: OnceLock::new(),
            instances: Instances::default(),
        }
    }

    /// The state with another text and other changes. Its revision, its last change and the units of renamed ports stay.
    pub(super) fn with(
        &self,
        committed: Text,
        fault: Option<String>,
        running: Changes,
        candidate: Changes,
    ) -> Self {
        Self::new(committed, fault, running, candidate, self.revision, self.last.clone())
            .with_instances(self.instances.clone())
    }

    /// Sets the units of renamed ports.
    pub fn with_instances(mut self, instances: Instances) -> Self {
        self.running_config.take_instances(instances.clone());
        self.instances = instances;
        self
    }

    /// Drops renames that are in effect already: a service that is killed between writing the running and the
    /// candidate file leaves the new name of a port in both.
    pub fn without_done_renames(mut self) -> Self {
        let is_there = |name: &PortName| stated(&self.running_text, &KeyPath::table(name.clone())).is_some();
        let done: Vec<_> = self
            .candidate
            .renames()
            .into_iter()
            .filter(|(to, from)| is_there(to) && !is_there(from))
            .collect();
        for name in done.into_iter().flat_map(|(to, from)| [to, from]) {
            drop(self.candidate.remove(&KeyPath::table(name)));
        }
        let Self { committed, fault, running, candidate, .. } = self.clone();
        self.with(committed, fault, running, candidate)
    }

    /// Applies the same changes to another committed text.
    pub fn over(&self, committed: Text, fault: Option<String>) -> Self {
        self.with(committed, fault, self.running.clone(), self.candidate.clone())
    }

    /// Rejects the call of a client that has not seen the last change.
    pub fn check_revision(&self, requested: u64) -> Result<(), Rejected> {
        match (requested, &self.last) {
            (0, _) => Ok(()),
            (requested, _) if requested == self.revision => Ok(()),
            (requested, Some(last)) if requested < self.revision => Err(Rejected::Stale {
                key: last.key.clone(),
                who: last.who.clone(),
                when: crate::system::clock::clock(last.when),
                revision: self.revision,
            }),
            (requested, _) => Err(Rejected::Unknown { requested, revision: self.revision }),
        }
    }

    /// Makes the changes of some tables run.
    pub fn reloaded(&self, which: impl Fn(&Scope) -> bool) -> Self {
        let both = self.with_both_names(which);
        let mut candidate = self.candidate.clone();
        let taken = candidate.take(both);
        self.with_running(&taken, candidate)
    }

    /// Makes these changes run, and no others of their tables.
    pub fn reloaded_keys(&self, keys: &Changes) -> Self {
        let mut candidate = self.candidate.clone();
        let taken = candidate.take_keys(|path| keys.get(path).is_some());
        self.with_running(&taken, candidate)
    }

    fn with_running(&self, taken: &Changes, candidate: Changes) -> Self {
        let Self { committed, fault, mut running, .. } = self.clone();
        let renames = taken.renames();
        for (to, from) in &renames {
            rename(&mut running, from, to, taken, &committed.text);
        }
        let is_old_name = |path: &KeyPath, change: &Change| {
            path.key.is_none()
                && change.new.is_none()
                && path.scope.port().is_some_and(|port| renames.values().any(|from| from == port))
        };
        for (path, change) in taken.iter() {
            if change.renamed_from().is_some() || is_old_name(path, change) {
                continue;
            }
            if path.key.is_none() {
                // An added or removed table replaces earlier changes of its keys.
                running.forget_table(&path.scope);
            }
            let is_committed = match (path.key, &change.new) {
                (None, Some(_)) => false,
                _ => {
                    change.new == stated(&committed.text, &running.origin(path))
                        && !is_again(&running, &path.scope)
                }
            };
            match is_committed {
                true => drop(running.remove(path)),
                false => running.insert(path.clone(), change.clone()),
            }
        }
        self.with(committed, fault, running, candidate)
    }

    /// A renamed port is reloaded under either of its names.
    fn with_both_names(&self, which: impl Fn(&Scope) -> bool) -> impl Fn(&Scope) -> bool {
        let renames = self.candidate.renames();
        let mut named: BTreeSet<PortName> = BTreeSet::new();
        for (to, from) in &renames {
            if [to, from].into_iter().any(|name| which(&Scope::Port(name.clone()))) {
                named.extend([to.clone(), from.clone()]);
            }
        }
        move |scope| which(scope) || matches!(scope, Scope::Port(name) if named.contains(name))
    }

    /// The ports that a reload renames: old and new names.
    pub fn renames(&self, which: impl Fn(&Scope) -> bool) -> BTreeMap<PortName, PortName> {
        let taken = self.candidate.clone().take(self.with_both_names(which));
        back(&taken.renames())
    }

    /// The ports that get other names when all changes are reverted: current and resulting names.
    pub fn renamed_back(&self) -> BTreeMap<PortName, PortName> {
        self.running.renames()
    }

    /// The ports that a reload of these changes renames.
    pub fn renames_of(&self, keys: &Changes) -> BTreeMap<PortName, PortName> {
        let taken = self.candidate.clone().take_keys(|path| keys.get(path).is_some());
        back(&taken.renames())
    }

    /// Number of uncommitted changes. A rename counts once.
    pub fn count(&self) -> usize {
        self.pending().count()
    }

    /// Rejects an invalid running configuration: one change may free a TCP port that another one takes, and
    /// only one of them runs.
    pub fn check_running(&self) -> Result<(), Rejected> {
        let text =
            self.running.apply(&self.committed.text).map_err(|error| Rejected::Part(error.to_string()))?;
        self.running.candidate(&text).map(drop).map_err(Rejected::Part)
    }

    /// Without pending changes, on this committed text.
    pub fn settled(&self, committed: Text) -> Self {
        self.with(committed, None, Changes::default(), Changes::default())
    }

    /// Likewise, with a new revision: clients must review, since changes of other users may be gone.
    pub fn reverted(&self, committed: Text, author: &Author) -> Self {
        let mut next = self.settled(committed);
        if next.committed != self.committed || !self.pending().is_empty() {
            let key = "the whole configuration".to_owned();
            next.last = Some(Last { key, who: author.who.clone(), when: author.when });
            next.revision += 1;
        }
        next
    }

    pub fn pending(&self) -> &Changes {
        self.pending.get_or_init(|| self.reloaded(|_| true).running)
    }

    /// The committed text with all changes.
    pub fn merged(&self) -> Result<String, Rejected> {
        let text =
            self.pending().apply(&self.committed.text).map_err(|error| Rejected::Whole(error.to_string()))?;
        self.pending().candidate(&text).map_err(Rejected::Whole).map(|_| text)
    }

    /// The keys that were changed here and also edited in the committed file: one sentence each.
    pub fn conflicts(&self) -> Vec<String> {
        self.conflicts_of(self.pending())
    }

    /// Likewise, for some changes.
    pub fn conflicts_of(&self, changes: &Changes) -> Vec<String> {
        let shown =
            |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), Value::to_string);
        let pending = self.pending();
        let conflict = |(path, change): (&KeyPath, &Change)| {
            let now = stated(&self.committed.text, &pending.origin(path));
            // If another user has created the same port in the file, the two still conflict: that one may
            // have any keys.
            let agree = now == change.new && (path.key.is_some() || now.is_none());
            (now != change.old && !agree).then(|| {
                format!(
                    "{path} was edited in {} in the meantime: the file has {}, {} set {}: set it again, or revert",
                    self.committed.path.display(),
                    shown(&now),
                    change.who,
                    shown(&change.new)
                )
            })
        };
        changes.iter().filter_map(conflict).collect()
    }

    /// The ports of all three configurations.
    pub fn ports(&self) -> std::collections::BTreeSet<&PortName> {
        let configs = [&self.committed_config, &self.running_config, &self.candidate_config];
        configs.into_iter().flat_map(|config| config.ports.keys()).collect()
    }
}

/// Whether these changes create the table of a port, template or trigger rule again: it is removed, and
/// keys are set after that.
pub(super) fn is_again(changes: &Changes, scope: &Scope) -> bool {
    let Some(name) = scope.port() else { return is_taken_out(changes, scope) };
    let table = changes.get(&KeyPath::table(name.clone()));
    table.is_some_and(|change| change.new.is_some() && change.renamed_from().is_none())
        || is_taken_out(changes, scope)
}

/// Moves the running changes of `from` to `to`. In the committed text the port is `from`, or the name that
/// from which `from` was renamed.
fn rename(running: &mut Changes, from: &PortName, to: &PortName, taken: &Changes, committed: &str) {
    let (old, new) = (KeyPath::table(from.clone()), KeyPath::table(to.clone()));
    let Some(change) = taken.get(&new) else { return };
    let table = running.rename(from, to);
    let source = match &table {
        None => Some(from.clone()),
        Some(before) => before.renamed_from(),
    };
    match source {
        // Its committed name.
        Some(source) if source == *to => drop(running.remove(&new)),
        Some(source) => running.insert(
            new.clone(),
            Change { old: stated(committed, &new), new: Some(changes::renamed(&source)), ..change.clone() },
        ),
        // Created and not committed.
        None => running.insert(
            new.clone(),
            Change { old: stated(committed, &new), new: table.and_then(|table| table.new), ..change.clone() },
        ),
    }
    // Removed: the committed name now belongs to another port, or to none.
    if let Some(was) = stated(committed, &old) {
        running.insert(old, Change { old: Some(was), new: None, ..change.clone() });
    }
}

fn is_taken_out(changes: &Changes, scope: &Scope) -> bool {
    let is_gone = |scope: &Scope| {
        matches!(scope, Scope::Trigger(..) | Scope::Template(_))
            && changes.get(&KeyPath { scope: scope.clone(), key: None }).is_some()
    };
    is_gone(scope) || is_gone(&scope.whole())
}

#[cfg(test)]
mod tests;
