//! ser2net.yaml(5): its connections from a listener to a `serialdev`. (The format before 4.0 is read by
//! `former`.)

use std::collections::BTreeMap;
use std::path::Path;

use super::consent;
use super::gensio::{self, Serial};
use super::lexer::Include;
use super::plan::shown;
use super::words::{self, Line, flag};
use super::yaml::{self, Anchors, Node};
use super::{Draft, ImportError, Plan, Source, SourceLine};
use crate::config::Value;

/// Files in files.
const MAX_DEPTH: usize = 10;
/// Files of one import.
const MAX_FILES: usize = 256;

/// Defaults that a file has set so far, by name and class.
#[derive(Default)]
pub struct Defaults(BTreeMap<(String, Option<String>), (String, SourceLine)>);

impl Defaults {
    /// Takes one; what it says of other things than consoles is reported.
    pub fn set(&mut self, plan: &mut Plan, name: &str, value: &str, class: Option<&str>, place: &SourceLine) {
        let known = LINE.contains(&name) || OPTIONS.contains(&name);
        let ours = matches!(class, None | Some("serialdev" | "ser2net"));
        if known && ours {
            let name = (name.to_owned(), class.map(str::to_owned));
            self.0.insert(name, (value.to_owned(), place.clone()));
        } else if flag(value) != Value::Boolean(false) {
            plan.leave(place, format_args!("default {}", shown(name)), without(name));
        }
    }

    /// Forgets one.
    pub fn unset(&mut self, name: &str, class: &str) {
        self.0.remove(&(name.to_owned(), Some(class.to_owned())));
    }

    fn get(&self, name: &str, class: &str) -> Option<&(String, SourceLine)> {
        let of = |class: Option<&str>| self.0.get(&(name.to_owned(), class.map(str::to_owned)));
        of(Some(class)).or_else(|| of(None))
    }

    /// A line of which nothing else is said.
    pub fn line(&self, plan: &mut Plan, draft: &mut Draft) -> Line {
        let mut line = Line::new();
        for name in LINE {
            if let Some((value, place)) = self.get(name, "serialdev") {
                line.word(plan, draft, &format!("{name}={value}"), place);
            }
        }
        line
    }

    /// Options that a connection does not say itself.
    pub fn options(&self, plan: &mut Plan, draft: &mut Draft, said: &[String]) {
        for name in OPTIONS.iter().filter(|name| !said.iter().any(|other| other == *name)) {
            if let Some((value, place)) = self.get(name, "ser2net") {
                option(plan, draft, name, value, place);
            }
        }
    }
}

/// Defaults of a serial line.
const LINE: [&str; 11] = [
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
/// Defaults that decide who may do what.
const OPTIONS: [&str; 4] = ["max-connections", "allowed-users", "no-acc-to-con", "remaddr"];

/// Reads it.
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
        for (place, fault) in document.faults {
            self.plan.leave(&place, fault, "the rest of the file is read");
        }
        for (key, node) in document.entries {
            self.block(&key, &node, depth)?;
        }
        Ok(())
    }

    fn block(&mut self, key: &Node, node: &Node, depth: usize) -> Result<(), ImportError> {
        let plan = &mut self.plan;
        let Some(word) = key.text() else {
            plan.leave(&key.place, "a key", "expected a word such as connection");
            return Ok(());
        };
        let title = match &node.name {
            Some(name) => format!("{} {}", shown(word), shown(name)),
            None => shown(word),
        };
        if let Some((place, why)) = node.wrong() {
            plan.leave(place, title, format_args!("left out: {why}"));
            return Ok(());
        }
        let text = |name| field(node.entries().unwrap_or_default(), name).and_then(Node::text);
        match word {
            "define" | "version" => {}
            "connection" => return connection(plan, node, &key.place, &self.defaults),
            "default" => match text("name") {
                Some(name) => {
                    let value = text("value").unwrap_or_default();
                    self.defaults.set(plan, name, value, text("class"), &node.place);
                }
                None => plan.leave(&key.place, "default", "it has no name"),
            },
            "delete_default" | "deldefault" => {
                if let (Some(name), Some(class)) = (text("name"), text("class")) {
                    self.defaults.unset(name, class);
                }
            }
            "include" => return self.include(node.text().unwrap_or_default(), &key.place, depth),
            "admin" => plan.leave(&key.place, "admin", "ports are administered by consolectl(1)"),
            "rotator" => plan.leave(&key.place, title, "each port has its own listener"),
            "led" => plan.leave(&key.place, title, without("led")),
            _ => plan.leave(&key.place, title, "there is no such thing here"),
        }
        Ok(())
    }

    /// Reads a file in another one's place, with its defines and defaults.
    fn include(&mut self, name: &str, place: &SourceLine, depth: usize) -> Result<(), ImportError> {
        let what = format!("include {}", shown(name));
        if name.contains(['*', '?', '[']) {
            self.plan.leave(place, what, "not read: import each of these files by itself");
        } else if depth == MAX_DEPTH || self.files == MAX_FILES {
            self.plan.leave(place, what, "not read: too many files");
        } else {
            self.files += 1;
            match (self.include)(Path::new(name)) {
                Ok(source) => return self.file(&source, depth + 1),
                Err(error @ ImportError::TooLong(..)) => return Err(error),
                Err(error) => self.plan.leave(place, what, format_args!("not read: {error}")),
            }
        }
        Ok(())
    }
}

fn field<'n>(entries: &'n [(Node, Node)], name: &str) -> Option<&'n Node> {
    // The last one of a name counts.
    entries.iter().rfind(|(key, _)| key.text() == Some(name)).map(|(_, node)| node)
}

