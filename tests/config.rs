//! The configuration as an administrator sees it: what a file means, and the errors about a wrong one.

use std::path::Path;

use consoleserver::config::{Config, Groups, LogType, Right, RootLogin, Writers};
use consoleserver::port::PortName;

/// The errors about a text that is in `/etc/consoleserver/config.toml`.
fn complaint(text: &str) -> String {
    Config::parse(text, Path::new("/etc/consoleserver/config.toml")).unwrap_err().to_string()
}

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("config.toml")).unwrap()
}

fn name(word: &str) -> PortName {
    word.parse().unwrap()
}

#[test]
fn a_wrong_type_is_reported_with_its_line_and_valid_values() {
    assert_eq!(
        complaint("[ports.ttyUSB0]\nssh_port = 8023\nbaud = \"fast\"\n"),
        "/etc/consoleserver/config.toml:3: ports.ttyUSB0.baud = \"fast\": expected a number from 1 to 4294967295"
    );
    assert_eq!(
        complaint("[ports.ttyUSB0]\nrtscts = 0\n"),
        "/etc/consoleserver/config.toml:2: ports.ttyUSB0.rtscts = 0: expected true or false: did you mean false?"
    );
    assert_eq!(
        complaint("ports = 3\n"),
        "/etc/consoleserver/config.toml:1: ports = 3: expected a table: [ports]"
    );
}

#[test]
fn an_unknown_key_is_reported_with_the_most_similar_one() {
    assert_eq!(
        complaint("[ports.ttyUSB0]\n\nbuad = 9600\n"),
        "/etc/consoleserver/config.toml:3: ports.ttyUSB0.buad: unknown key: did you mean baud?"
    );
    assert_eq!(
        complaint("[access]\nwheels = 4\n"),
        "/etc/consoleserver/config.toml:2: access.wheels: unknown key: expected one of groups, root, authorized_keys_files, authorized_keys_command, authorized_keys_command_user, user_ca, principals, revoked"
    );
    assert_eq!(
        complaint("[ports.a]\nlog = { kind = \"raw\" }\n"),
        "/etc/consoleserver/config.toml:2: ports.a.log.kind: unknown key: expected one of type, file, input, journal, record, sync"
    );
    // Tables are keys too.
    assert_eq!(
        complaint("[ports.a]\nkeep-alive = 1\n"),
        "/etc/consoleserver/config.toml:2: ports.a.keep-alive: unknown key: did you mean keepalive?"
    );
    assert_eq!(
        complaint("[ports.a.keepalve]\ninterval = \"5m\"\n"),
        "/etc/consoleserver/config.toml:1: ports.a.keepalve: unknown key: did you mean keepalive?"
    );
    let all = complaint("[ports.a]\nfrobnicate = 1\n");
    assert!(all.contains(", keepalive, ") && all.ends_with(", triggers"), "{all}");
    assert_eq!(
        complaint("[port.a]\n"),
        "/etc/consoleserver/config.toml:1: port: unknown key: did you mean ports?"
    );
}

#[test]
fn a_tcp_port_conflict_names_both_listeners() {
    assert_eq!(
        complaint("[ports.b]\nssh_port = 8023\n[ports.a]\nssh_port = 8023\n"),
        "/etc/consoleserver/config.toml:4: ports.a.ssh_port = 8023: already used by ports.b.ssh_port on line 2; \
         each listener needs its own TCP port"
    );
    assert_eq!(
        complaint("[ports.a]\nssh_port = 8022\n"),
        "/etc/consoleserver/config.toml:2: ports.a.ssh_port = 8022: already used by server.ssh_port (default); \
         each listener needs its own TCP port"
    );
    assert_eq!(
        complaint("[ports.a]\nssh_port = 22\n[server]\nssh_port = 22\n"),
        "/etc/consoleserver/config.toml:4: server.ssh_port = 22: already used by ports.a.ssh_port on line 2; \
         each listener needs its own TCP port"
    );
}

