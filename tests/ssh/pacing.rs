//! Delays between sent characters, and replaced characters: `output_delay`, `output_line_delay`, `imap` and `omap`.

use std::io::Read;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::rig::{Rig, TIMEOUT, until};
use crate::{at_terminal, go_on, served, stop};

/// The device's input, each read with its time.
fn arrivals(rig: &Rig) -> Receiver<(Instant, Vec<u8>)> {
    let (sender, arrivals) = channel();
    let mut device = rig.device();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = device.read(&mut buffer) {
            if sender.send((Instant::now(), buffer[..count].to_vec())).is_err() {
                break;
            }
        }
    });
    arrivals
}

/// Waits until `wanted` has arrived; returns the time of each of its bytes.
#[track_caller]
fn times(arrivals: &Receiver<(Instant, Vec<u8>)>, wanted: &[u8]) -> Vec<Instant> {
    let (mut heard, mut times) = (Vec::new(), Vec::new());
    while heard.len() < wanted.len() {
        let (at, bytes) = arrivals.recv_timeout(TIMEOUT).unwrap_or_else(|_| {
            panic!("only {:?} came to the device", String::from_utf8_lossy(&heard));
        });
        times.extend(std::iter::repeat_n(at, bytes.len()));
        heard.extend(bytes);
    }
    assert_eq!(String::from_utf8_lossy(&heard), String::from_utf8_lossy(wanted));
    times
}

