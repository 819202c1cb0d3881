//! What ports inherit: `[defaults]`, and `[templates.NAME]` for ports with `like = "NAME"`. A port takes each
//! key from its own table, then its template, then `[defaults]`, then the built-in value; [`Config::origin`]
//! returns which.

use std::collections::BTreeMap;
use std::fmt;

use super::{Config, Port, Triggers, Value, keys};
use crate::port::PortName;
use crate::port::text::{is_bare_key, name_type};

/// Limit of templates. A port has at most one, so more templates than ports cannot be in use.
pub const MAX_TEMPLATES: usize = 1024;

name_type! {
    /// The name of a template: a bare key of TOML.
    TemplateName, TemplateNameError,
    "invalid template name {0:?}: use 1 to 32 characters of A-Z a-z 0-9 _ -, starting with a letter or digit",
    is_bare_key
}

/// The keys that `[defaults]` or a template states.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layer {
    /// Keys with their values, as returned by [`keys::Key::get`].
    pub keys: BTreeMap<&'static str, Value>,
    /// Trigger rules. Each one replaces the inherited rule of that name as a whole.
    pub triggers: Triggers,
}

impl Layer {
    /// The keys for which `stated` is true, with their values in `from`, and its trigger rules.
    pub(super) fn of(from: &Port, stated: impl Fn(&str) -> bool) -> Self {
        let keys = keys::PORT.iter().filter(|key| stated(key.name));
        let keys = keys.filter_map(|key| Some((key.name, key.get(from)?))).collect();
        Self { keys, triggers: from.triggers.clone() }
    }

    pub(super) fn apply(&self, port: &mut Port) {
        for (name, value) in &self.keys {
            if let Some(key) = keys::find(keys::PORT, name) {
                key.put(port, value).expect("the key has accepted this value before");
            }
        }
        port.triggers.extend(self.triggers.clone());
    }

    /// Whether it states a key of ports: `baud`, `triggers.panic.match`. A trigger rule states all its keys.
    fn states(&self, key: &str) -> bool {
        match rule_of(key) {
            Some(rule) => self.triggers.keys().any(|name| name.as_str() == rule),
            None => self.keys.contains_key(key),
        }
    }

    pub fn get(&self, key: &str) -> Option<Value> {
        match rule_of(key) {
            Some(rule) => {
                let (_, trigger) = self.triggers.iter().find(|(name, _)| name.as_str() == rule)?;
                let (_, key) = key.strip_prefix("triggers.")?.split_once('.')?;
                keys::find(keys::TRIGGER, key)?.get(trigger)
            }
            None => self.keys.get(key).cloned(),
        }
    }

    /// Every stated key, `triggers.RULE.KEY` included, in the order of the table of keys.
    pub fn stated(&self) -> impl Iterator<Item = (String, Value)> + '_ {
        let own = keys::PORT.iter().filter_map(|key| Some((key.name.to_owned(), self.get(key.name)?)));
        let rules = self.triggers.iter().flat_map(|(name, rule)| {
            let key = move |key: &'static keys::Key<super::Trigger>| {
                Some((format!("triggers.{name}.{}", key.name), key.get(rule)?))
            };
            keys::TRIGGER.iter().filter_map(key)
        });
        own.chain(rules)
    }
}

/// `panic` of `triggers.panic.match`
fn rule_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix("triggers.")?;
    Some(rest.split_once('.').map_or(rest, |(rule, _)| rule))
}

/// Where the value of a port's key comes from. The Display is printed by `show` and on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'c> {
    /// `[ports.NAME]`
    Port,
    /// `[templates.NAME]`
    Template(&'c TemplateName),
    Defaults,
    BuiltIn,
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port => f.write_str("port"),
            Self::Template(name) => write!(f, "template {name}"),
            Self::Defaults => f.write_str("defaults"),
            Self::BuiltIn => f.write_str("built-in"),
        }
    }
}

impl Config {
    /// Where the value of a port's key comes from: `baud`, `triggers.panic.match`.
    pub fn origin(&self, port: &PortName, key: &str) -> Origin<'_> {
        let own = match rule_of(key) {
            Some(rule) => format!("triggers.{rule}"),
            None => key.to_owned(),
        };
        if self.own.get(port).is_some_and(|keys| keys.contains(&own)) {
            return Origin::Port;
        }
        let like = self.ports.get(port).and_then(|port| port.like.as_ref());
        let template = like.and_then(|like| self.templates.get_key_value(like));
        match template {
            Some((name, layer)) if layer.states(key) => Origin::Template(name),
            _ if self.defaults.states(key) => Origin::Defaults,
            _ => Origin::BuiltIn,
        }
    }

    /// The ports with `like` set to a template.
    pub fn like<'c>(&'c self, template: &'c TemplateName) -> impl Iterator<Item = &'c PortName> {
        let ports = self.ports.iter().filter(move |(_, port)| port.like.as_ref() == Some(template));
        ports.map(|(name, _)| name)
    }
}
