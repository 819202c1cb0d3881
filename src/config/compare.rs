//! What is different between two configurations, key by key: what a file that is checked would change.

use std::collections::BTreeSet;

use super::keys::{self, Key};
use super::{Config, Port, Value};

/// One key, or one port as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// `server.ssh_port`, `ports.core.baud`; `ports.core` for a port that is new or removed.
    pub key: String,
    /// Its value in the first one, as a file would say it; `None` where it has none.
    pub old: Option<String>,
    /// Its value in the second one.
    pub new: Option<String>,
}

/// In the order of the table of keys, ports last.
pub fn differences(old: &Config, new: &Config) -> Vec<Difference> {
    let mut all = Vec::new();
    of_table("server", keys::SERVER, (&old.server, &new.server), &mut all);
    of_table("access", keys::ACCESS, (&old.access, &new.access), &mut all);
    let names: BTreeSet<_> = old.ports.keys().chain(new.ports.keys()).collect();
    for name in names {
        let table = format!("ports.{name}");
        match (old.ports.get(name), new.ports.get(name)) {
            (Some(old), Some(new)) => of_port(&table, (old, new), &mut all),
            (was, is) => all.push(whole(table, "a port", (was.is_some(), is.is_some()))),
        }
    }
    all
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
    let said = |there: bool| there.then(|| what.to_owned());
    Difference { key, old: said(was), new: said(is) }
}

fn of_table<T>(table: &str, keys: &'static [Key<T>], (old, new): (&T, &T), to: &mut Vec<Difference>) {
    let said = |value: Option<Value>| value.map(|value| value.to_string());
    to.extend(keys.iter().filter_map(|key| {
        let (old, new) = (key.get(old), key.get(new));
        let key = format!("{table}.{}", key.name);
        (old != new).then(|| Difference { key, old: said(old), new: said(new) })
    }));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn each_key_that_differs_is_told_and_a_port_that_comes_or_goes_as_a_whole() {
        let config = |text: &str| Config::parse(text, Path::new("test.toml")).unwrap();
        let old = config("[ports.a]\nbaud = 9600\n[ports.b]\n[ports.c]\ndescription = \"x\"\n");
        let new = config(
            "[access]\nroot = \"no\"\n[defaults]\nparity = \"even\"\n[ports.a]\nbaud = 115200\n[ports.c]\n[ports.d]\n",
        );
        let told: Vec<_> = differences(&old, &new)
            .into_iter()
            .map(|Difference { key, old, new }| {
                format!("{key} {} {}", old.unwrap_or_default(), new.unwrap_or_default())
            })
            .collect();
        assert_eq!(
            told,
            [
                "access.root \"key\" \"no\"",
                "ports.a.baud 9600 115200",
                "ports.a.parity \"N\" \"E\"",
                "ports.b a port ",
                "ports.c.description \"x\" \"\"",
                "ports.c.parity \"N\" \"E\"",
                "ports.d  a port",
            ]
        );
        assert_eq!(differences(&new, &new), []);
    }
}
