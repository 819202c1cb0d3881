//! The input loop of a session: passes events through the escape machine to the hub, in order. Input that the device has not taken yet
//! waits here, up to a whole paste, so that a user at a stuck device can still detach by an escape command, or send a break.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::commands::{Outcome, act, break_of, break_of_length};
use super::escape::EscapeMachine;
use super::input_queue::{Event, QueuedInput};
use super::{Context, Reply, SessionEnd};
use crate::config::{self, EscapePrefix};
use crate::hub::{BreakEvent, Input, LineState};
use crate::port::{Mapping, Pacing};
use crate::system::clock::reached;
use crate::system::memory;

/// Bytes passed to the hub at once: few, because they cannot be taken back.
const WRITE_CHUNK: usize = 512;
/// More queued chunks than these are a paste.
const PASTE_CHUNKS: usize = 128;

/// How much of a paste with delays is still sent after the user detaches: a last command, and no more than the next user can wait for.
const DRAIN_ON_DETACH: Duration = Duration::from_secs(1);

/// How long the first character of the escape prefix is held back for the second one. Devices use a single Control-E (ENQ) to request
/// identification, and wait seconds for the answer.
const PREFIX_TIMEOUT: Duration = Duration::from_secs(1);

/// Input that waits for the device, with its weight in the input queue.
type Queue = VecDeque<(Input, usize)>;

/// Runs until the user detaches or the client disconnects.
pub(super) async fn run(
    here: &Context,
    mut typed: QueuedInput,
    mut breaks: mpsc::Receiver<BreakEvent>,
) -> SessionEnd {
    let mut settings = here.console.watch_settings();
    let mut typing = InputState::new(here, &settings.borrow_and_update());
    let hub_input = here.console.hub.input();
    // After end of input: resolves when the tty has taken all of it.
    let mut taken: Option<oneshot::Receiver<()>> = None;
    let mut last_typed = Instant::now();

    loop {
        let idle_end = typing.timeout.filter(|_| !here.options.watch).map(|timeout| last_typed + timeout);
        let prefix_end = typing.machine.holds_prefix().then(|| last_typed + PREFIX_TIMEOUT);
        tokio::select! {
            permit = hub_input.reserve(), if !typing.waiting.is_empty() && typing.unwritten.is_none() => {
                let Ok(permit) = permit else { return SessionEnd::Closed("the port is shutting down".to_owned()) };
                if !typing.may_still_send() {
                    typing.drop_waiting(&typed);
                } else if let Some((input, weight)) = typing.next() {
                    here.input_outcome.sent.store(true, Ordering::Relaxed);
                    typing.discarded &= !matches!(input, Input::Break { .. });
                    permit.send(input);
                    typed.settle(weight);
                }
                shrink(&mut typing.waiting);
            }
            is_written = written(&mut typing.unwritten), if typing.unwritten.is_some() => {
                typing.unwritten = None;
                typing.discarded = !is_written;
                // A session whose paste takes longer than the port's timeout is not idle.
                last_typed = Instant::now();
            }
            event = typed.next() => {
                let Some(event) = event else { return SessionEnd::Gone };
                last_typed = Instant::now();
                let weight = event.weight();
                match event {
                    Event::Bytes(bytes) => match typing.bytes(&bytes).await {
                        Some(SessionEnd::Switched(port, _)) => return SessionEnd::Switched(port, typing.detach(&hub_input)),
                        Some(_) => return SessionEnd::Detached(typing.detach(&hub_input)),
                        None => {}
                    },
                    Event::Break => {
                        typing.release();
                        typing.submit(break_of(here, 0));
                    }
                    Event::TimedBreak(length) => {
                        typing.release();
                        typing.submit(break_of_length(here, length));
                    }
                    Event::End => taken = typing.end(),
                }
                match typing.waiting.back_mut() {
                    Some((_, owed)) => *owed += weight,
                    None => typed.settle(weight),
                }
            }
            () = reached(prefix_end) => typing.release(),
            all = input_taken(&mut taken), if taken.is_some() => {
                taken = None;
                if !all {
                    here.input_outcome.unsent.store(true, Ordering::Relaxed);
                }
                if here.terminal && !here.input_outcome.unsent.load(Ordering::Relaxed) {
                    return SessionEnd::Detached(None);
                }
                // A pipe still waits for the device's answer; and the reason why input was discarded is printed first.
                here.input_outcome.input_ended.notify_one();
            }
            // The console owns the sender, and outlives its sessions.
            Ok(()) = settings.changed() => typing.set(&settings.borrow_and_update()),
            Some(event) = breaks.recv() => match event {
                BreakEvent::Begun => here.notify("sending break".to_owned()),
                BreakEvent::Ended => {}
                BreakEvent::Failed(why) => here.notify(why),
            },
            () = reached(idle_end) => {
                return SessionEnd::Closed("closed: idle timeout".to_owned());
            }
        }
    }
}

/// Waits until it is known whether the tty has taken all input.
async fn input_taken(taken: &mut Option<oneshot::Receiver<()>>) -> bool {
    match taken {
        Some(taken) => taken.await.is_ok(),
        None => std::future::pending().await,
    }
}

