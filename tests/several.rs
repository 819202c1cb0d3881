//! Several ports in one command: the real `consoleserver` with the real `console-port` for each of its ports, whose devices are ptys.

#[path = "support/client.rs"]
mod client;
#[path = "support/rig.rs"]
mod rig;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

use client::Client;
use rig::until;

const NOBODY: u32 = 65534;
const PORTS: [&str; 4] = ["edge", "rack1-01", "rack1-02", "rack1-10"];

/// The program, its ports, and the devices at them.
struct Racks {
    room: TempDir,
    child: Child,
    devices: Vec<Option<File>>,
}

impl Racks {
    fn start() -> Self {
        let room = tempfile::tempdir().unwrap();
        let path = |part: &str| room.path().join(part);
        for directory in ["bin", "home", "run", "dev"] {
            fs::create_dir(path(directory)).unwrap();
        }
        let programs = [
            env!("CARGO_BIN_EXE_consoleserver"),
            env!("CARGO_BIN_EXE_console-port"),
            env!("CARGO_BIN_EXE_console-auth"),
            env!("CARGO_BIN_EXE_consolectl"),
        ];
        // By install(1): a file that is open for writing while another test forks cannot be executed.
        let mut install = Command::new("install");
        assert!(install.arg("-m755").args(programs).arg(path("bin")).status().unwrap().success());
        let mut config = String::from("[server]\nlisten = [\"127.0.0.1\"]\n");
        for port in PORTS {
            let device = path("dev").join(port);
            config += &format!("[ports.{port}]\ndevice = {device:?}\ngroups = [\"*\"]\n");
        }
        fs::write(path("config.toml"), config).unwrap();
        for directory in ["", "home", "run", "dev", "config.toml"] {
            chown(path(directory), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut command = Command::new(path("bin/consoleserver"));
        command.arg("--config").arg(path("config.toml"));
        let journal = File::create(path("journal")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(journal);
        as_nobody(&mut command, room.path());
        let child = command.spawn().unwrap();
        let mut racks = Self { room, child, devices: PORTS.map(|_| None).into() };
        for number in 0..PORTS.len() {
            racks.plug(number);
        }
        until("the ports to be open", || {
            let (_, status, _) = racks.says(&["status"]);
            (status.matches("open").count() == PORTS.len()).then_some(())
        });
        racks
    }

    fn path(&self, part: &str) -> PathBuf {
        self.room.path().join(part)
    }

    /// A new device at a port.
    fn plug(&mut self, number: usize) {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname_r(&master).unwrap();
        let slave = nix::fcntl::open(name.as_str(), flags, Mode::empty()).unwrap();
        let mut termios = tcgetattr(&slave).unwrap();
        cfmakeraw(&mut termios);
        tcsetattr(&slave, SetArg::TCSANOW, &termios).unwrap();
        chown(&name, Some(NOBODY), Some(NOBODY)).unwrap();
        let device = self.path("dev").join(PORTS[number]);
        let _ = fs::remove_file(&device);
        symlink(&name, device).unwrap();
        self.devices[number] = Some(File::from(OwnedFd::from(master)));
    }

    fn unplug(&mut self, number: usize) {
        fs::remove_file(self.path("dev").join(PORTS[number])).unwrap();
        self.devices[number] = None;
    }

    fn device(&self, number: usize) -> File {
        self.devices[number].as_ref().unwrap().try_clone().unwrap()
    }

    fn say(&self, number: usize, bytes: &[u8]) {
        self.device(number).write_all(bytes).unwrap();
    }

    /// Reads what a device is sent.
    fn hears(&self, number: usize, wanted: &str) {
        let mut heard = Vec::new();
        while heard.len() < wanted.len() {
            let mut device = self.device(number);
            let mut fds = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(rig::TIMEOUT).unwrap();
            assert_ne!(poll(&mut fds, timeout).unwrap(), 0, "{}: only {heard:?} came", PORTS[number]);
            let mut piece = [0; 256];
            let count = device.read(&mut piece).unwrap();
            heard.extend_from_slice(&piece[..count]);
        }
        assert_eq!(String::from_utf8_lossy(&heard), wanted, "{}", PORTS[number]);
    }

    fn consolectl(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.path("bin/consolectl"));
        command.arg("--runtime-dir").arg(self.path("run/consoleserver")).args(words);
        as_nobody(&mut command, self.room.path());
        command.stdin(Stdio::null());
        command
    }

    fn says(&self, words: &[&str]) -> (i32, String, String) {
        let output = self.consolectl(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// A `watch` that is attached to that many ports.
    fn watch(&self, words: &[&str], ports: usize) -> Client {
        let mut command = self.consolectl(words);
        command.env_remove("CLICOLOR_FORCE");
        let watch = Client::start(command);
        self.are_watched(ports);
        watch
    }

    fn are_watched(&self, ports: usize) {
        until("the sessions", || {
            let (_, who, _) = self.says(&["who"]);
            (who.matches("watching").count() == ports).then_some(())
        });
    }
}

impl Drop for Racks {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.path("journal")).unwrap_or_default());
        }
        // It may have ended already.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT);
        let _ = self.child.wait();
    }
}

