//! Access to consoles of conserver.cf(5): users and addresses. Never wider than in the file.

use super::blocks::Statement;
use super::error::SourceLine;
use super::plan::{Draft, Plan, quoted};
use crate::config::Value;

/// Why a list of hosts is not imported.
pub const NARROWER: &str =
    "narrower here: ports listen on loopback addresses only; extend `listen` behind a firewall";

/// A word of a list of users, after groups of the file are expanded. In conserver the last entry of a name counts, and `*` if there is
/// none.
#[derive(Clone)]
pub struct UserEntry {
    /// `alice`, `@staff`, `*`
    pub name: String,
    /// Whether it is excluded: `!alice`.
    pub out: bool,
    pub place: SourceLine,
}

/// Adds a word; the last one of a name counts.
pub fn add(list: &mut Vec<UserEntry>, member: UserEntry) {
    list.retain(|other| other.name != member.name);
    list.push(member);
}

#[derive(Default)]
pub struct UserLists {
    users: Vec<String>,
    groups: Vec<String>,
    /// Words that would admit an excluded user.
    dropped: Vec<String>,
    place: Option<SourceLine>,
}

impl UserLists {
    /// `besides` have wider access in any case, so that excluding them has no effect.
    fn of(list: &[UserEntry], besides: &[String]) -> Self {
        let mut members = Self { place: list.last().map(|member| member.place.clone()), ..Self::default() };
        let mut outside = false;
        for (index, UserEntry { name, out, .. }) in list.iter().enumerate() {
            match (name.strip_prefix('@').filter(|group| !group.is_empty()), *out) {
                // `!*` excludes no named user.
                _ if name == "*" && *out => {}
                _ if name == "*" => members.groups.push(name.clone()),
                (Some(group), false) => members.groups.push(group.to_owned()),
                (None, false) => members.users.push(name.clone()),
                (None, true) => outside |= !besides.contains(name),
                (Some(_), true) => {
                    outside = true;
                    // Users named before may be members of that group.
                    let before = &list[..index];
                    let is_before = |user: &String| before.iter().any(|member| member.name == *user);
                    let (dropped, kept): (Vec<String>, Vec<String>) =
                        std::mem::take(&mut members.users).into_iter().partition(is_before);
                    members.users = kept;
                    members.dropped.extend(dropped);
                }
            }
        }
        // `*` includes all other groups.
        if members.groups.iter().any(|group| group == "*") {
            members.groups.retain(|group| group == "*");
        }
        if outside {
            members.dropped.append(&mut members.groups);
        }
        members
    }

    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty() && self.dropped.is_empty()
    }

    /// Removes invalid names of users and groups.
    fn remove_invalid(&mut self) -> Vec<String> {
        let mut invalid = Vec::new();
        for (key, list) in [("users", &mut self.users), ("groups", &mut self.groups)] {
            list.retain(|name| {
                let fits = Plan::accepts(key, &array(std::slice::from_ref(name)));
                if !fits {
                    invalid.push(name.clone());
                }
                fits
            });
        }
        invalid
    }
}

fn array(words: &[String]) -> Value {
    Value::Array(words.iter().map(|word| word.as_str().into()).collect())
}

const NOT_LESS: &str = "users cannot be excluded from a group here, so the group is left out";

