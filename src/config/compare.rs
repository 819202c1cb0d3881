//! Compares two configurations key by key: what `check` and `diff` print.

use std::collections::{BTreeMap, BTreeSet};

use super::changes::{KeyPath, Scope};
use super::keys::{self, Key};
use super::{Config, Layer, Origin, Port, Value};
use crate::port::PortName;

/// A key, or a whole port, that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// `server.ssh_port`, `ports.core.baud`; `ports.core` for an added or removed port.
    pub key: String,
    /// The old value in TOML syntax; `None` if it has none.
    pub old: Option<String>,
    pub new: Option<String>,
    /// For a key of `[defaults]` or of a template, the ports that inherit it. They have no differences of
    /// their own for it.
    pub ports: Vec<PortName>,
}

/// In the order of the table of keys, ports last. An inherited change is reported once, with the ports that
/// inherit it.
pub fn differences(old: &Config, new: &Config) -> Vec<Difference> {
    let mut all = Vec::new();
    of_table("server", keys::SERVER, (&old.server, &new.server), &mut all);
    of_table("access", keys::ACCESS, (&old.access, &new.access), &mut all);
    for name in both(&old.port_groups, &new.port_groups) {
        let path = KeyPath { scope: Scope::Group(name.clone()), key: Some(keys::GROUP[0].name) };
        let printed = |config| path.effective(config).map(|value| value.to_string());
        let (was, is) = (printed(old), printed(new));
        if was != is {
            all.push(Difference { key: path.to_string(), old: was, new: is, ports: Vec::new() });
        }
    }
    of_layers((old, new), &mut all);
    let inherited = all.len();
    for name in both(&old.ports, &new.ports) {
        let table = format!("ports.{name}");
        match (old.ports.get(name), new.ports.get(name)) {
            (Some(was), Some(is)) => {
                let mut own = Vec::new();
                of_port(&table, (was, is), &mut own);
                for difference in own {
                    let key = difference.key[table.len() + 1..].to_owned();
                    match source((old, new), name, &key).and_then(|source| {
                        let line = format!("{source}.{key}");
                        all[..inherited].iter_mut().find(|inherited| covers(&inherited.key, &line))
                    }) {
                        Some(inherited) => inherited.ports.push(name.clone()),
                        None => all.push(difference),
                    }
                }
            }
            (was, is) => all.push(whole(table, "a port", (was.is_some(), is.is_some()))),
        }
    }
    for inherited in &mut all[..inherited] {
        // For a trigger rule that is added or removed, each of its keys.
        inherited.ports.dedup();
    }
    all
}

/// `[defaults]` and the templates.
fn of_layers((old, new): (&Config, &Config), to: &mut Vec<Difference>) {
    of_layer("defaults", (&old.defaults, &new.defaults), to);
    let none = Layer::default();
    for name in both(&old.templates, &new.templates) {
        let table = format!("templates.{name}");
        let (was, is) = (old.templates.get(name), new.templates.get(name));
        if was.is_some() != is.is_some() {
            to.push(whole(table.clone(), "a template", (was.is_some(), is.is_some())));
        }
        of_layer(&table, (was.unwrap_or(&none), is.unwrap_or(&none)), to);
    }
}

fn of_layer(table: &str, (old, new): (&Layer, &Layer), to: &mut Vec<Difference>) {
    let stated: Vec<(String, Value)> = old.stated().chain(new.stated()).collect();
    let mut seen = BTreeSet::new();
    for (key, _) in stated.iter().filter(|(key, _)| seen.insert(key.clone())) {
        let (was, is) = (old.get(key), new.get(key));
        if was != is {
            let printed = |value: Option<Value>| value.map(|value| value.to_string());
            let key = format!("{table}.{key}");
            to.push(Difference { key, old: printed(was), new: printed(is), ports: Vec::new() });
        }
    }
}

/// The table that a port takes a key from, if the change comes from there alone; `None` if the port's own
/// keys changed.
fn source((old, new): (&Config, &Config), port: &PortName, key: &str) -> Option<String> {
    let like = |config: &Config| config.ports.get(port)?.like.clone();
    if like(old) != like(new) {
        return None;
    }
    let table = |origin| match origin {
        Origin::Template(name) => Some(format!("templates.{name}")),
        Origin::Defaults => Some("defaults".to_owned()),
        Origin::Port | Origin::BuiltIn => None,
    };
    match (old.origin(port, key), new.origin(port, key)) {
        (Origin::Port, _) | (_, Origin::Port) => None,
        (template @ Origin::Template(_), _) | (_, template @ Origin::Template(_)) => table(template),
        (Origin::Defaults, _) | (_, Origin::Defaults) => Some("defaults".to_owned()),
        (Origin::BuiltIn, Origin::BuiltIn) => None,
    }
}

