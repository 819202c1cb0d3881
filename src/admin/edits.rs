//! Edits of the candidate: keys are set and unset, ports created, renamed and removed. Pure: each returns a
//! new [`State`] or rejects the edit.

use std::path::Path;

use super::state::{Author, Last, MAX_TEXT, Rejected, State, is_again};
use crate::config::changes::{self, Change, Changes, KeyPath, MAX_CHANGES, Scope, stated};
use crate::config::{TemplateName, Value, keys};
use crate::port::PortName;
use crate::port::nearest::no_port;

impl State {
    /// The error for an unknown port; for a renamed one, with its new name.
    fn no_port(&self, name: &PortName) -> Rejected {
        let renames = self.pending().renames();
        Rejected::NoPort(match renames.iter().find(|(_, from)| *from == name) {
            Some((to, _)) => {
                format!("{name} is renamed to {to} by an uncommitted change: use that name")
            }
            None => no_port(name.as_str(), self.candidate_config.ports.keys()),
        })
    }

    /// Sets a key; `None` restores its default.
    pub fn set(&self, path: KeyPath, new: Option<Value>, author: &Author) -> Result<Self, Rejected> {
        self.change(&[], vec![(path, new)], author)
    }

    pub fn create(&self, name: &PortName, author: &Author) -> Result<Self, Rejected> {
        self.change(std::slice::from_ref(name), Vec::new(), author)
    }

    /// Creates ports and sets keys, or with `None` restores their defaults, all or none; only the result must be valid.
    pub fn change(
        &self,
        made: &[PortName],
        keys: Vec<(KeyPath, Option<Value>)>,
        author: &Author,
    ) -> Result<Self, Rejected> {
        self.check_committed()?;
        if made.len() + keys.iter().filter(|(_, new)| new.is_some()).count() > MAX_CHANGES {
            return Err(Rejected::TooMany);
        }
        let mut candidate = self.candidate.clone();
        let mut last = None;
        for name in made {
            last = Some(self.make(&mut candidate, name, author)?);
        }
        for (path, new) in keys {
            last = Some(path.to_string());
            self.put(&mut candidate, path, new, author)?;
        }
        last.map_or_else(|| Ok(self.clone()), |key| self.with_candidate(candidate, key, author))
    }

    fn put(
        &self,
        candidate: &mut Changes,
        path: KeyPath,
        new: Option<Value>,
        author: &Author,
    ) -> Result<(), Rejected> {
        if let Some(name) = path.scope.port()
            && !self.candidate_config.ports.contains_key(name)
            && !is_made(candidate, name)
            && !self.is_left(candidate, name)
            && !is_again(candidate, &path.scope)
        {
            return Err(self.no_port(name));
        }
        if let (Scope::Template(name), None, None) = (&path.scope, path.key, &new) {
            self.check_unused(name)?;
        }
        if let (Scope::Group(name), None) = (&path.scope, &new)
            && !self.candidate_config.port_groups.contains_key(name)
        {
            return Err(Rejected::NoGroup(name.clone()));
        }
        let new = match new {
            None => None,
            Some(value) => Some(path.check(&value).map_err(|refused| Rejected::Value {
                key: path.to_string(),
                value: value.to_string(),
                reason: refused.reason,
            })?),
        };
        // The key may be under different port names in the running and in the committed configuration.
        let below = candidate.origin(&path);
        let old = stated(&self.committed.text, &self.running.origin(&below));
        // A port that is created again starts empty.
        let again = is_again(candidate, &path.scope) || is_again(&self.running, &below.scope);
        let stale = self.running.get(&below).is_some_and(|change| change.old != old);
        if path.key.is_none() {
            candidate.forget_table(&path.scope);
        }
        match !again && !stale && stated(&self.running_text, &below) == new {
            true => drop(candidate.remove(&path)),
            false => candidate.insert(path, change(author, old, new)),
        }
        Ok(())
    }

