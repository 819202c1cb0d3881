//! `ssh host command`: for scripts.

use std::io::Write;

use crate::bench::Bench;
use crate::client::Client;
use crate::rig::sha256;

const MEGABYTES: usize = 10_000_000;

#[test]
fn a_command_is_data_and_its_exit_status_is_the_clients() {
    let bench = Bench::new();
    for status in [0, 1, 2, 77] {
        bench.command(&format!("exit {status}")).ends_with(status);
    }
    let line = "show 'a b'; reboot $(id) --x";
    let mut client = bench.command(line);
    client.ends_with(0);
    assert_eq!(String::from_utf8(client.shown()).unwrap(), format!("words: --admin-session|--line={line}\n"));
    let mut client = Client::start(bench.ssh(&["-T", "alice@127.0.0.1", "--", "--x"]));
    client.ends_with(0);
    assert_eq!(String::from_utf8(client.shown()).unwrap(), "words: --admin-session|--line=--x\n");
    bench.helpers_have_ended();
}

#[test]
fn standard_error_is_a_separate_stream() {
    let bench = Bench::new();
    let mut client = bench.command("aside one two");
    client.ends_with(0);
    assert_eq!((client.shown(), client.aside()), (Vec::new(), "one two\n".to_owned()));
}

#[test]
fn a_killed_program_is_reported_as_a_signal() {
    let bench = Bench::new();
    // OpenSSH's client has no other exit status for it.
    bench.command("kill TERM").ends_with(255);
    bench.wait_for_journal("session ended, signal 15");
    bench.helpers_have_ended();
}

#[test]
fn ten_megabytes_pass_in_both_directions() {
    let bench = Bench::new();
    let mut client = bench.command(&format!("flood {MEGABYTES}"));
    client.ends_with(0);
    let wanted = b"0123456789abcde\n".repeat(MEGABYTES / 16);
    assert_eq!(sha256(&client.shown()), sha256(&wanted));

    let mut client = bench.command("swallow");
    let mut input = client.take_input();
    input.write_all(&wanted).unwrap();
    drop(input);
    client.ends_with(0);
    assert_eq!(String::from_utf8(client.shown()).unwrap(), format!("swallowed {MEGABYTES}\n"));
    bench.helpers_have_ended();
}

#[test]
fn a_command_line_that_is_too_long_or_no_text_has_a_sentence() {
    let bench = Bench::new();
    let mut client = bench.command(&"x".repeat(5000));
    client.ends_with(2);
    assert_eq!(client.aside(), "a command line is at most 4096 bytes of UTF-8 without a NUL\n");
}

#[test]
fn a_missing_program_is_an_error_of_the_server() {
    let bench = Bench::new();
    std::fs::remove_file(bench.path("root/usr/bin/consolectl")).unwrap();
    let mut client = bench.command("say hello");
    client.ends_with(1);
    assert_eq!(client.aside(), "cannot start the session; for the reason see journalctl -t console-auth\n");
    bench.wait_for_journal("usr/bin/consolectl as the user: No such file or directory");
}
