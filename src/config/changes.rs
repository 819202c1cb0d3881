//! The changes that are not committed: for each key, the committed value, the new one, the author and the
//! time. No I/O but
//! reading the file of the running changes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::fault::{MAX_BYTES, segment};
use super::keys::{self, RejectedValue};
use super::{
    Access, Config, ConfigError, Instances, Members, Port, Server, TemplateName, TemplateNameError, Trigger,
    TriggerName, TriggerNameError, Value, edit, file, read,
};
use crate::port::{GroupName, PatternError, PortName};

/// Changes that were reloaded but not committed, below the root. Written by console-admin, read with the
/// configuration.
pub const RUNNING_FILE: &str = "run/consoleserver/admin/running.toml";

/// Limit of pending changes: 64 keys of 64 ports, which is far below the limit of a file.
pub const MAX_CHANGES: usize = 4096;

/// Characters of an author's name that are kept.
const MAX_WHO: usize = 64;

/// The table that a key is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `[server]`
    Server,
    /// `[access]`
    Access,
    /// `[defaults]`
    Defaults,
    /// A group of ports in `[groups]`. Its only key is written as the group itself.
    Group(GroupName),
    /// `[templates.NAME]`
    Template(TemplateName),
    /// `[ports.NAME]`
    Port(PortName),
    /// `[ports.NAME.triggers.RULE]`, and the same of `[defaults]` and of a template
    Trigger(Holder, TriggerName),
}

/// A table that can have trigger rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// `[defaults]`
    Defaults,
    /// `[templates.NAME]`
    Template(TemplateName),
    /// `[ports.NAME]`
    Port(PortName),
}

impl Scope {
    /// The port that the table belongs to.
    pub fn port(&self) -> Option<&PortName> {
        match self {
            Self::Port(name) | Self::Trigger(Holder::Port(name), _) => Some(name),
            Self::Server
            | Self::Access
            | Self::Defaults
            | Self::Group(_)
            | Self::Template(_)
            | Self::Trigger(..) => None,
        }
    }

    /// The unit of a reload: a trigger rule belongs to its port's table.
    pub fn whole(&self) -> Self {
        match self {
            Self::Trigger(Holder::Port(port), _) => Self::Port(port.clone()),
            Self::Trigger(Holder::Template(name), _) => Self::Template(name.clone()),
            Self::Trigger(Holder::Defaults, _) => Self::Defaults,
            scope => scope.clone(),
        }
    }

    /// The table as one that can have trigger rules.
    fn holder(&self) -> Option<Holder> {
        match self {
            Self::Defaults => Some(Holder::Defaults),
            Self::Template(name) => Some(Holder::Template(name.clone())),
            Self::Port(name) => Some(Holder::Port(name.clone())),
            Self::Server | Self::Access | Self::Group(_) | Self::Trigger(..) => None,
        }
    }

    /// Whether ports inherit from this table.
    fn is_inherited(&self) -> bool {
        matches!(self, Self::Defaults | Self::Template(_))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("server"),
            Self::Access => f.write_str("access"),
            Self::Defaults => f.write_str("defaults"),
            Self::Group(name) => write!(f, "groups.{}", segment(name.as_str())),
            Self::Template(name) => write!(f, "templates.{name}"),
            Self::Port(name) => write!(f, "ports.{}", segment(name.as_str())),
            Self::Trigger(_, rule) => write!(f, "{}.triggers.{rule}", self.whole()),
        }
    }
}

/// A key, or without a key the table of a port, template or trigger rule. A table sorts before its keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPath {
    /// The table.
    pub scope: Scope,
    /// `baud`, `log.type`; `None` = the table itself.
    pub key: Option<&'static str>,
}

