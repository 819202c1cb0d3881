//! The typing half of a session: events through the escape machine to the hub, in order. What the device has not taken yet
//! waits here, a whole paste of it, so that a user at a stuck line can still leave by an escape, or send a break.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::commands::{Outcome, act, break_of};
use super::escape::EscapeMachine;
use super::input_queue::{Event, Typed};
use super::{Answer, Ended, Here};
use crate::config::{self, EscapePrefix};
use crate::hub::{BreakEvent, Input, LineState};
use crate::port::{Mapping, Pacing};
use crate::system::clock::reached;
use crate::system::memory;

/// Bytes handed to the hub at once: little, because what is handed over cannot be taken back.
const WRITE_CHUNK: usize = 512;
/// More pieces than these at once are a paste.
const PASTE_PIECES: usize = 128;

/// How much of a paste with pauses the line still gets from a user who leaves: a command typed last, and no more than the
/// next user can wait for.
const AFTER_LEAVING: Duration = Duration::from_secs(1);

/// So long the first character of the escape prefix is held back, because the second may follow. Devices ask each other who they are
/// by a Control-E (ENQ) alone, and wait for the answer for seconds.
const PREFIX_TIMEOUT: Duration = Duration::from_secs(1);

/// Input that waits for the device, with what it counts for at the gate.
type Waiting = VecDeque<(Input, usize)>;

/// Runs until the user leaves or the client is gone.
pub(super) async fn run(here: &Here, mut typed: Typed, mut breaks: mpsc::Receiver<BreakEvent>) -> Ended {
    let mut settings = here.console.settings_to_come();
    let mut typing = Typing::new(here, &settings.borrow_and_update());
    let hub_input = here.console.hub.input();
    // Once input has ended: resolves when the line has taken all of it.
    let mut taken: Option<oneshot::Receiver<()>> = None;
    let mut last_typed = Instant::now();

    loop {
        let idle_end = typing.timeout.filter(|_| !here.options.watch).map(|timeout| last_typed + timeout);
        let prefix_end = typing.machine.holds_prefix().then(|| last_typed + PREFIX_TIMEOUT);
        tokio::select! {
            permit = hub_input.reserve(), if !typing.waiting.is_empty() && typing.in_hand.is_none() => {
                let Ok(permit) = permit else { return Ended::Closed("the port is gone".to_owned()) };
                if !typing.goes_on() {
                    typing.drop_waiting(&typed);
                } else if let Some((input, weight)) = typing.next() {
                    here.fate.sent.store(true, Ordering::Relaxed);
                    typing.discarded &= !matches!(input, Input::Break { .. });
                    permit.send(input);
                    typed.settle(weight);
                }
                give_back(&mut typing.waiting);
            }
            is_written = written(&mut typing.in_hand), if typing.in_hand.is_some() => {
                typing.in_hand = None;
                typing.discarded = !is_written;
                // A paste that takes longer than the port's timeout is no idle session.
                last_typed = Instant::now();
            }
            event = typed.next() => {
                let Some(event) = event else { return Ended::Gone };
                last_typed = Instant::now();
                let weight = event.weight();
                match event {
                    Event::Bytes(bytes) => match typing.bytes(&bytes).await {
                        Some(Ended::Moved(port, _)) => return Ended::Moved(port, typing.leave(&hub_input)),
                        Some(_) => return Ended::Left(typing.leave(&hub_input)),
                        None => {}
                    },
                    Event::Break => {
                        typing.release();
                        typing.submit(break_of(here, 0));
                    }
                    Event::End => taken = typing.end(),
                }
                match typing.waiting.back_mut() {
                    Some((_, owed)) => *owed += weight,
                    None => typed.settle(weight),
                }
            }
            () = reached(prefix_end) => typing.release(),
            all = resolved(&mut taken), if taken.is_some() => {
                taken = None;
                if !all {
                    here.fate.unsent.store(true, Ordering::Relaxed);
                }
                if here.terminal && !here.fate.unsent.load(Ordering::Relaxed) {
                    return Ended::Left(None);
                }
                // What a pipe has sent wants its answer; and why something was not sent has to be shown first.
                here.fate.input_ended.notify_one();
            }
            // The console holds the sender for as long as there are sessions.
            Ok(()) = settings.changed() => typing.set(&settings.borrow_and_update()),
            Some(event) = breaks.recv() => match event {
                BreakEvent::Begun => here.say("break".to_owned()),
                BreakEvent::Ended => {}
                BreakEvent::Failed(why) => here.say(why),
            },
            () = reached(idle_end) => {
                return Ended::Closed("closed: nothing typed for too long".to_owned());
            }
        }
    }
}

