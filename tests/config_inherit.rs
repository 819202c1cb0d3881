//! What ports inherit from `[defaults]` and from templates, and what is said about a template that is wrong.

use std::path::Path;

use consoleserver::config::{Config, LogType, without_broken_tables};
use consoleserver::port::PortName;

/// What is said about a text that stands in `config.toml`.
fn complaint(text: &str) -> String {
    Config::parse(text, Path::new("config.toml")).unwrap_err().to_string()
}

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("config.toml")).unwrap()
}

fn name(word: &str) -> PortName {
    word.parse().unwrap()
}

/// Ports of which it is plain that they listen, though the file is wrong.
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
    assert_eq!((line("a"), line("b"), line("c")), ("9600 8O2".into(), "115200 8E2".into(), "9600 8N2".into()));
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
fn a_rule_of_a_template_replaces_that_of_defaults_and_yields_to_the_ports() {
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
fn a_template_that_is_wrong_or_not_there_is_named_with_its_line() {
    for (text, wanted) in [
        (
            "[ports.a]\nlike = \"cisc\"\n[templates.cisco]\n",
            "config.toml:2: ports.a.like = \"cisc\": there is no template cisc: did you mean cisco?",
        ),
        (
            "[ports.a]\nlike = \"x\"\n",
            "config.toml:2: ports.a.like = \"x\": there is no template x: [templates.x] would be its table",
        ),
        (
            "[ports.a]\nlike = \"opengear\"\n[templates.cisco]\n[templates.junos]\n",
            "config.toml:2: ports.a.like = \"opengear\": there is no template opengear: there are cisco, junos",
        ),
        (
            "[ports.a]\nlike = 1\n",
            "config.toml:2: ports.a.like = 1: expected the name of a template: \"cisco\" for the keys of [templates.cisco]",
        ),
        (
            "[templates.t]\nbaud = \"fast\"\n[ports.a]\nlike = \"t\"\n[ports.b]\nlike = \"t\"\n",
            "config.toml:2: templates.t.baud = \"fast\": expected a number from 1 to 4294967295",
        ),
        (
            "[templates.t]\nssh_port = 8023\n",
            "config.toml:2: templates.t.ssh_port: is of one port only: set it in [ports.NAME]",
        ),
        (
            "[templates.t]\nlike = \"u\"\n[templates.u]\n",
            "config.toml:2: templates.t.like: is of one port only: set it in [ports.NAME]",
        ),
        (
            "[defaults]\nlike = \"u\"\n[templates.u]\n",
            "config.toml:2: defaults.like: is of one port only: set it in [ports.NAME]",
        ),
        (
            "[templates]\nbaud = 9600\n",
            "config.toml:2: templates.baud = 9600: expected a table: [templates.baud]",
        ),
        ("[templates.t]\nbuad = 9600\n", "config.toml:2: templates.t.buad: unknown key: did you mean baud?"),
        (
            "[templates.\"a b\"]\n",
            "config.toml:1: templates.\"a b\": \"a b\" is not the name of a template: use 1 to 32 of A-Z a-z 0-9 _ and -, \
             beginning with a letter or digit",
        ),
        ("[template.t]\n", "config.toml:1: template: unknown key: did you mean templates?"),
    ] {
        assert_eq!(complaint(text), wanted, "{text}");
    }
}

#[test]
fn the_rules_of_defaults_template_and_port_together_are_bounded() {
    let rules = |from: usize| -> String { (from..from + 9).map(|n| format!("r{n} = {{ match = \"x\" }}\n")).collect() };
    let text = format!("[defaults.triggers]\n{}[templates.t.triggers]\n{}[ports.a]\nlike = \"t\"\n", rules(0), rules(20));
    assert_eq!(
        complaint(&text),
        "config.toml:22: ports.a.like = \"t\": 18 triggers with those of [defaults]: expected at most 16"
    );
}

#[test]
fn a_wrong_template_takes_no_port_down_that_listens_as_the_file_says() {
    // Nothing of it says whether a port listens.
    for template in ["baud = \"fast\"", "buad = 9600", "listen = [\"127.0.0.1\"]\nbaud = 0", "log.type = 2"] {
        let text = format!("[templates.t]\n{template}\n[ports.a]\nlike = \"t\"\n[ports.b]\n");
        assert_eq!(salvaged(&text), ["a", "b"], "{template}");
    }
    // It may have been enabled = false, or another address: only the ports that state both themselves are plain.
    let ports = "[ports.a]\nlike = \"t\"\n[ports.b]\n[ports.c]\nlike = \"t\"\nenabled = true\nlisten = [\"::1\"]\n";
    for template in [
        "[templates.t]\nenable = false\n",
        "[templates.t]\nlisten = 1\nenabled = 1\n",
        "[template.t]\nenabled = false\n",
        "[templates]\nt = 1\n",
        "templates = 1\n",
        "",
        "[templates.t]\nenabled = flase\n",
        "[templates.t]\nlisten = [\"127.0.0.1\"\n[templates.u]\n",
    ] {
        assert_eq!(salvaged(&format!("{template}{ports}")), ["b", "c"], "{template}");
    }
    // A table of its own may still stand, where the rest is not TOML.
    let text = format!("[templates.t]\nenabled = flase\n[templates.t.log]\ntype = \"raw\"\n{ports}");
    assert_eq!(salvaged(&text), ["b", "c"]);
}
