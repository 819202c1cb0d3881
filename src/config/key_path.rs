//! The path of a configuration key: `ports.ttyUSB0.baud`, `server.listen`, `groups.core`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::fault::segment;
use super::keys::{self, RejectedValue};
use super::meant::unknown;
use super::{
    Access, Config, Members, Port, Server, TemplateName, TemplateNameError, Trigger, TriggerName,
    TriggerNameError, Value,
};
use crate::port::{GroupName, PatternError, PortName};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    Server,
    Access,
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
    pub scope: Scope,
    /// `baud`, `log.type`; `None` = the table itself.
    pub key: Option<&'static str>,
}

/// Why a word is not the path of a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathError {
    #[error(
        "unknown key {0:?}: expected server.KEY, access.KEY, defaults.KEY, groups.NAME, templates.NAME.KEY, or KEY of a port"
    )]
    Table(String),
    #[error("{0}")]
    Key(String),
    #[error("{0} applies to a single port: set it for a port")]
    Single(String),
    #[error("{0}")]
    Trigger(#[from] TriggerNameError),
    #[error("{0}")]
    Group(#[from] PatternError),
    #[error("{0}")]
    Template(#[from] TemplateNameError),
    #[error("{0}")]
    Port(#[from] crate::port::PortError),
}

impl KeyPath {
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

    pub(super) fn is_port(&self) -> bool {
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
                .ok_or_else(|| PathError::Key(format!("{}: {}", segment(key), unknown(key, known()))))
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
