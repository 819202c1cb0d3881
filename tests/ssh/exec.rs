//! Commands at the port, `ssh -p 8023 host log -n 5`: their output, their exit status, and their limits.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::rig::{Rig, sha256, until};
use crate::{at_terminal, served};

fn command(rig: &Rig, words: &[&str]) -> Command {
    let mut ssh = rig.ssh(&["demo@127.0.0.1"]);
    ssh.args(words).stdin(Stdio::null());
    ssh
}

fn ask(rig: &Rig, words: &[&str]) -> Output {
    command(rig, words).output().unwrap()
}

/// Standard output of a command that exits with this code and without standard error.
#[track_caller]
fn answer(rig: &Rig, words: &[&str], code: i32) -> String {
    let Output { status, stdout, stderr } = ask(rig, words);
    assert_eq!(status.code(), Some(code), "{words:?}: {}", String::from_utf8_lossy(&stderr));
    assert_eq!(String::from_utf8_lossy(&stderr), "", "{words:?}");
    String::from_utf8(stdout).unwrap()
}

/// Standard error of a command that exits with this code.
#[track_caller]
fn complaint(rig: &Rig, words: &[&str], code: i32) -> String {
    let Output { status, stderr, .. } = ask(rig, words);
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{words:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{words:?}: {said}");
    said
}

fn without_times(log: &str) -> Vec<&str> {
    log.lines().map(|line| line.split_once(' ').unwrap().1).collect()
}

#[test]
fn the_log_is_shown_and_searched() {
    let rig = served("");
    std::fs::write(
        rig.path("log/console.log.1"),
        "2026-11-01T00:00:00+00:00 < kernel panic\n2026-11-01T00:00:01+00:00 < end\n",
    )
    .unwrap();
    rig.say(b"one\r\ntwo\r\nKernel PANIC 3\r\n");
    rig.wait_for_log("PANIC");
    assert_eq!(without_times(&answer(&rig, &["log", "-n", "2"], 0)), ["< two", "< Kernel PANIC 3"]);
    let recent = answer(&rig, &["log", "--since", "10m"], 0);
    assert_eq!(without_times(&recent), ["< one", "< two", "< Kernel PANIC 3"]);
    assert_eq!(without_times(&answer(&rig, &["log", "--since", "2026-11-01T00:00:01Z"], 0))[0], "< end");
    assert_eq!(
        without_times(&answer(&rig, &["grep", "-i", "'kernel panic'"], 0)),
        ["< kernel panic", "< Kernel PANIC 3"]
    );
    assert_eq!(
        without_times(&answer(&rig, &["grep", "-i", "--since", "1h", "kernel panic"], 0)),
        ["< Kernel PANIC 3"]
    );
    assert_eq!(answer(&rig, &["grep", r"PANIC\s\d{2}"], 1), "");
    assert!(complaint(&rig, &["grep", "a("], 2).contains("unclosed group"));
}

#[test]
fn the_log_is_shown_as_it_is_read_and_as_it_is() {
    let rig = served("");
    rig.say(b"[\x1b[0;32m  OK  \x1b[0m] Started\x1b[K\r\nlogin: rott\x08 \x08\x08\x08oot\r\n\xff\xe2\x80\xae\r\nend\r\n");
    rig.wait_for_log("< end");
    let read = ["< [  OK  ] Started", "< login: root", r"< \xff\u{202e}", "< end"];
    assert_eq!(without_times(&answer(&rig, &["log"], 0)), read);
    let all = answer(&rig, &["log", "-n", "all", "--raw"], 0);
    assert_eq!(all, rig.log_text(), "the file keeps what came");
    // Looked for is what is read.
    assert_eq!(without_times(&answer(&rig, &["grep", "'OK  \\] Started$'"], 0)), [read[0]]);
    assert_eq!(answer(&rig, &["grep", "'x1b'"], 1), "");
    let raw = answer(&rig, &["grep", "--raw", "'OK  \\] Started'"], 0);
    assert_eq!(without_times(&raw), [r"< [\x1b[0;32m  OK  \x1b[0m] Started\x1b[K"]);
    assert_eq!(without_times(&answer(&rig, &["grep", "--until", "now", "root"], 0)), [read[1]]);
    assert_eq!(answer(&rig, &["log", "--until", "yesterday"], 0), "");
    assert!(complaint(&rig, &["log", "-f", "--until", "now"], 2).contains("exclude each other"));
    let mut client = at_terminal(&rig);
    client.type_in("\x05c/ok  ] st\r");
    client.sees("< [  OK  ] Started]\r\n");
}

#[test]
fn unreadable_files_of_a_log_are_reported_and_set_the_exit_code() {
    let rig = served("");
    rig.say(b"here\r\n");
    rig.wait_for_log("here");
    std::fs::write(rig.path("log/console.log.2.xz"), "\u{fd}7zXZ").unwrap();
    let why = "demo: console.log.2.xz is compressed by xz and was skipped: decompress it with unxz\n";
    for words in [&["log", "-n", "all"][..], &["log", "--since", "1d"], &["grep", "here"]] {
        let Output { status, stdout, stderr } = ask(&rig, words);
        assert_eq!(String::from_utf8_lossy(&stderr), why, "{words:?}");
        assert!(String::from_utf8_lossy(&stdout).ends_with(" < here\n"), "{words:?}: what is there is shown");
        assert_eq!(status.code(), Some(1), "{words:?}");
    }
    let local = rig.consolectl(&["grep", "here"]).output().unwrap();
    assert_eq!((local.status.code(), String::from_utf8_lossy(&local.stderr).as_ref()), (Some(1), why));
    assert!(String::from_utf8_lossy(&local.stdout).ends_with(" < here\n"));
    assert!(answer(&rig, &["log"], 0).ends_with(" < here\n"), "the last lines do not need it");
}

#[test]
fn a_log_is_followed_until_the_client_leaves() {
    let rig = served("");
    let mut follower = Client::start(command(&rig, &["log", "-f", "-n", "0"]));
    until("it to follow", || {
        rig.say(b"live\r\n");
        (!follower.shown().is_empty()).then_some(())
    });
    follower.sees("< live\n");
    // At a terminal Control-C leaves, and lines begin at its edge.
    let mut ssh = rig.ssh(&["-tt", "demo@127.0.0.1"]);
    ssh.arg("log -f -n 1");
    let mut follower = Client::start(ssh);
    follower.sees("< live\r\n");
    follower.type_in("x\x03");
    follower.ends_with(130);
}

#[test]
fn status_prints_the_state_and_its_exit_code_is_that_of_the_tty() {
    let mut rig = served("baud = 115200");
    let status = answer(&rig, &["status"], 0);
    for row in ["state    open\n", "settings 115200 8N1\n", "bytes    0 in, 0 out\n", "sessions 0\n"] {
        assert!(status.contains(row), "{row:?} in {status}");
    }
    let _stays = at_terminal(&rig);
    rig.unplug();
    rig.wait_for_status("unplugged");
    assert!(answer(&rig, &["status"], 1).contains("state    unplugged since "));
}

#[test]
fn something_is_sent_and_its_answer_awaited() {
    let rig = served("");
    let device = rig.device();
    let answering = std::thread::spawn(move || {
        let (mut device, mut heard) = (device, Vec::new());
        while !heard.ends_with(b"\r") {
            let mut byte = [0];
            device.read_exact(&mut byte).unwrap();
            heard.push(byte[0]);
        }
        device.write_all(b"show version\r\nVersion 4\r\nswitch# and more").unwrap();
        heard
    });
    let shown = answer(&rig, &["send", "--expect", "'^switch#'", r"'show version\r'"], 0);
    assert_eq!(shown, "show version\r\nVersion 4\r\nswitch#");
    assert_eq!(answering.join().unwrap(), b"show version\r");
    let log = rig.wait_for_log("detached");
    assert!(log.contains("demo (127.0.0.1) attached, read-write"), "{log}");
    // Without --expect the command ends once the line has taken the text.
    assert_eq!(answer(&rig, &["send", r"\x03\e[A"], 0), "");
    rig.expect_at_device(b"\x03\x1b[A");
    assert!(complaint(&rig, &["send", r"a\q"], 2).contains(r#"invalid escape sequence "\\q""#));
}

#[test]
fn expect_matches_or_times_out() {
    let rig = served("");
    let mut waiting = Client::start(command(&rig, &["expect", "login: $", "--timeout", "60"]));
    // `expect` sees output from then on.
    until("it to wait", || {
        rig.say(b".");
        (!waiting.shown().is_empty()).then_some(())
    });
    rig.say(b"\r\nlog");
    rig.say(b"in: ");
    waiting.sees("login: ");
    waiting.ends_with(0);
    let began = Instant::now();
    let why = complaint(&rig, &["expect", "--timeout", "1", "never"], 1);
    assert_eq!(why, "no match for \"never\" within 1 s\n");
    assert!(began.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_costly_pattern_delays_no_other_session() {
    let rig = served("");
    let pattern = r"'(?s)[ -~].{600}[\x80-\x90]'";
    let mut waiting = Client::start(command(&rig, &["expect", "--timeout", "60", pattern]));
    until("it to wait", || {
        rig.say(b".");
        (!waiting.shown().is_empty()).then_some(())
    });
    rig.say(&[b'x'; 16 * 1024]);
    let mut client = at_terminal(&rig);
    // Measures processor time, since other tests run beside this one.
    let spent = rig.processor();
    for key in 0..20 {
        rig.say(format!("key {key};").as_bytes());
        client.sees(&format!("key {key};"));
    }
    // A search at each key, before the key is echoed, would take at least 4 s.
    let spent = rig.processor() - spent;
    assert!(spent < Duration::from_secs(2), "{spent:?}");
    assert!(!waiting.has_ended());
}

#[test]
fn a_break_has_the_requested_length() {
    let rig = served("");
    let mut watcher = at_terminal(&rig);
    assert!(complaint(&rig, &["break"], 1).contains("demo (127.0.0.1) has write access; nothing was sent"));
    watcher.type_in("\x05cs");
    watcher.sees("you are read-only");
    assert_eq!(answer(&rig, &["break", "250"], 0), "");
    watcher.sees("break of 250 ms by demo");
    rig.wait_for_journal("demo sends a break of 250 ms");
    assert!(complaint(&rig, &["break", "NEVER"], 2).contains("invalid break \"NEVER\""));
}

#[test]
fn send_fails_while_another_client_has_write_access_unless_forced() {
    let rig = served("");
    let mut writer = at_terminal(&rig);
    let why = complaint(&rig, &["send", r"reboot\r"], 1);
    assert!(why.contains("demo (127.0.0.1) has write access; nothing was sent"), "{why}");
    assert_eq!(answer(&rig, &["send", "--force", "x"], 0), "");
    rig.expect_at_device(b"x");
    writer.sees("demo (127.0.0.1) took over; you are now read-only");
}

#[test]
fn errors_are_reported_in_one_line() {
    let mut rig = served("");
    let unknown = complaint(&rig, &["reboot", "now"], 2);
    assert_eq!(unknown, "unknown command \"reboot\"; help lists the commands\n");
    let help = answer(&rig, &["help"], 0);
    for verb in ["log", "grep", "status", "break", "send", "expect"] {
        assert!(help.lines().any(|line| line.starts_with(verb)), "{verb} in {help}");
    }
    let _stays = at_terminal(&rig);
    rig.unplug();
    rig.wait_for_status("unplugged");
    assert!(complaint(&rig, &["send", "x"], 1).starts_with("demo: unplugged since "));
}

#[test]
fn a_pipe_is_eight_bits_wide_both_ways_and_ends_when_all_was_answered() {
    const BYTES: usize = 10_000_000;
    let rig = served("log = \"raw\"\nscrollback = \"1M\"");
    // A device that echoes all its input.
    let (mut from, mut to) = (rig.device(), rig.device());
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    let mut random = vec![0; BYTES];
    File::open("/dev/urandom").unwrap().read_exact(&mut random).unwrap();
    std::fs::write(rig.path("random"), &random).unwrap();
    let mut ssh = rig.ssh(&["-T", "demo@127.0.0.1"]);
    ssh.stdin(File::open(rig.path("random")).unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Output { status, stdout, stderr } = ssh.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&stderr), "");
    assert!(status.success(), "{status}");
    assert_eq!((stdout.len(), sha256(&stdout)), (BYTES, sha256(&random)));
    assert_eq!(sha256(&rig.log()), sha256(&random), "the log");
}
