//! A logged-in client that requests more than a console, or violates the protocol: it is rejected, costs bounded memory, and no other client
//! is affected. By paramiko, for what OpenSSH's client cannot be made to send; what that can is in `refused`.

use crate::client::Client;
use crate::programs;
use crate::rig::{Rig, until};
use crate::{at_terminal, served};

/// Kilobytes that one hostile session may cost: its windows and the longest packet that russh takes.
const MEMORY: u64 = 1024;

fn hostile(rig: &Rig, act: &[&str]) -> Client {
    Client::start(programs::hostile(rig.tcp_port, "demo", &rig.path("key"), act))
}

#[track_caller]
fn still_a_console(rig: &Rig, client: &mut Client) {
    client.type_in("\x05cf");
    client.sees("[you have write access]");
    client.type_in("still a console\r");
    rig.expect_at_device(b"still a console\r");
}

#[test]
fn other_ssh_features_are_rejected_and_the_session_continues() {
    let rig = served("");
    let mut asking = hostile(&rig, &["ask"]);
    asking.sees("typed\n");
    rig.expect_at_device(b"say still here\n");
    programs::all_refused(&String::from_utf8(asking.shown()).unwrap());
    asking.end_input();
    asking.ends_with(0);
    assert_eq!(rig.journal().find(|c: char| c.is_control() && c != '\n'), None, "{}", rig.journal());
}

#[test]
fn new_keys_again_and_again_are_the_own_sessions_business() {
    let rig = served("");
    let mut inside = at_terminal(&rig);
    let memory = rig.private_memory();
    let mut storm = hostile(&rig, &["storm"]);
    storm.sees(" s\n");
    eprintln!("keys exchanged again: {}", String::from_utf8_lossy(&storm.shown()).trim());
    assert!(rig.private_memory() <= memory + MEMORY, "{} kB instead of {memory}", rig.private_memory());
    still_a_console(&rig, &mut inside);
}

#[test]
fn a_client_that_violates_the_protocol_is_disconnected_alone() {
    let rig = served("");
    let mut inside = at_terminal(&rig);
    let memory = rig.private_memory();
    for offence in [
        "long packet",
        "length beyond the packet",
        "half a request",
        "confirmation of nothing",
        "packets of no bytes",
    ] {
        let mut offender = hostile(&rig, &["offend", offence]);
        offender.ends_with(0);
        inside.sees("attached, read-only]");
        inside.sees("detached]");
    }
    still_a_console(&rig, &mut inside);
    assert!(rig.private_memory() <= memory + MEMORY, "{} kB instead of {memory}", rig.private_memory());
    assert!(!rig.journal().contains("panicked"), "{}", rig.journal());
}

#[test]
fn window_and_packet_sizes_of_a_client_cost_bounded_memory() {
    let rig = served("log = \"raw\"\nreplay = 0");
    let mut inside = at_terminal(&rig);
    let memory = rig.private_memory();
    let greatest = u32::MAX.to_string();
    let mut clients = [("0", "1"), ("0", &greatest), ("1", "1"), (&greatest, "1"), (&greatest, &greatest)]
        .map(|(window, packet)| hostile(&rig, &["window", window, packet]));
    for client in &mut clients {
        client.sees("begun\n");
    }
    let flood: Vec<u8> = (0..20_000).flat_map(|line| format!("{line:08}\r\n").into_bytes()).collect();
    rig.say(&flood);
    rig.say(b"the end");
    until("the whole log", || rig.log().ends_with(b"the end").then_some(()));
    inside.sees("the end");
    assert!(rig.log() == [flood.as_slice(), b"the end"].concat(), "the log is not what the device said");
    let costs = rig.private_memory();
    assert!(costs <= memory + 5 * MEMORY, "{costs} kB instead of {memory}");
    still_a_console(&rig, &mut inside);
    for (client, least) in clients.iter_mut().zip([0, 0, 1, 1000, 1000]) {
        client.end_input();
        client.ends_with(0);
        let shown = String::from_utf8(client.shown()).unwrap();
        let bytes: usize = shown.lines().last().unwrap().strip_suffix(" bytes").unwrap().parse().unwrap();
        assert!(bytes >= least && (least > 1 || bytes == least), "{bytes} bytes instead of {least}");
    }
}

#[test]
fn ten_thousand_methods_are_refused_after_six() {
    let rig = served("");
    let mut stranger = hostile(&rig, &["methods"]);
    stranger.ends_with(0);
    assert_eq!(String::from_utf8(stranger.shown()).unwrap(), "told 6 times\n");
    at_terminal(&rig);
}
