//! Changes of a text, and all steps of an administration up to a commit. Input: a configuration, and below a line `%%`
//! the actions, one per line: `KEY = VALUE`, `-KEY`, `+PORT`, `!PORT`, `reload`, `reload PORT`, `commit`; below another
//! `%%` the file as a user edits it by hand in the meantime.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use consoleserver::admin::state::{Author, State};
use consoleserver::config::changes::{Change, Changes, Holder, KeyPath, Scope, candidate, stated};
use consoleserver::config::{Config, Instances, Text, Value};
use consoleserver::port::PortName;
use jiff::Timestamp;
use toml::Table;

/// See the module.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.splitn(3, "%%\n");
    let (text, orders) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    for order in orders.lines().take(16) {
        if let Ok(path) = order.parse::<KeyPath>() {
            assert_eq!(path.to_string().parse().as_ref(), Ok(&path), "a path reads back");
        }
    }
    let Ok(config) = candidate(text) else { return };
    laid_over(text, orders);
    administered(text, config, orders, parts.next());
}

/// `KEY = VALUE` or `-KEY`, with a value that the key takes.
fn edit(order: &str) -> Option<(KeyPath, Option<Value>)> {
    if let Some(path) = order.strip_prefix('-') {
        return Some((path.parse().ok()?, None));
    }
    let (path, value) = order.split_once(" = ")?;
    let path: KeyPath = path.parse().ok()?;
    if path.key.is_none() {
        // A table takes no value, but may be created again.
        return Some((path, Some(Value::Table(Table::new()))));
    }
    let value = format!("v = {value}").parse::<Table>().ok()?.remove("v")?;
    let value = path.check(&value).ok()?;
    Some((path, Some(value)))
}

