//! Power commands: the unit that is started, its output, and who may run one.

use std::fs;

use crate::accounts::Accounts;
use crate::bench::{Bench, printed};

#[tokio::test]
async fn a_power_command_starts_its_unit_and_returns_its_output() {
    let bench = Bench::new("[ports.core-1]\n").await;
    let port = bench.port("core-1").await;
    // Output of an earlier run is not included.
    let directory = bench.room.path().join("run/consoleserver/power");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("core-1:on"), "of an earlier run\n").unwrap();
    assert_eq!(port.power("on").await.unwrap(), "");
    assert_eq!(port.power("status").await.unwrap(), "");
    assert_eq!(
        bench.requested(),
        ["start console-power@core-1:on.service", "start console-power@core-1:status.service"]
    );
    assert_eq!(
        printed(port.power("reboot").await.unwrap_err()),
        "\"reboot\" is not a power command: expected on, off, cycle or status"
    );
    assert_eq!(bench.requested(), [""; 0]);

    bench.broken.lock().unwrap().push("console-power@core-1:off.service".to_owned());
    let why = printed(port.power("off").await.unwrap_err());
    assert!(why.starts_with("power off of core-1 failed: ") && why.contains("a drop-in must give"), "{why}");
    // The next one is not blocked by it.
    assert_eq!(port.power("cycle").await.unwrap(), "");
}

#[tokio::test]
async fn a_session_can_switch_the_power_of_its_own_port_only() {
    let accounts = Accounts::enter();
    crate::port_account(&accounts);
    let bench = Bench::new("[ports.a]\n[ports.b]\n").await;
    bench.open_to_all();
    for (user, words, why) in [
        ("nobody", ["a", "on", "root"], "nobody is not _console-port"),
        ("root", ["a", "on", "root"], "root is not _console-port"),
        ("_console-port", ["../a", "on", "root"], "name"),
        ("_console-port", ["c", "on", "root"], "no port c"),
        ("_console-port", ["a", "reboot", "root"], "expected on, off, cycle or status"),
        // The bench's systemd knows no unit of busctl.
        ("_console-port", ["a", "on", "root"], "does not belong to any loaded unit"),
    ] {
        let output = bench.watcher_call("Power", user, words).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{user} {words:?}: {said}");
    }
    assert_eq!(bench.requested(), [""; 0]);
}
