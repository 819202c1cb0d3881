//! The README's first command, for real: `make run` builds and starts the demonstration, and the lines that it prints
//! are pasted into terminals as they stand.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A build from nothing on two cores.
const BUILD: Duration = Duration::from_secs(900);
/// Timeout of everything after that.
const TIMEOUT: Duration = Duration::from_secs(30);

/// `make run`, run by the user who started the tests (and may have become root for them).
struct MakeRun(Child);

impl MakeRun {
    fn start() -> Self {
        let mut command = Command::new("make");
        command.arg("run").current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
        as_caller(&mut command);
        Self(command.stdout(Stdio::piped()).process_group(0).spawn().unwrap())
    }

    /// The lines to paste: ssh, consolectl and tail.
    fn printed(&mut self) -> Vec<String> {
        let stdout = BufReader::new(self.0.stdout.take().unwrap());
        let (line, lines) = channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        let deadline = Instant::now() + BUILD;
        let mut printed = Vec::new();
        loop {
            let line = lines
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
                .expect("make run prints what to paste");
            if line.starts_with("Press Ctrl-C here to stop everything") {
                return printed;
            }
            printed.extend(line.strip_prefix("    ").map(str::to_owned));
        }
    }

    /// Sends SIGINT to the process group, as a terminal does on Ctrl-C.
    fn interrupt(&self) {
        killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGINT).unwrap();
    }
}

impl Drop for MakeRun {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.interrupt();
            let _ = self.0.wait();
        }
    }
}

/// A terminal in which one line was pasted.
struct Terminal {
    line: String,
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn paste(line: &str) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", "bash", "-c", line]).env("TERM", "xterm");
        command
            .stdin(pty.slave.try_clone().unwrap())
            .stdout(pty.slave.try_clone().unwrap())
            .stderr(pty.slave);
        if let Some((uid, gid)) = caller() {
            std::os::unix::fs::fchown(&pty.master, Some(uid), Some(gid)).unwrap();
        }
        as_caller(&mut command);
        let child = command.spawn().unwrap();
        drop(command);
        let keyboard = File::from(pty.master);
        let mut screen_end = keyboard.try_clone().unwrap();
        let (bytes, screen) = channel();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            // EIO reports to the last reader of a pty that the program has exited.
            while let Ok(length @ 1..) = screen_end.read(&mut chunk) {
                if bytes.send(chunk[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { line: line.to_owned(), child, keyboard, screen, seen: String::new() }
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text that was not seen yet.
    fn sees(&mut self, text: &str) -> &mut Self {
        let deadline = Instant::now() + TIMEOUT;
        while !self.seen.contains(text) {
            match self.screen.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(end) => panic!("{}\n{end}: no {text:?} after\n{}", self.line, self.seen),
            }
        }
        self
    }

    fn ends(&mut self) -> ExitStatus {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "{}\ndoes not end after\n{}", self.line, self.seen);
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The user who ran `make test`, if root is only borrowed.
fn caller() -> Option<(u32, u32)> {
    let id = |name| std::env::var(name).ok()?.parse().ok();
    Some((id("SUDO_UID")?, id("SUDO_GID")?))
}

fn as_caller(command: &mut Command) {
    // Started from a shell of their own, not from within make and cargo.
    for variable in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"] {
        command.env_remove(variable);
    }
    // ring's build script is run again when one of these has changed, and what uses it is compiled again: here, and again for the beds.
    for (name, _) in std::env::vars_os() {
        let of_a_test = |name: &str| {
            ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "NEXTEST"]
                .iter()
                .any(|begin| name.starts_with(begin))
        };
        if name.to_str().is_some_and(of_a_test) {
            command.env_remove(name);
        }
    }
    if let Some((uid, gid)) = caller() {
        command.uid(uid).gid(gid);
    }
}

fn the_one<'a>(lines: &'a [String], words: &str) -> &'a str {
    let found: Vec<_> = lines.iter().filter(|line| line.contains(words)).collect();
    assert_eq!(found.len(), 1, "{words:?} in {lines:#?}");
    found[0]
}