#[test]
fn the_same_tcp_port_on_disjoint_addresses_is_valid() {
    let config = parse(
        "[server]\nlisten = [\"127.0.0.1\"]\n\
         [ports.a]\nssh_port = 8022\nlisten = [\"127.0.0.2\"]\n[ports.b]\nssh_port = 8022\nlisten = [\"[::1]\"]\n",
    );
    assert_eq!(config.ports.len(), 2);
}

#[test]
fn a_device_conflict_names_both_ports() {
    assert_eq!(
        complaint("[ports.a]\ndevice = \"/dev/x\"\n[ports.b]\ndevice = \"/dev//x\"\n"),
        "/etc/consoleserver/config.toml:4: ports.b.device = \"/dev//x\": already used by ports.a.device on line 2; \
         each port needs its own device"
    );
}

#[test]
fn an_invalid_baud_rate_is_an_error() {
    for baud in ["0", "4294967296", "-9600", "9600.5", "99999999999999999999999", "true"] {
        assert_eq!(
            complaint(&format!("[defaults]\nbaud = {baud}\n")),
            format!(
                "/etc/consoleserver/config.toml:2: defaults.baud = {baud}: expected a number from 1 to 4294967295"
            )
        );
    }
}

#[test]
fn port_names_that_could_escape_a_path_are_rejected() {
    for (key, shown, word) in [
        ("\"a/b\"", "\"a/b\"", "\"a/b\""),
        ("\"a%i\"", "\"a%i\"", "\"a%i\""),
        ("\"a\\nb\"", "\"a\\nb\"", "\"a\\nb\""),
        ("\"/dev/ttyUSB0\"", "\"/dev/ttyUSB0\"", "\"/dev/ttyUSB0\""),
        ("\"..\"", "\"..\"", "\"..\""),
    ] {
        assert_eq!(
            complaint(&format!("[ports.{key}]\nbaud = 9600\n")),
            format!(
                "/etc/consoleserver/config.toml:1: ports.{shown}: invalid port name {word}: \
                 use 1 to 32 characters of A-Z a-z 0-9 . _ -, starting with a letter, a digit or _"
            )
        );
    }
}

#[test]
fn a_name_with_a_dot_needs_quotes_and_the_error_shows_them() {
    assert_eq!(
        complaint("[ports.rack.2]\nbaud = 9600\n"),
        "/etc/consoleserver/config.toml:1: ports.rack.2: unknown table: \
         write a port name with a dot in quotes, [ports.\"rack.2\"]"
    );
    assert!(parse("[ports.\"rack.2\"]\n").ports.contains_key(&name("rack.2")));
}

#[test]
fn all_errors_are_reported_in_the_order_of_the_file() {
    let reported = complaint(
        "[ports.b]\nbaud = 0\nparity = \"X\"\n\n[ports.a]\nstopbits = 3\nlog.file = \"../x\"\n\
         listen = [\n  \"[::1]\",\n  \"localhost\",\n]\n[server]\nmonitor = \"dev\"\n",
    );
    let expected = [
        "2: ports.b.baud = 0: expected a number from 1 to 4294967295",
        "3: ports.b.parity = \"X\": expected \"none\", \"even\", \"odd\", \"mark\" or \"space\", or the first letter",
        "6: ports.a.stopbits = 3: expected 1 or 2",
        "7: ports.a.log.file = \"../x\": expected a file name of 1 to 64 characters of A-Z a-z 0-9 . _ - \
         that does not begin with a dot: without a directory, which is /var/log/consoleserver/NAME",
        "10: ports.a.listen = \"localhost\": expected a list of 1 to 32 IP addresses such as [\"[::]\"] \
         or [\"127.0.0.1\", \"[::1]\"]: did you mean [\"127.0.0.1\", \"[::1]\"]?",
        "13: server.monitor = \"dev\": expected the absolute path of a directory, such as \"/dev\"",
    ];
    assert_eq!(reported, expected.map(|line| format!("/etc/consoleserver/config.toml:{line}")).join("\n"));
}

#[test]
fn the_first_twenty_errors_are_printed_and_the_rest_counted() {
    let text: String = (0..500).map(|n| format!("[ports.p{n}]\nbaud = 0\n")).collect();
    let reported = complaint(&text);
    let lines: Vec<_> = reported.lines().collect();
    assert_eq!(lines.len(), 21);
    assert!(lines[0].starts_with("/etc/consoleserver/config.toml:2: ports.p0.baud = 0: "), "{reported}");
    assert!(lines[19].starts_with("/etc/consoleserver/config.toml:40: ports.p19.baud = 0: "), "{reported}");
    assert_eq!(lines[20], "/etc/consoleserver/config.toml: and 480 more errors");
}

