//! What an administrator asks of a port that runs: apply the configuration, send a break, end somebody's sessions.

use std::time::Duration;

use tokio::sync::oneshot;

use super::Reply;
use super::server::Server;
use crate::hub::{BREAK_MS_RANGE, BreakEvent, LineState};
use crate::session::plain;

/// For the line to begin a break. Before it stands at most what its queue holds, which a stuck line has to throw away.
const LINE_TIMEOUT: Duration = Duration::from_secs(5);
/// For the service to apply the configuration, and for the driver to say what it made of it.
const APPLY_TIMEOUT: Duration = Duration::from_secs(8);

/// Asks the service to read the configuration again; the answer is what could not be as it says, or why nothing was done.
pub type Apply = oneshot::Sender<Result<Vec<String>, String>>;

impl Server {
    pub(super) async fn apply(&self) -> Reply {
        let (told, applied) = oneshot::channel();
        let asked = async {
            self.applies.send(told).await.ok()?;
            applied.await.ok()
        };
        match tokio::time::timeout(APPLY_TIMEOUT, asked).await {
            Ok(Some(Ok(remarks))) => Reply::Applied(remarks),
            Ok(Some(Err(why))) => Reply::Refused(why),
            Ok(None) => Reply::Refused(format!("{} is ending", self.console.name())),
            Err(_) => Reply::Refused(format!(
                "{} has not applied it within {} s",
                self.console.name(),
                APPLY_TIMEOUT.as_secs()
            )),
        }
    }

    pub(super) async fn send_break(&self, milliseconds: u32, by: String) -> Reply {
        let name = &self.console.name();
        if !BREAK_MS_RANGE.contains(&milliseconds) {
            let (shortest, longest) = (BREAK_MS_RANGE.start(), BREAK_MS_RANGE.end());
            return Reply::Refused(format!("a break of {milliseconds} ms: expected {shortest} to {longest}"));
        }
        let line = self.console.hub.line().borrow().clone();
        if !matches!(line, LineState::Open(_)) {
            return Reply::Refused(format!("no break to {name}: {line}"));
        }
        let input = self.console.hub.input();
        let length = Duration::from_millis(milliseconds.into());
        let news = format!("break of {milliseconds} ms by {}", plain(&by));
        let (wanted, mut events) = self.console.hub.break_while_heard(length, by);
        let sent = async {
            input.send(wanted).await.map_err(|_| format!("{name} is ending"))?;
            match events.recv().await {
                Some(BreakEvent::Failed(why)) => Err(format!("{name}: {why}")),
                Some(BreakEvent::Begun | BreakEvent::Ended) => Ok(()),
                None => Err(format!("no break to {name}: its device has gone")),
            }
        };
        match tokio::time::timeout(LINE_TIMEOUT, sent).await {
            Ok(Ok(())) => {
                self.console.roster().notify_all(None, &news);
                let console = self.console.clone();
                // Not waited for here: a break may be longer than an administrator's patience.
                tokio::spawn(async move {
                    if let Some(BreakEvent::Failed(why)) = events.recv().await {
                        console.roster().notify_all(None, &why);
                    }
                });
                Reply::Done
            }
            Ok(Err(why)) => Reply::Refused(why),
            Err(_) => Reply::Refused(format!("no break to {name}: its line takes nothing")),
        }
    }

    pub(super) fn disconnect(&self, user: &str, by: &str) -> Reply {
        let why = format!("disconnected by {}", plain(by));
        let count = self.console.roster().disconnect(user, &why);
        tracing::info!(console_user = user, "{count} sessions of {user:?} ended by {by:?}");
        Reply::Disconnected(u32::try_from(count).unwrap_or(u32::MAX))
    }
}
