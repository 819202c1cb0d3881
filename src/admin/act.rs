//! Tells of each change, once it is made: the journal, key by key, with what it was before, who has changed it and from where (an audit trail);
//! and everybody on the bus who listens, by one signal.

use std::time::Duration;

use zbus::object_server::SignalEmitter;

use super::authorization::{Caller, whole_caller};
use super::authors::{Action, Altered};
use super::bus::By;
use super::core::Core;
use super::manager::Manager;
use crate::event::Event;

/// Keys in one signal; it says how many there are in all. A prompt shows fewer.
const MAX_KEYS: usize = 16;
/// Characters of a value in a signal, and in a sentence; the journal has all of them.
const MAX_VALUE: usize = 200;
/// Keys that a sentence names.
const MAX_LISTED_KEYS: usize = 3;
/// Records after which journald is given time: its socket takes 512 from all programs, and what it does not take is dropped.
const BATCH_RECORDS: usize = 64;
const BATCH_PAUSE: Duration = Duration::from_millis(2);

impl Core {
    /// Tells of changes of the candidate.
    pub(super) async fn tell_of_edit(&self, altered: Vec<Altered>) {
        let Some(first) = altered.first() else { return };
        let is = |action| altered.iter().any(|one| one.action == action);
        // Of several, what says most.
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
        self.tell_of(action, altered, &text).await;
    }

    /// Tells of anything. `text` goes on where the name of who has done it ends; without a caller it is a sentence by itself.
    pub(super) async fn tell_of(&self, action: Action, altered: Vec<Altered>, text: &str) {
        let caller = whole_caller();
        let text = match caller.connection.is_empty() {
            true => text.to_owned(),
            false => format!("{} {text}", place(&caller)),
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
        let told = Manager::changed(&self.emitter, action.as_str(), by, revision, keys, count, &text);
        if let Err(error) = told.await {
            tracing::warn!("nobody could be told of that on the bus: {error}");
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
fn place(Caller { name, origin, .. }: &Caller) -> String {
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

/// One key, with everything that an auditor asks for. (The fields of values are there even if there is no value.)
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
            format!("{} has {}: it is in force after a reload", name, edit(one))
        }
        Action::Reload => format!("{name} has reloaded {key}: {now} is in force, where {was} was committed"),
        Action::Commit if who == name => format!("{name} has committed {key}: {now}, which was {was}"),
        Action::Commit => format!("{name} has committed {key} of {who}: {now}, which was {was}"),
        Action::Confirm => format!("{name} has confirmed {key}: {now}"),
        Action::Revert => format!("{name} has dropped {key} of {who}: {was}; it is {now} again"),
        Action::Rollback => format!("{key} of {who} was rolled back: {was}; it is {now} again"),
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

/// Where signals come from.
pub(super) fn emitter(connection: &zbus::Connection) -> zbus::Result<SignalEmitter<'static>> {
    SignalEmitter::new(connection, super::bus::OBJECT_PATH)
}
