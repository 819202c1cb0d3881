//! Hostile text: a device's output and a user's name may hold anything, and no terminal but the device's own viewer's
//! obeys it. The log of it is printable, and the bytes can be read back.

use std::fs::File;
use std::io::Write;

use crate::accounts::Accounts;
use crate::client::Client;
use crate::programs::{By, Program};
use crate::rig::{Rig, until};
use crate::tmux::Tmux;
use crate::{at_terminal, served};

/// Every control character, every control sequence by its final character with every kind of parameters, strings of all kinds,
/// whole and unfinished, and all questions that a terminal is known to answer. Lines end as consoles end them.
fn everything() -> Vec<u8> {
    let mut said: Vec<Vec<u8>> = Vec::new();
    said.extend((0..0x20u8).filter(|byte| *byte != b'\n').chain([0x7f]).map(|byte| vec![byte]));
    // C1: as bytes, and as the characters that UTF-8 has for them.
    said.extend((0x80..=0x9fu8).map(|byte| vec![byte]));
    said.extend(('\u{80}'..='\u{9f}').map(|c| c.to_string().into_bytes()));
    let finals = || 0x40..=0x7eu8;
    for introducer in [b"\x1b[".as_slice(), b"\x9b", "\u{9b}".as_bytes()] {
        for parameters in
            ["", "2", "1;2;3", "?1", "?1049", ">1", "=1", "<1", "2 ", "1$", "1\"", "1'", "1!", "1*"]
        {
            said.extend(finals().map(|end| [introducer, parameters.as_bytes(), &[end]].concat()));
        }
    }
    for between in ["", " ", "#", "%", "(", ")", "*", "+", "-", ".", "/"] {
        said.extend((0x30..=0x7eu8).map(|end| [b"\x1b", between.as_bytes(), &[end]].concat()));
    }
    for (begin, upper) in
        [("\x1b]", 0x9d), ("\x1bP", 0x90), ("\x1bX", 0x98), ("\x1b^", 0x9e), ("\x1b_", 0x9f), ("\x1bk", 0x9d)]
    {
        for words in [
            "0;owned",
            "2;owned",
            "4;1;?",
            "10;?",
            "11;?",
            "50;?",
            "52;c;b3duZWQ=",
            "52;c;?",
            "8;;http://owned/",
            "9;owned",
            "777;notify;owned",
            "1337;File=inline=1:AAAA",
            "$qm",
            "+q544e",
            "q#0~",
            "tmux;\x1b\x1b]0;owned\x07",
            "Gi=1,a=q;AAAA",
        ] {
            for end in [b"\x07".as_slice(), b"\x1b\\", b"\x9c", b""] {
                said.push([begin.as_bytes(), words.as_bytes(), end].concat());
                said.push([&[upper], words.as_bytes(), end].concat());
            }
        }
    }
    for question in [
        "[c", "[>c", "[=c", "[5n", "[6n", "[?6n", "[?15n", "[?996n", "[x", "[>q", "[?u", "[?2026$p", "[4$p",
        "[1$w", "[18t", "[21t", "Z",
    ] {
        said.push([b"\x1b", question.as_bytes()].concat());
    }
    let lines = said.chunks(50).map(|line| [line.join(b" ".as_slice()), b"\r\n".to_vec()].concat());
    // Return to the ground state, since the last string is not terminated.
    lines.flatten().chain(*b"\x18\x1b\\that was all").collect()
}

