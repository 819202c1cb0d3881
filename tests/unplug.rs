//! The device is unplugged and plugged in again while two users are attached: both keep their sessions and get both notices, and
//! the log has the times.

use std::io::Write;
use std::process::Stdio;

#[path = "support/rig.rs"]
mod rig;

use rig::{Rig, collect, until};

#[test]
fn sessions_survive_an_unplug_and_are_notified() {
    let mut rig = Rig::new("");
    rig.serve_logins(true);
    rig.start_plugged();
    let mut children = Vec::new();
    let mut screens = Vec::new();
    let mut typing = Vec::new();
    for attached in 1..=2 {
        let mut ssh = rig.ssh(&["-tt", "demo@127.0.0.1"]);
        let mut child =
            ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        screens.push(collect(child.stdout.take().unwrap()));
        typing.push(child.stdin.take().unwrap());
        children.push(child);
        rig.wait_for_status(&format!("{attached} attached"));
    }
    let both_see = |words: &str| {
        for screen in &screens {
            until(words, || String::from_utf8_lossy(&screen.lock().unwrap()).contains(words).then_some(()));
        }
    };
    rig.say(b"last words\r\n");
    both_see("last words");

    rig.unplug();
    both_see("[demo unplugged ");
    rig.wait_for_status("unplugged since");
    assert_eq!(rig.stored(), ["intake", "ring"], "a dead tty is not kept");
    typing[0].write_all(b"into the void").unwrap();
    until("the writer to be told", || {
        String::from_utf8_lossy(&screens[0].lock().unwrap()).contains("input is discarded").then_some(())
    });

    rig.plug();
    both_see("[demo reconnected ");
    rig.wait_for_status("2 attached");
    rig.say(b"first words\r\n");
    both_see("first words");
    typing[0].write_all(b"typed\r").unwrap();
    rig.expect_at_device(b"typed\r");

    let log = rig.wait_for_log("first words");
    let order = ["last words", "# demo unplugged", "# demo plugged in", "first words"];
    let places: Vec<_> =
        order.iter().map(|words| log.find(words).unwrap_or_else(|| panic!("{words} in {log}"))).collect();
    assert!(places.is_sorted(), "{log}");
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn without_clients_the_process_exits_and_a_new_one_serves_the_same_sockets() {
    let mut rig = Rig::new("");
    rig.start_plugged();
    rig.say(b"hello\r\n");
    rig.wait_for_log("hello");
    rig.unplug();
    assert!(rig.wait().success(), "nothing to do is no failure");
    assert!(rig.log_text().contains("# demo unplugged"));

    rig.plug();
    rig.start();
    rig.wait_for_status("8N1");
    rig.say(b"again\r\n");
    rig.wait_for_log("again");
}

#[test]
fn unsent_input_is_not_sent_to_the_next_device() {
    let mut rig = Rig::new("log = \"text\"");
    rig.serve_logins(true);
    rig.start_plugged();
    let mut ssh = rig.ssh(&["-tt", "demo@127.0.0.1"]);
    let mut child = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let screen = collect(child.stdout.take().unwrap());
    rig.wait_for_status("1 attached");
    // Twice what a pty accepts while its other end is not read (8 KiB of flip buffers, 4 KiB of N_TTY).
    let mut typing = child.stdin.take().unwrap();
    typing.write_all(&[b'x'; 24 * 1024]).unwrap();
    until("some of it at the device", || (rig.bytes_sent() > 0).then_some(()));
    rig.unplug();
    until("the writer to be told", || {
        String::from_utf8_lossy(&screen.lock().unwrap()).contains("of your input were not sent").then_some(())
    });
    rig.plug();
    rig.wait_for_log("# demo plugged in");
    typing.write_all(b"fresh\r").unwrap();
    rig.expect_at_device(b"fresh\r");
    child.kill().unwrap();
    child.wait().unwrap();
}
