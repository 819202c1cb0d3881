//! The changes that are not committed: for each key, the committed value, the new one, the author and the
//! time. No I/O but reading the file of the running changes.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::fault::MAX_BYTES;
pub use super::key_path::{Holder, KeyPath, PathError, Scope};
use super::{Config, ConfigError, Conflict, Instances, Value, edit, file, read};
use crate::port::PortName;

/// Changes that were reloaded but not committed, below the root. Written by console-admin, read with the
/// configuration.
pub const RUNNING_FILE: &str = "run/consoleserver/admin/running.toml";

/// Limit of pending changes: 64 keys of 64 ports, which is far below the limit of a file.
pub const MAX_CHANGES: usize = 4096;

/// Characters of an author's name that are kept.
const MAX_WHO: usize = 64;

/// One change. `None` is an absent key; the table of a port that is created again is an empty table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub who: String,
    pub when: jiff::Timestamp,
    /// The committed value at the time of the change.
    pub old: Option<Value>,
    pub new: Option<Value>,
}

/// The only key in the table of a renamed port: its old name.
const RENAMED_FROM: &str = "renamed_from";

impl Change {
    /// The old name, if this is the table of a renamed port.
    pub fn renamed_from(&self) -> Option<PortName> {
        self.new.as_ref()?.as_table()?.get(RENAMED_FROM)?.as_str()?.parse().ok()
    }
}

/// The table of a port that was renamed from `from`.
pub fn renamed(from: &PortName) -> Value {
    Value::Table(toml::Table::from_iter([(RENAMED_FROM.to_owned(), from.to_string().into())]))
}

/// Changes by key, in the order in which they are applied.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Entry>", into = "Vec<Entry>")]
pub struct Changes(BTreeMap<KeyPath, Change>);

#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    key: String,
    #[serde(flatten)]
    change: Change,
}

impl TryFrom<Vec<Entry>> for Changes {
    type Error = String;

    fn try_from(entries: Vec<Entry>) -> Result<Self, String> {
        if entries.len() > MAX_CHANGES {
            return Err(format!("expected at most {MAX_CHANGES} changes, found {}", entries.len()));
        }
        let change = |entry: Entry| Ok((entry.key.parse::<KeyPath>()?, entry.change));
        entries
            .into_iter()
            .map(change)
            .collect::<Result<_, PathError>>()
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

impl From<Changes> for Vec<Entry> {
    fn from(changes: Changes) -> Self {
        changes.0.into_iter().map(|(key, change)| Entry { key: key.to_string(), change }).collect()
    }
}

/// The file of the running changes.
#[derive(Serialize, Deserialize)]
struct Running {
    #[serde(default, skip_serializing_if = "Instances::is_empty")]
    instances: Instances,
    #[serde(default)]
    change: Changes,
}

/// Changes that cannot be applied to a configuration.
#[derive(Debug, Error)]
pub enum ChangesError {
    #[error(transparent)]
    File(#[from] ConfigError),
    #[error("{path}: {why}")]
    Text { path: String, why: String },
    #[error("{0} cannot be changed: it is not a table")]
    NotATable(String),
    #[error("ports.{0} was renamed to {1}, but is no longer in the configuration")]
    NotThere(PortName, PortName),
    #[error("ports.{0} was renamed to {1}, but the configuration already has a port {1}")]
    IsThere(PortName, PortName),
    #[error("invalid TOML: {0}")]
    NotToml(String),
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Number of changes as users count them: a renamed port is one change, not one for each name.
    pub fn count(&self) -> usize {
        let old_names = self.renames().into_values();
        let removed = |name: &PortName| {
            self.get(&KeyPath::table(name.clone())).is_some_and(|change| change.new.is_none())
        };
        self.len() - old_names.filter(removed).count()
    }

    /// In the order in which they are applied.
    pub fn iter(&self) -> impl Iterator<Item = (&KeyPath, &Change)> {
        self.0.iter()
    }

    pub fn get(&self, path: &KeyPath) -> Option<&Change> {
        self.0.get(path)
    }

    /// The configuration with this text, which has these changes, or the errors in it. Of two keys that conflict, the
    /// one that was changed last is reported.
    pub fn candidate(&self, text: &str) -> Result<Config, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("the configuration would exceed the limit of {MAX_BYTES} bytes"));
        }
        let config = read::unresolved(text)?;
        let Some(Conflict { shared, mut key, mut other }) = config.conflicts().into_iter().next() else {
            return Ok(config);
        };
        if self.last_change(&key) < self.last_change(&other) {
            std::mem::swap(&mut key, &mut other);
        }
        let path: Option<KeyPath> = key.parse().ok();
        let value = path.and_then(|path| path.effective(&config)).map(|value| format!(" = {value}"));
        Err(format!("{key}{}: already used by {other}; {shared}", value.unwrap_or_default()))
    }

