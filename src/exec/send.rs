//! `send` and `break`: the task attaches as a session does, so that the other users see who sends, and only one writes.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::expect::wait_for;
use super::{EXIT_DONE, ExecError, ExecResult, Pattern, SendOptions, Task};
use crate::hub::{BREAK_MS_RANGE, Input};
use crate::port::{BreakName, Pacing};
use crate::session::{Outlet, SessionGuard, plain};

/// Bytes passed to the hub at once: few, because they cannot be taken back.
const WRITE_CHUNK: usize = 512;
const BREAK_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for a source to connect on demand. The dialer reports a host that does not reply after 10 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(12);

pub(super) async fn send<O: Outlet>(
    task: &Task,
    (bytes, typing): (Vec<u8>, SendOptions),
    force: bool,
    expected: Option<Pattern>,
    wait: Duration,
    outlet: &mut O,
) -> ExecResult {
    let _session = attach_as_writer(task, force).await?;
    let settings = task.console.settings();
    let bytes = if typing.raw { bytes } else { settings.omap.apply(bytes) };
    let pacing = Pacing {
        character: typing.output_delay.unwrap_or(settings.pacing.character),
        line: typing.output_line_delay.unwrap_or(settings.pacing.line),
    };
    // The delays are not held against the device.
    let send_timeout = wait + pacing.time(&bytes);
    // Before sending, so that no answer is missed.
    let cursor = task.console.hub.cursor_from_now();
    let input = task.console.hub.input();
    let torn = task.console.hub.torn();
    let taken = async {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(pacing.piece(rest, WRITE_CHUNK));
            rest = behind;
            if pacing.is_on() {
                task.console.hub.write(piece.to_vec(), pacing, false).await?;
            } else {
                input.send(Input::Bytes(piece.to_vec())).await.ok()?;
            }
        }
        taken(task).await
    };
    match timeout(send_timeout, taken).await {
        Ok(Some(())) if task.console.hub.torn() == torn => {}
        Ok(_) => {
            return task.failed(
                "the device was unplugged, or a break discarded input; not all of the text was sent",
            );
        }
        Err(_) => {
            let seconds = send_timeout.as_secs();
            return task.failed(format!("the device did not take all of the text within {seconds} s"));
        }
    }
    match expected {
        Some(pattern) => wait_for(task, cursor, pattern, wait, outlet).await,
        None => Ok(EXIT_DONE),
    }
}

pub(super) async fn send_break(
    task: &Task,
    milliseconds: u32,
    name: Option<BreakName>,
    force: bool,
) -> ExecResult {
    if !BREAK_MS_RANGE.contains(&milliseconds) {
        let (least, most) = (BREAK_MS_RANGE.start(), BREAK_MS_RANGE.end());
        return task.failed(format!("invalid break of {milliseconds} ms: expected {least} to {most}"));
    }
    let length = Duration::from_millis(milliseconds.into());
    let (what, title) = match task.console.break_request(length, name.as_ref()) {
        Ok(request) => request,
        Err(why) => return task.failed(why),
    };
    let session = attach_as_writer(task, force).await?;
    match timeout(BREAK_TIMEOUT, task.console.hub.send_break(what, task.user.user.clone())).await {
        Ok(Some(Ok(()))) => {}
        Ok(Some(Err(why))) => return task.failed(why),
        Ok(None) => return task.failed("the device was unplugged"),
        Err(_) => return task.failed("the device takes no input"),
    }
    let notice = format!("{title} by {}", plain(&task.user.user));
    task.console.roster().notify_all(Some(session.id), &notice);
    Ok(EXIT_DONE)
}

/// Attaches a session with write access. A source that is connected on demand is connected by that.
async fn attach_as_writer(task: &Task, force: bool) -> ExecResult<SessionGuard> {
    let state = task.console.hub.line().borrow().clone();
    let is_on_demand = task.console.settings().on_demand;
    if !state.takes_input() && !is_on_demand {
        return task.failed(state);
    }
    let (session, _) = task.console.attach(task.user.clone());
    if is_on_demand {
        let mut line = task.console.hub.line();
        let settled = line.wait_for(|now| now.takes_input() || *now != state);
        // A port that is shutting down ends its sessions.
        let _ = timeout(CONNECT_TIMEOUT, settled).await;
        let state = line.borrow().clone();
        if !state.takes_input() {
            return task.failed(state);
        }
    }
    let mut roster = task.console.roster();
    let taken = if force { roster.take_over(session.id) } else { roster.request_write(session.id) };
    drop(roster);
    match taken {
        Ok(()) => Ok(session),
        Err(denied) => Err(ExecError::Failed(match force {
            true => denied.to_string(),
            false => format!("{denied}; nothing was sent"),
        })),
    }
}

/// Waits until the tty has taken all input so far; `None` if it never will.
async fn taken(task: &Task) -> Option<()> {
    let (told, taken) = oneshot::channel();
    task.console.hub.input().send(Input::Mark(told)).await.ok()?;
    taken.await.ok()
}
