//! Makes changes permanent and takes them back: commit, confirm, revert, and the rollback of a commit that
//! was not confirmed in time.

use std::collections::BTreeSet;

use super::authorization::caller;
use super::authors::{Action, Altered, counted, shares};
use super::confirm::{MAX_CONFIRM_SECONDS, Waiting};
use super::core::{Core, Error, Remarks, author};
use super::files::LastCommit;
use super::reload::{Ran, differing};
use super::rename::{Renames, renamed, under_new_names};
use super::state::{Rejected, State};
use crate::config::changes::{Changes, KeyPath, Scope, stated};
use crate::config::commit::{self, COMMITTED_FILE};
use crate::config::{Text, Value, load_text};
use crate::port::PortName;
use crate::port::pattern::fold;

/// The changes that are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    All,
    Mine,
}

impl Core {
    /// Writes changes to the committed file. With `confirm_within`, they are rolled back unless confirmed
    /// within that many seconds.
    pub async fn commit(
        &self,
        revision: u64,
        whose: Whose,
        confirm_within: Option<u32>,
    ) -> Result<Remarks, Error> {
        let _turn = self.turn.lock().await;
        if let Some(waiting) = self.waiting() {
            return Err(Error::Waits(waiting.until()));
        }
        if let Some(seconds) = confirm_within.filter(|seconds| !(1..=MAX_CONFIRM_SECONDS).contains(seconds)) {
            return Err(Error::Seconds(seconds));
        }
        let who = caller();
        let chosen = |state: &State| match whose {
            Whose::All => no_conflicts(state, state.conflicts()).map(|()| state.pending().clone()),
            Whose::Mine => {
                state.check_committed()?;
                let own = state.changes_of(&who)?;
                no_conflicts(state, state.conflicts_of(&own)).map(|()| own)
            }
        };
        let state = self.state();
        state.check_revision(revision)?;
        let mut remarks = Vec::new();
        remarks.extend(self.reload_first(&state, &chosen(&state)?, whose).await?);
        // The file may have been edited during the reload.
        let state = self.state();
        let changes = chosen(&state)?;
        let others = state.count() - changes.count();
        if changes.is_empty() {
            remarks.push(match others {
                0 => "nothing to commit".to_owned(),
                1 => "you have nothing to commit: the only change is another user's".to_owned(),
                _ => format!("you have nothing to commit: all {others} changes are other users'"),
            });
            return Ok(remarks);
        }
        let text = match whose {
            Whose::All => state.merged()?,
            Whose::Mine => changes
                .apply(&state.committed.text)
                .map_err(|error| Error::Rejected(Rejected::Whole(error.to_string())))?,
        };
        let text = commit::with_own_notice(text);
        let altered = written(&state, &changes, Action::Commit);
        if let Some(seconds) = confirm_within {
            let before = load_text(&self.files.root.join(COMMITTED_FILE))?;
            let waiting = Waiting::new(seconds, before, text.clone(), changes.clone());
            waiting.save(&self.files)?;
            self.wait_for(Some(waiting));
        }
        if let Err(error) = commit::write(&self.files.root, &text) {
            if confirm_within.is_some() {
                self.wait_for(None);
                Waiting::forget(&self.files)?;
            }
            return Err(error.into());
        }
        let committed = Text { text, path: self.files.root.join(COMMITTED_FILE) };
        self.settle(match whose {
            Whose::All => state.settled(committed),
            Whose::Mine => state.settled_of(committed, &changes),
        })?;
        let shares = shares(&changes, &who);
        let mut printed = format!("committed {}", counted(changes.count()));
        if let Some(shares) = &shares {
            printed.push_str(&format!(": {shares}"));
        }
        if let Some(waiting) = self.waiting() {
            printed.push_str(&format!("; rolled back at {} unless confirmed", waiting.until()));
        }
        self.files.save_last_commit(&LastCommit {
            who,
            when: jiff::Timestamp::now(),
            count: u32::try_from(changes.count()).unwrap_or(u32::MAX),
        })?;
        remarks.extend(shares);
        if others > 0 {
            remarks.push(format!("{} of other users not committed", counted(others)));
        }
        self.report(Action::Commit, altered, &printed).await;
        Ok(remarks)
    }

    pub(super) async fn report_reload(&self, which: impl Fn(&Scope) -> bool, taken: &Changes) {
        const NAMED: usize = 3;
        let state = self.state();
        let ports: Vec<_> =
            state.ports().into_iter().filter(|port| which(&Scope::Port((*port).clone()))).collect();
        let removed = taken.iter().filter_map(|(path, _)| path.scope.port());
        let mut what: Vec<&str> = ports.into_iter().chain(removed).map(PortName::as_str).collect();
        what.dedup();
        if which(&Scope::Server) {
            what.push("the common settings");
        }
        let more = what.len().saturating_sub(NAMED);
        what.truncate(NAMED);
        let mut printed = format!("reloaded {}", what.join(", "));
        if more > 0 {
            printed.push_str(&format!(" and {more} more"));
        }
        if taken.count() > 0 {
            printed.push_str(&format!(": {} took effect", counted(taken.count())));
        }
        self.report(Action::Reload, written(&state, taken, Action::Reload), &printed).await;
    }

