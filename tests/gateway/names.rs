//! Names of consoles in DNS: `console-directory` publishes them at a real Knot and a real BIND, and `ssh` finds them by `consolectl dial`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::bench::Bench;
use crate::client::Client;
use crate::rig::until;

pub(crate) const SECRET: &str = "Zm9vYmFyYmF6cXV1eDAxMjM0NTY3ODk=";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Knot,
    Bind,
}

/// The state file of a server, below its root.
pub(crate) const STATE: &str = "var/lib/consoleserver/directory/state.json";

/// Bytes of the log of a DNS server that a failed test prints.
const MAX_SAID_BYTES: usize = 8 * 1024;

/// The address of every server here.
pub(crate) const ADDRESS: &str = "192.0.2.7";

/// A network namespace of this thread, in which port 53 is free and this machine has the address of the console servers.
pub(crate) struct Network {
    outside: fs::File,
}

impl Network {
    pub(crate) fn enter() -> Self {
        let outside = fs::File::open("/proc/thread-self/ns/net").unwrap();
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs CAP_SYS_ADMIN");
        for words in [&["link", "set", "lo", "up"][..], &["address", "add", "192.0.2.7/32", "dev", "lo"]] {
            assert!(Command::new("ip").args(words).status().unwrap().success(), "ip {words:?}");
        }
        Self { outside }
    }
}

impl Drop for Network {
    /// The next test may run on the same thread.
    fn drop(&mut self) {
        setns(&self.outside, CloneFlags::CLONE_NEWNET).expect("the way back out of the test's namespace");
    }
}

/// A DNS server with the zone console.example, in which rack1 and rack2 may change everything.
struct Dns {
    _process: DnsProcess,
    dir: TempDir,
}

impl Dns {
    fn new(program: Program) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let zone =
            "$TTL 60\n@ SOA ns1 root 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\nhand A 192.0.2.1\n";
        fs::write(at("zone"), zone).unwrap();
        let (program, text, arguments) = match program {
            Program::Knot => {
                let keys = ["rack1", "rack2"].map(knot_key).concat();
                let text = format!(
                    "server:\n    listen: {ADDRESS}@53\n    rundir: {dir}\n    user: root:root\n\
                     database:\n    storage: {dir}\nlog:\n  - target: stderr\n    any: warning\nkey:\n{keys}\
                     acl:\n  - id: update\n    key: [ rack1, rack2 ]\n    action: update\n\
                     zone:\n  - domain: console.example\n    storage: {dir}\n    file: zone\n    acl: update\n",
                    dir = dir.path().display()
                );
                ("knotd", text, vec!["-c".to_owned(), at("conf")])
            }
            Program::Bind => {
                let keys = ["rack1", "rack2"].map(key).concat();
                let text = format!(
                    "options {{ directory \"{}\"; listen-on port 53 {{ {ADDRESS}; }}; listen-on-v6 {{ none; }}; pid-file none;\n\
                     session-keyfile none; recursion no; dnssec-validation no; }};\ncontrols {{ }};\n{keys}\
                     zone \"console.example\" {{ type primary; file \"zone\";\n\
                     update-policy {{ grant rack1 zonesub ANY; grant rack2 zonesub ANY; }}; }};\n",
                    dir.path().display()
                );
                ("named", text, vec!["-g".to_owned(), "-c".to_owned(), at("conf")])
            }
        };
        fs::write(at("conf"), text).unwrap();
        let dns = Self { _process: start(Command::new(program).args(arguments), dir.path()), dir };
        until("the zone", || dns.query("console.example", "SOA").contains("ns1").then_some(()));
        dns
    }

    fn query(&self, name: &str, kind: &str) -> String {
        query(ADDRESS, name, kind)
    }

    /// A change that no console server makes.
    fn change(&self, lines: &str) {
        let script = format!("server {ADDRESS}\nzone console.example\n{lines}\nsend\n");
        let (key_file, script_file) = (self.dir.path().join("by-hand.key"), self.dir.path().join("by-hand"));
        fs::write(&key_file, key("rack1")).unwrap();
        fs::write(&script_file, script).unwrap();
        let output = Command::new("nsupdate").arg("-k").arg(key_file).arg(script_file).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

/// The data of the records at a DNS server, a line each.
pub(crate) fn query(address: &str, name: &str, kind: &str) -> String {
    let words = [&format!("@{address}"), "+short", "+tcp", "+time=5", "+tries=1", name, kind];
    let output = Command::new("dig").args(words).output().unwrap();
    // Without a server, dig has a comment and no data.
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.starts_with(';')).map(|line| format!("{line}\n")).collect()
}

