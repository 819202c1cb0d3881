//! What makes the changes permanent, and takes them back: commit, confirm, revert, and the rollback of a commit that nobody has
//! confirmed.

use std::collections::BTreeSet;

use super::bouncer::caller;
use super::confirm::{LONGEST, Waiting};
use super::core::{Core, Error, Remarks, author};
use super::reload::{Ran, differing};
use super::rename::{Renames, renamed};
use super::state::{Refusal, State};
use crate::config::changes::Scope;
use crate::config::commit::{self, COMMITTED};
use crate::config::{Text, load_text};
use crate::event::Event;
use crate::port::PortName;

impl Core {
    /// Makes every change permanent. With `confirm_within` it goes back unless confirmed in so many seconds.
    pub async fn commit(&self, revision: u64, confirm_within: Option<u32>) -> Result<Remarks, Error> {
        let _turn = self.turn.lock().await;
        if let Some(waiting) = self.waiting() {
            return Err(Error::Waits(waiting.until()));
        }
        if let Some(seconds) = confirm_within.filter(|seconds| !(1..=LONGEST).contains(seconds)) {
            return Err(Error::Seconds(seconds));
        }
        let state = self.state();
        state.check_revision(revision)?;
        no_conflicts(&state)?;
        let mut remarks = Vec::new();
        if !state.candidate.is_empty() {
            let keys: Vec<_> = state.candidate.iter().map(|(path, _)| path.to_string()).collect();
            remarks.push(format!("reloaded first: {}", keys.join(", ")));
            let named: BTreeSet<Scope> = state.candidate.iter().map(|(path, _)| path.scope.whole()).collect();
            remarks.extend(self.apply(|scope| named.contains(scope)).await?);
        }
        // The file may have been edited during the reload.
        let state = self.state();
        no_conflicts(&state)?;
        let count = state.count();
        if count == 0 {
            remarks.push("nothing to commit".to_owned());
            return Ok(remarks);
        }
        let text = commit::with_own_words(state.merged()?);
        if let Some(seconds) = confirm_within {
            let before = load_text(&self.files.root.join(COMMITTED))?;
            let mut waiting = Waiting::new(seconds, before, text.clone());
            waiting.renames = state.pending().renames();
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
        self.settle(&state, text)?;
        let (who, changes) = (caller(), if count == 1 { "change" } else { "changes" });
        tracing::info!(
            message_id = Event::Committed.id(),
            console_user = who,
            "{who} has committed {count} {changes}"
        );
        Ok(remarks)
    }

    /// The committed text is all there is.
    pub(super) fn settle(&self, state: &State, text: String) -> Result<(), Error> {
        let next = state.settled(Text { text, path: self.files.root.join(COMMITTED) });
        self.files.save_running(&next)?;
        self.files.save_candidate(&next)?;
        self.keep(next);
        self.keep_last_good(&self.state());
        Ok(())
    }

    /// Keeps what a commit has written.
    pub async fn confirm(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        if self.waiting().is_none() {
            return Err(Error::NoneWaits);
        }
        Waiting::forget(&self.files)?;
        self.wait_for(None);
        self.keep_last_good(&self.state());
        tracing::info!(console_user = caller(), "commit confirmed by {}", caller());
        Ok(())
    }

    /// Forgets every change that is not committed; a commit that waits is rolled back.
    pub async fn revert(&self) -> Result<Remarks, Error> {
        let _turn = self.turn.lock().await;
        match self.waiting() {
            Some(waiting) => self.roll_back(waiting, &format!("by {}", caller())).await,
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
                Ok(remarks)
            }
        }
    }

    /// Rolls back the commit whose time is over, if there is one.
    pub async fn expire(&self) {
        let _turn = self.turn.lock().await;
        let Some(waiting) = self.waiting().filter(|waiting| waiting.left() == 0) else { return };
        match self.roll_back(waiting, "since nobody has confirmed it").await {
            Ok(remarks) => remarks.iter().for_each(|remark| tracing::warn!("{remark}")),
            Err(error) => tracing::error!("rolling back has failed: {error}"),
        }
    }

    /// If somebody has edited the file since the commit, what it says is kept beside the state before it is replaced.
    fn keep_edited(&self, waiting: &Waiting) -> Result<Option<String>, Error> {
        let now = match load_text(&self.files.root.join(COMMITTED)) {
            Ok(now) => now,
            // No text, or too much of it: the commit has to go back all the same.
            Err(error) => {
                let kept = self.files.set_aside()?;
                let said = format!("{error}: it is now {}", kept.display());
                tracing::warn!("{said}");
                return Ok(Some(said));
            }
        };
        match now {
            Some(text) if text != waiting.after && Some(&text) != waiting.before.as_ref() => {
                let kept = self.files.save_edited(&text)?;
                let said =
                    format!("the file was edited after the commit: what it said is in {}", kept.display());
                tracing::warn!("{said}");
                Ok(Some(said))
            }
            _ => Ok(None),
        }
    }

    /// Everything as it was before the commit. Each step may be done twice, if this is killed between them.
    pub(super) async fn roll_back(&self, waiting: Waiting, why: &str) -> Result<Remarks, Error> {
        let old = self.state();
        let edited = self.keep_edited(&waiting)?;
        commit::restore(&self.files.root, waiting.before.as_deref())?;
        let next = old.reverted(self.files.committed().0, &author());
        let mut concerned = differing(&old.running_config, &next.running_config);
        // If an earlier life was killed in here, the file was restored then, and the difference is not to be seen any more.
        concerned.extend(self.live.active().await.unwrap_or_default());
        let renames = renamed_back(&old, &waiting);
        let ran = self.run(&old, &next, &concerned, &BTreeSet::new(), &renames).await;
        let next = ran.as_ref().map_or(next, |ran| ran.next.clone());
        // The file is what it was: that it does not run everywhere is said, and does not bring the commit back.
        self.files.save_running(&next)?;
        self.files.save_candidate(&next)?;
        self.keep(next);
        Waiting::forget(&self.files)?;
        self.wait_for(None);
        self.keep_last_good(&self.state());
        tracing::warn!(
            message_id = Event::RolledBack.id(),
            console_user = caller(),
            "the last commit was rolled back {why}"
        );
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

/// What the ports that run are called after a rollback, as far as that is another name.
fn renamed_back(state: &State, waiting: &Waiting) -> Renames {
    let since = state.renamed_back();
    let before = |name: &PortName| {
        let committed = renamed(&since, name);
        waiting.renames.get(committed).unwrap_or(committed).clone()
    };
    let all = state.running_config.ports.keys().map(|name| (name.clone(), before(name)));
    all.filter(|(now, before)| now != before).collect()
}

fn no_conflicts(state: &State) -> Result<(), Refusal> {
    let conflicts = state.conflicts();
    match (&state.fault, conflicts.is_empty()) {
        (Some(fault), _) => Err(Refusal::Committed(fault.clone())),
        (None, false) => Err(Refusal::Conflicts(conflicts)),
        (None, true) => Ok(()),
    }
}
