//! Data that a port sends by itself: breaks that are texts, keepalives, and the steps after a connect, to sources and to ttys.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::rig::{Rig, until};
use super::{accept_tcp, attach, bench, tcp_bench};
use crate::dialer::Dialers;

fn reads(far: &mut impl Read, wanted: &str) {
    let mut read = vec![0; wanted.len()];
    far.read_exact(&mut read).unwrap();
    assert_eq!(String::from_utf8_lossy(&read), wanted);
}

fn by_ssh(rig: &Rig, words: &[&str]) -> (bool, String) {
    let mut ssh = rig.ssh(&["demo@127.0.0.1"]);
    let output = ssh.args(words).stdin(Stdio::null()).output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_break_is_a_text_and_others_have_names() {
    let breaks = "break = '\\r~B'\nbreaks = ['sysrq=x\\d{300}y', '1=one', 'none=\\z']\n";
    let (mut rig, _dialers, _listener, mut far) = tcp_bench(breaks);
    assert_eq!(by_ssh(&rig, &["break", "--force"]), (true, String::new()));
    reads(&mut far, "\r~B");
    rig.wait_for_journal("demo sends the break \\r~B");
    assert_eq!(by_ssh(&rig, &["break", "--force", "sysrq"]), (true, String::new()));
    reads(&mut far, "xy");
    // A source of plain bytes has no serial break.
    let (done, why) = by_ssh(&rig, &["break", "--force", "none"]);
    assert!(!done && why.contains("carries plain bytes"), "{why}");
    let (done, why) = by_ssh(&rig, &["break", "--force", "sun"]);
    assert!(!done && why.contains("demo has no break sun: its breaks are sysrq, 1, none"), "{why}");
    // The same for administrators, by the local socket.
    let demo = "demo".parse().unwrap();
    let named = |name: &str| {
        consoleserver::attach::client::send_named_break(
            &rig.path("run"),
            &demo,
            &name.parse().unwrap(),
            "alice",
        )
    };
    named("1").unwrap();
    reads(&mut far, "one");
    assert!(named("sun").unwrap_err().to_string().contains("has no break sun"));

    let mut client = attach(&rig);
    client.sees("for help]");
    client.type_in("\x05cl1");
    reads(&mut far, "one");
    client.type_in("\x05cls");
    let mut byte = [0];
    far.read_exact(&mut byte).unwrap();
    let x = Instant::now();
    far.read_exact(&mut byte).unwrap();
    assert!(x.elapsed() > Duration::from_millis(200), "a delay between x and y: {:?}", x.elapsed());
    client.type_in("\x05cl0");
    reads(&mut far, "\r~B");
    client.type_in("\x05clq");
    client.sees("^Eclq is not a break of this port; ^Ecl? lists them");
    client.type_in("\x05cl?");
    client.sees("^Ecl0 500 ms \\r~B");
    client.sees("^Ecls sysrq x\\d{300}y");
    assert!(rig.stop().success());
}

#[test]
fn a_break_that_is_a_text_reaches_a_tty_in_order_and_is_logged_as_input() {
    let mut rig = Rig::new("log = { input = true }\nbreak = '#.\\z'\n");
    rig.serve_logins(true);
    rig.start_plugged();
    let mut client = attach(&rig);
    client.sees("for help]");
    client.type_in("before\x05cl0after");
    let mut device = rig.device();
    reads(&mut device, "before#.after");
    let log = rig.wait_for_log("#.");
    assert!(log.find("before").unwrap() < log.find("#.").unwrap(), "{log}");
    assert!(rig.stop().success());
}

#[test]
fn a_keepalive_is_sent_after_an_interval_without_a_byte() {
    let (mut rig, _dialers, _listener, mut far) =
        tcp_bench("keepalive = { interval = \"1s\", text = '^@' }\n");
    // Each byte of the far end begins the interval again.
    for _ in 0..4 {
        far.write_all(b".").unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    let last = Instant::now();
    far.write_all(b".").unwrap();
    for count in 1..3 {
        reads(&mut far, "\0");
        assert!(last.elapsed() >= Duration::from_millis(950) * count, "{:?}", last.elapsed());
    }
    assert!(rig.stop().success());
}

const LOGIN: &str = r##"log = { input = true }
initial = [{ send = '\r' }, { expect = "login: $", send = 'admin\r' }, { expect = "assword: $", credential = "bmc" }, { expect = "# $" }]
"##;
const SECRET: &str = "correct horse battery";

fn give_secret(rig: &Rig) {
    fs::create_dir_all(rig.path("credentials")).unwrap();
    fs::write(rig.path("credentials/bmc"), format!("{SECRET}\n")).unwrap();
}

fn login_bench(settings: &str) -> (Rig, Dialers, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("tcp:{}", listener.local_addr().unwrap());
    let mut rig = bench(&source, settings);
    give_secret(&rig);
    let dialers = Dialers::new(&rig.path("run"), &[&source]);
    rig.serve_logins(true);
    rig.start();
    (rig, dialers, listener)
}

/// The far end's side of a login up to the password.
fn asks(far: &mut (impl Read + Write)) {
    reads(far, "\r");
    far.write_all(b"\r\nterminal server\r\nlogin: ").unwrap();
    reads(far, "admin\r");
    far.write_all(b"admin\r\nPassword: ").unwrap();
    reads(far, &format!("{SECRET}\r"));
}

fn no_secret(rig: &Rig) {
    for (what, text) in [("the log", rig.log_text()), ("the journal", rig.journal())] {
        assert!(!text.contains("horse"), "{what}: {text}");
    }
}

#[test]
fn the_initial_steps_log_in_after_each_connect_and_not_after_a_restart() {
    let (mut rig, _dialers, listener) = login_bench(LOGIN);
    let mut far = accept_tcp(&listener);
    asks(&mut far);
    far.write_all(b"\r\n# ").unwrap();
    let log = rig.wait_for_log("initial steps done");
    assert!(log.contains("admin"), "a text that is not a secret is logged as input: {log}");
    // The connection survives a kill: nothing is typed into it.
    rig.kill();
    rig.start();
    rig.wait_for_status("connected to tcp");
    let mut client = attach(&rig);
    client.type_in("x");
    reads(&mut far, "x");
    // A new connection begins again.
    drop(far);
    let mut far = accept_tcp(&listener);
    asks(&mut far);
    far.write_all(b"\r\n# ").unwrap();
    until("the second login", || (rig.log_text().matches("initial steps done").count() == 2).then_some(()));
    no_secret(&rig);
    assert!(rig.stop().success());
}

#[test]
fn a_refused_login_of_the_initial_steps_is_one_sentence_and_is_tried_three_times() {
    let (mut rig, _dialers, listener) = login_bench(LOGIN);
    let refuse = |mut far: TcpStream| {
        asks(&mut far);
        // A far end that echoes a password must not bring it into the journal.
        far.write_all(format!("\r\nLogin incorrect for {SECRET}\r\n").as_bytes()).unwrap();
    };
    for _ in 0..3 {
        refuse(accept_tcp(&listener));
    }
    let journal = rig.wait_for_journal("not tried again after 3 failures");
    let sentence = "the initial steps failed at step 4 of 4: the line was closed; the device's last line: \"Login incorrect for ***\"";
    assert_eq!(journal.matches(sentence).count(), 3, "{journal}");
    assert!(!journal.contains("horse"), "{journal}");
    rig.wait_for_log("the initial steps failed at step 4 of 4");
    // The source is still connected, and nothing is sent.
    let mut far = accept_tcp(&listener);
    let status = rig.wait_for_status("connected to tcp");
    assert!(status.contains("not tried again after 3 failures") || !status.contains("initial"), "{status}");
    rig.wait_for_status("the initial steps were not tried again after 3 failures");
    let mut client = attach(&rig);
    client.type_in("x");
    reads(&mut far, "x");
    // A reload forgets the failures.
    rig.apply();
    drop(far);
    asks(&mut accept_tcp(&listener));
    assert!(rig.stop().success());
}

#[test]
fn a_step_that_waits_in_vain_and_a_credential_that_is_missing_are_reported() {
    let steps = "initial = [{ expect = \"login:\", timeout = \"1s\" }]\n";
    let (mut rig, _dialers, _listener, mut far) = tcp_bench(steps);
    far.write_all(b"\r\nbooting\r\n").unwrap();
    let why = "the initial steps failed at step 1 of 1: no match for \"login:\" within 1 s";
    let status = rig.wait_for_status(why);
    assert!(status.contains("last line: \"booting\""), "{status}");
    rig.wait_for_log(why);
    assert!(rig.stop().success());

    let (mut rig, _dialers, _listener, _far) = tcp_bench("initial = [{ credential = \"other\" }]\n");
    rig.wait_for_status(
        "the initial steps failed at step 1 of 1: there is no credential other: LoadCredential=other:/PATH",
    );
    assert!(rig.stop().success());
}

#[test]
fn a_tty_has_initial_steps_each_time_it_is_plugged_in() {
    let mut rig = Rig::new(LOGIN);
    give_secret(&rig);
    rig.start_plugged();
    for count in 1..3 {
        let mut device = rig.device();
        asks(&mut device);
        device.write_all(b"\r\n# ").unwrap();
        until("the login", || (rig.log_text().matches("initial steps done").count() == count).then_some(()));
        // The last descriptor of that end: then the tty hangs up.
        drop(device);
        rig.unplug();
        rig.wait_for_status("unplugged");
        if count == 1 {
            rig.plug();
            rig.wait_for_status("8N1");
        }
    }
    no_secret(&rig);
    assert!(rig.stop().success());
}
