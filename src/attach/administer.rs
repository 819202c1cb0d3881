//! Requests of administrators to a running port: apply the configuration, send a break, disconnect a user.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::Reply;
use crate::hub::{BREAK_MS_RANGE, BreakEvent};
use crate::port::BreakName;
use crate::session::{Console, plain};

/// Timeout of the beginning of a break. Before it is at most one queue of input, which a stuck device makes the hub discard.
const LINE_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of applying the configuration, driver included.
const APPLY_TIMEOUT: Duration = Duration::from_secs(8);

/// Characters of a note that are kept: a line of a log that a user reads on a terminal.
const MAX_NOTE_CHARACTERS: usize = 500;

/// Makes the service apply the configuration again. The answer is what is not in effect, or why nothing was done.
pub type Apply = oneshot::Sender<Result<Vec<String>, String>>;

pub(super) async fn apply(console: &Console, applies: &mpsc::Sender<Apply>) -> Reply {
    let (told, applied) = oneshot::channel();
    let asked = async {
        applies.send(told).await.ok()?;
        applied.await.ok()
    };
    match tokio::time::timeout(APPLY_TIMEOUT, asked).await {
        Ok(Some(Ok(remarks))) => Reply::Applied(remarks),
        Ok(Some(Err(why))) => Reply::Rejected(why),
        Ok(None) => Reply::Rejected(format!("{} is shutting down", console.name())),
        Err(_) => Reply::Rejected(format!(
            "{} did not apply the configuration within {} s",
            console.name(),
            APPLY_TIMEOUT.as_secs()
        )),
    }
}

pub(super) async fn send_break(
    console: &Arc<Console>,
    milliseconds: u32,
    break_name: Option<BreakName>,
    by: String,
) -> Reply {
    let name = &console.name();
    if !BREAK_MS_RANGE.contains(&milliseconds) {
        let (shortest, longest) = (BREAK_MS_RANGE.start(), BREAK_MS_RANGE.end());
        return Reply::Rejected(format!(
            "invalid break of {milliseconds} ms: expected {shortest} to {longest}"
        ));
    }
    let line = console.hub.line().borrow().clone();
    if !line.takes_input() {
        return Reply::Rejected(format!("cannot send a break to {name}: {line}"));
    }
    let input = console.hub.input();
    let length = Duration::from_millis(milliseconds.into());
    let (what, title) = match console.break_request(length, break_name.as_ref()) {
        Ok(request) => request,
        Err(why) => return Reply::Rejected(why),
    };
    let notice = format!("{title} by {}", plain(&by));
    let (request, mut events) = console.hub.break_while_heard(what, by);
    let sent = async {
        input.send(request).await.map_err(|_| format!("{name} is shutting down"))?;
        match events.recv().await {
            Some(BreakEvent::Failed(why)) => Err(format!("{name}: {why}")),
            Some(BreakEvent::Begun | BreakEvent::Ended) => Ok(()),
            None => Err(format!("cannot send a break to {name}: the device was unplugged")),
        }
    };
    match tokio::time::timeout(LINE_TIMEOUT, sent).await {
        Ok(Ok(())) => {
            console.roster().notify_all(None, &notice);
            let console = console.clone();
            // Not awaited here: a break may be longer than the client waits for the reply.
            tokio::spawn(async move {
                if let Some(BreakEvent::Failed(why)) = events.recv().await {
                    console.roster().notify_all(None, &why);
                }
            });
            Reply::Done
        }
        Ok(Err(why)) => Reply::Rejected(why),
        Err(_) => Reply::Rejected(format!("cannot send a break to {name}: the device takes no input")),
    }
}

/// Records an event of console-admin's, such as a power command.
pub(super) fn note(console: &Console, text: &str) -> Reply {
    let text: String = plain(text).chars().take(MAX_NOTE_CHARACTERS).collect();
    console.hub.note(text.clone());
    console.roster().notify_all(None, &text);
    Reply::Done
}

pub(super) fn disconnect(console: &Console, user: &str, by: &str) -> Reply {
    let why = format!("disconnected by {}", plain(by));
    let count = console.roster().disconnect(user, &why);
    tracing::info!(console_user = user, "{by:?} disconnected {count} sessions of {user:?}");
    Reply::Disconnected(u32::try_from(count).unwrap_or(u32::MAX))
}
