//! The local socket of a port: frames to the client, messages both ways. Input: which, a seed, what came.

use consoleserver::attach::frame::{Frames, Kind, encode};
use consoleserver::attach::{Reply, Request};

use super::pieces::Pieces;
use super::wire;

/// See the module.
pub fn run(data: &[u8]) {
    let Some(([which, seed], wire)) = data.split_first_chunk::<2>() else { return };
    match which % 3 {
        0 => frames(wire, *seed),
        1 => drop(wire::messages::<Request>(wire, *seed)),
        _ => drop(wire::messages::<Reply>(wire, *seed)),
    }
}

fn frames(bytes: &[u8], seed: u8) {
    let (whole, broken) = taken([bytes].into_iter());
    assert_eq!(taken(Pieces::of(bytes, seed)), (whole.clone(), broken), "the same however it is cut");
    let again: Vec<u8> = whole.iter().flat_map(|(kind, content)| encode(*kind, content)).collect();
    assert!(bytes.starts_with(&again), "what is sent is received");
}

/// The frames, and whether something else came.
fn taken<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> (Vec<(Kind, Vec<u8>)>, bool) {
    let mut frames = Frames::default();
    let mut found = Vec::new();
    for piece in pieces {
        frames.receive(piece);
        loop {
            match frames.next_frame() {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}
