//! Who may use a console of conserver.cf(5), and from where: never more people or addresses than there.

use super::blocks::Statement;
use super::plan::{Plan, shown};
use super::{Draft, SourceLine};
use crate::config::Value;

/// A word of a list of users, with groups of the file in its place: conserver looks at the last one of a
/// name, and at `*` when there is none.
#[derive(Clone)]
pub struct Member {
    /// `alice`, `@staff`, `*`
    pub name: String,
    /// It is `!alice`.
    pub out: bool,
    pub place: SourceLine,
}

/// Adds a word as conserver does: the last one of a name counts.
pub fn add(list: &mut Vec<Member>, member: Member) {
    list.retain(|other| other.name != member.name);
    list.push(member);
}

/// A list of users, as it can be said here.
#[derive(Default)]
pub struct People {
    users: Vec<String>,
    groups: Vec<String>,
    /// Words that would admit somebody who is not to be.
    dropped: Vec<String>,
    place: Option<SourceLine>,
}

impl People {
    /// `besides` may do more in any case, so that they need not be left out.
    fn of(list: &[Member], besides: &[String]) -> Self {
        let mut people = Self { place: list.last().map(|member| member.place.clone()), ..Self::default() };
        let mut outside = false;
        for (index, Member { name, out, .. }) in list.iter().enumerate() {
            match (name.strip_prefix('@').filter(|group| !group.is_empty()), *out) {
                // Nobody is left out by it who is named.
                _ if name == "*" && *out => {}
                _ if name == "*" => people.groups.push(name.clone()),
                (Some(group), false) => people.groups.push(group.to_owned()),
                (None, false) => people.users.push(name.clone()),
                (None, true) => outside |= !besides.contains(name),
                (Some(_), true) => {
                    outside = true;
                    // Those named before it may be in that group.
                    let before = &list[..index];
                    let is_before = |user: &String| before.iter().any(|member| member.name == *user);
                    let (dropped, kept): (Vec<String>, Vec<String>) =
                        std::mem::take(&mut people.users).into_iter().partition(is_before);
                    people.users = kept;
                    people.dropped.extend(dropped);
                }
            }
        }
        // Everybody is everybody: "*" stands alone.
        if people.groups.iter().any(|group| group == "*") {
            people.groups.retain(|group| group == "*");
        }
        if outside {
            people.dropped.append(&mut people.groups);
        }
        people
    }

    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty() && self.dropped.is_empty()
    }

    /// Takes out what is no name of a user or a group here.
    fn fit(&mut self) -> Vec<String> {
        let mut unfit = Vec::new();
        for (key, list) in [("users", &mut self.users), ("groups", &mut self.groups)] {
            list.retain(|name| {
                let fits = Plan::takes(key, &array(std::slice::from_ref(name)));
                if !fits {
                    unfit.push(name.clone());
                }
                fits
            });
        }
        unfit
    }
}

fn array(words: &[String]) -> Value {
    Value::Array(words.iter().map(|word| word.as_str().into()).collect())
}

const NOT_LESS: &str = "nobody can be left out of a group here, so the whole of it is left out";

