//! SIGUSR1 and SIGTERM during activity.

use std::io::Write;

use nix::sys::signal::Signal;

use crate::rig::{sha256, until};
use crate::{at_terminal, served, with_bytes_only};

#[test]
fn the_log_is_reopened_in_a_flood_without_losing_a_byte() {
    let rig = served("log = \"raw\"");
    let flood: Vec<u8> =
        (0..20_000_000u64).map(|index| (index.wrapping_mul(2654435761) >> 13) as u8).collect();
    let wanted = flood.clone();
    let mut device = rig.device();
    let flooding = std::thread::spawn(move || device.write_all(&flood).unwrap());
    let mut names = Vec::new();
    for round in 0..3 {
        let least = 1_000_000;
        until("the log to grow", || (rig.log_size() > least).then_some(()));
        let old = rig.path(&format!("log/console.log.{round}"));
        std::fs::rename(rig.log_path(), &old).unwrap();
        rig.signal(Signal::SIGUSR1);
        until("a new log", || rig.log_path().exists().then_some(()));
        names.push(old);
    }
    flooding.join().unwrap();
    names.push(rig.log_path());
    let total = || names.iter().map(|name| name.metadata().map_or(0, |data| data.len())).sum::<u64>();
    until("the whole log", || (total() >= wanted.len() as u64).then_some(()));
    let logged: Vec<u8> = names.iter().flat_map(|name| std::fs::read(name).unwrap()).collect();
    assert_eq!(logged.len(), wanted.len());
    assert_eq!(sha256(&logged), sha256(&wanted));
}

#[test]
fn sessions_get_the_reason_when_the_port_stops() {
    let mut rig = served("");
    let mut terminal = at_terminal(&rig);
    let mut pipe = with_bytes_only(&rig, 2);
    rig.say(b"last words");
    terminal.sees("last words");
    pipe.sees("last words");
    // A client that has stopped reading, and one that has not logged in, do not delay the end for long.
    let _stranger = std::net::TcpStream::connect(("127.0.0.1", rig.tcp_port)).unwrap();
    let status = rig.stop();
    assert_eq!(status.code(), Some(0));
    terminal.sees("[console@demo is stopping]");
    terminal.ends_with(1);
    pipe.ends_with(1);
    assert_eq!(pipe.shown(), b"last words");
    assert!(pipe.aside().ends_with("[console@demo is stopping]\n"), "{}", pipe.aside());
    rig.wait_for_log("last words");
}
