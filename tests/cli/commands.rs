//! Commands by arguments.

use serde_json::Value;

use crate::bus::Bus;

#[test]
fn a_change_is_shown_listed_applied_and_committed() {
    let bus = Bus::new();
    let said = bus.done(&["baud", "/dev/ttyUSB0", "115200"]);
    assert_eq!(said, "baud: 9600 → 115200 at ttyUSB0; `reload` or `commit` applies it\n");
    let shown = bus.done(&["show", "ttyUSB0"]);
    let line = |key: &str| {
        shown.lines().find(|line| line.split(' ').next() == Some(key)).unwrap_or_else(|| panic!("{shown}"))
    };
    assert_eq!(
        line("baud").split_whitespace().collect::<Vec<_>>(),
        ["baud", "115200", "*!", "committed", "9600,", "running", "9600"]
    );
    assert_eq!(line("parity").split_whitespace().collect::<Vec<_>>(), ["parity", "N"]);
    assert!(shown.ends_with("* not committed\n! not running until the next reload\n"), "{shown}");
    assert_eq!(
        bus.done(&["baud", "ttyUSB0", "115200"]),
        "baud: already 115200 at ttyUSB0; `reload` or `commit` applies it\n"
    );

    let diff = bus.done(&["diff"]);
    let rows: Vec<Vec<_>> = diff.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["KEY", "COMMITTED", "NEW", "BY", "AT"]);
    assert_eq!(rows[1][..4], ["ports.ttyUSB0.baud", "9600", "115200", "root"]);
    assert_eq!(rows.len(), 2);

    bus.done(&["reload", "ttyUSB0"]);
    let shown = bus.done(&["show", "ttyUSB0"]);
    assert!(shown.contains("committed 9600") && !shown.contains("running"), "{shown}");
    assert!(!bus.committed().contains("115200"));
    assert!(bus.done(&["commit"]).ends_with("1 change committed\n"));
    assert!(bus.committed().contains("baud = 115200"), "{}", bus.committed());
    assert_eq!(bus.done(&["diff"]), "");
    assert!(bus.done(&["commit"]).ends_with("nothing to commit\n"));
}

#[test]
fn a_commit_confirm_is_confirmed_or_rolled_back() {
    let bus = Bus::new();
    bus.done(&["timeout", "ttyUSB0", "60"]);
    let said = bus.done(&["commit", "confirm", "5"]);
    assert!(
        said.ends_with("1 change committed; rolled back unless you `confirm` within 5 minutes\n"),
        "{said}"
    );
    assert!(bus.refused(&["commit"]).starts_with("consolectl: a commit waits for confirmation until "));
    assert_eq!(bus.done(&["confirm"]), "confirmed\n");
    assert!(bus.committed().contains("timeout = 60"));
    bus.done(&["timeout", "ttyUSB0", "70"]);
    bus.done(&["commit", "confirm", "5"]);
    bus.done(&["revert"]);
    assert!(bus.committed().contains("timeout = 60"), "{}", bus.committed());
    assert_eq!(bus.refused(&["confirm"]), "consolectl: no commit waits for confirmation\n");
}

#[test]
fn ports_are_created_removed_and_listed() {
    let bus = Bus::new();
    let shown = bus.done(&["create", "core"]);
    assert!(shown.ends_with("core created: `reload core` or `commit` opens it\n"), "{shown}");
    bus.done(&["device", "core", "/dev/null"]);
    bus.done(&["describe", "core", "core", "switch"]);
    assert_eq!(
        bus.done(&["copy", "core", "edge"]),
        "edge created with the settings of core, but not its ssh_port, device or source: `reload edge` or `commit` opens it\n"
    );
    bus.done(&["remove", "edge"]);
    bus.done(&["remove", "ttyUSB1"]);
    let (code, table, _) = bus.says(&["list"]);
    assert_eq!(code, 0);
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["PORT", "PLUGGED", "SETTINGS", "SSH", "STATE", "DESCRIPTION"]);
    assert_eq!(rows[1], ["core", "yes", "9600", "8N1", "-", "new,", "not", "reloaded", "core", "switch"]);
    assert_eq!(rows[2][..5], ["ttyUSB0", "no", "9600", "8N1", "8023"]);
    let listed: Value = serde_json::from_str(&bus.done(&["list", "--json"])).unwrap();
    assert_eq!(listed[0]["port"], "core");
    assert_eq!(listed[0]["plugged"], true);
    assert_eq!(listed[0]["ssh_port"], Value::Null);
    assert_eq!(listed[0]["description"], "core switch");
    bus.done(&["revert"]);
    let listed: Value = serde_json::from_str(&bus.done(&["list", "--json"])).unwrap();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|port| &port["port"]).collect();
    assert_eq!(names, ["ttyUSB0", "ttyUSB1"]);
}

