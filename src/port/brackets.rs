//! Expands ranges in brackets: `p[01-48]`.

use super::pattern::{MAX_NAMES, PatternError};

/// Digits of a number in brackets. A port name has at most 32 characters; ten digits fit a `u64`.
pub(super) const MAX_DIGITS: usize = 10;

/// Expands brackets: `/dev/ttyS[0-2]` to three texts. A text without brackets is returned unchanged.
pub fn expand(text: &str) -> Result<Vec<String>, PatternError> {
    let mut texts = vec![String::new()];
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        let (inner, after) =
            after.split_once(']').ok_or_else(|| PatternError::Unbalanced(text.to_owned()))?;
        if before.contains(']') || inner.contains('[') {
            return Err(PatternError::Unbalanced(text.to_owned()));
        }
        let range = || PatternError::Range { pattern: text.to_owned(), inner: inner.to_owned() };
        let mut elements = Vec::new();
        for element in inner.split(',') {
            elements.extend(elements_of(element, MAX_NAMES - elements.len()).map_err(
                |wrong| match wrong {
                    Wrong::NoRange => range(),
                    Wrong::TooMany => PatternError::TooMany(text.to_owned()),
                },
            )?);
        }
        if texts.len() * elements.len() > MAX_NAMES {
            return Err(PatternError::TooMany(text.to_owned()));
        }
        texts = texts
            .iter()
            .flat_map(|text| elements.iter().map(move |element| format!("{text}{before}{element}")))
            .collect();
        rest = after;
    }
    if rest.contains(']') {
        return Err(PatternError::Unbalanced(text.to_owned()));
    }
    for text in &mut texts {
        text.push_str(rest);
    }
    Ok(texts)
}

enum Wrong {
    NoRange,
    TooMany,
}

/// Expands an element between brackets: `7`, `01-48`, `a` or `a-c`. Numbers have the width of the first one.
fn elements_of(element: &str, most: usize) -> Result<Vec<String>, Wrong> {
    let (first, last) = element.split_once('-').unwrap_or((element, element));
    let number = |word: &str| match word.len() {
        1..=MAX_DIGITS if word.bytes().all(|byte| byte.is_ascii_digit()) => word.parse::<u64>().ok(),
        _ => None,
    };
    let letter = |word: &str| match word.as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => Some(*letter),
        _ => None,
    };
    match (number(first), number(last), letter(first), letter(last)) {
        (Some(from), Some(to), ..) if from <= to => {
            // `[1-048]` is ambiguous: 1 or 001.
            if last.starts_with('0') && last.len() != first.len() {
                return Err(Wrong::NoRange);
            }
            if to - from >= most as u64 {
                return Err(Wrong::TooMany);
            }
            let width = if first.starts_with('0') { first.len() } else { 1 };
            Ok((from..=to).map(|number| format!("{number:0width$}")).collect())
        }
        (_, _, Some(from), Some(to))
            if from <= to && from.is_ascii_lowercase() == to.is_ascii_lowercase() =>
        {
            match usize::from(to - from) >= most {
                true => Err(Wrong::TooMany),
                false => Ok((from..=to).map(|letter| char::from(letter).to_string()).collect()),
            }
        }
        _ => Err(Wrong::NoRange),
    }
}
