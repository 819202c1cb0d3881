//! conserver.cf(5): its `console` blocks of type `device`, over their `default` blocks.

use std::collections::BTreeMap;

use super::blocks::{self, Include, Statement};
use super::plan::{is_by_name, shown};
use super::{Draft, ImportError, Place, Plan, Source};
use crate::config::Value;

/// Words of a list, of users for example, that includes may have gathered.
const MAX_LIST: usize = 1024;

/// What a console or default block says.
#[derive(Clone, Default)]
struct Settings {
    /// The last statement of each keyword.
    one: BTreeMap<String, Statement>,
    /// Of those that gather: `rw`, `ro`, `options`.
    lists: BTreeMap<&'static str, Vec<(String, Place)>>,
}

const LISTS: [&str; 3] = ["rw", "ro", "options"];

/// What has been defined so far.
#[derive(Default)]
struct Known {
    defaults: BTreeMap<String, Settings>,
    /// Users of a group, `@unixgroup` among them.
    groups: BTreeMap<String, Vec<String>>,
}

impl Known {
    /// Whom a word means: a group's members, or itself. `!` before it is before each of them.
    fn members(&self, word: &str) -> Vec<String> {
        let (name, out) = word.strip_prefix('!').map_or((word, ""), |name| (name, "!"));
        match self.groups.get(name) {
            // Whoever is left out of a group that is left out stays so too: that is less, not more.
            Some(members) => {
                let member = |member: &String| {
                    if member.starts_with('!') { member.clone() } else { format!("{out}{member}") }
                };
                members.iter().map(member).collect()
            }
            None => vec![word.to_owned()],
        }
    }
}