#[test]
fn ports_are_listed_in_natural_order_and_removed_ones_are_marked() {
    let bus = Bus::new();
    for port in ["ttyUSB10", "ttyUSB2", "ttyUSB100"] {
        bus.done(&["create", port]);
    }
    let wanted = ["ttyUSB0", "ttyUSB1", "ttyUSB2", "ttyUSB10", "ttyUSB100"];
    let list = bus.done(&["list"]);
    let listed: Vec<_> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| word.starts_with("ttyUSB"))
        .collect();
    assert!(list.lines().all(|line| line.chars().count() <= 80), "{list}");
    assert_eq!(listed, wanted);
    let listed: Value = serde_json::from_str(&bus.done(&["list", "--json"])).unwrap();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|port| &port["port"]).collect();
    assert_eq!(names, wanted);
    let changes: Value = serde_json::from_str(&bus.done(&["diff", "--json"])).unwrap();
    let made: Vec<_> = changes.as_array().unwrap().iter().map(|change| &change["key"]).collect();
    assert_eq!(made, ["ports.ttyUSB2", "ports.ttyUSB10", "ports.ttyUSB100"]);

    bus.done(&["revert"]);
    bus.done(&["remove", "ttyUSB1"]);
    bus.done(&["create", "core"]);
    let diff: Value = serde_json::from_str(&bus.done(&["diff", "--json"])).unwrap();
    let rows: Vec<_> =
        diff.as_array().unwrap().iter().map(|row| (&row["key"], &row["old"], &row["new"])).collect();
    let row = |key: &str, old: &str, new: &str| [key, old, new].map(Value::from);
    let wanted = [row("ports.core", "", "new"), row("ports.ttyUSB1", "configured", "removed")];
    assert_eq!(rows, wanted.each_ref().map(|[key, old, new]| (key, old, new)));
}

#[test]
fn synonyms_of_values_are_accepted() {
    let bus = Bus::new();
    for (words, wanted) in [
        (&["rtscts", "ttyUSB0", "on"][..], "rtscts true"),
        (&["rtscts", "ttyUSB0", "off"], "rtscts false"),
        (&["xonxoff", "ttyUSB0", "yes"], "xonxoff true"),
        (&["parity", "ttyUSB0", "even"], "parity E"),
        (&["parity", "ttyUSB0", "none"], "parity N"),
        (&["disable", "ttyUSB0"], "enabled false"),
        (&["enable", "ttyUSB0"], "enabled true"),
        (&["sshport", "ttyUSB1", "off"], "ssh_port none"),
    ] {
        bus.done(words);
        let shown = bus.done(&["show", words[1]]);
        let flat: Vec<_> =
            shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert!(flat.iter().any(|line| line.starts_with(wanted)), "{words:?}: {shown}");
    }
}

#[test]
fn aliases_abbreviations_and_typing_errors_are_resolved() {
    let bus = Bus::new();
    assert_eq!(bus.done(&["ls"]), bus.done(&["list"]));
    assert_eq!(bus.done(&["show"]), bus.done(&["list"]));
    assert_eq!(bus.done(&["sh", "ttyUSB0"]), bus.done(&["show", "ttyUSB0"]));
    assert_eq!(bus.done(&["?"]), bus.done(&["help"]));
    assert_eq!(bus.done(&["help", "baud"]), bus.done(&["ba", "?"]));
    assert!(bus.done(&["show", "version"]).starts_with("consolectl "));
    let help = bus.done(&["--help"]);
    assert!(help.contains("Use a console:\n") && help.contains("\n  baud PORT N"), "{help}");
    assert!(!help.contains('\x1b'), "{help}");
    bus.done(&["create", "core-switch"]);
    assert!(bus.done(&["show", "core"]).contains("core-switch is new"));
    for (line, wanted) in [
        ("lsit", "consolectl: unknown command lsit: did you mean list? See help\n"),
        ("st", "consolectl: st is ambiguous: status, start, stop or stopbits\n"),
    ] {
        let (code, _, aside) = bus.says(&[line]);
        assert_eq!((code, aside.as_str()), (2, wanted));
    }
    // A command that changes a port requires its full name.
    assert!(bus.refused(&["remove", "core"]).contains("there is no port core: did you mean core-switch?"));
}

