//! The result of reading a foreign configuration: ports with their keys and source lines, and what is not imported.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::error::{ImportError, SourceLine};
use crate::cli::table::table;
use crate::cli::value;
use crate::config::changes::KeyPath;
use crate::config::{Config, Port, Server, Value, keys};
use crate::port::PortName;
use crate::session::plain;

/// Ports of one import. With their keys they stay below the limit of uncommitted changes (`MAX_CHANGES`).
const MAX_PORTS: usize = 256;
/// Characters of a port's name.
const MAX_NAME: usize = 32;
/// Characters of foreign words that are quoted in messages.
const MAX_QUOTED: usize = 60;

#[derive(Debug)]
pub struct Draft {
    pub name: PortName,
    /// Where the file defines it.
    pub place: SourceLine,
    /// Its keys, each with its source line.
    pub keys: BTreeMap<&'static str, (Value, SourceLine)>,
    /// The file has a listener that is not possible here: `--first-port` must not open another one, which might accept more addresses.
    pub closed: bool,
    /// Whether the file sets the users of the port. Other users of an existing port of that name lose access.
    pub sets_users: bool,
}

#[derive(Debug, Default)]
pub struct Plan {
    /// In the order of the file.
    pub ports: Vec<Draft>,
    /// Keys of `[server]`.
    pub server: BTreeMap<&'static str, (Value, SourceLine)>,
    /// What is not imported, as sentences. A default that several ports share is reported once.
    left: BTreeSet<(SourceLine, String)>,
    devices: HashMap<String, (PortName, SourceLine)>,
}

/// A foreign word, shortened and made printable.
pub fn quoted(word: &str) -> String {
    // It may span several lines.
    let space = |c: char| if c.is_whitespace() { ' ' } else { c };
    let mut quoted = plain(&word.chars().take(MAX_QUOTED).map(space).collect::<String>());
    if word.chars().count() > MAX_QUOTED {
        quoted.push('…');
    }
    quoted
}

impl Plan {
    pub fn report(&mut self, place: &SourceLine, what: impl fmt::Display, why: impl fmt::Display) {
        self.left.insert((place.clone(), format!("{what}: {why}")));
    }

    /// Creates a port for a device, with a valid name similar to `word`; `None` if that is not possible, which is reported. A device has one
    /// port: the first.
    pub fn port(
        &mut self,
        word: &str,
        device: &str,
        place: &SourceLine,
    ) -> Result<Option<Draft>, ImportError> {
        self.port_on(word, "device", device, place)
    }

    /// Makes room for a console that is on: one that is off, on the same device, has no listener in its file and is left out.
    pub fn replace_off(&mut self, device: &str, place: &SourceLine) {
        let Some((other, _)) = self.devices.get(device) else { return };
        let is_off = |draft: &Draft| {
            draft.name == *other
                && draft.keys.get("enabled").is_some_and(|(on, _)| on.as_bool() == Some(false))
        };
        let Some(index) = self.ports.iter().position(is_off) else { return };
        let off = self.ports.remove(index);
        self.devices.remove(device);
        let why = format!("left out: off, and {} is the device of the one at {place}", quoted(device));
        self.report(&off.place, format_args!("port {}", off.name), why);
    }

    /// Adds a port on any far end: `key` is `device` or `source`. Several ports may have `source = "unit"`, since each has its own unit.
    pub(super) fn port_on(
        &mut self,
        word: &str,
        key: &'static str,
        device: &str,
        place: &SourceLine,
    ) -> Result<Option<Draft>, ImportError> {
        let title = format!("port {:?}", quoted(word));
        let Some(fit) = valid_name(word) else {
            let why = word.parse::<PortName>().map_or_else(|error| error.to_string(), |_| String::new());
            self.report(place, title, why);
            return Ok(None);
        };
        if let Some((other, at)) = self.devices.get(device) {
            let why = format!("{} is already the device of port {other} ({at})", quoted(device));
            self.report(place, title, why);
            return Ok(None);
        }
        if self.ports.len() == MAX_PORTS {
            return Err(ImportError::TooMany(place.clone(), MAX_PORTS));
        }
        let mut draft = Draft {
            name: self.free(fit.clone()),
            place: place.clone(),
            keys: BTreeMap::new(),
            closed: false,
            sets_users: false,
        };
        if key != "device" || !is_by_name(device.as_ref(), &draft.name) {
            self.set(&mut draft, key, device.into(), &format!("{key} {device}"), place);
            if !draft.keys.contains_key(key) {
                self.report(place, title, "it has no device");
                return Ok(None);
            }
        }
        if device != "unit" {
            self.devices.insert(device.to_owned(), (draft.name.clone(), place.clone()));
        }
        if draft.name.as_str() != word {
            let cause = if fit.as_str() == word { "another port has this name" } else { "invalid here" };
            let why = format!("{cause}; renamed to {}", draft.name);
            self.report(place, format_args!("name {:?}", quoted(word)), why);
        }
        Ok(Some(draft))
    }

    /// The name, or with a number if another port has it: long names may be equal after they are truncated.
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

    /// Sets a key of a port; a value that the key rejects is reported. `original` is the text in the file.
    pub fn set(
        &mut self,
        draft: &mut Draft,
        key: &'static str,
        new: Value,
        original: &str,
        place: &SourceLine,
    ) {
        let known = keys::find(keys::PORT, key).expect("a key of the table");
        match known.put(&mut Port::default(), &new) {
            Ok(()) => drop(draft.keys.insert(key, (new, place.clone()))),
            Err(refused) => self.report(place, quoted(original), format_args!("{key}: {refused}")),
        }
    }

