//! Which port a tty belongs to, asked by the port itself: it opens none that another port's `device` leads to, releases one that becomes
//! another's, and never changes the device of an open session. (With udev and adapters: tests/boot/vm.d/42-whose-tty and 43-clones.)

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex};

use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::ttyname;

#[path = "support/rig.rs"]
mod rig;

use rig::{Rig, collect, until};

/// `demo` is a port of a name; `p1` has a `device`, and its process is not needed for that.
const TWO: &str = "[server]\nmonitor = \"@DIR@/dev\"\n[ports.demo]\ngroups = [\"*\"]\n\
                   [ports.p1]\ngroups = [\"nobody\"]\ndevice = \"@DIR@/dev/by-path/1\"\n";

/// A link, as udev makes one: renamed over the one before.
fn link(rig: &Rig, name: &str, to: &Path) {
    let link = rig.path("dev").join(name);
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    let new = link.with_extension("new");
    symlink(to, &new).unwrap();
    fs::rename(new, link).unwrap();
}

/// A user at a terminal.
struct Seat {
    child: Child,
    typing: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Seat {
    fn take(rig: &Rig) -> Self {
        let mut ssh = rig.ssh(&["-tt", "demo@127.0.0.1"]);
        let mut child =
            ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let screen = collect(child.stdout.take().unwrap());
        let typing = child.stdin.take().unwrap();
        rig.wait_for_status("1 attached");
        Self { child, typing, screen }
    }

    #[track_caller]
    fn sees(&self, words: &str) {
        until(words, || String::from_utf8_lossy(&self.screen.lock().unwrap()).contains(words).then_some(()));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Another device, and the path of its tty.
fn device() -> (File, std::path::PathBuf) {
    let pty = openpty(None, None).unwrap();
    let mut termios = tcgetattr(&pty.slave).unwrap();
    cfmakeraw(&mut termios);
    tcsetattr(&pty.slave, SetArg::TCSANOW, &termios).unwrap();
    let path = ttyname(&pty.slave).unwrap();
    (File::from(pty.master), path)
}

#[test]
fn a_port_does_not_open_a_tty_that_belongs_to_another_port() {
    let mut rig = Rig::with_config(TWO);
    rig.serve_logins(true);
    rig.plug();
    link(&rig, "by-path/1", Path::new("../demo"));
    rig.start();
    rig.wait_for_status("is the device of the port p1");
    rig.say(b"secret of p1\r\n");
    assert_eq!(rig.stored(), ["intake", "ring"]);
    let ssh = rig.ssh(&["-T", "demo@127.0.0.1"]).output().unwrap();
    assert!(!ssh.status.success());
    let said = String::from_utf8_lossy(&ssh.stderr).into_owned() + &String::from_utf8_lossy(&ssh.stdout);
    assert!(said.contains("is the device of the port p1") && !said.contains("secret"), "{said}");

    // The adapter of p1 moves to another socket, and this socket then belongs to no port.
    fs::remove_file(rig.path("dev/by-path/1")).unwrap();
    rig.wait_for_status("8N1");
    rig.say(b"for demo\r\n");
    rig.wait_for_log("< for demo");
}

#[test]
fn a_port_without_tty_and_clients_exits() {
    let mut rig = Rig::with_config(TWO);
    rig.plug();
    link(&rig, "by-path/1", Path::new("../demo"));
    rig.start();
    rig.wait_for_status("is the device of the port p1");
    assert!(rig.wait().success(), "nothing to do is no failure");
}

#[test]
fn a_tty_that_belongs_to_another_port_now_is_closed_and_its_last_output_not_logged() {
    let mut rig = Rig::with_config(TWO);
    rig.serve_logins(true);
    rig.start_plugged();
    let mut seat = Seat::take(&rig);
    rig.say(b"for demo\r\n");
    seat.sees("for demo");
    link(&rig, "by-path/1", Path::new("../demo"));
    seat.sees("is the device of the port p1");
    rig.wait_for_status("idle: ");
    assert_eq!(rig.stored(), ["intake", "ring"], "systemd keeps no tty of another port");
    rig.say(b"secret of p1\r\n");
    seat.typing.write_all(b"typed at demo\r").unwrap();
    seat.sees("input is discarded");
    let log = rig.wait_for_log("# demo closed: ");
    assert!(log.contains("< for demo") && !log.contains("secret"), "{log}");
    // The next process that opens it receives it.
    let mut p1 = File::options().read(true).write(true).open(rig.path("dev/by-path/1")).unwrap();
    let mut heard = [0; 14];
    p1.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"secret of p1\r\n");
}

#[test]
fn a_tty_in_the_fd_store_that_belongs_to_another_port_now_is_not_adopted() {
    let mut rig = Rig::with_config(TWO);
    rig.start_plugged();
    assert_eq!(rig.stored(), ["intake", "ring", "tty"]);
    rig.kill();
    link(&rig, "by-path/1", Path::new("../demo"));
    rig.say(b"secret of p1\r\n");
    rig.start();
    rig.wait_for_status("idle: ");
    assert_eq!(rig.stored(), ["intake", "ring"]);
    assert!(!rig.log_text().contains("secret"), "{}", rig.log_text());
}

#[test]
fn a_reload_that_assigns_the_tty_to_another_port_closes_it() {
    let mut rig = Rig::with_config("[server]\nmonitor = \"@DIR@/dev\"\n[ports.demo]\ngroups = [\"*\"]\n");
    rig.start_plugged();
    link(&rig, "by-path/1", Path::new("../demo"));
    rig.configure(TWO);
    rig.apply();
    rig.wait_for_status("idle: ");
    rig.configure(&TWO.replace("by-path/1", "by-path/2"));
    rig.apply();
    rig.wait_for_status("8N1");
}

#[test]
fn a_session_does_not_change_to_another_device_without_confirmation() {
    let mut rig = Rig::new("");
    rig.serve_logins(true);
    rig.start_plugged();
    let mut seat = Seat::take(&rig);
    let (other, tty) = device();
    // The first one is alive, and the name is the other's from now on: as udev's by-id link, of two with one serial number.
    link(&rig, "demo", &tty);
    seat.sees("points to");
    seat.sees("another adapter than before");
    seat.typing.write_all(b"reboot\r").unwrap();
    seat.sees("input is discarded");
    (&other).write_all(b"I am another\r\n").unwrap();
    rig.wait_for_status("another adapter than before");
    assert!(!rig.log_text().contains("I am another"));

    rig.apply();
    seat.sees("I am another");
    seat.typing.write_all(b"hello\r").unwrap();
    let mut heard = [0; 6];
    (&other).read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello\r", "and nothing that was typed before");
    rig.wait_for_log("# demo is not the same adapter as before");
}

#[test]
fn without_sessions_another_device_is_opened_and_the_log_reports_it() {
    let mut rig = Rig::new("");
    rig.start_plugged();
    let (other, tty) = device();
    link(&rig, "demo", &tty);
    (&other).write_all(b"I am another\r\n").unwrap();
    let log = rig.wait_for_log("< I am another");
    let order = ["# demo closed: ", "# demo is not the same adapter as before", "< I am another"];
    let places: Vec<_> =
        order.iter().map(|words| log.find(words).unwrap_or_else(|| panic!("{words}: {log}"))).collect();
    assert!(places.is_sorted(), "{log}");
}

#[test]
fn a_link_that_is_missing_for_a_moment_has_no_effect() {
    let mut rig = Rig::new("");
    rig.start_plugged();
    let to = fs::read_link(rig.path("dev/demo")).unwrap();
    fs::remove_file(rig.path("dev/demo")).unwrap();
    link(&rig, "demo", &to);
    rig.say(b"still here\r\n");
    let log = rig.wait_for_log("< still here");
    assert!(!log.contains("closed"), "{log}");
    // A port whose device path is gone keeps the tty, since no port could find the device again.
    fs::remove_file(rig.path("dev/demo")).unwrap();
    rig.wait_for_status("unplugged since");
    assert_eq!(rig.stored(), ["intake", "ring"]);
}

#[test]
fn a_port_that_was_removed_from_the_configuration_keeps_no_tty() {
    let mut rig = Rig::with_config(TWO);
    rig.start_plugged();
    rig.kill();
    assert_eq!(rig.stored(), ["intake", "ring", "tty"]);
    rig.configure("[ports.other]\ndevice = \"@DIR@/dev/demo\"\n");
    rig.start();
    rig.wait_for_status("demo is not configured");
    until("the tty to be released", || (rig.stored() == ["intake", "ring"]).then_some(()));
}
