//! Several sessions on one connection, one after the other and at once, and connections without any: OpenSSH's `ControlPersist` and
//! `ControlMaster`, `ssh -MN`, and what paramiko and asyncssh do with one client.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use nix::sys::signal::Signal;
use russh::keys::PrivateKeyWithHashAlg;

use crate::client::Client;
use crate::limits::connect;
use crate::refused::connections;
use crate::rig::{Rig, until};
use crate::{at_terminal, served};

/// Sessions of one connection (`MaxSessions`, `man sshd_config`).
const MAX_SESSIONS: usize = 10;
/// And altogether (`ssh::channels`).
const EVER: usize = 1000;
/// Seats of one user (`seats`).
const OF_ONE_USER: usize = 64;

/// OpenSSH with a connection that it shares.
fn shared(rig: &Rig, options: &[&str]) -> Command {
    let path = format!("ControlPath={}", rig.path("control").display());
    let mut command = rig.ssh(&["-o", &path]);
    command.args(options);
    command
}

/// A connection without a session, which others share.
fn master(rig: &Rig) -> Client {
    let master = Client::start(shared(rig, &["-o", "ControlMaster=yes", "-N", "demo@127.0.0.1"]));
    until("the control socket", || rig.path("control").exists().then_some(()));
    master
}

/// A client that uses the shared connection, and cannot fall back to another one.
fn slave(rig: &Rig, options: &[&str]) -> Command {
    let mut command = shared(rig, &["-o", "ProxyCommand=false"]);
    command.args(options).arg("demo@127.0.0.1");
    command
}

fn at_shared_terminal(rig: &Rig) -> Client {
    let mut client = Client::start(slave(rig, &["-tt"]));
    client.sees("for help]");
    client
}

#[test]
fn twelve_times_ssh_with_control_persist_use_one_connection_without_a_word() {
    let rig = served("");
    rig.say(b"a line\r\n");
    rig.wait_for_log("a line");
    let again = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "demo@127.0.0.1", "log", "-n", "1"];
    for round in 1..=12 {
        let mut ssh = shared(&rig, &again);
        let Output { status, stdout, stderr } = ssh.stdin(Stdio::null()).output().unwrap();
        assert_eq!(
            (status.code(), String::from_utf8_lossy(&stderr).as_ref()),
            (Some(0), ""),
            "round {round}"
        );
        assert!(stdout.ends_with(b"a line\n"), "round {round}");
    }
    assert_eq!(connections(&rig), 1);
    let exit = shared(&rig, &["-O", "exit", "demo@127.0.0.1"]).output().unwrap();
    assert!(exit.status.success());
    until("its place to be free", || (connections(&rig) == 0).then_some(()));
}

#[test]
fn sessions_of_one_connection_attach_separately() {
    let rig = served("");
    let mut master = master(&rig);
    let mut first = at_shared_terminal(&rig);
    let mut second = at_shared_terminal(&rig);
    rig.wait_for_status("2 attached");
    first.type_in("typed");
    rig.expect_at_device(b"typed");
    second.type_in("\x05cf");
    second.sees("[you have write access]");
    first.sees("took over; you are now read-only]");
    second.type_in("taken");
    rig.expect_at_device(b"taken");
    rig.say(b"to both");
    first.sees("to both");
    second.sees("to both");
    // The end of one session does not end the other.
    second.type_in("\r");
    rig.expect_at_device(b"\r");
    second.type_in("~.");
    second.ends_with(255);
    rig.wait_for_status("1 attached");
    first.sees("detached; no client has write access]");
    first.type_in("\x05cf");
    first.sees("[you have write access]");
    first.type_in("\x05c.");
    first.ends_with(0);
    rig.wait_for_status("0 attached");
    let mut third = at_shared_terminal(&rig);
    third.type_in("again");
    rig.expect_at_device(b"again");
    assert_eq!(connections(&rig), 1);
    assert!(!master.has_ended());
}

#[test]
fn a_client_that_stops_reading_holds_up_no_other_session_of_its_connection() {
    let rig = served("replay = 0");
    let _master = master(&rig);
    // OpenSSH's shared connection itself writes to its client's pipe, which has no reader.
    let mut stopped = slave(&rig, &["-T"]);
    let mut stopped =
        stopped.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    rig.wait_for_status("1 attached");
    let mut other = at_shared_terminal(&rig);
    // More than the client's window of 2 MiB and its pipes hold.
    for _ in 0..64 {
        rig.say(&[b"0123456789abcdef".repeat(4096), b"\r\n".to_vec()].concat());
    }
    rig.say(b"that was all");
    other.sees("that was all");
    other.type_in("\x05cf");
    other.sees("[you have write access]");
    other.type_in("still heard");
    rig.expect_at_device(b"still heard");
    assert!(stopped.try_wait().unwrap().is_none());
    // A client that disconnects with all that unread leaves nothing behind.
    drop(stopped.stdout.take());
    stopped.kill().unwrap();
    stopped.wait().unwrap();
    // OpenSSH 9.2 closes the channel of a client that has ended when the connection has its next event.
    until("its session to end", || {
        rig.say(b".");
        rig.status().contains("1 attached").then_some(())
    });
    let mut another = at_shared_terminal(&rig);
    another.type_in("\x05c.");
    another.ends_with(0);
}

