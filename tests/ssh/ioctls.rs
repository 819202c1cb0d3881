//! Errors of the driver are reported where the user reads them: exit status, session, STATUS.

use std::process::Stdio;
use std::time::Duration;

use consoleserver::attach::client;
use nix::libc::{self, c_int, c_ulong};

use crate::at_terminal;
use crate::client::Client;
use crate::rig::{Rig, system_calls, until};

/// A bench whose driver fails these ioctls.
fn refusing(refused: &[(c_ulong, c_int)], settings: &str) -> Rig {
    let mut rig = Rig::new(settings);
    rig.refuse_ioctls(refused);
    rig.serve_logins(true);
    rig.start_plugged();
    rig
}

/// Exit status and output of the command `break` over SSH.
fn break_by_ssh(rig: &Rig) -> (Option<i32>, String) {
    let mut ssh = rig.ssh(&["demo@127.0.0.1", "break", "--force"]);
    let output = ssh.stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_break_that_the_driver_rejects_fails_with_the_reason_and_without_a_notice() {
    for (errno, reason) in [
        (
            libc::EOPNOTSUPP,
            "no break was sent: the driver does not support it (Operation not supported (os error 95))",
        ),
        (
            libc::ENOTTY,
            "no break was sent: the driver does not support it (Inappropriate ioctl for device (os error 25))",
        ),
        (libc::EIO, "no break was sent: the driver failed (Input/output error (os error 5))"),
        (libc::ETIMEDOUT, "no break was sent: the driver failed (Connection timed out (os error 110))"),
    ] {
        let rig = refusing(&[(libc::TIOCSBRK, errno)], "");
        let mut watcher = at_terminal(&rig);
        assert_eq!(break_by_ssh(&rig), (Some(1), format!("demo: {reason}\n")));
        // The request of `consolectl break`, through console-admin.
        let port = "demo".parse().unwrap();
        let asked = client::send_break(&rig.path("run"), &port, Duration::from_millis(500), "alice");
        assert_eq!(asked.unwrap_err().to_string(), format!("demo: {reason}"));

        watcher.type_in("\x05cf\x05cl0");
        watcher.sees(&format!("[{reason}]"));
        // OpenSSH's own escape for a break, after a Return.
        watcher.type_in("\r~B");
        until("the second one", || {
            let shown = String::from_utf8_lossy(&watcher.shown()).matches(reason).count();
            (shown == 2).then_some(())
        });
        // Later input still arrives, and nothing else is reported.
        watcher.type_in("after");
        rig.expect_at_device(b"\rafter");
        let shown = String::from_utf8(watcher.shown()).unwrap();
        assert!(!shown.contains("sending break") && !shown.contains("break of"), "{shown}");
        assert!(!rig.log_text().contains("break"), "{}", rig.log_text());
        assert!(!rig.journal().contains("sends a break"), "{}", rig.journal());
    }
}

#[test]
fn a_break_that_does_not_end_is_reported() {
    let rig = refusing(&[(libc::TIOCCBRK, libc::ETIMEDOUT)], "");
    let (code, said) = break_by_ssh(&rig);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("the break did not end, the line may still be held in it: the driver failed"),
        "{said}"
    );
}

#[test]
fn a_break_is_reported_if_the_output_before_it_cannot_be_drained() {
    let rig = refusing(&[(libc::TIOCOUTQ, libc::EIO)], "");
    let (code, said) = break_by_ssh(&rig);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("no break was sent: the output before it cannot be drained"), "{said}");
}

#[test]
fn settings_that_the_driver_refuses_are_in_status_and_the_port_is_served() {
    let refused = [
        (libc::TIOCGSERIAL, libc::EIO),
        (libc::TIOCMGET, libc::ETIMEDOUT),
        (libc::TIOCMBIC, libc::ETIMEDOUT),
    ];
    let rig = refusing(&refused, "dtr = \"off\"\nrts = \"on\"\n");
    let status = rig.wait_for_status("9600 8N1");
    for told in [
        "low_latency true: the driver failed (Input/output error (os error 5))",
        "dtr off: the driver failed (Connection timed out (os error 110))",
        "rts on: the driver failed (Connection timed out (os error 110))",
    ] {
        assert!(status.contains(told), "{status}");
    }
    let mut client: Client = at_terminal(&rig);
    client.type_in("\x05ci");
    client.sees("refused  low_latency true: the driver failed");
    client.sees("modem    cannot be read (Connection timed out");
    client.type_in("\x05cMd");
    client.sees("DTR of demo cannot be set");
}

#[test]
fn a_tty_that_rejects_all_settings_is_not_reported_as_unplugged() {
    let mut rig = Rig::new("");
    rig.refuse_ioctls(&[(libc::TCSETS2, libc::EIO)]);
    rig.plug();
    rig.start();
    let status = rig.wait_for_status("cannot be set to 9600 8N1: the driver failed (Input/output error");
    assert!(!status.contains("plugged"), "{status}");
}

/// The modem ioctls that strace(1) sees a port make, from when the device is plugged in until the line is open.
fn modem_ioctls_of_an_open(rig: &mut Rig) -> String {
    let calls = system_calls(rig.pid(), "ioctl", || {
        rig.plug();
        rig.wait_for_status("9600 8N1");
    });
    calls
        .lines()
        .filter(|line| ["TCSETS", "TIOCMSET", "TIOCMBI"].iter().any(|call| line.contains(call)))
        .fold(String::new(), |text, line| text + line.split_once("ioctl").unwrap().1 + "\n")
}

#[test]
fn dtr_and_rts_are_set_in_one_ioctl_when_the_line_is_opened_and_not_when_it_is_taken_over() {
    // A pty has no modem lines: here the kernel accepts the call and ignores it, so that both read as off.
    let mut rig = Rig::new("dtr = \"off\"\nrts = \"on\"\n");
    rig.refuse_ioctls(&[(libc::TIOCMGET, 0), (libc::TIOCMSET, 0)]);
    rig.start();
    rig.wait_for_status("unplugged");
    let calls = modem_ioctls_of_an_open(&mut rig);
    let calls: Vec<&str> = calls.lines().collect();
    let [line, modem] = calls.as_slice() else { panic!("{calls:#?}") };
    assert!(line.contains("TCSETS2") && modem.contains("TIOCMSET, [TIOCM_RTS]"), "{calls:#?}");
    // The driver's actual setting is read back.
    assert!(rig.wait_for_status("9600 8N1").contains("; rts on: the driver set off"));

    // The tty was kept: DTR and RTS are as they are, and the device is not reset.
    let set = |rig: &Rig| rig.journal().matches("rts on: the driver set off").count();
    assert_eq!(set(&rig), 1);
    rig.kill();
    rig.start();
    rig.wait_for_status("9600 8N1");
    rig.apply();
    assert_eq!(set(&rig), 1);
    // A further change is made immediately.
    let config = std::fs::read_to_string(rig.path("config.toml")).unwrap();
    rig.configure(&config.replace("dtr = \"off\"", "dtr = \"on\""));
    rig.apply();
    rig.wait_for_status("; dtr on: the driver set off; rts on: the driver set off");
}

#[test]
fn a_pty_reports_no_modem_lines_and_rtscts_keeps_rts() {
    let rig = crate::served("dtr = \"off\"\nrts = \"off\"\nrtscts = true\n");
    let status = rig.wait_for_status("9600 8N1");
    assert!(status.contains("; rts off: not set: with rtscts = true the driver controls it"), "{status}");
    assert!(status.contains("; dtr off: the device has no modem lines"), "{status}");
}