fn command(rig: &Rig, words: &[&str]) -> std::process::Output {
    let mut ssh = rig.ssh(&["demo@127.0.0.1"]);
    ssh.args(words).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn each_character_of_a_paste_has_its_delay_while_output_is_read() {
    const PAUSE: Duration = Duration::from_millis(50);
    let rig = served("output_delay = \"50ms\"");
    let mut client = at_terminal(&rig);
    let device = arrivals(&rig);
    let paste = b"interface ethernet 0\rno shutdown\r".repeat(3);
    let began = Instant::now();
    client.type_in(&paste);
    // Output does not wait for input.
    let (_, first) = device.recv_timeout(TIMEOUT).unwrap();
    assert_eq!(first, &paste[..1], "one character, and not the whole paste");
    rig.say(b"<heard>");
    client.sees("<heard>");
    let heard_after = began.elapsed();
    let times = times(&device, &paste[1..]);
    assert!(times[times.len() - 1] - began >= PAUSE * (paste.len() - 1) as u32);
    assert!(heard_after < times[times.len() - 1] - began, "output had to wait for the paste");
    assert_eq!(rig.bytes_sent(), paste.len() as u64);
}

#[test]
fn a_line_has_its_pause_whatever_ends_it_and_its_characters_have_none() {
    const PAUSE: Duration = Duration::from_millis(700);
    let rig = served("output_line_delay = \"700ms\"");
    let mut client = at_terminal(&rig);
    let device = arrivals(&rig);
    // Measured from before the input, so that a late reader does not shorten a pause.
    let began = Instant::now();
    client.type_in("one\rtwo\nthree\r\nfour");
    let wanted = b"one\rtwo\nthree\r\nfour";
    let times = times(&device, wanted);
    let at = |word: &str| times[wanted.windows(word.len()).position(|part| part == word.as_bytes()).unwrap()];
    for (pauses, word) in [(1, "two"), (2, "three"), (3, "four")] {
        assert!(at(word) - began >= PAUSE * pauses, "{word}");
    }
    // CR LF is one line end: its LF does not wait.
    let within = times[wanted.len() - 5] - times[wanted.len() - 6];
    assert!(within < PAUSE, "{within:?} between CR and LF");
}

#[test]
fn a_paste_with_pauses_is_whole_and_bounded_and_does_not_end_by_the_ports_timeout() {
    let rig = served("output_delay = \"1ms\"\ntimeout = 1");
    let mut client = at_terminal(&rig);
    let device = arrivals(&rig);
    let paste: Vec<u8> =
        (0..).flat_map(|line| format!("set interface {line} up\r").into_bytes()).take(4000).collect();
    let began = Instant::now();
    client.type_in(&paste);
    let times = times(&device, &paste);
    assert!(times[times.len() - 1] - began >= Duration::from_millis(3999));
    client.sees("closed: idle timeout");
}

#[test]
fn a_break_does_not_wait_for_a_paste_with_pauses() {
    let rig = served("output_delay = \"1s\"");
    let mut client = at_terminal(&rig);
    let device = arrivals(&rig);
    let began = Instant::now();
    client.type_in("x".repeat(600));
    client.type_in("\x05cl0");
    client.sees("[sending break]");
    // The paste itself would take ten minutes.
    assert!(began.elapsed() < TIMEOUT);
    rig.wait_for_journal("sends a break of 500 ms");
    rig.wait_for_journal("bytes of input that the device did not accept were discarded for a break");
    // None of it arrives afterwards.
    client.type_in("after");
    let mut heard = Vec::new();
    until("what is typed after the break", || {
        heard.extend(device.recv_timeout(TIMEOUT).unwrap().1);
        heard.ends_with(b"after").then_some(())
    });
    assert!(heard.len() < 600 && heard.strip_suffix(b"after").unwrap().iter().all(|byte| *byte == b'x'));
}

#[test]
fn taking_over_does_not_wait_for_a_paste_with_delays() {
    let rig = served("output_delay = \"100ms\"");
    let mut first = at_terminal(&rig);
    let device = arrivals(&rig);
    first.type_in("x".repeat(5000));
    device.recv_timeout(TIMEOUT).unwrap();
    let mut second = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1"]));
    second.sees("has write access; you are read-only");
    second.type_in("\x05cf");
    second.sees("[you have write access]");
    second.type_in("mine\r");
    first.sees("bytes of your input were not sent");
    let mut heard = Vec::new();
    until("the new writer's line", || {
        heard.extend(device.recv_timeout(TIMEOUT).unwrap().1);
        heard.ends_with(b"mine\r").then_some(())
    });
    let before = heard.strip_suffix(b"mine\r").unwrap();
    assert!(before.iter().all(|byte| *byte == b'x'), "the two are mixed: {heard:?}");
    assert!(before.len() < 2500, "the paste continued: {}", before.len());
}

#[test]
fn detaching_during_a_paste_with_delays_sends_a_last_command() {
    let rig = served("output_delay = \"50ms\"");
    let mut client = at_terminal(&rig);
    let device = arrivals(&rig);
    client.type_in("exit\r\x05c.");
    client.ends_with(0);
    times(&device, b"exit\r");
    let mut client = at_terminal(&rig);
    client.type_in("x".repeat(5000));
    device.recv_timeout(TIMEOUT).unwrap();
    client.type_in("\x05c.");
    client.ends_with(0);
    rig.wait_for_status("0 attached");
    let mut next = at_terminal(&rig);
    next.type_in("mine");
    let mut heard = Vec::new();
    until("the next writer", || {
        heard.extend(device.recv_timeout(TIMEOUT).unwrap().1);
        heard.ends_with(b"mine").then_some(())
    });
    assert!(heard.len() < 2500, "the paste continued: {}", heard.len());
}

#[test]
fn flow_control_holds_a_paste_with_pauses() {
    let rig = served("output_delay = \"5ms\"\nxonxoff = true");
    let mut client = at_terminal(&rig);
    stop(&rig, &mut client);
    let device = arrivals(&rig);
    client.type_in("held back");
    // The input has arrived at the port: later requests are answered after it.
    client.type_in("\x05cw");
    client.sees("users attached to demo");
    assert!(device.try_recv().is_err(), "the device had stopped the line");
    go_on(&rig);
    times(&device, b"held back");
}

#[test]
fn a_pipe_with_delays_is_sent_completely() {
    let rig = served("output_delay = \"10ms\"\nomap = [\"lfcr\"]\nimap = [\"lfcrlf\"]");
    let device = arrivals(&rig);
    let mut client = Client::start(rig.ssh(&["-T", "demo@127.0.0.1"]));
    rig.wait_for_status("1 attached");
    let bytes: Vec<u8> = (0..=255).collect();
    client.type_in(&bytes);
    client.end_input();
    times(&device, &bytes);
    rig.say(&bytes);
    client.ends_with(0);
    assert_eq!(client.shown(), bytes, "a pipe carries the bytes as they are");
}

#[test]
fn send_has_the_ports_pauses_or_its_own() {
    let rig = served("output_delay = \"30ms\"\nomap = [\"crcrlf\"]");
    let device = arrivals(&rig);
    let text = "show version".repeat(3);
    let begin = Instant::now();
    // Longer than the time that the line has for it.
    let sent = command(&rig, &["send", "--timeout", "1", &format!("'{text}\\r'")]);
    assert_eq!(sent.status.code(), Some(0), "{}", String::from_utf8_lossy(&sent.stderr));
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(30) * 37, "{took:?}");
    let status = String::from_utf8(command(&rig, &["status"]).stdout).unwrap();
    assert!(status.contains("settings 9600 8N1, output_delay 30ms, omap crcrlf\n"), "{status}");
    times(&device, format!("{text}\r\n").as_bytes());
    let begin = Instant::now();
    let sent = command(&rig, &["send", "--output-delay", "none", "--raw", &format!("'{text}\\r'")]);
    assert_eq!(sent.status.code(), Some(0));
    assert!(begin.elapsed() < took, "the port's own pauses");
    times(&device, format!("{text}\r").as_bytes());
    let begin = Instant::now();
    let mut local = rig.consolectl(&["send", "--output-line-delay", "600ms", "demo", r"a\rb"]);
    assert_eq!(local.status().unwrap().code(), Some(0));
    let times = times(&device, b"a\r\nb");
    assert!(times[3] - begin >= Duration::from_millis(600));
    for (words, wanted) in [
        (["--output-delay", "20"], "use \"1ms\" to \"10s\", or \"none\""),
        (["--output-line-delay", "1h"], "use \"1ms\" to \"10s\", or \"none\""),
    ] {
        let refused = command(&rig, &[&["send"], &words[..], &["x"]].concat());
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains(wanted));
        let refused = rig.consolectl(&[&["send"], &words[..], &["demo", "x"]].concat()).output().unwrap();
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains(wanted));
    }
}

