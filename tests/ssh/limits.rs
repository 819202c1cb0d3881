//! Strangers cannot keep an administrator out.

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;

use crate::client::Client;
use crate::rig::PATIENCE;
use crate::{at_terminal, served};

/// As many as one address may have waiting (`ssh::limits`).
const PER_SOURCE: usize = 10;

#[test]
fn strangers_from_one_address_take_places_from_nobody_else() {
    let rig = served("");
    let mut inside = at_terminal(&rig);
    let strangers: Vec<_> = (0..PER_SOURCE)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", rig.tcp_port)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut version = [0; 8];
            // Its version line shows that this one has a place.
            stream.read_exact(&mut version).unwrap();
            assert_eq!(&version, b"SSH-2.0-");
            stream
        })
        .collect();

    let mut one_more = TcpStream::connect(("127.0.0.1", rig.tcp_port)).unwrap();
    one_more.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(one_more.read(&mut [0]).unwrap(), 0, "closed at once");
    rig.wait_for_journal("127.0.0.1 closed: too many connections from there have not logged in");

    inside.type_in("still in");
    rig.expect_at_device(b"still in");
    let mut elsewhere = Client::start(rig.ssh(&["-tt", "-b", "127.0.0.2", "demo@127.0.0.1"]));
    elsewhere.sees("for help]");

    drop(strangers);
    crate::rig::until("their places", || {
        let mut scan = Command::new("ssh-keyscan");
        scan.args(["-t", "ed25519", "-p", &rig.tcp_port.to_string(), "127.0.0.1"]);
        (!scan.output().unwrap().stdout.is_empty()).then_some(())
    });
}

#[test]
fn a_flood_of_strangers_from_one_address_leaves_nothing_behind() {
    let rig = served("");
    for _ in 0..50 {
        drop(TcpStream::connect(("127.0.0.1", rig.tcp_port)).unwrap());
    }
    let mut client = crate::rig::until("a place", || {
        let mut client = Client::start(rig.ssh(&["-tt", "-o", "ConnectTimeout=10", "demo@127.0.0.1"]));
        crate::rig::until("the session or its refusal", || {
            (!client.shown().is_empty()).then_some(true).or_else(|| client.has_ended().then_some(false))
        })
        .then_some(client)
    });
    client.sees("for help]");
}
