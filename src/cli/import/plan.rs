//! What an import would do: ports with their keys, each with its place in the file, and what has no place here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ImportError;
use crate::cli::table::table;
use crate::cli::value;
use crate::config::changes::KeyPath;
use crate::config::{Config, Port, Server, Value, keys};
use crate::port::PortName;
use crate::session::plain;

/// Of one import. Together with their keys they stay below what may be pending (`MAX_CHANGES`).
pub const MAX_PORTS: usize = 256;
/// Characters of foreign words that are repeated in a sentence.
const SHOWN: usize = 60;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its name.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", plain(&self.file), self.line)
    }
}

/// A port that there would be.
#[derive(Debug)]
pub struct Draft {
    /// What it is called.
    pub name: PortName,
    /// Where it stands in the file.
    pub place: Place,
    /// Its keys.
    pub keys: BTreeMap<&'static str, (Value, Place)>,
}

/// What would be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// In the order of the file.
    pub ports: Vec<Draft>,
    /// Keys of `[server]`.
    pub server: BTreeMap<&'static str, (Value, Place)>,
    /// What is not carried over, in a sentence each. A default that many ports share is told once.
    left: BTreeSet<(Place, String)>,
}

/// A foreign word as it may be shown.
pub fn shown(word: &str) -> String {
    let mut shown = plain(&word.chars().take(SHOWN).collect::<String>());
    if word.chars().count() > SHOWN {
        shown.push('…');
    }
    shown
}

impl Plan {
    /// Something is not carried over.
    pub fn leave(&mut self, place: &Place, what: impl fmt::Display, why: impl fmt::Display) {
        self.left.insert((place.clone(), format!("{what}: {why}")));
    }

    /// A new port of about that name; `None` if it cannot be, which is said.
    pub fn port(&mut self, word: &str, place: &Place) -> Result<Option<Draft>, ImportError> {
        if self.ports.len() == MAX_PORTS {
            return Err(ImportError::TooMany(place.clone()));
        }
        let fit: String = word
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
            .skip_while(|c| matches!(c, '-' | '.'))
            .take(32)
            .collect();
        let name: PortName = match fit.parse() {
            Ok(name) => name,
            Err(error) => {
                self.leave(place, format_args!("port {:?}", shown(word)), error);
                return Ok(None);
            }
        };
        if let Some(other) = self.ports.iter().find(|port| port.name == name) {
            let why = format!("{name} is the port of {} already", other.place);
            self.leave(place, format_args!("port {:?}", shown(word)), why);
            return Ok(None);
        }
        if name.as_str() != word {
            self.leave(
                place,
                format_args!("name {:?}", shown(word)),
                format_args!("not possible here; it is {name}"),
            );
        }
        Ok(Some(Draft { name, place: place.clone(), keys: BTreeMap::new() }))
    }

    /// A key of a port takes a value, or it is said why not. `said` is how the file says it.
    pub fn set(&mut self, draft: &mut Draft, key: &'static str, new: Value, said: &str, place: &Place) {
        let known = keys::find(keys::PORT, key).expect("one of the table's keys");
        match known.put(&mut Port::default(), &new) {
            Ok(()) => drop(draft.keys.insert(key, (new, place.clone()))),
            Err(refused) => self.leave(place, shown(said), format_args!("{key}: {refused}")),
        }
    }

    /// The same of `[server]`.
    pub fn set_server(&mut self, key: &'static str, new: Value, said: &str, place: &Place) {
        let known = keys::find(keys::SERVER, key).expect("one of the table's keys");
        match known.put(&mut Server::default(), &new) {
            Ok(()) => drop(self.server.insert(key, (new, place.clone()))),
            Err(refused) => self.leave(place, shown(said), format_args!("server.{key}: {refused}")),
        }
    }