/// Whether all was taken, once that is known.
async fn resolved(taken: &mut Option<oneshot::Receiver<()>>) -> bool {
    match taken {
        Some(taken) => taken.await.is_ok(),
        None => std::future::pending().await,
    }
}

/// Waits until the line has written what it was given, or never will, of which `torn` or the break's own message tells the user:
/// whether it has. Cancel safe.
async fn written(in_hand: &mut Option<oneshot::Receiver<()>>) -> bool {
    match in_hand {
        Some(written) => written.await.is_ok(),
        None => std::future::pending().await,
    }
}

/// What was typed, between the client and the hub.
struct Typing<'h> {
    here: &'h Here,
    timeout: Option<Duration>,
    prefix: Option<EscapePrefix>,
    machine: EscapeMachine,
    pacing: Pacing,
    omap: Mapping,
    waiting: Waiting,
    /// With pauses: what the line has been given and has not written yet.
    in_hand: Option<oneshot::Receiver<()>>,
    /// The line discards what it is given, for a break that waits behind it.
    discarded: bool,
    /// [`crate::hub::Hub::torn`] when the first of what waits was typed.
    torn: u64,
    told_read_only: bool,
    has_typed: bool,
}

impl<'h> Typing<'h> {
    fn new(here: &'h Here, settings: &config::Port) -> Self {
        let prefix = here.prefix(settings);
        Self {
            here,
            timeout: settings.timeout,
            prefix,
            machine: EscapeMachine::new(prefix),
            pacing: settings.pacing,
            omap: omap(here, settings),
            waiting: Waiting::new(),
            in_hand: None,
            discarded: false,
            torn: here.console.hub.torn(),
            told_read_only: false,
            has_typed: false,
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
            self.here.say(match prefix {
                Some(prefix) => format!("{prefix}? for help from now on"),
                None => "no escapes from now on".to_owned(),
            });
        }
    }