/// Reads it; of consoles that say a `master`, only those of `this_host`.
pub fn plan(source: Source, include: &mut Include<'_>, this_host: &str) -> Result<Plan, ImportError> {
    let mut plan = Plan::default();
    let mut known = Known::default();
    for block in blocks::read(source, include)? {
        let title = format!("{} {}", block.kind, shown(&block.name));
        match block.kind.as_str() {
            "console" => {
                let mut settings = known.defaults.get("*").cloned().unwrap_or_default();
                gather(&block.statements, &known, &mut settings)?;
                console(&mut plan, &known, &block.name, settings, &block.place, this_host)?;
            }
            "default" => {
                let mut settings = Settings::default();
                gather(&block.statements, &known, &mut settings)?;
                known.defaults.insert(block.name, settings);
            }
            "group" => {
                let mut users = Vec::new();
                for statement in block.statements.iter().filter(|statement| statement.keyword == "users") {
                    users.extend(words(&statement.value).flat_map(|word| known.members(word)));
                    bounded(users.len(), statement)?;
                }
                known.groups.insert(block.name, users);
            }
            "access" => plan.leave(
                &block.place,
                title,
                "who may come from where is a firewall's here; who may administer, the groups sudo and root",
            ),
            "config" => {
                if !block.statements.is_empty() {
                    plan.leave(&block.place, title, "the server itself is set by consoleserver.toml(5)");
                }
            }
            "break" => plan.leave(&block.place, title, "a break is a serial break, by ^Ecl0"),
            "task" => plan.leave(&block.place, title, "nothing is run for users"),
            kind => {
                let why = format!(
                    "{}: expected access, break, config, console, default, group or task",
                    shown(kind)
                );
                return Err(ImportError::Syntax(block.place, why));
            }
        }
    }
    Ok(plan)
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn bounded(count: usize, at: &Statement) -> Result<(), ImportError> {
    match count {
        ..=MAX_LIST => Ok(()),
        _ => Err(ImportError::Syntax(at.place.clone(), format!("a list of more than {MAX_LIST} words"))),
    }
}

fn gather(statements: &[Statement], known: &Known, into: &mut Settings) -> Result<(), ImportError> {
    for statement in statements {
        let Statement { keyword, value, place } = statement;
        if keyword == "include" {
            let included = known.defaults.get(value).ok_or_else(|| {
                let why = format!("include {}: no default block of that name stands before it", shown(value));
                ImportError::Syntax(place.clone(), why)
            })?;
            into.one.extend(included.one.clone());
            for (list, words) in &included.lists {
                into.lists.entry(list).or_default().extend(words.iter().cloned());
            }
        } else if let Some(list) = LISTS.iter().find(|list| *list == keyword) {
            let gathered = into.lists.entry(list).or_default();
            if value.is_empty() {
                gathered.clear();
            }
            gathered.extend(words(value).map(|word| (word.to_owned(), place.clone())));
        } else {
            into.one.insert(keyword.clone(), statement.clone());
        }
        for words in into.lists.values() {
            bounded(words.len(), statement)?;
        }
    }
    Ok(())
}

/// Whether a master is this machine: by its first label, since one may be written without its domain.
fn is_here(master: &str, this_host: &str) -> bool {
    let first = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    ["localhost", "127.0.0.1", "::1"].contains(&master) || first(master) == first(this_host)
}

fn console(
    plan: &mut Plan,
    known: &Known,
    name: &str,
    settings: Settings,
    place: &Place,
    this_host: &str,
) -> Result<(), ImportError> {
    let title = format!("console {}", shown(name));
    let said = |keyword: &str| settings.one.get(keyword).map(|statement| statement.value.as_str());
    match said("type") {
        Some("device") => {}
        Some(kind) => {
            plan.leave(
                place,
                title,
                format_args!("its type is {}: no serial port of this machine", shown(kind)),
            );
            return Ok(());
        }
        None => {
            plan.leave(place, title, "it has no type: device is what would be a port here");
            return Ok(());
        }
    }
    if let Some(master) = said("master").filter(|master| !is_here(master, this_host)) {
        plan.leave(place, title, format_args!("its master is {}, not {this_host}", shown(master)));
        return Ok(());
    }
    let Some(device) = said("device").filter(|device| !device.is_empty()) else {
        plan.leave(place, title, "it has no device");
        return Ok(());
    };
    if said("devicesubst").is_some_and(|rules| !rules.is_empty()) {
        plan.leave(place, title, "its device is made by devicesubst: write out each console's device");
        return Ok(());
    }
    let device = device.to_owned();
    let Some(mut draft) = plan.port(name, place)? else { return Ok(()) };
    if !is_by_name(device.as_ref(), &draft.name) {
        let at = &settings.one["device"].place;
        plan.set(&mut draft, "device", device.as_str().into(), &format!("device {device}"), at);
        if !draft.keys.contains_key("device") {
            plan.leave(place, title, "it would have no device");
            return Ok(());
        }
    }
    for statement in settings.one.values() {
        apply(plan, &mut draft, statement);
    }
    options(plan, &mut draft, &settings, place);
    access(plan, &mut draft, known, &settings, place);
    plan.ports.push(draft);
    Ok(())
}

fn number(word: &str) -> Value {
    word.parse().map_or_else(|_| word.into(), Value::Integer)
}

fn apply(plan: &mut Plan, draft: &mut Draft, statement: &Statement) {
    let Statement { keyword, value, place } = statement;
    let said = statement.said();
    match keyword.as_str() {
        // Read before this.
        "type" | "device" | "master" | "devicesubst" => {}
        "baud" => plan.set(draft, "baud", number(value), &said, place),
        "parity" => {
            let (letter, bits) = match value.to_ascii_lowercase().as_str() {
                "none" => ("N", 8),
                "even" => ("E", 7),
                "odd" => ("O", 7),
                "mark" => ("M", 7),
                "space" => ("S", 7),
                _ => (value.as_str(), 8),
            };
            plan.set(draft, "parity", letter.into(), &said, place);
            // As conserver sets it: with a parity, 7 bits.
            plan.set(draft, "bytesize", Value::Integer(bits), &said, place);
        }
        "logfile" if value.is_empty() || value == "/dev/null" => {
            plan.set(draft, "log.type", "none".into(), &said, place);
        }
        "logfile" => {
            plan.leave(place, shown(&said), "the log is /var/log/consoleserver/PORT/console.log");
        }
        // Of any other type, or the defaults of things that we have not.
        "host" | "port" | "portbase" | "portinc" | "protocol" | "exec" | "execsubst" | "execrunas"
        | "uds" | "udssubst" | "username" | "password" | "replstring" => {}
        keyword if keyword.starts_with("ipmi") => {}
        _ if value.is_empty() => {}
        keyword => plan.leave(place, shown(&said), without(keyword)),
    }
}

/// Why a keyword has no place here.
fn without(keyword: &str) -> &'static str {
    match keyword {
        "aliases" => "a port has one name",
        "break" | "breaklist" => "a break is a serial break, by ^Ecl0",
        "idlestring" | "idletimeout" => {
            "nothing is sent to a device by itself; `timeout` here ends idle sessions"
        }
        "initcmd" | "initrunas" | "initsubst" | "initspinmax" | "initspintimer" => {
            "nothing is run for a port"
        }
        "logfilemax" => "logs are rotated by logrotate(8)",
        "motd" => "`describe` is a label that everybody sees",
        "tasklist" => "nothing is run for users",
        "timestamp" => "each line of the log has its time, and says who came and went",
        _ => "there is no such thing here",
    }
}