    /// Sets a key of `[server]`.
    pub fn set_server(&mut self, key: &'static str, new: Value, original: &str, place: &SourceLine) {
        let known = keys::find(keys::SERVER, key).expect("a key of the table");
        match known.put(&mut Server::default(), &new) {
            Ok(()) => drop(self.server.insert(key, (new, place.clone()))),
            Err(refused) => self.report(place, quoted(original), format_args!("server.{key}: {refused}")),
        }
    }

    pub fn accepts(key: &str, new: &Value) -> bool {
        keys::find(keys::PORT, key).is_some_and(|known| known.put(&mut Port::default(), new).is_ok())
    }

    /// Assigns free TCP ports, from `first` up, to ports without one.
    pub fn number(&mut self, first: u16, existing: &Config) {
        let mut taken: BTreeSet<u16> = existing.server.ssh_port.into_iter().collect();
        existing.ports.values().for_each(|port| taken.extend(port.tcp_ports()));
        self.ports.iter().for_each(|draft| taken.extend(draft.over(None).tcp_ports()));
        let mut free = (first..=u16::MAX).filter(|port| !taken.contains(port));
        for port in &mut self.ports {
            let has = existing.ports.get(&port.name).is_some_and(|port| port.ssh_port.is_some());
            if has || port.closed || port.keys.contains_key("ssh_port") {
                continue;
            }
            // After 65535 the remaining ports get none.
            let Some(tcp) = free.next() else { return };
            port.keys.insert("ssh_port", (Value::Integer(tcp.into()), port.place.clone()));
        }
    }

    /// Removes conflicts with the existing configuration: a TCP port or device of another port. A port that loses its device is left out.
    pub fn resolve_conflicts(&mut self, existing: &Config) {
        let mut config = existing.clone();
        for (key, (new, _)) in &self.server {
            put(keys::SERVER, &mut config.server, key, new);
        }
        for mut draft in std::mem::take(&mut self.ports) {
            let before = config.ports.get(&draft.name).cloned();
            draft.revoke(before.as_ref());
            let mut lost = false;
            for key in ["ssh_port", "raw", "rfc2217", "device"] {
                config.ports.insert(draft.name.clone(), draft.over(before.clone()));
                let own = |path: &str| path == format!("{}.{key}", KeyPath::table(draft.name.clone()));
                let found = config.conflicts();
                let Some(conflict) = found.iter().find(|found| own(&found.key) || own(&found.other)) else {
                    continue;
                };
                let other = if own(&conflict.key) { &conflict.other } else { &conflict.key };
                let Some((value, place)) = draft.keys.remove(key) else { continue };
                let what = format!("{}: {key} {}", draft.name, quoted(&value::text(&value)));
                self.report(&place, what, format_args!("used by {other}; {}", conflict.shared));
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
            self.report(&draft.place, format_args!("port {}", draft.name), "it has no device");
        }
    }

    /// Prints the ports with their keys, then what is not imported.
    pub fn show(&self, existing: &Config, to: &mut impl Write) -> io::Result<()> {
        if !self.server.is_empty() {
            writeln!(to, "server")?;
            rows(&self.server, to)?;
        }
        for draft in &self.ports {
            let changes = if existing.ports.contains_key(&draft.name) { ", which exists" } else { "" };
            writeln!(to, "port {}{changes} ({})", draft.name, draft.place)?;
            rows(&draft.keys, to)?;
        }
        if !self.left.is_empty() {
            writeln!(to, "not imported:")?;
        }
        for (place, what) in &self.left {
            writeln!(to, "{place}: {}", plain(what))?;
        }
        let has = |draft: &Draft| {
            draft.keys.contains_key("ssh_port")
                || existing.ports.get(&draft.name).is_some_and(|port| port.ssh_port.is_some())
        };
        let without = |closed: bool| {
            let names = self.ports.iter().filter(|draft| draft.closed == closed && !has(draft));
            names.map(|draft| draft.name.as_str()).collect::<Vec<_>>().join(" ")
        };
        let (open, closed) = (without(false), without(true));
        if !open.is_empty() {
            writeln!(to, "no SSH port: {open} (--first-port N assigns free ones, starting at N)")?;
        }
        if !closed.is_empty() {
            writeln!(
                to,
                "no listener, to keep access as narrow as in the file: {closed} (set ssh_port and listen)"
            )?;
        }
        Ok(())
    }
}

impl Draft {
    /// The port, merged into the existing one.
    fn over(&self, before: Option<Port>) -> Port {
        let mut port = before.unwrap_or_default();
        for (key, (new, _)) in &self.keys {
            put(keys::PORT, &mut port, key, new);
        }
        port
    }

    /// Clears the lists of users and groups of an existing port that the file does not set.
    fn revoke(&mut self, before: Option<&Port>) {
        let Some(before) = before.filter(|_| self.sets_users) else { return };
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

/// A port name made of a foreign word: invalid characters become `-`.
fn valid_name(word: &str) -> Option<PortName> {
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
        // The key has accepted the value before.
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

/// Whether a path is the default device of a port of that name.
pub fn is_by_name(path: &Path, name: &PortName) -> bool {
    path == PathBuf::from("/dev").join(name.as_str())
}
