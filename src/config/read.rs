//! Parses a text into a [`Config`] or the list of its errors. The tree keeps the span of each key and value;
//! `keys` describes valid values.

mod certain;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Display;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use certain::is_unrelated_typo;
pub(super) use certain::{certain_access, certain_listeners};

use super::fault::{Faults, clip, segment};
use super::group::{MAX_GROUPS, MAX_MEMBERS, cycles};
use super::keys::{self, Key, TRIGGERS, is_inherited};
use super::meant::{self, misplaced, nearest, unknown, unknown_in};
use super::{
    Access, Config, ConfigError, Conflict, Fault, Layer, MAX_TEMPLATES, MAX_TRIGGERS, Members, Port, Shared,
    TemplateName, Trigger, TriggerName, Triggers, Value,
};
use crate::port::{GroupName, PortError, PortName, PortPattern, pattern::no_such_group};

/// Limit of ports; USB allows 127 devices a bus, and each port is a process.
const MAX_PORTS: usize = 1024;

/// The table of port groups; its keys are group names.
const GROUPS: &str = "groups";

/// The table of templates; its keys are template names.
const TEMPLATES: &str = "templates";

/// A key of a single port in `[defaults]`.
const SINGLE: &str = "applies to a single port: set it in [ports.NAME]";

/// `authorized_keys_command` without a user.
const NO_COMMAND_USER: &str =
    "requires authorized_keys_command_user, the user that runs the command, such as \"nobody\"";

/// A plain listener that other machines reach.
const PLAINTEXT: &str = "other machines would reach the port without login and encryption: use a loopback address such as \
                         \"[::1]:7001\", or set plaintext_beyond_loopback = true";

/// A trigger rule that can never fire.
const IDLE_RULE: &str = "expected match = \"a regular expression\", or silence = \"5m\", or both";

type Node<'a> = Spanned<DeValue<'a>>;

/// Reads and checks a whole text; `path` is the file name in errors.
pub(super) fn read(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let mut reader = Reader::new(text);
    let mut config = Config::default();
    let (tree, mut errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        reader.document(tree.get_ref(), &mut config);
        reader.conflicts(&config);
    } else {
        errors.sort_by_key(|error| error.span().unwrap_or_default().start);
        for error in errors {
            reader.faults.not_toml(error.message(), error.span().unwrap_or_default());
        }
    }
    reader.faults.none_or(path).map(|()| config)
}

/// Reads a text that is in no file yet, without checking conflicts. Errors have no line numbers.
pub(super) fn unresolved(text: &str) -> Result<Config, String> {
    let mut reader = Reader::new(text);
    let mut config = Config::default();
    let (tree, errors) = DeTable::parse_recoverable(text);
    if let Some(error) = errors.first() {
        return Err(format!("invalid TOML: {}", error.message()));
    }
    reader.document(tree.get_ref(), &mut config);
    match reader.faults.none_or(Path::new("")) {
        Err(ConfigError::Wrong { faults, .. }) => {
            let sentence = |fault: &Fault| {
                fault.to_string().split_once(": ").map_or_else(String::new, |(_, rest)| rest.to_owned())
            };
            Err(faults.iter().map(sentence).collect::<Vec<_>>().join("; "))
        }
        Err(error) => Err(error.to_string()),
        Ok(()) => Ok(config),
    }
}

/// `groups.core`
fn group_path(name: &str) -> String {
    format!("{GROUPS}.{}", segment(name))
}

/// `ports.ttyUSB0`
fn port_path(name: &str) -> String {
    format!("ports.{}", segment(name))
}

