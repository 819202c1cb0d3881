//! The command name of a line: unique abbreviations, aliases from other console servers and network devices, and the nearest command
//! to a typing error.

use super::habits::{EXACT, HINTS, translated, unwrapped};
use super::tree::names;
use crate::port::PortName;
use crate::port::nearest::{either, nearest};

/// Aliases from conserver's `console`, Cisco IOS, Junos, systemctl and shells, which can be abbreviated.
const ALIASES: &[(&str, &str)] = &[
    ("?", "help"),
    ("add", "create"),
    ("apply", "reload"),
    ("attach", "connect"),
    ("bye", "exit"),
    ("changes", "diff"),
    ("compare", "diff"),
    ("console", "connect"),
    ("cp", "copy"),
    ("del", "remove"),
    ("delete", "remove"),
    ("discard", "revert"),
    ("find", "grep"),
    ("kick", "disconnect"),
    ("list-units", "list"),
    ("logout", "exit"),
    ("logs", "log"),
    ("ls", "list"),
    ("man", "help"),
    ("mv", "rename"),
    ("ports", "list"),
    ("quit", "exit"),
    ("rm", "remove"),
    ("rollback", "revert"),
    ("save", "commit"),
    ("search", "grep"),
    ("send-break", "break"),
    ("sessions", "who"),
    ("ssh", "connect"),
    ("tail", "log"),
    ("telnet", "connect"),
    ("users", "who"),
    ("w", "who"),
    ("write", "commit"),
];

/// Minimum length of an abbreviation for which a hint is printed.
const MIN_HINT_LENGTH: usize = 3;

/// Commands with an argument that may be any text, also one that begins with a hyphen.
pub const TAKES_TEXT: [&str; 5] = ["describe", "expect", "grep", "send", "set"];
/// Words that a shell would obey.
const SHELL_SIGNS: &[&str] = &["|", ">", ">>", ";", "&&", "||", "&"];

/// Translates a line into the words of the command tree.
pub fn translate(words: Vec<String>) -> Result<Vec<String>, String> {
    let mut words = unwrapped(words);
    let Some(first) = words.first() else { return Ok(words) };
    // Options are parsed by clap.
    if first.starts_with('-') {
        return Ok(words);
    }
    if let Some(first) = first.strip_suffix(';') {
        return Err(format!(
            "; is for a shell: one command a line here; in a shell: consolectl {first}; ..."
        ));
    }
    let command = command(first)?;
    words[0] = command.to_owned();
    let typed = words.clone();
    let rest: Vec<&str> = typed[1..].iter().map(String::as_str).collect();
    if let Some(meant) = translated(command, &rest) {
        return meant;
    }
    // (The values of `create` may be any text too.)
    if !TAKES_TEXT.contains(&command)
        && command != "create"
        && let Some(sign) = rest.iter().find_map(|word| match word.ends_with(';') {
            true => Some(";"),
            false => SHELL_SIGNS.iter().copied().find(|sign| sign == word),
        })
    {
        return Err(format!(
            "{sign} is for a shell: one command a line here, without pipes; in a shell: consolectl {command} {sign} ..."
        ));
    }
    match (command, rest.as_slice()) {
        // `baud ?`. (The pattern of grep may be a question mark.)
        (command, ["?"]) if command != "help" && command != "grep" => Ok(owned(&["help", command])),
        ("help", [wanted, ..]) if !wanted.starts_with('-') => match self::command(wanted)? {
            "disable" => Ok(owned(&["help", "enable"])),
            name => Ok(owned(&["help", name])),
        },
        ("set" | "unset" | "show", ["template" | "templates", name, more @ ..])
            if !name.starts_with('-') && (command != "unset" || !more.is_empty()) =>
        {
            Ok(owned(&[&[command, format!("templates.{name}").as_str()], more].concat()))
        }
        ("set" | "unset" | "show", ["template" | "group", more @ ..]) => {
            Ok(owned(&[&[command, format!("{}s", rest[0]).as_str()], more].concat()))
        }
        // `set baud=9600 p1`
        ("set", [key, ..]) if super::assign::split(key).is_some() => {
            Err("expected a port before the keys: set PORT KEY=VALUE".to_owned())
        }
        ("set", [key, value]) if crate::config::keys::find(crate::config::keys::PORT, key).is_some() => {
            Err(format!(
                "expected a port before the key: set PORT {} {}",
                crate::session::plain(key),
                crate::session::plain(value)
            ))
        }
        ("set", [_of, key]) if super::assign::split(key).is_none() && !["-h", "--help"].contains(key) => {
            Err(format!(
                "expected a value for {}: set PORT KEY VALUE, or set PORT KEY=VALUE",
                crate::session::plain(key)
            ))
        }
        ("enable", [_port]) => {
            words.push("on".to_owned());
            Ok(words)
        }
        ("disable", [port]) => Ok(owned(&["enable", port, "off"])),
        ("disable", _) => {
            Err("expected one word for the ports: disable PORT, p[01-48], a,b or @group".to_owned())
        }
        _ => Ok(words),
    }
}