/// The device's bytes, out of a text log. (Every line's end is taken for CR and LF.)
fn read_back(log: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in log.lines() {
        let (mark, text) = record[30..].split_at(2);
        match mark {
            "< " if !bytes.is_empty() => bytes.extend_from_slice(b"\r\n"),
            "< " | "<+" => {}
            _ => continue,
        }
        let mut rest = text;
        while let Some((plain, escaped)) = rest.split_once('\\') {
            bytes.extend_from_slice(plain.as_bytes());
            rest = &escaped[1..];
            match escaped.as_bytes()[0] {
                b'\\' => bytes.push(b'\\'),
                b'r' => bytes.push(b'\r'),
                b'n' => bytes.push(b'\n'),
                b'x' => {
                    bytes.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                    rest = &rest[2..];
                }
                b'u' => {
                    let (digits, after) = rest[1..].split_once('}').unwrap();
                    let character = char::from_u32(u32::from_str_radix(digits, 16).unwrap()).unwrap();
                    bytes.extend_from_slice(character.to_string().as_bytes());
                    rest = after;
                }
                other => panic!("\\{} in {record:?}", char::from(other)),
            }
        }
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}

/// Checks that the text has no control characters except line endings.
#[track_caller]
fn is_printable(words: &str) {
    let hidden = |c: char| {
        (c.is_control() && !matches!(c, '\r' | '\n' | '\t')) || matches!(c, '\u{202a}'..='\u{202e}')
    };
    assert_eq!(words.find(hidden), None, "{words:?}");
}

#[test]
fn its_own_viewer_gets_the_devices_bytes_and_the_log_is_printable_and_reads_back() {
    let rig = served("log = \"text\"");
    let viewer = at_terminal(&rig);
    let said = everything();
    rig.say(&said);
    until("all of it", || viewer.shown().windows(said.len()).any(|part| part == said).then_some(()));
    rig.wait_for_log("that was all");
    let log = rig.log_text();
    is_printable(&log);
    assert!(without_ends(&read_back(&log)) == without_ends(&said), "the log does not read back");
    let shown = rig.consolectl(&["log", "demo", "--lines", "1000"]).output().unwrap();
    is_printable(&String::from_utf8(shown.stdout).unwrap());
}

/// Removes line endings: CR, a NUL after it, and LF.
fn without_ends(bytes: &[u8]) -> Vec<u8> {
    let mut after_cr = false;
    let mut text = bytes.to_vec();
    text.retain(|byte| {
        after_cr = *byte == b'\r' || after_cr && *byte == 0;
        !after_cr && *byte != b'\n'
    });
    text
}

#[test]
fn a_log_of_the_bytes_is_shown_at_a_terminal_and_not_obeyed() {
    let rig = served("log = \"raw\"");
    // After the command, a shell runs in the terminal: it shows replies of the terminal as typed input.
    let client = |commands: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.arg("-c").arg(format!("stty -echoctl; {commands}; echo 'that is it'; exec cat -v"));
        Tmux::start(&shell)
    };
    let untouched = client("true");
    untouched.shows("that is it");
    let state = untouched.state();
    // OSC 52 sets the clipboard, DECRQSS and DSR are answered, the title is set; C1 as a byte and in UTF-8.
    let said = "\x1b]52;c;b3duZWQ=\x07\x1bP$qm\x1b\\\x1b[5n\x1b[6n\x1b]0;owned\x07\u{9b}6n\u{202e}\r\nthat was all\r\n";
    let mut said = said.as_bytes().to_vec();
    said.splice(0..0, *b"\x9b6n");
    rig.say(&said);
    until("the log", || (rig.log() == said).then_some(()));
    let consolectl =
        format!("{} --runtime-dir {}", env!("CARGO_BIN_EXE_consolectl"), rig.path("run").display());
    let ssh = rig.ssh(&["-tt", "demo@127.0.0.1", "log"]);
    let ssh: Vec<_> = ssh.get_args().map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let commands =
        [format!("{consolectl} log demo"), format!("{consolectl} grep 6n"), format!("ssh {}", ssh.join(" "))];
    for command in &commands {
        let terminal = client(command);
        terminal.shows("that is it");
        terminal.shows(r"\x9b6n\x1b]52;c;b3duZWQ=\x07\x1bP$qm");
        terminal.shows(r"\u{9b}6n\u{202e}");
        assert_eq!(terminal.state(), state, "{command}");
        // A reply of the terminal would precede this.
        terminal.types("typed\r");
        let screen = until("what was typed, and what cat has read", || {
            let screen = terminal.screen();
            (screen.matches("typed").count() == 2).then_some(screen)
        });
        assert!(!screen.contains("^["), "{command}: it has answered: {screen}");
    }
    // A pipe and a file get the bytes.
    let piped = rig.consolectl(&["log", "demo"]).output().unwrap();
    assert_eq!(piped.stdout, said);
    let piped = rig.ssh(&["demo@127.0.0.1", "log"]).output().unwrap();
    assert_eq!(piped.stdout, said);
    // The check itself is checked.
    std::fs::write(rig.path("bytes"), &said).unwrap();
    let obeyed = client(&format!("cat {}", rig.path("bytes").display()));
    obeyed.shows("that is it");
    assert_ne!(obeyed.state(), state);
}

