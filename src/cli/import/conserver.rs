//! conserver.cf(5): `console` blocks with their `default` blocks, resolved as in conserver: a default applies to what
//! follows it, and the last value and the last console of a name count.

use std::collections::BTreeMap;

use super::blocks::{self, Block, Statement};
use super::breaks::{self as sequences, BreakSequences};
use super::consent::{self, Origins, UserEntry};
use super::error::{ImportError, SourceLine};
use super::lexer::Include;
use super::plan::{Draft, Plan, quoted};
use super::remote::FarEnd;
use super::source::Source;
use super::subst::{self, Values};
use crate::config::Value;

/// Words of a list, such as users.
const MAX_LIST: usize = 1024;

/// The settings of a console or default block.
#[derive(Clone, Default)]
struct Settings {
    /// The last statement of each keyword.
    one: BTreeMap<&'static str, Statement>,
    rw: Vec<UserEntry>,
    ro: Vec<UserEntry>,
    options: BTreeMap<String, (bool, SourceLine)>,
    /// It includes a default that is discarded because of an error, and that may exclude users.
    doubtful: Option<(String, SourceLine)>,
}

struct Console {
    name: String,
    place: SourceLine,
    settings: Settings,
}

/// Definitions so far.
#[derive(Default)]
struct Known {
    /// The defaults, by name in lower case.
    defaults: BTreeMap<String, Settings>,
    /// Users of a group, `@unixgroup` among them.
    groups: BTreeMap<String, Vec<UserEntry>>,
    dropped: Vec<String>,
}

/// Reads the file; consoles with another `master` than `this_host` are not imported.
pub fn plan(source: Source, include: &mut Include<'_>, this_host: &str) -> Result<Plan, ImportError> {
    let mut plan = Plan::default();
    let read = blocks::read(source, include)?;
    for fault in read.faults {
        plan.report(&fault.place, fault.what, fault.why);
    }
    let mut known = Known { dropped: read.dropped, ..Known::default() };
    let mut consoles: Vec<Console> = Vec::new();
    let mut from = Origins::default();
    let mut breaks = BreakSequences::default();
    for block in read.blocks {
        match block.kind {
            "console" => {
                let mut settings = known.defaults.get("*").cloned().unwrap_or_default();
                gather(&mut plan, &block, &known, &mut settings)?;
                if let Some(index) =
                    consoles.iter().position(|other| other.name.eq_ignore_ascii_case(&block.name))
                {
                    let other = consoles.remove(index);
                    let why = format!("replaced by the one at {}, as in conserver", block.place);
                    plan.report(&other.place, format_args!("console {}", quoted(&other.name)), why);
                }
                consoles.push(Console { name: block.name, place: block.place, settings });
            }
            "default" => {
                let mut settings = Settings::default();
                gather(&mut plan, &block, &known, &mut settings)?;
                known.defaults.insert(block.name.to_ascii_lowercase(), settings);
            }
            "group" => {
                let mut users = Vec::new();
                for statement in &block.statements {
                    people(&mut users, statement, &known)?;
                }
                known.groups.insert(block.name, users);
            }
            "access" if block.name == "*" || is_here(&block.name, this_host) => {
                for statement in &block.statements {
                    from.access(&mut plan, statement);
                }
            }
            "config" if block.name == "*" || is_here(&block.name, this_host) => {
                for statement in &block.statements {
                    match statement.keyword {
                        "defaultaccess" => from.default_access(&mut plan, statement),
                        _ => {
                            let why = "the server is configured in consoleserver.toml(5)";
                            plan.report(
                                &statement.place,
                                format_args!("config: {}", quoted(&statement.original())),
                                why,
                            );
                        }
                    }
                }
            }
            "break" => breaks.define(&block),
            "task" => {
                let title = format!("task {}", quoted(&block.name));
                plan.report(&block.place, title, "no programs are run for users");
            }
            kind => plan.report(
                &block.place,
                format_args!("{kind} {}", quoted(&block.name)),
                format_args!("for another host than {this_host}"),
            ),
        }
    }
    from.report(&mut plan);
    for console in &consoles {
        port(&mut plan, console, &breaks, &from, this_host)?;
    }
    Ok(plan)
}

