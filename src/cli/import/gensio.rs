//! gensio strings of ser2net: layers separated by commas, each with options in parentheses, down to a serial port or an address. Commas can
//! be quoted and escaped.

use std::net::IpAddr;
use std::time::Duration;

use super::error::SourceLine;
use super::plan::{Draft, Plan, quoted};
use super::remote::FarEnd;
use super::words::{self, Line};
use crate::config::Value;
use crate::port::Pause;

/// Filters in gensio(5).
const FILTERS: &str = "afskmdm ax25 certauth chardelay conacc keepopen kiss mdns msgdelim mux perf ratelimit relpkt \
     script ssl telnet trace xlt";
/// Terminal gensios other than TCP and serial ports.
const OTHERS: &str = "dummy echo file ipmisol pty sctp sound stdin stdio udp unix vsock";

fn is_one_of(words: &str, name: &str) -> bool {
    words.split(' ').any(|word| word == name)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Part {
    /// The text as in the file.
    original: String,
    /// The text before the parentheses, unquoted.
    name: String,
    /// The text in parentheses.
    options: Option<String>,
}

/// Splits at separators outside of parentheses and quotes.
fn parts(text: &str, separators: &[char]) -> Vec<Part> {
    let mut parts = vec![Part::default()];
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for c in text.chars() {
        let part = parts.last_mut().expect("it begins with one");
        if depth == 0 && quote.is_none() && !escaped && separators.contains(&c) {
            parts.push(Part::default());
            continue;
        }
        part.original.push(c);
        let is_plain = quote.is_none() && !escaped;
        match c {
            '(' if is_plain => {
                depth += 1;
                if depth == 1 {
                    part.options.get_or_insert_default();
                    continue;
                }
            }
            ')' if is_plain && depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    continue;
                }
            }
            _ => {}
        }
        if depth > 0 {
            part.options.get_or_insert_default().push(c);
        }
        match (c, quote, escaped) {
            (_, _, true) => escaped = false,
            ('\\', _, _) => {
                escaped = true;
                continue;
            }
            ('"' | '\'', None, _) => {
                quote = Some(c);
                continue;
            }
            (c, Some(end), _) if c == end => {
                quote = None;
                continue;
            }
            _ => {}
        }
        if depth == 0 {
            part.name.push(c);
        }
    }
    for part in &mut parts {
        part.original = part.original.trim().to_owned();
        part.name = part.name.trim().to_owned();
    }
    parts
}

/// A serial port of this machine, with its line settings.
pub struct Serial {
    pub device: String,
    words: Vec<String>,
    /// The filters in front of it.
    layers: Vec<String>,
}

impl Serial {
    /// Parses a connector; an error is why it is not a serial port of this machine.
    pub fn of(connector: &str) -> Result<Self, String> {
        let mut parts = parts(connector, &[',']).into_iter().peekable();
        let mut layers = Vec::new();
        let mut names = Vec::new();
        while let Some(part) = parts.next_if(|part| is_one_of(FILTERS, &part.name)) {
            layers.push(part.original);
            names.push(part.name);
        }
        let first = parts.next().unwrap_or_default();
        let (device, options) = match first.name.as_str() {
            "serialdev" | "sdev" | "sterm" | "termios" => {
                (parts.next().unwrap_or_default().original, first.options.unwrap_or_default())
            }
            // In gensio, a plain path is a serial port.
            name if name.starts_with('/') => (first.original, String::new()),
            "" => return Err("the connector is empty".to_owned()),
            kind => {
                // Without options and arguments, which may contain a password.
                names.push(kind.split_whitespace().next().unwrap_or_default().to_owned());
                return Err(format!(
                    "its connector is {}; serial ports are imported, and tcp, telnet and unix without other layers",
                    quoted(&names.join(","))
                ));
            }
        };
        // Options may follow the path after a space.
        let mut words = self::parts(&device, &[' ', '\t', '\n', '\r'])
            .into_iter()
            .filter(|part| !part.original.is_empty());
        let device = words.next().unwrap_or_default().name;
        if !device.starts_with('/') || device.contains("*{") || device.contains("={") {
            return Err(format!("its device is {:?}: expected a path", quoted(&device)));
        }
        let behind = words.map(|part| part.name).collect::<Vec<_>>();
        let space = [',', ' ', '\t', '\n', '\r'];
        let more = parts.flat_map(|part| self::parts(&part.original, &space));
        let options = self::parts(&options, &space).into_iter();
        let words = behind.into_iter().chain(more.chain(options).map(|part| part.name));
        Ok(Self { device, words: words.filter(|word| !word.is_empty()).collect(), layers })
    }

