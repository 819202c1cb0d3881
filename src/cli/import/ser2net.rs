//! ser2net.yaml(5): its connections from a listener to a `serialdev`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::plan::{is_by_name, shown};
use super::yaml::{self, Node};
use super::{Draft, ImportError, Place, Plan, Source};
use crate::config::Value;

/// Defaults that the file has set so far, of `serialdev`.
type Defaults = BTreeMap<String, String>;

/// Reads it.
pub fn plan(source: &Source) -> Result<Plan, ImportError> {
    let mut plan = Plan::default();
    let mut defaults = Defaults::new();
    let Some(root) = yaml::read(source)? else { return Ok(plan) };
    let wrong = |place: &Place, why: &str| ImportError::Syntax(place.clone(), why.to_owned());
    let entries =
        root.entries().ok_or_else(|| wrong(&root.place, "expected connection:, define: and so on"))?;
    for (key, node) in entries {
        let key_text = key.text().ok_or_else(|| wrong(&key.place, "expected a word such as connection"))?;
        match key_text {
            "define" | "version" => {}
            "connection" => {
                let entries =
                    node.entries().ok_or_else(|| wrong(&key.place, "expected accepter: and connector:"))?;
                let name = node.name.as_deref().ok_or_else(|| {
                    wrong(&key.place, "a connection has a name: expected connection: &NAME")
                })?;
                connection(&mut plan, name, entries, &key.place, &defaults)?;
            }
            "default" => default(&mut plan, node, &mut defaults),
            "include" => plan.leave(&key.place, "include", "import that file by itself"),
            "admin" => plan.leave(&key.place, "admin", "ports are administered by consolectl(1)"),
            "rotator" => plan.leave(&key.place, "rotator", "each port has its own listener"),
            "led" => plan.leave(&key.place, "led", "there is no such thing here"),
            other => plan.leave(&key.place, shown(other), "there is no such thing here"),
        }
    }
    Ok(plan)
}

fn field<'n>(entries: &'n [(Node, Node)], name: &str) -> Option<&'n Node> {
    entries.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, node)| node)
}

fn default(plan: &mut Plan, node: &Node, defaults: &mut Defaults) {
    let text = |name| field(node.entries().unwrap_or_default(), name).and_then(Node::text);
    match (text("name"), text("value"), text("class")) {
        (Some(name @ ("speed" | "local" | "rtscts" | "xonxoff")), Some(value), None | Some("serialdev")) => {
            defaults.insert(name.to_owned(), value.to_owned());
        }
        (name, ..) => {
            let what = format!("default {}", shown(name.unwrap_or("without a name")));
            plan.leave(&node.place, what, "there is no such thing here");
        }
    }
}

