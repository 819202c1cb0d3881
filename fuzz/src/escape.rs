//! The escape machine, and what waits in front of it. Input: the two characters of the prefix, a seed, what is typed.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use consoleserver::config::EscapePrefix;
use consoleserver::session::escape::{Action, EscapeMachine};
use consoleserver::session::{Event, input_queue};

use super::pieces::Pieces;

/// Bytes of a line that is asked for, each of which may have become U+FFFD.
const LINE_MAX: usize = 200 * 3;
/// Bytes of input that may wait for the line (`session::input_queue`).
const WAITING_MAX: usize = 16 * 1024;

/// See the module.
pub fn run(data: &[u8]) {
    let Some(([first, second, seed], bytes)) = data.split_first_chunk::<3>() else { return };
    let prefix = prefix(*first, *second);
    assert_eq!(prefix.to_string().parse(), Ok(prefix), "a prefix reads back");
    let whole = actions(prefix, [bytes].into_iter());
    assert_eq!(actions(prefix, Pieces::of(bytes, *seed)), whole, "the same however it is cut");
    bounded(&whole, bytes);
    if !bytes.contains(&prefix.0[0]) && !bytes.is_empty() {
        assert_eq!(whole, [Action::Input(bytes.to_vec())], "without the prefix everything is typed");
    }
    if !bytes.is_empty() {
        let quoted = quoted(prefix, bytes);
        assert_eq!(
            actions(prefix, [&quoted[..]].into_iter()),
            [Action::Input(bytes.to_vec())],
            "all can be typed"
        );
        let mut without = EscapeMachine::new(None);
        assert_eq!(without.feed(bytes), [Action::Input(bytes.to_vec())]);
    }
    gate(bytes);
}

/// A prefix that the configuration accepts.
fn prefix(first: u8, second: u8) -> EscapePrefix {
    let first = if first % 33 == 32 { 0x7f } else { first % 33 };
    let second = if second.is_ascii_graphic() || second.is_ascii_control() { second } else { b'c' };
    EscapePrefix([first, second])
}

/// The actions of the machine; adjacent actions of the same kind are merged.
fn actions<'b>(prefix: EscapePrefix, pieces: impl Iterator<Item = &'b [u8]>) -> Vec<Action> {
    let mut machine = EscapeMachine::new(Some(prefix));
    let mut merged: Vec<Action> = Vec::new();
    for action in pieces.flat_map(|piece| machine.feed(piece)) {
        match (merged.last_mut(), action) {
            (Some(Action::Input(before)), Action::Input(bytes))
            | (Some(Action::Echo(before)), Action::Echo(bytes)) => before.extend(bytes),
            (_, action) => merged.push(action),
        }
    }
    merged
}

fn bounded(actions: &[Action], bytes: &[u8]) {
    let mut to_device = 0;
    for action in actions {
        match action {
            Action::Input(bytes) => to_device += bytes.len(),
            Action::Line(_, line) => assert!(line.len() <= LINE_MAX),
            Action::Unknown(characters) => {
                assert!(!characters.contains(char::is_control) && characters.len() < 8)
            }
            _ => {}
        }
    }
    assert!(to_device <= bytes.len(), "no byte comes out of nothing");
}

/// The bytes by their numbers where they would begin a command.
fn quoted(EscapePrefix([first, second]): EscapePrefix, bytes: &[u8]) -> Vec<u8> {
    let quote = |byte: &u8| match *byte == first {
        true => [&[first, second, b'\\'][..], format!("{byte:03o}").as_bytes()].concat(),
        false => vec![*byte],
    };
    bytes.iter().flat_map(quote).collect()
}

/// Nothing is dropped or duplicated, and reading from the client pauses exactly while the queue is full.
fn gate(orders: &[u8]) {
    let (feeder, mut session) = input_queue();
    let mut context = Context::from_waker(Waker::noop());
    let (mut sent, mut taken) = (std::collections::VecDeque::new(), Vec::new());
    let mut waiting = 0;
    for order in orders.iter().take(64) {
        match order % 4 {
            0 if *order > 0 => sent.push_back(usize::from(*order) * 32),
            0 | 1 => {
                assert!(feeder.feed(Event::Bytes(Vec::new())), "nothing is nothing to pass on");
                continue;
            }
            2 => {
                let next = match pin!(session.next()).poll(&mut context) {
                    Poll::Ready(next) => next,
                    Poll::Pending => None,
                };
                let wanted = sent.pop_front().map(|length| Event::Bytes(vec![*order; length]).weight());
                assert_eq!(next.as_ref().map(Event::weight), wanted);
                taken.extend(wanted);
                continue;
            }
            _ => {
                if let Some(weight) = taken.pop() {
                    session.settle(weight);
                    waiting -= weight;
                }
                assert_eq!(feeder.poll_ready(&mut context).is_ready(), waiting < WAITING_MAX);
                continue;
            }
        }
        let event = match sent.back() {
            Some(length) => Event::Bytes(vec![0; *length]),
            None => continue,
        };
        waiting += event.weight();
        feeder.feed(event);
        assert_eq!(feeder.poll_ready(&mut context).is_ready(), waiting < WAITING_MAX);
    }
}
