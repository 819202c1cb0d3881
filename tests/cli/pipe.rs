//! Commands by standard input.

use std::io::Write;
use std::process::Stdio;

use crate::bus::Bus;

fn piped(bus: &Bus, lines: &str) -> (i32, String, String) {
    let mut command = bus.consolectl(&[]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let bus = Bus::new();
    // As `consolectl list | head -1`: the exit code is that of a program that SIGPIPE has ended.
    for words in [&["help"][..], &["list"], &["show", "ttyUSB0"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = bus.consolectl(words);
        let output = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let aside = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), aside.as_ref()), (Some(141), ""), "{words:?}");
    }
}

#[test]
fn lines_are_run_in_order_up_to_the_end_or_exit() {
    let bus = Bus::new();
    let (code, shown, aside) = piped(
        &bus,
        "# a port\ncreate core\n\ndescribe core 'rack 4; top'\nset core device /dev/null\nexit\nbaud core 1\n",
    );
    assert_eq!((code, aside.as_str()), (0, ""), "{shown}");
    assert!(bus.done(&["show", "core"]).contains("rack 4; top"));
}

#[test]
fn the_first_line_that_fails_stops_the_script_and_sets_the_exit_status() {
    let bus = Bus::new();
    let (code, _, aside) = piped(&bus, "baud ttyUSB0 19200\nbaud ttyUSB0 0\nbaud ttyUSB1 19200\n");
    assert_eq!(code, 1);
    assert_eq!(aside, "consolectl: line 2: baud 0: expected a number from 1 to 4294967295\n");
    let diff = bus.done(&["diff"]);
    assert!(diff.contains("ttyUSB0") && !diff.contains("ttyUSB1"), "{diff}");
    let (code, _, aside) = piped(&bus, "reboot\n");
    assert_eq!(code, 2);
    assert!(aside.starts_with("consolectl: line 1: unknown command reboot"), "{aside}");
    let (code, _, aside) = piped(&bus, "show 'ttyUSB0\n");
    assert_eq!((code, aside.as_str()), (2, "consolectl: line 1: missing closing quote\n"));
}