    /// Reloads the changes to be committed that were not reloaded.
    async fn reload_first(&self, state: &State, chosen: &Changes, whose: Whose) -> Result<Remarks, Error> {
        let waits = || state.candidate.iter().map(|(path, _)| path).filter(|path| chosen.get(path).is_some());
        let is_all = whose == Whose::All;
        let keys: Vec<String> = match is_all {
            // A key that was set back is not a change, but must be reloaded too.
            true => state.candidate.iter().map(|(path, _)| path.to_string()).collect(),
            false => waits().map(ToString::to_string).collect(),
        };
        if keys.is_empty() {
            return Ok(Remarks::new());
        }
        let mut remarks = vec![format!("reloaded first: {}", summary(&keys, state))];
        if is_all {
            let named: BTreeSet<Scope> = state.candidate.iter().map(|(path, _)| path.scope.whole()).collect();
            remarks.extend(self.apply(|scope| named.contains(scope)).await?);
            return Ok(remarks);
        }
        let next = state.reloaded_keys(chosen);
        next.check_running()?;
        let mut concerned = differing(&state.running_config, &next.running_config);
        let requested: BTreeSet<_> = waits().filter_map(|path| path.scope.port().cloned()).collect();
        concerned
            .extend(requested.iter().filter(|port| next.running_config.ports.contains_key(port)).cloned());
        let renames = state.renames_of(chosen);
        let Ran { remarks: printed, refused, next } =
            self.run(state, &next, &concerned, &requested, &renames).await?;
        self.files.save_candidate(&next)?;
        self.keep(next);
        remarks.extend(printed);
        if refused.is_empty() { Ok(remarks) } else { Err(Error::NotTaken(refused.join("; "))) }
    }

    /// Keeps the state after the committed text was written.
    fn settle(&self, next: State) -> Result<(), Error> {
        self.files.save_running(&next)?;
        self.files.save_candidate(&next)?;
        self.keep(next);
        self.keep_last_good(&self.state());
        Ok(())
    }

    pub async fn confirm(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let Some(waiting) = self.waiting() else { return Err(Error::NoneWaits) };
        Waiting::forget(&self.files)?;
        self.wait_for(None);
        self.keep_last_good(&self.state());
        let kept = waiting
            .changes
            .iter()
            .map(|(path, change)| Altered::new(Action::Confirm, path, change, change.old.as_ref()));
        self.report(Action::Confirm, kept.collect(), "confirmed the commit").await;
        Ok(())
    }

    /// Discards all uncommitted changes. A commit that waits is rolled back instead, and its changes are
    /// uncommitted again.
    pub async fn revert(&self) -> Result<Remarks, Error> {
        let _turn = self.turn.lock().await;
        match self.waiting() {
            Some(waiting) => {
                let count = waiting.changes.count();
                let mut remarks = self.roll_back(waiting, Why::Reverted).await?;
                if count > 0 && !self.state().candidate.is_empty() {
                    remarks.push(format!(
                        "the last commit was rolled back: {}; `revert` again to discard them",
                        uncommitted_again(count)
                    ));
                }
                Ok(remarks)
            }
            None => {
                let state = self.state();
                let next = state.reverted(state.committed.clone(), &author());
                let concerned = differing(&state.running_config, &next.running_config);
                let renames = state.renamed_back();
                let Ran { mut remarks, refused, next } =
                    self.run(&state, &next, &concerned, &BTreeSet::new(), &renames).await?;
                self.files.save_candidate(&next)?;
                self.keep(next);
                remarks.extend(refused);
                let pending = state.pending();
                let shares = shares(pending, &caller());
                let mut printed = format!("discarded {}", counted(pending.count()));
                if let Some(shares) = &shares {
                    printed.push_str(&format!(": {shares}"));
                }
                remarks.extend(shares);
                self.report(Action::Revert, taken_back(&state, pending, Action::Revert), &printed).await;
                Ok(remarks)
            }
        }
    }

    /// Rolls back the commit whose deadline has passed.
    pub async fn expire(&self) {
        let _turn = self.turn.lock().await;
        let Some(waiting) = self.waiting().filter(|waiting| waiting.left() == 0) else { return };
        match self.roll_back(waiting, Why::Expired).await {
            Ok(remarks) => remarks.iter().for_each(|remark| tracing::warn!("{remark}")),
            Err(error) => tracing::error!("rollback failed: {error}"),
        }
    }

