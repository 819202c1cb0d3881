//! What an import would do: ports with their keys, each with its place in the file, and what has no place
//! here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
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
/// Characters of a port's name.
const MAX_NAME: usize = 32;
/// Characters of foreign words that are repeated in a sentence.
const SHOWN: usize = 60;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceLine {
    /// Its name.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for SourceLine {
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
    pub place: SourceLine,
    /// Its keys.
    pub keys: BTreeMap<&'static str, (Value, SourceLine)>,
    /// Its listener in the file cannot be had here: `--first-port` must not open another one, which might be
    /// reached from more addresses.
    pub closed: bool,
    /// The file says who may use it. What an existing port of that name admits beside them is revoked.
    pub says_who: bool,
}

/// What would be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// In the order of the file.
    pub ports: Vec<Draft>,
    /// Keys of `[server]`.
    pub server: BTreeMap<&'static str, (Value, SourceLine)>,
    /// What is not carried over, in a sentence each. A default that many ports share is told once.
    left: BTreeSet<(SourceLine, String)>,
    /// Devices that have a port.
    devices: HashMap<String, (PortName, SourceLine)>,
}

/// A foreign word as it may be shown.
pub fn shown(word: &str) -> String {
    // It may go over several lines of its file.
    let space = |c: char| if c.is_whitespace() { ' ' } else { c };
    let mut shown = plain(&word.chars().take(SHOWN).map(space).collect::<String>());
    if word.chars().count() > SHOWN {
        shown.push('…');
    }
    shown
}

impl Plan {
    /// Something is not carried over.
    pub fn leave(&mut self, place: &SourceLine, what: impl fmt::Display, why: impl fmt::Display) {
        self.left.insert((place.clone(), format!("{what}: {why}")));
    }

    /// A new port of about that name for a device; `None` if it cannot be, which is reported. A device has
    /// one port: the first.
    pub fn port(
        &mut self,
        word: &str,
        device: &str,
        place: &SourceLine,
    ) -> Result<Option<Draft>, ImportError> {
        let title = format!("port {:?}", shown(word));
        let Some(fit) = fitting(word) else {
            let why = word.parse::<PortName>().map_or_else(|error| error.to_string(), |_| String::new());
            self.leave(place, title, why);
            return Ok(None);
        };
        if let Some((other, at)) = self.devices.get(device) {
            let why =
                format!("{} is the device of port {other} ({at}); a device has one port", shown(device));
            self.leave(place, title, why);
            return Ok(None);
        }
        if self.ports.len() == MAX_PORTS {
            return Err(ImportError::TooMany(place.clone()));
        }
        let mut draft = Draft {
            name: self.free(fit),
            place: place.clone(),
            keys: BTreeMap::new(),
            closed: false,
            says_who: false,
        };
        if !is_by_name(device.as_ref(), &draft.name) {
            self.set(&mut draft, "device", device.into(), &format!("device {device}"), place);
            if !draft.keys.contains_key("device") {
                self.leave(place, title, "it would have no device");
                return Ok(None);
            }
        }
        self.devices.insert(device.to_owned(), (draft.name.clone(), place.clone()));
        if draft.name.as_str() != word {
            let why = format!("not possible here; it is {}", draft.name);
            self.leave(place, format_args!("name {:?}", shown(word)), why);
        }
        Ok(Some(draft))
    }

    /// The name, or one like it that no other port has: long names of adapters may differ only where they are
    /// cut.
    fn free(&self, name: PortName) -> PortName {
        let taken = |name: &PortName| self.ports.iter().any(|port| port.name == *name);
        if !taken(&name) {
            return name;
        }
        (2..=MAX_PORTS + 1)
            .filter_map(|number| {
                let end = format!("-{number}");
                let begin = name.as_str().get(..MAX_NAME - end.len()).unwrap_or(name.as_str());
                format!("{begin}{end}").parse().ok()
            })
            .find(|other| !taken(other))
            .unwrap_or(name)
    }

    /// A key of a port takes a value, or it is said why not. `said` is how the file says it.
    pub fn set(&mut self, draft: &mut Draft, key: &'static str, new: Value, said: &str, place: &SourceLine) {
        let known = keys::find(keys::PORT, key).expect("one of the table's keys");
        match known.put(&mut Port::default(), &new) {
            Ok(()) => drop(draft.keys.insert(key, (new, place.clone()))),
            Err(refused) => self.leave(place, shown(said), format_args!("{key}: {refused}")),
        }
    }