#[test]
fn a_replay_does_not_change_the_terminal_or_make_it_answer() {
    let rig = served("replay = 1000");
    let ssh = || rig.ssh(&["-tt", "demo@127.0.0.1"]);
    let untouched = Tmux::start(&ssh());
    untouched.shows("for help]");
    let state = untouched.state();
    untouched.types("\x05c.");

    let said = everything();
    rig.say(&said);
    rig.wait_for_log("that was all");
    let terminal = Tmux::start(&ssh());
    terminal.shows("that was all");
    // On a new row, since the replay has left colours on others.
    rig.say(&[b"\r\n".repeat(50), b"the next line".to_vec()].concat());
    terminal.shows("the next line");
    assert_eq!(terminal.state(), state);
    terminal.types("\x05cp");
    terminal.shows("[end of replay]");
    assert_eq!(terminal.state(), state);
    // A reply would have arrived before this.
    terminal.types("typed");
    rig.expect_at_device(b"typed");

    // The check itself is checked: unescaped, the same text changes the terminal, and makes it reply.
    rig.say(b"\x1b]0;owned\x07\x1b[?1000h\x1b[5n\r\nand now");
    terminal.shows("and now");
    assert_ne!(terminal.state(), state);
    rig.expect_at_device(b"\x1b[0n");
}

/// Mallory's name turns text round: nothing worse is taken for an account's name.
const MALLORY: &str = "ma\u{202e}llory";

#[test]
fn names_and_messages_reach_other_terminals_as_plain_text() {
    let accounts = Accounts::enter();
    accounts.add("alice", None);
    let add = |file: &str, line: String| {
        let mut file = File::options().append(true).open(file).unwrap();
        writeln!(file, "{line}").unwrap();
    };
    // `useradd` takes no such name; a directory may.
    add("/etc/passwd", format!("{MALLORY}:x:4711:4711::/nonexistent:/usr/sbin/nologin"));
    add("/etc/group", format!("{MALLORY}:x:4711:"));
    add("/etc/shadow", format!("{MALLORY}:*:20000::::::"));
    accounts.set_password(MALLORY, "password");
    let mut rig = Rig::with_config(
        "[access]\ngroups = [\"*\"]\n[ports.demo]\ndevice = \"@DIR@/dev/demo\"\nlog = { type = \"text\", input = true }\n",
    );
    rig.serve_logins(false);
    rig.start_plugged();
    accounts.authorize("alice", &std::fs::read_to_string(rig.path("key.pub")).unwrap());
    let mut alice = Client::start(rig.ssh(&["-tt", "alice@127.0.0.1"]));
    alice.sees("for help]");

    let mallory = |name: &str| {
        Client::start(Program::Paramiko.at(
            rig.tcp_port,
            &rig.path("hostkeys"),
            name,
            By::Password("password"),
            true,
        ))
    };
    for stranger in ["\x1b]0;owned\x07", "\u{9b}2J", "a\r\nb"] {
        assert_eq!(mallory(stranger).ends().code(), Some(255), "{stranger:?}");
    }
    let mut mallory = mallory(MALLORY);
    mallory.sees("for help]");
    alice.sees("[ma?llory (127.0.0.1) attached, read-only]");
    for command in [
        "b\u{9b}2J\u{202e}owned\u{7}\r",
        "b\u{c2}\u{9d}0;owned\r",
        "f",
        "o",
        "l0",
        "Mp",
        "s",
        "/\u{9b}c\r",
        "w",
    ] {
        mallory.type_in(format!("\x05c{command}"));
    }
    mallory.type_in(b"\x05cb\x9b2J\x9d0;owned\x9c\r");
    mallory.type_in("\x05c.");
    mallory.ends_with(0);
    alice.sees("[ma?llory (127.0.0.1): ?2J?owned]");
    alice.sees("[ma?llory (127.0.0.1) detached");
    alice.type_in("\x05ci");
    alice.sees(" sessions 1]");
    alice.type_in("\x05c/llory\r");
    alice.sees("llory (127.0.0.1) detached");
    is_printable(&String::from_utf8(alice.shown()).unwrap());
    is_printable(&rig.log_text());
    for journal in [rig.journal(), rig.login_journal()] {
        assert_eq!(journal.find(|c: char| c.is_control() && c != '\n'), None, "{journal:?}");
    }
}

#[test]
fn who_and_status_are_text() {
    let accounts = Accounts::enter();
    accounts.run(&["sed", "-i", &format!("s/^root:/{MALLORY}:/"), "/etc/passwd"]);
    let rig = served("");
    let _mallory = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("1 attached");
    for question in ["who", "status"] {
        let said = rig.consolectl(&[question]).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        assert!(said.contains("ma?llory"), "{question}: {said}");
        is_printable(&said);
    }
}
