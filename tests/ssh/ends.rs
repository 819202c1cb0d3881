//! The start and the end of a session: the device's prompt at its start; at its end the output held back, the input not
//! sent, and the unplugged device.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::rig::{Rig, TIMEOUT};
use crate::{at_terminal, go_on, served, stop, with_bytes_only};

/// A pexpect script at its own SSH client, which begins when it has found the device's prompt at the end of its input.
fn pexpect(rig: &Rig, then: &str) -> Client {
    let ssh = rig.ssh(&["-tt", "demo@127.0.0.1"]);
    let script = format!(
        "import pexpect, sys\n\
         child = pexpect.spawn(sys.argv[1], sys.argv[2:], timeout={}, encoding='latin-1')\n\
         child.expect('[>#] ?$')\n\
         assert '[demo ' in child.before, child.before\n\
         print('READ', repr(child.before + child.after), flush=True)\n\
         {then}",
        TIMEOUT.as_secs(),
    );
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", &script]).arg(ssh.get_program()).args(ssh.get_args());
    Client::start(python)
}

#[test]
fn the_prompt_is_the_last_that_a_client_has_read() {
    let rig = served("");
    for said in
        ["boot\r\nSwitch>", "\x1b[31mred\r\n\x0egraphics\r\nSwitch# ", "\x1b[1;32mroot@host\x1b[0m # "]
    {
        rig.say(b"\r\n");
        rig.say(said.as_bytes());
        rig.wait_for_log(said.rsplit(['\n', 'm']).next().unwrap());
        pexpect(&rig, "").ends_with(0);
        rig.wait_for_status("0 attached");
    }
}

#[test]
fn notices_stand_before_the_prompt_and_a_later_one_is_followed_by_it() {
    let rig = served("");
    rig.say(b"boot\r\nSwitch>");
    rig.wait_for_log("Switch>");
    let mut writer = at_terminal(&rig);
    let mut watcher =
        pexpect(&rig, "child.expect('now has write access')\nchild.expect('[>#] ?$')\nprint('AGAIN')");
    watcher.sees("READ");
    watcher.sees("has write access; you are read-only");
    let prompt = watcher.sees("'\n");
    assert!(prompt.ends_with("Switch>"), "{prompt:?}");
    // Both sessions are notified when a client attaches and takes over; each has its prompt again.
    let mut taker = at_terminal(&rig);
    taker.type_in("\x05cf");
    taker.sees("[you have write access]\r\nSwitch>");
    writer.sees("took over; you are now read-only]\r\n");
    writer.sees("[demo (127.0.0.1) now has write access]\r\nSwitch>");
    watcher.sees("AGAIN");
}

#[test]
fn nothing_follows_the_prompt_and_colours_are_reset_before_it() {
    let rig = served("");
    for (said, shown) in [
        ("plain\r\nlogin: ", "plain\r\nlogin: "),
        ("\x1b[31mred\r\nlogin: ", "\x1b[31mred\r\n\x1b[0mlogin: "),
        ("\x1b[31mred\x1b[0m\r\nlogin: ", "\x1b[31mred\x1b[0m\r\nlogin: "),
    ] {
        let mark = format!("--{}--\r\n", said.len());
        rig.say(format!("\r\n{mark}{said}").as_bytes());
        let mut other = with_bytes_only(&rig, 1);
        other.signal(nix::sys::signal::Signal::SIGKILL);
        other.ends();
        rig.wait_for_status("0 attached");
        let mut client = at_terminal(&rig);
        client.sees(&mark);
        client.sees(shown);
        // The reply to this arrives after anything else that might have been shown.
        client.type_in("\x05cv");
        assert_eq!(client.sees("[consoleserver"), "\r\n");
        client.type_in("\x05c.");
        client.ends_with(0);
        rig.wait_for_status("0 attached");
    }
}

#[test]
fn an_enquiry_alone_reaches_the_device() {
    let rig = served("");
    let mut client = at_terminal(&rig);
    let typed = Instant::now();
    client.type_in("\x05");
    rig.expect_at_device(b"\x05");
    assert!(typed.elapsed() > Duration::from_millis(900), "it might have begun a command");
    // The command is cancelled: the next byte does not continue it.
    client.type_in("c.");
    rig.expect_at_device(b"c.");
    client.type_in("\x05c.");
    client.ends_with(0);
}

#[test]
fn the_end_of_input_gives_up_a_command_that_is_not_complete() {
    for (typed, wanted) in
        [("a\x05", "a\x05"), ("a\x05c", "a\x05c"), ("a\x05cl", "a\x05cl"), ("a\x05c\\4", "a\x04")]
    {
        let rig = served("");
        let mut client = at_terminal(&rig);
        client.type_in(typed);
        client.end_input();
        rig.expect_at_device(wanted.as_bytes());
        client.ends_with(0);
    }
}

#[test]
fn a_change_of_the_escape_prefix_releases_the_held_back_character() {
    let rig = served("");
    let mut client = at_terminal(&rig);
    client.type_in("\x05c");
    client.type_in("\r");
    client.type_in("a\x05c");
    rig.expect_at_device(b"a");
    let config = rig.path("config.toml");
    let before = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{before}\nescape = \"none\"\n")).unwrap();
    rig.apply();
    client.sees("[escape commands are now off]");
    rig.expect_at_device(b"\x05c");
}

