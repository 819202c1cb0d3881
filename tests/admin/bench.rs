//! The bench: a directory in the place of /, a bus, a systemd that records calls, and `console-admin` between them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use consoleserver::admin::bus::{ManagerProxy, PortProxy, port_path};
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedObjectPath};

/// The requests to systemd, in order.
pub type Notes = Arc<Mutex<Vec<String>>>;

/// Name and STATUS of the caller's unit; an empty name is none.
pub type CallersUnit = Arc<Mutex<(String, String)>>;

pub struct Bench {
    pub callers_unit: CallersUnit,
    pub room: tempfile::TempDir,
    pub notes: Notes,
    /// Units of which a start or restart fails.
    pub broken: Notes,
    /// Units that systemd reports as active.
    pub running: Notes,
    pub client: Connection,
    address: String,
    _systemd: Connection,
    admin: Child,
    daemon: Child,
}

type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

struct Systemd {
    root: PathBuf,
    notes: Notes,
    broken: Notes,
    running: Notes,
    callers_unit: CallersUnit,
}

const CALLERS_UNIT: &str = "/org/freedesktop/systemd1/unit/caller";

struct Unit(CallersUnit);

#[zbus::interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    fn id(&self) -> String {
        self.0.lock().unwrap().0.clone()
    }
}

struct Service(CallersUnit);

#[zbus::interface(name = "org.freedesktop.systemd1.Service")]
impl Service {
    #[zbus(property)]
    fn status_text(&self) -> String {
        self.0.lock().unwrap().1.clone()
    }
}

impl Systemd {
    fn note(&self, what: String) {
        self.notes.lock().unwrap().push(what);
    }

    async fn job(&self, verb: &str, unit: &str, emitter: &SignalEmitter<'_>) -> OwnedObjectPath {
        self.note(format!("{verb} {unit}"));
        let job = OwnedObjectPath::try_from("/org/freedesktop/systemd1/job/1").unwrap();
        let broken = verb != "stop" && self.broken.lock().unwrap().iter().any(|broken| broken == unit);
        let result = if broken { "failed" } else { "done" };
        Self::job_removed(emitter, 1, job.clone(), unit, result).await.unwrap();
        job
    }
}

#[zbus::interface(name = "org.freedesktop.systemd1.Manager")]
impl Systemd {
    fn subscribe(&self) {}
    fn reload(&self) {
        self.note("daemon-reload".to_owned());
        let units = self.root.join("run/systemd/generator");
        fs::remove_dir_all(&units).unwrap();
        fs::create_dir(&units).unwrap();
        let made = Command::new(env!("CARGO_BIN_EXE_console-generator"))
            .arg("--root")
            .arg(&self.root)
            .arg(units)
            .status();
        assert!(made.unwrap().success());
    }
    #[zbus(name = "GetUnitByPID")]
    fn unit_by_pid(&self, pid: u32) -> zbus::fdo::Result<OwnedObjectPath> {
        match self.callers_unit.lock().unwrap().0.is_empty() || pid != std::process::id() {
            true => Err(zbus::fdo::Error::Failed(format!("PID {pid} does not belong to any loaded unit"))),
            false => Ok(OwnedObjectPath::try_from(CALLERS_UNIT).unwrap()),
        }
    }
    async fn start_unit(
        &self,
        name: &str,
        _mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        self.job("start", name, &emitter).await
    }
    async fn stop_unit(
        &self,
        name: &str,
        _mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        self.job("stop", name, &emitter).await
    }
    async fn restart_unit(
        &self,
        name: &str,
        _mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        self.job("restart", name, &emitter).await
    }
    /// Only the units that a test names are active.
    fn list_units_by_patterns(&self, _states: Vec<String>, patterns: Vec<String>) -> Vec<Listed> {
        let running = self.running.lock().unwrap();
        let listed = |unit: &String| {
            let path = || OwnedObjectPath::try_from("/").unwrap();
            let [empty, state] = ["", "activating"].map(str::to_owned);
            let words = (empty.clone(), empty.clone(), state, empty.clone(), empty.clone());
            let (description, loaded, active, sub, following) = words;
            (unit.clone(), description, loaded, active, sub, following, path(), 0, empty, path())
        };
        let matches = |unit: &&String| {
            patterns.iter().any(|pattern| match pattern.split_once('*') {
                Some((before, after)) => unit.starts_with(before) && unit.ends_with(after),
                None => *unit == pattern,
            })
        };
        running.iter().filter(matches).map(listed).collect()
    }
    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

impl Bench {
    /// A method of `Watcher`, called by busctl as this user.
    pub async fn watcher_call(&self, method: &str, user: &str, words: [&str; 3]) -> Output {
        tokio::process::Command::new("setpriv")
            .args(["--reuid", user, "--regid", "65534", "--clear-groups", "busctl"])
            .arg(format!("--address={}", self.client_address()))
            .args(["call", "org.consoleserver1", "/org/consoleserver1", "org.consoleserver1.Watcher"])
            .args([method, "sss"])
            .args(words)
            .output()
            .await
            .unwrap()
    }

