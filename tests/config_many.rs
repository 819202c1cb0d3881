//! Configuration of many ports at once: `[defaults]`, templates and groups; and the errors about them.

use std::path::Path;

use consoleserver::config::{Config, LogType, without_broken_tables};
use consoleserver::port::{PortName, PortPattern};

/// The errors about a text that is in `config.toml`.
fn complaint(text: &str) -> String {
    Config::parse(text, Path::new("config.toml")).unwrap_err().to_string()
}

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("config.toml")).unwrap()
}

fn name(word: &str) -> PortName {
    word.parse().unwrap()
}

/// Ports that certainly listen, though the file is wrong.
fn salvaged(text: &str) -> Vec<String> {
    without_broken_tables(text).ports.keys().map(ToString::to_string).collect()
}

#[test]
fn a_port_takes_each_key_from_its_own_table_then_its_template_then_defaults() {
    let config = parse(
        "[ports.a]\nlike = \"cisco\"\nparity = \"odd\"\n[ports.b]\n[ports.c]\nlike = \"cisco\"\nlog.sync = \"1m\"\n\
         [defaults]\nbaud = 115200\nstopbits = 2\nparity = \"even\"\nlog = { type = \"raw\", file = \"tty.log\" }\n\
         [templates.cisco]\nbaud = 9600\nparity = \"none\"\nlog = \"hex\"\n",
    );
    let line = |port: &str| config.ports[&name(port)].line.to_string();
    assert_eq!(
        (line("a"), line("b"), line("c")),
        ("9600 8O2".into(), "115200 8E2".into(), "9600 8N2".into())
    );
    let log = &config.ports[&name("c")].log;
    assert_eq!((log.kind, log.file.as_str(), log.sync.unwrap().as_secs()), (LogType::Hex, "tty.log", 60));
    let origin = |port: &str, key: &str| config.origin(&name(port), key).to_string();
    for (port, key, from) in [
        ("a", "baud", "template cisco"),
        ("a", "parity", "port"),
        ("a", "like", "port"),
        ("a", "stopbits", "defaults"),
        ("a", "bytesize", "built-in"),
        ("a", "log.type", "template cisco"),
        ("a", "log.file", "defaults"),
        ("b", "baud", "defaults"),
        ("b", "log.type", "defaults"),
        ("c", "parity", "template cisco"),
        ("c", "log.sync", "port"),
    ] {
        assert_eq!(origin(port, key), from, "{port} {key}");
    }
}

#[test]
fn a_trigger_of_a_template_replaces_that_of_defaults_and_is_replaced_by_the_ports() {
    let config = parse(
        "[defaults.triggers]\npanic = { match = \"one\" }\noom = { match = \"one\" }\n\
         [templates.t.triggers]\npanic = { match = \"two\" }\nquiet = { silence = \"5m\" }\n\
         [ports.a]\nlike = \"t\"\n[ports.b]\nlike = \"t\"\n[ports.b.triggers]\nquiet = { silence = \"1h\" }\n",
    );
    let rules = |port: &str| -> Vec<String> {
        let rules = config.ports[&name(port)].triggers.iter();
        let text = |(name, rule): (&_, &consoleserver::config::Trigger)| {
            format!("{name} {} {:?}", rule.pattern.as_ref().map_or("-", |p| p.as_str()), rule.silence)
        };
        rules.map(text).collect()
    };
    assert_eq!(rules("a"), ["oom one None", "panic two None", "quiet - Some(300s)"]);
    assert_eq!(rules("b"), ["oom one None", "panic two None", "quiet - Some(3600s)"]);
    let origin = |port: &str, key: &str| config.origin(&name(port), key).to_string();
    assert_eq!(origin("a", "triggers.panic.match"), "template t");
    assert_eq!(origin("a", "triggers.oom.match"), "defaults");
    assert_eq!(origin("b", "triggers.quiet.silence"), "port");
}

