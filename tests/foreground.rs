//! `consoleserver` as it is started from a terminal: the real program, with real sockets, users and ttys. What it starts
//! is a script here, "witness", in place of `console-port` and `console-auth` that prints its descriptors.
//! (`make_run.rs` has the whole with the real ones.)

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

/// Longer than any step takes on a machine that is busy with the other tests.
const TIMEOUT: Duration = Duration::from_secs(30);
const NOBODY: u32 = 65534;

/// A port that answers every SSH connection with one line, until it gets SIGTERM.
const WITNESS: &str = r#"
echo "witness $* runs as $(id -un) $(id -gn) with LISTEN_FDS=$LISTEN_FDS LISTEN_FDNAMES=$LISTEN_FDNAMES" >&2
trap 'echo "witness $3 says goodbye" >&2; kill $!; exit 0' TERM
perl -e 'open(my $listener, "+<&=", 3); while (accept(my $guest, $listener)) { syswrite($guest, "served\n") }' & wait
"#;

/// Everything that one instance needs, in one temporary directory.
struct Bench {
    room: TempDir,
    monitor: PathBuf,
}

/// A running instance.
struct Instance {
    child: Child,
    screen: Receiver<String>,
    seen: Vec<String>,
}

impl Bench {
    fn new(port: &str, auth: &str) -> Self {
        let room = tempfile::tempdir().unwrap();
        let bench = Self { monitor: room.path().join("dev"), room };
        for directory in ["bin", "home", "run", "dev"] {
            fs::create_dir(bench.path(directory)).unwrap();
        }
        if geteuid().is_root() {
            for directory in ["", "home", "run", "dev"] {
                chown(bench.path(directory), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        bench.install(Path::new(env!("CARGO_BIN_EXE_consoleserver")), "consoleserver");
        bench.script("console-port", port);
        bench.script("console-auth", auth);
        bench.script("consolectl", "exit 1");
        bench
    }

    fn path(&self, relative: &str) -> PathBuf {
        if relative.is_empty() { self.room.path().to_owned() } else { self.room.path().join(relative) }
    }

    fn runtime(&self, relative: &str) -> PathBuf {
        self.path("run/consoleserver").join(relative)
    }

    fn script(&self, name: &str, text: &str) {
        let draft = self.path("draft");
        fs::write(&draft, format!("#!/bin/bash\n{text}\n")).unwrap();
        self.install(&draft, name);
    }

    /// Runs install(1), since a file that this process has open for writing while another test forks cannot be executed.
    fn install(&self, from: &Path, name: &str) {
        let to = self.path("bin").join(name);
        assert!(Command::new("install").arg("-m755").arg(from).arg(to).status().unwrap().success());
    }

    fn config(&self, ports: &str) -> PathBuf {
        let path = self.path("config.toml");
        fs::write(&path, format!("[server]\nmonitor = {:?}\n{ports}", self.monitor)).unwrap();
        path
    }

    /// The program, run by an ordinary user in a terminal.
    fn command(&self, config: &Path) -> Command {
        let mut command = Command::new(self.path("bin/consoleserver"));
        command.arg("--config").arg(config).current_dir(self.path("home"));
        command.env("HOME", self.path("home")).env("XDG_RUNTIME_DIR", self.path("run"));
        if geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn start(&self, ports: &str) -> Instance {
        Instance::of(self.command(&self.config(ports)))
    }

    fn sockets(&self) -> Vec<OsString> {
        let names = |directory| fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = names(self.runtime("attach")).chain(names(self.runtime(""))).collect();
        left.retain(|name| name != "attach");
        left
    }
}

impl Instance {
    fn of(mut command: Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (line, screen) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        Self { child, screen, seen: Vec::new() }
    }

    /// The next line with these words.
    fn says(&mut self, words: &str) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.screen.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => self.seen.push(line),
                Err(end) => panic!("{end}: no {words:?} on the screen after\n{}", self.seen.join("\n")),
            }
        }
    }

    /// A line with each of these words, in the next lines.
    fn says_in_any_order<const N: usize>(&mut self, words: [&str; N]) {
        let mut missing = words.to_vec();
        while !missing.is_empty() {
            let line = self.says("");
            let count = missing.len();
            missing.retain(|words| !line.contains(words));
            assert!(missing.len() < count, "{line:?} instead of {missing:?}");
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn ends(&mut self) -> ExitStatus {
        eventually("the program ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // A test that failed halfway; a successful one has waited for the end.
        if let Ok(None) = self.child.try_wait() {
            self.signal(Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {TIMEOUT:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A TCP port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
}

fn is_free(number: u16) -> bool {
    TcpListener::bind(("::", number)).is_ok()
}

fn answer(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_taken_tcp_port_is_a_named_error_and_nothing_is_left_behind() {
    let bench = Bench::new(WITNESS, "");
    let taken = TcpListener::bind("[::]:0").unwrap();
    let (free, number) = (free_port(), taken.local_addr().unwrap().port());
    let config =
        bench.config(&format!("[ports.a]\nssh_port = {free}\n[ports.ttyUSB0]\nssh_port = {number}\n"));
    let output = bench.command(&config).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let sentence = format!(
        "consoleserver: ttyUSB0: cannot listen on [::]:{number}: address in use (by another consoleserver?)\n"
    );
    assert!(said.ends_with(&sentence), "{said}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(bench.sockets(), [] as [&str; 0]);
    assert!(is_free(free));
}

#[test]
fn a_second_instance_with_the_same_sockets_fails_and_the_first_continues() {
    let bench = Bench::new(WITNESS, "");
    let mut first = bench.start("[ports.first]\n");
    first.says("serving first local only");
    let output = bench.command(&bench.config("[ports.second]\n")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("another consoleserver is running and uses "), "{said}");
    assert_eq!(output.status.code(), Some(1));
    UnixStream::connect(bench.runtime("attach/first")).unwrap();
    first.says("first: client connected: console-port started");
}

/// As root the program uses the directory of the package's units. systemd listens there, and holds no lock.
#[test]
fn beside_the_units_of_the_package_it_fails_and_leaves_their_sockets() {
    let bench = Bench::new(WITNESS, "");
    for directory in ["", "source", "source/a", "running"] {
        fs::create_dir(bench.runtime(directory)).unwrap();
        if geteuid().is_root() {
            chown(bench.runtime(directory), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    let _units = UnixListener::bind(bench.runtime("auth-port")).unwrap();
    fs::set_permissions(bench.runtime("auth-port"), Permissions::from_mode(0o666)).unwrap();
    fs::write(bench.runtime("source/a/socket"), "").unwrap();
    let output = bench.command(&bench.config("[ports.a]\nsource = \"unix:/run/a\"\n")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("auth-port: another program listens on this socket, probably consoleserver.target"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(bench.runtime("source/a/socket").exists() && bench.runtime("running").exists());
}

#[test]
fn ctrl_c_tells_the_ports_removes_the_sockets_and_is_a_success() {
    let bench = Bench::new(WITNESS, "");
    let number = free_port();
    let mut instance = bench.start(&format!("[ports.a]\nssh_port = {number}\n[ports.b]\n"));
    instance.says("serving a on");
    assert_eq!(answer(TcpStream::connect(("127.0.0.1", number)).unwrap()), "served\n");
    instance.signal(Signal::SIGINT);
    instance.says("witness a says goodbye");
    assert_eq!(instance.ends().code(), Some(0));
    assert_eq!(bench.sockets(), [] as [&str; 0]);
    assert!(is_free(number));
}

#[test]
fn a_dead_instances_sockets_are_replaced() {
    let bench = Bench::new(WITNESS, "");
    let mut first = bench.start("[ports.a]\n");
    first.says("serving a");
    first.signal(Signal::SIGKILL);
    first.ends();
    assert!(bench.runtime("attach/a").exists());
    let mut second = bench.start("[ports.a]\n");
    second.says("serving a");
    UnixStream::connect(bench.runtime("attach/a")).unwrap();
    second.says("a: client connected");
}

#[test]
fn a_first_connection_starts_the_port_with_its_sockets_by_name() {
    let bench = Bench::new(WITNESS, "");
    let number = free_port();
    let ports = format!("[ports.a]\nssh_port = {number}\nlisten = [\"[::1]\", \"127.0.0.1\"]\n");
    let mut instance = bench.start(&ports);
    instance.says("serving a on");
    // The witness answers on the first one; both were bound.
    assert_eq!(answer(TcpStream::connect(("::1", number)).unwrap()), "served\n");
    let line = instance.says("witness --config ");
    let config = bench.runtime("config.toml");
    assert!(line.contains(&format!("witness --config {} a runs as", config.display())), "{line}");
    assert!(line.ends_with("with LISTEN_FDS=3 LISTEN_FDNAMES=ssh:ssh:attach"), "{line}");
    TcpStream::connect(("127.0.0.1", number)).unwrap();
}

#[test]
fn a_port_inherits_its_sockets_and_a_clean_environment_and_no_tty_of_another() {
    let witness = r#"for fd in /proc/$$/fd/*; do echo "fd $(readlink $fd)" >&2; done
                     env | sed 's/^/variable /' >&2; echo "that is all" >&2; sleep 60"#;
    let bench = Bench::new(witness, "");
    let mut command = bench.command(&bench.config("[ports.local]\n"));
    command.arg("--demo").env("TZ", "Europe/Madrid").env("BASH_ENV", "/tmp/hostile");
    let mut instance = Instance::of(command);
    instance.says("demo: /dev/pts/");
    instance.says("that is all");
    let words = |kind| instance.seen.iter().filter_map(move |line| line.strip_prefix(kind));

    let sockets = words("fd ").filter(|target| target.starts_with("socket:")).count();
    let announced = words("variable LISTEN_FDS=").next().unwrap();
    assert_eq!(sockets.to_string(), announced);
    for foreign in ["/dev/pt", "inotify", "eventpoll"] {
        assert!(!words("fd ").any(|target| target.contains(foreign)), "{:?}", instance.seen);
    }
    let mut names: Vec<_> = words("variable ").map(|line| line.split('=').next().unwrap()).collect();
    names.sort_unstable();
    let given = "CREDENTIALS_DIRECTORY LISTEN_FDNAMES LISTEN_FDS LOGS_DIRECTORY PATH RUNTIME_DIRECTORY TZ";
    let of_bash = ["PWD", "SHLVL", "_"];
    names.retain(|name| !of_bash.contains(name));
    assert_eq!(names.join(" "), given);
}

#[test]
fn a_plug_in_starts_the_port_and_a_replug_does_again() {
    let bench = Bench::new("", "");
    let device = bench.monitor.join("ttyUSB0");
    let leaves = "while test -e $tty; do sleep 0.01; done";
    bench.script(
        "console-port",
        &format!("tty={}; test -c $tty && echo 'witness sees a tty' >&2; {leaves}", device.display()),
    );
    let mut instance = bench.start("[ports.ttyUSB0]\n");
    instance.says("serving ttyUSB0");
    for _ in 0..2 {
        let pty = nix::pty::openpty(None, None).unwrap();
        symlink(nix::unistd::ttyname(&pty.slave).unwrap(), &device).unwrap();
        // Two programs print these, in any order.
        instance.says_in_any_order(["ttyUSB0 present: console-port started", "witness sees a tty"]);
        fs::remove_file(&device).unwrap();
        instance.says("console-port exited");
    }
}

#[test]
fn a_crash_is_logged_and_the_port_is_restarted() {
    let bench =
        Bench::new("test -e $LOGS_DIRECTORY/mark || { touch $LOGS_DIRECTORY/mark; exit 3; }; sleep 60", "");
    fs::write(bench.monitor.join("a"), "").unwrap();
    let mut instance = bench.start("[ports.a]\n");
    instance.says("a: console-port exited unexpectedly (exit status: 3); restart in 0.2 s");
    instance.says("a present: console-port started");
    assert!(bench.path("home/.consoleserver/log/a/mark").exists());
}

#[test]
fn a_consoleserver_that_is_killed_leaves_no_port_behind() {
    let bench = Bench::new(WITNESS, "");
    let number = free_port();
    let mut instance = bench.start(&format!("[ports.a]\nssh_port = {number}\n"));
    instance.says("serving a on");
    assert_eq!(answer(TcpStream::connect(("127.0.0.1", number)).unwrap()), "served\n");
    instance.signal(Signal::SIGKILL);
    instance.says("witness a says goodbye");
    eventually("the TCP port is free again", || is_free(number).then_some(()));
}

#[test]
fn each_login_gets_a_helper_of_its_own_and_the_one_beyond_the_limit_none() {
    let bench = Bench::new(WITNESS, r#"echo "helper with LISTEN_FDS=$LISTEN_FDS" >&3; read -u 3"#);
    let mut instance = bench.start("[ports.a]\n");
    instance.says("serving a");
    let login = || {
        let stream = UnixStream::connect(bench.runtime("auth-port")).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        (stream, line)
    };
    let mut logins: Vec<_> = (0..64).map(|_| login()).collect();
    for (_, line) in &logins {
        assert_eq!(line, "helper with LISTEN_FDS=1\n");
    }
    assert_eq!(login().1, "");
    instance.says("limit of 64 logins at once reached, connection closed");

    logins.pop().unwrap().0.write_all(b"bye\n").unwrap();
    eventually("a place is free again", || (!login().1.is_empty()).then_some(()));
}

/// A checkout below /root, which other users cannot search.
#[test]
fn as_root_ports_run_from_a_directory_that_their_user_may_not_search() {
    assert!(geteuid().is_root(), "this test needs root: run it by `make test`");
    let bench = Bench::new(r#"echo "port runs as $(id -un)" >&2; sleep 60"#, "");
    chown(bench.room.path(), Some(0), Some(0)).unwrap();
    fs::set_permissions(bench.room.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let config = bench.config("[ports.a]\n");
    fs::write(bench.monitor.join("a"), "").unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "/bin/bash", "-c"]);
    command.arg(format!(
        "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && mount -t tmpfs tmpfs /var/log && \
         exec {}/bin/consoleserver --config {}",
        bench.room.path().display(),
        config.display()
    ));
    let mut instance = Instance::of(command);
    let who = instance.says("port runs as ");
    assert!(who.ends_with("nobody") || who.ends_with("_console-port"), "{who}");
    instance.signal(Signal::SIGINT);
    assert_eq!(instance.ends().code(), Some(0));
}

#[test]
fn under_nohup_it_stays_and_its_programs_ignore_no_signal() {
    // (Bash ignores SIGQUIT itself, and what it starts does not.)
    let bench = Bench::new("echo \"the port: $(grep SigIgn /proc/self/status)\" >&2; sleep 60", "");
    let config = bench.config("[ports.a]\n");
    fs::write(bench.monitor.join("a"), "").unwrap();
    let program = bench.command(&config);
    let mut command = Command::new("env");
    command.arg("--ignore-signal=HUP,INT,QUIT,PIPE").arg(program.get_program()).args(program.get_args());
    command.current_dir(bench.path("home"));
    command.env("HOME", bench.path("home")).env("XDG_RUNTIME_DIR", bench.path("run"));
    command.uid(NOBODY).gid(NOBODY);
    let mut instance = Instance::of(command);
    let ignored = instance.says("the port: SigIgn:");
    let mask = ignored.split_whitespace().last().unwrap();
    // The standard signals (signal(7)); those from 32 on belong to the C library and must not be reset.
    assert_eq!(u64::from_str_radix(mask, 16).unwrap() & ((1 << 31) - 1), 0, "{ignored}");
    instance.signal(Signal::SIGHUP);
    instance.signal(Signal::SIGQUIT);
    // The process sleeps or runs, so it has not exited.
    let status = fs::read_to_string(format!("/proc/{}/status", instance.child.id())).unwrap();
    assert!(status.contains("State:\tS") || status.contains("State:\tR"), "{status}");
    // SIGINT ends it, as when a script stops its background job.
    instance.signal(Signal::SIGINT);
    instance.says("Ctrl-C: shutting down");
    assert_eq!(instance.ends().code(), Some(0));
    assert!(!instance.seen.iter().any(|line| line.contains("SIGHUP: shutting down")), "{:?}", instance.seen);
}

#[test]
fn as_root_ports_run_as_another_user_with_copies_of_the_host_keys() {
    assert!(geteuid().is_root(), "this test needs root: run it by `make test`");
    let bench = Bench::new(
        r#"id >&2; stat -c "%n %a %U" $CREDENTIALS_DIRECTORY $CREDENTIALS_DIRECTORY/* $LOGS_DIRECTORY >&2
           cat /var/lib/consoleserver/hostkeys/* >&2; touch $LOGS_DIRECTORY/console.log && echo "log made" >&2; sleep 60"#,
        "",
    );
    // tempfile makes its directory for its owner alone.
    fs::set_permissions(bench.room.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = bench.config("[ports.a]\n");
    fs::write(bench.monitor.join("a"), "").unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "/bin/bash", "-c"]);
    command.arg(format!(
        "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && mount -t tmpfs tmpfs /var/log && \
         exec {}/bin/consoleserver --config {}",
        bench.room.path().display(),
        config.display()
    ));
    let mut instance = Instance::of(command);
    let who = instance.says("uid=");
    assert!(who.contains("(nobody)") || who.contains("(_console-port)"), "{who}");
    assert!(who.contains("(dialout)") && !who.contains("(root)"), "{who}");
    let user = if who.contains("(nobody)") { "nobody" } else { "_console-port" };
    instance.says(&format!("/run/consoleserver/credentials 500 {user}"));
    instance.says(&format!("/run/consoleserver/credentials/hostkey_ssh-ed25519 400 {user}"));
    instance.says(&format!("/var/log/consoleserver/a 2750 {user}"));
    instance.says("'/var/lib/consoleserver/hostkeys/*': Permission denied");
    instance.says("log made");
    instance.signal(Signal::SIGINT);
    assert_eq!(instance.ends().code(), Some(0));
}

/// With the real programs: the port connects to its far end by a dialer, carries bytes, and both end.
#[test]
fn a_port_with_a_source_has_its_dialer() {
    let bench = Bench::new("", "");
    bench.install(Path::new(env!("CARGO_BIN_EXE_console-port")), "console-port");
    bench.install(Path::new(env!("CARGO_BIN_EXE_console-dial")), "console-dial");
    let far = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = format!("tcp:{}", far.local_addr().unwrap());
    let mut instance = bench.start(&format!("[ports.node17]\nsource = \"{source}\"\n"));
    instance.says("node17: console-dial started for tcp:");
    let (mut connection, _) = far.accept().unwrap();
    instance.says("node17 connected to tcp:");
    connection.set_read_timeout(Some(TIMEOUT)).unwrap();
    instance.signal(Signal::SIGINT);
    assert_eq!(connection.read(&mut [0; 8]).unwrap(), 0, "the connection ends with the port");
    assert_eq!(instance.ends().code(), Some(0));
    assert_eq!(bench.sockets(), [] as [&str; 0]);
}