fn connection(
    plan: &mut Plan,
    node: &Node,
    place: &SourceLine,
    defaults: &Defaults,
) -> Result<(), ImportError> {
    let Some(entries) = node.entries() else {
        plan.leave(place, "connection", "left out: expected accepter: and connector:");
        return Ok(());
    };
    // Before 4.1 it stood in a field.
    let name = node.name.as_deref().or_else(|| field(entries, "name").and_then(Node::text));
    let Some(name) = name else {
        plan.leave(place, "connection", "left out: a connection has a name: expected connection: &NAME");
        return Ok(());
    };
    let title = format!("connection {}", shown(name));
    let Some((at, connector)) =
        field(entries, "connector").and_then(|node| Some((&node.place, node.text()?)))
    else {
        plan.leave(place, title, "it has no connector");
        return Ok(());
    };
    let serial = match Serial::of(connector) {
        Ok(serial) => serial,
        Err(why) => {
            plan.leave(place, title, why);
            return Ok(());
        }
    };
    let Some(mut draft) = plan.port(name, &serial.device, place)? else { return Ok(()) };
    let line = defaults.line(plan, &mut draft);
    serial.give(plan, &mut draft, line, at);
    if field(entries, "accepter").is_none() {
        draft.closed = true;
        plan.leave(place, &title, "it has no accepter: no listener");
    }
    let mut options = Vec::new();
    for (key, node) in entries {
        let key_text = key.text().unwrap_or_default();
        match (key_text, node.text()) {
            ("connector" | "name", _) => {}
            ("accepter", Some(text)) => gensio::accepter(plan, &mut draft, text, &node.place),
            ("accepter", None) => {
                draft.closed = true;
                plan.leave(&node.place, "accepter", "expected a text: no listener");
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
            // Some files have an option here too.
            _ => options.push((key, node)),
        }
    }
    let mut said = Vec::new();
    // Clients write there and read nothing, which cannot be had here.
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
            None => plan.leave(&key.place, shown(name), without(name)),
        }
        said.push(name.to_owned());
    }
    defaults.options(plan, &mut draft, &said);
    if let Some(place) = unread {
        consent::nobody(plan, &mut draft, &place);
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
            let everybody = !draft.says_who;
            draft.says_who = true;
            draft.keys.remove("users");
            plan.set(draft, "groups", Value::Array(Vec::new()), name, place);
            let why = if everybody {
                plan.set(draft, "read_only_groups", Value::Array(vec!["*".into()]), name, place);
                "no write access; every user has read-only access"
            } else {
                "nobody may write, and who only watches is named by groups here (read_only_groups)"
            };
            plan.leave(place, format_args!("{name}: {}", shown(text)), why);
        }
        _ if !is_on || text.is_empty() => {}
        _ => plan.leave(place, format_args!("{}: {}", shown(name), shown(text)), without(name)),
    }
}

/// Those users and nobody else: each `allowed-users` adds some.
fn allowed(plan: &mut Plan, draft: &mut Draft, text: &str, place: &SourceLine) {
    // Nobody may write already.
    if draft.keys.contains_key("read_only_groups") {
        draft.keys.remove("read_only_groups");
        return;
    }
    let mut users = match draft.keys.get("users") {
        Some((Value::Array(users), _)) => users.clone(),
        _ => Vec::new(),
    };
    for user in text.split_whitespace() {
        match Plan::takes("users", &Value::Array(vec![user.into()])) {
            true => users.push(user.into()),
            false => plan.leave(place, format_args!("allowed-users: {}", shown(user)), "no name of a user"),
        }
    }
    draft.says_who = true;
    plan.set(draft, "groups", Value::Array(Vec::new()), "allowed-users", place);
    if !users.is_empty() {
        plan.set(draft, "users", Value::Array(users), "allowed-users", place);
    }
}

/// Why an option has no place here.
pub fn without(name: &str) -> &'static str {
    match name {
        "authdir" | "pamauth" => "logins are the machine's: PAM and authorized_keys",
        "banner" => "`describe` is a label that everybody sees",
        "chardelay" | "chardelay-scale" | "chardelay-min" | "chardelay-max" => gensio::CHARDELAY,
        "sendon" => "what is typed and said is passed on at once",
        "closeon" => "a session ends when its user leaves",
        "connback" => "nobody is called from here",
        "dev-to-net-bufsize" | "net-to-dev-bufsize" | "dev-to-tcp-bufsize" | "tcp-to-dev-bufsize" => {
            "buffers have a size of their own (`scrollback`)"
        }
        "kickolduser" => "whoever comes later watches, and takes over by ^Ecf",
        "led" | "led-tx" | "led-rx" => "no lamps are switched",
        "no-acc-to-con" => "who only watches is named by groups here (read_only_groups)",
        "no-con-to-acc" => "a user who may write here also reads, so nobody may use the port",
        "openstr" | "closestr" => "nothing is sent to a device by itself",
        "remaddr" => "who may come from where is a firewall's here",
        "signature" | "remctl" => "a console speaks SSH, and its line is set by `consolectl`",
        "telnet-brk-on-sync" | "telnet_brk_on_sync" => "a break is the SSH client's own ~B, or ^Ecl0",
        "accepter-retry-time" | "connector-retry-time" => {
            "listeners and devices are tried again by themselves"
        }
        name if name.starts_with("mdns") => "ports are not announced",
        name if name.starts_with("trace") => "the log is /var/log/consoleserver/PORT/console.log",
        _ => "there is no such thing here",
    }
}