#[test]
fn an_invalid_or_missing_template_is_reported_with_its_line() {
    for (text, expected) in [
        (
            "[ports.a]\nlike = \"cisc\"\n[templates.cisco]\n",
            "config.toml:2: ports.a.like = \"cisc\": there is no template cisc: did you mean cisco?",
        ),
        (
            "[ports.a]\nlike = \"x\"\n",
            "config.toml:2: ports.a.like = \"x\": there is no template x: add a table [templates.x]",
        ),
        (
            "[ports.a]\nlike = \"opengear\"\n[templates.cisco]\n[templates.junos]\n",
            "config.toml:2: ports.a.like = \"opengear\": there is no template opengear: the templates are cisco, junos",
        ),
        (
            "[ports.a]\nlike = 1\n",
            "config.toml:2: ports.a.like = 1: expected the name of a template, such as \"cisco\" for [templates.cisco]: did you mean \"1\"?",
        ),
        (
            "[templates.t]\nbaud = \"fast\"\n[ports.a]\nlike = \"t\"\n[ports.b]\nlike = \"t\"\n",
            "config.toml:2: templates.t.baud = \"fast\": expected a number from 1 to 4294967295",
        ),
        (
            "[templates.t]\nssh_port = 8023\n",
            "config.toml:2: templates.t.ssh_port: applies to a single port: set it in [ports.NAME]",
        ),
        (
            "[templates.t]\nlike = \"u\"\n[templates.u]\n",
            "config.toml:2: templates.t.like: applies to a single port: set it in [ports.NAME]",
        ),
        (
            "[defaults]\nlike = \"u\"\n[templates.u]\n",
            "config.toml:2: defaults.like: applies to a single port: set it in [ports.NAME]",
        ),
        (
            "[templates]\nbaud = 9600\n",
            "config.toml:2: templates.baud = 9600: expected a table: [templates.baud]",
        ),
        ("[templates.t]\nbuad = 9600\n", "config.toml:2: templates.t.buad: unknown key: did you mean baud?"),
        (
            "[templates.\"a b\"]\n",
            "config.toml:1: templates.\"a b\": invalid template name \"a b\": use 1 to 32 characters of A-Z a-z 0-9 _ -, \
             starting with a letter or digit",
        ),
        ("[template.t]\n", "config.toml:1: template: unknown key: did you mean templates?"),
    ] {
        assert_eq!(complaint(text), expected, "{text}");
    }
}

#[test]
fn the_triggers_of_defaults_template_and_port_together_are_bounded() {
    let rules = |from: usize| -> String {
        (from..from + 9).map(|n| format!("r{n} = {{ match = \"x\" }}\n")).collect()
    };
    let text = format!(
        "[defaults.triggers]\n{}[templates.t.triggers]\n{}[ports.a]\nlike = \"t\"\n",
        rules(0),
        rules(20)
    );
    assert_eq!(
        complaint(&text),
        "config.toml:22: ports.a.like = \"t\": expected at most 16 triggers with those of [defaults], found 18"
    );
}

#[test]
fn an_invalid_template_stops_no_port_whose_listener_is_certain() {
    // None of these keys decides whether a port listens.
    for template in ["baud = \"fast\"", "buad = 9600", "listen = [\"127.0.0.1\"]\nbaud = 0", "log.type = 2"] {
        let text = format!("[templates.t]\n{template}\n[ports.a]\nlike = \"t\"\n[ports.b]\n");
        assert_eq!(salvaged(&text), ["a", "b"], "{template}");
    }
    // The mistake may concern enabled or listen: only the ports that state both themselves are certain.
    let ports =
        "[ports.a]\nlike = \"t\"\n[ports.b]\n[ports.c]\nlike = \"t\"\nenabled = true\nlisten = [\"::1\"]\n";
    for template in [
        "[templates.t]\nenable = false\n",
        "[templates.t]\nlisten = 1\nenabled = 1\n",
        "[template.t]\nenabled = false\n",
        "[templates]\nt = 1\n",
        "templates = 1\n",
        "",
        "[templates.t]\nenabled = flase\n",
    ] {
        assert_eq!(salvaged(&format!("{template}{ports}")), ["b", "c"], "{template}");
    }
    // A subtable of the template may be valid, while the rest is not TOML.
    let text = format!("[templates.t]\nenabled = flase\n[templates.t.log]\ntype = \"raw\"\n{ports}");
    assert_eq!(salvaged(&text), ["b", "c"]);
}

#[test]
fn a_group_has_ports_ranges_wildcards_and_other_groups() {
    let config = parse(
        "[groups]\ncore = [\"p01\", \"p[02-03]\", \"rack1-*\"]\nall = [\"@core\", \"edge,spare\"]\n\"rack.2\" = []\n\
         [ports.p01]\n[ports.p02]\n[ports.p03]\n[ports.rack1-a]\n[ports.edge]\n[ports.spare]\n[ports.other]\n",
    );
    let ports: Vec<PortName> = config.ports.keys().cloned().collect();
    let selected = |pattern: &str| -> Vec<String> {
        let pattern: PortPattern = pattern.parse().unwrap();
        let selected = pattern.select(&ports, &config.port_groups).unwrap();
        selected.iter().map(ToString::to_string).collect()
    };
    assert_eq!(selected("@core"), ["p01", "p02", "p03", "rack1-a"]);
    assert_eq!(selected("@all"), ["p01", "p02", "p03", "rack1-a", "edge", "spare"]);
    // A port that does not exist is checked by the commands: ports are added and removed.
    assert_eq!(parse("[groups]\ncore = [\"p01\"]\n").port_groups.len(), 1);
}