    /// Copies a file that was edited since the commit before it is replaced.
    fn keep_edited(&self, waiting: &Waiting) -> Result<Option<String>, Error> {
        let now = match load_text(&self.files.root.join(COMMITTED_FILE)) {
            Ok(now) => now,
            // The file is not text, or too large: the commit must be rolled back anyway.
            Err(error) => {
                let kept = self.files.set_aside()?;
                let printed = format!("{error}: moved to {}", kept.display());
                tracing::warn!("{printed}");
                return Ok(Some(printed));
            }
        };
        match now {
            Some(text) if text != waiting.after && Some(&text) != waiting.before.as_ref() => {
                let kept = self.files.save_edited(&text)?;
                let printed = format!(
                    "the file was edited after the commit: the edited version is in {}",
                    kept.display()
                );
                tracing::warn!("{printed}");
                Ok(Some(printed))
            }
            _ => Ok(None),
        }
    }

    /// Restores everything as before the commit; its changes become the candidate. Each step can be repeated
    /// if this process is killed in between.
    async fn roll_back(&self, waiting: Waiting, why: Why) -> Result<Remarks, Error> {
        let old = self.state();
        let edited = self.keep_edited(&waiting)?;
        commit::restore(&self.files.root, waiting.before.as_deref())?;
        let next = old.rolled_back(self.files.committed().0, &waiting.changes, &author());
        let mut concerned = differing(&old.running_config, &next.running_config);
        // A process killed in here has restored the file already, and the difference can no longer be seen.
        concerned.extend(self.live.active().await.unwrap_or_default());
        let renames = renamed_back(&old, &waiting);
        let ran = self.run(&old, &next, &concerned, &BTreeSet::new(), &renames).await;
        let next = match &ran {
            Ok(ran) => ran.next.clone(),
            // Running ports keep their units.
            Err(_) => next.with_instances(under_new_names(&old.running_config, &renames).instances),
        };
        // The file is restored. That it does not run everywhere is reported, and does not restore the commit.
        self.files.save_running(&next)?;
        self.files.save_candidate(&next)?;
        let altered = taken_back(&next, &waiting.changes, Action::Rollback);
        let kept = next.candidate.count();
        self.keep(next);
        Waiting::forget(&self.files)?;
        self.wait_for(None);
        self.keep_last_good(&self.state());
        let again = match kept {
            0 => String::new(),
            _ => format!(": {}", uncommitted_again(waiting.changes.count())),
        };
        self.report(
            Action::Rollback,
            altered,
            &match why {
                Why::Expired => {
                    format!("the last commit was rolled back, because it was not confirmed in time{again}")
                }
                Why::Reverted => format!("rolled back the last commit, which was not confirmed{again}"),
            },
        )
        .await;
        match ran {
            Ok(Ran { mut remarks, refused, .. }) => {
                remarks.extend(refused);
                remarks.extend(edited);
                Ok(remarks)
            }
            Err(error) => Err(Error::NotRunning(Box::new(error))),
        }
    }
}

/// The result of a reload or commit for each key, before it is written.
fn written(state: &State, changes: &Changes, action: Action) -> Vec<Altered> {
    let altered = |(path, change)| Altered::new(action, path, change, in_file(state, path).as_ref());
    changes.iter().map(altered).collect()
}

/// The result of a rollback or revert for each key.
fn taken_back(state: &State, changes: &Changes, action: Action) -> Vec<Altered> {
    let back = |Altered { old, new, path, who, .. }| Altered { path, action, old: new, new: old, who };
    written(state, changes, action).into_iter().map(back).collect()
}

fn in_file(state: &State, path: &KeyPath) -> Option<Value> {
    let path = &state.pending().origin(path);
    path.effective(&state.committed_config).or_else(|| stated(&state.committed.text, path))
}

/// Lists the keys, or counts them by port if there are too many for a line or two.
fn summary(keys: &[String], state: &State) -> String {
    const NAMED: usize = 8;
    if keys.len() <= NAMED {
        return keys.join(", ");
    }
    let ports: BTreeSet<_> =
        state.candidate.iter().filter_map(|(path, _)| path.scope.port().cloned()).collect();
    let of = match ports.len() {
        0 => String::new(),
        _ => format!(" of {}", fold(&ports.into_iter().collect::<Vec<_>>())),
    };
    format!("{} changes{of}", keys.len())
}

fn uncommitted_again(count: usize) -> String {
    match count {
        1 => "its change is uncommitted again, see `diff`".to_owned(),
        _ => format!("its {count} changes are uncommitted again, see `diff`"),
    }
}

/// The new names of running ports after a rollback.
fn renamed_back(state: &State, waiting: &Waiting) -> Renames {
    let (since, committed_renames) = (state.renamed_back(), waiting.changes.renames());
    let before = |name: &PortName| {
        let committed = renamed(&since, name);
        committed_renames.get(committed).unwrap_or(committed).clone()
    };
    let all = state.running_config.ports.keys().map(|name| (name.clone(), before(name)));
    all.filter(|(now, before)| now != before).collect()
}

/// Why a commit is rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Expired,
    Reverted,
}

fn no_conflicts(state: &State, conflicts: Vec<String>) -> Result<(), Rejected> {
    state.check_committed()?;
    if conflicts.is_empty() { Ok(()) } else { Err(Rejected::Conflicts(conflicts)) }
}
