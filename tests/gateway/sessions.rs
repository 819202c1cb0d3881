//! Several sessions on one connection to the admin CLI, one after the other and at once: one login, one helper, one session of PAM's.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::bench::{Bench, is_gone};
use crate::client::Client;
use crate::rig::until;

/// OpenSSH on a connection that it shares; without one it has none to fall back to.
fn shared(bench: &Bench, options: &[&str]) -> Command {
    let path = format!("ControlPath={}", bench.path("control").display());
    let mut ssh = bench.ssh(&["-o", &path, "-o", "ProxyCommand=false"]);
    ssh.args(options);
    ssh
}

fn master(bench: &Bench) -> Client {
    let path = format!("ControlPath={}", bench.path("control").display());
    let master = Client::start(bench.ssh(&["-o", &path, "-M", "-N", "alice@127.0.0.1"]));
    until("the control socket", || bench.path("control").exists().then_some(()));
    master
}

fn at_terminal(bench: &Bench) -> Client {
    let mut client = Client::start(shared(bench, &["-tt", "alice@127.0.0.1"]));
    client.sees("at your service\r\n");
    client
}

fn pid_of(client: &mut Client) -> String {
    client.type_in("pid\r");
    client.sees("pid ");
    client.sees("\r\n")
}

#[test]
fn commands_one_after_the_other_have_one_connection_and_their_own_exits() {
    let bench = Bench::new();
    let mut master = master(&bench);
    for round in 0..12 {
        let line = format!("exit {round}");
        let output = shared(&bench, &["alice@127.0.0.1", &line]).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(round), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stderr, b"");
    }
    bench.wait_for_journal("session ended, exit status 11");
    // Not by SIGTERM: OpenSSH 9.2 may miss a signal that comes just before it polls, and then sleeps until the server sends data.
    let exit = shared(&bench, &["-O", "exit", "alice@127.0.0.1"]).output().unwrap();
    assert!(exit.status.success(), "{}", String::from_utf8_lossy(&exit.stderr));
    master.ends();
    bench.helpers_have_ended();
}

#[test]
fn sessions_at_once_end_each_alone_and_all_with_the_connection() {
    let bench = Bench::new();
    let mut master = master(&bench);
    let (mut first, mut second, mut third) = (at_terminal(&bench), at_terminal(&bench), at_terminal(&bench));
    let pids = [pid_of(&mut first), pid_of(&mut second), pid_of(&mut third)];
    first.type_in("exit 3\r");
    first.ends_with(3);
    second.type_in("~.");
    second.ends_with(255);
    is_gone(&pids[1]);
    third.type_in("say still here\r");
    third.sees("still here\r\n");
    let mut fourth = at_terminal(&bench);
    let pid = pid_of(&mut fourth);
    master.signal(Signal::SIGKILL);
    is_gone(&pids[2]);
    is_gone(&pid);
    master.ends();
    bench.helpers_have_ended();
}

#[test]
fn a_program_that_shows_more_than_its_client_reads_holds_up_no_other() {
    let bench = Bench::new();
    let _master = master(&bench);
    // OpenSSH's shared connection itself writes to its client's pipe, which has no reader.
    let mut stopped = shared(&bench, &["-T", "alice@127.0.0.1"]);
    let mut stopped = stopped.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    stopped.stdin.as_mut().unwrap().write_all(b"flood 16000000\n").unwrap();
    let mut other = at_terminal(&bench);
    for round in 0..50 {
        other.type_in(format!("say round {round}\r"));
        other.sees(&format!("\nround {round}\r\n"));
    }
    assert!(stopped.try_wait().unwrap().is_none());
    stopped.kill().unwrap();
    stopped.wait().unwrap();
    other.type_in("exit 0\r");
    other.ends_with(0);
}

#[test]
fn asyncssh_has_ten_sessions_one_after_the_other_and_at_once() {
    let bench = Bench::new();
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support/asyncssh-client");
    let mut command = Command::new(program);
    command.args([&bench.tcp_port().to_string(), "alice"]).arg(bench.path("key")).args(["10", "say served"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.matches("0 served").count(), 20, "{said}{}", String::from_utf8_lossy(&output.stderr));
    bench.helpers_have_ended();
}
