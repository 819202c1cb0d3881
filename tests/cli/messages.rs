//! Messages to administrators, as golden files: errors of the configuration, and rejected changes.
//! `SNAPSHOTS=overwrite` writes them again; a rewording is then one review of `tests/golden/`.

use std::path::Path;

use consoleserver::admin::state::{Author, State};
use consoleserver::config::changes::Changes;
use consoleserver::config::{Config, Text, Value};
use consoleserver::port::PortName;
use jiff::Timestamp;

/// Files with errors: each line of the golden file is what `consolectl check` prints.
const FILES: &[&str] = &[
    "[ports.a",
    "[ports.a]\nbaud 9600\nparity = none\n",
    "[server]\nssh_port = 0\nlisten = [\"localhost\"]\nmonitor = \"dev\"\nssh_algorithms = \"old\"\nbanner = 1\n",
    "[server]\nlisten = [\"fe80::1\"]\n",
    "[server]\nlisten = [\"ff02::1\"]\n[acess]\n",
    "[access]\ngroups = \"dialout\"\nroot = true\nauthorized_keys_files = [\"%x\"]\n",
    "[access]\nauthorized_keys_command = \"keys %u\"\nauthorized_keys_command_user = \"\"\n",
    "[access]\nauthorized_keys_command = \"/usr/bin/keys 'x\"\n",
    "[access]\nauthorized_keys_command = \"/usr/bin/keys %u\"\n",
    "[groups]\na = [\"@b\"]\nb = [\"@a\"]\nc = [\"p[1-\"]\nd = [\"p[9-1]\"]\n\"e f\" = []\n",
    "[groups]\na = [\"p[1-5000]\"]\n",
    "[defaults]\nssh_port = 1\nlike = \"x\"\nbuad = 9600\n",
    "[templates]\nbaud = 9600\n[templates.\"a b\"]\n",
    "[ports.a]\nlike = \"cisco\"\n",
    "[templates.cisco]\n[ports.a]\nlike = \"cisko\"\n[ports.b]\nlike = \"x\"\n",
    "[ports.rack.2]\nbaud = 9600\n",
    "[ports.\"a/b\"]\n[ports.c]\nenable = true\n",
    "[ports.a]\nssh_port = 1\n[ports.b]\nssh_port = 1\ndevice = \"/dev/x\"\n[ports.c]\ndevice = \"/dev/x\"\nssh_port = 8022\n",
    "[ports.a]\nenabled = 1\ndescription = 2\ndevice = \"../x\"\ngroups = [\"%x\"]\nusers = [\"-x\"]\nwrite = \"all\"\ntimeout = -1\n",
    "[ports.a]\nbaud = \"fast\"\nbytesize = 9\nparity = \"X\"\nstopbits = 3\nrtscts = \"on\"\nxonxoff = 0\ndtr = \"up\"\n",
    "[ports.a]\noutput_delay = \"1h\"\nimap = [\"crlf\", \"igncr\"]\nomap = [\"nlcr\"]\nescape = \"cc\"\nreconnect = 1\nreplay = -1\n",
    "[ports.a]\nimap = \"INLCRNL\"\nscrollback = \"1K\"\n",
    "[ports.a]\nlog = \"csv\"\n[ports.b]\nlog = { type = \"csv\", file = \"../x\", input = 1, journal = 1, sync = \"1ms\", size = 1 }\n",
    "[ports.a]\nbanner = \"issue\"\nread_only_groups = 1\nlow_latency = 1\n",
    "[ports.a.triggers]\nx = { silence = \"1ms\", cooldown = \"1s\", start = 1 }\ny = {}\n\"z z\" = { match = \"x\" }\n",
    "[ports.a.triggers]\na = { match = \"a(b\" }\nb = { match = \"\" }\nc = { match = \"(a{1000}){1000}\" }\nd = { match = \"(a)\\\\1\" }\n",
    "defaults = 1\nports = 2\n",
    // Keys and tables in the wrong place, and words of other programs.
    "baud = 9600\nssh_port = 8022\nlog = \"raw\"\ndevice = \"/dev/x\"\nroot = \"yes\"\n[ttyUSB0]\nbaud = 9600\n[global]\nport = 1\n",
    "[server]\nbaud = 9600\n[access]\nusers = [\"alice\"]\n[ports.a]\nmonitor = \"/dev\"\nroot = \"no\"\nkeepalive = \"5m\"\n[ports.a.triggers.x]\nregex = \"x\"\nbaud = 1\n",
    "[ports.a]\nspeed = 9600\nBaudRate = 9600\nport = 8023\ntcp-port = 8023\nlogfile = \"x\"\nusers_rw = []\nrate = 1\nbind = \"::1\"\ndatabits = 8\ntemplate = \"x\"\nflow = 1\n",
    "[[ports]]\nname = \"a\"\n",
    // Values in the notation of other programs.
    "[ports.a]\nbaud = \"115200\"\nssh_port = \"8023\"\nxonxoff = \"yes\"\nparity = 0\nlog = false\ndtr = true\nreplay = \"50\"\nbytesize = \"8\"\ntimeout = \"600\"\n",
    "[ports.a]\nbaud = \"115200 8N1\"\nparity = \"8n1\"\ndevice = \"ttyUSB0\"\nlisten = [\"*\"]\nraw = \"localhost:7001\"\nscrollback = \"1MB\"\nlog.sync = 5\nlog.type = \"Text\"\nlog.file = \"/var/log/x\"\nescape = \"Ctrl-E c\"\nsource = \"telnet://h:23\"\n",
    "[ports.a]\nbaud = \"115.2k\"\ndevice = \"COM3\"\nlisten = [\"127.0.0.1:8023\"]\n[ports.b]\nbaud = \"115k\"\ndevice = \"usb-FTDI_X-if00-port0\"\n[ports.c]\ndevice = \"/dev/ttyS1 \"\nscrollback = 262144\n[access]\nroot = \"prohibit-password\"\n",
];

