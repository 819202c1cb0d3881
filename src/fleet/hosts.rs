//! Names of servers, and patterns that select several: the pattern language of ports. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::port::nearest::{either, nearest};
use crate::port::pattern::{MAX_NAMES, expand, matches, split_list};
use crate::port::{GroupName, PatternError, natural_order};

/// RFC 1035, 2.3.4: 255 octets on the wire, which are 253 characters.
const MAX_HOST_LENGTH: usize = 253;
/// useradd(8) permits 32; users of a directory may have longer ones.
const MAX_USER_LENGTH: usize = 64;

/// Why a word is not a server, or selects none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostError {
    #[error("invalid host {0:?}: use HOST, HOST:PORT or USER@HOST, with letters, digits and . _ - in HOST")]
    Name(String),
    #[error("invalid TCP port in {0:?}: use 1 to 65535")]
    TcpPort(String),
    /// Brackets, commas and names of groups are those of ports.
    #[error(transparent)]
    Pattern(PatternError),
    #[error("{0:?} stands for more than {MAX_NAMES} hosts")]
    TooMany(String),
    #[error("there is no group {group} of hosts: {instead}")]
    NoSuchGroup { group: GroupName, instead: String },
    #[error("the group {0} of hosts contains itself")]
    Cycle(GroupName),
    #[error("the group {0} of hosts is empty")]
    EmptyGroup(GroupName),
    #[error("no host of a group matches {0}")]
    NoMatch(String),
}

impl From<PatternError> for HostError {
    fn from(error: PatternError) -> Self {
        match error {
            PatternError::TooMany(text) => Self::TooMany(text),
            error => Self::Pattern(error),
        }
    }
}

/// A server as ssh(1) takes it: `[USER@]HOST[:PORT]`. HOST may be a name of ssh_config(5).
///
/// The characters are limited, so that no name is an option of ssh, a pattern of ssh_config(5) or a second line of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host {
    text: String,
    user: Option<String>,
    name: String,
    tcp_port: Option<u16>,
}

impl Host {
    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The login name, if it was given.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The name or address without user and TCP port.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn tcp_port(&self) -> Option<u16> {
        self.tcp_port
    }
}

fn is_name(name: &str, others: &str, longest: usize) -> bool {
    (1..=longest).contains(&name.len())
        && !name.starts_with('-')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(word: &str) -> Result<Self, HostError> {
        let invalid = || HostError::Name(word.to_owned());
        // A user of a directory may be user@domain.
        let (user, rest) = match word.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, word),
        };
        if user.is_some_and(|user| !is_name(user, "._-@", MAX_USER_LENGTH)) {
            return Err(invalid());
        }
        // Several colons are those of an IPv6 address.
        let (name, tcp_port) = match rest.split_once(':') {
            Some((name, port)) if !port.contains(':') => (name, Some(port)),
            _ => (rest, None),
        };
        let others = if tcp_port.is_none() { "._-:%" } else { "._-" };
        if !is_name(name, others, MAX_HOST_LENGTH) {
            return Err(invalid());
        }
        let number = |port: &str| match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
            _ => Err(HostError::TcpPort(word.to_owned())),
        };
        Ok(Self {
            text: word.to_owned(),
            user: user.map(str::to_owned),
            name: name.to_owned(),
            tcp_port: tcp_port.map(number).transpose()?,
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub type HostGroups = BTreeMap<GroupName, Vec<HostPattern>>;

/// Several hosts: names, ranges, wildcards and groups, separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Host(Host),
    /// Selects among the hosts of all groups.
    Glob(String),
    Group(GroupName),
}

impl FromStr for HostPattern {
    type Err = HostError;

    fn from_str(word: &str) -> Result<Self, HostError> {
        let mut items = Vec::new();
        for item in split_list(word)? {
            if item.is_empty() {
                return Err(PatternError::Empty(word.to_owned()).into());
            }
            if let Some(group) = item.strip_prefix('@') {
                items.push(Item::Group(group.parse()?));
                continue;
            }
            for text in expand(item)? {
                items.push(match text.contains(['*', '?']) {
                    // The characters are checked as those of a host without wildcards.
                    true => match text.replace(['*', '?'], "x").parse::<Host>() {
                        Ok(_) => Item::Glob(text),
                        Err(_) => return Err(HostError::Name(text)),
                    },
                    false => Item::Host(text.parse()?),
                });
                if items.len() > MAX_NAMES {
                    return Err(HostError::TooMany(word.to_owned()));
                }
            }
        }
        Ok(Self { items })
    }
}

impl HostPattern {
    /// The hosts of several patterns, in the order of the patterns, without duplicates.
    pub fn select_all(patterns: &[Self], groups: &HostGroups) -> Result<Vec<Host>, HostError> {
        let mut selection =
            Selection { groups, selected: Vec::new(), seen: BTreeSet::new(), done: BTreeSet::new() };
        for pattern in patterns {
            selection.add(pattern, &mut Vec::new())?;
        }
        Ok(selection.selected)
    }
}

struct Selection<'g> {
    groups: &'g HostGroups,
    selected: Vec<Host>,
    seen: BTreeSet<Host>,
    /// Groups whose hosts are all selected: nested groups may have 2^40 paths to the same one.
    done: BTreeSet<GroupName>,
}

