//! The content of the log besides output: input, attached users, and rows of bytes.

#[path = "support/client.rs"]
mod client;
#[path = "support/rig.rs"]
mod rig;

use std::time::Duration;

use client::Client;
use rig::{Rig, until};

fn served(log: &str) -> Rig {
    let mut rig = Rig::new(&format!("log = {log}"));
    rig.start_plugged();
    rig
}

/// The log without the times.
fn records(rig: &Rig) -> Vec<String> {
    rig.log_text().lines().map(|record| record[30..].to_owned()).collect()
}

#[test]
fn input_is_logged_where_it_was_sent_if_configured() {
    let rig = served("{ type = \"text\", input = true }");
    let mut client = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("1 attached");
    rig.say(b"login: ");
    rig.wait_for_log("login: ");
    for key in ["r", "oo", "t\r"] {
        client.type_in(key);
    }
    rig.expect_at_device(b"root\r");
    rig.say(b"\r\nwelcome\r\n");
    rig.wait_for_log("welcome");
    let log = records(&rig);
    let typed = log.iter().position(|record| record == "> root\\r").expect("what was typed");
    let welcome = log.iter().position(|record| record == "< welcome").expect("what was answered");
    assert!(typed < welcome, "{log:#?}");

    let rig = served("\"text\"");
    let mut client = Client::start(rig.consolectl(&["connect", "demo"]));
    client.type_in("secret\r");
    rig.expect_at_device(b"secret\r");
    rig.say(b"seen\r\n");
    rig.wait_for_log("seen");
    assert!(!rig.log_text().contains("secret"));
}

