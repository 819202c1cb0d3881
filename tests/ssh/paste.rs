//! A paste that is faster than the line, and a device that reads nothing at all.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::client::Client;
use crate::programs::{By, Program};
use crate::rig::{Rig, collect, sha256, until};
use crate::{at_terminal, go_on, served, stop};

const PASTE: usize = 200_000;
/// More than a session queues (`session::input_queue`).
const FIRMWARE: usize = 3_000_000;
/// Kilobytes of a paste that a session may queue, and the cost besides.
const HELD: u64 = 1024 + 512;

/// Text without a `~` at the beginning of a line and without the escape prefix, as pasted configurations are.
fn text() -> Vec<u8> {
    (0..).flat_map(|line| format!("set interface {line} up\r").into_bytes()).take(PASTE).collect()
}

#[test]
fn a_paste_into_a_slow_device_is_complete_while_output_is_read() {
    let rig = served("");
    let mut client = at_terminal(&rig);
    let memory_before = rig.private_memory();
    let mut input = client.take_input();
    let paste = text();
    let wanted = paste.clone();
    let pasting = std::thread::spawn(move || {
        input.write_all(&paste).unwrap();
        input
    });

    let mut device = rig.device();
    let mut heard = Vec::new();
    let mut memory = 0;
    let mut buffer = [0; 1000];
    while heard.len() < PASTE {
        // 20 kB/s, as a line of 200000 baud; this does not wait for an event.
        std::thread::sleep(Duration::from_millis(50));
        let before = heard.len();
        let count = device.read(&mut buffer).unwrap();
        heard.extend_from_slice(&buffer[..count]);
        if before / 20_000 != heard.len() / 20_000 {
            // While it does not read, its output still arrives: output does not wait for input.
            let words = format!("<after {}>", heard.len());
            device.write_all(words.as_bytes()).unwrap();
            client.sees(&words);
            memory = memory.max(rig.private_memory());
        }
    }
    assert_eq!(sha256(&heard), sha256(&wanted));
    assert!(memory < memory_before + HELD, "{memory} kB at most, before it {memory_before}");
    until("what was held to be freed", || (rig.private_memory() < memory_before + 512).then_some(()));

    let mut input = pasting.join().unwrap();
    input.write_all(b"\r~.").unwrap();
    assert_eq!(client.ends().code(), Some(255), "as OpenSSH ends when its user leaves by ~.");
    rig.wait_for_status("0 attached");
}

#[test]
fn a_client_can_detach_from_a_stuck_device_during_a_transfer() {
    let rig = served("xonxoff = true");
    let mut client = at_terminal(&rig);
    stop(&rig, &mut client);
    let mut input = client.take_input();
    // More than all buffers on the way hold. It stops when the client ends.
    let pasting = std::thread::spawn(move || input.write_all(&firmware()).is_err());
    let mut watcher = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1"]));
    watcher.sees("has write access; you are read-only");
    client.signal(Signal::SIGTERM);
    client.ends();
    assert!(pasting.join().unwrap(), "the paste was not stopped by the line");
    watcher.sees("detached; no client has write access]");
    watcher.type_in("\x05ca");
    watcher.sees("[you have write access]");
    go_on(&rig);
    let heard = collect(rig.device());
    watcher.type_in("mine");
    until("the next writer", || heard.lock().unwrap().ends_with(b"mine").then_some(()));
}

#[test]
fn a_user_leaves_at_once_behind_a_paste_and_the_device_never_gets_it() {
    let rig = served("xonxoff = true");
    let mut client = at_terminal(&rig);
    stop(&rig, &mut client);
    client.type_in(text());
    client.type_in("\x05c.");
    client.ends_with(0);
    rig.wait_for_status("0 attached");
    go_on(&rig);
    let heard = collect(rig.device());
    let mut next = at_terminal(&rig);
    next.type_in("mine");
    until("the next writer", || heard.lock().unwrap().ends_with(b"mine").then_some(()));
    // The kernel's queue and the hub's, which cannot be cancelled.
    let heard = heard.lock().unwrap().len();
    assert!(heard < 16 * 1024, "{heard} bytes");
}

/// OpenSSH that disconnects after two unanswered keepalives and exchanges keys after every 16 KiB, and whose log shows both.
fn impatient(rig: &Rig, terminal: &str) -> Client {
    let options = ["ServerAliveInterval=1", "ServerAliveCountMax=1", "RekeyLimit=16K"];
    let options = options.iter().flat_map(|option| ["-o", option]);
    Client::start(rig.ssh(&options.chain(["-vvv", terminal, "demo@127.0.0.1"]).collect::<Vec<_>>()))
}

/// Keepalives that were answered, and key exchanges that were completed.
fn lives(client: &Client) -> (usize, usize) {
    let log = client.aside();
    (log.matches("receive packet: type 82").count(), log.matches("SSH2_MSG_NEWKEYS received").count())
}