#[test]
fn a_mapping_is_for_terminals_and_not_for_the_log() {
    let mut rig = Rig::new("imap = [\"lfcrlf\"]\nomap = [\"crcrlf\", \"delbs\"]\nlog = \"raw\"");
    rig.serve_logins(true);
    rig.start_plugged();
    rig.say(b"before\nit\n");
    let mut client = at_terminal(&rig);
    client.sees("before\r\nit\r\n");
    rig.say(b"stair\ncase\n");
    client.sees("stair\r\ncase\r\n");
    client.type_in("ls\x7f\x7f\r");
    rig.expect_at_device(b"ls\x08\x08\r\n");
    let mut local = rig.consolectl(&["send", "demo", r"x\r"]);
    assert!(!local.status().unwrap().success(), "another session has write access");
    client.type_in("\x05cr");
    client.sees("before\r\nit\r\nstair\r\ncase\r\n");
    until("the log", || (rig.log() == b"before\nit\nstair\ncase\n").then_some(()));

    // Sessions apply it as soon as it changes.
    let config = std::fs::read_to_string(rig.path("config.toml")).unwrap();
    rig.configure(&config.replace("\"lfcrlf\"", "\"lfcr\"").replace("\"crcrlf\", \"delbs\"", ""));
    rig.apply();
    rig.say(b"now\nthis\n");
    client.sees("now\rthis\r");
    client.type_in("\x7f\r");
    rig.expect_at_device(b"\x7f\r");
}

/// Delays cost nothing once they are over.
#[test]
fn a_port_with_pauses_that_has_nothing_to_send_rests() {
    let rig = served("output_delay = \"1ms\"\noutput_line_delay = \"10s\"");
    let mut client = at_terminal(&rig);
    let device = arrivals(&rig);
    client.type_in("x\r");
    times(&device, b"x\r");
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", rig.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_whitespace().last().unwrap().parse::<u64>().unwrap()
    };
    let before = switches();
    // This measures a rate and waits for nothing: a timer of 1 ms would wake the port 2000 times.
    std::thread::sleep(Duration::from_secs(2));
    let woken = switches() - before;
    assert!(woken < 100, "woken {woken} times within 2 s");
    client.type_in("\x05c.");
    client.ends_with(0);
}