#[test]
fn an_invalid_group_is_reported_with_its_line() {
    let expected = "expected a list of ports such as [\"p01\", \"p[02-48]\", \"rack1-*\", \"@edge\"]";
    for (text, expected) in [
        ("[groups]\ncore = \"p01\"\n".to_owned(), format!("2: groups.core = \"p01\": {expected}: did you mean [\"p01\"]?")),
        ("[groups]\ncore = [\"p01\", 2]\n".to_owned(), format!("2: groups.core = 2: {expected}: did you mean [\"2\"]?")),
        (
            "[groups]\ncore = [\"p[01-\"]\n".to_owned(),
            format!(
                "2: groups.core = [\"p[01-\"]: {expected}: unmatched bracket in \"p[01-\": use p[01-48]"
            ),
        ),
        (
            "[groups]\ncore = [\"p01\"]\nall = [\"@croe\"]\n".to_owned(),
            "3: groups.all = [\"@croe\"]: there is no group croe: did you mean core?".to_owned(),
        ),
        (
            "[groups]\nc = [\"@a\"]\na = [\"@b\", \"p01\"]\nb = [\"@c\"]\nouter = [\"@b\"]\n".to_owned(),
            "3: groups.a = [\"@b\", \"p01\"]: a group cannot contain itself: a → b → c → a".to_owned(),
        ),
        (
            "[groups]\nself = [\"@self\"]\n".to_owned(),
            "2: groups.self = [\"@self\"]: a group cannot contain itself: self → self".to_owned(),
        ),
        (
            "[groups]\n\"-a\" = []\n".to_owned(),
            "2: groups.-a: invalid group name \"-a\": use 1 to 32 characters of A-Z a-z 0-9 . _ -, starting with a letter, a digit or _"
                .to_owned(),
        ),
        ("[group]\ncore = []\n".to_owned(), "1: group: unknown key: did you mean groups?".to_owned()),
        (
            format!("[groups]\na = [{}]\n", "\"p[0-4095]\", ".repeat(17)),
            "2: groups.a: expected at most 65536 names in all groups together".to_owned(),
        ),
    ] {
        assert_eq!(complaint(&text), format!("config.toml:{expected}"), "{text}");
    }
}

/// Forty groups, each with the next one twice: 2^40 ways lead to the last.
#[test]
fn groups_within_groups_are_read_and_selected_in_linear_time() {
    let nested: String = (0..40).map(|n| format!("g{n} = [\"@g{m}\", \"@g{m}\"]\n", m = n + 1)).collect();
    let config = parse(&format!("[groups]\n{nested}g40 = [\"p01\"]\n[ports.p01]\n"));
    let ports = [name("p01")];
    let pattern: PortPattern = "@g0".parse().unwrap();
    assert_eq!(pattern.select(&ports, &config.port_groups).unwrap(), ports);
}

#[test]
fn an_invalid_group_stops_no_port() {
    for groups in [
        "[groups]\ncore = [\"p[01-\"]\n",
        "[groups]\ncore = [\"@nosuch\"]\n",
        "[groups]\ncore = [\"@core\"]\n",
        "[groups]\ncore = [p01]\n",
        "[groups]\ncore = [\"p01\n",
        "[group]\ncore = [\"p01\"]\n",
        "groups = 1\n",
    ] {
        let text = format!("{groups}[ports.a]\nssh_port = 8023\n[ports.b]\n");
        assert!(Config::parse(&text, Path::new("config.toml")).is_err(), "{groups}");
        assert_eq!(salvaged(&text), ["a", "b"], "{groups}");
    }
}

#[test]
fn groups_and_templates_are_written_back_as_they_were_read() {
    let text = "[groups]\ncore = [\"p01\", \"p[02-04]\", \"rack1-*\"]\nall = [\"@core\"]\n\
                [templates.t]\nbaud = 9600\nlog.sync = \"1m\"\n[templates.t.triggers]\npanic = { match = \"x\" }\n[templates.none]\n\
                [defaults]\nparity = \"odd\"\n[ports.p01]\nlike = \"t\"\n";
    let config = parse(text);
    let again = parse(&config.to_toml());
    assert_eq!(again.port_groups, config.port_groups);
    assert_eq!(again.templates, config.templates);
    assert_eq!(again.defaults, config.defaults);
    assert_eq!(again.ports, config.ports);
}
