//! A port whose device is unplugged or busy, or whose configuration is wrong: new sessions get the reason, and the listener stays.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;

use nix::fcntl::{Flock, FlockArg};

use crate::client::Client;
use crate::rig::{Rig, TIMEOUT};
use crate::served;

/// Connections in a row, at which no limit of systemd or ours may disable the listener.
const MANY: usize = 100;

#[test]
fn a_login_while_the_device_is_away_waits_for_it() {
    let mut rig = Rig::new("");
    rig.serve_logins(true);
    rig.start();
    let mut terminal = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1"]));
    terminal.sees("[demo is not plugged in; waiting for the device]");
    let pipe = Client::start(rig.ssh(&["-T", "demo@127.0.0.1"]));
    pipe.is_told("[demo is not plugged in; waiting for the device]\n");
    terminal.type_in("too early");
    terminal.sees("[demo is unplugged: input is discarded]");
    rig.plug();
    terminal.sees("[demo reconnected ");
    pipe.is_told("[demo reconnected ");
    rig.say(b"booting\r\n");
    terminal.sees("booting");
    terminal.type_in("in time");
    rig.expect_at_device(b"in time");
}

#[test]
fn each_session_at_a_busy_device_gets_the_reason() {
    let mut rig = Rig::new("");
    rig.serve_logins(true);
    rig.plug();
    let slave = File::options().read(true).write(true).open(rig.path("dev/demo")).unwrap();
    let held = Flock::lock(slave, FlockArg::LockExclusiveNonblock).unwrap();
    rig.start();
    for round in 0..MANY {
        let mut client = Client::start(rig.ssh(&["-T", "demo@127.0.0.1"]));
        client.ends_with(1);
        let said = client.aside();
        assert!(said.contains("dev/demo is in use by another program"), "{round}: {said}");
    }
    drop(held);
    rig.signal(nix::sys::signal::Signal::SIGHUP);
    rig.wait_for_status("8N1");
    let mut client = crate::at_terminal(&rig);
    client.type_in("free");
    rig.expect_at_device(b"free");
}

#[test]
fn each_session_under_an_invalid_configuration_gets_a_notice_until_it_is_fixed() {
    let mut rig = Rig::with_config("[ports.demo]\ndevice = \"@DIR@/dev/demo\"\nbaud = \"fast\"\n");
    rig.serve_logins(true);
    rig.plug();
    rig.start();
    rig.wait_for_journal("config.toml:3: ");
    for round in 0..MANY {
        let mut client = Client::start(rig.ssh(&["-T", "demo@127.0.0.1"]));
        assert_eq!(client.ends().code(), Some(255));
        let said = client.aside();
        let wanted = "demo cannot be served at present: see journalctl -u console@demo";
        assert!(said.contains(wanted), "{round}: {said}");
        assert!(!said.contains("baud"), "a stranger is not told what the configuration says: {said}");
    }
    let local = rig.consolectl(&["connect", "demo"]).output().unwrap();
    assert_eq!(local.status.code(), Some(1));
    let said = String::from_utf8_lossy(&local.stderr).into_owned();
    assert!(said.contains("config.toml") && said.contains("baud"), "{said}");

    rig.configure("[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\n");
    rig.signal(nix::sys::signal::Signal::SIGHUP);
    rig.wait_for_status("8N1");
    let mut client = crate::at_terminal(&rig);
    client.type_in("working");
    rig.expect_at_device(b"working");
}

#[test]
fn other_clients_than_openssh_get_the_reason_too() {
    let mut rig = Rig::with_config("[ports.other]\n");
    rig.start();
    let mut stream = TcpStream::connect(("127.0.0.1", rig.tcp_port)).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(b"SSH-2.0-PuTTY_Release_0.83\r\n").unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    let packet = said.strip_prefix(b"SSH-2.0-consoleserver\r\n").expect("a version line");
    // RFC 4253, section 6: length, length of the padding; 11.1: disconnect, service not available, the text.
    let length = u32::from_be_bytes(packet[..4].try_into().unwrap()) as usize;
    assert_eq!(packet.len(), 4 + length, "one packet and nothing else: {said:?}");
    assert_eq!(packet[5..10], [1, 0, 0, 0, 7]);
    let text = u32::from_be_bytes(packet[10..14].try_into().unwrap()) as usize;
    assert_eq!(
        String::from_utf8_lossy(&packet[14..14 + text]),
        "demo cannot be served at present: see journalctl -u console@demo"
    );
    rig.wait_for_journal("demo is not configured");
}

#[test]
fn a_silent_session_is_closed_after_the_ports_timeout() {
    let rig = served("timeout = 1");
    let mut client = crate::at_terminal(&rig);
    client.sees("[closed: idle timeout]");
    client.ends_with(1);
    rig.wait_for_status("0 attached");
}