/// Longer than [`impatient`] waits for a reply.
fn outlasts_its_timeout(client: &Client) {
    let (answered, _) = lives(client);
    until("keepalives to be answered", || (lives(client).0 >= answered + 4).then_some(()));
}

fn arrives(heard: &Arc<Mutex<Vec<u8>>>, wanted: &[u8]) {
    until("the paste", || (heard.lock().unwrap().len() >= wanted.len()).then_some(()));
    assert_eq!(sha256(&heard.lock().unwrap()), sha256(wanted));
}

#[test]
fn a_paste_at_a_stuck_device_keeps_its_session_and_is_complete() {
    let rig = served("xonxoff = true");
    let mut client = impatient(&rig, "-tt");
    client.sees("[demo ");
    client.sees("]\r\n");
    stop(&rig, &mut client);
    let (_, exchanges) = lives(&client);
    client.type_in(text());
    until("keys to be exchanged", || (lives(&client).1 >= exchanges + PASTE / 16 / 1024).then_some(()));
    outlasts_its_timeout(&client);
    rig.say(b"and is heard");
    client.sees("and is heard");
    let heard = collect(rig.device());
    go_on(&rig);
    arrives(&heard, &text());
}

fn firmware() -> Vec<u8> {
    text().into_iter().cycle().take(FIRMWARE).collect()
}

#[test]
fn input_beyond_the_queue_waits_in_the_client_whose_session_stays() {
    let rig = served("xonxoff = true");
    let mut client = impatient(&rig, "-T");
    rig.wait_for_status("1 attached");
    stop(&rig, &mut client);
    let memory_before = rig.private_memory();
    let mut input = client.take_input();
    let sending = std::thread::spawn(move || input.write_all(&firmware()).unwrap());
    until("as much as is held", || (rig.private_memory() > memory_before + 1000).then_some(()));
    let (_, exchanges) = lives(&client);
    outlasts_its_timeout(&client);
    rig.say(b"and is heard");
    client.sees("and is heard");
    assert!(!sending.is_finished(), "a reader has taken {FIRMWARE} bytes");
    let memory = rig.private_memory();
    assert!(memory < memory_before + HELD, "{memory} kB, before it {memory_before}");
    let heard = collect(rig.device());
    go_on(&rig);
    arrives(&heard, &firmware());
    sending.join().unwrap();
    assert!(lives(&client).1 > exchanges);
    // The end of input, after the input before it.
    client.ends_with(0);
}

#[test]
fn others_than_openssh_paste_as_well() {
    for program in Program::ALL {
        let rig = served("xonxoff = true");
        let (key, hostkeys) = (rig.path("key"), rig.path("hostkeys"));
        let mut client = Client::start(program.at(rig.tcp_port, &hostkeys, "demo", By::Key(&key), true));
        client.sees("[demo ");
        client.sees("]\r\n");
        stop(&rig, &mut client);
        client.type_in(text());
        rig.say(b"and is heard");
        client.sees("and is heard");
        let heard = collect(rig.device());
        go_on(&rig);
        arrives(&heard, &text());
        client.type_in("\x05c.");
        client.ends_with(0);
    }
}

#[test]
fn a_break_in_a_paste_gets_through_to_a_device_that_takes_nothing() {
    let rig = served("xonxoff = true");
    let mut client = at_terminal(&rig);
    stop(&rig, &mut client);
    client.type_in(text());
    client.type_in("\x05cl0after");
    client.sees("[sending break]");
    rig.wait_for_journal("sends a break of 500 ms");
    rig.wait_for_journal(&format!(
        "{PASTE} bytes of input that the device did not accept were discarded for a break"
    ));
    go_on(&rig);
    rig.expect_at_device(b"after");
}

#[test]
fn a_paste_continues_over_a_reopened_tty() {
    let rig = served("");
    let mut client = at_terminal(&rig);
    let paste = text();
    let mut input = client.take_input();
    let (first, second) = (paste[..PASTE / 2].to_vec(), paste[PASTE / 2..].to_vec());
    let pasting = std::thread::spawn(move || {
        input.write_all(&first).unwrap();
        input.write_all(b"\x05co").unwrap();
        input.write_all(&second).unwrap();
        input
    });
    let mut device = rig.device();
    let mut heard = Vec::new();
    let mut buffer = [0; 1000];
    until("the paste", || {
        // Between the close and the open, a read of this end fails.
        if let Ok(count) = device.read(&mut buffer) {
            heard.extend_from_slice(&buffer[..count]);
        }
        (heard.len() >= PASTE).then_some(())
    });
    assert!(heard == paste, "the paste has changed on its way");
    client.sees("the tty is being reopened by ");
    pasting.join().unwrap();
}
