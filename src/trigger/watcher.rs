//! The watcher: a reader of the ring that matches output against the rules. A match is logged to the journal immediately
//! and sent to console-admin by the notifier. The watcher delays nothing: not the port, which waits for it as for any reader, and
//! not the other readers, to which it yields after each chunk.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::notifier::Fired;
use super::rules::{Rules, TriggerEvent, people};
use crate::config::Triggers;
use crate::event::Event;
use crate::hub::{Cursor, Hub, Pulled};
use crate::system::clock::reached;

/// Bytes after which the watcher yields: with the costliest pattern, some milliseconds.
const READ_CHUNK: usize = 512;
/// Time between two messages about bytes that were not checked.
const MISSED_REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Watches until the sender of the rules is dropped. Without rules there is no cursor, and nothing wakes it.
/// `silence` reports whether a rule waits for silence, whose time would be lost with the process.
pub async fn run(
    hub: Arc<Hub>,
    mut triggers: watch::Receiver<Triggers>,
    notifier: Option<mpsc::Sender<Fired>>,
    silence: watch::Sender<bool>,
) {
    // Output that came while no process was running, or that a killed process had not checked yet: the log begins there, too.
    let mut from = hub.log_mark().position;
    loop {
        let wanted = triggers.borrow_and_update().clone();
        if !wanted.is_empty() {
            let watch = Watch {
                hub: &hub,
                cursor: hub.trigger_cursor(from),
                rules: Rules::new(&wanted, Instant::now()),
                notifier: notifier.as_ref(),
                silence: &silence,
                missed: 0,
                said: None,
            };
            if watch.run(&mut triggers).await.is_err() {
                return;
            }
            silence.send_replace(false);
        } else if triggers.changed().await.is_err() {
            return;
        }
        (from, _) = hub.traffic();
    }
}

struct Watch<'h> {
    hub: &'h Hub,
    cursor: Cursor,
    rules: Rules,
    notifier: Option<&'h mpsc::Sender<Fired>>,
    silence: &'h watch::Sender<bool>,
    /// Bytes that were not checked, and when that was reported last.
    missed: u64,
    said: Option<Instant>,
}

impl Watch<'_> {
    /// Returns when there are no rules left; an error if their sender is dropped.
    async fn run(mut self, triggers: &mut watch::Receiver<Triggers>) -> Result<(), watch::error::RecvError> {
        loop {
            let awaits = self.rules.awaits_silence();
            self.silence.send_if_modified(|before| std::mem::replace(before, awaits) != awaits);
            let happenings = tokio::select! {
                changed = triggers.changed() => {
                    changed?;
                    let wanted = triggers.borrow_and_update().clone();
                    if wanted.is_empty() {
                        return Ok(());
                    }
                    self.rules.replace(&wanted);
                    Vec::new()
                }
                pulled = self.cursor.pull(READ_CHUNK) => match pulled {
                    Pulled::Bytes(bytes) => self.rules.feed(&bytes, Instant::now()),
                    Pulled::Skipped(count) => {
                        self.missed += count;
                        self.rules.miss(Instant::now());
                        Vec::new()
                    }
                },
                () = reached(self.rules.due()) => self.rules.tick(Instant::now()),
            };
            self.report_missed();
            for happening in happenings {
                self.report(happening);
            }
            tokio::task::yield_now().await;
        }
    }

    fn report(&self, happening: TriggerEvent) {
        match happening {
            TriggerEvent::Fired { rule, line, start } => {
                self.hub.count_trigger();
                tracing::warn!(
                    message_id = Event::Triggered.id(),
                    console_trigger = rule.as_str(),
                    console_line = line,
                    console_starts = start,
                    "trigger {rule}: {line}"
                );
                let full = |notifier: &mpsc::Sender<Fired>| notifier.try_send(Fired { rule, line }).is_err();
                if self.notifier.is_some_and(full) {
                    tracing::warn!(
                        "console-admin is not notified: it has not replied to the previous notifications"
                    );
                }
            }
            TriggerEvent::Suppressed { rule, count, cooldown: rest, line } => {
                tracing::warn!(
                    message_id = Event::TriggerSuppressed.id(),
                    console_trigger = rule.as_str(),
                    console_line = line,
                    console_count = count,
                    "trigger {rule}: {count} further matches suppressed (cooldown {}), the last: {line}",
                    people(rest)
                );
            }
        }
    }

    /// Reports a device that sends faster than its patterns can be matched.
    fn report_missed(&mut self) {
        if self.missed > 0 && self.said.is_none_or(|said| said + MISSED_REPORT_INTERVAL <= Instant::now()) {
            tracing::warn!("triggers did not check {} bytes that came too fast", self.missed);
            self.missed = 0;
            self.said = Some(Instant::now());
        }
    }
}