fn as_nobody(command: &mut Command, room: &Path) {
    assert!(geteuid().is_root(), "this test needs root: run it by `make test`");
    command.uid(NOBODY).gid(NOBODY).current_dir(room.join("home"));
    command.env("HOME", room.join("home")).env("XDG_RUNTIME_DIR", room.join("run"));
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_text_is_sent_to_many_ports_with_a_line_of_result_each() {
    let mut racks = Racks::start();
    let (code, said, aside) = racks.says(&["send", "rack1-*", "show clock\\r"]);
    assert_eq!((code, aside.as_str()), (0, ""), "{said}");
    assert_eq!(sorted(&said), ["rack1-01: sent", "rack1-02: sent", "rack1-10: sent"]);
    for number in 1..=3 {
        racks.hears(number, "show clock\r");
    }
    // Ranges and lists; an unplugged device fails, and does not delay the others.
    racks.unplug(2);
    until("it to be away", || racks.says(&["status"]).1.contains("unplugged").then_some(()));
    let (code, said, aside) = racks.says(&["send", "rack1-[01-02],edge", "x"]);
    assert_eq!((code, aside.as_str()), (1, "consolectl: failed at 1 of 3 ports: rack1-02\n"), "{said}");
    let lines = sorted(&said);
    assert_eq!(lines[..2], ["edge: sent", "rack1-01: sent"]);
    assert!(lines[2].starts_with("rack1-02: unplugged since "), "{said}");
    racks.hears(0, "x");
    racks.hears(1, "x");
    // One of the ports does not exist: nothing is sent to any.
    let (code, said, aside) = racks.says(&["send", "edge,rakc1-01", "y"]);
    assert_eq!((code, said.as_str()), (1, ""));
    assert!(aside.starts_with("consolectl: there is no port rakc1-01: did you mean rack1-01"), "{aside}");
    let (code, _, aside) = racks.says(&["send", "lab-*", "y"]);
    assert!(code == 1 && aside.starts_with("consolectl: no port matches lab-*: "), "{aside}");
}

#[test]
fn answers_stand_below_their_ports_and_a_silent_one_fails() {
    let racks = Racks::start();
    // The reply of a device with constant output: once it is asked.
    let mut device = racks.device(1);
    let answering = std::thread::spawn(move || {
        let mut asked = [0; 1];
        device.read_exact(&mut asked).unwrap();
        device.write_all(b"\x1b[1m12:00\x1b[0m\r\nrack1-01#").unwrap();
    });
    let (code, said, aside) =
        racks.says(&["send", "rack1-[01,02]", "\\r", "--expect", "#$", "--timeout", "2"]);
    answering.join().unwrap();
    assert_eq!((code, aside.as_str()), (1, "consolectl: failed at 1 of 2 ports: rack1-02\n"), "{said}");
    assert!(said.contains("rack1-01: sent; received \"#$\"\n    12:00\n    rack1-01#\n"), "{said}");
    assert!(said.contains("rack1-02: no match for \"#$\" within 2 s\n"), "{said}");

    let mut expecting = Client::start(racks.consolectl(&["expect", "edge,rack1-10", "login:"]));
    for number in [0, 3] {
        until("both to be waited for", || {
            racks.say(number, b"login:\r\n");
            let shown = String::from_utf8_lossy(&expecting.shown()).into_owned();
            shown.contains(&format!("{}: received \"login:\"", PORTS[number])).then_some(())
        });
    }
    expecting.ends_with(0);
}

#[test]
fn many_ports_are_watched_line_by_line_and_only_watched() {
    let mut racks = Racks::start();
    let mut watch = racks.watch(&["watch", "rack1-*"], 3);
    let (_, who, _) = racks.says(&["who"]);
    assert!(!who.contains("writing") && !who.contains("edge"), "{who}");
    // Pieces of two devices at once: each line whole, behind the name of its port.
    racks.say(1, b"\x1b[2J\x1b[0;32mboot");
    racks.say(2, b"10%\r20%\r\n");
    racks.say(1, b"ing\x1b[0m\r\n\x1b[?2004l\r\n");
    watch.sees("rack1-01: booting\n");
    racks.say(0, b"this is not watched\r\n");
    // A prompt has no line end, but is printed; input typed after it continues the line.
    racks.say(2, b"login: ");
    watch.sees("rack1-02: login: \n");
    racks.say(2, b"root\r\n");
    watch.sees("rack1-02+ root\n");
    // A device that forges the line of another port.
    racks.say(3, b"x\r\rrack1-01: forged\x1b]0;t\x07\xff\xe2\x80\xae\n");
    watch.sees("rack1-10: rack1-01: forged\\xff\\u{202e}\n");
    racks.unplug(1);
    watch.sees("rack1-01# [rack1-01 unplugged ");
    racks.plug(1);
    watch.sees("rack1-01# [rack1-01 reconnected ");
    racks.say(1, b"hello again\r\n");
    watch.sees("rack1-01: hello again\n");
    let shown = String::from_utf8(watch.shown()).unwrap();
    assert!(shown.contains("rack1-02: 10%\nrack1-02: 20%\n"), "{shown}");
    assert!(!shown.contains('\x1b') && !shown.contains("not watched"), "{shown}");
    assert!(shown.lines().all(|line| line.starts_with("rack1-")), "{shown}");
    watch.signal(Signal::SIGINT);
    assert!(watch.ends().code().is_none());
    racks.are_watched(0);
}

#[test]
fn a_port_whose_process_ends_is_watched_again_but_not_by_whom_an_administrator_sent_away() {
    let racks = Racks::start();
    let mut watch = racks.watch(&["watch", "edge", "rack1-01"], 2);
    let process = |port: &str| {
        let program = format!("{}.* {port}$", racks.path("bin/console-port").display());
        let found = Command::new("pgrep").args(["-f", &program]).output().unwrap().stdout;
        Pid::from_raw(String::from_utf8(found).unwrap().trim().parse().unwrap())
    };
    kill(process("edge"), Signal::SIGKILL).unwrap();
    watch.sees("edge# [connection to edge lost]\n");
    watch.sees("edge# [re-attached]\n");
    racks.say(0, b"still here\r\n");
    watch.sees("edge: still here\n");
    // Disconnects as console-admin does for `disconnect`.
    let socket = racks.path("run/consoleserver");
    let away = |port: &str| {
        let port = port.parse().unwrap();
        consoleserver::attach::client::disconnect(&socket, &port, "nobody", "root").unwrap()
    };
    assert_eq!((away("edge"), away("rack1-01")), (1, 1));
    watch.sees("edge# [");
    watch.ends_with(1);
    assert!(watch.aside().ends_with("consolectl: no ports left to watch\n"), "{}", watch.aside());
}

#[test]
fn nobody_reads_any_more_and_the_watch_ends() {
    let racks = Racks::start();
    let mut command = racks.consolectl(&["watch"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    racks.are_watched(PORTS.len());
    drop(child.stdout.take());
    // No device sends output.
    until("it to end", || child.try_wait().unwrap());
    racks.are_watched(0);
}

#[test]
fn a_watch_that_is_not_read_holds_up_no_port_and_stays_small() {
    let racks = Racks::start();
    let mut command = racks.consolectl(&["watch", "edge"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    racks.are_watched(1);
    // More than the pipe, the queue, the socket and the port's ring hold.
    let mut device = racks.device(0);
    let line = [b"0123456789abcdef".repeat(63), b"\r\n".to_vec()].concat();
    for _ in 0..8 * 1024 {
        device.write_all(&line).unwrap();
    }
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kilobytes: u64 = peak.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kilobytes < 64 * 1024, "{peak}");
    // The number of skipped bytes is reported once output is read again.
    let mut stdout = child.stdout.take().unwrap();
    let (mut shown, mut piece) = (Vec::new(), [0; 64 * 1024]);
    while !shown.windows(13).any(|part| part == b"bytes skipped") {
        let count = stdout.read(&mut piece).unwrap();
        assert_ne!(count, 0);
        shown.extend_from_slice(&piece[..count]);
        shown.drain(..shown.len().saturating_sub(128 * 1024));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn names_are_coloured_on_a_terminal_unless_the_user_does_not_want_that() {
    let racks = Racks::start();
    let shown = |environment: &[(&str, &str)], terminal: bool| {
        let watch = racks.consolectl(&["watch", "edge"]);
        let mut command = match terminal {
            // script(1) gives it a terminal.
            true => {
                let mut script = Command::new("script");
                let words: Vec<_> = std::iter::once(watch.get_program())
                    .chain(watch.get_args())
                    .map(|word| word.to_str().unwrap())
                    .collect();
                script.args(["-qec", &words.join(" "), "/dev/null"]);
                as_nobody(&mut script, racks.room.path());
                script
            }
            false => watch,
        };
        // With `CI` set, a dumb terminal counts as one with colours (anstyle-query).
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
            command.env_remove(name);
        }
        command.env("TERM", "xterm").envs(environment.iter().copied());
        let mut client = Client::start(command);
        racks.are_watched(1);
        racks.say(0, b"coloured?\r\n");
        client.sees("coloured?");
        let shown = String::from_utf8(client.shown()).unwrap();
        drop(client);
        racks.are_watched(0);
        shown
    };
    let coloured = "\x1b[1m\x1b[36medge\x1b[0m: coloured?";
    assert!(shown(&[], true).contains(coloured));
    assert!(!shown(&[("NO_COLOR", "1")], true).contains('\x1b'));
    assert!(!shown(&[("TERM", "dumb")], true).contains('\x1b'));
    assert!(!shown(&[], false).contains('\x1b'));
    assert!(shown(&[("CLICOLOR_FORCE", "1")], false).contains(coloured));
}

#[test]
fn logs_and_searches_of_several_ports_have_their_names_before_the_lines() {
    let racks = Racks::start();
    for (number, port) in PORTS.iter().enumerate().take(3) {
        racks.say(number, format!("\x1b[1mboot of {port}\x1b[0m\r\n").as_bytes());
        until("the log", || racks.says(&["log", port]).1.contains("boot of").then_some(()));
    }
    let (code, said, aside) = racks.says(&["log", "rack1-[01-02]"]);
    assert_eq!((code, aside.as_str()), (0, ""));
    assert!(
        said.lines().any(|line| line.starts_with("rack1-01: ") && line.ends_with("< boot of rack1-01")),
        "{said}"
    );
    assert!(
        said.lines().any(|line| line.starts_with("rack1-02: ") && line.ends_with("< boot of rack1-02")),
        "{said}"
    );
    assert!(!said.contains("edge"), "{said}");
    let (code, said, _) = racks.says(&["grep", "boot", "rack1-*", "edge"]);
    assert_eq!(code, 0);
    assert_eq!(said.matches("boot of").count(), 3, "{said}");
    let mut follow = Client::start(racks.consolectl(&["log", "-f", "-n0", "edge,rack1-10"]));
    for number in [3, 0] {
        until("both to be followed", || {
            racks.say(number, b"news\r\n");
            let shown = String::from_utf8_lossy(&follow.shown()).into_owned();
            shown.contains(&format!("{}: ", PORTS[number])).then_some(())
        });
    }
    follow.signal(Signal::SIGINT);
    follow.ends();
}
