//! ser2net.yaml(5): connections from a listener to a `serialdev`. (`former` reads the format before 4.0.)

use std::collections::BTreeMap;
use std::path::Path;

use super::consent;
use super::error::{ImportError, SourceLine};
use super::gensio::{self, Serial};
use super::lexer::Include;
use super::plan::{Draft, Plan, quoted};
use super::source::Source;
use super::words::{self, Line, flag};
use super::yaml::{self, Anchors, Kind, Node, TWO, Version};
use crate::config::Value;
use crate::port::nearest::nearest;

/// Nested includes.
const MAX_DEPTH: usize = 10;
const MAX_FILES: usize = 256;

/// Defaults so far, by name and class.
#[derive(Default)]
pub struct Defaults(BTreeMap<(String, Option<String>), (String, SourceLine)>);

impl Defaults {
    /// Sets a default; one that does not apply to consoles is reported.
    pub fn set(&mut self, plan: &mut Plan, name: &str, value: &str, class: Option<&str>, place: &SourceLine) {
        let known = LINE_WORDS.contains(&name) || OPTIONS.contains(&name);
        let ours = matches!(class, None | Some("serialdev" | "ser2net"));
        if known && ours {
            let name = (name.to_owned(), class.map(str::to_owned));
            self.0.insert(name, (value.to_owned(), place.clone()));
        } else if flag(value) != Value::Boolean(false) {
            plan.report(place, format_args!("default {}", quoted(name)), without(name));
        }
    }

    pub fn unset(&mut self, name: &str, class: &str) {
        self.0.remove(&(name.to_owned(), Some(class.to_owned())));
    }

    fn get(&self, name: &str, class: &str) -> Option<&(String, SourceLine)> {
        let of = |class: Option<&str>| self.0.get(&(name.to_owned(), class.map(str::to_owned)));
        of(Some(class)).or_else(|| of(None))
    }

    pub fn line(&self, plan: &mut Plan, draft: &mut Draft) -> Line {
        let mut line = Line::new();
        for name in LINE_WORDS {
            if let Some((value, place)) = self.get(name, "serialdev") {
                line.word(plan, draft, &format!("{name}={value}"), place);
            }
        }
        line
    }

    /// Applies default options that a connection does not set.
    pub fn options(&self, plan: &mut Plan, draft: &mut Draft, original: &[String]) {
        for name in OPTIONS.iter().filter(|name| !original.iter().any(|other| other == *name)) {
            if let Some((value, place)) = self.get(name, "ser2net") {
                option(plan, draft, name, value, place);
            }
        }
    }
}

/// Defaults of serial ports.
const LINE_WORDS: [&str; 11] = [
    "speed",
    "databits",
    "stopbits",
    "parity",
    "xonxoff",
    "rtscts",
    "local",
    "hangup-when-done",
    "rs485",
    "dtr",
    "rts",
];
const OPTIONS: [&str; 4] = ["max-connections", "allowed-users", "no-acc-to-con", "remaddr"];

pub fn plan(source: Source, include: &mut Include<'_>) -> Result<Plan, ImportError> {
    let mut reader = Reader {
        plan: Plan::default(),
        defaults: Defaults::default(),
        anchors: Anchors::default(),
        include,
        files: 1,
    };
    reader.file(&source, 0)?;
    Ok(reader.plan)
}

/// Whether a line has a key of the format: of the top level, or of a connection, which may be pasted without its first line.
pub fn is_line(line: &str) -> bool {
    let key = |line: &str| {
        line.split_once(':').map(|(key, _)| key.trim().trim_matches(['"', '\'']).to_ascii_lowercase())
    };
    let is = |line: &str, keys: &[&str]| key(line).is_some_and(|key| keys.contains(&key.as_str()));
    let flow = line.trim_start_matches(['{', ' ', '\t']);
    let in_first_column = line.starts_with(|c: char| !c.is_whitespace());
    is(flow, &["accepter", "connection", "connections", "connector"])
        || in_first_column && (is(line, &BLOCKS) || is(line, &TWO) || is(line, &["delete_default"]))
}

