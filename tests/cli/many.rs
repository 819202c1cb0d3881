//! Many ports in one command: names, ranges, patterns, lists; several keys; all of it or nothing.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bus::{Bus, said};

fn candidate(bus: &Bus, port: &str, key: &str) -> Value {
    let shown: Value = serde_json::from_str(&bus.done(&["show", port, "--json"])).unwrap();
    shown["candidate"][key].clone()
}

/// The shortest of a few runs: the time of a command without interference.
fn takes(bus: &Bus, words: &[&str]) -> Duration {
    let run = || {
        let begun = Instant::now();
        let (code, _, aside) = said(bus.consolectl(words).stdin(Stdio::null()));
        assert_eq!(code, 0, "{words:?}: {aside}");
        begun.elapsed()
    };
    (0..5).map(|_| run()).min().unwrap()
}

#[test]
fn forty_eight_ports_are_created_and_set_by_one_line_each() {
    let bus = Bus::new();
    bus.done(&["list"]);
    let start = takes(&bus, &["--version"]);
    let begun = Instant::now();
    let made = bus.done(&["create", "p[01-48]", "--first-port", "8023", "device=/dev/ttyS[100-147]"]);
    let set = bus.done(&["baud", "p[01-48]", "115200"]);
    let took = begun.elapsed();
    // 8023 and 8024 are those of ttyUSB0 and ttyUSB1.
    assert_eq!(
        made,
        "48 ports (p01 … p48) created (device /dev/ttyS100 … /dev/ttyS147, ssh_port 8025 … 8072): \
         `reload p[01-48]` or `commit` opens them\n"
    );
    assert_eq!(set, "baud: 9600 → 115200 at 48 ports (p01 … p48); `reload` or `commit` applies it\n");
    assert_eq!(candidate(&bus, "p48", "ssh_port"), 8072);
    assert_eq!(candidate(&bus, "p48", "device"), "/dev/ttyS147");
    // A release starts in 3 ms, and with the commit it may be 2 s: 600 times as long.
    assert!(took < start * 300, "{took:?}, and a start takes {start:?}");

    let diff = bus.done(&["diff"]);
    let rows: Vec<Vec<_>> = diff.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let keys: Vec<_> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(
        keys,
        ["ports.p[01-48]", "ports.p[01-48].baud", "ports.p[01-48].device", "ports.p[01-48].ssh_port"],
        "{diff}"
    );
    assert_eq!(rows[1][2], "115200");
    assert_eq!(bus.done(&["diff", "--full"]).lines().count(), 1 + 4 * 48);
    assert_eq!(bus.done(&["diff", "p07"]).lines().count(), 1 + 4);
    let each: Value = serde_json::from_str(&bus.done(&["diff", "--json"])).unwrap();
    assert_eq!(each.as_array().unwrap().len(), 4 * 48, "JSON has an object for each change");

    // All of it or nothing.
    let refused = bus.refused(&["baud", "p[01-50]", "9600"]);
    assert_eq!(
        refused,
        "consolectl: there is no port p[49-50]: 2 of the 50 ports of p[01-50] do not exist\n"
    );
    assert!(bus.refused(&["create", "p[40-60]"]).contains("port p40 already exists"));
    assert!(bus.refused(&["set", "p*", "baud=9600", "parity=X"]).contains("parity X: expected "));
    assert!(bus.refused(&["sshport", "p[01-48]", "9000"]).contains("48 ports cannot share one value"));
    assert!(bus.refused(&["sshport", "p[01-48]", "[8023-8070]"]).contains("8023"));
    assert_eq!(bus.done(&["diff"]), diff);

    assert_eq!(
        bus.done(&["remove", "p[47-48]", "p01"]),
        "3 ports (p47 … p01) will be removed by the next `reload p[01,47-48]` or `commit`\n"
    );
    assert_eq!(bus.done(&["list", "p*"]).lines().count(), 1 + 45);
    let listed: Value = serde_json::from_str(&bus.done(&["list", "p0?", "ttyUSB0", "--json"])).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 9);
}

