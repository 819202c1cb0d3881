//! Reports each change after it was made: to the journal, key by key, with the old value, the author and the
//! origin (an audit trail), and to clients on the bus by one signal.

use std::time::Duration;

use zbus::object_server::SignalEmitter;

use super::authorization::{Caller, whole_caller};
use super::authors::{Action, Altered};
use super::bus::By;
use super::core::Core;
use super::manager::Manager;
use crate::event::Event;

/// Keys in one signal, which also contains the total. A prompt shows fewer.
const MAX_KEYS: usize = 16;
/// Characters of a value in a signal and in a sentence; the journal has the whole value.
const MAX_VALUE: usize = 200;
/// Keys that a sentence lists.
const MAX_LISTED_KEYS: usize = 3;
/// Records between two pauses for journald: its socket queues 512 of all programs and drops the rest.
const BATCH_RECORDS: usize = 64;
const BATCH_PAUSE: Duration = Duration::from_millis(2);

impl Core {
    pub(super) async fn report_edit(&self, altered: Vec<Altered>) {
        let Some(first) = altered.first() else { return };
        let is = |action| altered.iter().any(|one| one.action == action);
        // If there were several actions, the most significant one is reported.
        let action = [Action::Create, Action::Remove, Action::Set].into_iter().find(|action| is(*action));
        let action = action.unwrap_or(first.action);
        let text = match altered.as_slice() {
            [one] => edit(one),
            several => {
                let ports =
                    several.iter().filter(|one| one.action == Action::Create && one.path.key.is_none());
                let keys: Vec<String> = several.iter().take(MAX_LISTED_KEYS).map(edit).collect();
                let more = match several.len().saturating_sub(MAX_LISTED_KEYS) {
                    0 => String::new(),
                    more => format!(", and {more} more"),
                };
                match ports.count() {
                    0 => format!("{}{more}", keys.join(", ")),
                    count => format!(
                        "made {} changes, {count} of them new ports: {}{more}",
                        several.len(),
                        keys.join(", ")
                    ),
                }
            }
        };
        self.report(action, altered, &text).await;
    }

    /// Reports any action. `text` follows the name of the user; without a user it is the whole sentence.
    pub(super) async fn report(&self, action: Action, altered: Vec<Altered>, text: &str) {
        let caller = whole_caller();
        let text = match caller.connection.is_empty() {
            true => text.to_owned(),
            false => format!("{} {text}", user_and_origin(&caller)),
        };
        if !action.is_edit() {
            summary(action, &caller, &text);
        }
        for (number, one) in altered.iter().enumerate() {
            record(action, &caller, one);
            if number % BATCH_RECORDS == BATCH_RECORDS - 1 {
                tokio::time::sleep(BATCH_PAUSE).await;
            }
        }
        let count = u32::try_from(altered.len()).unwrap_or(u32::MAX);
        let keys: Vec<_> = altered.iter().take(MAX_KEYS).collect();
        let keys: Vec<(String, String, String)> = keys
            .into_iter()
            .map(|one| (one.path.to_string(), bounded(&one.old), bounded(&one.new)))
            .collect();
        let Caller { name, origin, connection } = caller;
        let by = By { who: name, from: origin.from, session: origin.session, caller: connection };
        let revision = self.state().revision;
        let reported = Manager::changed(&self.emitter, action.as_str(), by, revision, keys, count, &text);
        if let Err(error) = reported.await {
            tracing::warn!("cannot send the signal Changed: {error}");
        }
    }
}

impl Action {
    fn is_edit(self) -> bool {
        matches!(self, Self::Set | Self::Unset | Self::Create | Self::Remove)
    }

    fn event(self) -> Event {
        match self {
            Self::Set | Self::Unset | Self::Create | Self::Remove => Event::Set,
            Self::Reload => Event::Reloaded,
            Self::Commit => Event::Committed,
            Self::Confirm => Event::Confirmed,
            Self::Revert => Event::Reverted,
            Self::Rollback => Event::RolledBack,
        }
    }
}

/// `alice`, or `alice (192.0.2.7)`
fn user_and_origin(Caller { name, origin, .. }: &Caller) -> String {
    match origin.from.as_str() {
        "local" => name.clone(),
        from => format!("{name} ({from})"),
    }
}

/// `set ports.a.baud = 115200 (was 9600)`
fn edit(one: &Altered) -> String {
    let Altered { path, action, old, new, .. } = one;
    let was = match (path.key, old.as_str()) {
        (None, _) | (_, "") => String::new(),
        (Some(_), old) => format!(" (was {})", bounded(old)),
    };
    match action {
        Action::Create => format!("created {path}"),
        Action::Remove => format!("removed {path}"),
        Action::Unset => format!("unset {path}{was}"),
        _ => format!("set {path} = {}{was}", bounded(new)),
    }
}

fn bounded(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn summary(action: Action, caller: &Caller, text: &str) {
    let Caller { name, origin, .. } = caller;
    tracing::info!(
        message_id = action.event().id(),
        console_action = action.as_str(),
        console_user = name,
        console_rhost = origin.from,
        console_session = origin.session,
        "{text}"
    );
}

/// Writes the audit record of one key. The fields for values are present even if they are empty.
fn record(action: Action, caller: &Caller, one: &Altered) {
    let Caller { name, origin, .. } = caller;
    let Altered { path, old, new, who, .. } = one;
    let key = path.to_string();
    let (was, now) = (
        if old.is_empty() { "nothing" } else { old.as_str() },
        if new.is_empty() { "nothing" } else { new.as_str() },
    );
    let text = match action {
        Action::Set | Action::Unset | Action::Create | Action::Remove => {
            format!("{} {}: takes effect after a reload", name, edit(one))
        }
        Action::Reload => format!("{name} reloaded {key}: {now} is in effect, committed is {was}"),
        Action::Commit if who == name => format!("{name} committed {key}: {now} (was {was})"),
        Action::Commit => format!("{name} committed {key}, changed by {who}: {now} (was {was})"),
        Action::Confirm => format!("{name} confirmed {key}: {now}"),
        Action::Revert => format!("{name} discarded {key}, changed by {who}: {was}, restored {now}"),
        Action::Rollback => format!("{key}, changed by {who}, was rolled back: {was}, restored {now}"),
    };
    tracing::info!(
        message_id = action.event().id(),
        console_action = if action.is_edit() { one.action.as_str() } else { action.as_str() },
        console_port = path.scope.port().map(crate::port::PortName::as_str),
        console_user = name,
        console_author = who,
        console_key = key,
        console_old = old,
        console_new = new,
        console_rhost = origin.from,
        console_session = origin.session,
        "{text}"
    );
}

pub(super) fn emitter(connection: &zbus::Connection) -> zbus::Result<SignalEmitter<'static>> {
    SignalEmitter::new(connection, super::bus::OBJECT_PATH)
}
