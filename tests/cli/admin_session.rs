//! A login on the admin port.

use std::process::Command;

use crate::bus::{Bus, said};

#[test]
fn the_line_of_an_administrator_is_run() {
    let bus = Bus::new();
    assert!(bus.done(&["--admin-session", "--line=describe ttyUSB0 'core switch'"]).contains("core switch"));
    assert!(bus.done(&["--admin-session", "--line=help"]).contains("disconnect"));
    assert_eq!(bus.done(&["--admin-session", "--line="]), "");
    for (line, code) in [
        ("--line=show 'ttyUSB0", 2),
        ("--line=reboot", 2),
        ("--line=--help; id", 2),
        ("--line=show ttyUSB7", 1),
        ("--line=baud ttyUSB0 $(id)", 1),
    ] {
        let (is, _, aside) = bus.says(&["--admin-session", line]);
        assert_eq!(is, code, "{line}: {aside}");
    }
}

#[test]
fn an_unauthorized_user_is_rejected() {
    let bus = Bus::new();
    let program = bus.program();
    for line in [&["--line=list"][..], &["--line=nonsense"], &[]] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--"]);
        command.env_clear().env("PATH", "/usr/bin:/bin").envs(bus.environment());
        command.arg(&program).arg("--admin-session").args(line);
        let wanted = "User nobody may not administer this console server\n".to_owned();
        assert_eq!(said(&mut command), (1, String::new(), wanted), "{line:?}");
    }
}