/// A running DNS server. It is killed at the end, and a failing test prints its output.
pub(crate) struct DnsProcess {
    child: Child,
    log: PathBuf,
}

/// Starts a DNS server, which writes to the file `log` of its directory.
pub(crate) fn start(command: &mut Command, directory: &Path) -> DnsProcess {
    let log = directory.join("log");
    let file = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
    command.env("PATH", "/usr/sbin:/usr/bin").stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    DnsProcess { child: command.spawn().unwrap(), log }
}

impl DnsProcess {
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Ends it by a signal: by SIGTERM, as systemd does, it writes its zones.
    pub(crate) fn end(mut self, signal: Signal) {
        self.signal(signal);
        self.child.wait().unwrap();
    }
}

impl Drop for DnsProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = fs::read(&self.log).unwrap_or_default();
            let last = &said[said.len().saturating_sub(MAX_SAID_BYTES)..];
            eprintln!("{} ends with:\n{}", self.log.display(), String::from_utf8_lossy(last));
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes this DNS server that of this thread, which has an /etc of its own.
pub(crate) fn resolve_by(address: &str) {
    // It may be a link to a file of resolvconf's.
    let _ = fs::remove_file("/etc/resolv.conf");
    fs::write("/etc/resolv.conf", format!("search example\nnameserver {address}\n")).unwrap();
}

/// Knot's form of a key.
pub(crate) fn knot_key(name: &str) -> String {
    format!("  - id: {name}\n    algorithm: hmac-sha256\n    secret: {SECRET}\n")
}

/// BIND's form of a key.
pub(crate) fn key(name: &str) -> String {
    format!("key \"{name}\" {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n")
}

/// The files of a console server.
pub(crate) struct Server {
    root: TempDir,
}

