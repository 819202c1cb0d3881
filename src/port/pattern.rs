//! Patterns that select several ports: `p[01-48]`, `rack1-*`, `core,edge`, `@core`. A pattern is expanded
//! when it is parsed, and matched against the existing ports when a command runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

pub use super::brackets::expand;
pub use super::fold::{fold, fold_items, fold_words};
use super::nearest::{instead, nearest, whole};
use super::{PortError, PortName};

/// Limit of names in one pattern. The largest machines have a few hundred ports; without a limit,
/// `p[0-9999999999]` would exhaust the memory.
pub const MAX_NAMES: usize = 4096;

/// Why a pattern is invalid, or selects nothing. The Display is the sentence that the user reads.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    #[error(transparent)]
    Name(#[from] PortError),
    #[error("empty name in {0:?}: use NAME,NAME without spaces")]
    Empty(String),
    #[error("unmatched bracket in {0:?}: use p[01-48]")]
    Unbalanced(String),
    #[error("braces in {0:?}: use brackets, as in p[01-48]")]
    Braces(String),
    /// The text between brackets is not a list of numbers and ranges.
    #[error("invalid range [{inner}] in {pattern:?}: use p[01-48], p[1,3,7-9] or rack-[a-c]")]
    Range { pattern: String, inner: String },
    #[error("{0:?} stands for more than {MAX_NAMES} ports")]
    TooMany(String),
    #[error(
        "invalid group name {0:?}: use 1 to 32 characters of A-Z a-z 0-9 . _ -, starting with a letter, a digit or _"
    )]
    GroupName(String),
    #[error("there is no port {port}: {instead}")]
    NoSuchPort { port: PortName, instead: String, whole: Option<PortName> },
    #[error("there is no port {missing}: {count} of the {of} ports of {pattern} do not exist")]
    NoSuchPorts { pattern: String, missing: String, count: usize, of: usize },
    #[error("no port matches {pattern}: {instead}")]
    NoMatch { pattern: String, instead: String },
    #[error("there is no group {group}: {instead}")]
    NoSuchGroup { group: GroupName, instead: String },
    #[error("the group {0} has no ports")]
    EmptyGroup(GroupName),
    #[error("the group {0} contains itself: {1}")]
    Cycle(GroupName, String),
    #[error("group {group}: {error}")]
    InGroup { group: GroupName, error: Box<PatternError> },
}

/// The name of a group of ports: `core` of `@core`. It has the characters of a port name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(PortName);

impl GroupName {
    /// The name as text, without the `@`.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for GroupName {
    type Err = PatternError;

    fn from_str(word: &str) -> Result<Self, PatternError> {
        // A port name may begin with /dev/, a group name may not.
        match word.parse() {
            Ok(name) if !word.starts_with('/') => Ok(Self(name)),
            _ => Err(PatternError::GroupName(word.to_owned())),
        }
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The groups of the configuration with their members.
pub type PortGroups = BTreeMap<GroupName, Vec<PortPattern>>;

/// Several ports, as users write them: names, ranges, wildcards and groups, separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortPattern {
    text: String,
    items: Vec<Item>,
}

/// One item of a pattern, its brackets expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Name(PortName),
    /// `*` is any text, `?` any one character.
    Glob(String),
    Group(GroupName),
}

impl PortPattern {
    /// The names that the pattern stands for, in its order, without duplicates; `None` if it depends on the
    /// existing ports.
    pub fn names(&self) -> Option<Vec<PortName>> {
        let mut seen = BTreeSet::new();
        let name = |item: &Item| match item {
            Item::Name(name) => Some(name.clone()),
            Item::Glob(_) | Item::Group(_) => None,
        };
        let names: Vec<PortName> = self.items.iter().map(name).collect::<Option<_>>()?;
        Some(names.into_iter().filter(|name| seen.insert(name.clone())).collect())
    }

