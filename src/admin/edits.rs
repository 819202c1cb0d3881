//! What is done to the candidate: keys set and unset, ports made and taken out. Pure: each makes another [`State`], or a refusal.

use super::state::{Author, Last, MAX_TEXT, Refusal, State, is_anew};
use crate::config::changes::{self, Change, Changes, KeyPath, MAX_CHANGES, Scope, stated};
use crate::config::{TemplateName, Value};
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

    /// Keys that take their defaults: all of them or none.
    pub fn unset_many(&self, paths: Vec<KeyPath>, author: &Author) -> Result<Self, Refusal> {
        self.is_right()?;
        let mut candidate = self.candidate.clone();
        let mut last = None;
        for path in paths {
            last = Some(path.to_string());
            self.put(&mut candidate, path, None, author)?;
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
            && !is_anew(candidate, &path.scope)
        {
            return Err(Refusal::NoPort(name.clone()));
        }
        if let (Scope::Template(name), None, None) = (&path.scope, path.key, &new) {
            self.check_unused(name)?;
        }
        if let (Scope::Group(name), None) = (&path.scope, &new)
            && !self.candidate_config.port_groups.contains_key(name)
        {
            return Err(Refusal::NoGroup(name.clone()));
        }
        let new = match new {
            None => None,
            Some(value) => Some(path.check(&value).map_err(|refused| Refusal::Value {
                key: path.to_string(),
                value: value.to_string(),
                reason: refused.reason,
            })?),
        };
        let old = stated(&self.committed.text, &path);
        // A port that is made anew has none of what is committed.
        let anew = is_anew(candidate, &path.scope) || is_anew(&self.running, &path.scope);
        let stale = self.running.get(&path).is_some_and(|change| change.old != old);
        if path.key.is_none() {
            candidate.forget_table(&path.scope);
        }
        match !anew && !stale && stated(&self.running_text, &path) == new {
            true => drop(candidate.remove(&path)),
            false => candidate.insert(path, change(author, old, new)),
        }
        Ok(())
    }

    /// Refuses to remove a template that ports are like: they would take other settings.
    fn check_unused(&self, template: &TemplateName) -> Result<(), Refusal> {
        /// More ports are only counted.
        const NAMED: usize = 4;
        if !self.candidate_config.templates.contains_key(template) {
            return Err(Refusal::NoTemplate(template.clone()));
        }
        let names: Vec<_> = self.candidate_config.like(template).map(ToString::to_string).collect();
        let ports = match names.split_at_checked(NAMED) {
            _ if names.is_empty() => return Ok(()),
            Some((first, more)) if !more.is_empty() => {
                format!("{} and {} more", first.join(", "), more.len())
            }
            _ => names.join(", "),
        };
        Err(Refusal::TemplateInUse { template: template.clone(), ports })
    }

    fn make(&self, candidate: &mut Changes, name: &PortName, author: &Author) -> Result<String, Refusal> {
        let path = KeyPath::table(name.clone());
        if self.candidate_config.ports.contains_key(name) || is_anew(candidate, &path.scope) {
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
        self.remove_many(std::slice::from_ref(name), author)
    }

    /// Ports are taken out: all of them or none.
    pub fn remove_many(&self, names: &[PortName], author: &Author) -> Result<Self, Refusal> {
        self.is_right()?;
        let mut candidate = self.candidate.clone();
        let mut last = None;
        for name in names {
            if !self.candidate_config.ports.contains_key(name) {
                return Err(Refusal::NoPort(name.clone()));
            }
            let path = KeyPath::table(name.clone());
            let old = stated(&self.committed.text, &path);
            candidate.forget_table(&path.scope);
            last = Some(path.to_string());
            // Of one that was never reloaded nothing is left to say.
            if stated(&self.running_text, &path).is_some() {
                candidate.insert(path, change(author, old, None));
            }
        }
        last.map_or_else(|| Ok(self.clone()), |key| self.with(candidate, key, author))
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
        );
        let all = next.pending();
        let bytes = all.to_running().map_or(usize::MAX, |text| text.len());
        if all.len() > MAX_CHANGES || bytes > MAX_TEXT { Err(Refusal::TooMany) } else { Ok(next) }
    }
}

fn change(author: &Author, old: Option<Value>, new: Option<Value>) -> Change {
    Change { who: author.who.clone(), when: author.when, old, new }
}
