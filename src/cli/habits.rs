//! What operators of other systems type out of habit, as the commands of this one, or as the sentence that leads to them. Pure.
//!
//! The words are those of Cisco IOS, Junos, conserver's `console`, ser2net's telnet administration, systemctl, terminal programs and
//! shells. `words` has those whose beginning is enough.

/// Commands by other words, which are typed whole.
pub(super) const EXACT: &[(&str, &str)] = &[
    (":q", "exit"),
    ("baudrate", "baud"),
    ("cat", "log"),
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

const NO_MODE: &str = "there is no configuration mode: every command works here";
const NO_MODE_TO_LEAVE: &str =
    "there is no mode to leave: every command works here, and `exit` leaves the prompt";
const NO_SHELL: &str = "this is the command line of the consoles, not a shell: `help` lists what there is";
const JOURNAL: &str =
    "`log PORT` shows what a console said; `journalctl -u console@PORT`, in a shell, what its service said";
const MACHINE: &str = "this command line does not restart the machine, which `systemctl reboot` does in a shell; `reload PORT` applies \
                       what was changed";

/// What there is no command for, and what does it here.
pub(super) const HINTS: &[(&str, &str)] = &[
    ("abort", "`revert` takes back every change that is not committed, and a commit on trial"),
    ("back", NO_MODE_TO_LEAVE),
    ("cancel", "`revert` takes back every change that is not committed, and a commit on trial"),
    ("clear", "`disconnect PORT USER` ends sessions; Ctrl-L clears the screen of the prompt"),
    ("cls", "Ctrl-L clears the screen of the prompt"),
    ("config", NO_MODE),
    ("configure", NO_MODE),
    ("conf", NO_MODE),
    ("daemon-reload", "`reload` applies what was changed, also by hand in the file"),
    ("date", NO_SHELL),
    ("debug", "`doctor PORT` says why a port does not work"),
    ("devices", "`list --unconfigured` shows the adapters that no port has, `list` the ports"),
    (
        "discover",
        "`list --unconfigured` shows the adapters that no port has; `learn NAME` waits for the next one",
    ),
    ("edit", NO_MODE),
    ("end", NO_MODE_TO_LEAVE),
    ("flow", "`rtscts PORT on` or `xonxoff PORT on`"),
    ("flowcontrol", "`rtscts PORT on` or `xonxoff PORT on`"),
    ("force", "`connect --force PORT` takes over from the user who writes there"),
    ("halt", MACHINE),
    ("history", "the arrow keys and Ctrl-R find earlier lines"),
    ("hostname", NO_SHELL),
    ("journal", JOURNAL),
    ("journalctl", JOURNAL),
    ("kill", "`disconnect PORT USER` ends sessions, `stop PORT` closes a port"),
    (
        "load",
        "`import FILE` reads the configuration of another console server; `check FILE` judges a file of this one",
    ),
    ("mask", "`disable PORT` keeps a port closed"),
    (
        "no",
        "`unset PORT KEY` takes a key out, `remove PORT` a port, `disable PORT` closes one, `enable PORT` opens it",
    ),
    ("ping", "there is none here: `doctor` looks for what is wrong with the ports of this machine"),
    ("poweroff", MACHINE),
    ("reboot", MACHINE),
    ("request", NO_SHELL),
    (
        "restart",
        "`reload PORT` applies what was changed and keeps sessions; `stop PORT`, then `start PORT`, opens it again",
    ),
    ("run", NO_MODE),
    (
        "scan",
        "`list --unconfigured` shows the adapters that no port has; `learn NAME` waits for the next one",
    ),
    ("setportconfig", "`set PORT KEY=VALUE`: baud, bytesize, parity, stopbits, rtscts and others"),
    ("setportcontrol", "`set PORT dtr on`, `set PORT rts off`"),
    ("setportenable", "`enable PORT` and `disable PORT`"),
    ("shutdown", "`stop PORT` closes a port, `disable PORT` keeps it closed"),
    ("systemctl", "`start`, `stop`, `reload` and `status` are commands here, without systemctl"),
    ("terminal", "there is nothing to set: the size of the terminal is known, and output is not paged"),
    ("test", "`doctor PORT` says why a port does not work, `check FILE` what is wrong with a file"),
    ("top", NO_MODE_TO_LEAVE),
    ("traceroute", "there is none here: `doctor` looks for what is wrong with the ports of this machine"),
    ("undo", "`unset PORT KEY` takes a key out; `revert` takes back every change that is not committed"),
    ("unmask", "`enable PORT` opens a port, now and after each boot"),
    ("up", NO_MODE_TO_LEAVE),
    ("uptime", NO_SHELL),
];

/// `show WORD`, as network devices have it.
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

/// Cisco IOS: all of them, or the state and the counters of one.
const INTERFACES: [&str; 4] = ["interfaces", "interface", "ints", "int"];
/// What stands behind them there, without being one of them.
const ABOUT_INTERFACES: [&str; 6] = ["status", "brief", "terse", "description", "descriptions", "summary"];

/// What is in force, as a whole.
const RUNNING: [&str; 6] = ["configuration", "config", "conf", "running-config", "running", "run"];
const STARTUP: [&str; 3] = ["startup-config", "startup", "start"];

/// A line whose first word means nothing here by itself: `do show version`, `systemctl start PORT`, `copy run start`.
pub(super) fn unwrapped(mut words: Vec<String>) -> Vec<String> {
    loop {
        let typed: Vec<&str> = words.iter().map(String::as_str).collect();
        match typed.as_slice() {
            // (Of `run` and `systemctl` alone, a hint.)
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

/// What the words behind a command of ours mean in other systems: other words, or a sentence; `None` if nothing.
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
            "what is committed is the file /etc/consoleserver/config.toml; `diff` shows what is not committed, `show PORT` both",
        ),
        ("show", [what, others @ ..]) if INTERFACES.contains(what) => {
            let ports: Vec<&str> =
                others.iter().copied().filter(|word| !ABOUT_INTERFACES.contains(word)).collect();
            line(&[&[if ports.is_empty() { "list" } else { "status" }], ports.as_slice()].concat())
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
            hint("each change is checked when it is made: `diff` shows what `commit` would write")
        }
        ("commit", ["comment", ..]) => hint("a commit has no comment here: `commit`"),
        // Ten minutes are Junos' own.
        ("commit", ["confirmed"]) => line(&["commit", "confirm", "10"]),
        ("commit", [what, minutes @ ..]) if what.len() >= 4 && "confirmed".starts_with(what) => {
            line(&[&["commit", "confirm"], minutes].concat())
        }
        ("revert", ["0"]) => line(&["revert"]),
        ("revert", [_]) => hint(
            "earlier configurations are not kept: `revert` takes back what is not committed, and a commit on trial",
        ),
        // `screen /dev/ttyUSB0 115200`, `tio -b 115200 /dev/ttyUSB0`
        ("connect", [port, rate]) if rate.parse::<u32>().is_ok() => hint(&format!(
            "the line rate is a setting of the port: `baud {port} {rate}`, then `connect {port}`"
        )),
        ("connect", ["-b", rate, port]) if rate.parse::<u32>().is_ok() => hint(&format!(
            "the line rate is a setting of the port: `baud {port} {rate}`, then `connect {port}`"
        )),
        // cu(1)
        ("connect", ["-l", port]) => line(&["connect", port]),
        ("log", ["-f"]) => hint("expected a port: log PORT -f; `watch` follows several, without their logs"),
        _ => None,
    }
}
