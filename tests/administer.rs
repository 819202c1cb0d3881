#![allow(unsafe_code)] // One thread becomes another user.
//! An administrator's requests to a running port, over its local socket: apply the configuration, send a break, disconnect
//! a user's sessions; and the log, which its users may read.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use consoleserver::attach::{Reply, Request, client, socket_path};
use consoleserver::exec;
use consoleserver::port::PortName;
use consoleserver::system::message::{receive, send};
use nix::libc;

#[path = "support/rig.rs"]
mod rig;
#[path = "support/client.rs"]
mod session;

use rig::{Rig, until};
use session::Client;

const PORT: &str = "[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\n";

fn demo() -> PortName {
    "demo".parse().unwrap()
}

fn served() -> Rig {
    let mut rig = Rig::with_config(PORT);
    rig.start_plugged();
    rig
}

fn apply(rig: &Rig) -> Result<Vec<String>, String> {
    client::apply(&rig.path("run"), &demo()).map_err(|error| error.to_string())
}

#[test]
fn what_is_applied_is_in_force_when_the_answer_comes_and_sessions_stay() {
    let rig = served();
    let mut session = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("1 attached");
    rig.configure(&format!("{PORT}baud = 115200\n"));
    assert_eq!(apply(&rig), Ok(vec![]));
    assert_eq!(rig.line().c_ospeed, 115_200);
    session.type_in("still here");
    rig.expect_at_device(b"still here");
}

#[test]
fn what_the_driver_refuses_is_told_to_who_asked() {
    let rig = served();
    rig.configure(&format!("{PORT}parity = \"E\"\n"));
    assert_eq!(apply(&rig), Ok(vec!["parity E: the driver set N".to_owned()]), "a pty has no parity");
}

#[test]
fn a_wrong_configuration_is_quoted_and_changes_nothing() {
    let rig = served();
    rig.configure(&format!("{PORT}baud = \"fast\"\n"));
    let refusal = apply(&rig).unwrap_err();
    assert!(
        refusal.contains("ports.demo.baud = \"fast\": expected a number from 1 to 4294967295"),
        "{refusal}"
    );
    assert_eq!(rig.line().c_ospeed, 9600);
}

#[test]
fn a_device_that_is_not_there_takes_its_settings_later_and_says_so() {
    let mut rig = served();
    let _session = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("1 attached");
    rig.unplug();
    rig.wait_for_status("unplugged");
    rig.configure(&format!("{PORT}baud = 19200\n"));
    assert_eq!(
        apply(&rig),
        Ok(vec!["demo is not plugged in: the settings take effect when it is".to_owned()])
    );
    rig.plug();
    rig.wait_for_status("19200 8N1");
}

#[test]
fn another_device_is_opened_and_one_that_cannot_be_is_named() {
    let rig = served();
    fs::write(rig.path("dev/file"), "").unwrap();
    rig.configure(&PORT.replace("dev/demo", "dev/file"));
    let remarks = apply(&rig).unwrap();
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(remarks[0].contains("dev/file"), "{remarks:?}");
    rig.configure(PORT);
    assert_eq!(apply(&rig), Ok(vec![]));
    rig.wait_for_status("9600 8N1");
}

#[test]
fn a_port_that_could_not_be_served_is_fixed_by_applying() {
    let mut rig = Rig::with_config(&format!("{PORT}baud = \"fast\"\n"));
    rig.plug();
    rig.start();
    rig.wait_for_status("cannot be served");
    let refusal = apply(&rig).unwrap_err();
    assert!(refusal.starts_with("demo cannot be served: ") && refusal.contains("baud"), "{refusal}");
    rig.configure(PORT);
    assert_eq!(apply(&rig), Ok(vec![]));
    rig.wait_for_status("9600 8N1");
}

#[test]
fn a_break_is_told_to_those_who_watch_and_refused_without_a_device() {
    let mut rig = served();
    let session = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("1 attached");
    let send_break = |milliseconds| {
        let length = Duration::from_millis(milliseconds);
        client::send_break(&rig.path("run"), &demo(), length, "alice").map_err(|error| error.to_string())
    };
    assert_eq!(send_break(500), Ok(()));
    session.is_told("break of 500 ms by alice");
    assert_eq!(send_break(0), Err("invalid break of 0 ms: expected 1 to 10000".to_owned()));
    assert!(rig.wait_for_journal("break of 500 ms").contains("alice sends"));
    rig.unplug();
    rig.wait_for_status("unplugged");
    let refusal = client::send_break(&rig.path("run"), &demo(), Duration::from_millis(500), "alice")
        .unwrap_err()
        .to_string();
    assert!(refusal.starts_with("cannot send a break to demo: unplugged since "), "{refusal}");
}

/// A session at a device that reads nothing, with more input than the buffers on the way hold.
fn typed_in_vain(rig: &mut Rig) -> Client {
    rig.configure(&format!("{PORT}xonxoff = true\n"));
    rig.start_plugged();
    let mut session = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("1 attached");
    rig.say(b"\x13stopped\r\n");
    rig.wait_for_log("stopped");
    session.type_in("x".repeat(10_000));
    session
}

#[test]
fn a_break_gets_through_to_a_device_that_takes_nothing() {
    let mut rig = Rig::with_config(PORT);
    let session = typed_in_vain(&mut rig);
    // The first may arrive before the typed input.
    until("what was typed to be dropped for a break", || {
        let length = Duration::from_millis(10);
        client::send_break(&rig.path("run"), &demo(), length, "alice").unwrap();
        rig.journal()
            .contains("bytes of input that the device did not accept were discarded for a break")
            .then_some(())
    });
    session.is_told("break of 10 ms by alice");
}

