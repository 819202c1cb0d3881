//! conman.conf(5): its CONSOLE directives, with the defaults of the GLOBAL ones before them. A directive is a line of KEY=VALUE; a line with a mistake is
//! reported, and the rest is read.

use std::collections::BTreeMap;

use super::error::{ImportError, SourceLine};
use super::plan::{Plan, quoted};
use super::remote::FarEnd;
use super::source::Source;
use crate::config::Value;

/// `KEY=VALUE`, the key in lower case.
type Pair = (String, String);

/// Settings of SERVER and GLOBAL directives, which apply to all consoles.
struct Globals {
    line: LineSettings,
    loopback: bool,
}

impl Default for Globals {
    fn default() -> Self {
        // conman listens on the loopback address since 0.2.8, unless the file says otherwise.
        Self { line: LineSettings::default(), loopback: true }
    }
}

/// Reads it.
pub fn plan(source: &Source) -> Result<Plan, ImportError> {
    let mut plan = Plan::default();
    let mut globals = Globals::default();
    let mut consoles = Vec::new();
    for (place, line) in lines(source) {
        match directive(&line) {
            Ok(None) => {}
            Ok(Some((word, pairs))) => match word.as_str() {
                "server" => pairs.iter().for_each(|pair| server(&mut plan, &mut globals, pair, &place)),
                "global" => pairs.into_iter().for_each(|pair| global(&mut plan, &mut globals, pair, &place)),
                // conman applies GLOBAL to the consoles behind it.
                "console" => consoles.push((place, pairs, globals.line)),
                _ => plan.report(&place, shown(&line), "left out: expected SERVER, GLOBAL or CONSOLE"),
            },
            Err(why) => plan.report(&place, shown(&line), format_args!("left out: {why}")),
        }
    }
    let mut names: BTreeMap<String, SourceLine> = BTreeMap::new();
    for (place, pairs, line) in consoles {
        let name = pairs.iter().rev().find(|(key, _)| key == "name").map(|(_, name)| name.clone());
        if let Some((name, first)) = name.as_ref().and_then(|name| names.get_key_value(name.as_str())) {
            let why = format!("left out: conman keeps the console of that name at {first}");
            plan.report(&place, format_args!("console {}", quoted(name)), why);
            continue;
        }
        let before = plan.ports.len();
        console(&mut plan, &pairs, line, globals.loopback, &place)?;
        if let Some(name) = name.filter(|_| plan.ports.len() > before) {
            names.insert(name, place);
        }
    }
    Ok(plan)
}

/// The start of a line, without passwords.
fn shown(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    quoted(line.get(..lower.find("ipmiopts").unwrap_or(line.len())).unwrap_or_default().trim())
}

/// Lines, with those that a backslash continues.
fn lines(source: &Source) -> Vec<(SourceLine, String)> {
    let mut all: Vec<(SourceLine, String)> = Vec::new();
    let mut continues = false;
    for (index, line) in source.text.lines().enumerate() {
        let (line, more) = line.strip_suffix('\\').map_or((line, false), |line| (line, true));
        match all.last_mut().filter(|_| continues) {
            Some((_, before)) => before.push_str(line),
            None => all.push((SourceLine { file: source.name.clone(), line: index + 1 }, line.to_owned())),
        }
        continues = more;
    }
    all
}

/// A word, or an equals sign.
#[derive(PartialEq, Eq)]
enum Token {
    Word(String),
    Equals,
}

fn tokens(line: &str) -> Result<Vec<Token>, &'static str> {
    let mut found = Vec::new();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '#' => break,
            '=' => found.push(Token::Equals),
            '"' | '\'' => {
                let mut word = String::new();
                loop {
                    match chars.next() {
                        Some(end) if end == c => break,
                        Some(other) => word.push(other),
                        None => return Err("a quote is not closed"),
                    }
                }
                found.push(Token::Word(word));
            }
            c if c.is_whitespace() => {}
            c => {
                let mut word = c.to_string();
                while let Some(next) = chars.next_if(|c| !c.is_whitespace() && !"=#\"'".contains(*c)) {
                    word.push(next);
                }
                found.push(Token::Word(word));
            }
        }
    }
    Ok(found)
}