fn connection(
    plan: &mut Plan,
    name: &str,
    entries: &[(Node, Node)],
    place: &Place,
    defaults: &Defaults,
) -> Result<(), ImportError> {
    let title = format!("connection {}", shown(name));
    let Some((at, connector)) =
        field(entries, "connector").and_then(|node| Some((&node.place, node.text()?)))
    else {
        plan.leave(place, title, "it has no connector");
        return Ok(());
    };
    let mut parts = Parts::of(connector);
    let kind = parts.next().unwrap_or_default();
    let (kind, arguments) = called(&kind);
    if kind != "serialdev" {
        plan.leave(
            place,
            title,
            format_args!("its connector is {}: no serial port of this machine", shown(kind)),
        );
        return Ok(());
    }
    let device = parts.next().unwrap_or_default();
    if !device.starts_with('/') || device.contains("*{") {
        plan.leave(place, title, format_args!("its device is {:?}: expected a path", shown(&device)));
        return Ok(());
    }
    let Some(mut draft) = plan.port(name, place)? else { return Ok(()) };
    if !is_by_name(device.as_ref(), &draft.name) {
        plan.set(&mut draft, "device", device.as_str().into(), &device, at);
        if !draft.keys.contains_key("device") {
            plan.leave(place, title, "it would have no device");
            return Ok(());
        }
    }
    for (name, value) in defaults {
        serial(plan, &mut draft, &format!("{name}={value}"), at);
    }
    for word in parts.flat_map(words).chain(arguments.split(',').flat_map(|part| words(part.to_owned()))) {
        serial(plan, &mut draft, &word, at);
    }
    for (key, node) in entries {
        let key_text = key.text().unwrap_or_default();
        match (key_text, node.text()) {
            ("connector", _) => {}
            ("accepter", Some(text)) => accepter(plan, &mut draft, text, &node.place),
            ("timeout", Some(text)) => {
                plan.set(&mut draft, "timeout", number(text), &format!("timeout: {text}"), &node.place);
            }
            ("enable", Some(text)) => {
                plan.set(&mut draft, "enabled", flag(text), &format!("enable: {text}"), &node.place);
            }
            ("options", _) => {
                for (key, node) in node.entries().unwrap_or_default() {
                    option(plan, &mut draft, key.text().unwrap_or_default(), node, &key.place);
                }
            }
            // ser2net takes an option here too.
            (other, _) => option(plan, &mut draft, other, node, &key.place),
        }
    }
    plan.ports.push(draft);
    Ok(())
}

/// Parts of a gensio's string, between commas that are in no parentheses.
struct Parts<'t>(Option<&'t str>);

impl<'t> Parts<'t> {
    fn of(text: &'t str) -> Self {
        Self(Some(text))
    }
}

impl Iterator for Parts<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let text = self.0?;
        let mut depth = 0_usize;
        for (index, c) in text.char_indices() {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                ',' if depth == 0 => {
                    self.0 = Some(&text[index + 1..]);
                    return Some(text[..index].trim().to_owned());
                }
                _ => {}
            }
        }
        self.0 = None;
        Some(text.trim().to_owned())
    }
}

/// `telnet(rfc2217)`: the name, and what stands in the parentheses.
fn called(part: &str) -> (&str, &str) {
    match part.split_once('(') {
        Some((name, rest)) => (name.trim(), rest.trim_end().trim_end_matches(')')),
        None => (part.trim(), ""),
    }
}

/// Words that spaces keep apart as well.
fn words(part: String) -> Vec<String> {
    part.split_whitespace().map(str::to_owned).collect()
}

fn number(word: &str) -> Value {
    word.parse().map_or_else(|_| word.into(), Value::Integer)
}

/// As YAML 1.1 takes them.
fn flag(word: &str) -> Value {
    match word.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => true.into(),
        "false" | "off" | "no" | "0" => false.into(),
        _ => word.into(),
    }
}

/// A word about the serial port: `115200n81`, `rtscts`, `local=false`.
fn serial(plan: &mut Plan, draft: &mut Draft, word: &str, place: &Place) {
    let (name, value) = word.split_once('=').unwrap_or((word, "true"));
    let is_off = flag(value) == Value::Boolean(false);
    match name.to_ascii_lowercase().as_str() {
        "speed" => speed(plan, draft, value, place),
        _ if name.starts_with(|c: char| c.is_ascii_digit()) => speed(plan, draft, word, place),
        "rtscts" => plan.set(draft, "rtscts", flag(value), word, place),
        "xonxoff" => plan.set(draft, "xonxoff", flag(value), word, place),
        "local" if !is_off => {}
        "local" => plan.leave(place, shown(word), "modem lines are never waited for"),
        "hangup-when-done" | "nobreak" | "nouucplock" if is_off => {}
        "nouucplock" | "nobreak" => {}
        _ => plan.leave(place, shown(word), "there is no such thing here"),
    }
}