    /// Gives TCP ports to those that have none, from `first` up, but none that is taken.
    pub fn number(&mut self, first: u16, there: &Config) {
        let own = self.ports.iter().filter_map(|port| port.keys.get("ssh_port")?.0.as_integer());
        let others = there.ports.values().filter_map(|port| port.ssh_port).chain(there.server.ssh_port);
        let taken: BTreeSet<i64> = own.chain(others.map(i64::from)).collect();
        let mut free = (i64::from(first)..=u16::MAX.into()).filter(|port| !taken.contains(port));
        for port in &mut self.ports {
            let has = there.ports.get(&port.name).is_some_and(|port| port.ssh_port.is_some());
            if has || port.keys.contains_key("ssh_port") {
                continue;
            }
            // Past 65535 the rest stays without.
            let Some(tcp) = free.next() else { return };
            port.keys.insert("ssh_port", (Value::Integer(tcp), port.place.clone()));
        }
    }

    /// Takes out what cannot be beside what there is: a TCP port or a device that another one has. A port without its device
    /// is none.
    pub fn fit(&mut self, there: &Config) {
        let mut config = there.clone();
        for (key, (new, _)) in &self.server {
            put(keys::SERVER, &mut config.server, key, new);
        }
        for mut draft in std::mem::take(&mut self.ports) {
            let before = config.ports.get(&draft.name).cloned();
            let mut lost = false;
            for key in ["ssh_port", "device"] {
                config.ports.insert(draft.name.clone(), draft.over(before.clone()));
                let own = |path: &str| path == format!("{}.{key}", KeyPath::table(draft.name.clone()));
                let found = config.conflicts();
                let Some(conflict) = found.iter().find(|found| own(&found.key) || own(&found.other)) else {
                    continue;
                };
                let other = if own(&conflict.key) { &conflict.other } else { &conflict.key };
                let Some((value, place)) = draft.keys.remove(key) else { continue };
                let what = format!("{}: {key} {}", draft.name, shown(&value::text(&value)));
                self.leave(&place, what, format_args!("{other} has it; {}", conflict.shared));
                lost |= key == "device";
            }
            match (lost, before) {
                (false, before) => {
                    config.ports.insert(draft.name.clone(), draft.over(before));
                    self.ports.push(draft);
                    continue;
                }
                (true, Some(before)) => drop(config.ports.insert(draft.name.clone(), before)),
                (true, None) => drop(config.ports.remove(&draft.name)),
            }
            self.leave(&draft.place, format_args!("port {}", draft.name), "it would have no device");
        }
    }

    /// For people: the ports with their keys, then what is left.
    pub fn show(&self, there: &Config, to: &mut impl Write) -> io::Result<()> {
        if !self.server.is_empty() {
            writeln!(to, "server")?;
            rows(&self.server, to)?;
        }
        for draft in &self.ports {
            let changes = if there.ports.contains_key(&draft.name) { ", which is there" } else { "" };
            writeln!(to, "port {}{changes} ({})", draft.name, draft.place)?;
            rows(&draft.keys, to)?;
        }
        if !self.left.is_empty() {
            writeln!(to, "not carried over:")?;
        }
        for (place, what) in &self.left {
            writeln!(to, "{place}: {}", plain(what))?;
        }
        Ok(())
    }
}

impl Draft {
    /// The port, over what there is of it.
    fn over(&self, before: Option<Port>) -> Port {
        let mut port = before.unwrap_or_default();
        for (key, (new, _)) in &self.keys {
            put(keys::PORT, &mut port, key, new);
        }
        port
    }
}

fn put<T>(table: &'static [keys::Key<T>], into: &mut T, key: &str, new: &Value) {
    if let Some(key) = keys::find(table, key) {
        // It has taken the value before.
        let _ = key.put(into, new);
    }
}

fn rows(keys: &BTreeMap<&'static str, (Value, Place)>, to: &mut impl Write) -> io::Result<()> {
    let text = |value: &Value| match value::text(value) {
        text if text.is_empty() => "\"\"".to_owned(),
        text => text,
    };
    let rows: Vec<_> = keys.iter().map(|(key, (value, _))| [format!("    {key}"), text(value)]).collect();
    table(&rows, to)
}

/// Whether a path is the entry of that name in the directory of devices, so that it need not be said.
pub fn is_by_name(path: &Path, name: &PortName) -> bool {
    path == PathBuf::from("/dev").join(name.as_str())
}
