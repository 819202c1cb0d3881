//! A peer that breaks the rules is left, and the journal says which.

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
fn whoever_breaks_the_protocol_is_left() {
    let converse = Request::Converse;
    let key = Request::Key { key: KEY.to_owned() };
    for first in [&converse, &key, &Request::Answers(vec![])] {
        let mut helper = Helper::start();
        helper.send(first);
        ends_out_of_turn(helper, "the first request must be Begin");
    }
    let helper = Helper::login("alice").begin("alice", "ttyUSB0", RootLogin::Yes);
    ends_out_of_turn(helper, "Begin comes once");
    let mut helper = Helper::login("alice");
    helper.send(&Request::Answers(vec![Secret("sesame".to_owned())]));
    ends_out_of_turn(helper, "nothing was asked");
}

#[test]
fn whoever_breaks_a_conversation_is_left() {
    let _accounts = alice();
    for (request, reason) in [
        (Request::Answers(vec![]), "the number of answers"),
        (Request::Answers(vec![Secret("sesame".to_owned()), Secret(String::new())]), "the number of answers"),
        (Request::Key { key: KEY.to_owned() }, "PAM waits for answers"),
        (Request::Converse, "PAM waits for answers"),
    ] {
        let mut helper = Helper::login("alice");
        assert_eq!(helper.ask(&Request::Converse), prompts("Password: "));
        helper.send(&request);
        ends_out_of_turn(helper, reason);
    }
    let mut helper = Helper::login("alice");
    assert_eq!(helper.ask(&Request::Converse), prompts("Password: "));
    helper.ends_saying("the client left before it answered");
}

#[test]
fn what_is_no_message_ends_the_login() {
    let framed = |json: &str| [&(json.len() as u32).to_be_bytes(), json.as_bytes()].concat();
    let path =
        r#"{"Begin":{"user":"a","rhost":"192.0.2.7","target":{"Port":"../../etc/passwd"},"root":"yes"}}"#;
    for (bytes, reason) in [
        (framed("junk!"), "a message that this protocol does not have"),
        (framed(r#""Spawn""#), "unknown variant `Spawn`"),
        (framed(path), "port name \"../../etc/passwd\" is not valid"),
        (u32::MAX.to_be_bytes().to_vec(), "longer than the 65536 that are taken"),
        (b"\0\0\0\x05ab".to_vec(), "the peer is gone"),
    ] {
        let mut helper = Helper::start();
        helper.stream.write_all(&bytes).unwrap();
        ends_out_of_turn(helper, reason);
    }
}

#[track_caller]
fn ends_out_of_turn(helper: Helper, reason: &str) {
    let Ended { status, journal } = helper.end();
    assert_eq!(status.code(), Some(1), "{journal}");
    assert!(journal.contains(reason), "{reason:?} is not in {journal:?}");
}

#[test]
fn whoever_connects_and_leaves_is_no_error() {
    assert!(Helper::start().end().status.success());
    assert!(Helper::login("alice").end().status.success());
}

#[test]
fn started_by_hand_it_says_how_it_is_started() {
    let output = Command::new(PROGRAM).env_remove("LISTEN_FDS").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("file descriptor 3 must be a connected unix stream socket"), "{said}");
}