/// Whether the line of one key also reports another: itself, or a whole trigger rule for one of its keys.
fn covers(line: &str, key: &str) -> bool {
    line == key
        || line.strip_prefix(key).is_some_and(|rest| key.contains(".triggers.") && rest.starts_with('.'))
}

/// The keys of both maps.
fn both<'m, K: Ord, V>(one: &'m BTreeMap<K, V>, other: &'m BTreeMap<K, V>) -> BTreeSet<&'m K> {
    one.keys().chain(other.keys()).collect()
}

fn of_port(table: &str, (old, new): (&Port, &Port), to: &mut Vec<Difference>) {
    of_table(table, keys::PORT, (old, new), to);
    let names: BTreeSet<_> = old.triggers.keys().chain(new.triggers.keys()).collect();
    for name in names {
        let table = format!("{table}.triggers.{name}");
        match (old.triggers.get(name), new.triggers.get(name)) {
            (Some(old), Some(new)) => of_table(&table, keys::TRIGGER, (old, new), to),
            (was, is) => to.push(whole(table, "a trigger", (was.is_some(), is.is_some()))),
        }
    }
}

/// A table that is in one of the two only.
fn whole(key: String, what: &str, (was, is): (bool, bool)) -> Difference {
    let printed = |there: bool| there.then(|| what.to_owned());
    Difference { key, old: printed(was), new: printed(is), ports: Vec::new() }
}

fn of_table<T>(table: &str, keys: &'static [Key<T>], (old, new): (&T, &T), to: &mut Vec<Difference>) {
    let printed = |value: Option<Value>| value.map(|value| value.to_string());
    to.extend(keys.iter().filter_map(|key| {
        let (old, new) = (key.get(old), key.get(new));
        let key = format!("{table}.{}", key.name);
        (old != new).then(|| Difference { key, old: printed(old), new: printed(new), ports: Vec::new() })
    }));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::port::pattern::fold;

    #[test]
    fn each_key_that_differs_is_reported_and_an_added_or_removed_port_as_a_whole() {
        let config = |text: &str| Config::parse(text, Path::new("test.toml")).unwrap();
        let old = config("[ports.a]\nbaud = 9600\n[ports.b]\n[ports.c]\ndescription = \"x\"\n");
        let new = config(
            "[access]\nroot = \"no\"\n[defaults]\nparity = \"even\"\n[ports.a]\nbaud = 115200\n[ports.c]\n[ports.d]\n",
        );
        let lines: Vec<_> = differences(&old, &new)
            .into_iter()
            .map(|Difference { key, old, new, ports }| {
                let at = if ports.is_empty() { String::new() } else { format!(" at {}", fold(&ports)) };
                format!("{key} {} {}{at}", old.unwrap_or_default(), new.unwrap_or_default())
            })
            .collect();
        assert_eq!(
            lines,
            [
                "access.root \"key\" \"no\"",
                "defaults.parity  \"E\" at a,c",
                "ports.a.baud 9600 115200",
                "ports.b a port ",
                "ports.c.description \"x\" \"\"",
                "ports.d  a port",
            ]
        );
        assert_eq!(differences(&new, &new), []);
    }

    #[test]
    fn a_change_of_a_template_is_one_line_with_the_ports_that_inherit_it() {
        let config = |text: &str| Config::parse(text, Path::new("test.toml")).unwrap();
        let ports: String = (1..=48).map(|n| format!("[ports.p{n:02}]\nlike = \"t\"\n")).collect();
        let own = "[ports.own]\nlike = \"t\"\nbaud = 300\n[ports.moved]\n[ports.other]\n";
        let old = config(&format!("[groups]\ng = [\"own\"]\n[templates.t]\nbaud = 9600\n{ports}{own}"));
        let new = config(&format!(
            "[groups]\ng = [\"own\", \"p*\"]\n[templates.t]\nbaud = 115200\ntriggers.x.match = \"x\"\n{ports}{}",
            own.replace("[ports.moved]\n", "[ports.moved]\nlike = \"t\"\n"),
        ));
        let lines: Vec<_> = differences(&old, &new)
            .into_iter()
            .map(|Difference { key, old, new, ports }| {
                format!("{key} {} {} {}", old.unwrap_or_default(), new.unwrap_or_default(), fold(&ports))
            })
            .collect();
        assert_eq!(
            lines,
            [
                "groups.g [\"own\"] [\"own\", \"p*\"] ",
                "templates.t.baud 9600 115200 p[01-48]",
                "templates.t.triggers.x.match  \"x\" own,p[01-48]",
                "templates.t.triggers.x.cooldown  \"1m\" ",
                "templates.t.triggers.x.start  false ",
                "ports.moved.like  \"t\" ",
                "ports.moved.baud 9600 115200 ",
                "ports.moved.triggers.x  a trigger ",
            ]
        );
    }
}