/// Sets the groups and users of a port.
pub fn apply(plan: &mut Plan, draft: &mut Draft, rw: &[UserEntry], ro: &[UserEntry], place: &SourceLine) {
    draft.sets_users = true;
    let mut writers = UserLists::of(rw, &[]);
    let mut watchers = UserLists::of(ro, &writers.users);
    let at = |members: &UserLists| members.place.clone().unwrap_or_else(|| place.clone());
    if writers.is_empty() {
        let title = format!("port {}: no rw", draft.name);
        plan.report(place, title, "no user may write; set groups or users");
    }
    for (members, list) in [(&mut writers, "rw"), (&mut watchers, "ro")] {
        let invalid = members.remove_invalid();
        for word in &members.dropped {
            plan.report(
                &at(&*members),
                format_args!("port {}: {list} {}", draft.name, quoted(word)),
                NOT_LESS,
            );
        }
        for word in &invalid {
            let title = format!("port {}: {list} {}", draft.name, quoted(word));
            plan.report(&at(&*members), title, "invalid name of a user or group");
        }
        if members.groups.iter().any(|group| group == "*") {
            let why = "in conserver, every user in conserver.passwd(5); here, every user of this machine";
            plan.report(&at(&*members), format_args!("{list} *"), why);
        }
    }
    for user in &watchers.users {
        if !writers.users.contains(user) {
            let why = "read-only access is given to groups only (read_only_groups)";
            plan.report(&at(&watchers), format_args!("port {}: ro {}", draft.name, quoted(user)), why);
        }
    }
    for (key, list, members) in [
        ("groups", &writers.groups, &writers),
        ("users", &writers.users, &writers),
        ("read_only_groups", &watchers.groups, &watchers),
    ] {
        if key == "groups" || !list.is_empty() {
            plan.set(draft, key, array(list), key, &at(members));
        }
    }
    // A list that is too long is left out: access must not fall back to the default groups.
    if !draft.keys.contains_key("groups") {
        plan.set(draft, "groups", array(&[]), "rw", place);
    }
}

/// Denies all access to a port.
pub fn deny_all(plan: &mut Plan, draft: &mut Draft, place: &SourceLine) {
    draft.sets_users = true;
    draft.keys.remove("users");
    draft.keys.remove("read_only_groups");
    plan.set(draft, "groups", array(&[]), "nobody", place);
}

/// The hosts that conserver accepts clients from, of all blocks for this machine. Without a block, it accepts this machine only
/// (`SetDefAccess` of conserver), unless `defaultaccess` is wider.
#[derive(Default)]
pub struct Origins {
    /// Whether `defaultaccess` admits hosts that no block names.
    open: bool,
    /// `allowed` and `trusted` statements that name other hosts.
    others: Vec<(SourceLine, String)>,
    /// `rejected` statements.
    rejected: Vec<(SourceLine, String)>,
}

impl Origins {
    /// Reads a statement of an `access` block.
    pub fn access(&mut self, plan: &mut Plan, statement: &Statement) {
        let original = format!("access: {}", quoted(&statement.original()));
        let place = &statement.place;
        match statement.keyword {
            "allowed" | "trusted" => {
                let local = |word: &str| {
                    ["localhost", "ip6-localhost", "::1"].contains(&word) || word.starts_with("127.")
                };
                let mut hosts = super::blocks::words(&statement.value);
                if !hosts.all(local) {
                    self.others.push((place.clone(), original));
                } else if statement.keyword == "trusted" {
                    plan.report(place, original, "a login is always required here");
                }
            }
            "rejected" => self.rejected.push((place.clone(), original)),
            "admin" => plan.report(place, original, "administrators are the groups sudo and root"),
            "limited" => {
                plan.report(
                    place,
                    original,
                    "wider here: users with write access may use all session commands",
                );
            }
            _ => {}
        }
    }

    /// Reads `defaultaccess` of a `config` block; the last one counts.
    pub fn default_access(&mut self, plan: &mut Plan, statement: &Statement) {
        self.open = ["allowed", "trusted"].iter().any(|word| word.eq_ignore_ascii_case(&statement.value));
        if self.open {
            let why = "logins are always required here, and accepted on the addresses in `listen`";
            plan.report(&statement.place, quoted(&statement.original()), why);
        }
    }

    /// Whether ports listen on loopback addresses only: a listener accepts all hosts or this machine only, so that a list of hosts becomes
    /// the latter.
    pub fn is_local(&self) -> bool {
        !self.open || !self.rejected.is_empty()
    }

    /// Reports the lists of hosts, which a listener cannot have.
    pub fn report(&self, plan: &mut Plan) {
        if self.is_local() {
            for (place, original) in &self.others {
                plan.report(place, original, NARROWER);
            }
        }
        for (place, original) in &self.rejected {
            plan.report(place, original, NARROWER);
        }
    }
}
