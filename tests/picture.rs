//! README's picture is what is on the screen: two users at a port, in a real terminal. `make picture` regenerates it.

#[path = "support/accounts.rs"]
mod accounts;
#[path = "support/client.rs"]
mod client;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/tmux.rs"]
mod tmux;

use std::io::Write;
use std::process::{Command, Stdio};

use accounts::Accounts;
use client::Client;
use rig::Rig;
use tmux::Tmux;

const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/man/session.svg");

/// The end of a boot.
const BOOT: &[u8] = b"U-Boot 2026.04 (Oct 05 2026 - 09:12:44 +0000)\r\n\r\nDRAM:  1 GiB\r\nHit any key to stop autoboot:  0\r\n\
    Starting kernel ...\r\n\r\n[    0.000000] Booting Linux on physical CPU 0x0\r\n\
    [\x1b[32m  OK  \x1b[0m] Started \x1b[1mswitchd\x1b[0m.\r\n[\x1b[31mFAILED\x1b[0m] Failed to start \x1b[1mlldpd\x1b[0m.\r\n\r\n\
    core login: ";

#[test]
fn the_picture_in_readme_is_what_stands_on_the_screen() {
    let accounts = Accounts::enter();
    let mut rig = Rig::with_config(
        "[access]\ngroups = [\"*\"]\n[ports.demo]\ndevice = \"@DIR@/dev/demo\"\nbaud = 115200\n\
         description = \"core switch, rack 4\"\n",
    );
    rig.serve_logins(false);
    rig.start_plugged();
    for person in ["alice", "bob"] {
        accounts.add(person, None);
        accounts.authorize(person, &std::fs::read_to_string(rig.path("key.pub")).unwrap());
    }
    rig.say(BOOT);
    rig.wait_for_log("core login: ");

    let terminal = Tmux::start(&shell(&rig));
    terminal.resize(90, 50);
    terminal.shows("$ ");
    terminal.types("ssh -p 8023 alice@rack4\r");
    terminal.shows("core login:");
    terminal.types("root\r");
    rig.expect_at_device(b"root\r");
    rig.say(b"root\r\ncore# ");
    terminal.shows("core# ");

    let mut bob = Client::start(rig.ssh(&["-tt", "bob@127.0.0.1"]));
    bob.sees("[alice (127.0.0.1) has write access");
    bob.type_in("\x05cbmay I? lldpd is mine\r\x05cf");
    terminal.shows("[bob (127.0.0.1) now has write access]");
    bob.type_in("systemctl restart lldpd\r");
    rig.expect_at_device(b"systemctl restart lldpd\r");
    rig.say(b"systemctl restart lldpd\r\n[\x1b[32m  OK  \x1b[0m] Started \x1b[1mlldpd\x1b[0m.\r\ncore# ");
    terminal.shows("Started lldpd.");
    terminal.types("\x05cw");
    terminal.shows(" bob (127.0.0.1)]");
    terminal.types("\x05c?");
    terminal.shows("--escape none]\ncore#");

    let screen = times_are_one(&terminal.screen());
    if std::env::var_os("DRAW_PICTURE").is_some() {
        draw(&times_are_one(&terminal.coloured_screen()), &screen);
    }
    let picture = std::fs::read_to_string(PICTURE).unwrap();
    let (_, drawn) = picture.split_once("<desc>").expect("a description of the picture");
    let (drawn, _) = drawn.split_once("</desc>").unwrap();
    let drawn = drawn.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    assert_eq!(drawn, screen, "{PICTURE} shows something else: `make picture` redraws it");
}

/// A shell from which `ssh -p 8023 alice@rack4` leads to the port.
fn shell(rig: &Rig) -> Command {
    let directory = rig.dir.path().display();
    let config = format!(
        "ProxyCommand socat - TCP:127.0.0.1:{}\nIdentityFile {directory}/key\nIdentitiesOnly yes\nUserKnownHostsFile /dev/null\n\
         StrictHostKeyChecking no\nLogLevel ERROR\n",
        rig.tcp_port
    );
    std::fs::write(rig.path("ssh_config"), config).unwrap();
    std::fs::write(rig.path("aliases"), format!("alias ssh='ssh -F {directory}/ssh_config'\n")).unwrap();
    let mut shell = Command::new("env");
    shell.args([&format!("ENV={directory}/aliases"), "PS1=$ ", "sh"]);
    shell
}

/// The times differ between runs, and two users may attach in different seconds.
fn times_are_one(screen: &str) -> String {
    let mut pieces = screen.split("since ");
    let before = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(before, |out, piece| format!("{out}since 12:01:07{}", &piece["12:01:07".len()..]))
}

fn draw(coloured: &str, screen: &str) {
    let drawer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/draw-picture");
    let mut child = Command::new(drawer).args([PICTURE, screen]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(coloured.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{drawer} failed");
}