/// `115200n81`, of which the end may be missing.
fn speed(plan: &mut Plan, draft: &mut Draft, word: &str, place: &Place) {
    let letters = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (baud, rest) = word.split_at(letters);
    plan.set(draft, "baud", number(baud), word, place);
    let mut rest = rest.chars();
    if let Some(parity) = rest.next() {
        plan.set(draft, "parity", parity.to_ascii_uppercase().to_string().into(), word, place);
    }
    for key in ["bytesize", "stopbits"] {
        if let Some(count) = rest.next() {
            plan.set(draft, key, number(&count.to_string()), word, place);
        }
    }
    if rest.next().is_some() {
        plan.leave(place, shown(word), "expected a speed such as 9600n81");
    }
}

/// `telnet(rfc2217),tcp,localhost,2000`
fn accepter(plan: &mut Plan, draft: &mut Draft, text: &str, place: &Place) {
    let parts: Vec<String> = Parts::of(text).collect();
    let Some(tcp) = parts.iter().position(|part| called(part).0 == "tcp") else {
        plan.leave(place, shown(text), "consoles listen on TCP only: no listener");
        return;
    };
    for layer in &parts[..tcp] {
        plan.leave(place, shown(layer), "a console speaks SSH");
    }
    let address = &parts[tcp + 1..];
    let (Some(port), before) = (address.last(), address.len().saturating_sub(1)) else {
        plan.leave(place, shown(text), "no TCP port: no listener");
        return;
    };
    plan.set(draft, "ssh_port", number(port), text, place);
    let mut listen = Vec::new();
    for host in &address[..before] {
        match host.as_str() {
            "localhost" => listen = vec!["127.0.0.1", "::1"],
            "ipv4" => listen = vec!["0.0.0.0"],
            "ipv6" | "ipv6n4" => listen = vec!["::"],
            host if host.parse::<IpAddr>().is_ok() => listen = vec![host],
            host => {
                // Not on more addresses than there.
                draft.keys.remove("ssh_port");
                plan.leave(place, shown(host), "an address to listen on is a number here: no listener");
                return;
            }
        }
    }
    if !listen.is_empty() && draft.keys.contains_key("ssh_port") {
        let listen = Value::Array(listen.into_iter().map(Value::from).collect());
        plan.set(draft, "listen", listen, text, place);
    }
}

fn option(plan: &mut Plan, draft: &mut Draft, name: &str, node: &Node, place: &Place) {
    let Some(text) = node.text() else {
        return plan.leave(place, shown(name), "there is no such thing here");
    };
    match name {
        "max-connections" => {
            if text.parse::<u32>().is_ok_and(|count| count > 1) {
                plan.set(draft, "write", "shared".into(), name, place);
            }
        }
        "allowed-users" => {
            let users = text.split_whitespace().map(Value::from).collect();
            plan.set(draft, "users", Value::Array(users), name, place);
            plan.set(draft, "groups", Value::Array(Vec::new()), name, place);
        }
        _ if flag(text) == Value::Boolean(false) => {}
        _ => plan.leave(place, format_args!("{}: {}", shown(name), shown(text)), without(name)),
    }
}

/// Why an option has no place here.
fn without(name: &str) -> &'static str {
    match name {
        "authdir" | "pamauth" => "logins are the machine's: PAM and authorized_keys",
        "banner" => "`describe` is a label that everybody sees",
        "chardelay" | "chardelay-scale" | "chardelay-min" | "chardelay-max" | "sendon" => {
            "what is typed and said is passed on at once"
        }
        "connback" => "nobody is called from here",
        "kickolduser" => "whoever comes later watches, and takes over by ^Ecf",
        "no-acc-to-con" => "who only watches is named by groups here (read_only_groups)",
        "openstr" | "closestr" => "nothing is sent to a device by itself",
        "remaddr" => "who may come from where is a firewall's here",
        "telnet-brk-on-sync" => "a break is the SSH client's own ~B, or ^Ecl0",
        name if name.starts_with("mdns") => "ports are not announced",
        name if name.starts_with("trace") => "the log is /var/log/consoleserver/PORT/console.log",
        _ => "there is no such thing here",
    }
}