#[test]
fn a_syntax_error_is_reported_with_its_line() {
    for (text, reported) in [
        ("log = none\n", "2: invalid TOML: string values must be quoted: log = none"),
        ("baud 9600 8N1\n", "2: invalid TOML: key with no value, expected `=`: baud 9600 8N1"),
        ("baud = 0\nbaud = 2\n", "3: invalid TOML: duplicate key: baud = 2"),
        (
            "[ports.a]\n",
            "2: invalid TOML: duplicate table: its keys belong below the first heading of that name: [ports.a]",
        ),
        ("baud: 9600\n", "2: invalid TOML: expected = in place of the colon: baud: 9600"),
        ("// x\n", "2: invalid TOML: a comment begins with #: // x"),
        ("; x\n", "2: invalid TOML: a comment begins with #: ; x"),
        ("baud = 9600 // x\n", "2: invalid TOML: a comment begins with #: baud = 9600 // x"),
        ("baud = 9600;\n", "2: invalid TOML: a line ends without a semicolon: baud = 9600;"),
        ("baud = 9600,\n", "2: invalid TOML: a line ends without a comma: baud = 9600,"),
        ("baud =\n", "2: invalid TOML: missing value: baud ="),
        (
            "rtscts = True\n",
            "2: invalid TOML: expected true or false, in lower case, or a word in quotes: rtscts = True",
        ),
        (
            "description = \u{201c}core\u{201d}\n",
            "2: invalid TOML: typographic quotes: use \" or ': description = \u{201c}core\u{201d}",
        ),
        (
            "log = \"\\d\"\n",
            "2: invalid TOML: in double quotes a backslash begins an escape sequence: use single quotes: log = \"\\d\"",
        ),
        ("[ports./dev/x]\n", "2: invalid TOML: write the name of the port without /dev/: [ports./dev/x]"),
        (
            "[ports.core switch]\n",
            "2: invalid TOML: invalid port name: use A-Z a-z 0-9 _ -: [ports.core switch]",
        ),
        ("escape = \"^Ec\n", "2: invalid TOML: invalid basic string, expected `\"`: escape = \"^Ec"),
        (
            "listen = [\"::\"\nbaud = 3\n",
            "3: invalid TOML: missing comma between array elements, expected `,`: baud = 3",
        ),
    ] {
        assert_eq!(
            complaint(&format!("[ports.a]\n{text}")),
            format!("/etc/consoleserver/config.toml:{reported}")
        );
    }
    assert_eq!(
        complaint("[server]\nmonitor = none\nssh_port 8022\n"),
        "/etc/consoleserver/config.toml:2: invalid TOML: string values must be quoted: monitor = none\n\
         /etc/consoleserver/config.toml:3: invalid TOML: key with no value, expected `=`: ssh_port 8022"
    );
}

#[test]
fn too_many_ports_are_an_error() {
    let text: String = (0..1025).map(|n| format!("[ports.p{n}]\n")).collect();
    assert_eq!(
        complaint(&text),
        "/etc/consoleserver/config.toml:1: ports: expected at most 1024 ports, found 1025"
    );
}

#[test]
fn the_errors_of_a_megabyte_of_nonsense_fit_on_a_page() {
    for nonsense in ["[", "a={", "a=[", "x y\n", "a=1\n", "a.", "\"", "\0", "[ports.a]\n"] {
        let reported = complaint(&nonsense.repeat(1024 * 1024 / nonsense.len()));
        assert!(reported.lines().count() <= 21 && reported.len() < 8192, "{nonsense:?}: {reported}");
    }
}

