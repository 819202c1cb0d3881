//! A port without a tty: the real `console-port` and the real `console-dial`, with far ends that count how often they are connected.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[path = "source/back.rs"]
mod back;
#[path = "support/client.rs"]
mod client;
#[path = "support/dialer.rs"]
mod dialer;
#[path = "source/peers.rs"]
mod peers;
#[path = "source/programs.rs"]
mod programs;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/ser2net.rs"]
mod ser2net;
#[path = "source/steps.rs"]
mod steps;

use client::Client;
use dialer::Dialers;
use rig::{Rig, TIMEOUT, until};
use ser2net::Ser2net;

/// A user at the console, by OpenSSH.
fn attach(rig: &Rig) -> Client {
    Client::start(rig.ssh(&["-tt", "demo@127.0.0.1"]))
}

/// A bench whose port has this source.
fn bench(source: &str, settings: &str) -> Rig {
    Rig::with_config(&format!("[ports.demo]\ngroups = [\"*\"]\nsource = \"{source}\"\n{settings}\n"))
}

/// Numbered lines, so that a loss or a double shows where.
fn lines(from: usize, to: usize) -> Vec<u8> {
    (from..to).flat_map(|number| format!("line {number:06} of the far end\r\n").into_bytes()).collect()
}

fn accept_tcp(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let stream = until("a connection", || listener.accept().ok()).0;
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

fn accept_unix(listener: &UnixListener) -> UnixStream {
    listener.set_nonblocking(true).unwrap();
    let stream = until("a connection", || listener.accept().ok()).0;
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

fn tcp_bench(settings: &str) -> (Rig, Dialers, TcpListener, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("tcp:{}", listener.local_addr().unwrap());
    let mut rig = bench(&source, settings);
    let dialers = Dialers::new(&rig.path("run"), &[&source]);
    rig.serve_logins(true);
    rig.start();
    let far = accept_tcp(&listener);
    rig.wait_for_status(&format!("connected to {source}"));
    (rig, dialers, listener, far)
}

/// A bench whose port connects on demand, before that.
fn on_demand_bench() -> (Rig, Dialers, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let source = format!("tcp:{}", listener.local_addr().unwrap());
    let mut rig = bench(&source, "on_demand = true\n");
    rig.serve_logins(true);
    let dialers = Dialers::new(&rig.path("run"), &[&source]);
    rig.start();
    rig.wait_for_status("disconnected since");
    (rig, dialers, listener)
}

#[test]
fn bytes_go_both_ways_and_are_logged() {
    let (mut rig, _dialers, _listener, mut far) = tcp_bench("");
    far.write_all(b"login: \r\nready\r\n").unwrap();
    rig.wait_for_log("ready");
    let mut client = attach(&rig);
    client.sees("ready");
    client.type_in("root\r");
    let mut typed = [0; 5];
    far.read_exact(&mut typed).unwrap();
    assert_eq!(&typed, b"root\r");
    assert!(rig.stop().success());
}

#[test]
fn a_killed_port_finds_the_same_connection_and_every_byte() {
    let (mut rig, dialers, listener, mut far) = tcp_bench("log = \"raw\"\n");
    let everything = lines(0, 20_000);
    let mut sender = far.try_clone().unwrap();
    let sent = everything.clone();
    let sending = std::thread::spawn(move || sender.write_all(&sent).unwrap());
    for part in 1..6 {
        until("the log to grow", || (rig.log().len() >= part * everything.len() / 8).then_some(()));
        rig.kill();
        assert_eq!(rig.stored(), ["dialer", "intake", "ring", "stream"]);
        rig.start();
    }
    sending.join().unwrap();
    until("the log", || (rig.log().len() >= everything.len()).then_some(()));
    assert!(rig.log() == everything);
    // It still carries bytes the other way.
    let mut client = attach(&rig);
    client.type_in("x");
    let mut typed = [0];
    far.read_exact(&mut typed).unwrap();
    assert!(listener.accept().is_err(), "the far end was connected once");
    assert_eq!(dialers.started.load(Ordering::Relaxed), 1);
    assert!(rig.stop().success());
}

/// The far end sends and closes while no process of the port runs: the next process reads these bytes.
#[test]
fn the_last_bytes_of_a_far_end_that_closes_while_the_port_is_down_are_read() {
    let (mut rig, _dialers, listener, mut far) = tcp_bench("log = \"raw\"\n");
    rig.kill();
    let everything = lines(0, 1000);
    far.write_all(&everything).unwrap();
    drop(far);
    rig.start();
    until("the log", || (rig.log().len() >= everything.len()).then_some(()));
    assert!(rig.log() == everything);
    accept_tcp(&listener);
    assert!(rig.stop().success());
}

#[test]
fn a_unix_socket_that_is_back_is_connected_at_once_and_sessions_stay() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("node17");
    let listener = UnixListener::bind(&path).unwrap();
    let source = format!("unix:{}", path.display());
    let mut rig = bench(&source, "");
    let _dialers = Dialers::new(&rig.path("run"), &[&source]);
    rig.serve_logins(true);
    rig.start();
    let mut far = accept_unix(&listener);
    far.write_all(b"first\r\n").unwrap();
    let mut client = attach(&rig);
    client.sees("first");
    drop((far, listener));
    fs::remove_file(&path).unwrap();
    client.sees("disconnected");
    // Beyond the first waits, so that the back-off alone would be late.
    rig.wait_for_status("there is no socket at");
    std::thread::sleep(Duration::from_secs(4));
    let back = Instant::now();
    let listener = UnixListener::bind(&path).unwrap();
    let mut far = accept_unix(&listener);
    let waited = back.elapsed();
    assert!(waited < Duration::from_millis(500), "{waited:?}");
    client.sees("reconnected");
    far.write_all(b"second\r\n").unwrap();
    client.sees("second");
    let log = rig.wait_for_log("second");
    for mark in ["demo disconnected: the far end has closed the connection", "demo reconnected"] {
        assert!(log.contains(mark), "{log}");
    }
    assert!(rig.stop().success());
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// All 256 values both ways, which telnet would change outside of binary transmission.
#[test]
fn telnet_and_rfc2217_of_ser2net_carry_every_byte_both_ways() {
    for (kind, accepter) in [("telnet", "telnet"), ("rfc2217", "telnet(rfc2217)")] {
        let server = Ser2net::start(accepter);
        let source = format!("{kind}:127.0.0.1:{}", server.port);
        let mut rig = bench(&source, "log = \"raw\"\nbaud = 115200\n");
        rig.serve_logins(true);
        let _dialers = Dialers::new(&rig.path("run"), &[&source]);
        rig.start();
        rig.wait_for_status(&format!("connected to {source}"));
        let all: Vec<u8> = (0..=255).cycle().take(2560).collect();
        let mut line = server.line.try_clone().unwrap();
        line.write_all(&all).unwrap();
        until("the log", || (rig.log().len() >= all.len()).then_some(()));
        assert!(rig.log() == all, "{kind}: {:?}", String::from_utf8_lossy(&rig.log()));
        let mut sending = rig.ssh(&["-T", "demo@127.0.0.1"]).stdin(Stdio::piped()).spawn().unwrap();
        sending.stdin.take().unwrap().write_all(&all).unwrap();
        let mut arrived = vec![0; all.len()];
        line.read_exact(&mut arrived).unwrap();
        assert!(arrived == all, "{kind}");
        assert!(sending.wait().unwrap().success());
        if kind == "rfc2217" {
            until("115200 baud at the line", || (server.rate() == 115_200).then_some(()));
            rig.configure(&format!(
                "[ports.demo]\ngroups = [\"*\"]\nsource = \"{source}\"\nlog = \"raw\"\nbaud = 300\n"
            ));
            rig.apply();
            until("300 baud at the line", || (server.rate() == 300).then_some(()));
        }
        assert!(rig.stop().success());
    }
}

#[test]
fn a_program_is_a_far_end_with_its_break_and_its_last_words() {
    let mut rig = bench("unit", "");
    rig.serve_logins(true);
    let script = "printf 'ready\\r\\n'; IFS= read -r line; printf 'got %s\\r\\n' \"$line\"; echo 'Error: no session' >&2; exit 3";
    let _dialers = Dialers::new(&rig.path("run"), &["--break", "brk\\n", "unit", "/bin/sh", "-c", script]);
    rig.start();
    rig.wait_for_status("connected to unit");
    rig.wait_for_log("ready");
    let mut client = attach(&rig);
    client.sees("ready");
    // Over SSH: `consolectl break` needs console-admin.
    let sent = rig.ssh(&["demo@127.0.0.1", "break", "--force"]).stdin(Stdio::null()).output().unwrap();
    assert!(sent.status.success(), "{sent:?}");
    rig.wait_for_log("got brk");
    client.sees("disconnected");
    client.sees("exit status 3 of sh: Error: no session");
    // The program is started again.
    client.sees("reconnected");
    assert!(rig.stop().success());
}

#[test]
fn a_refused_login_is_one_sentence_and_is_tried_three_times() {
    let place = tempfile::tempdir().unwrap();
    let count = place.path().join("count");
    let mut rig = bench("unit", "");
    let script =
        format!("echo x >>{}; echo 'admin@bmc: Permission denied (password).'; exit 255", count.display());
    let _dialers = Dialers::new(&rig.path("run"), &["unit", "/bin/sh", "-c", &script]);
    rig.start();
    let status = rig.wait_for_status("not retried after 3 rejected logins");
    assert!(
        status.contains("the far end rejected the login of sh: admin@bmc: Permission denied (password)."),
        "{status}"
    );
    assert_eq!(fs::read_to_string(&count).unwrap().lines().count(), 3);
    // Until the administrator reloads.
    rig.apply();
    until("another try", || (fs::read_to_string(&count).unwrap().lines().count() > 3).then_some(()));
    assert!(rig.stop().success());
}

#[test]
fn on_demand_connects_while_a_session_is_attached() {
    let (mut rig, _dialers, listener) = on_demand_bench();
    assert!(listener.accept().is_err());
    let mut client = attach(&rig);
    let mut far = accept_tcp(&listener);
    far.write_all(b"here\r\n").unwrap();
    client.sees("here");
    drop(client);
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).unwrap();
    rig.wait_for_status("disconnected since");
    assert!(rig.stop().success());
}

#[test]
fn a_dialer_that_is_killed_is_reported_and_started_again() {
    let (mut rig, dialers, listener, mut far) = tcp_bench("log = \"raw\"\n");
    far.write_all(b"before\n").unwrap();
    until("the log", || (rig.log() == b"before\n").then_some(()));
    dialers.kill();
    let mut again = accept_tcp(&listener);
    again.write_all(b"after\n").unwrap();
    until("the log", || (rig.log() == b"before\nafter\n").then_some(()));
    rig.wait_for_journal("console-source@demo.service failed");
    assert!(rig.stop().success());
}

#[test]
fn a_reload_moves_the_source() {
    let (mut rig, _dialers, _listener, mut far) = tcp_bench("");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("tcp:{}", other.local_addr().unwrap());
    // As after a daemon-reload, the next dialer has the new command line.
    rig.configure(&format!("[ports.demo]\ngroups = [\"*\"]\nsource = \"{source}\"\n"));
    rig.wait_for_status("connected to tcp");
    drop(_dialers);
    let _dialers = Dialers::new(&rig.path("run"), &[&source]);
    rig.apply();
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).unwrap();
    accept_tcp(&other);
    rig.wait_for_status(&format!("connected to {source}"));
    assert!(rig.stop().success());
}