/// The word after `option` in a printed line.
fn word_after<'a>(line: &'a str, option: &str) -> &'a str {
    line.split_whitespace().skip_while(|word| *word != option).nth(1).unwrap()
}

/// `make run`, `make build` and debian/rules ask cargo where the programs are: the environment and cargo's configuration may move them.
#[test]
fn programs_are_found_wherever_cargo_puts_them() {
    let room = tempfile::tempdir().unwrap();
    let path = |name: &str| room.path().join(name);
    for directory in ["src", ".cargo"] {
        std::fs::create_dir(path(directory)).unwrap();
    }
    std::fs::write(
        path("Cargo.toml"),
        "[package]\nname = \"one\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
    )
    .unwrap();
    std::fs::write(path("src/main.rs"), "fn main() {}\n").unwrap();
    let build = |variables: &[(&str, &str)]| {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/cargo-build"));
        command.args([env!("CARGO"), "build"]).current_dir(room.path());
        for inherited in ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET", "CARGO_BUILD_TARGET_DIR"] {
            command.env_remove(inherited);
        }
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let elsewhere = path("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    for variables in [
        &[] as &[_],
        &[("CARGO_TARGET_DIR", elsewhere)],
        &[("CARGO_BUILD_TARGET_DIR", elsewhere)],
        &[("CARGO_BUILD_TARGET", "x86_64-unknown-linux-gnu"), ("CARGO_TARGET_DIR", "relative")],
    ] {
        if cfg!(not(target_arch = "x86_64")) && variables.len() == 2 {
            continue;
        }
        let output = build(variables);
        let found = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && Path::new(found.trim()).join("one").is_file(),
            "{variables:?}: {found:?}"
        );
    }
    std::fs::write(path(".cargo/config.toml"), "[build]\ntarget-dir = \"configured\"\n").unwrap();
    let found = String::from_utf8(build(&[]).stdout).unwrap();
    assert_eq!(Path::new(found.trim()), path("configured/debug").canonicalize().unwrap());

    std::fs::write(path("src/main.rs"), "fn main() {\n").unwrap();
    let output = build(&[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("unclosed delimiter"), "{said}");
}

#[test]
fn the_printed_lines_log_in_let_a_user_watch_and_show_the_log() {
    let mut run = MakeRun::start();
    let printed = run.printed();
    let ssh = the_one(&printed, "ssh -i ");
    let consolectl = the_one(&printed, "consolectl --runtime-dir ");

    let mut first = Terminal::paste(ssh);
    first.sees("demo");
    first.types("\r");
    first.sees("demo$ ");
    first.types("echo first sum $((40 + 2))\r");
    first.sees("first sum 42");

    let mut second = Terminal::paste(consolectl);
    second.sees("demo");
    first.types("echo second sum $((50 + 5))\r");
    first.sees("second sum 55");
    second.sees("second sum 55");

    // A third user by SSH, who does not type while the first one's command runs.
    let mut third = Terminal::paste(ssh);
    third.sees("second sum 55");
    third.types("echo third sum $((70 + 7))\r");
    third.sees("input is discarded");
    first.types("echo fourth sum $((80 + 8))\r");
    third.sees("fourth sum 88");
    assert!(!first.sees("fourth sum 88").seen.contains("third sum 77"));

    let mut log = Terminal::paste(the_one(&printed, "tail -F "));
    log.sees("first sum 42").sees("fourth sum 88");

    for viewer in [&mut third, &mut second, &mut first] {
        viewer.types("\x05c.");
        let status = viewer.ends();
        assert!(status.success(), "{}: {status}\n{}", viewer.line, viewer.seen);
    }

    let runtime = PathBuf::from(word_after(consolectl, "--runtime-dir"));
    let number: u16 = word_after(ssh, "-p").parse().unwrap();
    assert!(TcpStream::connect(("localhost", number)).is_ok());
    run.interrupt();
    run.0.wait().unwrap();
    assert!(TcpStream::connect(("localhost", number)).is_err());
    for trace in ["attach/demo", "auth-port", "demo_key", "known_hosts", "config.toml"] {
        assert!(!Path::new(&runtime).join(trace).exists(), "{trace} is left in {}", runtime.display());
    }
}