    /// When a key of a listener was changed last: itself, or the addresses that it is for.
    fn last_change(&self, key: &str) -> Option<jiff::Timestamp> {
        let path: KeyPath = key.parse().ok()?;
        let listen = KeyPath { scope: path.scope.clone(), key: Some("listen") };
        [path, listen].iter().filter_map(|path| Some(self.get(path)?.when)).max()
    }

    /// Adds a change. The author's name is shortened to [`MAX_WHO`].
    pub fn insert(&mut self, path: KeyPath, mut change: Change) {
        change.who = change.who.chars().take(MAX_WHO).collect();
        self.0.insert(path, change);
    }

    pub fn remove(&mut self, path: &KeyPath) -> Option<Change> {
        self.0.remove(path)
    }

    /// Takes the changes out for which `which` is true of the unit of reload.
    pub fn take(&mut self, which: impl Fn(&Scope) -> bool) -> Self {
        self.take_keys(|path| which(&path.scope.whole()))
    }

    /// Takes the changes out for which `which` is true.
    pub fn take_keys(&mut self, which: impl Fn(&KeyPath) -> bool) -> Self {
        let (taken, kept) = std::mem::take(&mut self.0).into_iter().partition(|(path, _)| which(path));
        self.0 = kept;
        Self(taken)
    }

    /// New and old names of the renamed ports.
    pub fn renames(&self) -> BTreeMap<PortName, PortName> {
        let renamed = |(path, change): (&KeyPath, &Change)| {
            let from = change.renamed_from().filter(|_| path.is_port())?;
            Some((path.scope.port()?.clone(), from))
        };
        self.0.iter().filter_map(renamed).collect()
    }

    /// The path of a key in the text that the changes apply to: keys of a renamed port are in the table of
    /// its old name. The path of a table is unchanged.
    pub fn origin(&self, path: &KeyPath) -> KeyPath {
        let from = path
            .scope
            .port()
            .filter(|_| !path.is_port())
            .and_then(|port| self.0.get(&KeyPath::table(port.clone())).and_then(Change::renamed_from));
        from.map_or_else(|| path.clone(), |from| path.at(&from))
    }

    /// Moves the changes of one port's keys to another port. Removes and returns the change of its table.
    pub fn rename(&mut self, from: &PortName, to: &PortName) -> Option<Change> {
        let (moved, kept) =
            std::mem::take(&mut self.0).into_iter().partition(|(path, _)| path.scope.port() == Some(from));
        self.0 = kept;
        let mut moved: BTreeMap<KeyPath, Change> = moved;
        let table = moved.remove(&KeyPath::table(from.clone()));
        self.0.extend(moved.into_iter().map(|(path, change)| (path.at(to), change)));
        table
    }

    /// Removes all changes in the table of a port or trigger rule.
    pub fn forget_table(&mut self, table: &Scope) {
        self.0.retain(|path, _| path.scope != *table && path.scope.whole() != *table);
    }

