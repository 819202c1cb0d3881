//! A port with other clients than OpenSSH: PuTTY's plink and paramiko, by key and by password.

use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::accounts::Accounts;
use crate::client::Client;
use crate::programs::{By, Program, careful};
use crate::rig::{Rig, run, sha256, until};
use crate::{at_terminal, served};

/// More than any window or buffer on the way holds.
const FLOOD: usize = 4_000_000;

fn start(rig: &Rig, program: Program, terminal: bool) -> Client {
    let (key, hostkeys) = (rig.path("key"), rig.path("hostkeys"));
    Client::start(program.at(rig.tcp_port, &hostkeys, "demo", By::Key(&key), terminal))
}

/// A client whose session has begun.
fn with_terminal(rig: &Rig, program: Program) -> Client {
    let mut client = start(rig, program, true);
    client.sees("[demo ");
    client.sees("]\r\n");
    client
}

#[test]
fn by_password_and_by_key_they_type_and_see_the_answer() {
    let accounts = Accounts::enter();
    accounts.add("alice", Some("sesame"));
    accounts.run(&["usermod", "-aG", "dialout", "alice"]);
    let mut rig =
        Rig::with_config("[access]\ngroups = [\"dialout\"]\n[ports.demo]\ndevice = \"@DIR@/dev/demo\"\n");
    rig.serve_logins(false);
    rig.start_plugged();
    accounts.authorize("alice", &std::fs::read_to_string(rig.path("key.pub")).unwrap());
    let (key, hostkeys) = (rig.path("key"), rig.path("hostkeys"));
    for program in Program::ALL {
        for by in [By::Password("sesame"), By::Key(&key)] {
            let mut client = Client::start(program.at(rig.tcp_port, &hostkeys, "alice", by, true));
            client.sees("[demo 9600 8N1; ^Ec? for help]");
            client.type_in("it is me\r");
            rig.expect_at_device(b"it is me\r");
            rig.say(b"so it is\r\n");
            client.sees("so it is\r\n");
            client.type_in("\x05c.");
            client.ends_with(0);
            rig.wait_for_status("0 attached");
        }
        let wrong = program.at(rig.tcp_port, &hostkeys, "alice", By::Password("wrong"), true);
        let mut client = Client::start(wrong);
        assert_ne!(client.ends().code(), Some(0), "{program:?}");
        assert_eq!(String::from_utf8_lossy(&client.shown()), "", "{program:?}");
    }
}

/// A key that opens nothing.
fn foreign_key(rig: &Rig, name: &str) -> PathBuf {
    let key = rig.path(name);
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    key
}

/// paramiko asks for the login service before each of its attempts, and waits for the answer each time.
#[test]
fn paramiko_comes_in_by_password_after_keys_that_were_refused() {
    let accounts = Accounts::enter();
    accounts.add("alice", Some("sesame"));
    accounts.run(&["usermod", "-aG", "dialout", "alice"]);
    let mut rig =
        Rig::with_config("[access]\ngroups = [\"dialout\"]\n[ports.demo]\ndevice = \"@DIR@/dev/demo\"\n");
    rig.serve_logins(false);
    rig.start_plugged();
    let foreign = foreign_key(&rig, "foreign");
    let others: Vec<_> = (0..3).map(|count| foreign_key(&rig, &format!("agent{count}"))).collect();
    let hostkeys = rig.path("hostkeys");
    let socket = rig.path("agent");
    let mut agent = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).spawn().unwrap();
    until("the agent", || socket.exists().then_some(()));
    run(Command::new("ssh-add").arg("-q").args(&others).env("SSH_AUTH_SOCK", &socket));

    let mut by_file = Program::Paramiko.at(rig.tcp_port, &hostkeys, "alice", By::Key(&foreign), true);
    by_file.args(["--password", "sesame"]);
    let mut by_agent = Program::Paramiko.at(rig.tcp_port, &hostkeys, "alice", By::Password("sesame"), true);
    by_agent.arg("--agent").env("SSH_AUTH_SOCK", &socket);
    for command in [by_file, by_agent] {
        let mut client = Client::start(command);
        client.sees("[demo 9600 8N1; ^Ec? for help]");
        client.type_in("\x05c.");
        client.ends_with(0);
    }
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn the_escape_menu_answers_sends_a_break_and_leaves_well() {
    for program in Program::ALL {
        let rig = served("");
        let mut client = with_terminal(&rig, program);
        client.type_in("before\x05cw");
        client.sees("[users attached to demo\r\n read-write");
        client.sees("demo (127.0.0.1) (you)]");
        client.type_in("\x05cl0after");
        client.sees("[sending break]");
        rig.wait_for_journal("break of 500 ms");
        rig.expect_at_device(b"beforeafter");
        client.type_in("\x05c?");
        client.sees("^Ec ?       show this list");
        client.type_in("\x05c.");
        client.ends_with(0);
        rig.wait_for_status("0 attached");
    }
}