    /// Rejects the removal of a template that ports use, since their settings would change.
    fn check_unused(&self, template: &TemplateName) -> Result<(), Rejected> {
        const MAX_LISTED_PORTS: usize = 4;
        if !self.candidate_config.templates.contains_key(template) {
            return Err(Rejected::NoTemplate(template.clone()));
        }
        let names: Vec<_> = self.candidate_config.like(template).map(ToString::to_string).collect();
        let ports = match names.split_at_checked(MAX_LISTED_PORTS) {
            _ if names.is_empty() => return Ok(()),
            Some((first, more)) if !more.is_empty() => {
                format!("{} and {} more", first.join(", "), more.len())
            }
            _ => names.join(", "),
        };
        Err(Rejected::TemplateInUse { template: template.clone(), ports })
    }

    /// Whether a port runs that these changes do not rename or remove.
    fn is_left(&self, candidate: &Changes, name: &PortName) -> bool {
        self.running_config.ports.contains_key(name) && candidate.get(&KeyPath::table(name.clone())).is_none()
    }

    fn make(&self, candidate: &mut Changes, name: &PortName, author: &Author) -> Result<String, Rejected> {
        let path = KeyPath::table(name.clone());
        if self.candidate_config.ports.contains_key(name) || is_made(candidate, name) {
            return Err(Rejected::IsThere(name.clone()));
        }
        let old = stated(&self.committed.text, &path);
        candidate.forget_table(&path.scope);
        let key = path.to_string();
        candidate.insert(path, change(author, old, Some(Value::Table(toml::Table::new()))));
        Ok(key)
    }

    pub fn remove(&self, name: &PortName, author: &Author) -> Result<Self, Rejected> {
        self.remove_many(std::slice::from_ref(name), author)
    }

    /// Removes ports, all or none.
    pub fn remove_many(&self, names: &[PortName], author: &Author) -> Result<Self, Rejected> {
        self.check_committed()?;
        let mut candidate = self.candidate.clone();
        let mut last = None;
        for name in names {
            if !self.candidate_config.ports.contains_key(name) {
                return Err(self.no_port(name));
            }
            let path = KeyPath::table(name.clone());
            let old = stated(&self.committed.text, &path);
            let renamed_from = candidate.get(&path).and_then(changes::Change::renamed_from);
            candidate.forget_table(&path.scope);
            last = Some(path.to_string());
            // A renamed port is removed under both names, by the caller.
            if let Some(from) = renamed_from.map(KeyPath::table).filter(|from| {
                // Unless the old name belongs to a new port.
                candidate.get(from).is_some_and(|change| change.new.is_none())
            }) {
                let old = stated(&self.committed.text, &from);
                candidate.insert(from, change(author, old, None));
            }
            // A port that was never reloaded leaves no change.
            if stated(&self.running_text, &path).is_some() {
                candidate.insert(path, change(author, old, None));
            }
        }
        last.map_or_else(|| Ok(self.clone()), |key| self.with_candidate(candidate, key, author))
    }