fn bounded(count: usize, at: &Statement) -> Result<(), ImportError> {
    match count {
        ..=MAX_LIST => Ok(()),
        _ => Err(ImportError::Syntax(at.place.clone(), format!("a list of more than {MAX_LIST} words"))),
    }
}

/// Adds a list of users. In conserver, `!` before a group inverts each member; here excluded members stay excluded, which is narrower.
fn people(list: &mut Vec<UserEntry>, statement: &Statement, known: &Known) -> Result<(), ImportError> {
    if statement.value.is_empty() {
        list.clear();
    }
    for word in blocks::words(&statement.value) {
        let (name, out) = word.strip_prefix('!').map_or((word, false), |name| (name, true));
        let place = statement.place.clone();
        match known.groups.get(name) {
            Some(members) => {
                for member in members {
                    let member =
                        UserEntry { name: member.name.clone(), out: out || member.out, place: place.clone() };
                    consent::add(list, member);
                }
            }
            None => consent::add(list, UserEntry { name: name.to_owned(), out, place }),
        }
        bounded(list.len(), statement)?;
    }
    Ok(())
}

fn gather(plan: &mut Plan, block: &Block, known: &Known, into: &mut Settings) -> Result<(), ImportError> {
    for statement in &block.statements {
        let Statement { keyword, value, place } = statement;
        match *keyword {
            "include" => match known.defaults.get(&value.to_ascii_lowercase()) {
                Some(included) => {
                    into.one.extend(included.one.clone());
                    into.options.extend(included.options.clone());
                    included.rw.iter().for_each(|member| consent::add(&mut into.rw, member.clone()));
                    included.ro.iter().for_each(|member| consent::add(&mut into.ro, member.clone()));
                    into.doubtful = into.doubtful.take().or_else(|| included.doubtful.clone());
                    bounded(into.rw.len().max(into.ro.len()), statement)?;
                }
                None => {
                    let title = format!("{} {}: include {}", block.kind, quoted(&block.name), quoted(value));
                    plan.report(place, title, "no such default before it");
                    if known.dropped.contains(&value.to_ascii_lowercase()) {
                        into.doubtful = Some((value.clone(), place.clone()));
                    }
                }
            },
            "rw" => people(&mut into.rw, statement, known)?,
            "ro" => people(&mut into.ro, statement, known)?,
            "options" if value.is_empty() => into.options.clear(),
            "options" => {
                for word in blocks::words(value) {
                    let (option, on) = word.strip_prefix('!').map_or((word, true), |option| (option, false));
                    into.options.insert(option.to_ascii_lowercase(), (on, place.clone()));
                }
                bounded(into.options.len(), statement)?;
            }
            // An empty value unsets the keyword, except that an empty logfile of a console disables its log.
            _ if value.is_empty() && !(*keyword == "logfile" && block.kind == "console") => {
                into.one.remove(keyword);
            }
            keyword => drop(into.one.insert(keyword, statement.clone())),
        }
    }
    Ok(())
}

/// Whether a master is this machine: compares the first label, since a domain may be omitted.
fn is_here(master: &str, this_host: &str) -> bool {
    let first = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let local = ["localhost", "127.0.0.1", "::1"].iter().any(|here| here.eq_ignore_ascii_case(master));
    local || first(master) == first(this_host)
}