#[test]
fn a_line_is_a_record_whatever_ends_it() {
    let rig = served("\"text\"");
    // CR LF, CR, LF CR, CR CR LF, CR NUL LF, LF; a bar that draws itself again; a shell that ends its bracketed paste.
    rig.say(
        b"one\r\ntwo\rthree\n\rfour\r\r\nfive\r\0\nsix\n\r 10%\r 20%\r\n\x1b[?2004l\rseven\r\n\r\nend\r\n",
    );
    rig.wait_for_log("end\n");
    let wanted = [
        "< one",
        "< two",
        "< three",
        "< four",
        "< five",
        "< six",
        "<  10%",
        "<  20%",
        r"< \x1b[?2004l",
        "< seven",
        "< ",
        "< end",
    ];
    assert_eq!(records(&rig), wanted);
    // A line whose end is late is still one line, and line ends that come in parts are one.
    rig.say(b"prompt");
    rig.wait_for_log("prompt\n");
    rig.say(b"\r");
    rig.say(b"\nlast\r");
    rig.wait_for_log("last\n");
    assert_eq!(records(&rig)[wanted.len()..], ["< prompt", "< last"]);
    // Without escape sequences.
    let shown = rig.consolectl(&["log", "demo", "-n", "all"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(!shown.contains("2004") && shown.lines().count() == wanted.len() + 1, "{shown}");
}

#[test]
fn an_unfinished_line_of_input_is_logged() {
    let rig = served("{ type = \"both\", input = true }");
    let mut client = Client::start(rig.consolectl(&["connect", "demo"]));
    client.type_in("y");
    rig.expect_at_device(b"y");
    rig.wait_for_log("> 79 ");
    assert!(rig.log_text().contains("|y|"));
}

#[test]
fn the_last_input_is_in_the_log_of_a_stopped_port() {
    let mut rig = served("{ type = \"both\", input = true }");
    let mut client = Client::start(rig.consolectl(&["connect", "demo"]));
    client.type_in("y");
    rig.expect_at_device(b"y");
    assert!(rig.stop().success());
    assert!(rig.log_text().contains("|y|"), "{}", rig.log_text());
}

#[test]
fn the_log_names_users_who_attach_and_detach() {
    let rig = served("\"text\"");
    let mut client = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_log("# root (local) attached, read-write");
    client.end_input();
    client.signal(nix::sys::signal::Signal::SIGTERM);
    rig.wait_for_log("# root (local) detached");
}

#[test]
fn rows_are_16_bytes_and_a_pause_ends_one() {
    let rig = served("\"both\"");
    rig.say(b"0123456789abcdef\x1b[c");
    rig.wait_for_log("|.[c|");
    let log = records(&rig);
    assert!(
        log.contains(&"< 30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  |0123456789abcdef|".to_owned())
    );
    assert!(
        log.contains(&"< 1b 5b 63                                          |.[c|".to_owned()),
        "{log:#?}"
    );
}

#[test]
fn the_journal_gets_complete_lines_without_control_sequences() {
    let rig = served("{ type = \"none\", journal = true }");
    rig.say(b"hal");
    rig.say(b"f \x1b[2Jline\r\n");
    until("the line", || rig.journal().contains("half \\x1b[2Jline").then_some(()));
}

#[test]
fn a_removed_log_is_continued_in_a_new_file() {
    let mut rig = served("\"text\"");
    for round in 0..2 {
        rig.say(b"before\r\n");
        rig.wait_for_log("before");
        std::fs::remove_file(rig.log_path()).unwrap();
        rig.say(b"after\r\n");
        if round == 1 {
            // Output that the port has not read when it stops stays in the tty for the next process.
            until("the port to read it", || (rig.bytes_received() == 2 * 15).then_some(()));
            assert!(rig.stop().success());
        }
        let log = rig.wait_for_log("the log was removed: logging continues in a new file");
        assert!(log.contains("< after"), "{log}");
        assert!(!log.contains("before"), "{log}");
    }
    rig.wait_for_journal("the log was removed");
}

#[test]
fn bytes_appended_by_others_survive_a_reload_and_a_restart() {
    let mut rig = served("\"text\"");
    let append = |rig: &Rig, words: &str| {
        let mut log = std::fs::OpenOptions::new().append(true).open(rig.log_path()).unwrap();
        std::io::Write::write_all(&mut log, words.as_bytes()).unwrap();
    };
    rig.say(b"one\r\n");
    rig.wait_for_log("< one");
    append(&rig, "# by hand\n");
    rig.configure(
        "[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\nlog = { type = \"text\", sync = \"1s\" }\n",
    );
    rig.apply();
    rig.say(b"two\r\n");
    rig.wait_for_log("< two");
    append(&rig, "# again by hand\n");
    assert!(rig.stop().success());
    rig.start();
    rig.say(b"three\r\n");
    let log = rig.wait_for_log("< three");
    let order = ["< one", "# by hand", "< two", "# again by hand", "< three"];
    let places: Vec<_> =
        order.iter().map(|words| log.find(words).unwrap_or_else(|| panic!("{words} in {log}"))).collect();
    assert!(places.is_sorted(), "{log}");
}

/// Output of `consolectl play`, at full speed.
fn played(rig: &Rig) -> Vec<u8> {
    let output = rig.consolectl(&["play", "demo", "--at", "1h", "--speed", "1000"]).output().unwrap();
    output.stdout
}

#[test]
fn a_recording_has_all_bytes_over_kills_and_rotations() {
    let mut rig = served("{ type = \"text\", record = true }");
    let mut sent = Vec::new();
    // Line ends that the text log does not keep, and bytes that are not text.
    let noise: Vec<u8> = (0..=255).collect();
    for round in 0..12 {
        let text = format!("round {round}: 10%\r 20%\r\n\n\r\x1b[1m");
        for part in [text.as_bytes(), &noise, b"\xc5R\xff\xff"] {
            rig.say(part);
            sent.extend_from_slice(part);
        }
        match round % 4 {
            // Some bytes come while no process runs, some after.
            0 => rig.kill(),
            1 => rig.start(),
            2 => until("the recording so far", || (played(&rig) == sent).then_some(())),
            _ => {
                let path = rig.log_path();
                for file in [path.clone(), path.with_file_name("console.log.rec")] {
                    let name = file.file_name().unwrap().to_str().unwrap();
                    let turn = |number: u32| file.with_file_name(format!("{name}.{number}"));
                    for number in (1..5).rev() {
                        let _ = std::fs::rename(turn(number), turn(number + 1));
                    }
                    std::fs::rename(&file, turn(1)).unwrap();
                }
            }
        }
    }
    rig.say(b"the end\r\n");
    sent.extend_from_slice(b"the end\r\n");
    until("all of the recording", || (played(&rig) == sent).then_some(()));
}

/// How late this machine wakes a thread that sleeps, at worst, from now until the end: no program can be more exact.
struct Lateness(std::sync::Arc<std::sync::atomic::AtomicBool>, std::thread::JoinHandle<Duration>);

impl Lateness {
    fn measure() -> Self {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let nap = Duration::from_millis(1);
            let mut worst = Duration::ZERO;
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                let began = std::time::Instant::now();
                std::thread::sleep(nap);
                worst = worst.max(began.elapsed() - nap);
            }
            worst
        });
        Self(stop, thread)
    }

    fn end(self) -> f64 {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        self.1.join().unwrap().as_secs_f64()
    }
}

