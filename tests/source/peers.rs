//! Peculiarities of telnet servers, as their users have reported them.

use std::io::{Read, Write};
use std::net::TcpListener;

use nix::sys::socket::{MsgFlags, send};

use super::rig::{Rig, until};
use super::{accept_tcp, bench};
use crate::dialer::Dialers;

fn connected(kind: &str) -> (Rig, Dialers, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("{kind}:{}", listener.local_addr().unwrap());
    let mut rig = bench(&source, "log = \"raw\"\n");
    let dialers = Dialers::new(&rig.path("run"), &[&source]);
    rig.start();
    (rig, dialers, accept_tcp(&listener))
}

/// RFC 854, "Synch": IAC DM, whose second byte is urgent data. BSD's telnetd sends it when it discards output.
#[test]
fn a_data_mark_in_urgent_data_takes_no_byte_with_it() {
    let (mut rig, _dialers, mut far) = connected("telnet");
    far.write_all(b"before\xff").unwrap();
    send(std::os::fd::AsRawFd::as_raw_fd(&far), b"\xf2", MsgFlags::MSG_OOB).unwrap();
    far.write_all(b"after\n").unwrap();
    until("the log", || rig.log().ends_with(b"after\n").then_some(()));
    assert_eq!(String::from_utf8(rig.log()).unwrap(), "beforeafter\n");
    assert!(rig.stop().success());
}

/// A TCP port that relays bytes, without telnet.
#[test]
fn a_server_that_never_negotiates_is_reported_and_carries_text() {
    let (mut rig, _dialers, mut far) = connected("rfc2217");
    // RFC 2217, section 4: the client requests WILL COM-PORT-OPTION.
    let mut requests = Vec::new();
    let mut byte = [0];
    while !requests.ends_with(&[255, 251, 44]) {
        far.read_exact(&mut byte).unwrap();
        requests.push(byte[0]);
    }
    far.write_all(b"text\n").unwrap();
    until("the log", || rig.log().starts_with(b"text\n").then_some(()));
    rig.wait_for_journal("the far end has not replied to the COM port option (RFC 2217) within 5 s");
    assert!(rig.stop().success());
}