    /// Lets every user reach the bus.
    pub fn open_to_all(&self) {
        let bus = self.room.path().join("bus");
        fs::set_permissions(self.room.path(), fs::Permissions::from_mode(0o755)).unwrap();
        chown(&bus, Some(65534), None).unwrap();
        fs::set_permissions(bus, fs::Permissions::from_mode(0o777)).unwrap();
    }

    /// All units are active, with this configuration in /etc.
    pub async fn new(config: &str) -> Self {
        let room = tempfile::tempdir().unwrap();
        for directory in [
            "etc/consoleserver",
            "usr/lib/consoleserver",
            "run/consoleserver/admin",
            "run/systemd/generator",
            "var/lib/consoleserver/admin",
        ] {
            fs::create_dir_all(room.path().join(directory)).unwrap();
        }
        fs::write(room.path().join("etc/consoleserver/config.toml"), config).unwrap();
        let socket = room.path().join("bus");
        let address = format!("unix:path={}", socket.display());
        let settings = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\"><busconfig><listen>{address}</listen>\
             <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/><allow send_destination=\"*\"/>\
             <allow send_type=\"signal\"/><allow send_requested_reply=\"true\"/><allow receive_type=\"method_call\"/>\
             <allow receive_type=\"method_return\"/><allow receive_type=\"error\"/><allow receive_type=\"signal\"/></policy></busconfig>"
        );
        fs::write(room.path().join("bus.conf"), settings).unwrap();
        let daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", room.path().join("bus.conf").display()))
            .args(["--nofork", "--print-address=1"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon (package dbus-daemon)");
        until(|| socket.exists()).await;

        let (notes, broken, running) = (Notes::default(), Notes::default(), Notes::default());
        let callers_unit = CallersUnit::default();
        let systemd = Systemd {
            callers_unit: callers_unit.clone(),
            root: room.path().to_owned(),
            notes: notes.clone(),
            broken: broken.clone(),
            running: running.clone(),
        };
        systemd.reload();
        let systemd = zbus::connection::Builder::address(address.as_str())
            .serve_at("/org/freedesktop/systemd1", systemd)
            .serve_at(CALLERS_UNIT, Unit(callers_unit.clone()))
            .serve_at(CALLERS_UNIT, Service(callers_unit.clone()))
            .name("org.freedesktop.systemd1")
            .build()
            .await
            .unwrap();
        notes.lock().unwrap().clear();
        let client = connect(&address).await;
        let admin = start(room.path(), &address);
        let bench = Self {
            callers_unit,
            room,
            notes,
            broken,
            running,
            client,
            address,
            _systemd: systemd,
            admin,
            daemon,
        };
        bench.answers().await;
        bench
    }

    /// Replaces console-admin by another process with the same state.
    pub async fn restart(&mut self) {
        self.admin = start(self.room.path(), &self.address);
        self.answers().await;
    }

    /// `kill -9`
    pub fn kill(&mut self) {
        self.admin.kill().unwrap();
        self.admin.wait().unwrap();
    }

    async fn answers(&self) {
        let manager = self.manager().await;
        for _ in 0..1000 {
            if manager.version().await.is_ok() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("console-admin does not answer");
    }

    pub fn client_address(&self) -> String {
        self.address.clone()
    }

    pub async fn manager(&self) -> ManagerProxy<'static> {
        ManagerProxy::new(&self.client).await.unwrap()
    }

    pub async fn port(&self, name: &str) -> PortProxy<'static> {
        let path = port_path(&name.parse().unwrap());
        PortProxy::builder(&self.client).path(path).build().await.unwrap()
    }

    pub fn committed(&self) -> String {
        fs::read_to_string(self.room.path().join("etc/consoleserver/config.toml")).unwrap()
    }

    pub fn edit(&self, text: &str) {
        fs::write(self.room.path().join("etc/consoleserver/config.toml"), text).unwrap();
    }

    pub fn runs(&self) -> String {
        let path = self.room.path().join("run/consoleserver/admin/running.toml");
        fs::read_to_string(path).unwrap_or_default()
    }

    /// systemd's calls since the last call of this.
    pub fn requested(&self) -> Vec<String> {
        std::mem::take(&mut self.notes.lock().unwrap())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for child in [&mut self.admin, &mut self.daemon] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start(root: &Path, address: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_console-admin"))
        .arg("--root")
        .arg(root)
        .env("DBUS_SYSTEM_BUS_ADDRESS", address)
        .spawn()
        .unwrap()
}

pub async fn connect(address: &str) -> Connection {
    zbus::connection::Builder::address(address).build().await.unwrap()
}

/// Waits until the condition holds.
pub async fn until(is_so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("waited in vain");
}

/// The message of an error, without its D-Bus name.
pub fn printed(error: zbus::Error) -> String {
    match error {
        zbus::Error::MethodError(_, Some(printed), _) => printed,
        error => error.to_string(),
    }
}