/// The error of `times`, whose beginning is another one than that of `true_times`: the worst of nine in ten, since a busy machine delays a
/// few of the bytes themselves on their way.
fn usual_error(times: &[f64], true_times: &[f64]) -> f64 {
    assert_eq!(times.len(), true_times.len(), "{times:?}");
    let mut errors: Vec<f64> =
        times.iter().zip(true_times).map(|(time, true_time)| time - true_time).collect();
    errors.sort_by(f64::total_cmp);
    let outliers = errors.len() / 20;
    (errors[errors.len() - 1 - outliers] - errors[outliers]) / 2.0
}

/// The time of each space that `consolectl play` prints, in seconds.
fn times_of_replay(rig: &Rig) -> Vec<f64> {
    let mut play = rig.consolectl(&["play", "demo", "--at", "1h"]);
    let mut child = play.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    let began = std::time::Instant::now();
    let (mut times, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = std::io::Read::read(&mut output, &mut buffer).unwrap();
        if count == 0 {
            break;
        }
        let now = began.elapsed().as_secs_f64();
        times.extend(buffer[..count].iter().filter(|&&byte| byte == b' ').map(|_| now));
    }
    assert!(child.wait().unwrap().success());
    times
}

/// Recorded and replayed times are within 30 ms of each byte.
#[test]
fn a_recording_has_the_times_at_which_bytes_came() {
    let rig = served("{ type = \"text\", record = true }");
    let lateness = Lateness::measure();
    let began = std::time::Instant::now();
    let mut sent = Vec::new();
    // Dots of a progress bar, then bursts, of which the last ones are coalesced: the text log has one time for all of a line.
    for count in 0..60 {
        sent.push(began.elapsed().as_secs_f64());
        let line = if count < 20 { count.to_string() } else { count.to_string().repeat(25) };
        rig.say(format!("{line} ").as_bytes());
        std::thread::sleep(Duration::from_millis(if count < 20 { 90 } else { 35 }));
    }
    let cast = || {
        let output = rig.consolectl(&["log", "demo", "--cast=2"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let cast = until("all of the cast", || Some(cast()).filter(|cast| cast.contains("59 ")));
    let mut recorded = Vec::new();
    for line in cast.lines().skip(1) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let (time, text) = (event[0].as_f64().unwrap(), event[2].as_str().unwrap());
        recorded.extend(text.matches(' ').map(|_| time));
    }
    let late = lateness.end();
    let error = usual_error(&recorded, &sent);
    eprintln!("times of the recording: {error:.4} s from those of the bytes; a timer here: {late:.4} s");
    assert!(error < 0.030 + late, "{error} s, where a timer is {late} s late");

    let lateness = Lateness::measure();
    let played = times_of_replay(&rig);
    let late = lateness.end();
    let error = usual_error(&played, &recorded);
    eprintln!("times of the replay: {error:.4} s from those of the recording; a timer here: {late:.4} s");
    assert!(error < 0.030 + late, "{error} s, where a timer is {late} s late");
    let version3 = rig.consolectl(&["log", "demo", "--cast"]).output().unwrap().stdout;
    assert!(version3.starts_with(b"{\"term\":{\"cols\":80,\"rows\":24}"), "{version3:?}");
}

#[test]
fn without_a_recording_play_says_how_to_make_one() {
    let rig = served("\"text\"");
    let output = rig.consolectl(&["play", "demo", "--at", "1h"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("there is no recording: set log.record = true"), "{said}");
}
