//! SIGHUP: settings change during sessions.

use nix::libc::{CRTSCTS, CSTOPB, IXOFF, IXON};
use nix::sys::signal::Signal;

use crate::client::Client;
use crate::rig::until;
use crate::{at_terminal, served};

const PORT: &str = "[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\n";

#[test]
fn new_line_settings_are_applied_and_sessions_stay_and_get_a_notice() {
    let rig = served("");
    let mut client = at_terminal(&rig);
    assert_eq!(rig.line().c_ospeed, 9600);
    rig.configure(&format!("{PORT}baud = 115200\nrtscts = true\nxonxoff = true\nstopbits = 2\n"));
    rig.apply();
    let told = client.sees("[demo is now set to 115200 8N2");
    assert_eq!(told.trim(), "");
    let line = rig.line();
    assert_eq!(line.c_ospeed, 115_200);
    assert_eq!(line.c_cflag & (CRTSCTS | CSTOPB), CRTSCTS | CSTOPB);
    assert_eq!(line.c_iflag & (IXON | IXOFF), IXON | IXOFF);
    client.type_in("same session");
    rig.expect_at_device(b"same session");
    rig.say(b"same device");
    client.sees("same device");
    rig.wait_for_status("115200 8N2");
}

#[test]
fn an_invalid_file_changes_nothing_and_is_reported() {
    let rig = served("");
    let mut client = at_terminal(&rig);
    rig.configure(&format!("{PORT}baud = 115200\nstopbits = 3\n"));
    rig.signal(Signal::SIGHUP);
    let journal = rig.wait_for_journal("settings unchanged");
    assert!(journal.contains("config.toml") && journal.contains("stopbits"), "{journal}");
    assert_eq!(rig.line().c_ospeed, 9600);
    client.type_in("same session");
    rig.expect_at_device(b"same session");
    assert!(!String::from_utf8_lossy(&client.shown()).contains("is now set to"));
}

#[test]
fn a_removed_group_denies_new_sessions_and_keeps_existing_ones() {
    let rig = served("");
    let mut inside = at_terminal(&rig);
    rig.configure("[ports.demo]\ngroups = [\"nobody-has-this\"]\ndevice = \"@DIR@/dev/demo\"\n");
    rig.apply();
    let mut outside = Client::start(rig.ssh(&["-o", "BatchMode=yes", "demo@127.0.0.1"]));
    assert_ne!(outside.ends().code(), Some(0));
    assert!(outside.aside().contains("Permission denied"));
    inside.type_in("still here");
    rig.expect_at_device(b"still here");
}

#[test]
fn a_user_whose_access_was_revoked_after_the_login_gets_no_session() {
    let rig = served("");
    let path = format!("ControlPath={}", rig.path("control").display());
    // Logged in, without a session yet.
    let _master = Client::start(rig.ssh(&["-N", "-M", "-o", &path, "demo@127.0.0.1"]));
    until("the control socket", || rig.path("control").exists().then_some(()));
    rig.configure("[ports.demo]\ngroups = [\"nobody-has-this\"]\ndevice = \"@DIR@/dev/demo\"\n");
    rig.apply();
    let mut late = Client::start(rig.ssh(&["-T", "-o", &path, "-o", "ProxyCommand=false", "demo@127.0.0.1"]));
    late.ends_with(1);
    assert_eq!(late.aside(), "[not in any of the access groups of demo]\n");
    assert!(late.shown().is_empty());
    rig.wait_for_journal("demo from 127.0.0.1 denied: not in any of the access groups");
}

#[test]
fn a_session_takes_a_new_escape_and_a_new_timeout() {
    let rig = served("");
    let mut client = at_terminal(&rig);
    rig.configure(&format!("{PORT}escape = \"^Xx\"\n"));
    rig.apply();
    client.sees("[^Xx? is now the key for help]");
    client.type_in(b"\x05c.");
    rig.expect_at_device(b"\x05c.");
    client.type_in(b"\x18xw");
    client.sees("users attached to demo");
    rig.configure(&format!("{PORT}escape = \"none\"\ntimeout = 1\n"));
    rig.apply();
    client.sees("[escape commands are now off]");
    client.sees("closed: idle timeout");
    client.ends();
}

#[test]
fn low_latency_log_and_what_is_shown_change_without_a_new_open() {
    let rig = served("");
    let mut client = at_terminal(&rig);
    let settings =
        "low_latency = false\nreplay = 1\ndescription = \"rack 3\"\nlog = { file = \"other.log\" }\n";
    rig.configure(&format!("{PORT}{settings}"));
    rig.apply();
    rig.say(b"one\r\ntwo\r\n");
    client.sees("two");
    until("the other log", || {
        std::fs::read_to_string(rig.path("log/other.log")).ok().filter(|log| log.contains("< two\n"))
    });
    assert!(!rig.log_text().contains("two"), "{}", rig.log_text());
    let mut late = at_terminal(&rig);
    late.sees("two");
    let shown = String::from_utf8_lossy(&late.shown()).into_owned();
    assert!(shown.contains("[demo (rack 3) 9600 8N1") && !shown.contains("one"), "{shown}");
    assert_eq!(rig.journal().matches("demo opened").count(), 1, "{}", rig.journal());
}

#[test]
fn another_device_is_opened_under_the_sessions() {
    let mut rig = served("");
    let mut client = at_terminal(&rig);
    let before = rig.device();
    rig.plug();
    std::fs::rename(rig.path("dev/demo"), rig.path("dev/other")).unwrap();
    rig.configure("[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/other\"\nbaud = 19200\n");
    rig.apply();
    client.sees("[demo is now set to 19200 8N1]");
    rig.say(b"I am the other one\r\n");
    client.sees("I am the other one");
    rig.wait_for_log("# the device is now ");
    client.type_in("hello");
    rig.expect_at_device(b"hello");
    drop(before);
}

#[test]
fn the_scrollback_grows_and_shrinks_and_nothing_is_lost_by_it() {
    let mut rig = served("scrollback = \"64K\"\n");
    let mut client = at_terminal(&rig);
    rig.say(b"first\r\n");
    client.sees("first");
    for (size, words, stored) in [("1M", "second", "ring-resized"), ("64K", "third", "ring")] {
        rig.configure(&format!("{PORT}scrollback = {size:?}\n"));
        rig.apply();
        rig.say(format!("{words}\r\n").as_bytes());
        client.sees(words);
        assert_eq!(rig.stored(), ["intake", stored, "tty"]);
    }
    rig.wait_for_log("< third\n");
    // And at a start with a stored ring of another size.
    rig.configure(&format!("{PORT}scrollback = \"256K\"\n"));
    rig.kill();
    rig.say(b"fourth\r\n");
    rig.start();
    let mut late = at_terminal(&rig);
    for words in ["first", "second", "third", "fourth"] {
        late.sees(words);
    }
    let log = rig.wait_for_log("< fourth\n");
    let records: Vec<_> =
        log.lines().filter_map(|line| line.split_once(" < ")).map(|(_, said)| said).collect();
    assert_eq!(records, ["first", "second", "third", "fourth"]);
}

#[test]
fn a_session_after_a_kill_gets_a_notice_of_the_restart() {
    let mut rig = served("");
    rig.wait_for_status("9600 8N1");
    rig.kill();
    rig.start();
    let mut client = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1"]));
    client.sees("this port was restarted ");
    client.sees("for the reason see journalctl -u console@demo]");
}
