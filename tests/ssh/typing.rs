//! One user at a port: output, input to the device, and escapes.

use crate::client::Client;
use crate::{at_terminal, served, with_bytes_only};

#[test]
fn a_terminal_is_shown_banner_settings_and_the_last_lines() {
    let rig = served("description = \"core switch\"\nbaud = 115200");
    for line in 1..=30 {
        rig.say(format!("line {line}\r\n").as_bytes());
    }
    rig.say(b"login: ");
    rig.wait_for_log("line 30");
    // A line that has not ended is logged after a moment.
    rig.wait_for_log("login: ");
    let mut client = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1"]));
    let before = client.sees("[demo (core switch) 115200 8N1; ^Ec? for help]\r\n");
    assert_eq!(before, "\r\n");
    let replayed = client.sees("login: ");
    // Twenty lines, of which the last is the prompt.
    let lines: Vec<_> = (12..=30).map(|line| format!("line {line}\r\n")).collect();
    assert_eq!(replayed, lines.concat());
    client.type_in("root\r");
    rig.expect_at_device(b"root\r");
    rig.say(b"Password: ");
    client.sees("Password: ");
}

#[test]
fn without_a_terminal_there_is_only_device_output() {
    let rig = served("description = \"core switch\"");
    rig.say(b"long ago\r\n");
    rig.wait_for_log("long ago");
    let mut client = with_bytes_only(&rig, 1);
    let every_byte: Vec<u8> = (0..=255).cycle().take(2048).collect();
    rig.say(&every_byte);
    crate::rig::until("every byte", || (client.shown().len() >= every_byte.len()).then_some(()));
    assert_eq!(client.shown(), every_byte);
    // The escape prefix among them.
    client.type_in(&every_byte);
    client.type_in("\x05c.");
    rig.expect_at_device(&every_byte);
    rig.expect_at_device(b"\x05c.");
    assert_eq!(client.aside(), "");
}

#[test]
fn a_terminal_is_eight_bits_wide_both_ways() {
    let rig = served("");
    let mut client = at_terminal(&rig);
    let every_byte: Vec<u8> = (0..=255).collect();
    rig.say(&every_byte);
    let shown_before = client.shown().len();
    crate::rig::until("every byte", || {
        client.shown().windows(every_byte.len()).any(|part| part == every_byte).then_some(())
    });
    assert!(shown_before <= client.shown().len());
    client.type_in(&every_byte);
    rig.expect_at_device(&every_byte);
}

#[test]
fn all_input_of_a_pipe_reaches_the_device_and_its_answer_is_returned() {
    let rig = served("");
    let mut client = with_bytes_only(&rig, 1);
    client.type_in("show version\r");
    client.end_input();
    rig.expect_at_device(b"show version\r");
    rig.say(b"Version 1\r\n");
    client.sees("Version 1\r\n");
}

#[test]
fn the_end_of_a_terminals_input_leaves() {
    let rig = served("");
    let mut client = at_terminal(&rig);
    client.type_in("last\r");
    client.end_input();
    rig.expect_at_device(b"last\r");
    client.ends_with(0);
}

#[test]
fn the_clients_own_break_is_sent() {
    let rig = served("");
    let mut client = at_terminal(&rig);
    client.type_in("before\r~B");
    client.sees("[sending break]");
    rig.wait_for_journal("break of 500 ms");
    client.type_in("after\r");
    rig.expect_at_device(b"before\rafter\r");
}

#[test]
fn the_escape_for_a_break_sends_one() {
    let rig = served("");
    let mut client = at_terminal(&rig);
    client.type_in("before\x05cl0after");
    client.sees("[sending break]");
    rig.wait_for_journal("break of 500 ms");
    rig.expect_at_device(b"beforeafter");
}

#[test]
fn the_escape_for_leaving_ends_with_exit_status_0() {
    let rig = served("");
    let mut client = at_terminal(&rig);
    client.type_in("typed\x05c.");
    client.ends_with(0);
    rig.wait_for_status("0 attached");
    // Input typed before the escape is sent, the escape is not.
    let mut next = at_terminal(&rig);
    next.type_in("|next");
    rig.expect_at_device(b"typed|next");
}

#[test]
fn help_lists_the_commands_and_an_unknown_one_is_reported() {
    let rig = served("");
    let mut client = at_terminal(&rig);
    client.type_in("\x05c?");
    for command in
        ["^Ec .       detach", "^Ec a ", "^Ec f ", "^Ec s ", "^Ec w u", "^Ec l0      send a break", "^Ec ? "]
    {
        client.sees(command);
    }
    client.type_in("\x05cZ");
    client.sees("[^EcZ is not a command; ^Ec? for help]");
    client.type_in("\x05clZ");
    client.sees("[^EclZ is not a command; ^Ec? for help]");
    client.type_in("\x05c\r");
    client.type_in("\x05cw");
    client.sees("[users attached to demo\r\n read-write");
    client.sees("demo (127.0.0.1) (you)]");
    client.type_in("only this");
    rig.expect_at_device(b"only this");
}

#[test]
fn a_lone_prefix_reaches_the_device() {
    let rig = served("");
    let mut client = at_terminal(&rig);
    // ^E is "end of line" to many a shell: pressed, and then something else, or twice and then c.
    client.type_in("\x05x");
    rig.expect_at_device(b"\x05x");
    client.type_in("\x05");
    client.type_in("\x05");
    client.type_in("\x05");
    client.type_in("d");
    rig.expect_at_device(b"\x05\x05\x05d");
}

#[test]
fn another_escape_prefix_and_none_are_as_configured() {
    let rig = served("escape = \"^]x\"");
    let mut client = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1"]));
    client.sees("; ^]x? for help]");
    client.type_in("\x05c.\x1dx.");
    client.ends_with(0);
}
