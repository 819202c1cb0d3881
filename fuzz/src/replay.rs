//! Replayed output, and the time before lines. Input: where it is cut, a seed, a device's output.

use consoleserver::session::replay::harmless as split;
use consoleserver::session::timestamps::Timestamper;

use super::pieces::Pieces;

/// Characters that may come out of a filter, beside printable ones.
const CONTROLS: &[char] = &['\x08', '\t', '\n', '\r', '\x0e', '\x0f'];
/// Final characters of sequences that only move the cursor, erase or colour.
const HARMLESS: &str = "@ABCDEFGHJKLMPSTXZ`adefm";

/// See the module.
pub fn run(data: &[u8]) {
    let Some(([cut, seed], said)) = data.split_first_chunk::<2>() else { return };
    let (shown, rest) = split(said);
    harmless(&shown);
    assert!(shown.len() <= 3 * said.len() && rest.len() <= said.len(), "bounded");
    assert_eq!(split(&rest), (Vec::new(), rest.clone()), "a continued sequence must be incomplete");
    assert_eq!(split(&shown), (shown.clone(), Vec::new()), "what is shown can be shown");

    let (before, after) = said.split_at(usize::from(*cut).min(said.len()));
    let (first, begun) = split(before);
    let (second, left) = split(&[&begun[..], after].concat());
    assert_eq!(
        [&first[..], &second].concat(),
        shown,
        "nothing is lost or made at a cut after {}",
        before.len()
    );
    assert_eq!(left, rest);

    let mut stamper = Timestamper::default();
    let stamped: Vec<u8> =
        Pieces::of(said, *seed).flat_map(|piece| stamper.stamp(piece, "12:00:01")).collect();
    assert_eq!(stamped, stamped_lines(said));
}

/// Checks that no sequence would make a terminal reply, change its modes or its title. Does not use the parser under test.
fn harmless(shown: &[u8]) {
    let text = std::str::from_utf8(shown).expect("text");
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\x1b' => {
                assert_eq!(rest.next(), Some('['), "{text:?}");
                let last = rest.find(|c| !matches!(c, '0'..='9' | ';' | ':'));
                assert!(last.is_some_and(|last| HARMLESS.contains(last)), "{text:?}");
            }
            character => assert!(!character.is_control() || CONTROLS.contains(&character), "{text:?}"),
        }
    }
}

/// A line at a time.
fn stamped_lines(said: &[u8]) -> Vec<u8> {
    let line = |line: &[u8]| {
        let begins = line.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        let (ends, text) = line.split_at(begins.unwrap_or(line.len()));
        let stamp: &[u8] = if text.is_empty() { b"" } else { b"[12:00:01] " };
        [ends, stamp, text].concat()
    };
    said.split_inclusive(|byte| *byte == b'\n').flat_map(line).collect()
}