    /// Renames a port. All its settings stay; if its device was the tty of its name, `device` is set to it.
    /// `leads` returns the tty that a path leads to.
    pub fn rename(
        &self,
        from: &PortName,
        to: &PortName,
        author: &Author,
        leads: impl Fn(&Path) -> Option<u64>,
    ) -> Result<Self, Rejected> {
        self.check_committed()?;
        let ports = &self.candidate_config.ports;
        let Some(port) = ports.get(from) else {
            return Err(self.no_port(from));
        };
        if from == to {
            return Err(Rejected::SameName(from.clone()));
        }
        if ports.contains_key(to) {
            return Err(Rejected::IsThere(to.clone()));
        }
        let runs_as = self.candidate.renames().get(from).unwrap_or(from).clone();
        if runs_as != *to && self.running_config.ports.contains_key(to) {
            return Err(Rejected::InUse(to.clone()));
        }
        let device = self.candidate_config.device(from, port);
        let of_name = self.candidate_config.server.monitor.join(to.as_str());
        if device != of_name && leads(&of_name).is_some_and(|tty| leads(&device) != Some(tty)) {
            return Err(Rejected::TtyName(to.clone(), from.clone(), of_name));
        }
        let mut candidate = self.candidate.clone();
        let (old, new) = (KeyPath::table(from.clone()), KeyPath::table(to.clone()));
        let before = candidate.rename(from, to);
        candidate.remove(&new);
        let made = |table| change(author, stated(&self.committed.text, &new), Some(table));
        match before.as_ref().and_then(|before| Some((before.new.clone()?, before.renamed_from()))) {
            // Renamed back to its running name.
            Some((_, Some(source))) if source == *to => {}
            // Created and not reloaded.
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
        self.rename_members(&mut candidate, from, to, author)?;
        self.with_candidate(candidate, new.to_string(), author)
    }

    /// Replaces the port's name in the groups of ports that list it.
    fn rename_members(
        &self,
        candidate: &mut Changes,
        from: &PortName,
        to: &PortName,
        author: &Author,
    ) -> Result<(), Rejected> {
        for (group, members) in &self.candidate_config.port_groups {
            let renamed: Vec<_> = members.iter().map(|member| member.renamed(from, to)).collect();
            if renamed.iter().any(Option::is_some) {
                let members = renamed.into_iter().zip(members);
                let members = members.map(|(renamed, member)| renamed.unwrap_or_else(|| member.clone()));
                let list = members.map(|member| member.to_string().into()).collect();
                let key = KeyPath { scope: Scope::Group(group.clone()), key: Some(keys::GROUP[0].name) };
                self.put(candidate, key, Some(Value::Array(list)), author)?;
            }
        }
        Ok(())
    }

    /// Creates a port with the keys stated for `from`, except those of its listeners, its device and its far end, which
    /// ports cannot share. (`unit` is not one far end: each port has a unit of its own.)
    pub fn copy(&self, from: &PortName, to: &PortName, author: &Author) -> Result<Self, Rejected> {
        self.check_committed()?;
        let mut candidate = self.candidate.clone();
        let text = candidate
            .apply_to_running(&self.running_text)
            .map_err(|error| Rejected::Whole(error.to_string()))?;
        if !self.candidate_config.ports.contains_key(from) {
            return Err(self.no_port(from));
        }
        let key = self.make(&mut candidate, to, author)?;
        for (path, value) in changes::keys_of(&text, from) {
            let is_unit = path.key == Some("source") && value.as_str() == Some("unit");
            if is_unit || !matches!(path.key, Some("ssh_port" | "device" | "source" | "rfc2217" | "raw")) {
                self.put(&mut candidate, path.at(to), Some(value), author)?;
            }
        }
        self.with_candidate(candidate, key, author)
    }

    /// Rejects changes while the committed file is invalid: they would be based on another configuration.
    pub(super) fn check_committed(&self) -> Result<(), Rejected> {
        match &self.fault {
            Some(fault) => Err(Rejected::Committed(fault.clone())),
            None => Ok(()),
        }
    }

    fn with_candidate(&self, candidate: Changes, key: String, author: &Author) -> Result<Self, Rejected> {
        self.check_committed()?;
        let text = candidate
            .apply_to_running(&self.running_text)
            .map_err(|error| Rejected::Whole(error.to_string()))?;
        candidate.candidate(&text).map_err(Rejected::Whole)?;
        let mut next = self.with(self.committed.clone(), None, self.running.clone(), candidate);
        next.last = Some(Last { key, who: author.who.clone(), when: author.when });
        next.revision += 1;
        let all = next.pending();
        let bytes = all.to_running(&self.instances).map_or(usize::MAX, |text| text.len());
        if all.len() > MAX_CHANGES || bytes > MAX_TEXT { Err(Rejected::TooMany) } else { Ok(next) }
    }
}

/// Whether these changes create or keep a port's table.
fn is_made(candidate: &Changes, name: &PortName) -> bool {
    candidate.get(&KeyPath::table(name.clone())).is_some_and(|change| change.new.is_some())
}

/// Whether a key that no file has was set by an uncommitted change.
fn is_ours(candidate: &Changes, running: &Changes, key: &KeyPath) -> bool {
    let change = candidate.get(key).or_else(|| running.get(&candidate.origin(key)));
    change.is_some_and(|change| change.old.is_none())
}

fn change(author: &Author, old: Option<Value>, new: Option<Value>) -> Change {
    Change { who: author.who.clone(), when: author.when, old, new }
}

#[cfg(test)]
mod tests;
