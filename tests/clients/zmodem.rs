//! Files to and from a device: `sz`, `rz` and `sx` through a session, byte for byte.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Bench;
use crate::client::Client;
use crate::programs::By;
use crate::rig::{sha256, until};
use crate::tool::Tool;

/// 1 MiB in which each byte follows each, those of the escape prefix too.
fn payload() -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut bytes: Vec<u8> = (0..1 << 20)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 24) as u8
        })
        .collect();
    // Bytes that OpenSSH, our menu and flow control would interpret.
    for (at, words) in
        [(1000, &b"\r~.\x05c.\r~."[..]), (500_000, b"\x11\x13\x05c.\x05\x05"), (900_000, b"\x18\x18\x18")]
    {
        bytes[at..at + words.len()].copy_from_slice(words);
    }
    bytes
}

/// This program here, and ssh: as `socat EXEC:… EXEC:…` couples them.
fn couple(bench: &Bench, local: &str, terminal: bool, directory: &Path) -> Client {
    let key = bench.rig.path("key");
    let options: &[&str] = if terminal { &["-e", "none"] } else { &[] };
    let ssh = Tool::OpenSsh.program(&bench.rig, By::Key(&key), terminal, options);
    let words: Vec<_> = ssh.get_args().map(|word| word.to_str().unwrap()).collect();
    let mut socat = Command::new("socat");
    socat.arg(format!("EXEC:{local}")).arg(format!("EXEC:ssh {}", words.join(" "))).current_dir(directory);
    Client::start(socat)
}

/// Rate of a line at 115200 8N1, in bytes a second.
const LINE_RATE: f64 = 11_520.0;
/// The least share of it that a transfer of a mebibyte achieves, handshakes included.
const LEAST_SHARE: f64 = 0.9;

/// One direction of a line at its rate. A late wake-up is compensated, as by a UART's FIFO.
fn carry(mut from: impl Read, mut to: impl Write) {
    let mut chunk = [0; 64];
    let mut free_at = Instant::now();
    // EIO: the end of a pty.
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        let now = Instant::now();
        if now.saturating_duration_since(free_at) > Duration::from_millis(10) {
            free_at = now;
        }
        free_at += Duration::from_secs_f64(count as f64 / LINE_RATE);
        std::thread::sleep(free_at.saturating_duration_since(now));
        // A program that has exited reads nothing.
        if to.write_all(&chunk[..count]).is_err() {
            return;
        }
    }
}

/// A file at the rate of a line at 115200 baud, through `ssh -T`. A mebibyte takes a minute and a half each: `make release-check` sets
/// `TRANSFER_BYTES`. Below that, the handshakes are too large a part for a bound.
fn at_line_rate(local: &str, remote: &str) {
    let size = std::env::var("TRANSFER_BYTES").map_or(16 * 1024, |size| size.parse().unwrap());
    let bench = Bench::new("");
    let (here, there) = (bench.rig.path("here"), bench.rig.path("there"));
    for directory in [&here, &there] {
        std::fs::create_dir(directory).unwrap();
    }
    let upwards = !local.starts_with('r');
    let (source, destination) = if upwards { (&here, &there) } else { (&there, &here) };
    let contents = &payload()[..size];
    std::fs::write(source.join("image"), contents).unwrap();
    let began = Instant::now();
    let mut coupled = couple(&bench, local, false, &here);
    bench.rig.wait_for_status("1 attached");
    let mut words = remote.split(' ');
    let mut device = Command::new(words.next().unwrap());
    device.args(words).current_dir(&there);
    device.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut device = device.spawn().unwrap();
    let (to, from) = (device.stdin.take().unwrap(), device.stdout.take().unwrap());
    let (line_out, line_in) = (bench.rig.device(), bench.rig.device());
    // The threads end with the test.
    std::thread::spawn(move || carry(line_out, to));
    std::thread::spawn(move || carry(from, line_in));
    coupled.ends_within(Duration::from_secs_f64(30.0 + 2.0 * size as f64 / LINE_RATE));
    let took = began.elapsed().as_secs_f64();
    until("the device's program to end", || device.try_wait().unwrap());
    let arrived = std::fs::read(destination.join("image")).unwrap();
    assert_eq!(sha256(&arrived), sha256(contents));
    let share = size as f64 / took / LINE_RATE;
    eprintln!("{local} at 115200 baud: {size} bytes in {took:.1} s, {:.1} % of the line", 100.0 * share);
    assert!(size < 1 << 20 || share >= LEAST_SHARE, "{local}: {share}");
}

#[test]
fn ymodem_goes_to_the_device_at_the_rate_of_the_line() {
    at_line_rate("sb -k image", "rb -b");
}

#[test]
fn ymodem_comes_from_the_device_at_the_rate_of_the_line() {
    at_line_rate("rb -b", "sb -k image");
}

#[test]
fn zmodem_goes_to_the_device_at_the_rate_of_the_line() {
    // Without a window, it waits 60 s for the reply to all that it has written.
    at_line_rate("sz -b -w 16384 image", "rz -b");
}

#[test]
fn zmodem_comes_from_the_device_at_the_rate_of_the_line() {
    at_line_rate("rz -b", "sz -b image");
}

/// Transfers one file to the device, or from it.
fn transferred(settings: &str, local: &str, remote: &str, terminal: bool) {
    let mut bench = Bench::new(settings);
    let (here, there) = (bench.rig.path("here"), bench.rig.path("there"));
    for directory in [&here, &there] {
        std::fs::create_dir(directory).unwrap();
    }
    let upwards = !local.starts_with('r');
    let (source, destination) = if upwards { (&here, &there) } else { (&there, &here) };
    std::fs::write(source.join("image"), payload()).unwrap();
    // Behind socat, as behind a line: lrzsz would flush what has come at the pty itself, and there answers come sooner than on any line.
    let mut device = Command::new("socat");
    device.args(["-", &format!("EXEC:{remote}")]).current_dir(&there).stderr(Stdio::null());
    let mut coupled = couple(&bench, local, terminal, &here);
    // A receiver whose first packet is lost repeats it only after ten seconds.
    bench.rig.wait_for_status("1 attached");
    bench.connect(device);
    let arrived = destination.join("image");
    // XMODEM waits for each block's reply, so there is no limit for the duration of a file.
    match terminal {
        false => coupled.ends_with(0),
        // The newline with which a terminal session ends has no reader.
        true => drop(coupled.ends()),
    }
    until("the device's program to end", || bench.device.as_mut().unwrap().try_wait().unwrap());
    assert_eq!(sha256(&std::fs::read(arrived).unwrap()), sha256(&payload()));
}

#[test]
fn zmodem_takes_a_file_to_the_device_through_ssh_t() {
    transferred("", "sz -b image", "rz -b", false);
}

#[test]
fn zmodem_brings_a_file_from_the_device_through_ssh_t() {
    transferred("", "rz -b", "sz -b image", false);
}

#[test]
fn xmodem_takes_a_file_to_the_device_through_ssh_t() {
    transferred("", "sx -k image", "rx -c image", false);
}

#[test]
fn zmodem_takes_a_file_to_the_device_through_a_terminal_without_an_escape() {
    transferred("escape = \"none\"", "sz -b image", "rz -b", true);
}

#[test]
fn zmodem_with_escaped_control_characters_works_through_a_terminal_too() {
    transferred("", "sz -b -e image", "rz -b", true);
}