#[test]
fn several_keys_and_ports_are_set_and_unset_in_one_command() {
    let bus = Bus::new();
    assert_eq!(
        bus.done(&["set", "ttyUSB*", "baud=115200", "parity=even", "groups=adm", "sudo"]),
        "baud: 9600 → 115200 at 2 ports (ttyUSB0, ttyUSB1)\n\
         parity: N → E at 2 ports (ttyUSB0, ttyUSB1)\n\
         groups: - → adm sudo at 2 ports (ttyUSB0, ttyUSB1); `reload` or `commit` applies it\n"
    );
    assert_eq!(candidate(&bus, "ttyUSB1", "groups"), serde_json::json!(["adm", "sudo"]));
    assert_eq!(
        bus.done(&["parity", "ttyUSB0,ttyUSB1", "N"]),
        "parity: E → N at 2 ports (ttyUSB0, ttyUSB1)\n"
    );
    assert_eq!(
        bus.done(&["unset", "ttyUSB[0-1]", "baud", "groups", "parity"]),
        "baud: 115200 → 9600 at 2 ports (ttyUSB0, ttyUSB1)\n\
         groups: adm sudo → - at 2 ports (ttyUSB0, ttyUSB1)\n\
         parity: already N at 2 ports (ttyUSB0, ttyUSB1)\n"
    );
    assert_eq!(bus.done(&["diff"]), "");
    bus.done(&["disable", "ttyUSB0,ttyUSB1"]);
    assert_eq!(candidate(&bus, "ttyUSB1", "enabled"), false);
    bus.done(&["describe", "ttyUSB0", "a=b,", "rack", "4"]);
    assert_eq!(candidate(&bus, "ttyUSB0", "description"), "a=b, rack 4");
    let shown = bus.done(&["show", "ttyUSB0", "server"]);
    assert!(shown.starts_with("ttyUSB0:\n") && shown.contains("\nserver:\n"), "{shown}");
    let lines = bus.done(&["show", "ttyUSB*", "--json"]);
    let names: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].clone()).collect();
    assert_eq!(names, ["ttyUSB0", "ttyUSB1"]);
    bus.done(&["create", "lab-[a-c]", "baud=300"]);
    assert_eq!(candidate(&bus, "lab-c", "baud"), 300);
}

#[test]
fn an_unknown_port_or_too_many_are_one_clear_sentence() {
    let bus = Bus::new();
    for (words, wanted) in [
        (&["stop", "ttyUSB0", "ttyUSB9"][..], "there is no port ttyUSB9: did you mean ttyUSB0 or ttyUSB1?"),
        (&["start", "rack1-*"], "no port matches rack1-*: the ports are ttyUSB0, ttyUSB1"),
        (&["remove", "ttyUSB0,ttyUSB7"], "there is no port ttyUSB7: did you mean ttyUSB0 or ttyUSB1?"),
        (&["break", "@core"], "there is no group core: "),
        (&["create", "p*"], "p*: expected the names of new ports, such as core, p[01-48] or a,b"),
        (&["create", "p1", "baud"], "\"baud\": expected KEY=VALUE, such as baud=115200"),
        (&["create", "p1", "bad=1"], "has no key bad: "),
        (&["set", "ttyUSB0", "baud=1", "baud=2"], "baud is set twice"),
        (&["set", "ttyUSB*", "boud=1"], "has no key boud: did you mean baud?"),
        (&["unset", "ttyUSB*", "baud", "boud"], "has no key boud: did you mean baud?"),
        (&["create", "p[1-3]", "device=/dev/ttyS[0-1]"], "2 values for 3 ports"),
    ] {
        let refused = bus.refused(words);
        assert!(refused.contains(wanted) && refused.lines().count() == 1, "{words:?}: {refused}");
    }
    for (words, wanted) in [
        (&["reload", "p[1-"][..], "unmatched bracket in"),
        (&["baud", "p[0-9999]", "9600"], "stands for more than 4096 ports"),
        (&["set", "ttyUSB0", "baud"], "expected a value for baud: set PORT KEY VALUE, or set PORT KEY=VALUE"),
        (&["set", "baud=9600", "ttyUSB0"], "expected a port before the keys: set PORT KEY=VALUE"),
    ] {
        let (code, _, aside) = bus.says(words);
        assert!(code == 2 && aside.contains(wanted), "{words:?}: {code}: {aside}");
    }
    assert_eq!(bus.done(&["diff"]), "", "something was changed");
}

/// The time limit is relative to a program that only starts: 50 ms where that takes 3. (Here it reads the configuration of this machine, if there
/// is one; the ports at the prompt come by one call.)
#[test]
fn completion_is_as_fast_as_a_start() {
    let bus = Bus::new();
    bus.done(&["create", "p[01-48]"]);
    let start = takes(&bus, &["--version"]);
    let complete = || {
        let mut command = bus.consolectl(&["--", "consolectl", "set", "p01", "par"]);
        command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "3").env("_CLAP_IFS", "\n");
        let begun = Instant::now();
        let (code, shown, aside) = said(&mut command);
        assert_eq!((code, shown.trim(), aside.as_str()), (0, "parity", ""));
        begun.elapsed()
    };
    let took = (0..5).map(|_| complete()).min().unwrap();
    assert!(took < start * 16, "{took:?}, and a start takes {start:?}");
    let listed = takes(&bus, &["list", "p*"]);
    assert!(listed < start * 50, "{listed:?}, and a start takes {start:?}");
}
