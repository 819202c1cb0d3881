//! A `console-cli` on a bench: its listener handed over by name, `console-auth --may-run` behind
//! `systemd-socket-activate`, and Alice.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::rc::Rc;

use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::accounts::Accounts;
use crate::client::Client;
use crate::programs::{By, Program};
use crate::rig::{run, until};

/// The program in place of `consolectl`.
const STAND_IN: &str = include_str!("stand-in");

pub struct Bench {
    pub accounts: Rc<Accounts>,
    dir: TempDir,
    listener: TcpListener,
    child: Option<Child>,
    auth: Option<Child>,
}

impl Bench {
    /// Alice, whose password is `sesame`, and an admin CLI that has her key.
    pub fn new() -> Self {
        Self::at("127.0.0.1")
    }

    /// Likewise, at another address.
    pub fn at(address: &str) -> Self {
        let accounts = Rc::new(Accounts::enter());
        accounts.add("alice", Some("sesame"));
        accounts.run(&["usermod", "-aG", "dialout,adm", "alice"]);
        let bench = Self::of(accounts, address);
        let key = fs::read_to_string(bench.path("key.pub")).unwrap();
        bench.accounts.authorize("alice", &key);
        bench
    }

    /// An admin CLI among these accounts, with a host key of its own that no client knows yet.
    pub fn of(accounts: Rc<Accounts>, address: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("gateway").tempdir().unwrap();
        // Alice runs a program from there.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        for directory in ["run", "credentials", "root/usr/bin"] {
            fs::create_dir_all(dir.path().join(directory)).unwrap();
        }
        consoleserver::hostkeys::ensure(&dir.path().join("credentials")).unwrap();
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(dir.path().join("key")));
        let listener = TcpListener::bind((address, 0)).unwrap();
        let mut bench = Self { accounts, dir, listener, child: None, auth: None };
        bench.install(STAND_IN);
        bench.serve_logins();
        bench.start();
        bench
    }

    /// Installs a program in place of `consolectl`.
    pub fn install(&self, text: &str) {
        let program = self.path("root/usr/bin/consolectl");
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn serve_logins(&mut self) {
        let socket = self.path("run/auth-cli");
        // Started with signals ignored, as nohup leaves them and systemd leaves SIGPIPE: programs that run for a user must ignore none of them.
        let mut command = Command::new("env");
        command
            .args(["--ignore-signal=HUP,QUIT,PIPE", "systemd-socket-activate"])
            .args(["--accept", "-E", "LANG=C.UTF-8", "-E", "SECRET=x", "-l"])
            .arg(&socket)
            .args([env!("CARGO_BIN_EXE_console-auth"), "--may-run", "--root"])
            .arg(self.path("root"));
        let journal = File::create(self.path("login-journal")).unwrap();
        self.auth = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(journal).spawn().unwrap());
        until("the login socket", || socket.exists().then_some(()));
    }

    /// Starts the program; its listener exists already.
    pub fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_console-cli"));
        command
            .arg("--root")
            .arg(self.path("root"))
            .env_clear()
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", "ssh")
            .env("RUNTIME_DIRECTORY", self.path("run"))
            .env("CREDENTIALS_DIRECTORY", self.path("credentials"))
            .stdin(Stdio::null())
            .stderr(File::options().create(true).append(true).open(self.path("journal")).unwrap());
        let parent_fd = self.listener.try_clone().unwrap().into();
        command.fd_mappings(vec![FdMapping { parent_fd, child_fd: 3 }]).unwrap();
        self.child = Some(command.spawn().unwrap());
    }

    pub fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().expect("it runs").id();
        kill(Pid::from_raw(id as i32), signal).unwrap();
    }

    /// Waits until it ends by itself.
    pub fn ends(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        until("console-cli to end", || child.try_wait().unwrap())
    }

    pub fn tcp_port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// OpenSSH with default options, with a key.
    pub fn ssh(&self, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(["-F", "none", "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-p"])
            .arg(self.tcp_port().to_string())
            .arg("-i")
            .arg(self.path("key"))
            .args(options);
        command
    }

    /// Alice with a terminal at another client than OpenSSH.
    pub fn other(&self, program: Program) -> Command {
        program.at(self.tcp_port(), &self.path("credentials"), "alice", By::Key(&self.path("key")), true)
    }

    /// Alice with a terminal, whose session has begun.
    #[track_caller]
    pub fn at_terminal(&self) -> Client {
        let mut client = Client::start(self.ssh(&["-tt", "alice@127.0.0.1"]));
        client.sees("at your service\r\n");
        client
    }

    /// Alice's command, without a terminal.
    pub fn command(&self, line: &str) -> Client {
        Client::start(self.ssh(&["-T", "alice@127.0.0.1", line]))
    }

    /// Kilobytes that console-cli has written to.
    pub fn private_memory(&self) -> u64 {
        let id = self.child.as_ref().expect("it runs").id();
        let rollup = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap();
        let line = rollup.lines().find(|line| line.starts_with("Private_Dirty:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn journal(&self) -> String {
        let read = |name| fs::read_to_string(self.path(name)).unwrap_or_default();
        read("journal") + &read("login-journal")
    }

    #[track_caller]
    pub fn wait_for_journal(&self, part: &str) {
        until(&format!("{part:?} in the journal"), || self.journal().contains(part).then_some(()));
    }

    /// Waits until no helper is left, be it as a zombie.
    #[track_caller]
    pub fn helpers_have_ended(&self) {
        let parent = self.auth.as_ref().unwrap().id();
        let children = PathBuf::from(format!("/proc/{parent}/task/{parent}/children"));
        until("the helpers to end", || {
            fs::read_to_string(&children).unwrap().trim().is_empty().then_some(())
        });
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprint!("console-cli and console-auth said:\n{}", self.journal());
        }
        for child in [&mut self.child, &mut self.auth].into_iter().flatten() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until there is no such process, not even a zombie.
#[track_caller]
pub fn is_gone(pid: &str) {
    until(&format!("process {pid} to end"), || (!PathBuf::from("/proc").join(pid).exists()).then_some(()));
}
