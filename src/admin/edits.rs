//! What is done to the candidate: keys set and unset, ports made and taken out. Pure: each makes another [`State`], or a refusal.

use std::path::Path;

use super::state::{Author, Last, MAX_TEXT, Refusal, State, is_anew};
use crate::config::Value;
use crate::config::changes::{self, Change, Changes, KeyPath, MAX_CHANGES, Scope, stated};
use crate::port::PortName;

impl State {
    /// A key takes a value, or with none its default.
    pub fn set(&self, path: KeyPath, new: Option<Value>, author: &Author) -> Result<Self, Refusal> {
        self.is_right()?;
        let mut candidate = self.candidate.clone();
        let key = path.to_string();
        self.put(&mut candidate, path, new, author)?;
        self.with(candidate, key, author)
    }

    /// A new port.
    pub fn create(&self, name: &PortName, author: &Author) -> Result<Self, Refusal> {
        let mut candidate = self.candidate.clone();
        let key = self.make(&mut candidate, name, author)?;
        self.with(candidate, key, author)
    }

    /// New ports, and keys that take values: all of it or nothing, and judged as a whole.
    pub fn set_many(
        &self,
        ports: &[PortName],
        values: Vec<(KeyPath, Value)>,
        author: &Author,
    ) -> Result<Self, Refusal> {
        self.is_right()?;
        if ports.len() + values.len() > MAX_CHANGES {
            return Err(Refusal::TooMany);
        }
        let mut candidate = self.candidate.clone();
        let mut last = None;
        for name in ports {
            last = Some(self.make(&mut candidate, name, author)?);
        }
        for (path, value) in values {
            last = Some(path.to_string());
            self.put(&mut candidate, path, Some(value), author)?;
        }
        last.map_or_else(|| Ok(self.clone()), |key| self.with(candidate, key, author))
    }

    fn put(
        &self,
        candidate: &mut Changes,
        path: KeyPath,
        new: Option<Value>,
        author: &Author,
    ) -> Result<(), Refusal> {
        if let Some(name) = path.scope.port()
            && !self.candidate_config.ports.contains_key(name)
            && !is_made(candidate, name)
            && !is_anew(candidate, &path.scope)
        {
            return Err(Refusal::NoPort(name.clone()));
        }
        let new = match new {
            None => None,
            Some(value) => Some(path.check(&value).map_err(|refused| Refusal::Value {
                key: path.to_string(),
                value: value.to_string(),
                reason: refused.reason,
            })?),
        };
        // What runs may have it under another name, and what is committed under a third one.
        let below = candidate.origin(&path);
        let old = stated(&self.committed.text, &self.running.origin(&below));
        // A port that is made anew has none of what is committed.
        let anew = is_anew(candidate, &path.scope) || is_anew(&self.running, &below.scope);
        let stale = self.running.get(&below).is_some_and(|change| change.old != old);
        if path.key.is_none() {
            candidate.forget_table(&path.scope);
        }
        match !anew && !stale && stated(&self.running_text, &below) == new {
            true => drop(candidate.remove(&path)),
            false => candidate.insert(path, change(author, old, new)),
        }
        Ok(())
    }

    fn make(&self, candidate: &mut Changes, name: &PortName, author: &Author) -> Result<String, Refusal> {
        let path = KeyPath::table(name.clone());
        if self.candidate_config.ports.contains_key(name) || is_made(candidate, name) {
            return Err(Refusal::IsThere(name.clone()));
        }
        let old = stated(&self.committed.text, &path);
        candidate.forget_table(&path.scope);
        let key = path.to_string();
        candidate.insert(path, change(author, old, Some(Value::Table(toml::Table::new()))));
        Ok(key)
    }

    /// A port is taken out.
    pub fn remove(&self, name: &PortName, author: &Author) -> Result<Self, Refusal> {
        self.is_right()?;
        if !self.candidate_config.ports.contains_key(name) {
            return Err(Refusal::NoPort(name.clone()));
        }
        let path = KeyPath::table(name.clone());
        let old = stated(&self.committed.text, &path);
        let mut candidate = self.candidate.clone();
        candidate.forget_table(&path.scope);
        // Of one that was never reloaded nothing is left to say.
        if stated(&self.running_text, &path).is_some() {
            candidate.insert(path.clone(), change(author, old, None));
        }
        self.with(candidate, path.to_string(), author)
    }