fn port(
    plan: &mut Plan,
    console: &Console,
    breaks: &BreakSequences,
    from: &Origins,
    this_host: &str,
) -> Result<(), ImportError> {
    let Console { name, place, settings } = console;
    let title = format!("console {}", quoted(name));
    let setting = |keyword: &str| settings.one.get(keyword).map(|statement| statement.value.as_str());
    let at = |keyword: &str| settings.one.get(keyword).map_or(place, |statement| &statement.place);
    let kind = setting("type").unwrap_or_default();
    if let Some(master) = setting("master").filter(|master| !is_here(master, this_host)) {
        plan.report(place, title, format_args!("its master is {}, not {this_host}", quoted(master)));
        return Ok(());
    }
    if kind.is_empty() || kind.eq_ignore_ascii_case("noop") {
        let why = "it is connected to nothing: expected type device, exec, host, ipmi or uds";
        plan.report(place, title, why);
        return Ok(());
    }
    if !kind.eq_ignore_ascii_case("device") {
        return remote(plan, console, kind, breaks, from);
    }
    for keyword in ["device", "baud", "parity"] {
        if setting(keyword).is_none() {
            plan.report(place, title, format_args!("left out: no {keyword}, which conserver requires"));
            return Ok(());
        }
    }
    let values = values(console);
    let device = match (setting("device").unwrap_or_default(), setting("devicesubst")) {
        (device, Some(rules)) => match subst::substituted(device, rules, &values) {
            Ok(device) => device,
            Err(why) => {
                let what = format!("{title}: devicesubst {}", quoted(rules));
                plan.report(at("devicesubst"), what, format_args!("left out: {why}"));
                return Ok(());
            }
        },
        (device, None) => device.to_owned(),
    };
    let parity = match setting("parity").unwrap_or_default().to_ascii_lowercase().as_str() {
        "none" => Some(("N", 8)),
        // conserver sets 7 bits with a parity.
        "even" => Some(("E", 7)),
        "odd" => Some(("O", 7)),
        "mark" => Some(("M", 7)),
        "space" => Some(("S", 7)),
        _ => None,
    };
    let baud = setting("baud").and_then(|word| word.parse().ok()).map(Value::Integer);
    let (Some((parity, bits)), Some(baud)) = (parity, baud.filter(|baud| Plan::accepts("baud", baud))) else {
        let keyword = if parity.is_none() { "parity" } else { "baud" };
        let wrong = format!("{title}: {keyword} {}", quoted(setting(keyword).unwrap_or_default()));
        let right = match keyword {
            "parity" => "left out: expected even, mark, none, odd or space",
            _ => "left out: expected a number from 1 to 4294967295",
        };
        plan.report(at(keyword), wrong, right);
        return Ok(());
    };
    let Some(mut draft) = plan.port(name, &device, place)? else { return Ok(()) };
    plan.set(&mut draft, "baud", baud, "baud", at("baud"));
    plan.set(&mut draft, "parity", parity.into(), "parity", at("parity"));
    plan.set(&mut draft, "bytesize", Value::Integer(bits), "parity", at("parity"));
    super::options::apply(plan, &mut draft, &settings.options, place);
    finish(plan, draft, console, breaks, from);
    Ok(())
}

/// The values that a substitution may insert.
fn values(console: &Console) -> Values<'_> {
    let setting = |keyword: &str| console.settings.one.get(keyword).map(|statement| statement.value.as_str());
    // conserver looks names up in services(5).
    let number = setting("port").and_then(|word| if word == "telnet" { Some(23) } else { word.parse().ok() });
    let unsigned = |keyword, default: u16| match setting(keyword) {
        // conserver computes the port modulo 65536.
        Some("-1") => u16::MAX,
        Some(word) => word.parse().unwrap_or(default),
        None => default,
    };
    Values {
        console: &console.name,
        host: setting("host"),
        replstring: setting("replstring"),
        baud: setting("baud"),
        port: number,
        final_port: number
            .map(|port| unsigned("portbase", 0).wrapping_add(unsigned("portinc", 1).wrapping_mul(port))),
    }
}

