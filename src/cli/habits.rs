//! Commands of other systems, translated into commands of this one or answered with a hint. Pure.
//!
//! The words are from Cisco IOS, Junos, conserver's `console`, ser2net's telnet administration, systemctl, terminal programs and
//! shells. `words` has the aliases that can be abbreviated.

use crate::config::keys;

/// Aliases that cannot be abbreviated.
pub(super) const EXACT: &[(&str, &str)] = &[
    (":q", "exit"),
    ("baudrate", "baud"),
    ("cat", "log"),
    ("conman", "connect"),
    ("counters", "status"),
    ("cu", "connect"),
    ("databits", "bytesize"),
    ("description", "describe"),
    ("diagnose", "doctor"),
    ("follow", "watch"),
    ("info", "status"),
    ("is-active", "status"),
    ("is-enabled", "status"),
    ("label", "describe"),
    ("less", "log"),
    ("list-ports", "list"),
    ("minicom", "connect"),
    ("monitor", "watch"),
    ("more", "log"),
    ("new", "create"),
    ("picocom", "connect"),
    ("screen", "connect"),
    ("setporttimeout", "timeout"),
    ("showport", "status"),
    ("showshortport", "list"),
    ("speed", "baud"),
    ("spy", "watch"),
    ("tio", "connect"),
    ("validate", "check"),
    ("verify", "check"),
    ("whoami", "who"),
];

const NO_MODE: &str = "there is no configuration mode: all commands work here";
const NO_MODE_TO_LEAVE: &str = "there are no modes: all commands work here, and `exit` leaves the prompt";
const NO_SHELL: &str = "this is the CLI of the console server, not a shell: `help` lists the commands";
const JOURNAL: &str = "`log PORT` shows the output of a console; `journalctl -u console@PORT`, in a shell, the messages of its service";
const NO_MENU: &str = "there is no menu: `list` lists the ports, `connect PORT` attaches to one";
const KEYS: &str = "each command names its port: `baud PORT 9600`, `set PORT KEY=VALUE`; `show PORT` prints its configuration";
const FILES: &str =
    "the committed configuration is /etc/consoleserver/config.toml, logs are in /var/log/consoleserver/PORT";
const MACHINE: &str = "the console server does not restart the machine: use `systemctl reboot` in a shell; `reload PORT` applies changes";

