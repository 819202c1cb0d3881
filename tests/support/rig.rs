#![allow(dead_code, unsafe_code)] // Each test program uses its own part of this.
//! A port process on a bench: the real `console-port` on a real pty, its sockets handed over by name, logins by the real
//! `console-auth` behind the real `systemd-socket-activate`, OpenSSH's client, and this program in systemd's place:
//! it keeps the FD store and reads the service's notifications.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{IoSliceMut, Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::stat::Mode;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use tempfile::TempDir;

#[path = "modem.rs"]
pub mod modem;
#[path = "refuse.rs"]
mod refuse;

/// Long enough for a loaded machine; no wait takes this long when it works.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Waits until `done` returns a value.
#[track_caller]
pub fn until<T>(what: &str, done: impl FnMut() -> Option<T>) -> T {
    until_within(TIMEOUT, what, done)
}

/// The same, with a longer timeout.
#[track_caller]
pub fn until_within<T>(limit: Duration, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {} s for {what}", limit.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a program listens at this TCP port of 127.0.0.1. Not by a connection, which it would serve.
pub fn listens(port: u16) -> bool {
    fs::read_to_string("/proc/net/tcp").unwrap().contains(&format!("0100007F:{port:04X} 00000000:0000 0A"))
}

/// systemd's state of the service.
#[derive(Default)]
struct Manager {
    stored: HashMap<String, OwnedFd>,
    ready: bool,
    status: String,
    watchdogs: usize,
}

/// The bench.
pub struct Rig {
    pub dir: TempDir,
    pub tcp_port: u16,
    listeners: Vec<TcpListener>,
    attach: UnixListener,
    manager: Arc<Mutex<Manager>>,
    master: Option<File>,
    child: Option<Child>,
    auth: Option<Child>,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    refused: Vec<(libc::c_ulong, libc::c_int)>,
    modem: Option<modem::Adapter>,
}

impl Rig {
    /// A bench for the port `demo`, whose key is admitted by `--demo-key`; `settings` are lines of `[ports.demo]`.
    pub fn new(settings: &str) -> Self {
        Self::with_config(&format!(
            "[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\n{settings}\n"
        ))
    }

    /// A bench with this configuration, in which `@DIR@` is its directory.
    pub fn with_config(config: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("rig").tempdir().unwrap();
        for directory in ["dev", "log", "run", "run/attach", "run/running", "credentials", "hostkeys"] {
            fs::create_dir(dir.path().join(directory)).unwrap();
        }
        consoleserver::hostkeys::ensure(&dir.path().join("hostkeys")).unwrap();
        fs::copy(dir.path().join("hostkeys/hostkey_ed25519"), dir.path().join("credentials/hostkey_ed25519"))
            .unwrap();
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "demo", "-f"])
            .arg(dir.path().join("key")));
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp_port = v4.local_addr().unwrap().port();
        let mut listeners = vec![v4];
        listeners.extend(TcpListener::bind(("::1", tcp_port)));
        let attach = UnixListener::bind(dir.path().join("run/attach/demo")).unwrap();
        // `consoleserver` marks the ports that it runs like this.
        fs::write(dir.path().join("run/running/demo"), "").unwrap();
        let manager = Arc::new(Mutex::new(Manager::default()));
        serve_notifications(UnixDatagram::bind(dir.path().join("notify")).unwrap(), manager.clone());
        let rig = Self {
            dir,
            tcp_port,
            listeners,
            attach,
            manager,
            master: None,
            child: None,
            auth: None,
            environment: Vec::new(),
            arguments: Vec::new(),
            refused: Vec::new(),
            modem: None,
        };
        rig.configure(config);
        rig
    }

    /// Makes the other host keys that an installation has. One RSA key does for all tests: it takes seconds where nothing is optimized.
    pub fn make_more_host_keys(&self) {
        let common = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostkeys");
        fs::create_dir_all(&common).unwrap();
        consoleserver::hostkeys::ensure_more(&common).unwrap();
        for key in fs::read_dir(&common).unwrap() {
            let key = key.unwrap();
            // A draft of another test's that makes them too.
            if !key.file_name().as_encoded_bytes().starts_with(b".") {
                for directory in ["hostkeys", "credentials"] {
                    fs::copy(key.path(), self.path(directory).join(key.file_name())).unwrap();
                }
            }
        }
    }

    /// Listens at one more address, from the next start on.
    pub fn listen_at(&mut self, address: &str) {
        self.listeners.push(TcpListener::bind((address, self.tcp_port)).unwrap());
    }

    /// Listens at one more TCP port, from the next start on, as systemd does for a plain listener; returns its address.
    pub fn listen_plain(&mut self) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        self.listeners.push(listener);
        address
    }

    /// Replaces the configuration file.
    pub fn configure(&self, config: &str) {
        let config = config.replace("@DIR@", self.dir.path().to_str().unwrap());
        fs::write(self.path("config.toml"), config).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn log_path(&self) -> PathBuf {
        self.path("log/console.log")
    }

    pub fn log(&self) -> Vec<u8> {
        fs::read(self.log_path()).unwrap_or_default()
    }

    pub fn log_size(&self) -> u64 {
        self.log_path().metadata().map_or(0, |data| data.len())
    }

    pub fn log_text(&self) -> String {
        String::from_utf8(self.log()).unwrap()
    }

    /// Sets a variable for the next start.
    pub fn environment(&mut self, name: &str, value: &str) {
        self.environment.retain(|(before, _)| before != name);
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Passes the program an argument from the next start on.
    pub fn argument(&mut self, word: &str) {
        self.arguments.push(word.to_owned());
    }

    /// Makes these ioctls fail, from the next start on.
    pub fn refuse_ioctls(&mut self, refused: &[(libc::c_ulong, libc::c_int)]) {
        self.refused = refused.to_vec();
    }

    /// Gives the device modem lines, from the next start on.
    pub fn modem_lines(&mut self) -> modem::Adapter {
        self.modem.get_or_insert_with(modem::Adapter::new).clone()
    }

    /// Plugs a device in: a new pty under the device's name, in raw mode at both ends.
    pub fn plug(&mut self) {
        // Each end is close-on-exec from the beginning: a master that leaked into another test's child would hide the hang-up.
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = posix_openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname_r(&master).unwrap();
        let slave = nix::fcntl::open(name.as_str(), flags, Mode::empty()).unwrap();
        let mut termios = tcgetattr(&slave).unwrap();
        cfmakeraw(&mut termios);
        tcsetattr(&slave, SetArg::TCSANOW, &termios).unwrap();
        self.plug_in(Path::new(&name));
        // The master alone: a slave kept open here would hide the hang-up. Nothing is lost, since nothing is written
        // before the port has opened its end.
        self.master = Some(File::from(OwnedFd::from(master)));
    }

    /// Plugs in an existing tty, under the device's name.
    pub fn plug_in(&self, tty: &Path) {
        let device = self.path("dev/demo");
        let _ = fs::remove_file(&device);
        symlink(tty, device).unwrap();
    }

    /// Unplugs it.
    pub fn unplug(&mut self) {
        self.master = None;
        fs::remove_file(self.path("dev/demo")).unwrap();
    }

    /// The device's end.
    pub fn device(&self) -> File {
        self.master.as_ref().expect("nothing is plugged in").try_clone().unwrap()
    }

    pub fn say(&self, bytes: &[u8]) {
        self.device().write_all(bytes).unwrap();
    }

    /// Waits until the device has input, and leaves it there.
    pub fn wait_for_input(&self) {
        let device = self.device();
        let mut fds = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(TIMEOUT).unwrap();
        assert_ne!(poll(&mut fds, timeout).unwrap(), 0, "nothing came for the device");
    }

    /// Reads the device's input, which must be `wanted` and nothing before it.
    #[track_caller]
    pub fn expect_at_device(&self, wanted: &[u8]) {
        let mut device = self.device();
        let mut heard = Vec::new();
        while heard.len() < wanted.len() && wanted.starts_with(&heard) {
            let mut fds = [PollFd::new(device.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(TIMEOUT).unwrap();
            assert_ne!(
                poll(&mut fds, timeout).unwrap(),
                0,
                "only {:?} came to the device",
                String::from_utf8_lossy(&heard)
            );
            let mut piece = vec![0; wanted.len() - heard.len()];
            let count = device.read(&mut piece).unwrap();
            heard.extend_from_slice(&piece[..count]);
        }
        assert_eq!(String::from_utf8_lossy(&heard), String::from_utf8_lossy(wanted));
    }

    /// How the tty is set; `termios2`, because the others cannot express the rates that the port sets.
    pub fn line(&self) -> libc::termios2 {
        nix::ioctl_read_bad!(tcgets2, libc::TCGETS2, libc::termios2);
        // SAFETY: zeros are a valid value of this struct of integers, and the kernel fills it in.
        unsafe {
            let mut line = std::mem::zeroed();
            tcgets2(self.device().as_raw_fd(), &mut line).unwrap();
            line
        }
    }

    /// Starts the port, with the present content of the store, and waits until it is ready.
    pub fn start(&mut self) {
        self.spawn();
        until("READY=1", || self.manager.lock().unwrap().ready.then_some(()));
    }

    /// Starts the port and the device, and waits until it is open.
    pub fn start_plugged(&mut self) {
        self.plug();
        self.start();
        self.wait_for_status("8N1");
    }

    pub fn spawn(&mut self) {
        let mut names = Vec::new();
        let mut fds: Vec<OwnedFd> = Vec::new();
        for listener in &self.listeners {
            names.push("ssh".to_owned());
            fds.push(listener.try_clone().unwrap().into());
        }
        names.push("attach".to_owned());
        fds.push(self.attach.try_clone().unwrap().into());
        {
            let mut manager = self.manager.lock().unwrap();
            manager.ready = false;
            manager.status.clear();
            for (name, fd) in &manager.stored {
                names.push(name.clone());
                fds.push(fd.try_clone().unwrap());
            }
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_console-port"));
        command
            .arg("--config")
            .arg(self.path("config.toml"))
            .args(&self.arguments)
            .arg("demo")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("LISTEN_FDS", fds.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env("NOTIFY_SOCKET", self.path("notify"))
            .env("LOGS_DIRECTORY", self.path("log"))
            .env("RUNTIME_DIRECTORY", self.path("run"))
            .env("CREDENTIALS_DIRECTORY", self.path("credentials"))
            .stdin(Stdio::null());
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        let mappings =
            fds.into_iter().zip(3..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
        command.fd_mappings(mappings.collect()).unwrap();
        let journal = File::options().create(true).append(true).open(self.path("journal")).unwrap();
        command.stderr(journal);
        if !self.refused.is_empty() {
            refuse::refuse_ioctls(&mut command, &self.refused);
        }
        if let Some(modem) = &self.modem {
            modem.install(&mut command);
        }
        let child = command.spawn().unwrap();
        if let Some(modem) = &self.modem {
            modem.serve(child.id());
        }
        self.child = Some(child);
    }

    /// The port's own messages.
    pub fn journal(&self) -> String {
        fs::read_to_string(self.path("journal")).unwrap_or_default()
    }

    /// The messages of the login helpers.
    pub fn login_journal(&self) -> String {
        fs::read_to_string(self.path("login-journal")).unwrap_or_default()
    }

    /// Makes the port apply its settings, and waits until it has.
    #[track_caller]
    pub fn apply(&self) {
        let applied = |journal: String| journal.matches("settings applied").count();
        let before = applied(self.journal());
        self.signal(Signal::SIGHUP);
        until("the settings", || (applied(self.journal()) > before).then_some(()));
    }

    #[track_caller]
    pub fn wait_for_journal(&self, part: &str) -> String {
        until(&format!("{part:?} in the journal"), || {
            let journal = self.journal();
            journal.contains(part).then_some(journal)
        })
    }

    /// Kilobytes that the process has written to, its ring among them. Its program does not count: that is shared by all
    /// ports, or by as many as happen to run.
    pub fn private_memory(&self) -> u64 {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid())).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Private_Dirty:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Processor time of the port.
    pub fn processor(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // Behind the name: user and system time, the 14th and 15th fields (proc(5)), in hundredths of a second.
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().expect("the port runs").id() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits until the process ends by itself, and returns how.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        let mut child = self.child.take().expect("the port runs");
        until("the port to end", || child.try_wait().unwrap())
    }

    /// Forgets the process, which was killed and reaped elsewhere.
    pub fn is_reaped(&mut self) {
        self.child = None;
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// `systemctl stop`, but for the store, which this keeps as a restart does.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    pub fn status(&self) -> String {
        self.manager.lock().unwrap().status.clone()
    }

    #[track_caller]
    pub fn wait_for_status(&self, part: &str) -> String {
        until(&format!("STATUS with {part:?}"), || {
            let status = self.status();
            status.contains(part).then_some(status)
        })
    }

    #[track_caller]
    pub fn wait_for_log(&self, part: &str) -> String {
        until(&format!("{part:?} in the log"), || {
            let log = String::from_utf8_lossy(&self.log()).into_owned();
            log.contains(part).then_some(log)
        })
    }

    /// The IN column of `consolectl status`.
    pub fn bytes_received(&self) -> u64 {
        self.traffic(3)
    }

    /// The OUT column of `consolectl status`.
    pub fn bytes_sent(&self) -> u64 {
        self.traffic(4)
    }

    fn traffic(&self, column: usize) -> u64 {
        let table = self.consolectl(&["status"]).output().unwrap().stdout;
        let table = String::from_utf8(table).unwrap();
        let row = table.lines().find(|line| line.starts_with("demo ")).unwrap();
        row.split_whitespace().nth(column).unwrap().parse().unwrap()
    }

    pub fn watchdogs(&self) -> usize {
        self.manager.lock().unwrap().watchdogs
    }

    pub fn stored(&self) -> Vec<String> {
        let mut names: Vec<_> = self.manager.lock().unwrap().stored.keys().cloned().collect();
        names.sort();
        names
    }

    /// Starts the login helper's socket; `demo_key` admits [`Rig::ssh`].
    pub fn serve_logins(&mut self, demo_key: bool) {
        let socket = self.path("run/auth-port");
        let mut command = Command::new("systemd-socket-activate");
        command.arg("--accept").arg("-l").arg(&socket).arg(env!("CARGO_BIN_EXE_console-auth"));
        command.arg("--host-keys").arg(self.path("hostkeys"));
        command.arg("--config").arg(self.path("config.toml"));
        if demo_key {
            command.arg("--demo-key").arg(self.path("key.pub"));
        }
        let journal = File::create(self.path("login-journal")).unwrap();
        self.auth = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(journal).spawn().unwrap());
        until("the login socket", || socket.exists().then_some(()));
    }

    /// OpenSSH with default options, but for a known_hosts of its own.
    pub fn ssh(&self, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(["-F", "none", "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-p"])
            .arg(self.tcp_port.to_string())
            .arg("-i")
            .arg(self.path("key"))
            .args(options);
        command
    }

    pub fn consolectl(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_consolectl"));
        command.arg("--runtime-dir").arg(self.path("run")).args(arguments);
        command
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A client that was killed may have left standard error non-blocking: `eprint!` would panic, and abort.
            let _ = write!(std::io::stderr(), "the port said:\n{}", self.journal());
        }
        for child in [&mut self.child, &mut self.auth].into_iter().flatten() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Does what systemd does with the messages of a service (`man sd_notify`).
fn serve_notifications(socket: UnixDatagram, manager: Arc<Mutex<Manager>>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        loop {
            let mut space = nix::cmsg_space!([i32; 4]);
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let received =
                recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
            let Ok(received) = received else { return };
            let length = received.bytes;
            let fds: Vec<OwnedFd> = received
                .cmsgs()
                .unwrap()
                .flat_map(|message| match message {
                    ControlMessageOwned::ScmRights(fds) => fds,
                    _ => Vec::new(),
                })
                // SAFETY: the kernel has just made these descriptors for us.
                .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
                .collect();
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            heed(&mut manager.lock().unwrap(), &text, fds);
        }
    });
}

fn heed(manager: &mut Manager, text: &str, fds: Vec<OwnedFd>) {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let name = value("FDNAME").unwrap_or("stored").to_owned();
    if value("FDSTORE") == Some("1") {
        manager.stored.extend(fds.into_iter().map(|fd| (name.clone(), fd)));
    }
    if value("FDSTOREREMOVE") == Some("1") {
        manager.stored.remove(&name);
    }
    manager.ready |= value("READY") == Some("1");
    manager.watchdogs += usize::from(value("WATCHDOG") == Some("1"));
    if let Some(status) = value("STATUS") {
        manager.status = status.to_owned();
    }
}

/// A file's sha256, and that of bytes, to compare data that is too long to print.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The system calls of these names that strace(1) sees a process make while `during` runs, a line each.
pub fn system_calls(pid: Pid, names: &str, during: impl FnOnce()) -> String {
    let calls = tempfile::NamedTempFile::new().unwrap();
    let mut strace = Command::new("strace")
        .args(["-f", "-e", &format!("trace={names}"), "-p", &pid.to_string(), "-o"])
        .arg(calls.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = collect(strace.stderr.take().unwrap());
    until("strace to be attached", || {
        String::from_utf8_lossy(&said.lock().unwrap()).contains("attached").then_some(())
    });
    during();
    // On SIGINT it detaches from the process, and writes its output.
    kill(Pid::from_raw(strace.id() as i32), Signal::SIGINT).unwrap();
    strace.wait().unwrap();
    fs::read_to_string(calls.path()).unwrap()
}

/// Reads everything from a child's output in a thread.
pub fn collect(mut from: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let collected = Arc::new(Mutex::new(Vec::new()));
    let into = collected.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            into.lock().unwrap().extend_from_slice(&buffer[..count]);
        }
    });
    collected
}