    /// Sets the line settings of a port.
    pub fn give(&self, plan: &mut Plan, draft: &mut Draft, line: Line, place: &SourceLine) {
        self.give_with(plan, draft, line, place, &mut |_, _, _| false);
    }

    /// Sets the line settings of a port; other words are passed to `others`, which accepts them or not.
    pub fn give_with(
        &self,
        plan: &mut Plan,
        draft: &mut Draft,
        mut line: Line,
        place: &SourceLine,
        others: &mut dyn FnMut(&mut Plan, &mut Draft, &str) -> bool,
    ) {
        for layer in &self.layers {
            if let Some(delay) = pause_of(layer) {
                plan.set(draft, "output_delay", delay.to_string().into(), layer, place);
                continue;
            }
            let why = match layer.split('(').next() {
                Some("ratelimit") => {
                    "only a delay after each character (`output_delay`) of 1m to 10s is supported"
                }
                Some("chardelay") => CHARDELAY,
                Some("keepopen") => "a port reopens its device automatically, and input is queued until then",
                _ => "bytes are passed on unchanged",
            };
            plan.report(place, quoted(layer), why);
        }
        for word in &self.words {
            if !line.word(plan, draft, word, place) && !others(plan, draft, word) {
                plan.report(place, quoted(word), "not supported here");
            }
        }
        line.give(plan, draft, place);
    }
}

/// Why ser2net's chardelay has no equivalent: it is on by default there, and delays output to coalesce it.
pub const CHARDELAY: &str = "output of the device is passed on immediately; `output_delay` delays its input";

/// The delay after each character in `ratelimit(xmit_delay=20m)`: a number and a unit; m is milliseconds.
fn pause_of(layer: &str) -> Option<Pause> {
    let layer = parts(layer, &[',']).into_iter().next()?;
    let options = parts(&layer.options.filter(|_| layer.name == "ratelimit")?, &[',']);
    let mut pause = None;
    for option in options {
        match option.name.split_once('=')? {
            ("xmit_len", "1") => {}
            ("xmit_delay", time) => {
                let digits = time.find(|c: char| !c.is_ascii_digit())?;
                let (count, unit) = time.split_at(digits);
                let count: u64 = count.parse().ok()?;
                pause = Some(match unit {
                    "s" => Duration::from_secs(count),
                    "m" => Duration::from_millis(count),
                    "u" => Duration::from_millis(count.div_ceil(1000)),
                    "n" => Duration::from_millis(count.div_ceil(1_000_000)),
                    _ => return None,
                });
            }
            _ => return None,
        }
    }
    pause.map(Pause)
}

