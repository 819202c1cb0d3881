//! Every client must support: a login by key and by password, commands, a paste, keepalives, a break.

use std::io::Write;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::client::Client;
use crate::programs::By;
use crate::rig::{Rig, collect, run, sha256, until};
use crate::tool::Tool;
use crate::{Bench, succeeds};

const PASTE: usize = 200_000;
/// More than a client's limit of unanswered keepalives, of which it sends one each second.
const STALL: Duration = Duration::from_secs(6);

/// A pasted configuration, a different one for each client.
fn text(tool: Tool) -> Vec<u8> {
    (0..)
        .flat_map(|line| format!("set interface {line} description {tool:?}\r").into_bytes())
        .take(PASTE)
        .collect()
}

#[test]
fn each_logs_in_by_key_and_by_password() {
    let bench = Bench::new("");
    let key = bench.rig.path("key");
    for tool in Tool::ALL {
        for by in Tool::logins(&key) {
            let shown = succeeds(&mut tool.command(&bench.rig, by, "status"));
            assert!(shown.contains("settings 115200 8N1"), "{tool:?} {by:?}: {shown}");
        }
    }
}

/// The client first offers a key that the server does not know, as from an agent or ~/.ssh, and then the password.
#[test]
fn paramiko_with_a_foreign_key_of_its_own_logs_in_by_password() {
    let bench = Bench::new("");
    let directory = bench.accounts.home("root").join(".ssh");
    std::fs::create_dir(&directory).unwrap();
    for kind in ["rsa", "ecdsa", "ed25519"] {
        run(Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-t", kind, "-f"])
            .arg(directory.join(format!("id_{kind}"))));
    }
    let mut client = Tool::Paramiko.command(&bench.rig, By::Password(crate::PASSWORD), "status");
    client.env("HOME", bench.accounts.home("root"));
    assert!(succeeds(&mut client).contains("exit 0"));
}

#[test]
fn the_libraries_run_commands_one_after_the_other_on_a_connection() {
    let bench = Bench::new("");
    let key = bench.rig.path("key");
    for tool in [Tool::Paramiko, Tool::Asyncssh, Tool::Libssh2] {
        let shown = succeeds(tool.command(&bench.rig, By::Key(&key), "status").args(["help", "status"]));
        assert_eq!(shown.matches("settings 115200 8N1").count(), 2, "{tool:?}: {shown}");
        assert_eq!(shown.matches("exit 0\n").count(), 3, "{tool:?}: {shown}");
    }
}

#[test]
fn openssh_and_putty_share_a_connection() {
    let bench = Bench::new("");
    let key = bench.rig.path("key");
    let path = format!("ControlPath={}", bench.rig.path("control").display());
    let persist = ["-o", &path, "-o", "ControlMaster=auto", "-o", "ControlPersist=30"];
    for _ in 0..12 {
        let mut ssh = Tool::OpenSsh.program(&bench.rig, By::Key(&key), false, &persist);
        assert!(succeeds(ssh.arg("status")).contains("settings 115200 8N1"));
    }
    assert_eq!(
        bench.rig.login_journal().matches("granted as alice").count(),
        1,
        "one connection:\n{}",
        bench.rig.login_journal()
    );
    succeeds(Tool::OpenSsh.program(&bench.rig, By::Key(&key), false, &["-o", &path, "-O", "exit"]).arg("-q"));

    let mut upstream =
        Client::start(Tool::Plink.program(&bench.rig, By::Key(&key), false, &["-share", "-N"]));
    let downstream = || Tool::Plink.program(&bench.rig, By::Key(&key), false, &["-share"]);
    until("plink's upstream", || {
        let mut asked = downstream();
        asked.arg("-shareexists").status().unwrap().success().then_some(())
    });
    for _ in 0..3 {
        assert!(succeeds(downstream().arg("status")).contains("settings 115200 8N1"));
    }
    assert_eq!(bench.rig.login_journal().matches("granted as alice").count(), 2, "one connection more");
    assert!(!upstream.has_ended(), "{}", upstream.aside());
}

/// A device that stops reading for a while, in the middle of a paste, from clients that send keepalives.
#[test]
fn a_paste_into_a_device_that_stops_for_longer_than_keepalives_wait_arrives_whole() {
    let bench = Bench::new("");
    // Each client its own port, at the same time: the accounts are the bench's.
    let sessions = Tool::ALL.map(|tool| {
        let (rig, mut client) = stopped(&bench, tool);
        let mut input = client.take_input();
        let pasting = thread::spawn(move || {
            input.write_all(&text(tool)).map(|()| input).map_err(|error| format!("{tool:?}: {error}"))
        });
        (tool, rig, client, pasting)
    });
    // The device's time, no wait for anything.
    thread::sleep(STALL);
    for (tool, rig, mut client, pasting) in sessions {
        assert!(!client.has_ended(), "{tool:?} has given up: {}", client.aside());
        let heard = collect(rig.device());
        rig.say(b"\x11");
        until(&format!("the paste of {tool:?}"), || (heard.lock().unwrap().len() >= PASTE).then_some(()));
        assert_eq!(sha256(&heard.lock().unwrap()), sha256(&text(tool)), "{tool:?}");
        rig.say(b"it is in\r\n");
        client.sees("it is in\r\n");
        drop(pasting.join().unwrap().unwrap());
    }
}

/// A port with flow control and this client at it, after the device has sent XOFF.
fn stopped(bench: &Bench, tool: Tool) -> (Rig, Client) {
    let rig = bench.another("xonxoff = true");
    let mut client = Client::start(tool.pipe(&rig));
    rig.wait_for_status("1 attached");
    rig.say(b"\x13stopped");
    client.sees("stopped");
    (rig, client)
}

#[test]
fn keepalives_are_answered_while_nothing_happens() {
    let bench = Bench::new("write = \"shared\"");
    let mut clients = Tool::ALL.map(|tool| {
        let client = Client::start(tool.pipe(&bench.rig));
        (tool, client)
    });
    bench.rig.wait_for_status("6 attached");
    // Nothing happens for this long; this does not wait for an event.
    thread::sleep(STALL);
    for (tool, client) in &mut clients {
        let words = format!("{tool:?} is here\r");
        assert!(!client.has_ended(), "{tool:?}: {}", client.aside());
        client.type_in(&words);
        bench.rig.expect_at_device(words.as_bytes());
    }
}

#[test]
fn each_sends_a_break() {
    let bench = Bench::new("");
    let key = bench.rig.path("key");
    for tool in Tool::ALL {
        let before = bench.rig.journal().matches("sends a break of 300 ms").count();
        succeeds(&mut tool.command(&bench.rig, By::Key(&key), "break 300"));
        until(&format!("the break of {tool:?}"), || {
            (bench.rig.journal().matches("sends a break of 300 ms").count() > before).then_some(())
        });
    }
    // A request of RFC 4335, with a length.
    let before = bench.rig.journal().matches("sends a break").count();
    let _client = Client::start(Tool::Asyncssh.library(&bench.rig, By::Key(&key), "break"));
    until("asyncssh's break", || {
        (bench.rig.journal().matches("sends a break").count() > before).then_some(())
    });
}