#[test]
fn one_connection_has_so_many_sessions_and_one_more_is_refused() {
    let rig = served("");
    let _master = master(&rig);
    let mut sessions: Vec<_> = (0..MAX_SESSIONS).map(|_| at_shared_terminal(&rig)).collect();
    let mut one_more = Client::start(slave(&rig, &["-tt"]));
    one_more.is_told("Session open refused by peer");
    assert_ne!(one_more.ends().code(), Some(0));
    rig.wait_for_journal("at most 10 sessions at once per connection");
    let mut leaves = sessions.pop().unwrap();
    leaves.type_in("\x05c.");
    leaves.ends_with(0);
    at_shared_terminal(&rig);
}

#[test]
fn a_connection_without_a_session_stays_until_its_seat_is_needed() {
    let rig = served("");
    let mut idle = Client::start(rig.ssh(&["-N", "demo@127.0.0.1"]));
    until("its connection", || (connections(&rig) == 1).then_some(()));
    until("its login", || rig.login_journal().contains("granted").then_some(()));
    let mut inside: Vec<_> = Vec::new();
    for _ in 1..OF_ONE_USER {
        inside.push(Client::start(rig.ssh(&["-T", "demo@127.0.0.1"])));
    }
    rig.wait_for_status(&format!("{} attached", OF_ONE_USER - 1));
    assert!(!idle.has_ended());
    at_terminal(&rig);
    idle.is_told("demo: connection closed: it has no session, and its slot is needed for another login");
    idle.ends_with(255);
    rig.wait_for_journal("idle, and its slot is needed for another login");
}

#[tokio::test]
async fn a_connection_has_a_thousand_sessions_and_what_they_cost_is_bounded() {
    let rig = served("");
    let mut client = connect(&rig).await;
    let key = Arc::new(russh::keys::load_secret_key(rig.path("key"), None).unwrap());
    let key = PrivateKeyWithHashAlg::new(key, None);
    assert!(client.authenticate_publickey("demo", key).await.unwrap().success());
    let memory = rig.private_memory();
    for session in 0..EVER {
        let mut channel =
            client.channel_open_session().await.unwrap_or_else(|why| panic!("{session}: {why}"));
        channel.exec(true, "nonsense").await.unwrap();
        while channel.wait().await.is_some() {}
    }
    let grown = rig.private_memory().saturating_sub(memory);
    eprintln!("{EVER} sessions on a connection: {grown} kB");
    assert!(grown < 8 * 1024, "{grown} kB");
    // The client is asked to log in again; the error is that message.
    let _ = client.await;
    until("the connection to end", || (connections(&rig) == 0).then_some(()));
}

#[test]
fn a_connection_that_is_kept_after_its_session_does_not_stay_the_writer() {
    let rig = served("");
    let mut master = master(&rig);
    let mut first = at_shared_terminal(&rig);
    // Killed, so that the kept connection closes the channel.
    first.signal(Signal::SIGKILL);
    until("the client to end", || first.has_ended().then_some(()));
    // OpenSSH closes its channel when it next receives data.
    rig.say(b"something");
    rig.wait_for_status("0 attached");
    let mut other = at_terminal(&rig);
    other.type_in("mine");
    rig.expect_at_device(b"mine");
    assert!(!master.has_ended());
}

#[test]
fn a_port_that_closes_tells_the_sessions_and_then_the_connection() {
    let mut rig = served("");
    let mut master = master(&rig);
    let mut first = at_shared_terminal(&rig);
    rig.signal(Signal::SIGTERM);
    first.sees("[console@demo is stopping]");
    first.ends_with(1);
    master.ends();
    rig.wait();
}

fn python(rig: &Rig, program: &str, arguments: &[&str]) -> String {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(program);
    let mut command = Command::new(program);
    command.args([&rig.tcp_port.to_string(), "demo"]).arg(rig.path("key")).args(arguments);
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

#[test]
fn paramikos_second_command_is_served() {
    let rig = served("");
    rig.say(b"a line\r\n");
    rig.wait_for_log("a line");
    let said = python(&rig, "paramiko-commands", &["log -n 1", "nonsense"]);
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("0 ") && lines[0].ends_with("< a line"), "{said}");
    assert!(lines[1].starts_with("2 ") && lines[1].contains("nonsense"), "{said}");
}

#[test]
fn asyncssh_has_ten_sessions_one_after_the_other_and_at_once() {
    let rig = served("");
    rig.say(b"a line\r\n");
    rig.wait_for_log("a line");
    let said = python(&rig, "asyncssh-client", &["10", "log -n 1"]);
    assert_eq!(
        said.lines().filter(|line| line.starts_with("0 ") && line.trim_end().ends_with("< a line")).count(),
        20,
        "{said}"
    );
}