struct Reader<'r, 'i> {
    plan: Plan,
    defaults: Defaults,
    anchors: Anchors,
    include: &'r mut Include<'i>,
    files: usize,
}

impl Reader<'_, '_> {
    fn file(&mut self, source: &Source, depth: usize) -> Result<(), ImportError> {
        let document = yaml::read(source, &mut self.anchors)?;
        for (place, fault, rest) in document.faults {
            self.plan.report(&place, fault, rest);
        }
        for (key, node) in document.entries {
            match key.text().map(str::to_ascii_lowercase) {
                Some(word) if document.version == Version::Two && TWO.contains(&word.as_str()) => {
                    self.blocks(&word, &key.place, node)?;
                }
                _ => self.block(&key, &node, depth)?,
            }
        }
        Ok(())
    }

    /// A block of version 2: the same content for each name.
    fn blocks(&mut self, word: &str, place: &SourceLine, node: Node) -> Result<(), ImportError> {
        let Kind::Map(entries) = node.kind else {
            self.plan.report(place, quoted(word), "expected lines of NAME: …");
            return Ok(());
        };
        for (key, mut node) in entries {
            self.anchors.expand(&mut node)?;
            let Some(name) = key.text() else {
                self.plan.report(&key.place, quoted(word), "expected lines of NAME: …");
                continue;
            };
            let title = format!("{} {}", word.trim_end_matches('s'), quoted(name));
            if let Some((place, why)) = node.invalid() {
                self.plan.report(place, title, format_args!("left out: {why}"));
                continue;
            }
            let text =
                |field: &str| self::field(node.entries().unwrap_or_default(), field).and_then(Node::text);
            match word {
                "defines" => self.anchors.define(name, node.text().unwrap_or_default()),
                "defaults" if node.entries().is_none() => {
                    self.plan.report(&key.place, title, "expected lines of value: and class:");
                }
                "defaults" => {
                    let value = text("value").unwrap_or_default();
                    self.defaults.set(&mut self.plan, name, value, text("class"), &key.place);
                }
                "delete_defaults" => {
                    if let Kind::List(classes) = &node.kind {
                        classes
                            .iter()
                            .filter_map(Node::text)
                            .for_each(|class| self.defaults.unset(name, class));
                    }
                }
                "connections" => {
                    node.name = Some(name.to_owned());
                    connection(&mut self.plan, &node, &key.place, &self.defaults)?;
                }
                "admins" => self.plan.report(&key.place, title, ADMIN),
                "rotators" => self.plan.report(&key.place, title, ROTATOR),
                _ => self.plan.report(&key.place, title, without("led")),
            }
        }
        Ok(())
    }

    fn block(&mut self, key: &Node, node: &Node, depth: usize) -> Result<(), ImportError> {
        let plan = &mut self.plan;
        let Some(word) = key.text() else {
            plan.report(&key.place, "a key", "expected a word such as connection");
            return Ok(());
        };
        let title = match &node.name {
            Some(name) => format!("{} {}", quoted(word), quoted(name)),
            None => quoted(word),
        };
        if let Some((place, why)) = node.invalid() {
            plan.report(place, title, format_args!("left out: {why}"));
            return Ok(());
        }
        let text = |name| field(node.entries().unwrap_or_default(), name).and_then(Node::text);
        // Key words may be in upper case, as in ser2net.
        match word.to_ascii_lowercase().as_str() {
            "define" | "version" => {}
            "connection" => return connection(plan, node, &key.place, &self.defaults),
            "default" => match text("name") {
                Some(name) => {
                    let value = text("value").unwrap_or_default();
                    self.defaults.set(plan, name, value, text("class"), &node.place);
                }
                None => plan.report(&key.place, "default", "no name"),
            },
            "delete_default" | "deldefault" => {
                if let (Some(name), Some(class)) = (text("name"), text("class")) {
                    self.defaults.unset(name, class);
                }
            }
            "include" => return self.include(node.text().unwrap_or_default(), &key.place, depth),
            "admin" => plan.report(&key.place, "admin", ADMIN),
            "rotator" => plan.report(&key.place, title, ROTATOR),
            "led" => plan.report(&key.place, title, without("led")),
            word if TWO.contains(&word) => plan.report(
                &key.place,
                title,
                format_args!(
                    "left out: ser2net rejects a file with both {word} and blocks such as connection"
                ),
            ),
            word if KNOWN.contains(&word) => {
                plan.report(
                    &key.place,
                    title,
                    "belongs to a connection: indent it below `connection: &NAME`",
                );
            }
            _ => {
                let what = if text("connector").is_some() { "left out: " } else { "" };
                plan.report(
                    &key.place,
                    title,
                    format_args!("{what}{}", unknown(word, &[&BLOCKS[..], &TWO[..]].concat())),
                );
            }
        }
        Ok(())
    }

