//! The escape menu, with the commands of conserver, over OpenSSH.

use crate::client::Client;
use crate::rig::Rig;
use crate::{at_terminal, served};

#[test]
fn the_last_lines_are_shown_again_and_nothing_makes_the_terminal_answer() {
    let rig = served("replay = 2");
    rig.say(b"ancient\r\none \x1b[6n\r\ntwo \x1b[1mbold\r\n\x1b]0;title\x07three");
    rig.wait_for_log("three");
    let mut client = at_terminal(&rig);
    client.sees("two \x1b[1mbold\r\n\x1b[0mthree");
    let shown = String::from_utf8(client.shown()).unwrap();
    assert!(!shown.contains("ancient") && !shown.contains("title"), "{shown:?}");
    client.type_in("\x05cr");
    client.sees("[replay of the last 20 lines]\r\nancient\r\none \r\ntwo \x1b[1mbold\r\nthree\x1b[0m");
    client.sees("[end of replay]\r\nthree");
    client.type_in("\x05c\x12");
    client.sees("[replay of the last line]\r\nthree\r\n[end of replay]\r\nthree");
    rig.say(b", and on");
    client.sees(", and on");
    let shown = String::from_utf8(client.shown()).unwrap();
    assert!(!shown.contains("\x1b[6n"), "a question to the terminal: {shown:?}");
}

#[test]
fn a_message_is_sent_to_the_other_users_and_not_to_the_device() {
    let rig = served("");
    let mut one = at_terminal(&rig);
    rig.wait_for_status("1 attached");
    let mut other = at_terminal(&rig);
    rig.wait_for_status("2 attached");
    one.type_in("\x05cbreboting\x7f\x7f\x7f\x7foting now\r");
    one.sees("[message to the other users: ");
    other.sees("[demo (127.0.0.1): rebooting now]");
    one.sees("[message sent to 1 client]");
    other.type_in("\x05cbno\x1b");
    one.type_in("after");
    rig.expect_at_device(b"after");
}

#[test]
fn words_are_found_in_the_log() {
    let rig = served("");
    rig.say(b"eth0 up\r\nkernel: PANIC at \x07 noon\r\nquiet\r\n");
    rig.wait_for_log("quiet");
    let mut client = at_terminal(&rig);
    client.type_in("\x05c/panic\r");
    client.sees("[\"panic\": 1 matching line in the log\r\n ");
    client.sees("kernel: PANIC at ");
    client.type_in("\x05c/nowhere\r");
    client.sees("[\"nowhere\": no matching line in the log]");
}

#[test]
fn information_has_settings_bytes_and_what_a_pty_lacks() {
    let rig = served("baud = 115200\ndescription = \"core switch\"");
    rig.say(b"12345");
    let mut client = at_terminal(&rig);
    client.sees("12345");
    client.type_in("\x05ci");
    client.sees("[demo: core switch\r\n device   ");
    client.sees(" state    open\r\n settings 115200 8N1\r\n bytes    5 in, 0 out\r\n");
    client.sees(" errors   not reported by the driver\r\n modem    no modem lines\r\n");
    client.type_in("\x05cMd");
    client.sees("[demo has no modem lines]");
    client.type_in("\x05cv");
    client.sees(&format!("[consoleserver {}]", env!("CARGO_PKG_VERSION")));
}

#[test]
fn reopening_the_tty_requires_write_access() {
    let rig = served("");
    let mut writer = at_terminal(&rig);
    rig.wait_for_status("1 attached");
    let mut watcher = at_terminal(&rig);
    rig.wait_for_status("2 attached");
    watcher.type_in("\x05co");
    watcher.sees("[you are read-only: this command requires write access]");
    let opened = |rig: &Rig| rig.journal().matches("demo opened").count();
    let before = opened(&rig);
    writer.type_in("\x05co");
    watcher.sees("[the tty is being reopened by demo]");
    crate::rig::until("the line opened again", || (opened(&rig) > before).then_some(()));
    writer.type_in("on");
    rig.expect_at_device(b"on");
}

