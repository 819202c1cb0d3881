//! `send` and `break`: the task attaches as a session does, so that the other users see who sends, and only one writes.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{EXIT_DONE, ExecError, ExecResult, Pattern, SendOptions, Task};
use crate::hub::{BREAK_MS_RANGE, BreakEvent, Input, LineState};
use crate::port::{BreakName, Pacing};
use crate::session::{Outlet, SessionGuard, plain};

/// Bytes passed to the hub at once: few, because they cannot be taken back.
const WRITE_CHUNK: usize = 512;
/// Timeout of a break.
const BREAK_TIMEOUT: Duration = Duration::from_secs(15);

impl Task {
    pub(super) async fn send<O: Outlet>(
        &self,
        (bytes, typing): (Vec<u8>, SendOptions),
        force: bool,
        expected: Option<Pattern>,
        wait: Duration,
        outlet: &mut O,
    ) -> ExecResult {
        let _session = self.attach_as_writer(force)?;
        let settings = self.console.settings();
        let bytes = if typing.raw { bytes } else { settings.omap.apply(bytes) };
        let pacing = Pacing {
            character: typing.output_delay.unwrap_or(settings.pacing.character),
            line: typing.output_line_delay.unwrap_or(settings.pacing.line),
        };
        // The delays are not held against the device.
        let send_timeout = wait + pacing.time(&bytes);
        // Before sending, so that no answer is missed.
        let cursor = self.console.hub.cursor_from_now();
        let input = self.console.hub.input();
        let torn = self.console.hub.torn();
        let taken = async {
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(pacing.piece(rest, WRITE_CHUNK));
                rest = behind;
                if pacing.is_on() {
                    let (written, is_written) = oneshot::channel();
                    input.send(Input::Paced { bytes: piece.to_vec(), pacing, written }).await.ok()?;
                    is_written.await.ok()?;
                } else {
                    input.send(Input::Bytes(piece.to_vec())).await.ok()?;
                }
            }
            self.taken().await
        };
        match timeout(send_timeout, taken).await {
            Ok(Some(())) if self.console.hub.torn() == torn => {}
            Ok(_) => {
                return self.failed(
                    "the device was unplugged, or a break discarded input; not all of the text was sent",
                );
            }
            Err(_) => {
                let seconds = send_timeout.as_secs();
                return self.failed(format!("the device did not take all of the text within {seconds} s"));
            }
        }
        match expected {
            Some(pattern) => self.wait_for(cursor, pattern, wait, outlet).await,
            None => Ok(EXIT_DONE),
        }
    }

    pub(super) async fn send_break(
        &self,
        milliseconds: u32,
        name: Option<BreakName>,
        force: bool,
    ) -> ExecResult {
        if !BREAK_MS_RANGE.contains(&milliseconds) {
            let (least, most) = (BREAK_MS_RANGE.start(), BREAK_MS_RANGE.end());
            return self.failed(format!("invalid break of {milliseconds} ms: expected {least} to {most}"));
        }
        let length = Duration::from_millis(milliseconds.into());
        let (what, title) = match self.console.break_request(length, name.as_ref()) {
            Ok(request) => request,
            Err(why) => return self.failed(why),
        };
        let session = self.attach_as_writer(force)?;
        let (request, mut events) = self.console.hub.break_while_heard(what, self.user.user.clone());
        let sent = async {
            self.console.hub.input().send(request).await.ok()?;
            while let Some(event) = events.recv().await {
                match event {
                    BreakEvent::Begun => {}
                    BreakEvent::Ended => return Some(Ok(())),
                    BreakEvent::Failed(why) => return Some(Err(why)),
                }
            }
            None
        };
        match timeout(BREAK_TIMEOUT, sent).await {
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(why))) => return self.failed(why),
            Ok(None) => return self.failed("the device was unplugged"),
            Err(_) => return self.failed("the device takes no input"),
        }
        let notice = format!("{title} by {}", plain(&self.user.user));
        self.console.roster().notify_all(Some(session.id), &notice);
        Ok(EXIT_DONE)
    }

    /// Attaches a session with write access.
    fn attach_as_writer(&self, force: bool) -> ExecResult<SessionGuard> {
        let state = self.console.hub.line().borrow().clone();
        if !matches!(state, LineState::Open(_)) {
            return self.failed(state);
        }
        let (session, _) = self.console.attach(self.user.clone());
        let mut roster = self.console.roster();
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
    async fn taken(&self) -> Option<()> {
        let (told, taken) = oneshot::channel();
        self.console.hub.input().send(Input::Mark(told)).await.ok()?;
        taken.await.ok()
    }
}