/// A console that is not a tty.
fn remote(
    plan: &mut Plan,
    console: &Console,
    kind: &str,
    breaks: &BreakSequences,
    from: &Origins,
) -> Result<(), ImportError> {
    let Console { name, place, settings } = console;
    let title = format!("console {}", quoted(name));
    let setting = |keyword: &str| settings.one.get(keyword).map(|statement| statement.value.as_str());
    let values = values(console);
    let substituted = |text: &str, rules: Option<&str>| match rules {
        Some(rules) => subst::substituted(text, rules, &values),
        None => Ok(text.to_owned()),
    };
    let host =
        || setting("host").map(str::to_owned).ok_or("it has no host, which conserver wants".to_owned());
    let far_end = match kind.to_ascii_lowercase().as_str() {
        "host" => host().and_then(|host| {
            let port = values.final_port.ok_or("expected port as a number from 1 to 65535")?;
            Ok(match setting("protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("raw")) {
                true => FarEnd::Tcp(host, port),
                false => FarEnd::Telnet(host, port),
            })
        }),
        "uds" => match setting("uds") {
            Some(path) => substituted(path, setting("udssubst")).map(FarEnd::Unix),
            None => Err("it has no uds, which conserver wants".to_owned()),
        },
        "exec" => {
            substituted(setting("exec").unwrap_or("(the shell of conserver's user)"), setting("execsubst"))
                .map(FarEnd::Program)
        }
        "ipmi" => host().map(FarEnd::Ipmi),
        _ => Err("its type is unknown: expected device, exec, host, ipmi or uds".to_owned()),
    };
    match far_end {
        Ok(far_end) => {
            if let Some(mut draft) = far_end.port(plan, name, place)? {
                // Among them is !login, which excludes every user from the port. A far end has no line to set.
                super::options::apply(plan, &mut draft, &settings.options, place);
                for key in ["xonxoff", "rtscts", "stopbits"] {
                    draft.keys.remove(key);
                }
                finish(plan, draft, console, breaks, from);
            }
        }
        Err(why) => plan.report(place, title, format_args!("left out: {why}")),
    }
    Ok(())
}

/// Imports the settings that consoles of every type have.
fn finish(plan: &mut Plan, mut draft: Draft, console: &Console, breaks: &BreakSequences, from: &Origins) {
    let Console { name, place, settings } = console;
    let title = format!("console {}", quoted(name));
    for statement in settings.one.values() {
        remark(plan, &mut draft, statement);
    }
    breaks.apply(plan, &mut draft, settings.one.get("break"), settings.one.get("breaklist"));
    sequences::keepalive(plan, &mut draft, settings.one.get("idletimeout"), settings.one.get("idlestring"));
    if let Some(command) = settings.one.get("initcmd") {
        sequences::initial(plan, &mut draft, command, settings.one.contains_key("initsubst"));
    }
    consent::apply(plan, &mut draft, &settings.rw, &settings.ro, place);
    if let Some((included, at)) = &settings.doubtful {
        let why = "no user may use the port, because that default may exclude users";
        plan.report(at, format_args!("{title}: include {}", quoted(included)), why);
        consent::deny_all(plan, &mut draft, at);
    }
    if from.is_local() {
        let here = Value::Array(vec!["127.0.0.1".into(), "::1".into()]);
        plan.set(&mut draft, "listen", here, "access", place);
    }
    plan.ports.push(draft);
}

fn remark(plan: &mut Plan, draft: &mut Draft, statement: &Statement) {
    let Statement { keyword, value, place } = statement;
    let setting = statement.original();
    let why = match *keyword {
        "aliases" => "a port has one name",
        "logfile" if value.is_empty() || value == "/dev/null" => {
            return plan.set(draft, "log.type", "none".into(), &setting, place);
        }
        "logfile" => "the log is /var/log/consoleserver/PORT/console.log",
        "initrunas" | "initspinmax" | "initspintimer" => "no programs are run for a port",
        "logfilemax" => "logs are rotated by logrotate(8)",
        "motd" => "set a description with `describe`",
        "execrunas" => "User= and Group= of the drop-in",
        "ipmiciphersuite" | "ipmiprivlevel" | "ipmiworkaround" => "options of ipmitool in the drop-in",
        "ipmikg" => return plan.report(place, *keyword, "an option of ipmitool in the drop-in"),
        "protocol" if !["telnet", "raw"].iter().any(|known| known.eq_ignore_ascii_case(value)) => {
            "conserver has telnet and raw only, and uses telnet"
        }
        "tasklist" => "no programs are run for users",
        "timestamp" => "the log has timestamps, and records who attached and detached",
        // Used above, for other types, or defaults without an equivalent.
        _ => return,
    };
    plan.report(place, quoted(&setting), why);
}