fn directive(line: &str) -> Result<Option<(String, Vec<Pair>)>, &'static str> {
    let mut tokens = tokens(line)?.into_iter();
    let word = match tokens.next() {
        None => return Ok(None),
        Some(Token::Word(word)) => word.to_ascii_lowercase(),
        Some(Token::Equals) => return Err("expected SERVER, GLOBAL or CONSOLE"),
    };
    let mut pairs = Vec::new();
    while let Some(key) = tokens.next() {
        match (key, tokens.next(), tokens.next()) {
            (Token::Word(key), Some(Token::Equals), Some(Token::Word(value))) => {
                pairs.push((key.to_ascii_lowercase(), value));
            }
            _ => return Err("expected KEY=VALUE"),
        }
    }
    Ok(Some((word, pairs)))
}

fn server(plan: &mut Plan, globals: &mut Globals, (key, value): &Pair, place: &SourceLine) {
    let said = format!("SERVER {key}={value}");
    let why = match key.as_str() {
        "loopback" => {
            globals.loopback = value.eq_ignore_ascii_case("on");
            return;
        }
        "resetcmd" => "a drop-in of console-power@.service runs power commands: console@.service(8)",
        "logdir" | "timestamp" => {
            "the log is /var/log/consoleserver/PORT/console.log, and each line has its time"
        }
        "tcpwrappers" if value.eq_ignore_ascii_case("on") => {
            globals.loopback = true;
            super::consent::NARROWER
        }
        "tcpwrappers" => return,
        _ => "the server itself is set by consoleserver.toml(5)",
    };
    plan.report(place, quoted(&said), why);
}

fn global(plan: &mut Plan, globals: &mut Globals, (key, value): Pair, place: &SourceLine) {
    let why = match key.as_str() {
        "seropts" => {
            match globals.line.with(&value) {
                Some(line) => globals.line = line,
                None => plan.report(place, quoted(&format!("GLOBAL seropts={value}")), SEROPTS),
            }
            return;
        }
        "log" => "the log is /var/log/consoleserver/PORT/console.log",
        "logopts" => "each line of the log has its time; log.type selects how bytes are written",
        // The value has passwords.
        "ipmiopts" => {
            return plan.report(
                place,
                "GLOBAL ipmiopts",
                "user and password are those of a drop-in: console-source@.service(8)",
            );
        }
        _ => "unknown key",
    };
    plan.report(place, quoted(&format!("GLOBAL {key}={value}")), why);
}