/// Words that are not commands, each with a hint.
pub(super) const HINTS: &[(&str, &str)] = &[
    ("abort", "`revert` discards uncommitted changes, or rolls back a `commit confirm`"),
    ("back", NO_MODE_TO_LEAVE),
    ("backup", FILES),
    ("bash", NO_SHELL),
    ("cancel", "`revert` discards uncommitted changes, or rolls back a `commit confirm`"),
    ("clear", "`disconnect PORT USER` disconnects sessions; Ctrl-L clears the screen"),
    (
        "close",
        "`stop PORT` closes a port until it is started, `disable PORT` keeps it closed; `disconnect PORT USER` disconnects sessions",
    ),
    ("cls", "Ctrl-L clears the screen"),
    ("config", NO_MODE),
    ("configure", NO_MODE),
    ("conf", NO_MODE),
    ("daemon-reload", "`reload` applies changes, including edits of the file"),
    ("date", NO_SHELL),
    ("debug", "`doctor PORT` diagnoses why a port does not work"),
    ("devices", "`list --unconfigured` lists adapters without a port, `list` the ports"),
    ("df", NO_SHELL),
    (
        "discover",
        "`list --unconfigured` lists adapters without a port; `learn NAME` waits for one to be plugged in",
    ),
    ("dmesg", NO_SHELL),
    ("dump", FILES),
    ("echo", NO_SHELL),
    ("edit", NO_MODE),
    ("end", NO_MODE_TO_LEAVE),
    ("erase", "`remove PORT` removes a port, `unset PORT KEY` a key; `revert` discards uncommitted changes"),
    ("export", FILES),
    ("flow", "use `rtscts PORT on` or `xonxoff PORT on`"),
    ("flowcontrol", "use `rtscts PORT on` or `xonxoff PORT on`"),
    ("force", "`connect --force PORT` takes over write access"),
    (
        "get",
        "`show PORT` prints the keys of a port; a script gets one by `consolectl show PORT --json | jq .candidate.baud`",
    ),
    ("halt", MACHINE),
    ("history", "use the arrow keys or Ctrl-R to find earlier lines"),
    ("hostname", NO_SHELL),
    ("interface", KEYS),
    ("ip", NO_SHELL),
    ("journal", JOURNAL),
    ("journalctl", JOURNAL),
    ("kill", "`disconnect PORT USER` disconnects sessions, `stop PORT` closes a port"),
    ("line", KEYS),
    (
        "load",
        "`import FILE` imports the configuration of another console server; `check FILE` checks one of this program",
    ),
    ("lsusb", "`list --unconfigured` lists adapters without a port"),
    ("mask", "`disable PORT` keeps a port closed"),
    ("menu", NO_MENU),
    ("no", "`unset PORT KEY` removes a key, `remove PORT` a port; `disable PORT` keeps a port closed"),
    ("open", "`start PORT` opens a port that is closed, `connect PORT` attaches to one"),
    ("passwd", NO_SHELL),
    ("ping", "not available here: `doctor` diagnoses the ports of this machine"),
    ("pmshell", NO_MENU),
    ("port", KEYS),
    ("poweroff", MACHINE),
    ("reboot", MACHINE),
    ("request", NO_SHELL),
    (
        "reset",
        "`power PORT cycle` power-cycles a device that has power commands; `reload PORT` applies changes",
    ),
    (
        "restart",
        "`reload PORT` applies changes and keeps sessions; `stop PORT` and `start PORT` close and open it",
    ),
    ("resume", "`connect PORT` attaches again; a session is not kept in the background"),
    ("run", NO_MODE),
    (
        "scan",
        "`list --unconfigured` lists adapters without a port; `learn NAME` waits for one to be plugged in",
    ),
    ("service", "use `start`, `stop`, `reload` and `status` of a port"),
    ("setportconfig", "use `set PORT KEY=VALUE`: baud, bytesize, parity, stopbits, rtscts and others"),
    ("setportcontrol", "use `set PORT dtr on` or `set PORT rts off`"),
    ("setportenable", "use `enable PORT` or `disable PORT`"),
    ("shell", NO_SHELL),
    ("shutdown", "`stop PORT` closes a port, `disable PORT` keeps it closed"),
    ("su", NO_SHELL),
    ("systemctl", "use `start`, `stop`, `reload` and `status` without systemctl"),
    ("terminal", "there is nothing to set: the terminal size is detected, and output is not paged"),
    ("test", "`doctor PORT` diagnoses a port, `check FILE` checks a configuration file"),
    ("top", NO_MODE_TO_LEAVE),
    ("traceroute", "not available here: `doctor` diagnoses the ports of this machine"),
    ("ts_menu", NO_MENU),
    ("undo", "`unset PORT KEY` removes a key; `revert` discards uncommitted changes"),
    ("unmask", "`enable PORT` opens a port now and after each boot"),
    ("up", NO_MODE_TO_LEAVE),
    ("uptime", NO_SHELL),
    ("username", "users are those of the machine; `set PORT users NAME` admits some of them"),
];

/// `show WORD` of network devices.
const SHOWN: &[(&[&str], &str)] = &[
    (&["version", "ver"], "version"),
    (&["ports", "lines", "line", "ip", "inventory"], "list"),
    (&["users", "sessions", "session", "who"], "who"),
    (&["status"], "status"),
    (&["log", "logs", "logging"], "log"),
    (&["diff", "changes", "compare", "|"], "diff"),
    (&["help", "?"], "help"),
    (&["doctor", "tech-support", "alarms", "errors"], "doctor"),
];

/// Cisco IOS: lists all interfaces, or state and counters of one.
const INTERFACES: [&str; 4] = ["interfaces", "interface", "ints", "int"];
/// Words that follow `show interfaces` and are not interfaces.
const ABOUT_INTERFACES: [&str; 6] = ["status", "brief", "terse", "description", "descriptions", "summary"];

const RUNNING: [&str; 6] = ["configuration", "config", "conf", "running-config", "running", "run"];
const STARTUP: [&str; 3] = ["startup-config", "startup", "start"];

/// Removes a prefix that has no meaning here: `do show version`, `systemctl start PORT`; translates `copy run start`.
pub(super) fn unwrapped(mut words: Vec<String>) -> Vec<String> {
    loop {
        let typed: Vec<&str> = words.iter().map(String::as_str).collect();
        match typed.as_slice() {
            // (`run` and `systemctl` alone get a hint.)
            ["do" | "run" | "sudo" | "consolectl", _, ..] => drop(words.remove(0)),
            ["systemctl", ..] if typed.len() > 1 => {
                words.remove(0);
                for word in &mut words {
                    let port = word.strip_prefix("console@").map(|unit| unit.trim_end_matches(".service"));
                    if let Some(port) = port.map(str::to_owned) {
                        *word = port;
                    }
                }
            }
            ["copy" | "cop", from, to] if RUNNING.contains(from) && STARTUP.contains(to) => {
                return vec!["commit".to_owned()];
            }
            _ => return words,
        }
    }
}