fn options(plan: &mut Plan, draft: &mut Draft, settings: &Settings, place: &Place) {
    // What conserver(8) has set for a device if nothing is said.
    let (mut ixon, mut ixoff) = (true, true);
    let mut flow_place = place;
    for (word, at) in settings.lists.get("options").into_iter().flatten() {
        let (option, on) = word.strip_prefix('!').map_or((word.as_str(), true), |option| (option, false));
        match option {
            "ixon" => (ixon, flow_place) = (on, at),
            "ixoff" => (ixoff, flow_place) = (on, at),
            "crtscts" => plan.set(draft, "rtscts", on.into(), word, at),
            "cstopb" => plan.set(draft, "stopbits", Value::Integer(if on { 2 } else { 1 }), word, at),
            "autoreinit" | "login" if on => {}
            "ixany" | "hupcl" | "ondemand" | "striphigh" | "reinitoncc" | "unloved" if !on => {}
            "hupcl" => plan.leave(at, "options hupcl", "DTR and RTS stay as they are"),
            "login" => plan.leave(at, "options !login", "`enable PORT 0` closes a port"),
            "ondemand" => {
                plan.leave(
                    at,
                    "options ondemand",
                    "an enabled port is open, and logged, as long as its device is there",
                );
            }
            _ => plan.leave(at, format_args!("options {}", shown(word)), "there is no such thing here"),
        }
    }
    if ixon != ixoff {
        plan.leave(
            flow_place,
            format_args!("port {}: ixon without ixoff", draft.name),
            "xonxoff is both or none",
        );
    }
    plan.set(draft, "xonxoff", (ixon && ixoff).into(), "options", flow_place);
}

/// Who may: never more people than there, even if these are fewer then.
fn access(plan: &mut Plan, draft: &mut Draft, known: &Known, settings: &Settings, place: &Place) {
    let writers = People::of(settings, "rw", known);
    let watchers = People::of(settings, "ro", known);
    let at = |people: &People| people.place.clone().unwrap_or_else(|| place.clone());
    if writers.is_empty() {
        plan.leave(
            place,
            format_args!("port {}: no rw", draft.name),
            "nobody may write; say its groups or users",
        );
    }
    for (people, list) in [(&writers, "rw"), (&watchers, "ro")] {
        for word in &people.dropped {
            plan.leave(&at(people), format_args!("port {}: {list} {}", draft.name, shown(word)), NOT_LESS);
        }
    }
    for user in &watchers.users {
        let why = "who only watches is named by groups here (read_only_groups)";
        plan.leave(&at(&watchers), format_args!("port {}: ro {}", draft.name, shown(user)), why);
    }
    let list = |words: &[String]| Value::Array(words.iter().map(|word| word.as_str().into()).collect());
    plan.set(draft, "groups", list(&writers.groups), "rw", &at(&writers));
    if !writers.users.is_empty() {
        plan.set(draft, "users", list(&writers.users), "rw", &at(&writers));
    }
    if !watchers.groups.is_empty() {
        plan.set(draft, "read_only_groups", list(&watchers.groups), "ro", &at(&watchers));
    }
}

const NOT_LESS: &str = "nobody can be left out of a group here, so the whole of it is left out";

/// A list of users, as we can say it.
#[derive(Default)]
struct People {
    users: Vec<String>,
    groups: Vec<String>,
    /// Groups that would admit somebody who is not to be.
    dropped: Vec<String>,
    place: Option<Place>,
}

impl People {
    fn of(settings: &Settings, list: &str, known: &Known) -> Self {
        let mut people = Self::default();
        let mut outside = false;
        for (word, place) in settings.lists.get(list).into_iter().flatten() {
            people.place = Some(place.clone());
            for member in known.members(word) {
                let (name, out) =
                    member.strip_prefix('!').map_or((member.as_str(), false), |name| (name, true));
                outside |= out;
                people.take(name, out);
            }
        }
        if outside {
            people.dropped.append(&mut people.groups);
        }
        people
    }

    fn take(&mut self, name: &str, out: bool) {
        let (list, name) = match name.strip_prefix('@') {
            Some(group) => (&mut self.groups, group),
            None if name == "*" => (&mut self.groups, name),
            None => (&mut self.users, name),
        };
        list.retain(|other| other != name);
        if !out {
            list.push(name.to_owned());
        }
        // Everybody is everybody: "*" stands alone.
        if self.groups.iter().any(|group| group == "*") {
            self.groups.retain(|group| group == "*");
        }
    }

    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty() && self.dropped.is_empty()
    }
}
