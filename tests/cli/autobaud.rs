//! `autobaud`: the rate of a device is found by listening, and the port's own rate is restored in every case. The far end looks
//! through the master how the slave is set, as a device of one rate would come out right at that one only.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::Signal;

use crate::accounts::Accounts;
use crate::client::Client;
use crate::rig::{Rig, until};

/// A device that sends at one rate.
struct Talker {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<u8>>>,
}

impl Talker {
    fn at(rig: &Rig, rate: u32) -> Self {
        nix::ioctl_read_bad!(tcgets2, libc::TCGETS2, libc::termios2);
        let ends = Arc::new(AtomicBool::new(false));
        let (mut device, ending) = (rig.device(), ends.clone());
        let thread = std::thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                #[allow(unsafe_code)]
                // SAFETY: zeros are a valid value of this struct of integers, and the kernel fills it in.
                let set = unsafe {
                    let mut line = std::mem::zeroed();
                    tcgets2(device.as_raw_fd(), &mut line).unwrap();
                    line.c_ospeed
                };
                let said: &[u8] =
                    if set == rate { b"login: \r\nswitch> " } else { b"\xe6\x06\x98\x00\x9e\x66\x80\xf8" };
                device.write_all(said).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
            // What the device received.
            let mut sent = Vec::new();
            nix::fcntl::fcntl(&device, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
            match device.read_to_end(&mut sent) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{error}"),
            }
            sent
        });
        Self { ends, thread: Some(thread) }
    }

    /// Ends the device; returns what it received while it sent.
    fn ends(&mut self) -> Vec<u8> {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

fn served(settings: &str) -> Rig {
    let mut rig = Rig::new(settings);
    rig.start_plugged();
    rig
}

fn is_back(rig: &Rig) {
    until("the rate of before", || (rig.line().c_ospeed == 9600).then_some(()));
}

/// Waits until another rate than the port's is being tried.
fn is_tried(rig: &Rig) {
    until("another rate", || (rig.line().c_ospeed != 9600).then_some(()));
}

#[test]
fn the_rate_of_a_device_is_detected_and_nothing_is_sent_to_it() {
    let rig = served("");
    let mut watcher = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("1 attached");
    let mut talker = Talker::at(&rig, 57_600);
    let mut asking = Client::start(rig.consolectl(&["autobaud", "demo"]));
    watcher.is_told("is testing line rates: output may be garbled until the test ends");
    is_tried(&rig);
    // What is typed in the meantime would arrive as garbage there.
    watcher.type_in("later");
    asking.ends_with(0);
    is_back(&rig);
    let shown = String::from_utf8(asking.shown()).unwrap();
    let rates: Vec<&str> = shown.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(rates, ["9600", "115200", "38400", "57600", "the"], "{shown}");
    assert!(shown.contains("  57600  ") && shown.contains("100% text\n"), "{shown}");
    assert!(
        shown.ends_with("the output of demo reads as text at 57600: `baud demo 57600` sets it\n"),
        "{shown}"
    );
    watcher.is_told("demo is back at 9600 baud");
    rig.expect_at_device(b"later");
    assert_eq!(talker.ends(), b"");
}

#[test]
fn the_rate_that_is_set_is_tried_first() {
    let rig = served("");
    let _talker = Talker::at(&rig, 9600);
    let mut asking = Client::start(rig.consolectl(&["autobaud", "demo"]));
    asking.ends_with(0);
    assert!(
        String::from_utf8(asking.shown())
            .unwrap()
            .ends_with("the output of demo reads as text at 9600: `baud demo 9600` sets it\n")
    );
}

#[test]
fn a_killed_and_an_interrupted_consolectl_leave_the_rate_as_it_was() {
    let rig = served("");
    // At a rate that is not among those tried: it runs to the end.
    let _talker = Talker::at(&rig, 300);
    for signal in [Signal::SIGKILL, Signal::SIGINT, Signal::SIGHUP] {
        let asking = Client::start(rig.consolectl(&["autobaud", "demo"]));
        is_tried(&rig);
        asking.signal(signal);
        is_back(&rig);
    }
}

#[test]
fn a_port_that_is_killed_restores_the_rate_when_it_is_restarted() {
    let mut rig = served("");
    let _talker = Talker::at(&rig, 300);
    let mut asking = Client::start(rig.consolectl(&["autobaud", "demo"]));
    is_tried(&rig);
    rig.kill();
    asking.ends_with(1);
    assert!(asking.aside().contains("connection to demo lost"), "{}", asking.aside());
    rig.start();
    is_back(&rig);
}

#[test]
fn settings_that_are_applied_in_between_end_it() {
    let rig = served("");
    let _talker = Talker::at(&rig, 300);
    let mut asking = Client::start(rig.consolectl(&["autobaud", "demo"]));
    is_tried(&rig);
    rig.configure("[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\nbaud = 1200\n");
    rig.apply();
    asking.ends_with(1);
    assert!(
        asking
            .aside()
            .contains("demo: the settings were changed or the device was unplugged during the test"),
        "{}",
        asking.aside()
    );
    assert_eq!(rig.line().c_ospeed, 1200);
}

#[test]
fn a_second_autobaud_is_rejected() {
    let rig = served("");
    let _talker = Talker::at(&rig, 300);
    let first = Client::start(rig.consolectl(&["autobaud", "demo"]));
    is_tried(&rig);
    let mut second = Client::start(rig.consolectl(&["autobaud", "demo"]));
    second.ends_with(1);
    assert!(second.aside().contains("another user is testing line rates at demo"), "{}", second.aside());
    drop(first);
    is_back(&rig);
}

#[test]
fn a_silent_device_is_reported_after_a_bounded_time() {
    let rig = served("");
    let begun = Instant::now();
    let mut asking = Client::start(rig.consolectl(&["autobaud", "demo"]));
    asking.ends_with(1);
    assert!(begun.elapsed() >= Duration::from_secs(10), "it has not been listened to");
    let said = "consolectl: no output from demo within 10 s: make the device print something and try again\n";
    assert_eq!(asking.aside(), said);
    assert_eq!(rig.line().c_ospeed, 9600);
}

#[test]
fn a_read_only_user_and_a_port_with_a_writer_are_rejected() {
    let accounts = Accounts::enter();
    for name in ["alice", "bob", "carol", "eve"] {
        accounts.add(name, None);
    }
    accounts.run(&["groupadd", "noc"]);
    accounts.run(&["usermod", "-aG", "noc", "carol"]);
    let mut rig = Rig::with_config(
        "[ports.demo]\ndevice = \"@DIR@/dev/demo\"\ngroups = []\nusers = [\"alice\", \"bob\"]\nread_only_groups = [\"noc\"]\n",
    );
    rig.start_plugged();
    for path in ["", "run", "run/attach"] {
        fs::set_permissions(rig.path(path), Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(rig.path("run/attach/demo"), Permissions::from_mode(0o666)).unwrap();
    let copied =
        Command::new("cp").arg(env!("CARGO_BIN_EXE_consolectl")).arg(rig.path("consolectl")).status();
    assert!(copied.unwrap().success());
    let as_user = |user: &str, words: [&str; 2]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--regid", user, "--clear-groups", "--"]);
        command.arg(rig.path("consolectl")).arg("--runtime-dir").arg(rig.path("run")).args(words);
        Client::start(command)
    };
    let _talker = Talker::at(&rig, 9600);
    let refused = |user: &str, wanted: &str| {
        let mut asking = as_user(user, ["autobaud", "demo"]);
        asking.ends_with(1);
        assert_eq!(asking.aside(), format!("consolectl: {wanted}\n"));
    };
    refused("eve", "eve has no access to demo; this requires membership in the group noc");
    refused("carol", "carol has read-only access to demo: autobaud requires write access");
    let alice = as_user("alice", ["connect", "demo"]);
    rig.wait_for_status("1 attached");
    refused("bob", "autobaud of demo is not possible: alice (local) has write access");
    as_user("alice", ["autobaud", "demo"]).ends_with(0);
    drop(alice);
    rig.wait_for_status("0 attached");
    as_user("bob", ["autobaud", "demo"]).ends_with(0);
}
