//! Programs after a login: on the admin CLI's socket one program, for several sessions, and on a port's socket none.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use consoleserver::auth::protocol::{Exit, Reply, Request, Run, Target, Terminal, WindowSize};
use consoleserver::config::RootLogin;
use consoleserver::system::message;
use tempfile::TempDir;

use crate::helper::{Helper, KEY, PROGRAM, alice, granted};

fn admin(terminal: Option<Terminal>) -> Request {
    Request::Run { run: Run::Admin, terminal }
}

/// A console-auth that may run this program, and Alice's login granted by it.
fn may_run(program: &str) -> (TempDir, Helper) {
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
    let path = root.path().join("usr/bin/consolectl");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, program).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("--may-run").arg("--root").arg(root.path());
    let mut helper = Helper::run(command).at("alice", Target::Admin, RootLogin::Key);
    granted(helper.key(KEY));
    (root, helper)
}

/// The socket of the session that has begun, and the ends of its program.
fn session(helper: &Helper) -> (UnixStream, Vec<OwnedFd>) {
    let mut handed = message::receive_descriptors(&helper.stream).unwrap();
    let session = UnixStream::from(handed.remove(0));
    // Only the helper's runtime needs a non-blocking socket.
    session.set_nonblocking(false).unwrap();
    session.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    (session, handed)
}

#[test]
fn on_the_socket_of_the_ports_nothing_is_run() {
    let _accounts = alice();
    let mut helper = Helper::login("alice");
    helper.send(&admin(None));
    helper.ends_saying("protocol error: Run is not allowed");

    let mut helper = Helper::login("alice");
    granted(helper.key(KEY));
    // The helper has closed the connection, or is about to.
    let _ = message::send(&mut helper.stream, &admin(None));
    assert_eq!(message::receive::<Reply>(&mut helper.stream).ok().flatten(), None);
}

#[test]
fn on_the_cli_socket_nothing_is_run_before_the_login_and_nothing_else_is_asked_after_it() {
    let _accounts = alice();
    let mut command = Command::new(PROGRAM);
    command.arg("--may-run");
    let mut helper = Helper::run(command).at("alice", Target::Admin, RootLogin::Key);
    helper.send(&admin(None));
    helper.ends_saying("protocol error: Run is not allowed");
    let (_root, mut helper) = may_run("#!/bin/cat\n");
    helper.send(&Request::Converse);
    helper.ends_saying("protocol error: only Run is allowed after the login");
}

#[test]
fn three_ends_come_back_and_then_the_exit() {
    let _accounts = alice();
    let (_root, mut helper) = may_run("#!/bin/sh\ncat; echo aside >&2; exit 3\n");
    assert_eq!(helper.ask(&admin(None)), Reply::Running);
    let (mut session, ends) = session(&helper);
    let [mut input, mut output, mut aside] = <[_; 3]>::try_from(ends).unwrap().map(File::from);
    input.write_all(b"through and through").unwrap();
    drop(input);
    let mut said = [String::new(), String::new()];
    output.read_to_string(&mut said[0]).unwrap();
    aside.read_to_string(&mut said[1]).unwrap();
    assert_eq!(said, ["through and through", "aside\n"]);
    assert_eq!(message::receive(&mut session).unwrap(), Some(Reply::Exited(Exit::Status(3))));
    helper.ends_saying("session ended, exit status 3");
}

#[test]
fn a_terminal_comes_back_and_hangs_up_when_it_is_closed() {
    let _accounts = alice();
    let (_root, mut helper) = may_run("#!/bin/sh\nstty size; exec cat\n");
    let size = WindowSize { columns: 91, rows: 31 };
    let terminal = Terminal { term: "vt100".parse().unwrap(), size };
    assert_eq!(helper.ask(&admin(Some(terminal))), Reply::Running);
    let (mut session, ends) = session(&helper);
    let [mut terminal] = <[_; 1]>::try_from(ends).unwrap().map(File::from);
    let mut said = [0; 7];
    terminal.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"31 91\r\n");
    drop(terminal);
    assert_eq!(message::receive(&mut session).unwrap(), Some(Reply::Exited(Exit::Signal(1))));
    helper.ends_saying("session ended, signal 1");
}

#[test]
fn several_are_run_for_one_login_and_each_ends_alone_and_all_with_the_login() {
    let _accounts = alice();
    let (_root, mut helper) = may_run("#!/bin/sh\nexec cat\n");
    let mut sessions = Vec::new();
    // The limit of sessions on one connection (`ssh::channels`).
    for _ in 0..10 {
        assert_eq!(helper.ask(&admin(None)), Reply::Running);
        sessions.push(session(&helper));
    }
    assert_eq!(helper.ask(&admin(None)), Reply::Failed);

    let (mut ended, ends) = sessions.remove(0);
    drop(ends);
    assert_eq!(message::receive(&mut ended).unwrap(), Some(Reply::Exited(Exit::Status(0))));
    let (left, ends) = sessions.remove(0);
    drop(left);
    // Its input stays open: it is ended by the hang-up, and not by the end of its input.
    let mut output = File::from(ends[1].try_clone().unwrap());
    assert_eq!(output.read(&mut [0]).unwrap(), 0, "it was hung up");

    let (mut input, mut output) = {
        let ends = &sessions[0].1;
        (File::from(ends[0].try_clone().unwrap()), File::from(ends[1].try_clone().unwrap()))
    };
    input.write_all(b"!").unwrap();
    output.read_exact(&mut [0]).unwrap();
    helper.stream.shutdown(std::net::Shutdown::Both).unwrap();
    for (session, _) in &mut sessions {
        assert_eq!(message::receive(session).unwrap(), Some(Reply::Exited(Exit::Signal(1))));
    }
    let journal = helper.ends_saying("session not started: limit of 10 sessions per login reached");
    assert_eq!(journal.matches("session ended, signal 1").count(), 9, "{journal}");
}

#[test]
fn requests_with_paths_or_options_are_invalid() {
    let _accounts = alice();
    let port = r#"{"Run":{"run":{"Console":"../x"},"terminal":null}}"#;
    let term = r#"{"Run":{"run":"Admin","terminal":{"term":"a/b","size":{"columns":1,"rows":1}}}}"#;
    let program = r#"{"Run":{"run":{"Program":"/bin/sh"},"terminal":null}}"#;
    for (json, reason) in [
        (port, "invalid port name \"../x\""),
        (term, "terminal type \"a/b\" is not valid"),
        (program, "unknown variant `Program`"),
    ] {
        let (_root, mut helper) = may_run("#!/bin/cat\n");
        let bytes = [&(json.len() as u32).to_be_bytes(), json.as_bytes()].concat();
        helper.stream.write_all(&bytes).unwrap();
        helper.ends_saying(reason);
    }
}
