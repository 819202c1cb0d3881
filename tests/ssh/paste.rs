//! A paste that is faster than the line, and a device that takes nothing at all.

use std::io::{Read, Write};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::client::Client;
use crate::rig::{collect, sha256, until};
use crate::{at_terminal, go_on, served, stop};

const PASTE: usize = 200_000;

/// Text without a `~` at the beginning of a line and without the escape prefix, as pasted configurations are.
fn text() -> Vec<u8> {
    (0..).flat_map(|line| format!("set interface {line} up\r").into_bytes()).take(PASTE).collect()
}

#[test]
fn a_paste_into_a_slow_device_arrives_whole_while_the_device_is_heard() {
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
        // 20 kB/s, as a line of 200000 baud; this is no wait for anything.
        std::thread::sleep(Duration::from_millis(50));
        let before = heard.len();
        let count = device.read(&mut buffer).unwrap();
        heard.extend_from_slice(&buffer[..count]);
        if before / 20_000 != heard.len() / 20_000 {
            // While it stops reading altogether, it is heard: output does not wait for input.
            let words = format!("<after {}>", heard.len());
            device.write_all(words.as_bytes()).unwrap();
            client.sees(&words);
            memory = memory.max(rig.private_memory());
        }
    }
    assert_eq!(sha256(&heard), sha256(&wanted));
    assert!(memory < memory_before + 512, "{memory} kB at most, before it {memory_before}");

    let mut input = pasting.join().unwrap();
    input.write_all(b"\r~.").unwrap();
    assert_eq!(client.ends().code(), Some(255), "as OpenSSH ends when its user leaves by ~.");
    rig.wait_for_status("0 attached");
}

#[test]
fn who_leaves_a_stuck_device_in_the_middle_of_a_paste_is_gone() {
    let rig = served("xonxoff = true");
    let mut client = at_terminal(&rig);
    stop(&rig, &mut client);
    let mut input = client.take_input();
    // More than everything on the way takes. It breaks off when the client ends.
    let pasting = std::thread::spawn(move || input.write_all(&text()).is_err());
    let mut watcher = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1"]));
    watcher.sees("writes; you are watching");
    client.signal(Signal::SIGTERM);
    client.ends();
    assert!(pasting.join().unwrap(), "the paste was not stopped by the line");
    watcher.sees("left; nobody writes now]");
    watcher.type_in("\x05ca");
    watcher.sees("[you write]");
    go_on(&rig);
    let heard = collect(rig.device());
    watcher.type_in("mine");
    until("the next writer", || heard.lock().unwrap().ends_with(b"mine").then_some(()));
}

#[test]
fn a_user_at_a_stuck_device_can_leave() {
    let rig = served("xonxoff = true");
    let mut client = at_terminal(&rig);
    stop(&rig, &mut client);
    client.type_in("x".repeat(10_000));
    client.type_in("\x05c.");
    client.ends_with(0);
    rig.wait_for_status("0 attached");
}

#[test]
fn a_break_in_a_paste_gets_through_to_a_device_that_takes_nothing() {
    let rig = served("xonxoff = true");
    let mut client = at_terminal(&rig);
    stop(&rig, &mut client);
    client.type_in(&text()[..12_000]);
    client.type_in("\x05cl0after");
    client.sees("[break]");
    rig.wait_for_journal("sends a break of 500 ms");
    rig.wait_for_journal("12000 bytes that the line did not take were dropped for a break");
    go_on(&rig);
    rig.expect_at_device(b"after");
}

#[test]
fn a_paste_goes_on_over_a_line_that_is_opened_anew() {
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
    client.sees("the line is opened anew by ");
    pasting.join().unwrap();
}