/// Resolves a command name, an alias or a unique abbreviation.
pub fn command(word: &str) -> Result<&'static str, String> {
    if word.is_empty() {
        return Err("the command is empty: see help".to_owned());
    }
    let typed = word;
    // Network devices ignore case.
    let lower = word.to_lowercase();
    let word = lower.as_str();
    let all = names();
    let named = |word: &str| all.iter().copied().find(|name| *name == word);
    if let Some(name) = named(word) {
        return Ok(name);
    }
    if let Some((_, name)) = ALIASES.iter().chain(EXACT).find(|(alias, _)| *alias == word) {
        return Ok(*name);
    }
    if word == "disable" {
        return Ok("disable");
    }
    if let Some((_, hint)) = HINTS.iter().find(|(of, _)| *of == word) {
        return Err(format!("unknown command {}: {hint}", crate::session::plain(word)));
    }
    // Hidden commands are for programs, which do not abbreviate.
    let visible = all.iter().copied().filter(|name| *name != "completions").chain(["disable"]);
    let mut meant: Vec<&'static str> = visible.clone().filter(|name| name.starts_with(word)).collect();
    for (alias, name) in ALIASES {
        if alias.starts_with(word) && !meant.contains(name) {
            meant.push(*name);
        }
    }
    match meant.as_slice() {
        [only] => Ok(*only),
        // `config t`, `journ`
        [] if let Some((_, hint)) =
            HINTS.iter().find(|(of, _)| word.len() >= MIN_HINT_LENGTH && of.starts_with(word)) =>
        {
            Err(format!("unknown command {}: {hint}", crate::session::plain(word)))
        }
        [] => {
            // Any two single characters are similar, such as ? and 3.
            let aliases =
                ALIASES.iter().chain(EXACT).map(|(alias, _)| *alias).filter(|alias| alias.len() > 1);
            let mut near = nearest(word, visible.chain(aliases));
            // Suggest the command, not its alias.
            for near in &mut near {
                if let Some((_, name)) = ALIASES.iter().chain(EXACT).find(|(alias, _)| *alias == *near) {
                    *near = *name;
                }
            }
            let shown = crate::session::plain(typed);
            Err(match near.first() {
                Some(near) => format!("unknown command {shown}: did you mean {near}? See help"),
                None if typed.parse::<PortName>().is_ok() => {
                    format!("unknown command {shown}: see help; if it is a port: connect {shown}")
                }
                None => format!("unknown command {shown}: see help"),
            })
        }
        several => Err(format!("{} is ambiguous: {}", crate::session::plain(word), either(several))),
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated_line(line: &str) -> Result<String, String> {
        translate(line.split_whitespace().map(str::to_owned).collect()).map(|words| words.join(" "))
    }

    #[test]
    fn aliases_and_abbreviations_are_translated() {
        for (typed, meant) in [
            ("?", "help"),
            ("quit", "exit"),
            ("logout", "exit"),
            ("ls", "list"),
            ("logs core -f", "log core -f"),
            ("delete core", "remove core"),
            ("show", "list"),
            ("sh ver", "version"),
            ("show version", "version"),
            ("show log core", "log core"),
            ("show users", "who"),
            ("show | compare", "diff"),
            ("show core", "show core"),
            ("set template cisco baud 9600", "set templates.cisco baud 9600"),
            ("set templates.cisco baud 9600", "set templates.cisco baud 9600"),
            ("show template cisco", "show templates.cisco"),
            ("show templates", "show templates"),
            ("show templates --json", "show templates --json"),
            ("show template", "show templates"),
            ("unset template cisco", "unset templates cisco"),
            ("unset template cisco baud", "unset templates.cisco baud"),
            ("set group core p01 p02", "set groups core p01 p02"),
            ("show group", "show groups"),
            ("write memory", "commit"),
            ("wr mem", "commit"),
            ("commit confirmed 5", "commit confirm 5"),
            ("commit conf 5", "commit confirm 5"),
            ("rollback", "revert"),
            ("enable core", "enable core on"),
            ("enable core 0", "enable core 0"),
            ("disable core", "enable core off"),
            ("console core", "connect core"),
            ("send-break core", "break core"),
            ("ver", "version"),
            ("stat", "status"),
            ("conn core", "connect core"),
            ("q", "exit"),
            ("baud ?", "help baud"),
            ("ba ?", "help baud"),
            ("help ba", "help baud"),
            ("help ls", "help list"),
            ("help disable", "help enable"),
            ("disab core", "enable core off"),
            ("grep ?", "grep ?"),
            ("send core ?", "send core ?"),
            ("--version", "--version"),
            ("SHOW ver", "version"),
            ("do show version", "version"),
            ("sudo consolectl list", "list"),
            ("show running-config", "show server access defaults *"),
            ("sh run", "show server access defaults *"),
            ("show run interface core", "show core"),
            ("show interfaces", "list"),
            ("show int status", "list"),
            ("show interface core", "status core"),
            ("show ip int brief", "list"),
            ("show tech-support", "doctor"),
            ("copy running-config startup-config", "commit"),
            ("copy run start", "commit"),
            ("commit and-quit", "commit"),
            ("commit confirmed", "commit confirm 10"),
            ("rollback 0", "revert"),
            ("systemctl start console@core.service", "start core"),
            ("systemctl status", "status"),
            ("console -f core", "connect --force core"),
            ("console -s core", "watch core"),
            ("conman -m core", "watch core"),
            ("connect core --read-only", "watch core"),
            ("console -u", "status"),
            ("console -w", "who"),
            ("console -x", "list"),
            ("create core /dev/ttyUSB0", "create core device=/dev/ttyUSB0"),
            ("spy core", "watch core"),
            ("monitor core", "watch core"),
            ("tio /dev/ttyUSB0", "connect /dev/ttyUSB0"),
            ("cu -l ttyUSB0", "connect ttyUSB0"),
            ("speed core 9600", "baud core 9600"),
            ("showport core", "status core"),
            ("Q", "exit"),
            (":q", "exit"),
            ("help show running-config", "help show"),
            ("log core -100", "log core -n 100"),
            ("tail -5 core", "log -n 5 core"),
            ("log core 100", "log core -n 100"),
            ("log 100", "log 100"),
            ("send core |", "send core |"),
            ("set core.baud=9600", "set core baud=9600"),
            ("set ports.core.baud 9600", "set core baud 9600"),
            ("set a.b.log.type none", "set a.b log.type none"),
            ("unset ports.core.log.type", "unset core log.type"),
            ("unset templates cisco", "unset templates cisco"),
            ("grep -E a|b core", "grep a|b core"),
            ("grep -i router", "grep -i router"),
            ("grep -- -v core", "grep -- -v core"),
            ("grep -v", "grep -v"),
            ("grep -2 core", "grep -2 core"),
            ("show port core", "show core"),
            ("show port", "list"),
            ("show ports core", "list core"),
            ("show ports.core", "show core"),
            ("show ports.core.baud", "show core"),
            ("set port core baud 9600", "set core baud 9600"),
            ("set ports core baud=9600 parity=E", "set core baud=9600 parity=E"),
            ("set ports.core baud 9600", "set core baud 9600"),
            ("unset port core triggers.x", "unset core triggers.x"),
            ("set port baud 9600", "set port baud 9600"),
            ("set console listen ::1", "set console listen ::1"),
            ("set raw baud 9600", "set raw baud 9600"),
            ("set server listen 127.0.0.1 ::1", "set server listen 127.0.0.1 ::1"),
            ("set core --help", "set core --help"),
            ("baud 1 9600", "baud 1 9600"),
            ("commit mine confirm 5", "commit mine confirm 5"),
        ] {
            assert_eq!(translated_line(typed).as_deref(), Ok(meant), "{typed}");
        }
    }

    #[test]
    fn an_unknown_command_is_reported_with_the_nearest_one() {
        for (typed, wanted) in [
            ("lsit", "unknown command lsit: did you mean list? See help"),
            ("buad core 9600", "unknown command buad: did you mean baud? See help"),
            ("conect core", "unknown command conect: did you mean connect? See help"),
            ("satus", "unknown command satus: did you mean status? See help"),
            ("delte core", "unknown command delte: did you mean remove? See help"),
            ("ttyUSB1", "unknown command ttyUSB1: see help; if it is a port: connect ttyUSB1"),
            ("/dev/ttyUSB1", "unknown command /dev/ttyUSB1: see help; if it is a port: connect /dev/ttyUSB1"),
            ("sta", "sta is ambiguous: status or start"),
            (
                "grep -v router core",
                "grep has no option -v: its options are -i, --since, --until and --raw; a pattern that begins with a hyphen: grep -- -v",
            ),
            ("list; status", "; is for a shell: one command a line here; in a shell: consolectl list; ..."),
            (
                "status core; list",
                "; is for a shell: one command a line here, without pipes; in a shell: consolectl status ; ...",
            ),
            ("delete core description baud", "`remove` removes ports: use `unset core description baud`"),
            (
                "open core",
                "unknown command open: `start PORT` opens a port that is closed, `connect PORT` attaches to one",
            ),
            (
                "grep -in router core",
                "grep has no option -in: its options are -i, --since, --until and --raw; a pattern that begins with a hyphen: grep -- -in",
            ),
            (
                "grep -i -n router core",
                "grep has no option -n: its options are -i, --since, --until and --raw; a pattern that begins with a hyphen: grep -- -n",
            ),
            (
                "grep -A2 router core",
                "grep has no option -A2: its options are -i, --since, --until and --raw; a pattern that begins with a hyphen: grep -- -A2",
            ),
            ("set baud 9600 core", "expected a port before the key: set PORT KEY VALUE"),
            ("set baud core 9600", "expected a port before the key: set PORT KEY VALUE"),
            ("baud 9600 core", "expected the port first: baud core 9600"),
            ("enable on core", "expected the port first: enable core on"),
            ("parity even core", "expected the port first: parity core even"),
            ("break 500 core", "expected the port first: break core 500"),
            ("baud p1 p2 9600", "expected one word for the ports: baud p1,p2 9600"),
            (
                "commit core",
                "unknown word core: `commit` writes the changes of all ports and users, `commit mine` your own",
            ),
            (
                "revert core",
                "`revert` has no argument: it discards all uncommitted changes, or rolls back a `commit confirm`; earlier configurations are not kept",
            ),
            (
                "get core baud",
                "unknown command get: `show PORT` prints the keys of a port; a script gets one by `consolectl show PORT --json | jq .candidate.baud`",
            ),
            ("conf t", "unknown command conf: there is no configuration mode: all commands work here"),
        ] {
            assert_eq!(translated_line(typed), Err(wanted.to_owned()), "{typed}");
        }
    }

    #[test]
    fn an_alias_is_not_a_command_and_stands_for_one() {
        let all = names();
        for (alias, name) in ALIASES.iter().chain(EXACT) {
            assert!(!all.contains(alias) && all.contains(name), "{alias}");
        }
        for (word, _) in HINTS {
            assert!(
                !all.contains(word) && ALIASES.iter().chain(EXACT).all(|(alias, _)| alias != word),
                "{word}"
            );
        }
    }
}