impl Selection<'_> {
    fn take(&mut self, host: &Host) -> Result<(), HostError> {
        if self.seen.insert(host.clone()) {
            self.selected.push(host.clone());
        }
        match self.selected.len() > MAX_NAMES {
            true => Err(HostError::TooMany("-H".to_owned())),
            false => Ok(()),
        }
    }

    /// `path`: the groups that contain this pattern.
    fn add(&mut self, pattern: &HostPattern, path: &mut Vec<GroupName>) -> Result<(), HostError> {
        for item in &pattern.items {
            match item {
                Item::Host(host) => self.take(host)?,
                Item::Glob(glob) => {
                    let known = self.groups.values().flatten().flat_map(|pattern| &pattern.items);
                    let mut matching: Vec<&Host> = known
                        .filter_map(|item| match item {
                            Item::Host(host) if matches(glob, host.as_str()) => Some(host),
                            _ => None,
                        })
                        .collect();
                    // Existing ports are matched the same way.
                    matching.sort_by(|one, other| natural_order(one.as_str(), other.as_str()));
                    if matching.is_empty() && path.is_empty() {
                        return Err(HostError::NoMatch(glob.clone()));
                    }
                    for host in matching {
                        self.take(host)?;
                    }
                }
                Item::Group(group) => self.add_group(group, path)?,
            }
        }
        Ok(())
    }

    fn add_group(&mut self, group: &GroupName, path: &mut Vec<GroupName>) -> Result<(), HostError> {
        let groups = self.groups;
        if path.contains(group) {
            return Err(HostError::Cycle(group.clone()));
        }
        if self.done.contains(group) {
            return Ok(());
        }
        let members = groups.get(group).ok_or_else(|| no_such_group(group, groups))?;
        if members.is_empty() {
            return Err(HostError::EmptyGroup(group.clone()));
        }
        path.push(group.clone());
        for member in members {
            self.add(member, path)?;
        }
        path.pop();
        self.done.insert(group.clone());
        Ok(())
    }
}