impl Server {
    pub(crate) fn new(name: &str) -> Self {
        let server = Self { root: tempfile::tempdir().unwrap() };
        for directory in ["etc/consoleserver", "var/lib/consoleserver/directory", "dev", "credentials"] {
            fs::create_dir_all(server.path(directory)).unwrap();
        }
        server.write("dev/adapter", "");
        server.write("credentials/tsig", &key(name));
        let settings = format!("zone = 'console.example'\nserver = '{ADDRESS}'\nname = '{name}'\n");
        server.write("etc/consoleserver/directory.toml", &settings);
        server
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// A port with this name, TCP port and description.
    pub(crate) fn configure(&self, name: &str, tcp_port: u16, description: &str) {
        self.write(
            "etc/consoleserver/config.toml",
            &format!(
                "[ports.ttyUSB0]\nssh_port = 8023\n[ports.{name}]\nssh_port = {tcp_port}\ndevice = '/dev/adapter'\n\
                 description = '''{description}'''\n"
            ),
        );
    }

    pub(crate) fn run(&self) -> Output {
        self.program().output().unwrap()
    }

    /// Runs the program as console-directory.timer does: only changes are published.
    pub(crate) fn tick(&self) -> Output {
        self.program().env("TRIGGER_UNIT", "console-directory.timer").output().unwrap()
    }

    pub(crate) fn program(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_console-directory"));
        command.arg("--root").arg(self.root.path()).env("CREDENTIALS_DIRECTORY", self.path("credentials"));
        command.env_remove("TRIGGER_UNIT").stdin(Stdio::null());
        command
    }

    #[track_caller]
    pub(crate) fn publish(&self) {
        let output = self.run();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The problems that `doctor` prints.
    pub(crate) fn problems(&self) -> Vec<String> {
        let with_port = |remark: consoleserver::fleet::Remark| {
            let port = remark.port.map(|port| format!("{port}: ")).unwrap_or_default();
            port + &remark.problem
        };
        consoleserver::fleet::remarks(self.root.path()).into_iter().map(with_port).collect()
    }
}

#[track_caller]
fn a_name_belongs_to_its_first_server(program: Program) {
    let _network = Network::enter();
    let dns = Dns::new(program);
    let (first, second) = (Server::new("rack1"), Server::new("rack2"));
    let label = "it's \"rack 4\"; \\ é";
    first.configure("core-switch", 8100, label);
    second.configure("Core-Switch", 8200, "");
    let srv = |name: &str| dns.query(&format!("_ssh._tcp.{name}.console.example"), "SRV");
    first.publish();
    assert_eq!(first.problems(), [""; 0]);
    assert_eq!(srv("core-switch"), "0 0 8100 core-switch.console.example.\n");
    assert_eq!(srv("rack1"), "0 0 8022 rack1.console.example.\n");
    assert_eq!(srv("ttyusb0"), "", "every server has such a port");
    assert_eq!(dns.query("core-switch.console.example", "A"), "192.0.2.7\n");
    let txt = dns.query("core-switch.console.example", "TXT");
    assert_eq!(txt, "\"server=rack1\" \"description=it's \\\"rack 4\\\"; \\\\ \\195\\169\"\n");
    let marker = dns.query("_consoleserver.core-switch.console.example", "TXT");
    assert!(marker.starts_with("\"server=rack1\" \"id="), "{marker}");

    // A second claimant changes nothing, and gets the name of the first.
    second.publish();
    assert_eq!(srv("core-switch"), "0 0 8100 core-switch.console.example.\n");
    let problems = second.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let wanted = "Core-Switch: is not published in DNS: core-switch.console.example belongs to the server rack1 (server=rack1 id=";
    assert!(problems[0].starts_with(wanted), "{problems:?}");
    let servers = dns.query("_consoleserver._tcp.console.example", "PTR");
    let mut servers: Vec<_> = servers.lines().collect();
    servers.sort_unstable();
    let instance = |name: &str| format!("{name}._consoleserver._tcp.console.example.");
    assert_eq!(servers, [instance("rack1"), instance("rack2")]);

    // A server with the same name is not the same server.
    let twin = Server::new("rack1");
    twin.configure("core-switch", 8300, "");
    twin.publish();
    assert_eq!(twin.problems().len(), 2, "{:?}", twin.problems());
    assert_eq!(srv("core-switch"), "0 0 8100 core-switch.console.example.\n");

    // A name that the first server withdraws becomes the second one's.
    first.configure("edge", 8100, "");
    first.publish();
    assert_eq!((srv("core-switch").as_str(), srv("edge").as_str()), ("", "0 0 8100 edge.console.example.\n"));
    assert_eq!(dns.query("core-switch.console.example", "ANY"), "");
    second.publish();
    assert_eq!(second.problems(), [""; 0]);
    assert_eq!(srv("core-switch"), "0 0 8200 core-switch.console.example.\n");

    // An adapter that is unplugged for a moment keeps the name.
    fs::remove_file(second.path("dev/adapter")).unwrap();
    second.publish();
    assert_eq!(srv("core-switch"), "0 0 8200 core-switch.console.example.\n");
    let state = fs::read_to_string(second.path(STATE)).unwrap();
    let since = state.split_once("\"absent_since\":").unwrap().1;
    let since: String = since.chars().take_while(char::is_ascii_digit).collect();
    second.write(STATE, &state.replace(&since, "1000"));
    second.publish();
    assert_eq!(srv("core-switch"), "");
    second.write("dev/adapter", "");

    // Lost records are restored, and those that people added stay.
    dns.change("update delete edge.console.example\nupdate delete _consoleserver.edge.console.example\nupdate delete _ssh._tcp.edge.console.example");
    first.publish();
    assert_eq!(srv("edge"), "0 0 8100 edge.console.example.\n");
    second.configure("hand", 8200, "");
    second.publish();
    assert_eq!(dns.query("hand.console.example", "A"), "192.0.2.1\n");
    let wanted = "hand: is not published in DNS: hand.console.example belongs to records that no console server has published";
    assert_eq!(second.problems(), [wanted]);

    // A key that the server does not know.
    first.write("credentials/tsig", &key("rack3"));
    let output = first.run();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("the DNS server 192.0.2.7 rejected the TSIG key: ") && said.contains("NOTAUTH"),
        "{said}"
    );
    assert!(first.problems()[0].starts_with("the names of the ports are not published in DNS: "));
    first.write("credentials/tsig", &key("rack1").replace(&SECRET[..8], "Zm9vYmFv"));
    let said = String::from_utf8_lossy(&first.run().stderr).into_owned();
    assert!(said.contains("the DNS server 192.0.2.7 rejected the TSIG key: "), "{said}");
    assert_eq!(srv("edge"), "0 0 8100 edge.console.example.\n");
    first.write("credentials/tsig", &key("rack1"));

    // A process is killed after the DNS server has accepted its names; then its ports are removed.
    first.configure("late", 8100, "");
    let before = fs::read_to_string(first.path(STATE)).unwrap();
    first.publish();
    let after = fs::read_to_string(first.path(STATE)).unwrap();
    first.write(STATE, &before.replace("\"edge\":", "\"late\":{\"absent_since\":null},\"edge\":"));
    assert_ne!(before, after);
    first.configure("edge", 8100, "");
    first.publish();
    assert_eq!((srv("late").as_str(), srv("edge").as_str()), ("", "0 0 8100 edge.console.example.\n"));

    // Nothing has changed: the timer's run changes nothing. Then an older zone is restored.
    let serial = || dns.query("console.example", "SOA");
    let unchanged = serial();
    assert!(first.tick().status.success());
    assert_eq!(serial(), unchanged);
    let digest = dns.query("rack1._consoleserver._tcp.console.example", "TXT");
    assert!(digest.contains("\"published="), "{digest}");
    dns.change(&format!(
        "update delete edge.console.example A\nupdate delete rack1._consoleserver._tcp.console.example TXT\n\
         update add rack1._consoleserver._tcp.console.example 60 TXT \"server=rack1\" \"published=0\"\n\
         update add late.console.example 60 A 192.0.2.7\nupdate add _consoleserver.late.console.example 60 TXT {}",
        dns.query("_consoleserver.rack1.console.example", "TXT").trim_end()
    ));
    assert!(first.tick().status.success());
    assert_eq!(dns.query("edge.console.example", "A"), "192.0.2.7\n");
    assert_eq!(dns.query("late.console.example", "ANY"), "", "a name that this server had given up");

    // The DNS server is dead.
    drop(dns);
    let output = first.tick();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the DNS server 192.0.2.7 does not answer: "), "{said}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(first.problems().len(), 1, "{:?}", first.problems());
}

#[test]
fn a_name_belongs_to_the_first_server_at_knot() {
    a_name_belongs_to_its_first_server(Program::Knot);
}

#[test]
fn a_name_belongs_to_the_first_server_at_bind() {
    a_name_belongs_to_its_first_server(Program::Bind);
}

#[test]
fn ssh_reaches_a_console_by_its_name() {
    let _network = Network::enter();
    let bench = Bench::at(ADDRESS);
    let dns = Dns::new(Program::Knot);
    let server = Server::new("rack1");
    server.configure("core-switch", bench.tcp_port(), "");
    server.publish();
    resolve_by(ADDRESS);
    let ssh = |name: &str, line: &str| {
        // The settings of 20-console.conf.
        let dial = format!("ProxyCommand={} dial %h", env!("CARGO_BIN_EXE_consolectl"));
        let mut ssh = bench.ssh(&["-o", &dial, &format!("alice@{name}"), line]);
        ssh.env("HOME", bench.path(""));
        Client::start(ssh)
    };
    let mut client = ssh("core-switch.console", "say hello");
    client.ends_with(0);
    assert_eq!(client.shown(), b"hello\n");
    let mut client = ssh("core-switch.console", "flood 1000000");
    client.ends_with(0);
    assert_eq!(client.shown().len(), 1_000_000 / 16 * 16);
    let mut client = ssh("core-swich.console", "say hello");
    client.ends_with(255);
    let wanted = "consolectl: there is no console core-swich.console: DNS has no SRV record _ssh._tcp.core-swich.console.example\n";
    assert!(client.aside().contains(wanted), "{}", client.aside());
    // The zone of the file comes before the search domain.
    fs::create_dir_all(bench.path(".config")).unwrap();
    fs::write(bench.path(".config/consolectl.toml"), "zone = 'nowhere.example'\n").unwrap();
    let mut client = ssh("core-switch.console", "say hello");
    client.ends_with(255);
    assert!(client.aside().contains("REFUSED") || client.aside().contains("Refused"), "{}", client.aside());
    drop(dns);
    fs::remove_file(bench.path(".config/consolectl.toml")).unwrap();
    let mut client = ssh("core-switch.console", "say hello");
    client.ends_with(255);
    assert!(
        client.aside().contains("no DNS server of /etc/resolv.conf answers (192.0.2.7)"),
        "{}",
        client.aside()
    );
    assert!(Path::new("/etc/resolv.conf").exists());
}

/// `ssh-keyscan` and the records have the same fingerprints; without `sshfp` there are none.
#[test]
fn fingerprints_of_host_keys_are_published_on_request() {
    let _network = Network::enter();
    let bench = Bench::at(ADDRESS);
    let dns = Dns::new(Program::Knot);
    let server = Server::new("rack1");
    let configure = |tcp_port: u16| {
        server.write(
            "etc/consoleserver/config.toml",
            &format!(
                "[server]\nssh_port = {tcp_port}\nlisten = ['{ADDRESS}']\n[ports.core]\nssh_port = 8100\ndevice = '/dev/adapter'\n"
            ),
        );
    };
    configure(bench.tcp_port());
    let settings = fs::read_to_string(server.path("etc/consoleserver/directory.toml")).unwrap();
    server.publish();
    assert_eq!(dns.query("core.console.example", "SSHFP"), "");
    server.write("etc/consoleserver/directory.toml", &format!("{settings}sshfp = true\n"));
    server.publish();
    let of_keys = Command::new("ssh-keygen")
        .args(["-r", "core", "-f"])
        .arg(bench.path("credentials/hostkey_ed25519"))
        .output()
        .unwrap();
    let of_keys = String::from_utf8(of_keys.stdout).unwrap();
    let wanted = of_keys.lines().find_map(|line| line.split_once(" SSHFP 4 2 ")).expect("SHA-256").1;
    let published = dns.query("core.console.example", "SSHFP");
    // (dig breaks the hexadecimal digits.)
    assert!(published.replace(' ', "").to_lowercase().contains(wanted), "{published} has no {wanted}");
    // Host keys that cannot be seen for a moment stay in the zone, and doctor reports it.
    configure(1);
    let output = server.run();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(dns.query("core.console.example", "SSHFP"), published);
    assert!(
        server.problems()[0].contains("no host key is offered at 192.0.2.7, TCP port 1"),
        "{:?}",
        server.problems()
    );
    configure(bench.tcp_port());
    server.write("etc/consoleserver/directory.toml", &settings);
    server.publish();
    assert_eq!(dns.query("core.console.example", "SSHFP"), "");
    assert_eq!(server.problems(), [""; 0]);
}