fn console(
    plan: &mut Plan,
    pairs: &[Pair],
    global: LineSettings,
    loopback: bool,
    place: &SourceLine,
) -> Result<(), ImportError> {
    let said =
        |wanted: &str| pairs.iter().rev().find(|(key, _)| key == wanted).map(|(_, value)| value.as_str());
    let (Some(name), Some(device)) = (said("name").filter(|name| !name.is_empty()), said("dev")) else {
        plan.report(place, "CONSOLE", "left out: it needs name and dev");
        return Ok(());
    };
    let device = device.trim().replace("%N", name);
    if device.starts_with("test:") {
        plan.report(
            place,
            format_args!("console {}: {}", quoted(name), quoted(&device)),
            "a test device of conman",
        );
        return Ok(());
    }
    let is_tty = device.starts_with("/dev/") && !device.contains(char::is_whitespace);
    let draft = match far_end(&device) {
        _ if is_tty => plan.port(name, &device, place)?,
        far_end => far_end.port(plan, name, place)?,
    };
    let Some(mut draft) = draft else { return Ok(()) };
    if is_tty {
        let line = match said("seropts") {
            Some(text) => global.with(text).unwrap_or_else(|| {
                plan.report(
                    place,
                    format_args!("console {}: seropts={}", quoted(name), quoted(text)),
                    SEROPTS,
                );
                global
            }),
            None => global,
        };
        for (key, value) in line.keys() {
            plan.set(&mut draft, key, value, "seropts", place);
        }
    }
    for (key, value) in pairs {
        let why = match key.as_str() {
            "name" | "dev" | "seropts" => continue,
            "log" if value.is_empty() => {
                plan.set(&mut draft, "log.type", "none".into(), "log=", place);
                continue;
            }
            "log" => "the log is /var/log/consoleserver/PORT/console.log",
            "logopts" => "each line of the log has its time; log.type selects how bytes are written",
            "ipmiopts" => {
                let why = "user and password are those of a drop-in: console-source@.service(8)";
                plan.report(place, format_args!("console {}: ipmiopts", quoted(name)), why);
                continue;
            }
            _ => "unknown key",
        };
        plan.report(
            place,
            format_args!("console {}: {}", quoted(name), quoted(&format!("{key}={value}"))),
            why,
        );
    }
    if loopback {
        let here = Value::Array(vec!["127.0.0.1".into(), "::1".into()]);
        plan.set(&mut draft, "listen", here, "loopback", place);
    }
    plan.ports.push(draft);
    Ok(())
}

/// The source that a `dev` means if it is not a tty. A file cannot be asked whether it is executable: it may be of another machine.
fn far_end(device: &str) -> FarEnd {
    match device.split_once(':') {
        Some((kind, path)) if kind.eq_ignore_ascii_case("unix") => return FarEnd::Unix(path.to_owned()),
        Some((kind, host)) if kind.eq_ignore_ascii_case("ipmi") => return FarEnd::Ipmi(host.to_owned()),
        _ => {}
    }
    match device.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
        Some((host, Ok(port))) if !host.contains([' ', '/']) => {
            FarEnd::Telnet(host.trim_start_matches('[').trim_end_matches(']').to_owned(), port)
        }
        _ => FarEnd::Program(device.to_owned()),
    }
}

const SEROPTS: &str = "expected BPS[,DATABITS[PARITY[STOPBITS]]], such as 9600,8n1";

/// `9600,8n1`
#[derive(Clone, Copy)]
struct LineSettings {
    baud: i64,
    bits: u32,
    parity: &'static str,
    stop: u32,
}

impl Default for LineSettings {
    fn default() -> Self {
        Self { baud: 9600, bits: 8, parity: "N", stop: 1 }
    }
}

impl LineSettings {
    /// These with the values in a text: what is missing at its end stays.
    fn with(self, text: &str) -> Option<Self> {
        let (baud, rest) = text.split_once(',').unwrap_or((text, ""));
        let mut rest = rest.trim().chars();
        let digit = |c: Option<char>, default| c.map_or(Some(default), |c| c.to_digit(10));
        let bits = digit(rest.next(), self.bits)?;
        let parity = match rest.next().map(|c| c.to_ascii_lowercase()) {
            None => self.parity,
            Some('n') => "N",
            Some('e') => "E",
            Some('o') => "O",
            Some(_) => return None,
        };
        let stop = digit(rest.next(), self.stop)?;
        rest.next().is_none().then_some(Self { baud: baud.trim().parse().ok()?, bits, parity, stop })
    }

    fn keys(self) -> [(&'static str, Value); 4] {
        let number = |number: u32| Value::Integer(number.into());
        [
            ("baud", Value::Integer(self.baud)),
            ("bytesize", number(self.bits)),
            ("parity", self.parity.into()),
            ("stopbits", number(self.stop)),
        ]
    }
}

/// Whether a line begins a directive of conman.conf.
pub fn is_line(line: &str) -> bool {
    matches!(directive(line.trim_end_matches('\\')), Ok(Some((word, pairs))) if !pairs.is_empty() && ["server", "global", "console"].contains(&word.as_str()))
}
