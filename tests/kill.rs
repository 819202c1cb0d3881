//! `kill -9` at each point of the data path, with the descriptors kept as systemd keeps them: no output of the device
//! is lost or logged twice, and the tty is not reopened.

use std::io::Write;

#[path = "support/rig.rs"]
mod rig;

use rig::{Rig, until};

/// Numbered lines, which show where bytes are lost or duplicated.
fn words(from: usize, to: usize) -> Vec<u8> {
    (from..to)
        .flat_map(|number| format!("line {number:06} of what the device said\r\n").into_bytes())
        .collect()
}

/// The port is killed the `count`-th time that it reaches `point`, while the device sends, and restarted; then
/// the log is complete.
fn survives(point: &str, count: u32, log: &str) {
    let mut rig = Rig::new(&format!("log = {log:?}\n"));
    rig.environment("CONSOLE_FAILPOINT", &format!("{point}:{count}"));
    rig.start_plugged();
    let everything = words(0, 6000);
    let mut device = rig.device();
    let saying = std::thread::spawn(move || device.write_all(&words(0, 6000)).unwrap());
    let status = rig.wait();
    assert!(status.code().is_none(), "it should have been killed at {point}, not {status}");
    assert_eq!(rig.stored(), ["intake", "ring", "tty"]);

    rig.environment("CONSOLE_FAILPOINT", "nowhere:1");
    rig.start();
    saying.join().unwrap();
    if log == "raw" {
        until("the log", || (rig.log().len() >= everything.len()).then_some(()));
        assert!(rig.log() == everything, "{point}:{count}: {}", first_difference(&rig.log(), &everything));
    } else {
        rig.wait_for_log("line 005999 of what the device said\n");
        let said: Vec<String> = joined(&rig.log_text());
        let wanted = String::from_utf8(everything).unwrap();
        let wanted: Vec<&str> = wanted.lines().collect();
        for (said, wanted) in said.iter().zip(&wanted) {
            assert_eq!(said, wanted, "{point}:{count}");
        }
        assert_eq!(said.len(), wanted.len(), "{point}:{count}");
    }
    assert!(rig.stop().success());
}

/// The lines of a text log, with continued records joined.
fn joined(log: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for record in log.lines() {
        let (_, rest) = record.split_once(' ').unwrap();
        match rest.split_at(2) {
            ("<+", more) => lines.last_mut().unwrap().push_str(more),
            ("< ", line) => lines.push(line.to_owned()),
            (mark, line) => panic!("{mark:?} {line:?}"),
        }
    }
    lines
}

fn first_difference(got: &[u8], wanted: &[u8]) -> String {
    let at = got.iter().zip(wanted).take_while(|(got, wanted)| got == wanted).count();
    let around = |bytes: &[u8]| {
        String::from_utf8_lossy(&bytes[at.saturating_sub(40)..bytes.len().min(at + 40)]).into_owned()
    };
    format!("at {at}: {:?} instead of {:?}", around(got), around(wanted))
}

#[test]
fn a_kill_after_publishing_loses_and_duplicates_nothing() {
    for count in [1, 2, 17] {
        survives("published", count, "raw");
        survives("published", count, "text");
    }
}

#[test]
fn a_kill_after_the_log_write_loses_and_duplicates_nothing() {
    for count in [2, 3, 5] {
        survives("log-written", count, "raw");
        survives("log-written", count, "text");
    }
}

#[test]
fn a_kill_after_the_mark_loses_and_duplicates_nothing() {
    for count in [2, 3, 5] {
        survives("log-marked", count, "raw");
        survives("log-marked", count, "text");
    }
}

#[test]
fn a_kill_after_the_read_loses_and_duplicates_nothing() {
    for count in [1, 2, 17] {
        survives("read", count, "raw");
        survives("read", count, "text");
    }
}

#[test]
fn the_tty_stays_open_over_kills_and_restarts() {
    let mut rig = Rig::new("log = \"raw\"");
    rig.start_plugged();
    let mut wanted = Vec::new();
    for round in 0..6 {
        let line = format!("round {round}\n");
        rig.say(line.as_bytes());
        wanted.extend_from_slice(line.as_bytes());
        if round % 2 == 0 {
            rig.kill();
        } else {
            assert!(rig.stop().success());
        }
        // While no port process runs, the kernel buffers output: a closed slave would make this fail with EIO.
        let line = format!("unattended {round}\n");
        rig.say(line.as_bytes());
        wanted.extend_from_slice(line.as_bytes());
        rig.start();
        until("the log", || (rig.log() == wanted).then_some(()));
    }
}

#[test]
fn a_kill_between_cr_and_lf_leaves_no_extra_record() {
    let mut rig = Rig::new("");
    rig.start_plugged();
    let endings: [fn(&mut Rig); 2] = [Rig::kill, |rig| assert!(rig.stop().success())];
    for end in endings {
        rig.say(b"one\r");
        // After the silence it is a record.
        rig.wait_for_log("< one\n");
        end(&mut rig);
        rig.say(b"\ntwo\r\n");
        rig.start();
        rig.wait_for_log("< two\n");
        assert_eq!(joined(&rig.log_text()), ["one", "two"]);
        assert!(!rig.log_text().contains("<+"), "{}", rig.log_text());
        std::fs::write(rig.log_path(), "").unwrap();
    }
    // A note in between does not wait for the line feed.
    rig.say(b"three\r");
    rig.wait_for_log("< three\n");
    rig.unplug();
    rig.wait_for_log("# demo unplugged");
}