#[test]
fn configuration_errors() {
    let mut printed = String::new();
    for file in FILES {
        let error = Config::parse(file, Path::new("config.toml")).expect_err(file).to_string();
        printed.push_str(&format!("{}\n\n", error.trim_end()));
    }
    snapbox::assert_data_eq!(printed, snapbox::file!["../golden/config/errors.txt"].raw());
}

const COMMITTED: &str = "[templates.cisco]\nbaud = 9600\n[ports.a]\nssh_port = 1001\nlike = \"cisco\"\n[ports.b]\nssh_port = 1002\n\
                         [ports.b.triggers.panic]\nmatch = \"panic\"\n";

fn state() -> State {
    let text = Text { text: COMMITTED.to_owned(), path: "/etc/consoleserver/config.toml".into() };
    State::new(text, None, Changes::default(), Changes::default(), 1, None)
}

fn by(who: &str) -> Author {
    Author { who: who.to_owned(), when: Timestamp::UNIX_EPOCH }
}

fn name(port: &str) -> PortName {
    port.parse().unwrap()
}

/// Sets a key, which must be accepted.
fn set(state: &State, who: &str, key: &str, value: impl Into<Value>) -> State {
    state.set(key.parse().unwrap(), Some(value.into()), &by(who)).unwrap()
}

#[test]
fn rejected_changes() {
    let mut printed = String::new();
    let mut print = |what: &str, sentences: String| printed.push_str(&format!("# {what}\n{sentences}\n\n"));
    let state = state();
    for (key, value) in [
        ("ports.a.baud", Value::from("fast")),
        ("ports.c.baud", 9600.into()),
        ("ports.a.ssh_port", 1002.into()),
        ("server.ssh_port", 1001.into()),
        ("ports.a.like", "x".into()),
    ] {
        let rejected = state.set(key.parse().unwrap(), Some(value.clone()), &by("alice")).unwrap_err();
        print(&format!("set {key} {value}"), rejected.to_string());
    }
    for key in [
        "baud",
        "ports.a.buad",
        "defaults.ssh_port",
        "ports.a.triggers.\"x y\".match",
        "templates.\"x y\".baud",
    ] {
        let error = key.parse::<consoleserver::config::changes::KeyPath>().unwrap_err();
        print(&format!("set {key}"), error.to_string());
    }
    print("create a", state.create(&name("a"), &by("alice")).unwrap_err().to_string());
    print("remove c", state.remove(&name("c"), &by("alice")).unwrap_err().to_string());
    let leads = |path: &Path| (path == Path::new("/dev/ttyUSB1")).then_some(1);
    for to in ["a", "b", "ttyUSB1"] {
        let rejected = state.rename(&name("a"), &name(to), &by("alice"), leads).unwrap_err();
        print(&format!("rename a {to}"), rejected.to_string());
    }
    let unused = state.set("templates.cisco".parse().unwrap(), None, &by("alice")).unwrap_err();
    print("unset templates.cisco", unused.to_string());
    let changed = set(&state, "carol", "ports.b.baud", 300);
    print(
        "a revision of the past",
        changed
            .check_revision(1)
            .unwrap_err()
            .to_string()
            .replace(&consoleserver::system::clock::clock(Timestamp::UNIX_EPOCH), "TIME"),
    );
    print("a revision of the future", changed.check_revision(9).unwrap_err().to_string());
    let created = changed.create(&name("c"), &by("carol")).unwrap();
    let mine = set(&created, "alice", "ports.c.baud", 300);
    print("commit mine", mine.changes_of("alice").unwrap_err().to_string());
    let moved = set(&set(&state, "carol", "ports.b.ssh_port", 1003), "alice", "ports.a.ssh_port", 1002);
    print("commit mine", moved.changes_of("alice").unwrap_err().to_string());
    let now = Author { when: Timestamp::from_second(120).unwrap(), ..by("alice") };
    let replaced = changed.set("ports.b.baud".parse().unwrap(), Some(600.into()), &now).unwrap();
    print("set ports.b.baud 600", changed.overridden(&replaced, &now).join("\n"));
    let edited = Text { text: COMMITTED.replace("1002", "1002\nbaud = 1200"), ..state.committed.clone() };
    print("commit", changed.over(edited, None).conflicts().join("\n"));
    let wrong =
        state.over(state.committed.clone(), Some("/etc/consoleserver/config.toml:3: ports: …".to_owned()));
    print(
        "set ports.a.baud 300",
        wrong.set("ports.a.baud".parse().unwrap(), Some(300.into()), &by("alice")).unwrap_err().to_string(),
    );
    snapbox::assert_data_eq!(printed, snapbox::file!["../golden/admin/rejected.txt"].raw());
}
