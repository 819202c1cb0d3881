//! Two administrators at two prompts, each on a terminal of tmux's: each sees the other's changes as they happen, without a keypress.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::bus::Bus;
use crate::tmux::Tmux;

fn prompt(bus: &Bus) -> Tmux {
    prompt_on(bus, "xterm")
}

fn prompt_on(bus: &Bus, terminal: &str) -> Tmux {
    let mut words = vec!["-i".to_owned(), "PATH=/usr/bin:/bin".to_owned()];
    words.extend(bus.environment().map(|(name, value)| format!("{name}={value}")));
    words.extend(["LANG=C.UTF-8".to_owned(), format!("TERM={terminal}")]);
    words.push(env!("CARGO_BIN_EXE_consolectl").to_owned());
    let terminal = Tmux::start(Command::new("env").args(words));
    terminal.shows("> ");
    terminal
}

/// One second, or on a busy machine five times the duration of a command.
fn soon(bus: &Bus) -> Duration {
    let begun = Instant::now();
    bus.done(&["diff"]);
    Duration::from_secs(1).max(begun.elapsed() * 5)
}

#[test]
fn each_prompt_prints_the_others_change_commit_and_rollback_above_the_edited_line() {
    let bus = Bus::new();
    let (alice, bob) = (prompt(&bus), prompt(&bus));
    alice.types("pari");
    bob.types("baud ttyUSB1 19");
    bob.shows("> baud ttyUSB1 19");
    alice.shows("> pari");

    let soon = soon(&bus);
    let act = |words: &[&str], notice: &str| {
        bus.done(words);
        let begun = Instant::now();
        for terminal in [&alice, &bob] {
            terminal.shows(notice);
        }
        assert!(begun.elapsed() < soon, "{notice}: {:?} of {soon:?}", begun.elapsed());
    };
    act(&["baud", "ttyUSB0", "115200"], "root set ports.ttyUSB0.baud = 115200 (was 9600)");
    // Minutes are too long for a test: consolectl counts in them, and busctl does not.
    let on_trial = |seconds: &str| {
        let mut commit = Command::new("busctl");
        commit.arg(format!("--address=unix:path={}", bus.path("bus").display()));
        commit.args(["call", "org.consoleserver1", "/org/consoleserver1", "org.consoleserver1.Manager"]);
        let (code, _, aside) = crate::bus::said(commit.args(["CommitConfirmed", "tu", "0", seconds]));
        assert_eq!((code, aside.as_str()), (0, ""));
    };
    on_trial("12");
    for terminal in [&alice, &bob] {
        terminal.shows("root committed 1 change; rolled back at ");
        terminal.shows("the last commit is rolled back in 0:10 unless it is confirmed");
    }
    act(
        &["revert"],
        "root rolled back the last commit, which was not confirmed: its change is uncommitted again",
    );
    // Rolled back by the deadline, without any input.
    on_trial("2");
    for terminal in [&alice, &bob] {
        terminal.shows("the last commit was rolled back, because it was not confirmed in time");
    }
    let last = |terminal: &Tmux| terminal.screen().lines().last().unwrap_or_default().to_owned();
    crate::rig::until("the lines to be drawn again", || {
        (last(&alice) == "> pari" && last(&bob) == "> baud ttyUSB1 19").then_some(())
    });

    // The typed line is unchanged; a change that was not seen yet is printed before it.
    bob.types("200\r");
    bob.shows("the whole configuration was changed by console-admin at");
    bob.types("diff\r");
    bob.shows("ports.ttyUSB0.baud  9600       115200  root");
    bob.types("baud ttyUSB1 19200\r");
    alice.shows("root set ports.ttyUSB1.baud = 19200 (was 9600)");
    // A user's own changes are not reported.
    bob.types("commit\r");
    bob.shows("2 changes committed");
    alice.shows("root committed 2 changes");
    assert!(!bob.screen().contains("root set ports.ttyUSB1.baud"), "{}", bob.screen());
    assert!(!bob.screen().contains("root committed 2 changes"), "{}", bob.screen());

    // A prompt that counts down stops when another user rolls the commit back.
    bob.types("baud ttyUSB1 38400\r");
    on_trial("60");
    alice.shows("rolled back at ");
    alice.types("\x15\r");
    alice.shows("confirm within 0:5");
    let begun = alice.screen().matches("root rolled back").count();
    bus.done(&["revert"]);
    crate::rig::until("the rollback to be printed", || {
        (alice.screen().matches("root rolled back").count() > begun).then_some(())
    });
    crate::rig::until("the prompt without a time", || {
        (!last(&alice).contains("confirm within")).then_some(())
    });
}

#[test]
fn notices_during_a_command_are_printed_before_the_next_prompt_and_not_in_scripts() {
    let bus = Bus::new();
    let alice = prompt(&bus);
    // learn waits for an adapter that is never plugged in, until Control-C.
    alice.types("learn rack\r");
    alice.shows("learn rack");
    let mut script = bus.consolectl(&[]);
    let mut script =
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = script.stdin.take().unwrap();
    lines.write_all(b"diff\n").unwrap();
    bus.done(&["baud", "ttyUSB0", "115200"]);
    alice.types("\x03");
    alice.shows("root set ports.ttyUSB0.baud = 115200 (was 9600)");
    alice.shows("1 uncommitted> ");
    lines.write_all(b"parity ttyUSB9 E\n").unwrap();
    drop(lines);
    let output = script.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("root set"), "{said}");
}

#[test]
fn a_terminal_that_cannot_be_redrawn_prints_notices_too() {
    let bus = Bus::new();
    let alice = prompt_on(&bus, "dumb");
    bus.done(&["baud", "ttyUSB0", "115200"]);
    alice.shows("root set ports.ttyUSB0.baud = 115200 (was 9600)");
    alice.types("diff\r");
    alice.shows("ports.ttyUSB0.baud  9600       115200  root");
}