/// A tree by the full path of each value.
fn leaves(text: &str) -> BTreeMap<Vec<String>, Value> {
    fn walk(tree: &Table, above: &[String], into: &mut BTreeMap<Vec<String>, Value>) {
        for (key, value) in tree {
            let path = [above, std::slice::from_ref(key)].concat();
            match value {
                Value::Table(inner) => walk(inner, &path, into),
                // `log = "raw"` is its type.
                value if key == "log" => {
                    drop(into.insert([&path[..], &["type".to_owned()]].concat(), value.clone()))
                }
                value => drop(into.insert(path, value.clone())),
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&text.parse().expect("TOML"), &[], &mut found);
    found
}

fn place(path: &KeyPath) -> Vec<String> {
    let mut place: Vec<String> = match &path.scope {
        Scope::Server => vec!["server".to_owned()],
        Scope::Access => vec!["access".to_owned()],
        Scope::Group(name) => return vec!["groups".to_owned(), name.to_string()],
        Scope::Defaults | Scope::Trigger(Holder::Defaults, _) => vec!["defaults".to_owned()],
        Scope::Template(name) | Scope::Trigger(Holder::Template(name), _) => {
            vec!["templates".to_owned(), name.to_string()]
        }
        Scope::Port(name) | Scope::Trigger(Holder::Port(name), _) => {
            vec!["ports".to_owned(), name.to_string()]
        }
    };
    if let Scope::Trigger(_, rule) = &path.scope {
        place.extend(["triggers".to_owned(), rule.to_string()]);
    }
    place.extend(path.key.iter().flat_map(|key| key.split('.')).map(str::to_owned));
    place
}

/// The changed keys are as they should be, all others as they were, and so are the comments.
fn laid_over(text: &str, orders: &str) {
    let mut changes = Changes::default();
    for (path, new) in orders.lines().take(16).filter_map(edit) {
        let old = stated(text, &path);
        changes.insert(path, Change { who: "alice".to_owned(), when: Timestamp::UNIX_EPOCH, old, new });
    }
    let kept = changes.to_running(&Instances::default()).expect("it can be kept");
    let mut read: BTreeMap<String, Changes> = toml::from_str(&kept).expect("it can be read");
    assert_eq!(read.remove("change").unwrap_or_default(), changes);

    let Ok(result) = changes.apply(text) else { return };
    for (path, change) in changes.iter() {
        let filled = path.key.is_none()
            && changes.iter().any(|(other, change)| {
                other != path && place(other).starts_with(&place(path)) && change.new.is_some()
            });
        if !filled {
            assert_eq!(stated(&result, path), change.new, "{path} in\n{result}");
        }
    }
    let concerns = |leaf: &Vec<String>| changes.iter().any(|(path, _)| leaf.starts_with(&place(path)));
    let rest = |text: &str| -> BTreeMap<_, _> {
        leaves(text).into_iter().filter(|(leaf, _)| !concerns(leaf)).collect()
    };
    assert_eq!(rest(&result), rest(text), "every other key is as it was:\n{result}");
    let again = changes.apply(&result).expect("it can be changed again");
    assert_eq!(leaves(&again), leaves(&result), "twice is as once");
    comments_stay(text, &result, &changes);
}

fn comments_stay(text: &str, result: &str, changes: &Changes) {
    // A comment in or at a removed value is removed with it.
    let goes = |(path, change): (&KeyPath, &Change)| {
        change.new.is_none()
            || path.key.is_none()
            || !matches!(change.old, None | Some(Value::Integer(_) | Value::Boolean(_)))
    };
    if changes.iter().any(goes) || text.contains("\"\"\"") || text.contains("'''") {
        return;
    }
    for comment in text.lines().filter(|line| line.starts_with('#')) {
        assert!(result.lines().any(|line| line == comment), "{comment:?} is lost:\n{result}");
    }
}

fn port(order: &str, mark: char) -> Option<PortName> {
    order.strip_prefix(mark)?.parse().ok()
}

/// `OLD>NEW`: a port that is renamed.
fn names(order: &str) -> Option<(PortName, PortName)> {
    let (from, to) = order.split_once('>')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

/// Step by step: what is refused changes nothing, and a commit makes just what was the candidate.
fn administered(text: &str, config: Config, orders: &str, by_hand: Option<&str>) {
    let file = |text: &str| Text { text: text.to_owned(), path: Path::new("/etc/c").to_owned() };
    let author = Author { who: "alice".to_owned(), when: Timestamp::UNIX_EPOCH };
    let mut state = State::new(file(text), None, Changes::default(), Changes::default(), 1, None);
    assert_eq!(state.candidate_config, config);
    for order in orders.lines().take(16) {
        let next = match (order, port(order, '+'), port(order, '!')) {
            ("commit", ..) => {
                let merged = state.merged().expect("what was accepted can be committed");
                committed(&state, &merged);
                Ok(state.settled(file(&merged)))
            }
            ("reload", ..) => Ok(state.reloaded(|_| true)),
            (_, Some(name), _) => state.create(&name, &author),
            (_, _, Some(name)) => state.remove(&name, &author),
            _ if names(order).is_some() => {
                let (from, to) = names(order).expect("there are two");
                state.rename(&from, &to, &author, |_| None)
            }
            _ => match (order.strip_prefix("reload ").and_then(|name| name.parse().ok()), edit(order)) {
                (Some(name), _) => {
                    let next = state.reloaded(|scope| *scope == Scope::Port(PortName::clone(&name)));
                    // A reload of one port alone may leave it where two want the same.
                    if let Err(why) = fits(&next) {
                        assert!(!why.is_empty());
                        continue;
                    }
                    Ok(next)
                }
                (_, Some((path, new))) => state.set(path, new, &author),
                _ => continue,
            },
        };
        match next {
            Ok(next) => state = next,
            Err(refusal) => assert!(!refusal.to_string().is_empty()),
        }
        assert_eq!(state.conflicts(), [""; 0], "nobody else has edited");
    }
    let merged = state.merged().expect("what was accepted can be committed");
    committed(&state, &merged);
    if let Some(by_hand) = by_hand
        && candidate(by_hand).is_ok()
    {
        edited_in_between(&state.over(file(by_hand), None));
    }
}

/// Whether what runs and what would run can both be.
fn fits(state: &State) -> Result<(), String> {
    let running = state.running.apply(&state.committed.text).map_err(|error| error.to_string())?;
    candidate(&running)?;
    let next = state.candidate.apply_to_running(&running).map_err(|error| error.to_string())?;
    candidate(&next).map(drop)
}

fn committed(state: &State, merged: &str) {
    let config = candidate(merged).expect("a commit is a right configuration");
    assert_eq!(config, state.candidate_config, "just the candidate:\n{merged}");
    let settled = state.settled(Text { text: merged.to_owned(), ..state.committed.clone() });
    assert!(settled.pending().is_empty() && settled.candidate_config == config);
}

/// The file contains every change without a conflict: the pending changes, and the edits made by hand.
fn edited_in_between(state: &State) {
    if !state.conflicts().is_empty() {
        return;
    }
    let pending = state.pending();
    let Ok(merged) = state.merged() else { return };
    let tables: BTreeSet<Vec<String>> = pending.iter().map(|(path, _)| place(path)).collect();
    let concerns = |leaf: &Vec<String>| tables.iter().any(|table| leaf.starts_with(table));
    let rest = |text: &str| -> BTreeMap<_, _> {
        leaves(text).into_iter().filter(|(leaf, _)| !concerns(leaf)).collect()
    };
    assert_eq!(rest(&merged), rest(&state.committed.text), "what was written by hand stays:\n{merged}");
    for (path, change) in pending.iter().filter(|(path, _)| path.key.is_some()) {
        assert_eq!(stated(&merged, path), change.new, "{path}:\n{merged}");
    }
}