fn no_such_group(group: &GroupName, groups: &HostGroups) -> HostError {
    let names: Vec<&str> = groups.keys().map(GroupName::as_str).collect();
    let instead = match nearest(group.as_str(), names.iter().copied()).as_slice() {
        [] if names.is_empty() => {
            "neither ~/.config/consolectl.toml nor /etc/consoleserver/hosts.toml has [groups]".to_owned()
        }
        [] => format!("the groups are {}", names.join(", ")),
        near => format!("did you mean {}?", either(near)),
    };
    HostError::NoSuchGroup { group: group.clone(), instead }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(all: &[(&str, &[&str])]) -> HostGroups {
        let patterns = |words: &[&str]| words.iter().map(|word| word.parse().unwrap()).collect();
        all.iter().map(|(name, words)| (name.parse().unwrap(), patterns(words))).collect()
    }

    fn selected(word: &str, groups: &HostGroups) -> Result<String, String> {
        let pattern: HostPattern = word.parse().map_err(|error: HostError| error.to_string())?;
        let hosts = HostPattern::select_all(&[pattern], groups).map_err(|error| error.to_string())?;
        Ok(hosts.iter().map(Host::as_str).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_host_has_an_optional_user_and_tcp_port() {
        for (word, user, name, port) in [
            ("rack1", None, "rack1", None),
            ("rack1.example:9022", None, "rack1.example", Some(9022)),
            ("alice@10.0.0.1:22", Some("alice"), "10.0.0.1", Some(22)),
            ("alice@ad.example@rack1", Some("alice@ad.example"), "rack1", None),
            ("fe80::1%eth0", None, "fe80::1%eth0", None),
        ] {
            let host: Host = word.parse().unwrap();
            assert_eq!((host.user(), host.name(), host.tcp_port()), (user, name, port), "{word}");
        }
    }

    #[test]
    fn options_and_lines_of_ssh_config_are_no_hosts() {
        let long = "x".repeat(254);
        for word in [
            "",
            "-oProxyCommand=id",
            "a b",
            "a\nProxyCommand id",
            "a@-x",
            "-l@a",
            "@",
            "a@",
            "a:0",
            "a:65536",
            "a:+1",
            "a:",
            ":22",
            "a;b",
            "$(id)",
            "é",
            "!a",
            &long,
        ] {
            assert!(word.parse::<Host>().is_err(), "{word:?}");
            assert!(word.is_empty() || word == "@" || word.parse::<HostPattern>().is_err(), "{word:?}");
        }
    }

    #[test]
    fn a_pattern_selects_as_one_of_ports_does() {
        let groups = groups(&[
            ("core", &["rack[1-3]", "edge1:9022"]),
            ("lab", &["alice@lab[1-2]"]),
            ("all", &["@core,@lab", "rack2"]),
            ("self", &["@loop"]),
            ("loop", &["@self"]),
            ("none", &[]),
        ]);
        let selected = |word| selected(word, &groups);
        assert_eq!(selected("rack[08-10],b").unwrap(), "rack08 rack09 rack10 b");
        assert_eq!(selected("@core").unwrap(), "rack1 rack2 rack3 edge1:9022");
        assert_eq!(selected("@all").unwrap(), "rack1 rack2 rack3 edge1:9022 alice@lab1 alice@lab2");
        assert_eq!(selected("rack2,@core").unwrap(), "rack2 rack1 rack3 edge1:9022");
        assert_eq!(selected("rack*,*lab?").unwrap(), "rack1 rack2 rack3 alice@lab1 alice@lab2");
        for (word, error) in [
            ("@cor", "there is no group cor of hosts: did you mean core?"),
            ("@self", "the group self of hosts contains itself"),
            ("@none", "the group none of hosts is empty"),
            ("x*", "no host of a group matches x*"),
            ("h[1-5000]", "\"h[1-5000]\" stands for more than 4096 hosts"),
            ("h[1-", "unmatched bracket"),
            ("a,,b", "empty name"),
        ] {
            let is = selected(word).unwrap_err();
            assert!(is.starts_with(error), "{word}: {is}");
        }
    }

    #[test]
    fn nested_groups_have_many_paths_and_are_read_once() {
        let mut all = HostGroups::new();
        for level in 0..40 {
            let below = format!("@g{},@g{}", level + 1, level + 1);
            all.insert(format!("g{level}").parse().unwrap(), vec![below.parse().unwrap()]);
        }
        all.insert("g40".parse().unwrap(), vec!["a".parse().unwrap()]);
        assert_eq!(selected("@g0", &all).unwrap(), "a");
    }
}