#[test]
fn timestamps_are_per_session() {
    let rig = served("");
    let mut stamped = at_terminal(&rig);
    rig.wait_for_status("1 attached");
    let mut plain = at_terminal(&rig);
    rig.wait_for_status("2 attached");
    stamped.type_in("\x05ct");
    stamped.sees("[timestamps on]");
    rig.say(b"hello\r\n");
    plain.sees("hello");
    let before = stamped.sees("hello");
    let stamp = before.rsplit('\n').next().unwrap();
    assert!(
        stamp.len() == "[12:01:07] ".len() && stamp.starts_with('[') && stamp.ends_with("] "),
        "{before:?}"
    );
    stamped.type_in("\x05ct");
    stamped.sees("[timestamps off]");
    assert!(!String::from_utf8(plain.shown()).unwrap().contains("] hello"));
}

#[test]
fn another_console_is_named_with_its_port_and_a_longer_break_is_sent() {
    let mut rig = Rig::with_config(
        "[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\n[ports.core]\nssh_port = 8100\n",
    );
    rig.serve_logins(true);
    rig.start_plugged();
    let mut client: Client = at_terminal(&rig);
    client.type_in("\x05c;core\r");
    client.sees("[core is at TCP port 8100; to connect: ssh -p 8100 -l demo 127.0.0.1]");
    client.type_in("\x05c;\r");
    client.sees(" core             TCP port 8100: ssh -p 8100 -l demo 127.0.0.1");
    client.sees(" demo             this console");
    client.type_in("nix\r");
    client.sees("[there is no port nix: the ports are core, demo]\r\n\r\n[console: ");
    client.type_in("\x1b");
    client.type_in("\x05c?");
    client.sees("^Ec ;       show how to connect to another console");
    client.type_in("\x05cl?");
    client.sees("^Ecl9 2750 ms");
    client.type_in("\x05cl2");
    rig.wait_for_journal("demo sends a break of 1000 ms");
    client.type_in("\x05c\\101\x05c\\015");
    rig.expect_at_device(b"A\r");
}

#[test]
fn the_list_of_consoles_is_of_now_and_tab_completes_it() {
    let mut rig = Rig::with_config("[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\n");
    rig.serve_logins(true);
    rig.start_plugged();
    let mut client = at_terminal(&rig);
    // This port is not reloaded: the change does not affect it.
    let config = rig.path("config.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    let others = "[ports.core-1]\nssh_port = 8101\n[ports.core-2]\nssh_port = 8102\n[ports.edge]\n";
    std::fs::write(&config, format!("{before}{others}")).unwrap();
    client.type_in("\x05c;\r");
    client.sees("[consoles\r\n core-1           TCP port 8101: ssh -p 8101 -l demo 127.0.0.1\r\n core-2 ");
    client.sees(" edge             no TCP port]\r\n\r\n[console: ");
    // Neither a name after that list nor one after a mistake is for the device.
    client.type_in("egde\r");
    client.sees("[there is no port egde: did you mean edge?]\r\n\r\n[console: ");
    client.type_in("ed\t\rtyped");
    client.sees("edge\r\n[edge has no TCP port; to connect: consolectl connect edge]");
    client.type_in("\x05c;c\t\t2\r");
    client.sees("[console: core-\r\n[consoles\r\n core-1 ");
    client.sees("]\r\n\r\n[console: core-2\r\n[core-2 is at TCP port 8102");
    client.type_in("\x05c;x\t\x1b");
    client.sees("[there is no port x: the ports are core-1, core-2, demo, edge]");
    // None of it is sent to the device.
    rig.expect_at_device(b"typed");
    client.type_in("|");
    rig.expect_at_device(b"|");
    // A file with a mistake leaves the previous list.
    std::fs::write(&config, "[ports").unwrap();
    client.type_in("\x05c;edge\r");
    client.sees("[edge has no TCP port");
}