/// A connector that is not a serial port of this machine: `telnet(rfc2217),tcp,HOST,PORT`, `tcp,HOST,PORT`, `unix,PATH`. `None` if it is
/// another one, or has layers that console-dial does not have.
pub fn far_end(connector: &str) -> Option<FarEnd> {
    let mut parts = parts(connector, &[',']).into_iter().peekable();
    // A port reconnects by itself.
    while parts.next_if(|part| part.name == "keepopen").is_some() {}
    let telnet = parts.next_if(|part| part.name == "telnet");
    while parts.next_if(|part| part.name == "keepopen").is_some() {}
    let kind = parts.next()?;
    match (kind.name.as_str(), &telnet) {
        ("unix", None) => Some(FarEnd::Unix(parts.next()?.name)),
        ("tcp", _) => {
            while parts.next_if(|part| ["ipv4", "ipv6", "ipv6n4"].contains(&part.name.as_str())).is_some() {}
            let (host, port) = (parts.next()?.name, parts.next()?.name.parse().ok()?);
            if parts.next().is_some() {
                return None;
            }
            Some(match telnet {
                Some(telnet) if Protocol::of_telnet(&telnet) == Protocol::Rfc2217 => {
                    FarEnd::Rfc2217(host, port)
                }
                Some(_) => FarEnd::Telnet(host, port),
                None => FarEnd::Tcp(host, port),
            })
        }
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Raw,
    Telnet,
    /// Telnet with the COM port option: the client may set the line.
    Rfc2217,
    /// Something with a login or encryption.
    Login,
}

impl Protocol {
    fn of_telnet(layer: &Part) -> Self {
        let options = parts(layer.options.as_deref().unwrap_or_default(), &[',']);
        let is_on = |part: &Part| {
            let (name, value) = part.name.split_once('=').unwrap_or((&part.name, "true"));
            name == "rfc2217" && words::flag(value) == Value::Boolean(true)
        };
        if options.iter().any(is_on) { Self::Rfc2217 } else { Self::Telnet }
    }

    fn of(layers: &[Part]) -> Self {
        layers.iter().fold(Self::Raw, |protocol, layer| match layer.name.as_str() {
            "ssl" | "certauth" => Self::Login,
            "telnet" if protocol != Self::Login => Self::of_telnet(layer),
            _ => protocol,
        })
    }
}

/// A listener without a login that only this machine reaches stays one (`raw` or `rfc2217`), so that programs continue to work.
/// Others become SSH listeners.
fn keep_plain(plan: &mut Plan, draft: &mut Draft, protocol: Protocol, text: &str, place: &SourceLine) {
    let key = match protocol {
        Protocol::Raw => "raw",
        Protocol::Telnet | Protocol::Rfc2217 => "rfc2217",
        Protocol::Login => return,
    };
    let Some((Value::Array(listen), _)) = draft.keys.get("listen") else { return };
    let addresses: Vec<IpAddr> = listen.iter().filter_map(|address| address.as_str()?.parse().ok()).collect();
    let is_here = addresses.len() == listen.len() && addresses.iter().all(IpAddr::is_loopback);
    // Clients of `localhost` try both.
    let v4 = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    let (true, Some(address)) = (is_here, v4) else { return };
    let Some((tcp, _)) = draft.keys.get("ssh_port") else { return };
    let Some(tcp) = tcp.as_integer().and_then(|tcp| u16::try_from(tcp).ok()) else { return };
    let socket = std::net::SocketAddr::new(*address, tcp).to_string();
    plan.set(draft, key, socket.into(), text, place);
    if draft.keys.contains_key(key) {
        // SSH listens where the file did, once it has a TCP port.
        draft.keys.remove("ssh_port");
        if protocol == Protocol::Rfc2217 {
            plan.set(draft, "remote_settings", true.into(), text, place);
        }
    }
}

/// Turns a listener without a login into an SSH listener, since the file restricts users, whom only a login identifies.
pub fn require_login(draft: &mut Draft) {
    for key in PLAIN {
        let Some((value, place)) = draft.keys.remove(key) else { continue };
        let tcp = value.as_str().and_then(|address| address.parse::<std::net::SocketAddr>().ok());
        if let Some(tcp) = tcp {
            draft.keys.insert("ssh_port", (Value::Integer(tcp.port().into()), place));
        }
    }
    draft.keys.remove("remote_settings");
}

/// The keys of listeners without a login.
const PLAIN: [&str; 2] = ["raw", "rfc2217"];

enum Listen {
    All,
    At(Vec<String>),
    /// Not possible: the listener would accept other addresses too.
    Not(String),
}

/// `telnet(rfc2217),tcp,localhost,2000`: sets the listener of a port, or none if it would be wider here.
pub fn accepter(plan: &mut Plan, draft: &mut Draft, text: &str, place: &SourceLine) {
    accepter_of(plan, draft, text, Protocol::Raw, place);
}

/// Parses an accepter as above; without layers it speaks `protocol`.
pub fn accepter_of(plan: &mut Plan, draft: &mut Draft, text: &str, protocol: Protocol, place: &SourceLine) {
    let mut rest = parts(text, &[',']);
    let count = rest.iter().take_while(|part| is_one_of(FILTERS, &part.name)).count();
    let layers: Vec<Part> = rest.drain(..count).collect();
    let protocol = if layers.is_empty() { protocol } else { Protocol::of(&layers) };
    listener(plan, draft, rest, text, place);
    keep_plain(plan, draft, protocol, text, place);
    let is_plain = PLAIN.iter().any(|key| draft.keys.contains_key(key));
    for layer in layers {
        let why = match layer.name.as_str() {
            "telnet" if is_plain => continue,
            "telnet" if protocol == Protocol::Rfc2217 => {
                "consoles use SSH, and programs its subsystem rfc2217; `rfc2217` is a listener without a login"
            }
            _ => "consoles use SSH",
        };
        plan.report(place, quoted(&layer.original), why);
    }
}

fn listener(plan: &mut Plan, draft: &mut Draft, mut rest: Vec<Part>, text: &str, place: &SourceLine) {
    // The last accepter of a connection counts.
    draft.closed = false;
    for key in ["listen", "ssh_port", "remote_settings"].iter().chain(&PLAIN) {
        draft.keys.remove(key);
    }
    if let Some(other) = rest.first().filter(|part| is_one_of(OTHERS, &part.name)) {
        draft.closed = true;
        plan.report(place, quoted(&other.original), "only TCP is supported: no listener");
        return;
    }
    if let Some(wrong) = rest.iter().find(|part| part.options.is_some() && part.name != "tcp") {
        draft.closed = true;
        plan.report(place, quoted(&wrong.original), "unknown, or a comma is missing after ): no listener");
        return;
    }
    if let Some(tcp) = rest.first().filter(|part| part.name == "tcp") {
        if tcp.options.as_ref().is_some_and(|options| !options.is_empty()) {
            plan.report(place, quoted(&tcp.original), "options of listeners are not supported");
        }
        rest.remove(0);
    }
    let mut endpoints = Vec::new();
    let mut words = rest.into_iter().map(|part| part.name).peekable();
    while words.peek().is_some() {
        let family = words.next_if(|word| ["ipv4", "ipv6", "ipv6n4"].contains(&word.as_str()));
        let Some(first) = words.next() else { break };
        // A host is always followed by a port.
        let (host, port) = match words.next() {
            Some(port) => (Some(first), port),
            None => (None, first),
        };
        endpoints.push((listen(family.as_deref(), host.as_deref()), port));
    }
    let Some((_, port)) = endpoints.first() else {
        draft.closed = true;
        plan.report(place, quoted(text), "no TCP port: no listener");
        return;
    };
    let port = port.clone();
    if port == "0" {
        draft.closed = true;
        plan.report(place, quoted(text), "standard input or an ephemeral TCP port: no listener");
        return;
    }
    let mut addresses = Some(Vec::<String>::new());
    for (listen, other) in endpoints {
        match listen {
            _ if other != port => {
                plan.report(
                    place,
                    quoted(text),
                    format_args!("a console has one TCP port: {port}, not {}", quoted(&other)),
                );
            }
            Listen::All => addresses = None,
            Listen::At(hosts) => addresses.iter_mut().for_each(|all| all.extend(hosts.iter().cloned())),
            Listen::Not(why) => plan.report(place, quoted(text), why),
        }
    }
    if let Some(addresses) = addresses {
        let count = addresses.len();
        let list = Value::Array(addresses.iter().map(|address| address.as_str().into()).collect());
        if count > 0 {
            plan.set(draft, "listen", list, text, place);
        }
        if !draft.keys.contains_key("listen") {
            draft.closed = true;
            return;
        }
    }
    plan.set(draft, "ssh_port", words::number(&port), text, place);
    // Neither a number nor the name of a service: `--first-port` must not guess, since `tcp,localhost:2001` was for this machine only.
    let is_service = port.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    draft.closed |= !draft.keys.contains_key("ssh_port") && !is_service;
}

fn listen(family: Option<&str>, host: Option<&str>) -> Listen {
    let at = |addresses: &[&str]| Listen::At(addresses.iter().map(|&address| address.to_owned()).collect());
    let only_v6 = || Listen::Not("IPv6 only, but :: accepts IPv4 too here: no listener".to_owned());
    let Some(host) = host else {
        return match family {
            Some("ipv4") => at(&["0.0.0.0"]),
            Some("ipv6") => only_v6(),
            _ => Listen::All,
        };
    };
    match (host.to_ascii_lowercase().as_str(), family) {
        ("localhost", Some("ipv4" | "ipv6n4")) => return at(&["127.0.0.1"]),
        ("localhost" | "ip6-localhost" | "ip6-loopback", Some("ipv6"))
        | ("ip6-localhost" | "ip6-loopback", None) => {
            return at(&["::1"]);
        }
        ("localhost", _) => return at(&["127.0.0.1", "::1"]),
        // As in getaddrinfo(3).
        ("0", None | Some("ipv4")) => return at(&["0.0.0.0"]),
        _ => {}
    }
    match (host.parse::<IpAddr>(), family) {
        (Ok(IpAddr::V6(address)), None | Some("ipv6")) if address.is_unspecified() => only_v6(),
        (Ok(IpAddr::V6(_)), Some("ipv4")) | (Ok(IpAddr::V4(_)), Some("ipv6")) => {
            Listen::Not("an address of another family: no listener".to_owned())
        }
        (Ok(address), _) => at(&[&address.to_string()]),
        (Err(_), _) => Listen::Not("listen addresses must be numeric here: no listener".to_owned()),
    }
}

/// `remaddr`: the allowed client addresses. A listener accepts all addresses or this machine only, so that it becomes the latter.
pub fn remaddr(plan: &mut Plan, draft: &mut Draft, text: &str, place: &SourceLine) {
    let original = format!("remaddr: {}", quoted(text));
    let is_local = |address: &str| {
        let host = parts(address, &[',']).into_iter().map(|part| part.name);
        let mut host = host.skip_while(|word| ["tcp", "ipv4", "ipv6", "ipv6n4"].contains(&word.as_str()));
        let host = host.next().unwrap_or_default();
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let (back, addresses): (Vec<&str>, Vec<&str>) = text
        .split(';')
        .map(str::trim)
        .filter(|address| !address.is_empty())
        .partition(|address| address.starts_with('!'));
    if !back.is_empty() {
        plan.report(place, &original, "outgoing connections are not supported");
    }
    if addresses.is_empty() {
        return;
    }
    let is_loopback = |one: &Value| {
        one.as_str().and_then(|one| one.parse::<IpAddr>().ok()).is_some_and(|one| one.is_loopback())
    };
    let listens_here = draft
        .keys
        .get("listen")
        .is_some_and(|(listen, _)| listen.as_array().is_some_and(|all| all.iter().all(is_loopback)));
    if !listens_here {
        let here = Value::Array(vec!["127.0.0.1".into(), "::1".into()]);
        plan.set(draft, "listen", here, &original, place);
    }
    if !addresses.into_iter().all(is_local) {
        plan.report(place, original, super::consent::NARROWER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_can_be_quoted_and_escaped() {
        let names = |text: &str| parts(text, &[',']).into_iter().map(|part| part.name).collect::<Vec<_>>();
        assert_eq!(names(r#"tcp,"192.0.2.5",2000"#), ["tcp", "192.0.2.5", "2000"]);
        assert_eq!(names(r#"serialdev,"/dev/X,Y",9600"#), ["serialdev", "/dev/X,Y", "9600"]);
        assert_eq!(names(r"serialdev,/dev/X\,Y,9600"), ["serialdev", "/dev/X,Y", "9600"]);
        assert_eq!(names(r#"sctp(laddr="localhost,4001"),localhost,3023"#), ["sctp", "localhost", "3023"]);
        let part = &parts("telnet(rfc2217,mode=server),tcp", &[','])[0];
        assert_eq!((part.name.as_str(), part.options.as_deref()), ("telnet", Some("rfc2217,mode=server")));
    }
}