    /// Includes a file, which shares definitions and defaults.
    fn include(&mut self, name: &str, place: &SourceLine, depth: usize) -> Result<(), ImportError> {
        let what = format!("include {}", quoted(name));
        if depth == MAX_DEPTH || self.files == MAX_FILES {
            self.plan.report(place, what, "not read: too many files");
            return Ok(());
        }
        match (self.include)(Path::new(name)) {
            Ok(sources) => {
                for source in sources {
                    if self.files == MAX_FILES {
                        self.plan.report(place, &what, "not read: too many files");
                        break;
                    }
                    self.files += 1;
                    self.file(&source, depth + 1)?;
                }
            }
            Err(error @ ImportError::TooLong(..)) => return Err(error),
            Err(error) => self.plan.report(place, what, format_args!("not read: {error}")),
        }
        Ok(())
    }
}

const ADMIN: &str = "ports are administered with consolectl(1)";
const ROTATOR: &str = "each port has its own listener";

fn field<'n>(entries: &'n [(Node, Node)], name: &str) -> Option<&'n Node> {
    let is = |key: &Node| key.text().is_some_and(|key| key.eq_ignore_ascii_case(name));
    // The last entry of a name counts.
    entries.iter().rfind(|(key, _)| is(key)).map(|(_, node)| node)
}