    /// Hands on what these bytes mean; how the session ends, if it does.
    async fn bytes(&mut self, mut bytes: &[u8]) -> Option<Ended> {
        self.has_typed = true;
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
                        self.here.tell(Answer::Echo(echo));
                    }
                    Outcome::Leave => return Some(Ended::Left(None)),
                    Outcome::Move(port) => return Some(Ended::Moved(port, None)),
                }
            }
        }
        None
    }

    /// The device gets what was held back for a command that has not come.
    fn release(&mut self) {
        let held_back = self.machine.release();
        if !held_back.is_empty() {
            let held_back = self.omap.apply(held_back);
            self.submit(Input::Bytes(held_back));
        }
    }

    /// Puts input behind what waits, if this session may write.
    fn submit(&mut self, input: Input) {
        if !self.may_write() {
            if let Input::Bytes(_) = input {
                self.here.fate.unsent.store(true, Ordering::Relaxed);
            }
            return input.dismiss();
        }
        if self.waiting.is_empty() {
            self.torn = self.here.console.hub.torn();
        }
        queue(&mut self.waiting, input);
    }

    /// Input has ended: resolves when the line has taken all of it. A pipe that has sent nothing (`ssh -n`) only listens, and stays.
    fn end(&mut self) -> Option<oneshot::Receiver<()>> {
        self.release();
        if !self.here.terminal && !self.has_typed {
            return None;
        }
        let (told, taken) = oneshot::channel();
        if self.waiting.is_empty() && !self.here.fate.sent.load(Ordering::Relaxed) {
            // Not behind what somebody else has typed, which a device may not take for long.
            let _ = told.send(());
        } else {
            self.waiting.push_back((Input::Mark(told), 0));
        }
        Some(taken)
    }

    /// The next message for the line, and what it counts for at the gate. With pauses it is a piece up to the next one, and
    /// `in_hand` until it is written; what is `discarded` need not be cut so small.
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
                self.in_hand = Some(receiver);
                Some((Input::Paced { bytes, pacing: self.pacing, written }, settled))
            }
            input => Some((input, weight)),
        }
    }

    /// Hands over as much of what waits as the device takes now: whoever leaves is not kept by a stuck one. What there is to say of the rest.
    fn leave(&mut self, hub_input: &mpsc::Sender<Input>) -> Option<String> {
        let mut left = AFTER_LEAVING;
        let mut unsent = 0;
        for (input, _) in std::mem::take(&mut self.waiting) {
            let size = length(&input);
            let input = match input {
                Input::Bytes(mut bytes) if self.pacing.is_on() => {
                    bytes.truncate(self.pacing.within(&bytes, left));
                    left = left.saturating_sub(self.pacing.time(&bytes));
                    Input::Paced { bytes, pacing: self.pacing, written: oneshot::channel().0 }
                }
                input => input,
            };
            // Nothing follows what was left out.
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

    /// Whether what waits may still go to the device it was typed for.
    fn goes_on(&self) -> bool {
        let console = &self.here.console;
        let takes = matches!(*console.hub.line().borrow(), LineState::Open(_) | LineState::Starting);
        takes && console.roster().writes(self.here.id) && console.hub.torn() == self.torn
    }

    /// Forgets what waits, because somebody else has become the writer and two people's lines must not mix, or because the device
    /// is gone and a paste must not go on with a hole in it.
    fn drop_waiting(&mut self, typed: &Typed) {
        let mut bytes = 0;
        for (input, weight) in self.waiting.drain(..) {
            bytes += length(&input);
            typed.settle(weight);
        }
        // Of nothing but the mark of the end, its owner is told.
        if bytes > 0 {
            self.here.fate.unsent.store(true, Ordering::Relaxed);
            self.here.say(unsent_bytes(bytes));
        }
    }

    /// Whether input goes to the device now. If not, the viewer is told once why.
    fn may_write(&mut self) -> bool {
        let here = self.here;
        let name = &here.console.name();
        let refusal = match &*here.console.hub.line().borrow() {
            LineState::Open(_) | LineState::Starting if here.console.roster().writes(here.id) => None,
            LineState::Open(_) | LineState::Starting => {
                let roster = here.console.roster();
                Some(match roster.writer() {
                    Some(writer) => {
                        format!("{} writes; you are watching: what you type is not sent", writer.client)
                    }
                    None => "you are watching: what you type is not sent".to_owned(),
                })
            }
            LineState::Away(_) => Some(format!("{name} is unplugged: what you type is not sent")),
            LineState::Failed(why) | LineState::NotOurs(why) => {
                Some(format!("{why}: what you type is not sent"))
            }
        };
        match refusal {
            None => self.told_read_only = false,
            Some(refusal) => {
                if !std::mem::replace(&mut self.told_read_only, true) {
                    here.say(refusal);
                }
                return false;
            }
        }
        true
    }
}

/// Without a terminal nothing is replaced: files are sent that way.
fn omap(here: &Here, settings: &config::Port) -> Mapping {
    if here.terminal { settings.omap.clone() } else { Mapping::default() }
}

/// Queues input in full pieces, however small the packets are in which it came.
fn queue(waiting: &mut Waiting, input: Input) {
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

/// Frees what a paste has needed once it is through: the session may go on for months.
fn give_back(waiting: &mut Waiting) {
    if waiting.is_empty() && waiting.capacity() > PASTE_PIECES {
        *waiting = Waiting::new();
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
    format!("{count} bytes that you had typed were not sent")
}
