//! The notices of sessions and the output of `help`, in golden files (`SNAPSHOTS=overwrite` renews them).

use std::path::Path;

use crate::client::Client;
use crate::rig::Rig;
use crate::{at_terminal, served};

/// A text without what differs between runs: times, TCP ports and version.
pub fn stable(text: &str) -> String {
    let mut stable = text.replace('\r', "").replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let digits = |at: usize, text: &str| text.as_bytes()[at].is_ascii_digit();
    let mut at = 0;
    while at + 8 <= stable.len() {
        let time = [0, 1, 3, 4, 6, 7].iter().all(|offset| digits(at + offset, &stable))
            && stable.as_bytes()[at + 2] == b':'
            && stable.as_bytes()[at + 5] == b':';
        if time {
            stable.replace_range(at..at + 8, "HH:MM:SS");
        }
        at += stable[at..].chars().next().map_or(1, char::len_utf8);
    }
    stable
}

fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    snapbox::assert_data_eq!(stable(text), snapbox::Data::read_from(&path, None).raw());
}

/// The output of a client up to `last`, since the last call.
fn notices(client: &mut Client, last: &str) -> String {
    let before = client.sees(last);
    format!("{before}{last}\n")
}

fn two(rig: &Rig) -> (Client, Client) {
    let first = at_terminal(rig);
    rig.wait_for_status("1 attached");
    let mut second = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1"]));
    let banner = notices(&mut second, "to take over]");
    golden("session/banner-read-only.txt", &banner);
    rig.wait_for_status("2 attached");
    (first, second)
}

#[test]
fn escape_commands_and_their_replies() {
    let rig = served("description = \"core switch\"");
    let mut client = at_terminal(&rig);
    client.type_in("\x05c?");
    golden("session/help.txt", &notices(&mut client, "connect --escape none]"));
    client.type_in("\x05cl?");
    golden("session/breaks.txt", &notices(&mut client, "l9 2750 ms]"));
    let mut text = String::new();
    for (keys, last) in [
        ("\x05cZ", "for help]"),
        ("\x05clZ", "for help]"),
        ("\x05ca", "have write access]"),
        ("\x05cs", "read-only]"),
        ("x", "discarded]"),
        ("\x05co", "write access]"),
        ("\x05cMp", "write access]"),
        ("\x05cf", "have write access]"),
        ("\x05cw", "(you)]"),
        ("\x05cv", "VERSION]"),
        ("\x05ct", "timestamps on]"),
        ("\x05ct", "timestamps off]"),
        ("\x05cbhello\r", "no other user is attached]"),
        ("\x05cb\r", "not sent]"),
        ("\x05c/\r", "no search text]"),
        ("\x05c/nowhere\r", "in the log]"),
        ("\x05c;\r\x03", "(cancelled)]"),
        ("\x05c;nowhere\r\x03", "(cancelled)]"),
        ("\x05c\x12", "[end of replay]"),
        ("\x05cl0", "sending break]"),
    ] {
        client.type_in(keys);
        let last = last.replace("VERSION", env!("CARGO_PKG_VERSION"));
        let shown = notices(&mut client, &last);
        text.push_str(&format!("{}\n{}\n", keys.escape_default(), shown.trim()));
    }
    golden("session/replies.txt", &text);
}

#[test]
fn notices_of_other_sessions_and_of_the_device() {
    let mut rig = served("");
    let (mut first, mut second) = two(&rig);
    let mut text = String::new();
    for (keys, last) in [
        ("x", "discarded]"),
        ("\x05ca", "to take over]"),
        ("\x05cf", "have write access]"),
        ("\x05cs", "read-only]"),
        ("\x05ca", "have write access]"),
        ("\x05cbhello\r", "1 client]"),
        ("\x05co", "by demo]"),
    ] {
        second.type_in(keys);
        let shown = notices(&mut second, last);
        text.push_str(&format!("{}\n{}\n", keys.escape_default(), shown.trim()));
    }
    golden("session/second.txt", &text);
    let mut text = notices(&mut first, "by demo]");
    rig.unplug();
    text.push_str(&notices(&mut first, "unplugged "));
    rig.wait_for_status("unplugged");
    first.type_in("x");
    text.push_str(&notices(&mut first, "discarded]"));
    rig.plug();
    text.push_str(&notices(&mut first, "reconnected "));
    second.type_in("\x05c.");
    text.push_str(&notices(&mut first, "no client has write access]"));
    golden("session/first.txt", &text);
}

#[test]
fn help_of_the_commands_over_ssh() {
    let rig = served("");
    let output = rig.ssh(&["demo@127.0.0.1", "help"]).output().unwrap();
    golden("exec/help.txt", &String::from_utf8(output.stdout).unwrap());
}
