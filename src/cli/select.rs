//! Groups of ports, and patterns that are plain names.

use std::collections::{BTreeMap, BTreeSet};

use super::value::Keys;
use crate::config::Value;
use crate::port::{GroupName, PatternError, PortGroups, PortName, PortPattern};

/// Whether one of these patterns refers to a group.
pub(super) fn have_groups(patterns: &[PortPattern]) -> bool {
    patterns.iter().any(|pattern| pattern.groups().next().is_some())
}

/// The groups of console-admin's candidate.
pub(super) fn groups_of(keys: &Keys) -> PortGroups {
    let group = |(name, members): (&String, &Value)| {
        let words = members.as_array()?.iter().filter_map(Value::as_str);
        let patterns = words.map(str::parse).collect::<Result<Vec<PortPattern>, _>>();
        // console-admin has checked them.
        Some((name.parse().ok()?, patterns.ok()?))
    };
    keys.iter().filter_map(group).collect()
}

/// The names of patterns that are all plain names.
pub(super) fn literal(patterns: &[PortPattern]) -> Option<Vec<PortName>> {
    let mut seen = BTreeSet::new();
    let names: Vec<_> = patterns.iter().map(PortPattern::literal).collect::<Option<_>>()?;
    Some(names.into_iter().filter(|name| seen.insert(*name)).cloned().collect())
}

/// The ports of each group, or its error.
pub(super) fn selected(
    groups: &PortGroups,
    existing: &[PortName],
) -> BTreeMap<String, Result<Vec<PortName>, String>> {
    let select = |(name, _): (&GroupName, _)| {
        let pattern: PortPattern = format!("@{name}").parse().expect("the name of a group");
        (name.to_string(), pattern.select(existing, groups).map_err(|error| error.to_string()))
    };
    groups.iter().map(select).collect()
}

/// The ports that patterns and unique abbreviations select.
pub(super) fn abbreviated(
    patterns: &[PortPattern],
    names: &[PortName],
    groups: &PortGroups,
) -> Result<BTreeSet<PortName>, PatternError> {
    let mut selected = BTreeSet::new();
    for pattern in patterns {
        selected.extend(pattern.select_abbreviated(names, groups)?);
    }
    Ok(selected)
}
