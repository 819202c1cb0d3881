//! The typing half of a session: events through the escape machine to the hub, in order. What the device has not taken yet
//! waits here, a whole paste of it, so that a user at a stuck line can still leave by an escape, or send a break.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::escape::EscapeMachine;
use super::menu::{Outcome, act, break_of};
use super::typed::{Event, Typed};
use super::{Ended, Here};
use crate::clock::reached;
use crate::config::{self, EscapePrefix};
use crate::hub::{BreakEvent, Input, LineState};
use crate::memory;
use crate::port::{Mapping, Pacing};

/// Bytes handed to the hub at once: little, because what is handed over cannot be taken back.
const PIECE: usize = 512;
/// More pieces than these at once are a paste.
const PASTE_PIECES: usize = 128;

/// How much of a paste with pauses the line still gets from a user who leaves: a command typed last, and no more than the
/// next user can wait for.
const AFTER_LEAVING: Duration = Duration::from_secs(1);

/// What of the port's settings concerns whoever types.
struct Rules {
    timeout: Option<Duration>,
    prefix: Option<EscapePrefix>,
    pacing: Pacing,
    /// Without a terminal nothing is replaced: files are sent that way.
    omap: Mapping,
}

impl Rules {
    fn of(here: &Here, settings: &config::Port) -> Self {
        let omap = if here.terminal { settings.omap.clone() } else { Mapping::default() };
        let prefix = settings.escape.filter(|_| here.terminal);
        Self { timeout: settings.timeout, prefix, pacing: settings.pacing, omap }
    }
}

/// Input that waits for the device, with what it counts for at the gate.
type Waiting = VecDeque<(Input, usize)>;