fn connection(
    plan: &mut Plan,
    node: &Node,
    place: &SourceLine,
    defaults: &Defaults,
) -> Result<(), ImportError> {
    let Some(entries) = node.entries() else {
        plan.report(place, "connection", "left out: expected accepter: and connector:");
        return Ok(());
    };
    // Before 4.1 it was a field.
    let name = node.name.as_deref().or_else(|| field(entries, "name").and_then(Node::text));
    let Some(name) = name else {
        plan.report(place, "connection", "left out: no name: expected connection: &NAME");
        return Ok(());
    };
    let title = format!("connection {}", quoted(name));
    let Some((at, connector)) =
        field(entries, "connector").and_then(|node| Some((&node.place, node.text()?)))
    else {
        plan.report(place, title, "no connector");
        return Ok(());
    };
    if let Some((key, _)) = entries.iter().find(|(key, node)| {
        key.text().is_some_and(|key| key.eq_ignore_ascii_case("options"))
            && node.entries().is_none()
            && node.text() != Some("")
    }) {
        // They may restrict who may use the port. ser2net rejects the file.
        plan.report(&key.place, format_args!("{title}: options"), "left out: expected lines of NAME: VALUE");
        return Ok(());
    }
    let draft = match (Serial::of(connector), gensio::far_end(connector)) {
        (Ok(serial), _) => {
            let is_off = |node: &Node| node.text().is_some_and(|text| flag(text) == Value::Boolean(false));
            if !field(entries, "enable").is_some_and(is_off) {
                plan.replace_off(&serial.device, place);
            }
            let draft = plan.port(name, &serial.device, place)?;
            draft.map(|mut draft| {
                let line = defaults.line(plan, &mut draft);
                serial.give(plan, &mut draft, line, at);
                draft
            })
        }
        (Err(_), Some(far)) => far.port(plan, name, place)?,
        (Err(why), None) => {
            plan.report(place, title, why);
            return Ok(());
        }
    };
    let Some(mut draft) = draft else { return Ok(()) };
    if field(entries, "accepter").is_none() {
        draft.closed = true;
        plan.report(place, &title, "no accepter: no listener");
    }
    let mut options = Vec::new();
    for (key, node) in entries {
        let key_text = key.text().unwrap_or_default().to_ascii_lowercase();
        match (key_text.as_str(), node.text()) {
            ("connector" | "name", _) => {}
            ("accepter", Some(text)) => gensio::accepter(plan, &mut draft, text, &node.place),
            ("accepter", None) => {
                draft.closed = true;
                plan.report(&node.place, "accepter", "expected a string: no listener");
            }
            ("timeout", Some(text)) => {
                plan.set(
                    &mut draft,
                    "timeout",
                    words::number(text),
                    &format!("timeout: {text}"),
                    &node.place,
                );
            }
            ("enable", Some(text)) => {
                plan.set(&mut draft, "enabled", flag(text), &format!("enable: {text}"), &node.place);
            }
            ("options", _) => options.extend(node.entries().unwrap_or_default().iter().map(|(k, n)| (k, n))),
            // Some files have options here too.
            _ => options.push((key, node)),
        }
    }
    let mut original = Vec::new();
    let mut hexdump = None;
    // Write-only access is not possible here.
    let mut unread = None;
    for (key, node) in options {
        let name = key.text().unwrap_or_default();
        match node.text() {
            Some(text) => {
                if name == "no-con-to-acc" && flag(text) != Value::Boolean(false) {
                    unread = Some(key.place.clone());
                }
                option(plan, &mut draft, name, text, &key.place);
            }
            None => plan.report(&key.place, quoted(name), reason(name)),
        }
        let is_on = node.text().is_some_and(|text| flag(text) != Value::Boolean(false));
        hexdump = match name {
            "trace-hexdump" | "trace-read-hexdump" | "trace-both-hexdump" => is_on.then(|| key.place.clone()),
            _ => hexdump,
        };
        original.push(name.to_owned());
    }
    let has_trace = original.iter().any(|name| name == "trace-read" || name == "trace-both");
    if let Some(place) = hexdump.filter(|_| has_trace) {
        plan.set(&mut draft, "log.type", "hex".into(), "trace-hexdump", &place);
    }
    defaults.options(plan, &mut draft, &original);
    if let Some(place) = unread {
        consent::deny_all(plan, &mut draft, &place);
    }
    if draft.sets_users {
        gensio::require_login(&mut draft);
    }
    plan.ports.push(draft);
    Ok(())
}

/// An option of a connection, of either format.
pub fn option(plan: &mut Plan, draft: &mut Draft, name: &str, text: &str, place: &SourceLine) {
    let is_on = flag(text) != Value::Boolean(false);
    match name {
        "max-connections" => {
            if text.trim().parse::<u32>().is_ok_and(|count| count > 1) {
                plan.set(draft, "write", "shared".into(), name, place);
            }
        }
        "allowed-users" => allowed(plan, draft, text, place),
        "remaddr" => gensio::remaddr(plan, draft, text, place),
        "no-acc-to-con" if is_on => {
            let every_user = !draft.sets_users;
            draft.sets_users = true;
            draft.keys.remove("users");
            plan.set(draft, "groups", Value::Array(Vec::new()), name, place);
            let why = if every_user {
                plan.set(draft, "read_only_groups", Value::Array(vec!["*".into()]), name, place);
                "no write access; every user may watch"
            } else {
                "no user may write, and read-only access is given to groups only (read_only_groups)"
            };
            plan.report(place, format_args!("{name}: {}", quoted(text)), why);
        }
        _ if !is_on || text.is_empty() => {}
        // They configure the format of the log, and it has timestamps.
        name if name.starts_with("trace-")
            && (name.ends_with("hexdump") || name.ends_with("timestamp"))
            && name != "trace-write-hexdump" => {}
        _ => plan.report(place, format_args!("{}: {}", quoted(name), quoted(text)), reason(name)),
    }
}