#[test]
fn a_log_is_of_one_of_five_types() {
    let config = parse(
        "[ports.a]\nlog = \"hex\"\n[ports.b]\nlog = { type = \"both\", input = true, journal = true }\n",
    );
    assert_eq!(config.ports[&name("a")].log.kind, LogType::Hex);
    let log = &config.ports[&name("b")].log;
    assert_eq!((log.kind, log.input, log.journal), (LogType::Both, true, true));
    assert_eq!(
        complaint("[ports.a]\nlog = \"octal\"\n"),
        "/etc/consoleserver/config.toml:2: ports.a.log = \"octal\": expected \"none\", \"raw\", \"text\", \"hex\", \"both\" \
         or a table such as { type = \"text\", sync = \"5s\" }"
    );
}

#[test]
fn keys_of_a_single_port_are_rejected_in_defaults() {
    assert_eq!(
        complaint("[defaults]\nssh_port = 8023\n"),
        "/etc/consoleserver/config.toml:2: defaults.ssh_port: applies to a single port: set it in [ports.NAME]"
    );
}

#[test]
fn untrusted_text_is_printed_short_and_escaped() {
    let reported = complaint(&format!("[access]\nroot = \"\"\"a\u{1b}[2J\n{}\"\"\"\n", "x".repeat(5000)));
    assert!(reported.contains("invalid TOML"), "{reported}");
    let reported = complaint(&format!("[access]\nroot = \"\u{202e}{}\"\n", "x".repeat(5000)));
    assert!(
        reported.len() < 300 && reported.contains("\\u{202e}xxx") && reported.contains("…: expected \"key\""),
        "{reported}"
    );
}

#[test]
fn defaults_apply_before_the_port_and_key_by_key() {
    let config = parse(
        "[ports.a]\nlog.sync = \"1m\"\nbaud = 300\n[ports.b]\nlog = \"none\"\n\
         [defaults]\nlog = { type = \"raw\", file = \"tty.log\" }\nbaud = 115200\ngroups = [\"*\"]\n",
    );
    let (a, b) = (&config.ports[&name("a")], &config.ports[&name("b")]);
    assert_eq!((a.line.baud.get(), b.line.baud.get()), (300, 115200));
    assert_eq!(
        (a.log.kind, a.log.file.as_str(), a.log.sync.unwrap().as_secs()),
        (LogType::Raw, "tty.log", 60)
    );
    assert_eq!(
        (b.log.kind, b.log.file.as_str(), b.log.sync.unwrap().as_secs()),
        (LogType::None, "tty.log", 5)
    );
    assert_eq!(config.rules(a).groups, Groups::Everyone);
}

#[test]
fn an_empty_file_has_the_documented_defaults() {
    let config = parse("[ports.ttyUSB0]\n");
    assert_eq!(config.server.ssh_port, Some(8022));
    assert_eq!(config.server.monitor, Path::new("/dev"));
    assert_eq!(config.access.root, RootLogin::Key);
    let port = &config.ports[&name("ttyUSB0")];
    assert_eq!(port.line.to_string(), "9600 8N1");
    assert_eq!((port.enabled, port.low_latency, port.replay, port.scrollback), (true, true, 20, 262_144));
    assert_eq!((port.ssh_port, port.timeout, port.device.as_ref()), (None, None, None));
    assert_eq!(port.escape.unwrap().to_string(), "^Ec");
    assert_eq!((port.log.kind, port.log.file.as_str()), (LogType::Text, "console.log"));
    assert_eq!(config.listen(port), ["::".parse::<consoleserver::config::Address>().unwrap()]);
    let rules = config.rules(port);
    assert_eq!(rules.right("alice", &["dialout"]), Some(Right::Write));
    assert_eq!(rules.right("alice", &["users"]), None);
}

#[test]
fn a_port_may_have_users_and_read_only_groups() {
    let config = parse(
        "[ports.a]\ngroups = []\nusers = [\"alice\"]\nread_only_groups = [\"noc\"]\nwrite = \"shared\"\n",
    );
    let port = &config.ports[&name("a")];
    let rules = config.rules(port);
    assert_eq!(port.write, Writers::Shared);
    assert_eq!(rules.right("alice", &["noc"]), Some(Right::Write));
    assert_eq!(rules.right("bob", &["noc"]), Some(Right::Watch));
    assert_eq!(rules.right("bob", &["dialout"]), None);
    assert_eq!(
        complaint("[ports.a]\nusers = [\"%admin\"]\nwrite = \"many\"\n"),
        "/etc/consoleserver/config.toml:2: ports.a.users = \"%admin\": expected a list of at most 32 login names such as [\"alice\"]\n\
         /etc/consoleserver/config.toml:3: ports.a.write = \"many\": expected \"one\" or \"shared\""
    );
}