/// Translates the arguments of a command from other systems: other words, or a hint; `None` if there is nothing to translate.
pub(super) fn translated(command: &str, rest: &[&str]) -> Option<Result<Vec<String>, String>> {
    let line = |words: &[&str]| Some(Ok(words.iter().map(|word| (*word).to_owned()).collect()));
    let hint = |words: &str| Some(Err(words.to_owned()));
    match (command, rest) {
        ("show", []) => line(&["list"]),
        ("show", [what]) if RUNNING.contains(what) || *what == "all" => {
            line(&["show", "server", "access", "defaults", "*"])
        }
        ("show", [what, ports @ ..]) if RUNNING.contains(what) => {
            // `show running-config interface PORT`
            let ports = match ports {
                [word, ports @ ..] if INTERFACES.contains(word) && !ports.is_empty() => ports,
                ports => ports,
            };
            line(&[&["show"], ports].concat())
        }
        ("show", [what]) if STARTUP.contains(what) => hint(
            "the committed configuration is /etc/consoleserver/config.toml; `diff` shows uncommitted changes, `show PORT` both",
        ),
        ("show", [what, others @ ..]) if INTERFACES.contains(what) => {
            let ports: Vec<&str> =
                others.iter().copied().filter(|word| !ABOUT_INTERFACES.contains(word)).collect();
            line(&[&[if ports.is_empty() { "list" } else { "status" }], ports.as_slice()].concat())
        }
        // Junos: `show port core`
        ("show", ["port", ports @ ..]) => {
            line(&[&[if ports.is_empty() { "list" } else { "show" }], ports].concat())
        }
        ("show", [path]) if path.starts_with("ports.") => {
            let port = port_and_key(path).map_or(&path["ports.".len()..], |(port, _)| port);
            line(&["show", port])
        }
        ("show", [what, others @ ..]) => {
            let (_, command) = SHOWN.iter().find(|(words, _)| words.contains(what))?;
            // Junos: `show | compare`; IOS: `show ip interface brief`
            let others =
                if ["|", "ip", "inventory", "tech-support"].contains(what) { &[][..] } else { others };
            line(&[&[*command], others].concat())
        }
        // Cisco IOS: `write memory`
        ("commit", [what]) if what.len() >= 3 && "memory".starts_with(what) => line(&["commit"]),
        // Junos.
        ("commit", ["and-quit"]) => line(&["commit"]),
        ("commit", ["check"]) => {
            hint("each change is checked immediately; `diff` shows what `commit` would write")
        }
        ("commit", ["comment", ..]) => hint("a commit has no comment: use `commit`"),
        // Junos' default is ten minutes.
        ("commit", ["confirmed"]) => line(&["commit", "confirm", "10"]),
        ("commit", [what, minutes @ ..]) if what.len() >= 4 && "confirmed".starts_with(what) => {
            line(&[&["commit", "confirm"], minutes].concat())
        }
        ("commit", [what, ..]) if !what.starts_with('-') && !["confirm", "mine"].contains(what) => {
            hint(&format!(
                "unknown word {}: `commit` writes the changes of all ports and users, `commit mine` your own",
                crate::session::plain(what)
            ))
        }
        ("revert", ["0"]) => line(&["revert"]),
        ("revert", [what, ..]) if !what.starts_with('-') => hint(
            "`revert` has no argument: it discards all uncommitted changes, or rolls back a `commit confirm`; earlier configurations are not kept",
        ),
        // Junos: `delete interfaces ge-0/0/0 description`
        ("remove", [port, words @ ..])
            if !words.is_empty() && words.iter().all(|word| keys::find(keys::PORT, word).is_some()) =>
        {
            hint(&format!("`remove` removes ports: use `unset {port} {}`", words.join(" ")))
        }
        // `set port core baud 9600`, `set ports.core baud 9600`. (A port may be called `port`.)
        ("set" | "unset", ["port" | "ports" | "console", port, key, more @ ..])
            if !is_key(port) && is_key(key) =>
        {
            line(&[&[command, port, key], more].concat())
        }
        ("set" | "unset", [path, key, more @ ..]) if path.starts_with("ports.") && is_key(key) => {
            line(&[&[command, &path["ports.".len()..], key], more].concat())
        }
        // `set baud 9600 core`
        ("set", [key, other, _, ..])
            if keys::find(keys::PORT, key).is_some() && *key != "groups" && !is_key(other) =>
        {
            hint("expected a port before the key: set PORT KEY VALUE")
        }
        // `baud 9600 core`, `rtscts on core`, `break 500 core`
        ("baud" | "bytesize" | "stopbits" | "timeout" | "sshport" | "break", [value, port])
            if is_number(value) && !is_number(port) =>
        {
            hint(&format!("expected the port first: {command} {port} {value}"))
        }
        ("enable" | "rtscts" | "xonxoff" | "parity", [value, port])
            if FIXED.contains(value) && !FIXED.contains(port) =>
        {
            hint(&format!("expected the port first: {command} {port} {value}"))
        }
        // `baud p1 p2 9600`
        ("baud" | "bytesize" | "stopbits" | "timeout", [ports @ .., value])
            if ports.len() > 1 && is_number(value) && !ports.iter().any(|port| is_number(port)) =>
        {
            hint(&format!("expected one word for the ports: {command} {} {value}", ports.join(",")))
        }
        // As `diff` prints them: `set ports.core.baud=9600`, `unset ports.core.baud`
        ("set", [path]) => {
            let (path, value) = path.split_once('=')?;
            let (port, key) = port_and_key(path)?;
            line(&["set", port, &format!("{key}={value}")])
        }
        ("set", [path, value]) if keys::find(keys::PORT, value).is_none() && !value.contains('=') => {
            let (port, key) = port_and_key(path)?;
            line(&["set", port, key, value])
        }
        ("unset", [path]) => {
            let (port, key) = port_and_key(path)?;
            line(&["unset", port, key])
        }
        // `screen /dev/ttyUSB0 115200`, `tio -b 115200 /dev/ttyUSB0`
        ("connect", [port, rate]) if rate.parse::<u32>().is_ok() => hint(&format!(
            "the line rate is a setting of the port: use `baud {port} {rate}`, then `connect {port}`"
        )),
        ("connect", ["-b", rate, port]) if rate.parse::<u32>().is_ok() => hint(&format!(
            "the line rate is a setting of the port: use `baud {port} {rate}`, then `connect {port}`"
        )),
        // cu(1)
        ("connect", ["-l", port]) => line(&["connect", port]),
        // console(1) of conserver: attach, force, spy, who, users, examine; conman(1): -f force, -m monitor.
        ("connect", ["-a" | "-A", port]) => line(&["connect", port]),
        ("connect", ["-f" | "-F", port]) => line(&["connect", "--force", port]),
        ("connect", ["-s" | "-S" | "-m" | "-r" | "--ro" | "--readonly" | "--read-only", port])
        | ("connect", [port, "--ro" | "--readonly" | "--read-only"]) => line(&["watch", port]),
        ("connect", ["-w" | "-W"]) => line(&["who"]),
        ("connect", ["-u" | "-U"]) => line(&["status"]),
        ("connect", ["-x"]) => line(&["list"]),
        // `create core /dev/ttyUSB0`
        ("create", [name, device]) if device.starts_with("/dev/") => {
            line(&["create", name, &format!("device={device}")])
        }
        // grep(1): every pattern is an extended one. Its other options would be taken for the pattern, and the pattern for a port.
        ("grep", ["-E" | "-e", others @ ..]) if !others.is_empty() => line(&[&["grep"], others].concat()),
        ("grep", [option, _, ..] | ["-i" | "--ignore-case", option, _, ..]) if is_grep_option(option) => {
            hint(&format!(
                "grep has no option {option}: its options are -i, --since, --until and --raw; a pattern that begins with a hyphen: grep -- {option}"
            ))
        }
        // tail(1)'s -100; 100 alone is no port.
        ("log", words) if words.iter().any(|word| lines(word).is_some()) => {
            let words = words.iter().flat_map(|word| match lines(word) {
                Some(count) => vec!["-n".to_owned(), count.to_owned()],
                None => vec![(*word).to_owned()],
            });
            Some(Ok(std::iter::once("log".to_owned()).chain(words).collect()))
        }
        ("log", [port, count]) if is_number(count) && !is_number(port) => line(&["log", port, "-n", count]),
        ("log", ["-f"]) => hint("expected a port: log PORT -f; to follow several ports, use `watch`"),
        _ => None,
    }
}