/// Gives a port its groups and users.
pub fn apply(plan: &mut Plan, draft: &mut Draft, rw: &[Member], ro: &[Member], place: &SourceLine) {
    draft.says_who = true;
    let mut writers = People::of(rw, &[]);
    let mut watchers = People::of(ro, &writers.users);
    let at = |people: &People| people.place.clone().unwrap_or_else(|| place.clone());
    if writers.is_empty() {
        let title = format!("port {}: no rw", draft.name);
        plan.leave(place, title, "nobody may write; say its groups or users");
    }
    for (people, list) in [(&mut writers, "rw"), (&mut watchers, "ro")] {
        let unfit = people.fit();
        for word in &people.dropped {
            plan.leave(&at(&*people), format_args!("port {}: {list} {}", draft.name, shown(word)), NOT_LESS);
        }
        for word in &unfit {
            let title = format!("port {}: {list} {}", draft.name, shown(word));
            plan.leave(&at(&*people), title, "no name of a user or group");
        }
        if people.groups.iter().any(|group| group == "*") {
            let why = "there everybody in conserver.passwd(5), here every user of this machine";
            plan.leave(&at(&*people), format_args!("{list} *"), why);
        }
    }
    for user in &watchers.users {
        if !writers.users.contains(user) {
            let why = "who only watches is named by groups here (read_only_groups)";
            plan.leave(&at(&watchers), format_args!("port {}: ro {}", draft.name, shown(user)), why);
        }
    }
    for (key, list, people) in [
        ("groups", &writers.groups, &writers),
        ("users", &writers.users, &writers),
        ("read_only_groups", &watchers.groups, &watchers),
    ] {
        if key == "groups" || !list.is_empty() {
            plan.set(draft, key, array(list), key, &at(people));
        }
    }
    // More names than a list takes: fewer people, not the machine's own groups.
    if !draft.keys.contains_key("groups") {
        plan.set(draft, "groups", array(&[]), "rw", place);
    }
}

/// Nobody may use the port.
pub fn nobody(plan: &mut Plan, draft: &mut Draft, place: &SourceLine) {
    draft.says_who = true;
    draft.keys.remove("users");
    draft.keys.remove("read_only_groups");
    plan.set(draft, "groups", array(&[]), "nobody", place);
}

/// The hosts that conserver accepts clients from, of all blocks about this machine. Without any, it accepts
/// those of the machine itself (`SetDefAccess` of conserver), and no others unless `defaultaccess` says so.
#[derive(Default)]
pub struct Origins {
    /// `defaultaccess` admits hosts that no block names.
    open: bool,
    /// `allowed` and `trusted` statements that name other hosts.
    others: Vec<(SourceLine, String)>,
    /// `rejected` statements.
    rejected: Vec<(SourceLine, String)>,
}

impl Origins {
    /// Takes a statement of an `access` block.
    pub fn access(&mut self, plan: &mut Plan, statement: &Statement) {
        let said = format!("access: {}", shown(&statement.said()));
        let place = &statement.place;
        match statement.keyword {
            "allowed" | "trusted" => {
                let local = |word: &str| {
                    ["localhost", "ip6-localhost", "::1"].contains(&word) || word.starts_with("127.")
                };
                let mut hosts = super::conserver::words(&statement.value);
                if !hosts.all(local) {
                    self.others.push((place.clone(), said));
                } else if statement.keyword == "trusted" {
                    plan.leave(place, said, "everybody logs in here");
                }
            }
            "rejected" => self.rejected.push((place.clone(), said)),
            "admin" => plan.leave(place, said, "the groups sudo and root administer"),
            "limited" => {
                plan.leave(place, said, "wider here: whoever may write has all of the session's menu");
            }
            _ => {}
        }
    }

    /// Takes `defaultaccess` of a `config` block; the last one counts.
    pub fn default_access(&mut self, plan: &mut Plan, statement: &Statement) {
        self.open = ["allowed", "trusted"].iter().any(|word| word.eq_ignore_ascii_case(&statement.value));
        if self.open {
            let why = "everybody logs in here, from any address that `listen` admits";
            plan.leave(&statement.place, shown(&statement.said()), why);
        }
    }

    /// Whether ports listen on the machine's own addresses only: a listener is for all hosts or for none but
    /// this one, so that a list of hosts becomes the latter.
    pub fn is_local(&self) -> bool {
        !self.open || !self.rejected.is_empty()
    }

    /// Reports the hosts that cannot be admitted or rejected by a listener.
    pub fn report(&self, plan: &mut Plan) {
        if self.is_local() {
            for (place, said) in &self.others {
                plan.leave(place, said, super::NARROWER);
            }
        }
        for (place, said) in &self.rejected {
            plan.leave(place, said, super::NARROWER);
        }
    }
}
