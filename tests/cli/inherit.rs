//! Templates and groups of ports in the command line: set, shown with the origin of a value, used, printed in one line.

use serde_json::Value;

use crate::bus::Bus;

#[test]
fn a_template_is_set_and_shown_with_its_origin_in_one_line() {
    let bus = Bus::new();
    let flat = |words: &[&str]| bus.done(words).split_whitespace().collect::<Vec<_>>().join(" ");
    let said = bus.done(&["set", "template", "cisco", "baud=115200", "parity=even"]);
    assert!(said.starts_with("templates.cisco.baud: - → 115200\n"), "{said}");
    bus.done(&["create", "p[01-48]", "--like", "cisco"]);
    bus.done(&["set", "p07", "baud", "300"]);
    bus.done(&["set", "defaults", "stopbits", "2"]);
    let shown = flat(&["show", "p01"]);
    for wanted in [
        "like cisco",
        "baud 115200 from template cisco",
        "parity E from template cisco",
        "stopbits 2 from defaults",
    ] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
    let shown = flat(&["show", "p07"]);
    assert!(shown.contains("baud 300 ") && !shown.contains("baud 300 from"), "{shown}");
    let shown: Value = serde_json::from_str(&bus.done(&["show", "p07", "--json"])).unwrap();
    assert_eq!(shown["origins"]["baud"], "port");
    assert_eq!(shown["origins"]["parity"], "template cisco");
    assert_eq!(shown["origins"]["stopbits"], "defaults");
    assert_eq!(shown["origins"]["rtscts"], "built-in");
    assert!(flat(&["show", "templates"]).contains("cisco p[01-48]"));
    assert!(flat(&["show", "template", "cisco"]).contains("baud 115200"));
    // The same, committed.
    let ports: String = (1..=48).map(|n| format!("[ports.p{n:02}]\nlike = \"cisco\"\n")).collect();
    let ports = ports.replace("[ports.p08]", "baud = 300\n[ports.p08]");
    let bus = Bus::new();
    let text = format!("[templates.cisco]\nbaud = 115200\n{ports}");
    std::fs::write(bus.path("root/etc/consoleserver/config.toml"), text).unwrap();
    // One change for all ports that do not override the key, and one line of output.
    let said = bus.done(&["set", "templates.cisco", "baud", "9600"]);
    assert!(said.contains("templates.cisco.baud: 115200 → 9600 at 47 ports (p01 … p48)"), "{said}");
    let diff = bus.done(&["diff"]);
    assert_eq!(diff.lines().count(), 2, "{diff}");
    let line = diff.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(line.contains("templates.cisco.baud 115200 9600 at 47 ports (p01 … p48) root"), "{diff}");
    let diff: Value = serde_json::from_str(&bus.done(&["diff", "--json"])).unwrap();
    assert_eq!(diff[0]["ports"].as_array().unwrap().len(), 47);
    // A template in use stays, and a typo at a port creates none.
    let said = bus.refused(&["unset", "templates", "cisco"]);
    assert!(said.contains("template cisco is used by p01, p02, p03, p04 and 44 more: "), "{said}");
    assert!(
        bus.refused(&["set", "p01", "like", "cisc"])
            .contains("there is no template cisc: did you mean cisco?")
    );
    assert!(
        bus.refused(&["show", "templates.cisc"]).contains("there is no template cisc: did you mean cisco?")
    );
    assert!(bus.refused(&["unset", "templates", "cisc"]).contains("there is no template cisc"));
    assert!(
        bus.refused(&["set", "templates.cisco", "ssh_port", "1"])
            .contains("ssh_port applies to a single port")
    );
    bus.done(&["unset", "p[01-48]", "like"]);
    bus.done(&["unset", "template", "cisco"]);
    let diff = bus.done(&["diff"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(diff.contains("templates.cisco configured removed root"), "{diff}");
    let shown = bus.done(&["show", "templates"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("cisco - *! committed p[01-48], running p[01-48]"), "{shown}");
}

#[test]
fn a_group_of_ports_is_set_shown_and_used_in_commands() {
    let bus = Bus::new();
    let flat = |words: &[&str]| bus.done(words).split_whitespace().collect::<Vec<_>>().join(" ");
    bus.done(&["create", "p[01-04],edge"]);
    bus.done(&["set", "groups", "core", "p01", "p[02-03]"]);
    bus.done(&["set", "group", "all", "@core", "edge"]);
    let shown = flat(&["show", "groups"]);
    assert!(shown.contains("core p01 p[02-03] "), "{shown}");
    assert!(shown.contains("3 ports (p01 … p03)") && shown.contains("4 ports (p01 … edge)"), "{shown}");
    bus.done(&["baud", "@all", "19200"]);
    let baud = |port: &str| -> Value {
        serde_json::from_str::<Value>(&bus.done(&["show", port, "--json"])).unwrap()["candidate"]["baud"]
            .clone()
    };
    assert_eq!(["p01", "p03", "p04", "edge"].map(baud), [19200, 19200, 9600, 19200]);
    for (words, wanted) in [
        (&["set", "groups", "core", "@all"][..], "a group cannot contain itself: all → core → all"),
        (&["set", "groups", "core", "@nosuch"], "groups.core = [\"@nosuch\"]: there is no group nosuch"),
        (&["set", "groups", "core", "p[01-"], "unmatched bracket in"),
        (&["unset", "groups", "core"], "there is no group core"),
        (&["unset", "groups", "nosuch"], "there is no group nosuch"),
        (&["baud", "@nosuch", "300"], "there is no group nosuch"),
    ] {
        let said = bus.refused(words);
        assert!(said.contains(wanted), "{words:?}: {said}");
    }
    let diff = flat(&["diff"]);
    assert!(diff.contains("groups.core - [\"p01\", \"p[02-03]\"] root"), "{diff}");
    bus.done(&["unset", "groups", "all"]);
    bus.done(&["unset", "groups", "core"]);
    assert_eq!(flat(&["show", "groups"]), "");
}
