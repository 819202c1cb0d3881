//! The programs for console-power@.service that are shipped, on real ones: Debian's fence agents (fence_dummy, which keeps the state of its
//! power switch in a file) and powerman with its simulated power controller (vpcd).

use std::fs;
use std::process::{Command, Output};

const FENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/units/power/power-fence");
const POWERMAN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/units/power/power-powerman");

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn fence_agents_switch_and_report_the_power() {
    let room = tempfile::tempdir().unwrap();
    let state = room.path().join("state");
    let options = room.path().join("fence_core-1");
    fs::write(&options, format!("agent=fence_dummy\nstatus_file={}\n", state.display())).unwrap();
    let run = |instance: &str| {
        Command::new(FENCE).arg(instance).env("CREDENTIALS_DIRECTORY", room.path()).output().unwrap()
    };
    let status = || {
        let output = run("core-1:status");
        assert!(output.status.success(), "{}", text(&output));
        text(&output).trim().to_owned()
    };
    assert_eq!(status(), "off");
    for (verb, after) in [("on", "on"), ("cycle", "on"), ("off", "off")] {
        let output = run(&format!("core-1:{verb}"));
        assert!(output.status.success(), "{verb}: {}", text(&output));
        assert_eq!(status(), after, "after {verb}");
    }

    let output = run("core-2:on");
    assert!(!output.status.success());
    assert_eq!(
        text(&output).trim(),
        "there is no power switch for core-2: create /etc/consoleserver-power/core-2, see fence.conf"
    );
    fs::write(&options, "agent=fence_nonesuch\nip=192.0.2.10\n").unwrap();
    let output = run("core-1:status");
    assert_eq!(text(&output).trim(), "there is no program fence_nonesuch: apt install fence-agents");
    // type=fail: the switch does not respond.
    fs::write(&options, format!("agent=fence_dummy\ntype=fail\nstatus_file={}\n", state.display())).unwrap();
    assert!(!run("core-1:off").status.success());
    for agent in ["/bin/sh", "fence_dummy;id", "fence_../../bin/sh", ""] {
        fs::write(&options, format!("agent={agent}\n")).unwrap();
        let output = run("core-1:on");
        assert!(!output.status.success() && text(&output).contains("core-1: "), "{agent}: {}", text(&output));
    }
}

/// In a network namespace of its own, because powerman's client takes its default port.
#[test]
fn powerman_switches_and_reports_the_node_of_the_ports_name() {
    let room = tempfile::tempdir().unwrap();
    let config = room.path().join("powerman.conf");
    fs::write(
        &config,
        "include \"/etc/powerman/vpc.dev\"\nlisten \"127.0.0.1:10101\"\ndevice \"pdu\" \"vpc\" \"/usr/sbin/vpcd |&\"\n\
         node \"core-1,core-2,core-10\" \"pdu\"\n",
    )
    .unwrap();
    let script = r#"
        ip link set lo up
        powermand --conf "$1" --foreground >"$1.log" 2>&1 &
        daemon=$!
        trap 'kill $daemon' EXIT
        tries=0
        until powerman --query core-1 >/dev/null 2>&1; do
            tries=$((tries + 1))
            [ $tries -lt 100 ] || { cat "$1.log"; exit 9; }
            sleep 0.1
        done
        for command in core-1:status core-1:on core-1:status core-10:status core-1:cycle core-1:status core-1:off core-1:status; do
            echo "$command: $("$2" $command)" || exit
        done
        ! "$2" core-9:status && ! "$2" core-9:on && ! "$2" core-1:reboot
    "#;
    let output = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", script, "sh"])
        .arg(&config)
        .arg(POWERMAN)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let states: Vec<&str> = said.lines().filter(|line| line.contains(":status: ")).collect();
    assert_eq!(
        states,
        [
            "core-1:status: off",
            "core-1:status: on",
            "core-10:status: off",
            "core-1:status: on",
            "core-1:status: off"
        ],
        "{said}"
    );
}
