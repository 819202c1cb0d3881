//! A peer that violates the protocol is disconnected, and the reason is logged.

use std::io::Write;
use std::process::Command;

use consoleserver::auth::protocol::{Reply, Request, Secret};
use consoleserver::config::RootLogin;

use crate::helper::{Ended, Helper, KEY, OTHER, PROGRAM, alice, prompts};

#[test]
fn six_tries_are_all() {
    let _accounts = alice();
    let mut helper = Helper::login("alice");
    for _ in 0..6 {
        assert_eq!(helper.key(OTHER), Reply::Denied);
    }
    assert_eq!(helper.reply(), None);
    helper.ends_saying("ended: too many attempts");
}

#[test]
fn a_peer_that_violates_the_protocol_is_disconnected() {
    let converse = Request::Converse;
    let key = Request::Key { key: KEY.to_owned(), flags: None };
    for first in [&converse, &key, &Request::Answers(vec![])] {
        let mut helper = Helper::start();
        helper.send(first);
        ends_with_protocol_error(helper, "the first request must be Begin");
    }
    let helper = Helper::login("alice").begin("alice", "ttyUSB0", RootLogin::Yes);
    ends_with_protocol_error(helper, "repeated Begin");
    let mut helper = Helper::login("alice");
    helper.send(&Request::Answers(vec![Secret("sesame".into())]));
    ends_with_protocol_error(helper, "Answers without prompts");
}

#[test]
fn a_peer_that_violates_the_protocol_of_a_conversation_is_disconnected() {
    let _accounts = alice();
    for (request, reason) in [
        (Request::Answers(vec![]), "the number of answers"),
        (Request::Answers(vec![Secret("sesame".into()), Secret(Vec::new())]), "the number of answers"),
        (Request::Key { key: KEY.to_owned(), flags: None }, "PAM expects Answers"),
        (Request::Converse, "PAM expects Answers"),
    ] {
        let mut helper = Helper::login("alice");
        assert_eq!(helper.ask(&Request::Converse), prompts("Password: "));
        helper.send(&request);
        ends_with_protocol_error(helper, reason);
    }
    let mut helper = Helper::login("alice");
    assert_eq!(helper.ask(&Request::Converse), prompts("Password: "));
    helper.ends_saying("the client disconnected before it was logged in");
}

/// Ctrl-C at a question, or while a wrong password is being denied, does not fail the unit: sshd@.service of Debian has
/// `ExecStart=-/usr/sbin/sshd -i` for the same reason.
#[test]
fn a_client_that_leaves_is_no_failure() {
    let _accounts = alice();
    for answered in [false, true] {
        let mut helper = Helper::login("alice");
        assert_eq!(helper.ask(&Request::Converse), prompts("Password: "));
        if answered {
            helper.send(&Request::Answers(vec![Secret("wrong".into())]));
        }
        let Ended { status, journal } = helper.leave();
        assert!(journal.contains("ended: the client disconnected before it was logged in"), "{journal}");
        assert!(status.success(), "{status}: {journal}");
    }
}

#[test]
fn an_invalid_message_ends_the_login() {
    let framed = |json: &str| [&(json.len() as u32).to_be_bytes(), json.as_bytes()].concat();
    let path =
        r#"{"Begin":{"user":"a","rhost":"192.0.2.7","target":{"Port":"../../etc/passwd"},"root":"yes"}}"#;
    for (bytes, reason) in [
        (framed("junk!"), "unknown message: "),
        (framed(r#""Spawn""#), "unknown variant `Spawn`"),
        (framed(path), "invalid port name \"../../etc/passwd\""),
        (u32::MAX.to_be_bytes().to_vec(), "exceeds the limit of 65536"),
        (b"\0\0\0\x05ab".to_vec(), "the peer is gone"),
    ] {
        let mut helper = Helper::start();
        helper.stream.write_all(&bytes).unwrap();
        ends_with_protocol_error(helper, reason);
    }
}

#[track_caller]
fn ends_with_protocol_error(helper: Helper, reason: &str) {
    let Ended { status, journal } = helper.end();
    assert_eq!(status.code(), Some(1), "{journal}");
    assert!(journal.contains(reason), "{reason:?} is not in {journal:?}");
}

#[test]
fn a_connection_without_a_request_is_not_an_error() {
    assert!(Helper::start().end().status.success());
    assert!(Helper::login("alice").end().status.success());
}

#[test]
fn started_by_hand_it_reports_how_to_start_it() {
    let output = Command::new(PROGRAM).env_remove("LISTEN_FDS").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("file descriptor 3 must be a connected unix stream socket"), "{said}");
}
