//! How sessions end, and the process.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::bench::{Bench, is_gone};
use crate::client::Client;
use crate::rig::until;

fn pid_of(client: &mut Client) -> String {
    client.type_in("pid\r");
    client.sees("pid ");
    let pid = client.sees("\r\n");
    assert!(std::path::Path::new("/proc").join(&pid).exists(), "{pid:?}");
    pid
}

#[test]
fn a_client_that_is_gone_takes_its_session_with_it() {
    let bench = Bench::new();
    let mut client = bench.at_terminal();
    let pid = pid_of(&mut client);
    client.signal(Signal::SIGKILL);
    is_gone(&pid);
    bench.wait_for_journal("session ended, signal 1");
    bench.helpers_have_ended();
}

#[test]
fn a_program_that_does_not_hang_up_is_killed() {
    let bench = Bench::new();
    let mut client = bench.command("stubborn");
    let pid = client_pid(&mut client);
    client.signal(Signal::SIGKILL);
    is_gone(&pid);
    bench.wait_for_journal("session ended, signal 9");
    bench.helpers_have_ended();
}

fn client_pid(client: &mut Client) -> String {
    client.sees("pid ");
    client.sees("\n")
}

/// Waits until a count has been constant for a second.
fn settled(what: &str, count: impl Fn() -> usize) -> usize {
    let mut last = (count(), Instant::now());
    until(what, || {
        let now = count();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_secs(1)).then_some(now)
    })
}

const FLOOD: usize = 50_000_000;

#[test]
fn a_client_that_does_not_read_stops_the_program_and_can_leave() {
    let bench = Bench::new();
    let mut client = bench.at_terminal();
    let pid = pid_of(&mut client);
    let before = bench.private_memory();
    client.type_in(format!("flood {FLOOD}\r"));
    until("some of the flood", || (client.shown().len() > 100_000).then_some(()));
    client.signal(Signal::SIGSTOP);
    let written = settled("the program to stop", || {
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
        io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
    });
    assert!(written < FLOOD / 2, "it has written {written} bytes");
    let grown = bench.private_memory().saturating_sub(before);
    assert!(grown < 1024, "console-cli has grown by {grown} kB");
    client.signal(Signal::SIGKILL);
    is_gone(&pid);
    bench.helpers_have_ended();
}

#[test]
fn a_program_that_does_not_read_stops_the_client() {
    let bench = Bench::new();
    // A client that stays keeps console-cli running, whose exit would end every session.
    let stays = bench.at_terminal();
    let mut client = bench.command("stubborn");
    let pid = client_pid(&mut client);
    let before = bench.private_memory();
    let mut input = client.take_input();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let typing = std::thread::spawn(move || {
        // Stops when the client ends.
        while count.load(Ordering::Relaxed) < FLOOD && input.write_all(&[b'x'; 10_000]).is_ok() {
            count.fetch_add(10_000, Ordering::Relaxed);
        }
    });
    let sent = settled("the client to stop", || sent.load(Ordering::Relaxed));
    assert!(0 < sent && sent < FLOOD / 2, "it has sent {sent} bytes");
    let grown = bench.private_memory().saturating_sub(before);
    assert!(grown < 1024, "console-cli has grown by {grown} kB");
    client.signal(Signal::SIGKILL);
    typing.join().unwrap();
    is_gone(&pid);
    drop(stays);
    bench.helpers_have_ended();
}

/// OpenSSH disconnects after two unanswered keepalives, and its log shows those that were answered.
#[test]
fn a_program_that_does_not_read_costs_no_session() {
    let bench = Bench::new();
    let mut client = Client::start(bench.ssh(&[
        "-o",
        "ServerAliveInterval=1",
        "-o",
        "ServerAliveCountMax=1",
        "-o",
        "RekeyLimit=16K",
        "-vvv",
        "-T",
        "alice@127.0.0.1",
        "stubborn",
    ]));
    client_pid(&mut client);
    let mut input = client.take_input();
    let typing = std::thread::spawn(move || input.write_all(&vec![b'x'; FLOOD]).is_err());
    let count = |what: &str| client.aside().matches(what).count();
    until("keepalives to be answered", || (count("receive packet: type 82") >= 6).then_some(()));
    assert!(count("SSH2_MSG_NEWKEYS received") > 1, "no key exchange after the first");
    assert!(!client.has_ended() && !typing.is_finished());
    client.signal(Signal::SIGKILL);
    assert!(typing.join().unwrap());
}

#[test]
fn when_it_stops_all_sessions_get_the_reason() {
    let mut bench = Bench::new();
    let mut client = bench.at_terminal();
    let pid = pid_of(&mut client);
    let mut piped = bench.command("stubborn");
    let stubborn = client_pid(&mut piped);
    bench.signal(Signal::SIGTERM);
    client.sees("console-cli is stopping\r\n");
    client.ends_with(1);
    piped.ends_with(1);
    assert_eq!(piped.aside(), "console-cli is stopping\n");
    assert!(bench.ends().success());
    is_gone(&pid);
    is_gone(&stubborn);
    bench.helpers_have_ended();
}

#[test]
fn without_clients_it_exits_and_the_next_client_is_served() {
    let mut bench = Bench::new();
    bench.command("say hello").ends_with(0);
    assert!(bench.ends().success());
    // Its listener is systemd's, which starts it again.
    let mut client = bench.command("say hello");
    bench.start();
    client.ends_with(0);
}

/// The bench's login helper has been started with some signals ignored.
#[test]
fn programs_of_users_ignore_no_signal() {
    let bench = Bench::new();
    let mut client = bench.command("ignored");
    client.ends_with(0);
    assert_eq!(String::from_utf8_lossy(&client.shown()), "ignored: \n");
}

#[test]
fn without_host_keys_clients_get_the_reason() {
    let mut bench = Bench::new();
    bench.signal(Signal::SIGTERM);
    bench.ends();
    std::fs::remove_dir_all(bench.path("credentials")).unwrap();
    bench.start();
    // A silent client is notified late and does not delay the others: otherwise it would have left before the last is notified.
    let silent = || TcpStream::connect(("127.0.0.1", bench.tcp_port())).unwrap();
    let _silent = [silent(), silent(), silent()];
    let mut client = bench.command("say hello");
    client.ends_with(255);
    assert!(client.aside().contains("SSH to the admin CLI is not available now"), "{}", client.aside());
    bench.wait_for_journal("SSH is not available: host keys: ");
    assert!(bench.ends().success());
}

#[test]
fn started_by_hand_it_reports_how_to_start_it() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_console-cli"));
    let output = command.env_remove("LISTEN_FDS").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("do not start this program by hand"), "{said}");
}