    /// The committed text with these changes; comments and order stay. If a port was created here and exists
    /// in the text now, it was added there in the meantime: its keys stay, since they may restrict
    /// access.
    pub fn apply(&self, text: &str) -> Result<String, ChangesError> {
        edit::apply(text, self, |change| change.old.is_some())
    }

    /// The running text with these changes: a port that is created again there starts empty.
    pub fn apply_to_running(&self, text: &str) -> Result<String, ChangesError> {
        edit::apply(text, self, |_| true)
    }

    /// The content of the file of the running changes.
    pub fn to_running(&self, instances: &Instances) -> Result<String, toml::ser::Error> {
        toml::to_string(&Running { instances: instances.clone(), change: self.clone() })
    }

    /// The running changes of the machine below `root`; empty if there is no file.
    pub fn running(root: &Path) -> Result<Self, ChangesError> {
        Self::read(&root.join(RUNNING_FILE))
    }

    /// Reads a file written by [`Self::to_running`]; empty if there is no file.
    pub fn read(path: &Path) -> Result<Self, ChangesError> {
        let Some(text) = file::text(path)? else { return Ok(Self::default()) };
        match toml::from_str::<Running>(&text) {
            Ok(running) => Ok(running.change),
            Err(error) => {
                Err(ChangesError::Text { path: path.display().to_string(), why: error.message().to_owned() })
            }
        }
    }
}

/// The value that a text states at a key, without defaults.
pub fn stated(text: &str, path: &KeyPath) -> Option<Value> {
    let tree: toml::Table = text.parse().ok()?;
    let whole = match path.scope.whole() {
        Scope::Group(name) => return tree.get("groups")?.get(name.as_str()).cloned(),
        Scope::Port(name) => tree.get("ports")?.get(name.as_str())?,
        Scope::Template(name) => tree.get("templates")?.get(name.as_str())?,
        scope => tree.get(&scope.to_string())?,
    };
    let table = match &path.scope {
        Scope::Trigger(_, rule) => whole.get("triggers")?.get(rule.as_str())?,
        _ => whole,
    };
    match path.key.map(|key| key.split_once('.').unwrap_or((key, ""))) {
        // For the table of a port or template, only its existence matters.
        None => Some(Value::Table(toml::Table::new())),
        Some((key, "")) => table.get(key).cloned(),
        Some((outer, inner)) => match table.get(outer)? {
            short @ Value::String(_) if inner == "type" => Some(short.clone()),
            long => long.get(inner).cloned(),
        },
    }
}

/// The keys that the table of a port states, with their values, including those of its trigger rules.
pub fn keys_of(text: &str, port: &PortName) -> Vec<(KeyPath, Value)> {
    let tree: Option<toml::Table> = text.parse().ok();
    let table = tree.as_ref().and_then(|tree| tree.get("ports")?.get(port.as_str())?.as_table());
    let mut found = Vec::new();
    let mut take = |key: &str, value: &Value| {
        // A valid text has no unknown keys.
        if let Ok(path) = KeyPath::new(Scope::Port(port.clone()), key) {
            found.push((path, value.clone()));
        }
    };
    for (key, value) in table.into_iter().flatten() {
        match (key.as_str(), value) {
            ("triggers", Value::Table(rules)) => {
                for (rule, keys) in rules.iter().filter_map(|(rule, keys)| Some((rule, keys.as_table()?))) {
                    keys.iter().for_each(|(key, value)| take(&format!("triggers.{rule}.{key}"), value));
                }
            }
            (_, Value::Table(inner)) => {
                inner.iter().for_each(|(inner, value)| take(&format!("{key}.{inner}"), value));
            }
            _ => take(key, value),
        }
    }
    found
}

/// The configuration with this text, or the errors in it.
pub fn candidate(text: &str) -> Result<Config, String> {
    Changes::default().candidate(text)
}