    /// A port has another name, and keeps all that it is: its device too, if it had none but the tty of its name. `leads` tells which tty
    /// a path leads to.
    pub fn rename(
        &self,
        from: &PortName,
        to: &PortName,
        author: &Author,
        leads: impl Fn(&Path) -> Option<u64>,
    ) -> Result<Self, Refusal> {
        self.is_right()?;
        let ports = &self.candidate_config.ports;
        let Some(port) = ports.get(from) else { return Err(Refusal::NoPort(from.clone())) };
        if from == to {
            return Err(Refusal::SameName(from.clone()));
        }
        if ports.contains_key(to) {
            return Err(Refusal::IsThere(to.clone()));
        }
        let runs_as = self.candidate.renames().get(from).unwrap_or(from).clone();
        if runs_as != *to && self.running_config.ports.contains_key(to) {
            return Err(Refusal::InUse(to.clone()));
        }
        let device = self.candidate_config.device(from, port);
        let of_name = self.candidate_config.server.monitor.join(to.as_str());
        if device != of_name && leads(&of_name).is_some_and(|tty| leads(&device) != Some(tty)) {
            return Err(Refusal::TtyName(to.clone(), from.clone(), of_name));
        }
        let mut candidate = self.candidate.clone();
        let (old, new) = (KeyPath::table(from.clone()), KeyPath::table(to.clone()));
        let before = candidate.rename(from, to);
        candidate.remove(&new);
        let made = |table| change(author, stated(&self.committed.text, &new), Some(table));
        match before.as_ref().and_then(|before| Some((before.new.clone()?, before.renamed_from()))) {
            // Called again as it runs.
            Some((_, Some(source))) if source == *to => {}
            // Not reloaded yet.
            Some((table, _)) => candidate.insert(new.clone(), made(table)),
            None => candidate.insert(new.clone(), made(changes::renamed(from))),
        }
        if self.running_config.ports.contains_key(from) {
            candidate.insert(old.clone(), change(author, stated(&self.committed.text, &old), None));
        }
        let key = KeyPath { scope: Scope::Port(to.clone()), key: Some("device") };
        let is_named = device == of_name;
        match port.device {
            Some(_) if is_named && is_ours(&candidate, &self.running, &key) => {
                self.put(&mut candidate, key, None, author)?;
            }
            Some(_) => {}
            None if is_named => {}
            None => {
                let device = device.to_string_lossy().into_owned();
                self.put(&mut candidate, key, Some(device.into()), author)?;
            }
        }
        self.with(candidate, new.to_string(), author)
    }

    /// A new port with what `from` says itself, but its listener's TCP port and its device, which are of one port only.
    pub fn copy(&self, from: &PortName, to: &PortName, author: &Author) -> Result<Self, Refusal> {
        self.is_right()?;
        let mut candidate = self.candidate.clone();
        let text = candidate
            .apply_to_running(&self.running_text)
            .map_err(|error| Refusal::Whole(error.to_string()))?;
        if !self.candidate_config.ports.contains_key(from) {
            return Err(Refusal::NoPort(from.clone()));
        }
        let key = self.make(&mut candidate, to, author)?;
        for (path, value) in changes::keys_of(&text, from) {
            if !matches!(path.key, Some("ssh_port" | "device")) {
                self.put(&mut candidate, path.at(to), Some(value), author)?;
            }
        }
        self.with(candidate, key, author)
    }

    /// Nothing is changed while the committed file is wrong: whatever is said of it would be said of another one.
    fn is_right(&self) -> Result<(), Refusal> {
        match &self.fault {
            Some(fault) => Err(Refusal::Committed(fault.clone())),
            None => Ok(()),
        }
    }

    fn with(&self, candidate: Changes, key: String, author: &Author) -> Result<Self, Refusal> {
        self.is_right()?;
        let text = candidate
            .apply_to_running(&self.running_text)
            .map_err(|error| Refusal::Whole(error.to_string()))?;
        changes::candidate(&text).map_err(Refusal::Whole)?;
        let last = Last { key, who: author.who.clone(), when: author.when };
        let next = Self::new(
            self.committed.clone(),
            None,
            self.running.clone(),
            candidate,
            self.revision + 1,
            Some(last),
        )
        .with_instances(self.instances.clone());
        let all = next.pending();
        let bytes = all.to_running(&self.instances).map_or(usize::MAX, |text| text.len());
        if all.len() > MAX_CHANGES || bytes > MAX_TEXT { Err(Refusal::TooMany) } else { Ok(next) }
    }
}

/// Whether a port is there by these changes.
fn is_made(candidate: &Changes, name: &PortName) -> bool {
    candidate.get(&KeyPath::table(name.clone())).is_some_and(|change| change.new.is_some())
}

/// Whether a key that is in no file was set here, or runs so.
fn is_ours(candidate: &Changes, running: &Changes, key: &KeyPath) -> bool {
    let change = candidate.get(key).or_else(|| running.get(&candidate.origin(key)));
    change.is_some_and(|change| change.old.is_none())
}

fn change(author: &Author, old: Option<Value>, new: Option<Value>) -> Change {
    Change { who: author.who.clone(), when: author.when, old, new }
}