#[test]
fn server_keys_are_set_by_their_commands() {
    let bus = Bus::new();
    let waits = "; `reload` or `commit` applies it\n";
    assert_eq!(bus.done(&["cliport", "0"]), format!("server.ssh_port: 8022 → none{waits}"));
    assert_eq!(
        bus.done(&["listen", "127.0.0.1", "::1"]),
        format!("server.listen: [::] → 127.0.0.1 [::1]{waits}")
    );
    assert!(bus.done(&["access", "dialout"]).starts_with("access.groups: "));
    assert!(bus.done(&["access", "dialout,adm"]).contains(" → dialout adm"), "a list with commas");
    bus.done(&["portmonitor", "/dev/serial"]);
    bus.done(&["set", "defaults", "baud", "19200"]);
    let changes: Value = serde_json::from_str(&bus.done(&["diff", "--json"])).unwrap();
    let keys: Vec<_> =
        changes.as_array().unwrap().iter().map(|change| change["key"].as_str().unwrap()).collect();
    for key in ["access.groups", "defaults.baud", "server.listen", "server.monitor", "server.ssh_port"] {
        assert!(keys.contains(&key), "{key}: {keys:?}");
    }
    bus.done(&["unset", "server", "listen"]);
    let server: Value = serde_json::from_str(&bus.done(&["show", "server", "--json"])).unwrap();
    assert_eq!(server["candidate"]["listen"][0], "[::]");
    assert_eq!(server["committed"]["ssh_port"], 8022);
    assert_eq!(server["candidate"]["ssh_port"], "none");
}

#[test]
fn an_error_is_one_clear_sentence() {
    let bus = Bus::new();
    for (words, wanted) in [
        (&["baud", "ttyUSB0", "fast"][..], "baud fast: expected a number from 1 to 4294967295"),
        (&["rtscts", "ttyUSB0", "maybe"], "rtscts maybe: expected on or off (or yes/no, true/false, 1/0)"),
        (
            &["parity", "ttyUSB0", "x"],
            "parity x: expected \"none\", \"even\", \"odd\", \"mark\" or \"space\", or the first letter",
        ),
        (
            &["logtype", "ttyUSB0", "octal"],
            "log.type octal: expected \"none\", \"raw\", \"text\", \"hex\" or \"both\"",
        ),
        (&["set", "ttyUSB0", "boud", "9600"], "ttyUSB0 has no key boud: did you mean baud?"),
        (&["set", "defaults", "ssh_port", "8023"], "ssh_port applies to a single port: set it for a port"),
        (&["show", "ttyUSB"], "there is no port ttyUSB: did you mean ttyUSB0 or ttyUSB1?"),
        (&["break", "core"], "there is no port core: the ports are ttyUSB0, ttyUSB1"),
        (&["create", "ttyUSB0"], "port ttyUSB0 already exists"),
        (&["sshport", "ttyUSB0", "8024"], "8024"),
        (
            &["show", "ttyUSB0", "log.type"],
            "there is no port log.type: the ports are ttyUSB0, ttyUSB1; `show PORT` prints all keys, and `consolectl show PORT --json | jq '.candidate[\"log.type\"]'` one of them",
        ),
        (&["reload", "all"], "there is no port all: '*' stands for all ports"),
    ] {
        let said = bus.refused(words);
        assert!(said.starts_with("consolectl: ") && said.contains(wanted), "{words:?}: {said}");
        assert!(!said.contains("org.freedesktop") && !said.contains("zbus"), "{words:?}: {said}");
    }
    assert_eq!(bus.done(&["diff"]), "", "something was changed");
}

