//! Real input: a Linux that boots with its console at the port, in QEMU, on a pty. All its output is in the log to the byte, as
//! QEMU itself wrote it down; and it is logged in to and used over SSH from a real terminal, with a full-screen editor.
//! The kernel is the VM bed's (`tests/boot/guest`), emulated: no KVM is needed.

#[path = "support/client.rs"]
mod client;
#[path = "support/dialer.rs"]
mod dialer;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/tmux.rs"]
mod tmux;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use client::Client;
use rig::{Rig, until};
use tmux::Tmux;

/// The directory of the guest's kernel and initrd, which are built if they do not exist.
fn image() -> PathBuf {
    let image = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/boot/guest"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(image.status.success(), "tests/boot/guest: {}", image.status);
    String::from_utf8(image.stdout).unwrap().trim_end().into()
}

/// QEMU with the guest, which waits for `cont` on QEMU's own prompt. Its console is a pty, and written to `wire` too.
fn guest(image: &Path, wire: &Path) -> (Client, PathBuf) {
    let mut qemu = qemu(image, &format!("pty,id=console,logfile={}", wire.display()));
    qemu.sees("char device redirected to ");
    let pty = qemu.sees(" (label console)");
    qemu.sees("(qemu) ");
    (qemu, pty.into())
}

fn qemu(image: &Path, chardev: &str) -> Client {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args([
        "-machine",
        "q35",
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-m",
        "256",
        "-nodefaults",
        "-no-user-config",
    ])
    .args([
        "-display",
        "none",
        "-no-reboot",
        "-S",
        "-monitor",
        "stdio",
        "-serial",
        "chardev:console",
        "-chardev",
    ])
    .arg(chardev)
    .arg("-kernel")
    .arg(image.join("vmlinux"))
    .arg("-initrd")
    .arg(image.join("initrd"))
    .args(["-append", "console=ttyS0 ignore_loglevel mitigations=off nokaslr tsc=reliable panic=-1"]);
    Client::start(qemu)
}

/// Whether `log` is `wire` without bytes that QEMU has noted twice: it notes a byte also when its socket is full, and once more when it sends
/// that byte (seen with QEMU 10.0.2: "reserveed" in its file).
fn is_said(log: &[u8], wire: &[u8]) -> bool {
    let mut at = 0;
    for (index, byte) in wire.iter().enumerate() {
        if log.get(at) == Some(byte) {
            at += 1;
        } else if index == 0 || wire[index - 1] != *byte {
            return false;
        }
    }
    at == log.len()
}

/// The same guest as a source: its boot over QEMU's unix socket, and what it is asked to do, is in the log as in QEMU's own file.
#[test]
#[ignore = "boots a Linux a second time: make release-check"]
fn a_guest_on_a_unix_chardev_is_logged_as_qemu_logs_it() {
    let image = image();
    let place = tempfile::tempdir().unwrap();
    let socket = place.path().join("console");
    let source = format!("unix:{}", socket.display());
    let mut rig =
        Rig::with_config(&format!("[ports.demo]\ngroups = [\"*\"]\nsource = \"{source}\"\nlog = \"raw\"\n"));
    let _dialers = dialer::Dialers::new(&rig.path("run"), &[&source]);
    rig.serve_logins(true);
    rig.start();
    rig.wait_for_status("there is no socket at");
    let wire = place.path().join("wire");
    let chardev =
        format!("socket,id=console,path={},server=on,wait=off,logfile={}", socket.display(), wire.display());
    let mut qemu = qemu(&image, &chardev);
    qemu.sees("(qemu) ");
    rig.wait_for_status("connected to unix:");
    let terminal = Tmux::start(&rig.ssh(&["-tt", "demo@127.0.0.1"]));
    terminal.shows("for help]");
    qemu.type_in("cont\n");
    terminal.shows("guest login: ");
    terminal.types("root\r");
    terminal.shows("# ");
    terminal.types("echo the last word of $HOSTNAME\r");
    terminal.shows("\nthe last word of guest");
    let said = || std::fs::read(&wire).unwrap();
    until("the log to be what the guest has said", || is_said(&rig.log(), &said()).then_some(()));
    let log = rig.log();
    let begins = String::from_utf8_lossy(&log[..200]).into_owned();
    assert!(begins.contains("[    0.000000] Linux version"), "{begins}");
    terminal.types("poweroff -f\r");
    terminal.shows("[demo disconnected: ");
    qemu.ends_with(0);
}

#[test]
fn a_linux_boots_into_the_log_and_is_used_with_an_editor_over_ssh() {
    let image = image();
    let mut rig = Rig::new("baud = 115200\nlog = \"raw\"");
    let wire = rig.path("wire");
    let (mut qemu, pty) = guest(&image, &wire);
    rig.plug_in(&pty);
    rig.serve_logins(true);
    rig.start();
    rig.wait_for_status("8N1");
    let terminal = Tmux::start(&rig.ssh(&["-tt", "demo@127.0.0.1"]));
    terminal.shows("for help]");
    qemu.type_in("cont\n");

    terminal.shows("guest login: ");
    terminal.types("root\r");
    terminal.shows("# ");
    // A serial line does not transmit the size of a terminal: the editor queries it, and the reply goes over the line as well.
    terminal.types("vi /tmp/words\r");
    terminal.shows_at_the_bottom("- /tmp/words");
    terminal.types("ione line\rand another\x1b");
    terminal.shows_at_the_bottom("- /tmp/words [Modified]");
    terminal.types(":w\r");
    terminal.shows_at_the_bottom("2L, 21C");
    terminal.types(":q\r");
    terminal.resize(120, 50);
    terminal.types("vi /tmp/words\r");
    terminal.shows_at_the_bottom("- /tmp/words 1/2 50%");
    terminal.types("Goat the end\x1b");
    terminal.shows_at_the_bottom("- /tmp/words [Modified]");
    terminal.types(":wq\r");
    terminal.types("cat /tmp/words; md5sum /tmp/words\r");
    // Among these three lines.
    terminal.shows("\none line\nand another\nat the end\n9c60a2949acf8353fb0e29ebad8a7608  /tmp/words");
    terminal.types("echo the last word of $HOSTNAME\r");
    terminal.shows("\nthe last word of guest");

    let said = || std::fs::read(&wire).unwrap();
    until("the log to be what the guest has said", || (rig.log() == said()).then_some(()));
    let log = rig.log();
    let begins = String::from_utf8_lossy(&log[..200]).into_owned();
    assert!(begins.contains("[    0.000000] Linux version"), "{begins}");

    terminal.types("poweroff -f\r");
    terminal.shows("[demo unplugged ");
    qemu.ends_with(0);
}
