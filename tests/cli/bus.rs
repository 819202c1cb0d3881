//! A bus of the test's own in the place of the system bus, with the real `console-admin` started by it. There is no systemd and
//! no polkit on it: their part is tested in the container.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Timeout of one step, on a loaded machine.
pub const TIMEOUT: Duration = Duration::from_secs(60);

const CONFIG: &str = r#"
[server]
ssh_port = 8022
[ports.ttyUSB0]
ssh_port = 8023
[ports.ttyUSB1]
ssh_port = 8024
"#;

pub struct Bus {
    daemon: Child,
    directory: TempDir,
}

impl Bus {
    /// With console-admin.
    pub fn new() -> Self {
        let bus = Self::empty();
        let service = format!(
            "[D-BUS Service]\nName=org.consoleserver1\nExec={} --root {}\n",
            env!("CARGO_BIN_EXE_console-admin"),
            bus.path("root").display()
        );
        fs::write(bus.path("services/org.consoleserver1.service"), service).unwrap();
        bus.generate();
        bus.reload();
        bus
    }

    /// A bus without clients.
    pub fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |part: &str| directory.path().join(part);
        for part in ["services", "home", "root/etc/consoleserver", "root/run/consoleserver/admin"] {
            fs::create_dir_all(at(part)).unwrap();
        }
        fs::create_dir_all(at("root/var/lib/consoleserver/admin")).unwrap();
        fs::create_dir_all(at("root/dev")).unwrap();
        fs::write(at("root/etc/consoleserver/config.toml"), CONFIG).unwrap();
        // Other users may connect to this bus, as to the system bus.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let policy = "<policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/>\
                      <allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/></policy>";
        let config = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n\
             <busconfig><listen>unix:path={}</listen><auth>EXTERNAL</auth><servicedir>{}</servicedir>{policy}</busconfig>\n",
            at("bus").display(),
            at("services").display()
        );
        fs::write(at("bus.conf"), config).unwrap();
        let mut command = Command::new("dbus-daemon");
        command.arg("--nofork").arg("--config-file").arg(at("bus.conf"));
        let address = format!("unix:path={}", at("bus").display());
        // Programs that it starts find the bus by this.
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &address).env_remove("RUNTIME_DIRECTORY");
        let journal = fs::File::create(at("journal")).unwrap();
        let daemon =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(journal).spawn().expect("dbus-daemon");
        let bus = Self { daemon, directory };
        bus.wait_for("bus");
        bus
    }

    pub fn path(&self, part: &str) -> PathBuf {
        self.directory.path().join(part)
    }

    fn wait_for(&self, part: &str) {
        let begun = Instant::now();
        while !self.path(part).exists() {
            assert!(begun.elapsed() < TIMEOUT, "{part} has not appeared");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The units as a boot would have made them, so that a change of a baud rate needs nothing of systemd.
    fn generate(&self) {
        let generated = self.path("root/run/systemd/generator");
        fs::create_dir_all(&generated).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_console-generator"));
        let output = command.arg("--root").arg(self.path("root")).args([&generated; 3]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Returns when the bus has read the list of services.
    fn reload(&self) {
        let mut command = Command::new("busctl");
        command.arg(format!("--address=unix:path={}", self.path("bus").display()));
        command.args(["call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"]);
        let output = command.arg("ReloadConfig").output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// The variables with which `consolectl` finds this bus, and a home of its own.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", self.path("bus").display())),
            ("HOME", self.path("home").display().to_string()),
            ("TZ", "UTC".to_owned()),
            ("TERM", "xterm".to_owned()),
        ]
    }

    pub fn consolectl(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_consolectl"));
        command.env_clear().env("PATH", "/usr/bin:/bin").envs(self.environment()).args(words);
        command
    }

    /// `consolectl` in a place that others can read. Copied by another process: one that this process writes to is busy in whatever
    /// another test starts at the time.
    pub fn program(&self) -> PathBuf {
        let program = self.path("consolectl");
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_consolectl")).arg(&program).status();
        assert!(copied.unwrap().success());
        program
    }

    /// Exit status, output and errors of a command.
    pub fn says(&self, words: &[&str]) -> (i32, String, String) {
        said(self.consolectl(words).stdin(Stdio::null()))
    }

    /// The output of a command that must succeed.
    #[track_caller]
    pub fn done(&self, words: &[&str]) -> String {
        let (code, shown, aside) = self.says(words);
        assert_eq!((code, aside.as_str()), (0, ""), "{words:?}: {shown}");
        shown
    }

    /// The sentence of a command that must fail.
    #[track_caller]
    pub fn refused(&self, words: &[&str]) -> String {
        let (code, _, aside) = self.says(words);
        assert_eq!(code, 1, "{words:?}: {aside}");
        aside
    }

    /// The committed file.
    pub fn committed(&self) -> String {
        fs::read_to_string(self.path("root/etc/consoleserver/config.toml")).unwrap()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the bus and its services said:\n{}",
                fs::read_to_string(self.path("journal")).unwrap()
            );
        }
        // console-admin, which the bus has started, exits when its connection closes.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

pub fn said(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}