/// Waits until the hub has written the chunk, and returns true; or never will, and returns false (`torn` or the break's own message
/// tells the user). Cancel safe.
async fn written(in_hand: &mut Option<oneshot::Receiver<()>>) -> bool {
    match in_hand {
        Some(written) => written.await.is_ok(),
        None => std::future::pending().await,
    }
}

/// Input between the client and the hub.
struct InputState<'h> {
    here: &'h Context,
    timeout: Option<Duration>,
    prefix: Option<EscapePrefix>,
    machine: EscapeMachine,
    pacing: Pacing,
    omap: Mapping,
    waiting: Queue,
    /// With delays: resolves when the hub has written the chunk that it has.
    unwritten: Option<oneshot::Receiver<()>>,
    /// The hub discards input, because a break waits behind it.
    discarded: bool,
    /// [`crate::hub::Hub::torn`] when the first waiting input arrived.
    torn: u64,
    notified_read_only: bool,
    received_input: bool,
}

impl<'h> InputState<'h> {
    fn new(here: &'h Context, settings: &config::Port) -> Self {
        let prefix = here.prefix(settings);
        Self {
            here,
            timeout: settings.timeout,
            prefix,
            machine: EscapeMachine::new(prefix),
            pacing: settings.pacing,
            omap: omap(here, settings),
            waiting: Queue::new(),
            unwritten: None,
            discarded: false,
            torn: here.console.hub.torn(),
            notified_read_only: false,
            received_input: false,
        }
    }

    fn set(&mut self, settings: &config::Port) {
        self.timeout = settings.timeout;
        (self.pacing, self.omap) = (settings.pacing, omap(self.here, settings));
        let prefix = self.here.prefix(settings);
        if self.prefix != prefix {
            self.release();
            self.prefix = prefix;
            self.machine = EscapeMachine::new(prefix);
            self.here.notify(match prefix {
                Some(prefix) => format!("{prefix}? is now the key for help"),
                None => "escape commands are now off".to_owned(),
            });
        }
    }

    /// Runs the commands in these bytes and queues the rest. Returns how the session ends, if it does.
    async fn bytes(&mut self, mut bytes: &[u8]) -> Option<SessionEnd> {
        self.received_input = true;
        while !bytes.is_empty() {
            for action in self.machine.step(&mut bytes) {
                match act(self.here, self.prefix, action).await {
                    Outcome::Input(Input::Bytes(bytes)) => {
                        let bytes = self.omap.apply(bytes);
                        self.submit(Input::Bytes(bytes));
                    }
                    Outcome::Input(input) => self.submit(input),
                    Outcome::Done => {}
                    Outcome::Complete(rest) => {
                        let echo = self.machine.complete(&rest);
                        self.here.reply(Reply::Echo(echo));
                    }
                    Outcome::AskAgain(asked) => self.machine.ask_again(asked),
                    Outcome::Detach => return Some(SessionEnd::Detached(None)),
                    Outcome::Switch(port) => return Some(SessionEnd::Switched(port, None)),
                }
            }
        }
        None
    }

    /// Queues the bytes that were held back for an escape command that was not completed.
    fn release(&mut self) {
        let held_back = self.machine.release();
        if !held_back.is_empty() {
            let held_back = self.omap.apply(held_back);
            self.submit(Input::Bytes(held_back));
        }
    }

    /// Queues input, if this session has write access.
    fn submit(&mut self, input: Input) {
        if !self.may_write() {
            if let Input::Bytes(_) = input {
                self.here.input_outcome.unsent.store(true, Ordering::Relaxed);
            }
            return input.dismiss();
        }
        if self.waiting.is_empty() {
            self.torn = self.here.console.hub.torn();
        }
        queue(&mut self.waiting, input);
    }

    /// End of input. The result resolves when the tty has taken all of it. A pipe that has sent nothing (`ssh -n`) stays and reads.
    fn end(&mut self) -> Option<oneshot::Receiver<()>> {
        self.release();
        if !self.here.terminal && !self.received_input {
            return None;
        }
        let (told, taken) = oneshot::channel();
        if self.waiting.is_empty() && !self.here.input_outcome.sent.load(Ordering::Relaxed) {
            // Not queued behind another user's input, which the device may not take for long.
            let _ = told.send(());
        } else {
            self.waiting.push_back((Input::Mark(told), 0));
        }
        Some(taken)
    }

    /// The next message for the hub, and its weight. With delays it is a chunk up to the next delay, and `unwritten` until it is
    /// written; input that is `discarded` need not be cut that small.
    fn next(&mut self) -> Option<(Input, usize)> {
        let (input, weight) = self.waiting.pop_front()?;
        match input {
            Input::Bytes(mut bytes) if self.pacing.is_on() => {
                let count = if self.discarded { bytes.len() } else { self.pacing.piece(&bytes, WRITE_CHUNK) };
                let rest = bytes.split_off(count.min(bytes.len()));
                let mut settled = weight;
                if !rest.is_empty() {
                    self.waiting.push_front((Input::Bytes(rest), weight));
                    settled = 0;
                }
                let (written, receiver) = oneshot::channel();
                self.unwritten = Some(receiver);
                Some((Input::Paced { bytes, pacing: self.pacing, written, is_secret: false }, settled))
            }
            input => Some((input, weight)),
        }
    }

