//! A port's records for its administrator, in golden files: STATUS, the marks in the capture log, and the journal of the port
//! and of its logins (`SNAPSHOTS=overwrite` renews them).

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use snapbox::Data;

use crate::client::Client;
use crate::rig::{Rig, until};
use crate::{at_terminal, notices, served};

const PORT: &str = "[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\n";

fn golden(name: &str, rig: &Rig, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    snapbox::assert_data_eq!(stable(rig, text), Data::read_from(&path, None).raw());
}

/// Without the bench's directory, times, and numbers that the kernel chose: TCP ports, processes, device numbers of ptys.
fn stable(rig: &Rig, text: &str) -> String {
    let text = notices::stable(&text.replace(&rig.dir.path().display().to_string(), "DIR"));
    let mut fingerprints = text.split("SHA256:");
    let first = fingerprints.next().unwrap().to_owned();
    // 43 characters of Base64.
    let text = fingerprints.fold(first, |text, part| format!("{text}SHA256:FINGERPRINT{}", &part[43..]));
    let mut stable = String::new();
    let mut digits = String::new();
    for c in text.chars().chain(['\n']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let is_rate = ["9600", "115200"].contains(&digits.as_str());
        let is_pty = stable.ends_with("/dev/pts/");
        stable.push_str(if is_pty || digits.len() > 3 && !is_rate { "NUMBER" } else { &digits });
        digits.clear();
        stable.push(c);
    }
    stable.pop();
    stable
}

#[test]
fn status_of_a_port() {
    let mut rig = served("");
    let mut states = Vec::new();
    let mut note = |rig: &Rig, part: &str| states.push(stable(rig, &rig.wait_for_status(part)));
    note(&rig, "8N1, 0 attached");
    let mut client = at_terminal(&rig);
    note(&rig, "1 attached");
    rig.configure(&format!("{PORT}parity = \"even\"\nbaud = 115200\n"));
    rig.apply();
    note(&rig, "; parity");
    rig.configure(&format!("{PORT}baud = \"fast\"\n"));
    rig.signal(Signal::SIGHUP);
    note(&rig, "baud = \"fast\"");
    rig.configure(PORT);
    rig.apply();
    let clean = "9600 8N1, 1 attached, 0 bytes in, 0 out";
    until("a STATUS without problems", || (rig.wait_for_status("attached") == clean).then_some(()));
    fs::write(rig.path("credentials/hostkey_rsa"), "x").unwrap();
    rig.apply();
    note(&rig, "host key ignored");
    rig.unplug();
    note(&rig, "unplugged");
    client.type_in("\x05c.");
    client.ends();

    // A file in place of the log that cannot be written.
    let mut rig = Rig::new("");
    fs::create_dir(rig.log_path()).unwrap();
    fs::remove_file(rig.path("credentials/hostkey_ed25519")).unwrap();
    rig.start_plugged();
    rig.wait_for_status("the log ");
    note(&rig, "SSH is not available");
    rig.stop();
    golden("service/status.txt", &rig, &states.join("\n"));
}

#[test]
fn status_of_a_port_that_cannot_be_served() {
    let mut rig = Rig::new("baud = \"fast\"");
    rig.spawn();
    let status = rig.wait_for_status("cannot be served");
    golden("service/status-unserved.txt", &rig, &status);
}

#[test]
fn marks_in_the_log_and_messages_in_the_journal() {
    let mut rig = served("description = \"core switch\"");
    let mut client = at_terminal(&rig);
    rig.wait_for_status("1 attached");
    let mut second = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1"]));
    second.sees("to take over]");
    rig.wait_for_status("2 attached");
    for (keys, last) in [
        ("\x05cf", "have write access]"),
        ("\x05cbhello\r", "1 client]"),
        ("\x05cl0", "sending break]"),
        ("\x05co", "by demo]"),
        ("\x05cs", "read-only]"),
    ] {
        second.type_in(keys);
        second.sees(last);
    }
    second.type_in("\x05c.");
    second.ends();
    rig.wait_for_status("1 attached");
    rig.configure(&format!("{PORT}baud = 115200\nparity = \"even\"\n"));
    rig.apply();
    client.sees("115200");
    rig.configure(&format!("{PORT}baud = \"fast\"\n"));
    rig.signal(Signal::SIGHUP);
    rig.wait_for_journal("settings unchanged");
    rig.unplug();
    rig.wait_for_status("unplugged");
    rig.plug();
    client.sees("reconnected ");
    client.type_in("\x05c.");
    client.ends();
    rig.wait_for_status("0 attached");
    rig.stop();
    let log = rig.log_text();
    let marks: Vec<_> = log.lines().filter_map(|line| line.split_once(' ')).map(|(_, mark)| mark).collect();
    golden("capture/marks.txt", &rig, &marks.join("\n"));
    golden("service/journal.txt", &rig, &rig.journal());
    let logins = rig.login_journal();
    let logins: Vec<_> = logins.lines().filter(|line| line.contains(" console-auth: ")).collect();
    golden("auth/journal.txt", &rig, &logins.join("\n"));
}