    /// Number of names, wildcards and groups.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The name, if the pattern is a single name.
    pub fn literal(&self) -> Option<&PortName> {
        match self.items.as_slice() {
            [Item::Name(name)] => Some(name),
            _ => None,
        }
    }

    /// The pattern with a port renamed; `None` if it does not contain the port by name or in a range.
    pub fn renamed(&self, from: &PortName, to: &PortName) -> Option<Self> {
        let mut found = false;
        let item = |item: &str| match item.parse::<Self>().ok().and_then(|pattern| pattern.names()) {
            Some(names) if names.contains(from) => {
                found = true;
                let names: Vec<PortName> =
                    names.into_iter().map(|name| if name == *from { to.clone() } else { name }).collect();
                fold(&names)
            }
            _ => item.to_owned(),
        };
        let text = split_list(&self.text).ok()?.into_iter().map(item).collect::<Vec<_>>().join(",");
        if found { text.parse().ok() } else { None }
    }

    pub fn groups(&self) -> impl Iterator<Item = &GroupName> {
        self.items.iter().filter_map(|item| match item {
            Item::Group(group) => Some(group),
            Item::Name(_) | Item::Glob(_) => None,
        })
    }

    /// The selected ports among the existing ones (in natural order), in the order of the pattern, without
    /// duplicates. It is an error if one does not exist.
    pub fn select(&self, existing: &[PortName], groups: &PortGroups) -> Result<Vec<PortName>, PatternError> {
        self.resolve(existing, groups, false)
    }

    /// Likewise, for commands that change nothing: an unambiguous prefix of a name is enough.
    pub fn select_abbreviated(
        &self,
        existing: &[PortName],
        groups: &PortGroups,
    ) -> Result<Vec<PortName>, PatternError> {
        self.resolve(existing, groups, true)
    }

    fn resolve(
        &self,
        existing: &[PortName],
        groups: &PortGroups,
        abbreviated: bool,
    ) -> Result<Vec<PortName>, PatternError> {
        let mut selection = Selection {
            existing,
            known: existing.iter().collect(),
            groups,
            abbreviated,
            selected: Vec::new(),
            seen: BTreeSet::new(),
            done: BTreeSet::new(),
        };
        selection.add(self, &mut Vec::new())?;
        Ok(selection.selected)
    }
}

/// The ports of several patterns, in the order of the patterns, without duplicates.
pub fn select_all(
    patterns: &[PortPattern],
    existing: &[PortName],
    groups: &PortGroups,
) -> Result<Vec<PortName>, PatternError> {
    let mut seen = BTreeSet::new();
    let mut selected = Vec::new();
    for pattern in patterns {
        let ports = pattern.select(existing, groups)?;
        selected.extend(ports.into_iter().filter(|port| seen.insert(port.clone())));
    }
    Ok(selected)
}

pub fn no_such_group(group: &GroupName, groups: &PortGroups) -> PatternError {
    let names: Vec<&str> = groups.keys().map(GroupName::as_str).collect();
    let instead = match nearest(group.as_str(), names.iter().copied()).as_slice() {
        [] if names.is_empty() => "the configuration has no [groups]".to_owned(),
        [] => format!("the groups are {}", names.join(", ")),
        near => format!("did you mean {}?", super::nearest::either(near)),
    };
    PatternError::NoSuchGroup { group: group.clone(), instead }
}

fn cycle(group: &GroupName, path: &[GroupName]) -> PatternError {
    let from = path.iter().position(|name| name == group).unwrap_or(0);
    let names = path[from..].iter().chain([group]).map(GroupName::as_str).collect::<Vec<_>>();
    PatternError::Cycle(group.clone(), names.join(" → "))
}

struct Selection<'a> {
    existing: &'a [PortName],
    known: BTreeSet<&'a PortName>,
    groups: &'a PortGroups,
    abbreviated: bool,
    selected: Vec<PortName>,
    seen: BTreeSet<PortName>,
    /// Groups whose ports are all selected. Without this, forty nested groups may have 2^40 paths to the
    /// same group.
    done: BTreeSet<GroupName>,
}