    /// The same of `[server]`.
    pub fn set_server(&mut self, key: &'static str, new: Value, said: &str, place: &SourceLine) {
        let known = keys::find(keys::SERVER, key).expect("one of the table's keys");
        match known.put(&mut Server::default(), &new) {
            Ok(()) => drop(self.server.insert(key, (new, place.clone()))),
            Err(refused) => self.leave(place, shown(said), format_args!("server.{key}: {refused}")),
        }
    }

    /// Whether a key of a port would take the value.
    pub fn takes(key: &str, new: &Value) -> bool {
        keys::find(keys::PORT, key).is_some_and(|known| known.put(&mut Port::default(), new).is_ok())
    }

    /// Gives TCP ports to those that have none, from `first` up, but none that is taken.
    pub fn number(&mut self, first: u16, there: &Config) {
        let own = self.ports.iter().filter_map(|port| port.keys.get("ssh_port")?.0.as_integer());
        let others = there.ports.values().filter_map(|port| port.ssh_port).chain(there.server.ssh_port);
        let taken: BTreeSet<i64> = own.chain(others.map(i64::from)).collect();
        let mut free = (i64::from(first)..=u16::MAX.into()).filter(|port| !taken.contains(port));
        for port in &mut self.ports {
            let has = there.ports.get(&port.name).is_some_and(|port| port.ssh_port.is_some());
            if has || port.closed || port.keys.contains_key("ssh_port") {
                continue;
            }
            // Past 65535 the rest stays without.
            let Some(tcp) = free.next() else { return };
            port.keys.insert("ssh_port", (Value::Integer(tcp), port.place.clone()));
        }
    }

    /// Takes out what cannot be beside what there is: a TCP port or a device that another one has. A port
    /// without its device is none.
    pub fn fit(&mut self, there: &Config) {
        let mut config = there.clone();
        for (key, (new, _)) in &self.server {
            put(keys::SERVER, &mut config.server, key, new);
        }
        for mut draft in std::mem::take(&mut self.ports) {
            let before = config.ports.get(&draft.name).cloned();
            draft.revoke(before.as_ref());
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
        let has = |draft: &Draft| {
            draft.keys.contains_key("ssh_port")
                || there.ports.get(&draft.name).is_some_and(|port| port.ssh_port.is_some())
        };
        let without = |closed: bool| {
            let names = self.ports.iter().filter(|draft| draft.closed == closed && !has(draft));
            names.map(|draft| draft.name.as_str()).collect::<Vec<_>>().join(" ")
        };
        let (open, closed) = (without(false), without(true));
        if !open.is_empty() {
            writeln!(
                to,
                "no TCP port, so no listener: {open} (--first-port N gives each a free one from N up)"
            )?;
        }
        if !closed.is_empty() {
            writeln!(
                to,
                "no listener, so that none is wider than in the file: {closed} (set ssh_port and listen)"
            )?;
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

    /// Empties the lists of users and groups of an existing port that the file does not name.
    fn revoke(&mut self, before: Option<&Port>) {
        let Some(before) = before.filter(|_| self.says_who) else { return };
        let nobody = || (Value::Array(Vec::new()), self.place.clone());
        if !before.users.is_empty() && !self.keys.contains_key("users") {
            let nobody = nobody();
            self.keys.insert("users", nobody);
        }
        if before.read_only_groups != Port::default().read_only_groups
            && !self.keys.contains_key("read_only_groups")
        {
            let nobody = nobody();
            self.keys.insert("read_only_groups", nobody);
        }
    }
}

/// A port's name, made of a foreign word: what is not possible in it becomes `-`.
fn fitting(word: &str) -> Option<PortName> {
    let fit: String = word
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .skip_while(|c| matches!(c, '-' | '.'))
        .take(MAX_NAME)
        .collect();
    fit.parse().ok()
}

fn put<T>(table: &'static [keys::Key<T>], into: &mut T, key: &str, new: &Value) {
    if let Some(key) = keys::find(table, key) {
        // It has taken the value before.
        let _ = key.put(into, new);
    }
}

fn rows(keys: &BTreeMap<&'static str, (Value, SourceLine)>, to: &mut impl Write) -> io::Result<()> {
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