/// `core.baud` or `ports.core.baud`. A port's name may have full stops too, and so may a key.
fn port_and_key(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix("ports.").unwrap_or(path);
    path.match_indices('.')
        .map(|(place, _)| (&path[..place], &path[place + 1..]))
        .find(|(_, key)| keys::find(keys::PORT, key).is_some())
}

/// An option of grep(1) that `grep` does not have, or several in one word.
fn is_grep_option(word: &str) -> bool {
    let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else { return false };
    // -A2
    let letters = letters.trim_end_matches(|c: char| c.is_ascii_digit());
    !matches!(letters, "" | "i")
        && letters.chars().all(|letter| "ABCEFGHLPRabchilmnoqrsvwxz".contains(letter))
}

/// Values of keys of a port that are no names of ports.
const FIXED: [&str; 11] = ["on", "off", "yes", "no", "true", "false", "none", "even", "odd", "mark", "space"];

/// A key of a port, or one with its value.
fn is_key(word: &str) -> bool {
    let key = word.split_once('=').map_or(word, |(key, _)| key);
    keys::find(keys::PORT, key).is_some() || key.starts_with("triggers.")
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// The number of lines that a word like `-100` asks for.
fn lines(word: &str) -> Option<&str> {
    word.strip_prefix('-').filter(|count| is_number(count))
}
