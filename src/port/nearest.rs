//! Suggestions for misspelt names, and the error for an unknown port.

use super::{PortName, natural_order};

/// The most similar names first: misspelt ones, and those that begin with the word or contain it.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    /// More suggestions do not help.
    const MAX_SUGGESTIONS: usize = 3;
    /// Minimum length of a word that is searched within names.
    const PART: usize = 3;
    let word = word.to_lowercase();
    let rank = |name: &'a str| {
        let lower = name.to_lowercase();
        let distance = strsim::damerau_levenshtein(&word, &lower);
        let part = word.len() >= PART && lower.contains(&word);
        let begins = !word.is_empty() && lower.starts_with(&word);
        (begins || part || distance <= name.len().div_ceil(4)).then_some((distance, name))
    };
    let mut near: Vec<_> = known.into_iter().filter_map(rank).collect();
    near.sort_by(|(one, name), (other, other_name)| {
        one.cmp(other).then_with(|| natural_order(name, other_name))
    });
    near.dedup();
    near.into_iter().take(MAX_SUGGESTIONS).map(|(_, name)| name).collect()
}

/// `a`, `a or b`, `a, b or c`
pub fn either(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [before @ .., last] => format!("{} or {last}", before.join(", ")),
    }
}

/// What follows "there is no port WORD: ": suggestions, or the ports that exist.
pub fn instead(word: &str, names: &[&str]) -> String {
    /// Further names are counted.
    const MAX_LISTED: usize = 8;
    if let Some(name) = names.iter().find(|name| name.eq_ignore_ascii_case(word)) {
        return format!("did you mean {name}?");
    }
    match nearest(word, names.iter().copied()).as_slice() {
        [] if names.is_empty() => "no ports are configured; use `create`".to_owned(),
        [] if word.eq_ignore_ascii_case("all") => "'*' stands for all ports".to_owned(),
        [] if names.len() > MAX_LISTED => {
            format!("the ports are {} and {} more", names[..MAX_LISTED].join(", "), names.len() - MAX_LISTED)
        }
        [] => format!("the ports are {}", names.join(", ")),
        near => format!("did you mean {}?", either(near)),
    }
}

/// The error for an unknown port.
pub fn no_port<'p>(word: &str, existing: impl IntoIterator<Item = &'p PortName>) -> String {
    let names: Vec<&str> = existing.into_iter().map(PortName::as_str).collect();
    format!("there is no port {word}: {}", instead(word, &names))
}

/// The port whose name begins with this one, if there is exactly one.
pub fn whole(begin: &PortName, existing: &[PortName]) -> Option<PortName> {
    let mut begin = existing.iter().filter(|name| name.as_str().starts_with(begin.as_str()));
    match (begin.next(), begin.next()) {
        (Some(only), None) => Some(only.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_port_is_reported_with_similar_or_existing_names() {
        let printed = |names: &[&str]| instead("ttyUSB9", names);
        assert_eq!(printed(&["core", "ttyUSB0"]), "did you mean ttyUSB0?");
        assert_eq!(
            printed(&["ttyUSB90", "ttyUSB10", "ttyUSB0"]),
            "did you mean ttyUSB0, ttyUSB90 or ttyUSB10?"
        );
        assert_eq!(printed(&["core", "edge"]), "the ports are core, edge");
        assert_eq!(printed(&[]), "no ports are configured; use `create`");
        assert_eq!(instead("TTYUSB1", &["ttyUSB0", "ttyUSB1", "ttyUSB10"]), "did you mean ttyUSB1?");
        assert_eq!(instead("all", &["core", "edge"]), "'*' stands for all ports");
        assert_eq!(instead("all", &["wall"]), "did you mean wall?");
        let many: Vec<String> = (0..20).map(|n| format!("rack-of-servers-{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(printed(&many).ends_with("rack-of-servers-7 and 12 more"), "{}", printed(&many));
    }
}