/// Why a word is not the path of a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathError {
    /// Unknown table.
    #[error(
        "unknown key {0:?}: expected server.KEY, access.KEY, defaults.KEY, groups.NAME, templates.NAME.KEY, or KEY of a port"
    )]
    Table(String),
    /// Unknown key.
    #[error("{0}")]
    Key(String),
    /// A key of a single port in another table.
    #[error("{0} applies to a single port: set it for a port")]
    Single(String),
    /// A rule's name.
    #[error("{0}")]
    Trigger(#[from] TriggerNameError),
    /// The name of a group of ports.
    #[error("{0}")]
    Group(#[from] PatternError),
    /// A template's name.
    #[error("{0}")]
    Template(#[from] TemplateNameError),
    /// The port's name.
    #[error("{0}")]
    Port(#[from] crate::port::PortError),
}

impl KeyPath {
    /// The table of a port.
    pub fn table(port: PortName) -> Self {
        Self { scope: Scope::Port(port), key: None }
    }

    /// The same key of another port; unchanged if it is not of a port.
    pub fn at(&self, port: &PortName) -> Self {
        let scope = match &self.scope {
            Scope::Port(_) => Scope::Port(port.clone()),
            Scope::Trigger(Holder::Port(_), rule) => Scope::Trigger(Holder::Port(port.clone()), rule.clone()),
            scope => scope.clone(),
        };
        Self { scope, key: self.key }
    }

    /// Whether this is the table of a port.
    fn is_port(&self) -> bool {
        self.key.is_none() && matches!(self.scope, Scope::Port(_))
    }

    /// A key by its name in a table. `log` alone is `log.type`; `triggers.NAME` alone is the whole rule.
    pub fn new(scope: Scope, key: &str) -> Result<Self, PathError> {
        if let (Some(rest), Some(holder)) = (key.strip_prefix("triggers."), scope.holder()) {
            let (rule, key) = rest.split_once('.').map_or((rest, None), |(rule, key)| (rule, Some(key)));
            let scope = Scope::Trigger(holder, rule.parse()?);
            return match key {
                Some(key) => Self::new(scope, key),
                None => Ok(Self { scope, key: None }),
            };
        }
        fn name<T>(table: &'static [keys::Key<T>], key: &str) -> Result<&'static str, PathError> {
            let found = keys::find(table, if key == "log" { "log.type" } else { key });
            let known = || table.iter().map(|key| key.name).filter(|name| *name != "log");
            found
                .map(|key| key.name)
                .ok_or_else(|| PathError::Key(format!("{}: {}", segment(key), read::unknown(key, known()))))
        }
        let key = match &scope {
            Scope::Server => name(keys::SERVER, key)?,
            Scope::Access => name(keys::ACCESS, key)?,
            Scope::Group(_) => name(keys::GROUP, key)?,
            Scope::Defaults | Scope::Template(_) | Scope::Port(_) => name(keys::PORT, key)?,
            Scope::Trigger(..) => name(keys::TRIGGER, key)?,
        };
        if scope.is_inherited() && keys::find(keys::PORT, key).is_some_and(|key| !key.general) {
            return Err(PathError::Single(key.to_owned()));
        }
        Ok(Self { scope, key: Some(key) })
    }

    /// The value in its canonical form, as the file has it: `"n"` becomes `"N"`.
    pub fn check(&self, value: &Value) -> Result<Value, RejectedValue> {
        fn put<T>(
            table: &'static [keys::Key<T>],
            key: &str,
            mut scratch: T,
            value: &Value,
        ) -> Result<Value, RejectedValue> {
            let key = keys::find(table, key).expect("KeyPath has a key of its table");
            key.put(&mut scratch, value)?;
            Ok(key.get(&scratch).unwrap_or_else(|| value.clone()))
        }
        let Some(key) = self.key else { return Ok(value.clone()) };
        match self.scope {
            Scope::Server => put(keys::SERVER, key, Server::default(), value),
            Scope::Access => put(keys::ACCESS, key, Access::default(), value),
            Scope::Group(_) => put(keys::GROUP, key, Members::new(), value),
            Scope::Defaults | Scope::Template(_) | Scope::Port(_) => {
                put(keys::PORT, key, Port::default(), value)
            }
            Scope::Trigger(..) => put(keys::TRIGGER, key, Trigger::default(), value),
        }
    }

    /// The value in `config`; `None` if there is none. For tables that ports inherit from, the stated value.
    pub fn effective(&self, config: &Config) -> Option<Value> {
        let key = self.key?;
        match &self.scope {
            Scope::Server => keys::find(keys::SERVER, key)?.get(&config.server),
            Scope::Access => keys::find(keys::ACCESS, key)?.get(&config.access),
            Scope::Group(name) => keys::find(keys::GROUP, key)?.get(config.port_groups.get(name)?),
            Scope::Defaults => config.defaults.get(key),
            Scope::Template(name) => config.templates.get(name)?.get(key),
            Scope::Port(name) => keys::find(keys::PORT, key)?.get(config.ports.get(name)?),
            Scope::Trigger(holder, rule) => {
                let rules = match holder {
                    Holder::Defaults => &config.defaults.triggers,
                    Holder::Template(name) => &config.templates.get(name)?.triggers,
                    Holder::Port(name) => &config.ports.get(name)?.triggers,
                };
                keys::find(keys::TRIGGER, key)?.get(rules.get(rule)?)
            }
        }
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            Some(key) if !matches!(self.scope, Scope::Group(_)) => write!(f, "{}.{key}", self.scope),
            _ => write!(f, "{}", self.scope),
        }
    }
}

impl FromStr for KeyPath {
    type Err = PathError;

    fn from_str(word: &str) -> Result<Self, PathError> {
        let wrong = || PathError::Table(word.chars().take(100).collect());
        let parts = toml_edit::Key::parse(word).map_err(|_| wrong())?;
        let parts: Vec<&str> = parts.iter().map(|part| part.get()).collect();
        let (scope, rest) = match parts.as_slice() {
            ["server", rest @ ..] => (Scope::Server, rest),
            ["access", rest @ ..] => (Scope::Access, rest),
            ["defaults", rest @ ..] => (Scope::Defaults, rest),
            ["groups", name] => {
                return Ok(Self { scope: Scope::Group(name.parse()?), key: Some(keys::GROUP[0].name) });
            }
            ["templates", name] => return Ok(Self { scope: Scope::Template(name.parse()?), key: None }),
            ["templates", name, rest @ ..] => (Scope::Template(name.parse()?), rest),
            ["ports", name] => return Ok(Self::table(name.parse()?)),
            ["ports", name, rest @ ..] => (Scope::Port(name.parse()?), rest),
            _ => return Err(wrong()),
        };
        if rest.is_empty() { Err(wrong()) } else { Self::new(scope, &rest.join(".")) }
    }
}

/// One change. `None` is an absent key; the table of a port that is created again is an empty table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// User name.
    pub who: String,
    /// Time of the change.
    pub when: jiff::Timestamp,
    /// The committed value at the time of the change.
    pub old: Option<Value>,
    /// The new value.
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
    /// The file of the changes cannot be read.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// The file of the changes is invalid.
    #[error("{path}: {why}")]
    Text {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The text has a value in place of a table.
    #[error("{0} cannot be changed: it is not a table")]
    NotATable(String),
    /// A renamed port was removed from the text.
    #[error("ports.{0} was renamed to {1}, but is no longer in the configuration")]
    NotThere(PortName, PortName),
    /// Another port has the new name.
    #[error("ports.{0} was renamed to {1}, but the configuration already has a port {1}")]
    IsThere(PortName, PortName),
    /// The text is not valid TOML.
    #[error("invalid TOML: {0}")]
    NotToml(String),
}

impl Changes {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Number of changed keys.
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

    /// The change of a key.
    pub fn get(&self, path: &KeyPath) -> Option<&Change> {
        self.0.get(path)
    }

    /// Adds a change. The author's name is shortened to [`MAX_WHO`].
    pub fn insert(&mut self, path: KeyPath, mut change: Change) {
        change.who = change.who.chars().take(MAX_WHO).collect();
        self.0.insert(path, change);
    }

    /// Removes a change.
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

    /// The committed text with these changes; comments and order stay. If a port was created here and
    /// exists in the text now,
    /// somebody added it there in the meantime: its keys stay, since they may restrict access.
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
        // Of the table of a port or template, only its existence matters.
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

/// The configuration with this text, or the sentences that say why it is invalid.
pub fn candidate(text: &str) -> Result<Config, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("the configuration would exceed the limit of {MAX_BYTES} bytes"));
    }
    match read::unresolved(text) {
        Err(faults) => Err(faults),
        Ok(config) => match config.conflicts().first() {
            None => Ok(config),
            Some(conflict) => {
                let path: Option<KeyPath> = conflict.key.parse().ok();
                let value = path.and_then(|path| path.effective(&config)).map(|value| format!(" = {value}"));
                Err(format!(
                    "{}{}: already used by {}; {}",
                    conflict.key,
                    value.unwrap_or_default(),
                    conflict.other,
                    conflict.shared
                ))
            }
        },
    }
}
