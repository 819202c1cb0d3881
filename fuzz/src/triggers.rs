//! Lines of a device and the rules over them. Input: a seed, patterns on the first line with tabs between them, what the
//! device says.

use std::collections::BTreeMap;
use std::time::Duration;

use consoleserver::config::{Pattern, Trigger, Triggers};
use consoleserver::trigger::LONGEST_LINE;
use consoleserver::trigger::lines::Lines;
use consoleserver::trigger::rules::{Rules, TriggerEvent};
use tokio::time::Instant;

use super::pieces::Pieces;

/// A character of a line as it is reported: `\u{10ffff}`.
const ESCAPED_MAX: usize = 10;

/// See the module.
pub fn run(data: &[u8]) {
    let Some((seed, data)) = data.split_first() else { return };
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (patterns, said) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    assert_eq!(lines(Pieces::of(said, *seed)), lines([said].into_iter()), "the same lines however they come");

    let patterns = patterns.split(|byte| *byte == b'\t').filter_map(|text| std::str::from_utf8(text).ok());
    let patterns = patterns.filter_map(|text| match Pattern::new(text) {
        Ok(pattern) => Some(pattern),
        Err(why) => {
            assert!(!why.is_empty() && !why.contains('\n'), "{why:?}");
            None
        }
    });
    let mut triggers: Triggers = patterns
        .take(4)
        .zip(0..)
        .map(|(pattern, number)| {
            let rule =
                Trigger { pattern: Some(pattern), cooldown: Duration::from_secs(5), ..Trigger::default() };
            (format!("r{number}").parse().expect("a name"), rule)
        })
        .collect();
    let silence = Trigger { silence: Some(Duration::from_secs(2)), ..Trigger::default() };
    triggers.insert("silence".parse().expect("a name"), silence);
    let whole = counted(&triggers, [said].into_iter());
    assert_eq!(counted(&triggers, Pieces::of(said, *seed)), whole, "the same is found however it comes");
    let ends = said.iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count();
    let most = ends + 1 + said.len() / (LONGEST_LINE / 4);
    for (rule, count) in whole {
        assert!(count <= 2 * most as u64 + 1, "{rule} {count} times in {most} lines");
    }
}

/// Each piece of a line, how much of it was seen, whether the line continues; then what has no end yet.
fn lines<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> Vec<(String, usize, bool)> {
    let mut lines = Lines::default();
    let mut found = Vec::new();
    for piece in pieces {
        lines.feed(piece, |piece| found.push((piece.text.to_owned(), piece.seen, piece.cut)));
    }
    found.extend(lines.so_far().map(|piece| (piece.text.to_owned(), piece.seen, piece.cut)));
    for (text, seen, _) in &found {
        assert!(!text.is_empty() && text.len() <= LONGEST_LINE && text.is_char_boundary(*seen));
        assert!(!text.contains(['\r', '\n', '\x1b']), "{text:?}");
    }
    found
}

/// How often each rule has fired, or would have.
fn counted<'b>(triggers: &Triggers, pieces: impl Iterator<Item = &'b [u8]>) -> BTreeMap<String, u64> {
    let begin = Instant::now();
    let mut rules = Rules::new(triggers, begin);
    let mut happenings: Vec<TriggerEvent> = pieces.flat_map(|piece| rules.feed(piece, begin)).collect();
    for later in [1, 3, 6, 60, 120] {
        happenings.extend(rules.tick(begin + Duration::from_secs(later)));
    }
    assert!(rules.due().is_none_or(|due| due > begin), "it does not come to rest");
    let mut counts = BTreeMap::new();
    for happening in happenings {
        let (rule, count, line) = match happening {
            TriggerEvent::Fired { rule, line, .. } => (rule, 1, line),
            TriggerEvent::Suppressed { rule, count, line, .. } => (rule, count, line),
        };
        assert!(!line.contains(|c: char| c.is_control() && c != '\t'), "{line:?}");
        assert!(line.len() <= ESCAPED_MAX * LONGEST_LINE);
        *counts.entry(rule.to_string()).or_default() += count;
    }
    counts
}