/// Restricts access to these users; each `allowed-users` adds some.
fn allowed(plan: &mut Plan, draft: &mut Draft, text: &str, place: &SourceLine) {
    // no-acc-to-con has already denied write access.
    if draft.keys.contains_key("read_only_groups") {
        draft.keys.remove("read_only_groups");
        return;
    }
    let mut users = match draft.keys.get("users") {
        Some((Value::Array(users), _)) => users.clone(),
        _ => Vec::new(),
    };
    for user in text.split_whitespace() {
        match Plan::accepts("users", &Value::Array(vec![user.into()])) {
            true => users.push(user.into()),
            false => plan.report(place, format_args!("allowed-users: {}", quoted(user)), "invalid user name"),
        }
    }
    draft.sets_users = true;
    plan.set(draft, "groups", Value::Array(Vec::new()), "allowed-users", place);
    if !users.is_empty() {
        plan.set(draft, "users", Value::Array(users), "allowed-users", place);
    }
}

/// Top-level keys.
const BLOCKS: [&str; 7] = ["admin", "connection", "default", "define", "include", "led", "rotator"];
/// Keys of a connection, and its options.
const KNOWN: [&str; 30] = [
    "accepter",
    "accepter-retry-time",
    "allowed-users",
    "authdir",
    "banner",
    "chardelay",
    "closeon",
    "closestr",
    "connback",
    "connector",
    "connector-retry-time",
    "enable",
    "kickolduser",
    "led-rx",
    "led-tx",
    "max-connections",
    "mdns",
    "no-acc-to-con",
    "no-con-to-acc",
    "openstr",
    "options",
    "pamauth",
    "remaddr",
    "sendon",
    "signature",
    "telnet-brk-on-sync",
    "timeout",
    "trace-both",
    "trace-read",
    "trace-write",
];

/// Why an unknown word is not imported, with the known one that it resembles.
fn unknown(word: &str, known: &[&'static str]) -> String {
    match nearest(word, known.iter().copied()).first() {
        Some(near) => format!("unknown: did you mean {near}?"),
        None => "not supported here".to_owned(),
    }
}

/// Why an option is not imported.
fn reason(name: &str) -> String {
    match without(name) {
        _ if ["accepter", "connector", "enable", "timeout"].contains(&name) => {
            "belongs to the connection: indent it as its accepter is".to_owned()
        }
        "not supported here" => unknown(name, &KNOWN),
        why => why.to_owned(),
    }
}

/// Why an option is not imported.
pub fn without(name: &str) -> &'static str {
    match name {
        "authdir" | "pamauth" => "logins use PAM and authorized_keys",
        "banner" => "set a description with `describe`",
        "chardelay" | "chardelay-scale" | "chardelay-min" | "chardelay-max" => gensio::CHARDELAY,
        "sendon" => "input and output are passed on immediately",
        "closeon" => "sessions end when the user detaches",
        "connback" => "outgoing connections are not supported",
        "dev-to-net-bufsize" | "net-to-dev-bufsize" | "dev-to-tcp-bufsize" | "tcp-to-dev-bufsize" => {
            "buffer sizes are fixed, except `scrollback`"
        }
        "kickolduser" => "later clients are read-only, and take over with ^Ecf",
        "led" | "led-tx" | "led-rx" => "LEDs are not supported",
        "no-acc-to-con" => "read-only access is given to groups only (read_only_groups)",
        "no-con-to-acc" => "write-only access is not supported, so no user may use the port",
        "openstr" | "closestr" => "nothing is sent to a device automatically",
        "remaddr" => "client addresses are restricted by a firewall",
        "signature" | "remctl" => "consoles use SSH, and `consolectl` sets the line",
        "telnet-brk-on-sync" | "telnet_brk_on_sync" => "send a break with the SSH client's ~B, or ^Ecl0",
        "accepter-retry-time" | "connector-retry-time" => "listeners and devices are retried automatically",
        name if name.starts_with("mdns") => "mDNS is not supported",
        "trace-write" | "trace-both" => {
            "the log is /var/log/consoleserver/PORT/console.log; `log.input` records what is typed too"
        }
        name if name.starts_with("trace") => "the log is /var/log/consoleserver/PORT/console.log",
        _ => "not supported here",
    }
}