    /// Passes on as much waiting input as the hub takes at once, since a stuck device must not keep the user from detaching. Returns the
    /// notice about the rest.
    fn detach(&mut self, hub_input: &mpsc::Sender<Input>) -> Option<String> {
        let mut left = DRAIN_ON_DETACH;
        let mut unsent = 0;
        for (input, _) in std::mem::take(&mut self.waiting) {
            let size = length(&input);
            let input = match input {
                Input::Bytes(mut bytes) if self.pacing.is_on() => {
                    bytes.truncate(self.pacing.within(&bytes, left));
                    left = left.saturating_sub(self.pacing.time(&bytes));
                    Input::Paced {
                        bytes,
                        pacing: self.pacing,
                        written: oneshot::channel().0,
                        is_secret: false,
                    }
                }
                input => input,
            };
            // Nothing is sent after a gap.
            if unsent > 0 {
                unsent += size;
                continue;
            }
            let handed_over = length(&input);
            match hub_input.try_send(input) {
                Ok(()) => unsent += size - handed_over,
                Err(TrySendError::Full(_) | TrySendError::Closed(_)) => unsent += size,
            }
        }
        (unsent > 0).then(|| unsent_bytes(unsent))
    }

    /// Whether waiting input may still be sent to the device for which it was typed.
    fn may_still_send(&self) -> bool {
        let console = &self.here.console;
        let is_closed = console.hub.line().borrow().is_closed();
        !is_closed && console.roster().writes(self.here.id) && console.hub.torn() == self.torn
    }

    /// Discards waiting input, because another session took over and two users' lines must not mix, or because the device was
    /// unplugged and a paste must not continue after a gap.
    fn drop_waiting(&mut self, typed: &QueuedInput) {
        let mut bytes = 0;
        for (input, weight) in self.waiting.drain(..) {
            bytes += length(&input);
            typed.settle(weight);
        }
        // Only the mark's owner notices the dropped sender.
        if bytes > 0 {
            self.here.input_outcome.unsent.store(true, Ordering::Relaxed);
            self.here.notify(unsent_bytes(bytes));
        }
    }

    /// Whether input is sent to the device now. If not, the user is notified once.
    fn may_write(&mut self) -> bool {
        let here = self.here;
        let name = &here.console.name();
        let denied = match &*here.console.hub.line().borrow() {
            LineState::Open(_) | LineState::OnTrial(..) | LineState::Starting => {
                let roster = here.console.roster();
                (!roster.writes(here.id)).then(|| match roster.writer() {
                    Some(writer) => {
                        format!("{} has write access; you are read-only: input is discarded", writer.client)
                    }
                    None => "you are read-only: input is discarded".to_owned(),
                })
            }
            LineState::Away(_) => Some(format!("{name} is unplugged: input is discarded")),
            LineState::Disconnected(..) => Some(format!("{name} is disconnected: input is discarded")),
            LineState::Failed(why) | LineState::NotOurs(why) => Some(format!("{why}: input is discarded")),
        };
        match denied {
            None => self.notified_read_only = false,
            Some(why) => {
                if !std::mem::replace(&mut self.notified_read_only, true) {
                    here.notify(why);
                }
                return false;
            }
        }
        true
    }
}

/// Without a terminal no byte is mapped, because files are sent that way.
fn omap(here: &Context, settings: &config::Port) -> Mapping {
    if here.terminal { settings.omap.clone() } else { Mapping::default() }
}

/// Queues input in full chunks, however small the packets were.
fn queue(waiting: &mut Queue, input: Input) {
    match input {
        Input::Bytes(bytes) => {
            let mut rest = &bytes[..];
            if let Some((Input::Bytes(last), _)) = waiting.back_mut() {
                let (more, others) = rest.split_at(rest.len().min(WRITE_CHUNK.saturating_sub(last.len())));
                last.extend_from_slice(more);
                rest = others;
            }
            waiting.extend(rest.chunks(WRITE_CHUNK).map(|piece| (Input::Bytes(piece.to_vec()), 0)));
        }
        other => waiting.push_back((other, 0)),
    }
}

/// Frees the memory of a paste after it is sent: the session may last for months.
fn shrink(waiting: &mut Queue) {
    if waiting.is_empty() && waiting.capacity() > PASTE_CHUNKS {
        *waiting = Queue::new();
        memory::give_back();
    }
}

fn length(input: &Input) -> usize {
    match input {
        Input::Bytes(bytes) | Input::Paced { bytes, .. } => bytes.len(),
        Input::Break { .. } | Input::Mark(_) => 0,
    }
}

fn unsent_bytes(count: usize) -> String {
    format!("{count} bytes of your input were not sent")
}
