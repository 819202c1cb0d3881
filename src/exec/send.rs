//! Typing by command: the task sits down at the port as a session does, so that the others see who types, and one writes.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{ExecResult, EXIT_DONE, Pattern, ExecError, Task, SendOptions};
use crate::hub::{BREAK_MS_RANGE, BreakEvent, Input, LineState};
use crate::port::Pacing;
use crate::session::{SessionGuard, Outlet, plain};

/// Bytes handed over at once: little, because what is handed over cannot be taken back.
const WRITE_CHUNK: usize = 512;
/// For a line to take a break.
const BREAK_TIMEOUT: Duration = Duration::from_secs(15);

impl Task {
    pub(super) async fn send<O: Outlet>(
        &self,
        (bytes, typing): (Vec<u8>, SendOptions),
        force: bool,
        expected: Option<Pattern>,
        patience: Duration,
        outlet: &mut O,
    ) -> ExecResult {
        let _seat = self.attach_as_writer(force)?;
        let settings = self.console.settings();
        let bytes = if typing.raw { bytes } else { settings.omap.apply(bytes) };
        let pacing = Pacing {
            character: typing.output_delay.unwrap_or(settings.pacing.character),
            line: typing.output_line_delay.unwrap_or(settings.pacing.line),
        };
        // The pauses are no delay of the line's.
        let patience_with_pauses = patience + pacing.time(&bytes);
        // From here on, so that no answer comes too early to be seen.
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
        match timeout(patience_with_pauses, taken).await {
            Ok(Some(())) if self.console.hub.torn() == torn => {}
            Ok(_) => return self.failed("its device has gone, or a break got through; not all was sent"),
            Err(_) => {
                let seconds = patience_with_pauses.as_secs();
                return self.failed(format!("its line has not taken all within {seconds} s"));
            }
        }
        match expected {
            Some(pattern) => self.wait_for(cursor, pattern, patience, outlet).await,
            None => Ok(EXIT_DONE),
        }
    }

    pub(super) async fn send_break(&self, milliseconds: u32, force: bool) -> ExecResult {
        if !BREAK_MS_RANGE.contains(&milliseconds) {
            let (least, most) = (BREAK_MS_RANGE.start(), BREAK_MS_RANGE.end());
            return self.failed(format!("a break of {milliseconds} ms: expected {least} to {most}"));
        }
        let seat = self.attach_as_writer(force)?;
        let length = Duration::from_millis(milliseconds.into());
        let (wanted, mut events) = self.console.hub.break_while_heard(length, self.user.user.clone());
        let sent = async {
            self.console.hub.input().send(wanted).await.ok()?;
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
            Ok(None) => return self.failed("its device has gone"),
            Err(_) => return self.failed("its line takes nothing"),
        }
        let news = format!("break of {milliseconds} ms by {}", plain(&self.user.user));
        self.console.roster().notify_all(Some(seat.id), &news);
        Ok(EXIT_DONE)
    }

    /// Attaches as the writer, or says why that cannot be.
    fn attach_as_writer(&self, force: bool) -> ExecResult<SessionGuard> {
        let state = self.console.hub.line().borrow().clone();
        if !matches!(state, LineState::Open(_)) {
            return self.failed(state);
        }
        let (seat, _) = self.console.attach(self.user.clone());
        let mut roster = self.console.roster();
        let taken = if force { roster.take_over(seat.id) } else { roster.attach(seat.id) };
        drop(roster);
        match taken {
            Ok(()) => Ok(seat),
            Err(refusal) => Err(ExecError::Failed(match force {
                true => refusal.to_string(),
                false => format!("{refusal}; nothing was sent"),
            })),
        }
    }

    /// Waits until the line has taken all that was sent before; `None` if it never will.
    async fn taken(&self) -> Option<()> {
        let (told, taken) = oneshot::channel();
        self.console.hub.input().send(Input::Mark(told)).await.ok()?;
        taken.await.ok()
    }
}