#[test]
fn a_break_that_wants_no_answer_is_sent_as_well() {
    let rig = served("");
    let mut client = with_terminal(&rig, Program::Paramiko);
    client.type_in("before");
    rig.expect_at_device(b"before");
    client.signal(Signal::SIGUSR2);
    client.sees("[sending break]");
    rig.wait_for_journal("break of 500 ms");
    client.type_in("after");
    rig.expect_at_device(b"after");
}

#[test]
fn a_terminal_that_changes_its_size_stays() {
    let rig = served("");
    let mut client = with_terminal(&rig, Program::Paramiko);
    client.signal(Signal::SIGUSR1);
    client.type_in("still here");
    rig.expect_at_device(b"still here");
    client.type_in("\x05c.");
    client.ends_with(0);
}

#[test]
fn the_end_of_a_terminals_input_leaves() {
    for program in Program::ALL {
        let rig = served("");
        let mut client = with_terminal(&rig, program);
        client.type_in("last\r");
        client.end_input();
        rig.expect_at_device(b"last\r");
        client.ends_with(0);
    }
}

#[test]
fn without_a_terminal_they_get_bytes_and_end_once_their_input_is_answered() {
    let every_byte: Vec<u8> = (0..=255).cycle().take(2048).collect();
    let mut sessions = Program::ALL.map(|program| {
        let rig = served("baud = 115200");
        let client = start(&rig, program, false);
        (program, rig, client)
    });
    for (_, rig, client) in &mut sessions {
        rig.wait_for_status("1 attached");
        client.type_in(&every_byte);
        client.end_input();
        rig.expect_at_device(&every_byte);
        rig.say(&every_byte);
    }
    for (program, _, client) in &mut sessions {
        client.ends_with(0);
        assert_eq!(client.shown(), every_byte, "{program:?}");
        assert!(!client.aside().contains('['), "{program:?}: {}", client.aside());
    }
}

#[test]
fn a_flood_is_complete_and_a_client_that_stops_reading_blocks_no_other() {
    let rig = served("log = \"none\"");
    let mut clients: Vec<Client> = Program::ALL.map(|program| start(&rig, program, false)).into();
    rig.wait_for_status("2 attached");
    let stopped = with_terminal(&rig, Program::Plink);
    stopped.signal(Signal::SIGSTOP);
    let flood: Vec<u8> = (0..FLOOD / 10).flat_map(|line| format!("{line:08}\r\n").into_bytes()).collect();
    rig.say(&flood);
    for client in &mut clients {
        until("the flood", || (client.shown().len() >= flood.len()).then_some(()));
        assert_eq!(sha256(&client.shown()), sha256(&flood));
    }
}

#[test]
fn users_of_different_clients_take_over_and_exchange_messages() {
    let rig = served("");
    let mut openssh = at_terminal(&rig);
    let mut plink = with_terminal(&rig, Program::Plink);
    let mut paramiko = with_terminal(&rig, Program::Paramiko);
    plink.sees("[demo (127.0.0.1) has write access; you are read-only; ^Ecf to take over]");
    plink.type_in("\x05cf");
    plink.sees("[you have write access]");
    openssh.sees("[demo (127.0.0.1) took over; you are now read-only]");
    paramiko.sees("[demo (127.0.0.1) now has write access]");
    plink.type_in("by plink|");
    rig.expect_at_device(b"by plink|");
    paramiko.type_in("\x05cbmy turn\r");
    paramiko.sees("[message sent to 2 clients]");
    for other in [&mut openssh, &mut plink] {
        other.sees("[demo (127.0.0.1): my turn]");
    }
    paramiko.type_in("\x05cf");
    plink.sees("[demo (127.0.0.1) took over; you are now read-only]");
    paramiko.sees("[you have write access]");
    paramiko.type_in("by paramiko");
    rig.expect_at_device(b"by paramiko");
    rig.say(b"for all\r\n");
    for client in [&mut openssh, &mut plink, &mut paramiko] {
        client.sees("for all");
    }
    paramiko.type_in("\x05c.");
    paramiko.ends_with(0);
    for other in [&mut openssh, &mut plink] {
        other.sees("[demo (127.0.0.1) detached; no client has write access]");
    }
}

/// libssh with an RSA key: by the time that it sends NEWKEYS it must know whether the server verifies SHA-2, or it sends no signature. sshd
/// sends its extensions with its own NEWKEYS.
#[test]
fn the_extensions_come_before_the_client_sends_its_new_keys() {
    let rig = served("");
    let mut client = Client::start(careful(rig.tcp_port, "demo", &rig.path("key"), "extensions"));
    client.sees("done\n");
    client.ends_with(0);
}

/// The replies to `window-change` are those of sshd. Its success for `signal` would be wrong here: a console has no process to signal.
#[test]
fn a_client_that_asks_for_a_reply_to_any_request_gets_it() {
    let rig = served("");
    let mut client = Client::start(careful(rig.tcp_port, "demo", &rig.path("key"), "replies"));
    client.sees("window-change: success\nsignal: failure\ndone\n");
    client.ends_with(0);
}