#[test]
fn a_missing_service_and_a_missing_bus_are_reported() {
    let bus = Bus::empty();
    let said = bus.refused(&["list"]);
    assert!(said.starts_with("consolectl: cannot reach console-admin: "), "{said}");
    assert!(said.ends_with(": see `systemctl status console-admin`\n"), "{said}");
    let mut nowhere = bus.consolectl(&["list"]);
    nowhere.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent");
    let (code, _, aside) = crate::bus::said(&mut nowhere);
    assert!(code == 1 && aside.starts_with("consolectl: cannot connect to the system bus: "), "{aside}");
    assert_eq!(aside.lines().count(), 1);
}

#[test]
fn an_unauthorized_user_is_told_what_is_required() {
    let bus = Bus::new();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]);
    command.env_clear().env("PATH", "/usr/bin:/bin").envs(bus.environment()).arg(bus.program());
    let (code, _, aside) = crate::bus::said(command.args(["baud", "ttyUSB0", "19200"]));
    assert_eq!(code, 1);
    assert!(aside.starts_with("consolectl: nobody may not administer this console server"), "{aside}");
    assert!(aside.contains("polkit does not reply, and without it only root may"), "{aside}");
}

#[test]
fn a_foreground_program_is_configured_by_its_file_only() {
    let bus = Bus::new();
    let said = bus.refused(&["--runtime-dir", "/tmp", "baud", "ttyUSB0", "19200"]);
    assert!(
        said.starts_with("consolectl: /tmp belongs to a consoleserver that runs in the foreground: "),
        "{said}"
    );
}

#[test]
fn delays_and_mappings_are_set_in_the_words_of_tio_and_picocom() {
    let bus = Bus::new();
    bus.done(&["outputdelay", "ttyUSB0", "5ms"]);
    bus.done(&["set", "ttyUSB0", "output_line_delay", "1s"]);
    bus.done(&["imap", "ttyUSB0", "lfcrlf,delbs"]);
    bus.done(&["omap", "ttyUSB0", "delbs", "crcrlf"]);
    let shown: Value = serde_json::from_str(&bus.done(&["show", "ttyUSB0", "--json"])).unwrap();
    let shown = shown.to_string();
    for wanted in [r#""output_delay":"5ms""#, r#""output_line_delay":"1s""#] {
        assert!(shown.contains(wanted), "{shown}");
    }
    let diff = bus.done(&["diff"]);
    let rows: Vec<Vec<_>> = diff.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let keys: Vec<_> = rows.iter().map(|row| row[0].strip_prefix("ports.ttyUSB0.").unwrap()).collect();
    assert_eq!(keys, ["imap", "omap", "output_delay", "output_line_delay"]);
    bus.done(&["commit"]);
    assert!(bus.committed().contains(r#"omap = ["crcrlf", "delbs"]"#), "{}", bus.committed());
    bus.done(&["imap", "ttyUSB0", "none"]);
    bus.done(&["outputlinedelay", "ttyUSB0", "0"]);
    bus.done(&["commit"]);
    let shown = bus.done(&["show", "ttyUSB0"]);
    let value = |key: &str| {
        let line = shown.lines().find(|line| line.split(' ').next() == Some(key)).unwrap();
        line.split_once(' ').unwrap().1.trim().to_owned()
    };
    assert_eq!(value("output_line_delay"), "none");
    assert_eq!(value("omap"), "crcrlf delbs", "{shown}");
    for (words, wanted) in [
        (["outputdelay", "5"], r#"expected a time from "1ms" to "10s", or "none""#),
        (["imap", "ONLCRNL"], "ONLCRNL is tio's name: use lfcrlf in omap"),
        (["omap", "crlf,igncr"], "crlf and igncr both replace the same character"),
        (["imap", "nlcr"], "expected a list of mappings (crlf, crcrlf or igncr; lfcr, lfcrlf or ignlf"),
    ] {
        let refused = bus.refused(&[words[0], "ttyUSB0", words[1]]);
        assert!(refused.contains(wanted) && refused.lines().count() == 1, "{refused}");
    }
    assert_eq!(bus.done(&["diff"]), "");
}
