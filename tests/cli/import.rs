//! `import`: the files of others as a plan, and the plan in the candidate.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::bus::{Bus, said};

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/samples")
}

fn import(bus: &Bus, words: &[&str]) -> (i32, String, String) {
    said(bus.consolectl(&[&["import"], words].concat()).current_dir(samples()).stdin(Stdio::null()))
}

#[test]
fn a_plan_says_each_port_and_whatever_has_no_place_here() {
    // No service: a file can be looked at anywhere.
    let bus = Bus::empty();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for file in ["conserver.cf", "ser2net.yaml", "config.ini"] {
        let (code, shown, aside) = import(&bus, &["--dry-run", file]);
        assert_eq!((code, aside.as_str()), (0, ""), "{file}");
        let wanted = fs::read_to_string(samples().join(format!("{file}.plan"))).unwrap();
        assert_eq!(shown, wanted.replace("@HOST@", host.trim()), "{file}");
    }
}

#[test]
fn ports_come_into_the_candidate_and_only_there() {
    let bus = Bus::new();
    let before = bus.committed();
    let (code, shown, aside) = import(&bus, &["conserver.cf", "--first-port", "8022"]);
    assert_eq!((code, aside.as_str()), (0, ""), "{shown}");
    assert!(shown.contains("port ttyUSB0, which is there (conserver.cf:38)\n"), "{shown}");
    assert!(
        shown.ends_with(
            "ports: 4 to make, 1 to change; done: `diff` shows it, `reload PORT` tries one, `commit` keeps all\n"
        ),
        "{shown}"
    );
    let of = |port: &str| -> Value {
        let shown: Value = serde_json::from_str(&bus.done(&["show", port, "--json"])).unwrap();
        shown["candidate"].clone()
    };
    let core = of("core-switch");
    assert_eq!(core["device"], "/dev/serial/by-path/pci-0-usb-0:1:1.0-port0");
    assert_eq!(
        (&core["baud"], &core["log.type"], &core["xonxoff"]),
        (&115200.into(), &"none".into(), &false.into())
    );
    // 8022 to 8024 are taken by what is there.
    assert_eq!(core["ssh_port"], 8025);
    assert_eq!(of("ttyUSB0")["ssh_port"], 8023);
    let old = of("old-router");
    assert_eq!((&old["parity"], &old["bytesize"], &old["stopbits"]), (&"E".into(), &7.into(), &2.into()));
    assert_eq!(old["users"], serde_json::json!(["alice", "carol"]));
    assert_eq!(old["groups"], serde_json::json!([]));
    assert_eq!(bus.committed(), before);
    let changes = bus.done(&["diff", "--json"]);
    let (code, shown, aside) = import(&bus, &["conserver.cf"]);
    assert_eq!((code, aside.as_str()), (0, ""));
    assert!(shown.contains("ports: 0 to make, 5 to change; done"), "{shown}");
    let count = |changes: &str| serde_json::from_str::<Value>(changes).unwrap().as_array().unwrap().len();
    assert_eq!(count(&bus.done(&["diff", "--json"])), count(&changes));
}

#[test]
fn standard_input_is_a_file_too() {
    let bus = Bus::new();
    let mut command = bus.consolectl(&["import", "--from", "ser2net", "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let text = "connection: &lab\n  accepter: tcp,9100\n  connector: serialdev,/dev/ttyS9,115200\n";
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("port lab (standard input:1)"));
    let lab: Value = serde_json::from_str(&bus.done(&["show", "lab", "--json"])).unwrap();
    assert_eq!((&lab["candidate"]["ssh_port"], &lab["candidate"]["baud"]), (&9100.into(), &115200.into()));
}

#[test]
fn whoever_may_not_change_imports_nothing() {
    let bus = Bus::new();
    let file = bus.path("ser2net.yaml");
    fs::copy(samples().join("ser2net.yaml"), &file).unwrap();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]);
    command.env_clear().env("PATH", "/usr/bin:/bin").envs(bus.environment()).arg(bus.program());
    let (code, shown, aside) = said(command.arg("import").arg(&file));
    assert_eq!(code, 1);
    assert!(shown.contains("port con0 "), "{shown}");
    assert!(!shown.contains("done"), "{shown}");
    assert!(aside.starts_with("consolectl: nobody may not administer this console server"), "{aside}");
    assert_eq!(bus.done(&["diff"]), "");
}

#[test]
fn a_file_that_cannot_be_read_is_told_why_and_changes_nothing() {
    let bus = Bus::new();
    let at = |name: &str| bus.path(name).display().to_string();
    fs::write(at("long.ini"), "#".repeat(1024 * 1024 + 1)).unwrap();
    fs::write(at("latin.ini"), b"[/dev/ttyS0]\n# caf\xe9\n").unwrap();
    fs::write(at("half.cf"), "console a { type device; device /dev/ttyS1; rw *; }\nconsole b { rw *\n")
        .unwrap();
    fs::write(at("missing.cf"), "#include /nonexistent/x\n").unwrap();
    fs::write(at("conf"), "").unwrap();
    for (words, wanted) in [
        (vec![at("long.ini")], "more than 1048576 bytes".to_owned()),
        (vec![at("latin.ini")], format!("consolectl: {}:2: not UTF-8", at("latin.ini"))),
        (vec![at("half.cf")], format!("consolectl: {}:2: a block that is not closed by }}", at("half.cf"))),
        (vec![at("missing.cf")], "consolectl: /nonexistent/x: No such file".to_owned()),
        (vec![at("conf")], "Say it by --from conserver, ser2net or consoleserver".to_owned()),
        (vec!["/dev/zero".to_owned(), "--from=ser2net".to_owned()], "more than 1048576 bytes".to_owned()),
        (vec![at("root"), "--from=ser2net".to_owned()], "Is a directory".to_owned()),
    ] {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (code, shown, aside) = import(&bus, &words);
        assert_eq!((code, shown.as_str()), (1, ""), "{words:?}: {aside}");
        assert!(aside.contains(&wanted) && aside.lines().count() == 1, "{words:?}: {aside}");
    }
    assert_eq!(bus.done(&["diff"]), "");
}
