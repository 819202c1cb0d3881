//! Folds port names into a pattern: the reverse of its expansion.

use std::fmt;

use super::brackets::MAX_DIGITS;
use super::{PortName, natural_order};

/// The shortest pattern for names in any order: `p[01-48],core`. The pattern is in natural order.
pub fn fold(names: &[PortName]) -> String {
    fold_items(names).join(",")
}

/// Likewise, as a list of names and ranges.
pub fn fold_items(names: &[PortName]) -> Vec<String> {
    fold_words(names.iter().map(PortName::as_str))
}

/// Likewise, of names of any kind.
pub fn fold_words<'n>(names: impl IntoIterator<Item = &'n str>) -> Vec<String> {
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_by(|one, other| natural_order(one, other));
    names.dedup();
    let mut folded: Vec<Folded<'_>> = Vec::new();
    for name in names {
        let Some(numbered) = Folded::of(name) else {
            folded.push(Folded { before: name, after: "", width: 0, runs: Vec::new() });
            continue;
        };
        match folded.last_mut().filter(|last| last.takes(&numbered)) {
            Some(last) => last.extend(numbered.runs[0].0),
            None => folded.push(numbered),
        }
    }
    folded.iter().map(ToString::to_string).collect()
}

/// Names that differ only in their last number.
struct Folded<'a> {
    before: &'a str,
    after: &'a str,
    /// Width of the numbers if any has leading zeros; 0 = no number.
    width: usize,
    /// First and last number of each run.
    runs: Vec<(u64, u64)>,
}

impl<'a> Folded<'a> {
    fn of(name: &'a str) -> Option<Self> {
        let end = name.rfind(|c: char| c.is_ascii_digit())? + 1;
        let start = name[..end].rfind(|c: char| !c.is_ascii_digit()).map_or(0, |index| index + 1);
        let digits = &name[start..end];
        if digits.len() > MAX_DIGITS {
            return None;
        }
        let number = digits.parse().ok()?;
        Some(Self {
            before: &name[..start],
            after: &name[end..],
            width: digits.len(),
            runs: vec![(number, number)],
        })
    }

    /// Whether a name fits in the same brackets.
    fn takes(&self, next: &Self) -> bool {
        let padded = |number: u64, width: usize| number.to_string().len() < width;
        let first = self.runs.first().is_some_and(|(first, _)| padded(*first, self.width));
        let width = match first || padded(next.runs[0].0, next.width) {
            true => self.width == next.width,
            // Without leading zeros, numbers have different widths.
            false => self.width > 0,
        };
        self.before == next.before && self.after == next.after && width
    }

    fn extend(&mut self, number: u64) {
        match self.runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => self.runs.push((number, number)),
        }
    }
}

impl fmt::Display for Folded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, after, width, runs } = self;
        // A number without leading zeros prints as it is.
        let width = match runs.first() {
            Some((first, _)) if first.to_string().len() < *width => *width,
            _ => 0,
        };
        let run = |(first, last): &(u64, u64)| match first == last {
            true => format!("{first:0width$}"),
            false => format!("{first:0width$}-{last:0width$}"),
        };
        let written = runs.iter().map(run).collect::<Vec<_>>().join(",");
        match runs.as_slice() {
            [] => f.write_str(before),
            [(first, last)] if first == last => write!(f, "{before}{written}{after}"),
            _ => write!(f, "{before}[{written}]{after}"),
        }
    }
}