#[test]
fn an_invalid_trigger_is_reported_with_its_line_and_valid_values() {
    for (rule, reported) in [
        (
            "match = \"a(b\"",
            "2: ports.a.triggers.panic.match = \"a(b\": expected a regular expression of at most 256 bytes: unclosed group (character 2)",
        ),
        (
            "match = \"(a{1000}){1000}\"",
            "2: ports.a.triggers.panic.match = \"(a{1000}){1000}\": expected a regular expression of at most 256 bytes: needs more than 64 KiB when compiled: use fewer repetitions",
        ),
        (
            "match = 3",
            "2: ports.a.triggers.panic.match = 3: expected a regular expression of at most 256 bytes: did you mean \"3\"?",
        ),
        (
            "silence = \"5 mon\"",
            "2: ports.a.triggers.panic.silence = \"5 mon\": expected a time from \"1s\" to \"168h\"",
        ),
        (
            "start = true",
            "1: ports.a.triggers.panic: expected match = \"a regular expression\", or silence = \"5m\", or both",
        ),
        ("mtch = \"x\"", "2: ports.a.triggers.panic.mtch: unknown key: did you mean match?"),
    ] {
        assert_eq!(
            complaint(&format!("[ports.a.triggers.panic]\n{rule}\n")),
            format!("/etc/consoleserver/config.toml:{reported}")
        );
    }
    for (text, reported) in [
        (
            "[ports.a.triggers]\npanic = \"x\"\n",
            "2: ports.a.triggers.panic = \"x\": expected a table such as { match = \"panic\" }",
        ),
        (
            "[ports.a]\ntriggers = [1]\n",
            "2: ports.a.triggers = [1]: expected a table: [ports.a.triggers.NAME]",
        ),
        (
            "[ports.a.triggers.\"x y\"]\nmatch = \"x\"\n",
            "1: ports.a.triggers.\"x y\": invalid trigger name \"x y\": use 1 to 32 characters of A-Z a-z 0-9 _ -, starting with a letter or digit",
        ),
        ("[ports.a.trigers.x]\nmatch = \"x\"\n", "1: ports.a.trigers: unknown key: did you mean triggers?"),
        (
            "[server.triggers.x]\nmatch = \"x\"\n",
            "1: server.triggers: unknown key: expected one of ssh_port, listen, monitor, ssh_algorithms, banner",
        ),
    ] {
        assert_eq!(complaint(text), format!("/etc/consoleserver/config.toml:{reported}"), "{text}");
    }
    let many: String = (0..17).map(|n| format!("t{n} = {{ match = \"x\" }}\n")).collect();
    let reported = complaint(&format!("[ports.a.triggers]\n{many}"));
    assert!(reported.ends_with("ports.a.triggers: expected at most 16 triggers, found 17"), "{reported}");
}

#[test]
fn triggers_of_defaults_apply_to_each_port_unless_it_has_one_of_the_same_name() {
    let config = parse(
        "[defaults.triggers]\npanic = { match = \"panic\", start = true }\noom = { match = \"oom\" }\n\
         [ports.a]\n[ports.b.triggers]\npanic = { silence = \"5m\" }\n",
    );
    let rules = |port: &str| -> Vec<String> {
        let rule = |(name, rule): (&_, &consoleserver::config::Trigger)| {
            format!(
                "{name} {:?} {:?} {}",
                rule.pattern.as_ref().map(|p| p.as_str()),
                rule.silence,
                rule.start
            )
        };
        config.ports[&name(port)].triggers.iter().map(rule).collect()
    };
    assert_eq!(rules("a"), ["oom Some(\"oom\") None false", "panic Some(\"panic\") None true"]);
    assert_eq!(rules("b"), ["oom Some(\"oom\") None false", "panic None Some(300s) false"]);
}