struct Reader<'a> {
    faults: Faults<'a>,
    /// Spans of the values of ports and server, for conflicts between them.
    spans: HashMap<String, Range<usize>>,
    /// Uncertain parts of the file: keys with an invalid value (`ports.ttyUSB0.listen`), and whole tables that have an
    /// unknown key which may be any misspelt one (`server`, `ports.ttyUSB0`; the empty name for the whole
    /// file).
    uncertain: HashSet<String>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self { faults: Faults::new(text), spans: HashMap::new(), uncertain: HashSet::new() }
    }

    fn document(&mut self, tree: &DeTable<'a>, config: &mut Config) {
        const TABLES: [&str; 6] = ["server", "access", GROUPS, "defaults", TEMPLATES, "ports"];
        for (key, node) in tree {
            if !TABLES.contains(&&**key.get_ref()) {
                let reason = misplaced(key.get_ref(), node.get_ref(), &TABLES)
                    .unwrap_or_else(|| unknown(key.get_ref(), TABLES));
                self.faults.add(key.span(), segment(key.get_ref()), None, reason);
                // Ports inherit from [default] or a key above all tables, but not from [acess], [group] or
                // [port.NAME]. Ports that are like [template.NAME] miss the template.
                if !matches!(nearest(key.get_ref(), &TABLES), Some("access" | GROUPS | TEMPLATES | "ports")) {
                    self.uncertain.insert(String::new());
                }
            }
        }
        if let Some(server) = self.table(tree, "server") {
            self.keys("server", "", server.iter(), keys::SERVER, &mut config.server);
        }
        if let Some(access) = self.table(tree, "access") {
            self.keys("access", "", access.iter(), keys::ACCESS, &mut config.access);
            self.command_has_user(&config.access);
        }
        if let Some(groups) = self.table(tree, GROUPS) {
            self.groups(groups, config);
        }
        let mut defaults = Port::default();
        if let Some(table) = self.table(tree, "defaults") {
            self.port("defaults", table, &mut defaults);
            config.defaults = self.layer("defaults", &defaults);
        }
        if let Some(templates) = self.table(tree, TEMPLATES) {
            self.templates(templates, config);
        }
        if let Some(ports) = self.table(tree, "ports") {
            match ports.len() {
                0..=MAX_PORTS => self.ports(ports, &defaults, config),
                many => {
                    let reason = format!("expected at most {MAX_PORTS} ports, found {many}");
                    self.faults.add(0..0, "ports".to_owned(), None, reason);
                }
            }
        }
    }

    /// sshd, too, does not start without the user.
    fn command_has_user(&mut self, access: &Access) {
        const COMMAND: &str = "access.authorized_keys_command";
        if access.authorized_keys_command.is_some() && access.authorized_keys_command_user.is_none() {
            self.fault_of(COMMAND.to_owned(), NO_COMMAND_USER.to_owned());
        }
    }

    /// Groups of ports. A port that does not exist is not an error: ports are added and removed independently
    /// of groups.
    fn groups(&mut self, tables: &DeTable<'a>, config: &mut Config) {
        if tables.len() > MAX_GROUPS {
            let reason = format!("expected at most {MAX_GROUPS} groups, found {}", tables.len());
            return self.faults.add(0..0, GROUPS.to_owned(), None, reason);
        }
        let mut count = 0;
        for (key, node) in tables {
            let path = group_path(key.get_ref());
            let Some(name) = self.name::<GroupName>(key, &path) else { continue };
            let mut members = Members::new();
            self.value(path.clone(), node, &keys::GROUP[0], &mut members);
            count += members.iter().map(PortPattern::len).sum::<usize>();
            if count > MAX_MEMBERS {
                let reason = format!("expected at most {MAX_MEMBERS} names in all groups together");
                return self.faults.add(key.span(), path, None, reason);
            }
            config.port_groups.insert(name, members);
        }
        let groups = &config.port_groups;
        for (name, members) in groups {
            for unknown in
                members.iter().flat_map(PortPattern::groups).filter(|name| !groups.contains_key(name))
            {
                self.fault_of(group_path(name.as_str()), no_such_group(unknown, groups).to_string());
            }
        }
        for cycle in cycles(groups) {
            if let Some(first) = cycle.first() {
                let path = cycle.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" → ");
                self.fault_of(group_path(first.as_str()), format!("a group cannot contain itself: {path}"));
            }
        }
    }

    /// A fault of a valid value that was read before.
    fn fault_of(&mut self, path: String, reason: String) {
        let span = self.spans.get(&path).cloned().unwrap_or_default();
        self.faults.add_value(span, path, reason);
    }

    /// Parses the name of a table.
    fn name<T: FromStr<Err: Display>>(&mut self, key: &Spanned<Cow<'a, str>>, path: &str) -> Option<T> {
        let refused = |error: T::Err| self.faults.add(key.span(), path.to_owned(), None, error.to_string());
        key.get_ref().parse().map_err(refused).ok()
    }

    fn ports(&mut self, tables: &DeTable<'a>, defaults: &Port, config: &mut Config) {
        for (key, node) in tables {
            let path = port_path(key.get_ref());
            let name = match port_name(key.get_ref()) {
                Ok(name) => name,
                Err(error) => {
                    self.faults.add(key.span(), path, None, error.to_string());
                    continue;
                }
            };
            let Some(table) = node.get_ref().as_table() else {
                self.faults.add_value(node.span(), path, format!("expected a table: [ports.{name}]"));
                continue;
            };
            let mut port = defaults.clone();
            if let Some(like) = table.get("like") {
                self.template_of(&path, like, config, &mut port);
            }
            self.port(&path, table, &mut port);
            self.plaintext(&path, &mut port);
            config.own.insert(name.clone(), self.own(&path, table));
            config.ports.insert(name, port);
        }
    }

    fn templates(&mut self, tables: &DeTable<'a>, config: &mut Config) {
        if tables.len() > MAX_TEMPLATES {
            let reason = format!("expected at most {MAX_TEMPLATES} templates, found {}", tables.len());
            self.faults.add(0..0, TEMPLATES.to_owned(), None, reason);
            return;
        }
        for (key, node) in tables {
            let path = format!("{TEMPLATES}.{}", segment(key.get_ref()));
            let Some(name) = self.name::<TemplateName>(key, &path) else { continue };
            let mut stated = Port::default();
            match node.get_ref().as_table() {
                Some(table) => self.port(&path, table, &mut stated),
                // [templates] itself has keys: `baud = 9600`.
                None => {
                    self.uncertain.insert(path.clone());
                    let reason = format!("expected a table: [{TEMPLATES}.{name}]");
                    self.faults.add_value(node.span(), path.clone(), reason);
                }
            }
            let layer = self.layer(&path, &stated);
            config.templates.insert(name, layer);
        }
    }

    /// A plain listener that other machines reach requires a key that allows it. A wrong one is removed, also where
    /// the rest of a wrong file is used.
    fn plaintext(&mut self, path: &str, port: &mut Port) {
        for (key, endpoint) in [("rfc2217", &mut port.rfc2217), ("raw", &mut port.raw)] {
            if !port.plaintext_beyond_loopback
                && endpoint.as_ref().is_some_and(|endpoint| !endpoint.is_loopback())
            {
                *endpoint = None;
                self.fault_of(format!("{path}.{key}"), PLAINTEXT.to_owned());
            }
        }
    }

    /// The valid keys that a table states.
    fn layer(&self, path: &str, read: &Port) -> Layer {
        let stands = |key: &str| self.spans.contains_key(&format!("{path}.{key}"));
        // `log = "raw"` is short for `log.type`.
        Layer::of(read, |key| stands(key) || (key == "log.type" && stands("log")))
    }

    /// The valid keys and trigger rules that a port's own table states.
    fn own(&self, path: &str, table: &DeTable<'a>) -> BTreeSet<String> {
        let keys = keys::PORT.iter().map(|key| key.name);
        let stated = keys.filter(|key| self.spans.contains_key(&format!("{path}.{key}")));
        let stated = stated.map(|key| if key == "log" { "log.type" } else { key }.to_owned());
        let rules = table.get(TRIGGERS).and_then(|node| node.get_ref().as_table()).into_iter().flatten();
        stated.chain(rules.map(|(word, _)| format!("{TRIGGERS}.{}", word.get_ref()))).collect()
    }

    /// Applies a port's template over `[defaults]`. An unknown template is an error of the key `like`.
    fn template_of(&mut self, path: &str, like: &Node<'a>, config: &Config, port: &mut Port) {
        let Some(name) = like.get_ref().as_str().and_then(|word| word.parse::<TemplateName>().ok()) else {
            return;
        };
        let key = format!("{path}.like");
        let Some(layer) = config.templates.get(&name) else {
            let names: Vec<_> = config.templates.keys().map(TemplateName::as_str).collect();
            let instead = match (nearest(name.as_str(), &names), names.is_empty()) {
                (Some(near), _) => format!(": did you mean {near}?"),
                (None, true) => format!(": add a table [{TEMPLATES}.{name}]"),
                (None, false) => format!(": the templates are {}", clip(&names.join(", "))),
            };
            self.uncertain.insert(key.clone());
            self.faults.add_value(like.span(), key, format!("there is no template {name}{instead}"));
            return;
        };
        layer.apply(port);
        if port.triggers.len() > MAX_TRIGGERS {
            let reason = format!(
                "expected at most {MAX_TRIGGERS} triggers with those of [defaults], found {}",
                port.triggers.len()
            );
            self.faults.add_value(like.span(), key, reason);
        }
    }

    /// The keys and trigger rules of a port, a template or `[defaults]`.
    fn port(&mut self, path: &str, table: &DeTable<'a>, into: &mut Port) {
        let own = table.iter().filter(|(word, _)| *word.get_ref() != TRIGGERS);
        self.keys(path, "", own, keys::PORT, into);
        let Some(node) = table.get(TRIGGERS) else { return };
        let path = format!("{path}.{TRIGGERS}");
        match node.get_ref().as_table() {
            Some(rules) => self.triggers(&path, node, rules, &mut into.triggers),
            None => {
                self.faults.add_value(node.span(), path.clone(), format!("expected a table: [{path}.NAME]"))
            }
        }
    }

    /// A rule replaces the rule of that name in `[defaults]` as a whole.
    fn triggers(&mut self, path: &str, node: &Node<'a>, rules: &DeTable<'a>, into: &mut Triggers) {
        for (word, node) in rules {
            let path = format!("{path}.{}", segment(word.get_ref()));
            let Some(name) = self.name::<TriggerName>(word, &path) else { continue };
            let Some(table) = node.get_ref().as_table() else {
                self.faults.add_value(
                    node.span(),
                    path,
                    "expected a table such as { match = \"panic\" }".to_owned(),
                );
                continue;
            };
            let mut rule = Trigger::default();
            let wrong = self.faults.len();
            self.keys(&path, "", table.iter(), keys::TRIGGER, &mut rule);
            if rule.pattern.is_none() && rule.silence.is_none() && self.faults.len() == wrong {
                self.faults.add(word.span(), path, None, IDLE_RULE.to_owned());
            }
            into.insert(name, rule);
        }
        if into.len() > MAX_TRIGGERS {
            let reason = format!("expected at most {MAX_TRIGGERS} triggers, found {}", into.len());
            self.faults.add(node.span(), path.to_owned(), None, reason);
        }
    }

    fn table<'t>(&mut self, tree: &'t DeTable<'a>, name: &str) -> Option<&'t DeTable<'a>> {
        let node = tree.get(name)?;
        let table = node.get_ref().as_table();
        if table.is_none() {
            let right = match node.get_ref() {
                DeValue::Array(_) => format!("one table for each: [{name}.NAME]"),
                _ => format!("[{name}]"),
            };
            self.faults.add_value(node.span(), name.to_owned(), format!("expected a table: {right}"));
            self.uncertain.insert(name.to_owned());
        }
        table
    }

    /// Applies a table to `into`. `prefix` is `log.` in the table of `log`.
    fn keys<'t, T: Default>(
        &mut self,
        path: &str,
        prefix: &str,
        table: impl Iterator<Item = (&'t Spanned<Cow<'a, str>>, &'t Node<'a>)>,
        known: &'static [Key<T>],
        into: &mut T,
    ) where
        'a: 't,
    {
        for (word, node) in table {
            let name = format!("{prefix}{}", word.get_ref());
            let inner = format!("{name}.");
            let full = format!("{path}.{prefix}{}", segment(word.get_ref()));
            let has_keys = prefix.is_empty() && known.iter().any(|key| key.name.starts_with(&inner));
            if let (Some(table), true) = (node.get_ref().as_table(), has_keys) {
                self.keys(path, &inner, table.iter(), known, into);
                continue;
            }
            match keys::find(known, &name) {
                None => {
                    let reason = unknown_in(path, prefix, word.get_ref(), node.get_ref(), known);
                    self.faults.add(word.span(), full, None, reason);
                    if prefix.is_empty() && !is_unrelated_typo(word.get_ref(), node, known) {
                        self.uncertain.insert(path.to_owned());
                    }
                }
                Some(key) if is_inherited(path) && !key.general => {
                    self.faults.add(word.span(), full, None, SINGLE.to_owned());
                }
                Some(key) => self.value(full, node, key, into),
            }
        }
    }

    fn value<T: Default>(&mut self, full: String, node: &Node<'a>, key: &Key<T>, into: &mut T) {
        let refused = match plain(node.get_ref()) {
            Some(value) => key.put(into, &value).map_err(|mut refused| {
                let element = refused.element.and_then(|index| value.as_array()?.get(index));
                // A specific reason is more useful.
                if refused == key.expected(refused.element)
                    && let Some(instead) = meant::instead(key, element.unwrap_or(&value))
                {
                    refused.reason = format!("{}: {instead}", refused.reason);
                }
                refused
            }),
            None => Err(key.expected(None)),
        };
        match refused {
            Ok(()) => {
                self.spans.insert(full, node.span());
            }
            // A table written as headers or dotted keys has no text of one value.
            Err(refused) if node.get_ref().is_table() => {
                self.uncertain.insert(full.clone());
                self.faults.add(node.span(), full, None, refused.reason);
            }
            Err(refused) => {
                self.uncertain.insert(full.clone());
                let list = node.get_ref().as_array();
                let element = refused.element.and_then(|index| list?.get(index));
                self.faults.add_value(element.unwrap_or(node).span(), full, refused.reason);
            }
        }
    }

    /// Of two conflicting keys, the one further down in the file is reported.
    fn conflicts(&mut self, config: &Config) {
        for conflict in config.conflicts() {
            let start = |key: &str| self.spans.get(key).map(|span| span.start);
            let (mut key, mut other) = (conflict.key, conflict.other);
            if start(&key) < start(&other) {
                std::mem::swap(&mut key, &mut other);
            }
            let first = match start(&other) {
                Some(start) => format!(" on line {}", self.faults.line(start)),
                None => " (default)".to_owned(),
            };
            self.fault_of(key, format!("already used by {other}{first}; {}", conflict.shared));
        }
    }
}

/// A port name in a file; only commands also accept `/dev/ttyUSB0`.
fn port_name(word: &str) -> Result<PortName, PortError> {
    match word.parse::<PortName>() {
        Ok(name) if name.as_str() == word => Ok(name),
        _ => Err(PortError::Name(word.chars().take(60).collect())),
    }
}

/// A value without spans; `None` for numbers that no integer type holds.
fn plain(value: &DeValue<'_>) -> Option<Value> {
    Some(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            Value::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()?)
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().ok()?),
        DeValue::Boolean(flag) => Value::Boolean(*flag),
        DeValue::Datetime(time) => Value::Datetime(*time),
        DeValue::Array(list) => {
            Value::Array(list.iter().map(|node| plain(node.get_ref())).collect::<Option<_>>()?)
        }
        // Only elements of a list are tables.
        DeValue::Table(table) => {
            let entry = |(key, node): (&Spanned<Cow<'_, str>>, &Node<'_>)| {
                Some((key.get_ref().to_string(), plain(node.get_ref())?))
            };
            Value::Table(table.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}