#[test]
fn what_was_typed_for_one_device_does_not_go_on_at_the_next() {
    let mut rig = Rig::with_config(PORT);
    let mut session = typed_in_vain(&mut rig);
    let other = nix::pty::openpty(None, None).unwrap();
    std::os::unix::fs::symlink(nix::unistd::ttyname(&other.slave).unwrap(), rig.path("dev/other")).unwrap();
    // The input is on its way by then: it was sent before the query.
    rig.bytes_sent();
    rig.configure(&PORT.replace("dev/demo", "dev/other"));
    assert_eq!(apply(&rig), Ok(vec![]));
    session.is_told("bytes of your input were not sent");
    session.type_in("fresh\r");
    let mut heard = [0; 64];
    let count = nix::unistd::read(&other.master, &mut heard).unwrap();
    assert_eq!(String::from_utf8_lossy(&heard[..count]), "fresh\r");
}

#[test]
fn the_sessions_of_a_user_are_ended_and_told_by_whom_even_if_they_have_stopped_reading() {
    let rig = served();
    let mut reading = Client::start(rig.consolectl(&["connect", "demo"]));
    let stopped = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("2 attached");
    stopped.signal(nix::sys::signal::Signal::SIGSTOP);
    let end = |user: &str| client::disconnect(&rig.path("run"), &demo(), user, "al\x1bice").unwrap();
    assert_eq!(end("nobody-here"), 0);
    assert_eq!(end("root"), 2);
    reading.is_told("disconnected by al?ice");
    reading.ends_with(1);
    rig.wait_for_status("0 attached");
}

/// A local client that implements the protocol itself.
fn asked(rig: &Rig, request: &Request) -> (Option<Reply>, UnixStream) {
    let mut stream = UnixStream::connect(socket_path(&rig.path("run"), &demo())).unwrap();
    send(&mut stream, request).unwrap();
    (receive(&mut stream).unwrap(), stream)
}

#[test]
fn a_user_may_not_do_what_administrators_may() {
    let rig = served();
    for (path, mode) in [("", 0o755), ("run", 0o755), ("run/attach", 0o755), ("run/attach/demo", 0o666)] {
        fs::set_permissions(rig.path(path), Permissions::from_mode(mode)).unwrap();
    }
    let requests = [
        Request::Apply,
        Request::Break { milliseconds: 500, name: None, by: "nobody".to_owned() },
        Request::Disconnect { user: "root".to_owned(), by: "nobody".to_owned() },
    ];
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: three integers. The bare call changes this thread alone, where libc's would change them all.
            let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
            assert_eq!(changed, 0, "run as root (make test does)");
            for request in &requests {
                let why = "nobody is not an administrator of demo: use consolectl".to_owned();
                assert_eq!(asked(&rig, request).0, Some(Reply::Rejected(why)), "{request:?}");
            }
            assert!(matches!(asked(&rig, &Request::Status).0, Some(Reply::Status(_))));
        });
        thread.join().unwrap();
    });
}

/// The output in frames until the port ends them.
fn shown(mut stream: UnixStream) -> String {
    let mut shown = Vec::new();
    let mut header = [0; 5];
    loop {
        stream.read_exact(&mut header).unwrap();
        let mut content = vec![0; u32::from_be_bytes(header[1..].try_into().unwrap()) as usize];
        stream.read_exact(&mut content).unwrap();
        match header[0] {
            0 => shown.extend(content),
            5 => return String::from_utf8(shown).unwrap(),
            kind => panic!("frame {kind}: {}", String::from_utf8_lossy(&content)),
        }
    }
}

fn log(lines: u32, follow: bool) -> Request {
    Request::Run(exec::Command::Log { lines: Some(lines), since: None, until: None, raw: false, follow })
}

#[test]
fn the_last_lines_of_the_log_are_shown() {
    let rig = served();
    rig.say(b"one\r\ntwo\r\nthree\r\n");
    rig.wait_for_log("three");
    let (reply, stream) = asked(&rig, &log(2, false));
    assert_eq!(reply, Some(Reply::Connected));
    let text = shown(stream);
    let ends: Vec<_> = text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert_eq!(ends, ["two", "three"], "{text}");
}

#[test]
fn a_log_is_followed_over_its_rotation() {
    let rig = served();
    rig.say(b"before\r\n");
    rig.wait_for_log("before");
    let (reply, mut stream) = asked(&rig, &log(0, true));
    assert_eq!(reply, Some(Reply::Connected));
    let mut seen = Vec::new();
    let mut sees = |words: &str| {
        until(words, || {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).unwrap();
            seen.extend_from_slice(&piece[..count]);
            String::from_utf8_lossy(&seen).contains(words).then_some(())
        });
    };
    rig.say(b"live\r\n");
    sees("live");
    fs::rename(rig.log_path(), rig.path("log/console.log.1")).unwrap();
    rig.signal(nix::sys::signal::Signal::SIGUSR1);
    until("a new log", || rig.log_path().exists().then_some(()));
    rig.say(b"after\r\n");
    sees("after");
    assert!(!String::from_utf8_lossy(&seen).contains("before"));
}

#[test]
fn a_port_that_is_not_logged_says_so() {
    let mut rig = Rig::with_config(&format!("{PORT}log = \"none\"\n"));
    rig.start_plugged();
    let (reply, mut stream) = asked(&rig, &log(2, false));
    assert_eq!(reply, Some(Reply::Connected));
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    let words = "demo: this port has no log: log.type is \"none\"\n";
    let wanted = [&[1, 0, 0, 0, words.len() as u8][..], words.as_bytes(), &[5, 0, 0, 0, 1, 1]].concat();
    assert_eq!(said, wanted, "{}", String::from_utf8_lossy(&said));
}