#[test]
fn a_pipe_into_a_console_that_another_client_writes_to_fails() {
    let rig = served("baud = 115200");
    let mut writer = at_terminal(&rig);
    let mut pipe = with_bytes_only(&rig, 2);
    pipe.type_in("reboot\r");
    pipe.end_input();
    pipe.ends_with(1);
    assert_eq!(
        pipe.aside(),
        "[demo (127.0.0.1) has write access; you are read-only]\n\
         [demo (127.0.0.1) has write access; you are read-only: input is discarded]\n\
         [no input was sent]\n"
    );
    assert_eq!(pipe.shown(), b"");
    writer.type_in("mine");
    rig.expect_at_device(b"mine");
    // With a terminal, too: `printf 'reboot\r' | ssh -tt`.
    let mut terminal = at_terminal(&rig);
    terminal.type_in("reboot\r");
    terminal.end_input();
    terminal.ends_with(1);
    terminal.sees("[no input was sent]");
    // And one that asks for it takes over.
    let mut taker = Client::start(rig.ssh(&["-T", "demo@127.0.0.1", "connect", "--force"]));
    taker.type_in("now\r");
    rig.expect_at_device(b"now\r");
    writer.sees("took over; you are now read-only]");
    taker.end_input();
    rig.say(b"the answer");
    taker.ends_with(0);
    assert_eq!(taker.shown(), b"the answer");
}

#[test]
fn a_pipe_that_loses_the_console_before_all_is_sent_fails() {
    let rig = served("baud = 115200");
    let mut pipe = with_bytes_only(&rig, 1);
    let mut taker = at_terminal(&rig);
    // More than a line takes whose device does not read.
    pipe.type_in("x".repeat(200_000));
    pipe.end_input();
    rig.wait_for_input();
    taker.type_in("\x05cf");
    taker.sees("[you have write access]");
    let _heard = crate::rig::collect(rig.device());
    pipe.ends_with(1);
    pipe.is_told("bytes of your input were not sent]\n");
    pipe.is_told("[not all of the input was sent]\n");
}

#[test]
fn a_pipe_to_an_unplugged_device_fails() {
    let mut rig = Rig::new("");
    rig.serve_logins(true);
    rig.start();
    let mut pipe = with_bytes_only(&rig, 1);
    pipe.type_in("reboot\r");
    pipe.end_input();
    pipe.ends_with(1);
    pipe.is_told("[demo is unplugged: input is discarded]\n[no input was sent]\n");
}

#[test]
fn a_pipe_that_has_sent_everything_waits_until_the_device_has_taken_it() {
    let rig = served("xonxoff = true\nbaud = 115200");
    let mut pipe = with_bytes_only(&rig, 1);
    rig.say(b"\x13stopped");
    pipe.sees("stopped");
    let text = "0123456789".repeat(2000);
    pipe.type_in(&text);
    pipe.end_input();
    let heard = crate::rig::collect(rig.device());
    go_on(&rig);
    pipe.ends_with(0);
    assert_eq!(String::from_utf8_lossy(&heard.lock().unwrap()), text);
}

#[test]
fn leaving_ends_the_line_once() {
    let rig = served("");
    rig.say(b"\r\nSwitch>");
    rig.wait_for_log("Switch>");
    let mut client = at_terminal(&rig);
    client.sees("Switch>");
    client.type_in("\x05c.");
    client.ends_with(0);
    let shown = String::from_utf8(client.shown()).unwrap();
    assert!(shown.ends_with("Switch>\r\n"), "{shown:?}");
}

#[test]
fn detaching_from_a_stuck_device_reports_the_input_that_was_not_sent() {
    let rig = served("xonxoff = true");
    let mut client = at_terminal(&rig);
    stop(&rig, &mut client);
    client.type_in("x".repeat(10_000));
    client.type_in("\x05c.");
    client.sees("bytes of your input were not sent]\r\n");
    client.ends_with(0);
}

#[test]
fn a_session_ends_with_its_device_if_it_is_asked_to() {
    let mut rig = served("");
    let mut stays = with_bytes_only(&rig, 1);
    let mut pipe = Client::start(rig.ssh(&["-T", "demo@127.0.0.1", "connect", "--no-reconnect"]));
    rig.wait_for_status("2 attached");
    rig.say(b"last words");
    pipe.sees("last words");
    rig.unplug();
    pipe.ends_with(1);
    assert_eq!(pipe.shown(), b"last words");
    let told = pipe.aside();
    let last = told.lines().last().unwrap();
    assert!(last.starts_with("[demo unplugged ") && last.ends_with(": session closed]"), "{told}");
    stays.is_told("[demo unplugged ");
    // A client that connects now does not wait.
    let mut late = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1", "connect", "--no-reconnect"]));
    late.ends_with(1);
    late.sees(": session closed]\r\n");
    rig.plug();
    stays.is_told("[demo reconnected ");
    rig.say(b"and more");
    stays.sees("and more");
}

#[test]
fn a_port_may_end_its_sessions_with_its_device() {
    let mut rig = served("reconnect = false");
    let mut client = at_terminal(&rig);
    rig.unplug();
    client.sees("[demo unplugged ");
    client.sees(": session closed]\r\n");
    client.ends_with(1);
}

#[test]
fn escapes_may_be_switched_off_for_a_session() {
    let rig = served("");
    let mut client =
        Client::start(rig.ssh(&["-tt", "-e", "none", "demo@127.0.0.1", "connect", "--escape", "none"]));
    client.sees("[demo 9600 8N1]\r\n");
    client.type_in("\x05c.\x05\r~.");
    rig.expect_at_device(b"\x05c.\x05\r~.");
    client.end_input();
    client.ends_with(0);
    let mut other = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1", "connect", "--escape", "^Xq"]));
    other.sees("^Xq? for help]");
    other.type_in("\x18q.");
    other.ends_with(0);
    let mut wrong = Client::start(rig.ssh(&["demo@127.0.0.1", "connect", "--escape", "q"]));
    wrong.ends_with(2);
    wrong.is_told("use a control character and one more, such as \"^Ec\"");
}