impl Selection<'_> {
    fn take(&mut self, port: PortName) {
        if self.seen.insert(port.clone()) {
            self.selected.push(port);
        }
    }

    /// `path`: the groups that contain this pattern.
    fn add(&mut self, pattern: &PortPattern, path: &mut Vec<GroupName>) -> Result<(), PatternError> {
        let mut missing: Vec<PortName> = Vec::new();
        let mut unmatched = None;
        for item in &pattern.items {
            match item {
                Item::Name(name) if self.known.contains(name) => self.take(name.clone()),
                Item::Name(name) => match whole(name, self.existing).filter(|_| self.abbreviated) {
                    Some(port) => self.take(port),
                    None => missing.push(name.clone()),
                },
                Item::Glob(glob) => {
                    let matching: Vec<PortName> =
                        self.existing.iter().filter(|port| matches(glob, port.as_str())).cloned().collect();
                    if matching.is_empty() && unmatched.is_none() {
                        unmatched = Some(self.no_match(glob));
                    }
                    for port in matching {
                        self.take(port);
                    }
                }
                Item::Group(group) => self.add_group(group, path)?,
            }
        }
        match missing.as_slice() {
            [] => {}
            [port] => return Err(no_such_port(port, self.existing)),
            several => {
                return Err(PatternError::NoSuchPorts {
                    pattern: pattern.text.clone(),
                    missing: fold(several),
                    count: several.len(),
                    of: pattern.items.len(),
                });
            }
        }
        // In a group, a wildcard may match ports that are added later.
        match unmatched {
            Some(error) if path.is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    fn add_group(&mut self, group: &GroupName, path: &mut Vec<GroupName>) -> Result<(), PatternError> {
        let groups = self.groups;
        if path.contains(group) {
            return Err(cycle(group, path));
        }
        if self.done.contains(group) {
            return Ok(());
        }
        let members = groups.get(group).ok_or_else(|| no_such_group(group, groups))?;
        let (selected, seen) = (self.selected.len(), self.seen.len());
        path.push(group.clone());
        for member in members {
            self.add(member, path).map_err(|error| match error {
                error @ (PatternError::Cycle(..) | PatternError::InGroup { .. }) => error,
                error => PatternError::InGroup { group: group.clone(), error: Box::new(error) },
            })?;
        }
        path.pop();
        self.done.insert(group.clone());
        // All its ports may be selected already.
        let nothing = self.selected.len() == selected && self.seen.len() == seen;
        let selects = |member: &PortPattern| {
            member.items.iter().any(|item| match item {
                Item::Name(_) | Item::Group(_) => true,
                Item::Glob(glob) => self.existing.iter().any(|port| matches(glob, port.as_str())),
            })
        };
        match nothing && !members.iter().any(selects) {
            true => Err(PatternError::EmptyGroup(group.clone())),
            false => Ok(()),
        }
    }

    fn no_match(&self, glob: &str) -> PatternError {
        let names: Vec<&str> = self.existing.iter().map(PortName::as_str).collect();
        let letters: String = glob.chars().filter(|c| !"*?".contains(*c)).collect();
        PatternError::NoMatch { pattern: glob.to_owned(), instead: instead(&letters, &names) }
    }
}

pub fn no_such_port(port: &PortName, existing: &[PortName]) -> PatternError {
    let names: Vec<&str> = existing.iter().map(PortName::as_str).collect();
    PatternError::NoSuchPort {
        port: port.clone(),
        instead: instead(port.as_str(), &names),
        whole: whole(port, existing),
    }
}

/// Whether a name matches a glob, in which `*` is any text and `?` any character. It backtracks to the last `*` only, so the time is at
/// most proportional to the product of the lengths.
pub fn matches(glob: &str, name: &str) -> bool {
    let (glob, name) = (glob.as_bytes(), name.as_bytes());
    let (mut g, mut n) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while n < name.len() {
        match glob.get(g) {
            Some(b'*') => {
                back = Some((g, n));
                g += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[n] => {
                g += 1;
                n += 1;
            }
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    g = star + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|&byte| byte == b'*')
}

impl FromStr for PortPattern {
    type Err = PatternError;

    fn from_str(word: &str) -> Result<Self, PatternError> {
        let mut items = Vec::new();
        let mut texts = Vec::new();
        // A shell's `p{01..48}`
        if word.contains(['{', '}']) {
            return Err(PatternError::Braces(word.to_owned()));
        }
        for item in split_list(word)? {
            if item.is_empty() {
                return Err(PatternError::Empty(word.to_owned()));
            }
            if let Some(group) = item.strip_prefix('@') {
                items.push(Item::Group(group.parse()?));
            } else {
                for text in expand(item.strip_prefix("/dev/").unwrap_or(item))? {
                    items.push(match text.contains(['*', '?']) {
                        true => glob(text)?,
                        false => Item::Name(text.parse()?),
                    });
                    if items.len() > MAX_NAMES {
                        return Err(PatternError::TooMany(word.to_owned()));
                    }
                }
            }
            texts.push(item.strip_prefix("/dev/").unwrap_or(item));
        }
        Ok(Self { text: texts.join(","), items })
    }
}

impl fmt::Display for PortPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<PortName> for PortPattern {
    fn from(name: PortName) -> Self {
        Self { text: name.to_string(), items: vec![Item::Name(name)] }
    }
}

/// A glob of characters of port names and wildcards.
fn glob(text: String) -> Result<Item, PatternError> {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"._-*?".contains(&byte);
    match text.len() <= 64 && text.bytes().all(valid) {
        true => Ok(Item::Glob(text)),
        false => Err(PortError::Name(text).into()),
    }
}

/// Splits at commas outside of brackets.
pub fn split_list(word: &str) -> Result<Vec<&str>, PatternError> {
    let mut items = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (index, byte) in word.bytes().enumerate() {
        match byte {
            b'[' if !inside => inside = true,
            b']' if inside => inside = false,
            b'[' | b']' => return Err(PatternError::Unbalanced(word.to_owned())),
            b',' if !inside => {
                items.push(&word[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(PatternError::Unbalanced(word.to_owned()));
    }
    items.push(&word[start..]);
    Ok(items)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(word: &str) -> PortPattern {
        word.parse().unwrap_or_else(|error| panic!("{word}: {error}"))
    }

    fn ports(words: &[&str]) -> Vec<PortName> {
        let mut ports: Vec<PortName> = words.iter().map(|word| word.parse().unwrap()).collect();
        ports.sort();
        ports
    }

    fn printed(ports: Vec<PortName>) -> String {
        ports.iter().map(PortName::as_str).collect::<Vec<_>>().join(" ")
    }

    /// As bash expands `{01..03}`, and as documented for `[01-03]` in pdsh and ClusterShell.
    #[test]
    fn ranges_keep_their_zeros_and_there_may_be_several() {
        for (word, expected) in [
            ("core", "core"),
            ("/dev/ttyUSB0", "ttyUSB0"),
            ("p[01-03]", "p01 p02 p03"),
            ("p[8-11]", "p8 p9 p10 p11"),
            ("p[08-11]", "p08 p09 p10 p11"),
            ("p[099-101]", "p099 p100 p101"),
            ("p[1,3,7-9]", "p1 p3 p7 p8 p9"),
            ("rack[1-2]-p[01-02]", "rack1-p01 rack1-p02 rack2-p01 rack2-p02"),
            ("rack-[a-c]", "rack-a rack-b rack-c"),
            ("a,b,a", "a b"),
            ("p[01-02],core", "p01 p02 core"),
            ("[1-2]", "1 2"),
        ] {
            assert_eq!(printed(pattern(word).names().unwrap()), expected, "{word}");
        }
        assert_eq!(pattern("p[0-4095]").names().unwrap().len(), MAX_NAMES);
        for word in ["*", "p?", "@core", "a,@core", "rack[1-2]-*"] {
            assert_eq!(pattern(word).names(), None, "{word}");
        }
    }

    #[test]
    fn an_invalid_pattern_is_reported_with_valid_ones() {
        for (word, expected) in [
            ("", "empty name in \"\": use NAME,NAME without spaces"),
            ("a,", "empty name in \"a,\": use NAME,NAME without spaces"),
            ("p{01..48}", "braces in \"p{01..48}\": use brackets, as in p[01-48]"),
            ("p[01-48", "unmatched bracket in \"p[01-48\": use p[01-48]"),
            ("p01-48]", "unmatched bracket in \"p01-48]\": use p[01-48]"),
            ("p[[1-2]]", "unmatched bracket in \"p[[1-2]]\": use p[01-48]"),
            ("p[abc]", "invalid range [abc] in \"p[abc]\": use p[01-48], p[1,3,7-9] or rack-[a-c]"),
            ("p[]", "invalid range [] in \"p[]\""),
            ("p[48-01]", "invalid range [48-01] in \"p[48-01]\""),
            ("p[1-048]", "invalid range [1-048] in \"p[1-048]\""),
            ("p[a-C]", "invalid range [a-C]"),
            ("p[1-2-3]", "invalid range [1-2-3]"),
            ("p[!1]", "invalid range [!1]"),
            ("p[0-4096]", "\"p[0-4096]\" stands for more than 4096 ports"),
            ("p[0-9999999999]", "stands for more than 4096 ports"),
            ("p[0-99]-[0-99]", "stands for more than 4096 ports"),
            ("p[0-4000],q[0-4000]", "stands for more than 4096 ports"),
            ("a b", "invalid port name \"a b\""),
            ("-x", "invalid port name \"-x\""),
            ("p{1,3}", "braces in \"p{1,3}\""),
            ("ä*", "invalid port name \"ä*\""),
            ("@", "invalid group name \"\""),
            ("@a[1-2]", "invalid group name \"a[1-2]\""),
            ("@/dev/a", "invalid group name \"/dev/a\""),
        ] {
            let why = word.parse::<PortPattern>().unwrap_err().to_string();
            assert!(why.contains(expected), "{word}: {why}");
        }
    }

    fn groups(all: &[(&str, &[&str])]) -> PortGroups {
        let group = |(name, members): &(&str, &[&str])| {
            (name.parse().unwrap(), members.iter().map(|member| pattern(member)).collect())
        };
        all.iter().map(group).collect()
    }

    #[test]
    fn a_pattern_selects_ports_in_its_order() {
        let existing = ports(&["core", "edge-1", "edge-2", "edge-10", "p01", "p02", "p03"]);
        let groups =
            groups(&[("core", &["core", "@edges"]), ("edges", &["edge-*"]), ("ready", &["p*", "later-*"])]);
        for (word, expected) in [
            ("*", "core edge-1 edge-2 edge-10 p01 p02 p03"),
            ("edge-*", "edge-1 edge-2 edge-10"),
            ("edge-?", "edge-1 edge-2"),
            ("*-1*", "edge-1 edge-10"),
            ("p[01-03]", "p01 p02 p03"),
            ("p03,core,p*", "p03 core p01 p02"),
            ("@edges", "edge-1 edge-2 edge-10"),
            ("edge-2,@core", "edge-2 core edge-1 edge-10"),
            ("edge-*,@edges", "edge-1 edge-2 edge-10"),
            ("@ready", "p01 p02 p03"),
        ] {
            assert_eq!(printed(pattern(word).select(&existing, &groups).unwrap()), expected, "{word}");
        }
        assert_eq!(printed(pattern("cor").select_abbreviated(&existing, &groups).unwrap()), "core");
    }

    #[test]
    fn a_pattern_that_selects_nothing_is_reported_with_suggestions() {
        let existing = ports(&["core-switch", "rack1-p01", "rack1-p02"]);
        let groups = groups(&[
            ("core", &["core"]),
            ("none", &["x*"]),
            ("one", &["@two"]),
            ("two", &["core-switch,@one"]),
            ("lost", &["@nobody"]),
        ]);
        for (word, expected) in [
            ("core", "there is no port core: did you mean core-switch?"),
            ("core-swich", "there is no port core-swich: did you mean core-switch?"),
            (
                "rack1-p[01-08]",
                "there is no port rack1-p[03-08]: 6 of the 8 ports of rack1-p[01-08] do not exist",
            ),
            ("rack1-p[02-03]", "there is no port rack1-p03: did you mean rack1-p01 or rack1-p02?"),
            ("rack2-*", "no port matches rack2-*: the ports are core-switch, rack1-p01, rack1-p02"),
            ("cxre-*,rack1-*", "no port matches cxre-*"),
            ("@cor", "there is no group cor: did you mean core?"),
            ("@core", "group core: there is no port core: did you mean core-switch?"),
            ("@none", "the group none has no ports"),
            ("@one", "the group one contains itself: one → two → one"),
            ("@two", "the group two contains itself: two → one → two"),
            ("@lost", "group lost: there is no group nobody: the groups are core, lost, none, one, two"),
        ] {
            let why = pattern(word).select(&existing, &groups).unwrap_err().to_string();
            assert!(why.contains(expected), "{word}: {why}");
        }
        let none = pattern("@x").select(&existing, &PortGroups::new()).unwrap_err().to_string();
        assert_eq!(none, "there is no group x: the configuration has no [groups]");
    }

    #[test]
    fn names_fold_to_ranges() {
        for (names, expected) in [
            (&["core"][..], "core"),
            (&["p01", "p02", "p03"], "p[01-03]"),
            (&["p9", "p10", "p11", "p7"], "p[7,9-11]"),
            (&["p09", "p10", "p11"], "p[09-11]"),
            (&["p1", "p01"], "p01,p1"),
            (&["core", "p1", "p3"], "core,p[1,3]"),
            (&["a1-x", "a2-x", "a2-y"], "a[1-2]-x,a2-y"),
            (&["099", "100"], "[099-100]"),
        ] {
            assert_eq!(fold(&ports(names)), expected, "{names:?}");
        }
        assert_eq!(fold(&pattern("p[01-48]").names().unwrap()), "p[01-48]");
    }

    proptest! {
        #[test]
        fn folded_names_expand_to_the_same_names(words in proptest::collection::vec("[a-b]{0,1}[0-2]{1,3}[x-y]{0,1}", 1..40)) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut expected = ports(&words);
            expected.dedup();
            let mut unfolded = pattern(&fold(&expected)).names().unwrap();
            unfolded.sort();
            prop_assert_eq!(unfolded, expected);
        }

        /// By definition: `*` is any text, `?` any character.
        #[test]
        fn a_glob_matches_by_its_definition(glob in "[ab*?]{0,6}", name in "[ab]{0,6}") {
            fn slow(glob: &[u8], name: &[u8]) -> bool {
                match (glob.split_first(), name.split_first()) {
                    (None, None) => true,
                    (Some((b'*', rest)), _) => slow(rest, name) || name.split_first().is_some_and(|(_, name)| slow(glob, name)),
                    (Some((b'?', rest)), Some((_, name))) => slow(rest, name),
                    (Some((one, rest)), Some((other, name))) => one == other && slow(rest, name),
                    _ => false,
                }
            }
            prop_assert_eq!(matches(&glob, &name), slow(glob.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn no_pattern_exceeds_its_limit(word in "[a-z\\[\\]0-9,*?@/-]{0,24}") {
            if let Ok(pattern) = word.parse::<PortPattern>() {
                prop_assert!(pattern.items.len() <= MAX_NAMES);
                prop_assert_eq!(&pattern.to_string().parse::<PortPattern>().unwrap(), &pattern);
            }
        }
    }
}