/// Runs until the user leaves or the client is gone.
pub(super) async fn run(here: &Here, mut typed: Typed, mut breaks: mpsc::Receiver<BreakEvent>) -> Ended {
    let mut settings = here.console.settings_to_come();
    let Rules { mut timeout, mut prefix, mut pacing, mut omap } =
        Rules::of(here, &settings.borrow_and_update());
    let mut machine = EscapeMachine::new(prefix);
    let hub_input = here.console.hub.input();
    let mut waiting = Waiting::new();
    let mut torn = here.console.hub.torn();
    let mut told_read_only = false;
    let mut ending = false;
    let mut has_typed = false;
    let mut last_typed = Instant::now();
    // With pauses: what the line has been given and has not written yet.
    let mut in_hand: Option<oneshot::Receiver<()>> = None;

    loop {
        if ending && waiting.is_empty() && (here.terminal || in_hand.is_none()) {
            if here.terminal {
                return Ended::Left;
            }
            // What a pipe has sent wants its answer. (One that has sent nothing, `ssh -n`, only listens, and stays.)
            ending = false;
            here.piped.notify_one();
        }
        let idle_end = timeout.map(|timeout| last_typed + timeout);
        tokio::select! {
            permit = hub_input.reserve(), if !waiting.is_empty() && in_hand.is_none() => {
                let Ok(permit) = permit else { return Ended::Closed("the port is gone".to_owned()) };
                let torn = here.console.hub.torn() != torn;
                if !here.console.roster().writes(here.id) || !device_takes(here) || torn {
                    drop_waiting(here, &mut waiting, &typed);
                } else if let Some((input, weight)) = next(&mut waiting, pacing, &mut in_hand) {
                    permit.send(input);
                    typed.settle(weight);
                }
                give_back(&mut waiting);
            }
            _ = written(&mut in_hand), if in_hand.is_some() => {
                in_hand = None;
                // A paste that takes longer than the port's timeout is no idle session.
                last_typed = Instant::now();
            }
            event = typed.next() => {
                let Some(event) = event else { return Ended::Gone };
                last_typed = Instant::now();
                let weight = event.weight();
                let mut wanted = Vec::new();
                let mut leaving = None;
                match event {
                    Event::Bytes(bytes) => {
                        has_typed = true;
                        for action in machine.feed(&bytes) {
                            match act(here, prefix, action) {
                                Outcome::Input(Input::Bytes(bytes)) => wanted.push(Input::Bytes(omap.apply(bytes))),
                                Outcome::Input(input) => wanted.push(input),
                                Outcome::Done => {}
                                Outcome::Leave => {
                                    leaving = Some(Ended::Left);
                                    break;
                                }
                                Outcome::Move(port) => {
                                    leaving = Some(Ended::Moved(port));
                                    break;
                                }
                            }
                        }
                    }
                    Event::Break => wanted.push(break_of(here, 0)),
                    Event::End => ending = here.terminal || has_typed,
                }
                if may_write(here, !wanted.is_empty(), &mut told_read_only) {
                    if waiting.is_empty() {
                        torn = here.console.hub.torn();
                    }
                    queue(&mut waiting, wanted);
                } else {
                    wanted.into_iter().for_each(Input::dismiss);
                }
                if let Some(ended) = leaving {
                    hand_over(&hub_input, waiting, pacing);
                    return ended;
                }
                match waiting.back_mut() {
                    Some((_, owed)) => *owed += weight,
                    None => typed.settle(weight),
                }
            }
            // The console holds the sender for as long as there are sessions.
            Ok(()) = settings.changed() => {
                let rules = Rules::of(here, &settings.borrow_and_update());
                timeout = rules.timeout;
                (pacing, omap) = (rules.pacing, rules.omap);
                if prefix != rules.prefix {
                    prefix = rules.prefix;
                    machine = EscapeMachine::new(prefix);
                    here.say(match prefix {
                        Some(prefix) => format!("{prefix}? for help from now on"),
                        None => "no escapes from now on".to_owned(),
                    });
                }
            }
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

/// Queues input in full pieces, however small the packets are in which it came.
fn queue(waiting: &mut Waiting, wanted: Vec<Input>) {
    for input in wanted {
        match input {
            Input::Bytes(bytes) => {
                let mut rest = &bytes[..];
                if let Some((Input::Bytes(last), _)) = waiting.back_mut() {
                    let (more, others) = rest.split_at(rest.len().min(PIECE.saturating_sub(last.len())));
                    last.extend_from_slice(more);
                    rest = others;
                }
                waiting.extend(rest.chunks(PIECE).map(|piece| (Input::Bytes(piece.to_vec()), 0)));
            }
            other => waiting.push_back((other, 0)),
        }
    }
}

/// The next message for the line, and what it counts for at the gate. With pauses it is a piece up to the next one, and
/// `in_hand` until it is written.
fn next(
    waiting: &mut Waiting,
    pacing: Pacing,
    in_hand: &mut Option<oneshot::Receiver<()>>,
) -> Option<(Input, usize)> {
    let (input, weight) = waiting.pop_front()?;
    match input {
        Input::Bytes(mut bytes) if pacing.is_on() => {
            let rest = bytes.split_off(pacing.piece(&bytes, PIECE).min(bytes.len()));
            let mut settled = weight;
            if !rest.is_empty() {
                waiting.push_front((Input::Bytes(rest), weight));
                settled = 0;
            }
            let (written, receiver) = oneshot::channel();
            *in_hand = Some(receiver);
            Some((Input::Paced { bytes, pacing, written }, settled))
        }
        input => Some((input, weight)),
    }
}

/// Waits until the line has written what it was given, or never will. Cancel safe.
async fn written(in_hand: &mut Option<oneshot::Receiver<()>>) {
    match in_hand {
        // If it never will, `torn` or the break's own message tells the user.
        Some(written) => drop(written.await),
        None => std::future::pending().await,
    }
}

/// Frees what a paste has needed once it is through: the session may go on for months.
fn give_back(waiting: &mut Waiting) {
    if waiting.is_empty() && waiting.capacity() > PASTE_PIECES {
        *waiting = Waiting::new();
        memory::give_back();
    }
}

/// Hands over as much of what waits as the device takes now: whoever leaves is not kept by a stuck one.
fn hand_over(hub_input: &mpsc::Sender<Input>, waiting: Waiting, pacing: Pacing) {
    let mut left = AFTER_LEAVING;
    for (input, _) in waiting {
        let input = match input {
            Input::Bytes(mut bytes) if pacing.is_on() => {
                bytes.truncate(pacing.within(&bytes, left));
                left = left.saturating_sub(pacing.time(&bytes));
                Input::Paced { bytes, pacing, written: oneshot::channel().0 }
            }
            input => input,
        };
        if hub_input.try_send(input).is_err() || pacing.is_on() && left.is_zero() {
            return;
        }
    }
}

fn device_takes(here: &Here) -> bool {
    matches!(*here.console.hub.line().borrow(), LineState::Open(_) | LineState::Starting)
}

/// Forgets what waits, because somebody else has become the writer and two people's lines must not mix, or because the device
/// is gone and a paste must not go on with a hole in it.
fn drop_waiting(here: &Here, waiting: &mut Waiting, typed: &Typed) {
    let mut unsent = 0;
    for (input, weight) in waiting.drain(..) {
        if let Input::Bytes(bytes) = &input {
            unsent += bytes.len();
        }
        typed.settle(weight);
    }
    here.say(format!("{unsent} bytes that you had typed were not sent"));
}

/// Whether input goes to the device now. If not, the viewer is told once why.
fn may_write(here: &Here, wants: bool, told: &mut bool) -> bool {
    if !wants {
        return false;
    }
    let name = &here.console.name;
    let refusal = match &*here.console.hub.line().borrow() {
        LineState::Open(_) | LineState::Starting if here.console.roster().writes(here.id) => None,
        LineState::Open(_) | LineState::Starting => {
            let roster = here.console.roster();
            Some(match roster.writer() {
                Some(writer) => {
                    format!("{} writes; you are watching: what you type is not sent", writer.visitor)
                }
                None => "you are watching: what you type is not sent".to_owned(),
            })
        }
        LineState::Away(_) => Some(format!("{name} is unplugged: what you type is not sent")),
        LineState::Failed(why) | LineState::NotOurs(why) => Some(format!("{why}: what you type is not sent")),
    };
    match refusal {
        None => {
            *told = false;
            true
        }
        Some(refusal) => {
            if !std::mem::replace(told, true) {
                here.say(refusal);
            }
            false
        }
    }
}
