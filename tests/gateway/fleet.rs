//! `consolectl -H` over several real servers: OpenSSH's client with an ssh_config of its user, each server with its own `console-cli`,
//! `console-auth`, `consolectl` and `console-admin`.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use serde_json::Value;

use crate::accounts::Accounts;
use crate::bench::Bench;
use crate::bus::Bus;

/// Servers rack1, rack2, …, and root, who may administer them all.
struct Fleet {
    accounts: Rc<Accounts>,
    servers: Vec<(Bench, Bus)>,
}

impl Fleet {
    fn new(count: usize) -> Self {
        let accounts = Rc::new(Accounts::enter());
        accounts.rehome_root();
        // Hides a consoleserver that runs in the foreground on this machine, whose user does not exist among these accounts.
        if Path::new("/run/consoleserver").exists() {
            accounts.run(&["mount", "-t", "tmpfs", "test-run", "/run/consoleserver"]);
        }
        let servers: Vec<_> =
            (0..count).map(|_| (Bench::of(accounts.clone(), "127.0.0.1"), Bus::new())).collect();
        let mut keys = String::new();
        let mut config =
            "Host rack*\nHostName 127.0.0.1\nUserKnownHostsFile /dev/null\nStrictHostKeyChecking no\n\
                          IdentitiesOnly yes\n"
                .to_owned();
        for (index, (bench, bus)) in servers.iter().enumerate() {
            // Programs that console-auth starts inherit none of our variables.
            bench.install(&format!(
                "#!/bin/sh\nDBUS_SYSTEM_BUS_ADDRESS=unix:path={} exec {} \"$@\"\n",
                bus.path("bus").display(),
                env!("CARGO_BIN_EXE_consolectl")
            ));
            keys += &fs::read_to_string(bench.path("key.pub")).unwrap();
            let (number, port, key) = (index + 1, bench.tcp_port(), bench.path("key"));
            config += &format!("Host rack{number}\nPort {port}\nIdentityFile {}\n", key.display());
        }
        let fleet = Self { accounts, servers };
        fleet.accounts.authorize("root", &keys);
        fleet.configure(&config);
        fs::create_dir(fleet.accounts.home("root").join(".config")).unwrap();
        fleet.write_hosts("[groups]\ncore = ['rack[1-2]']\nall = ['@core', 'rack3']\n");
        fleet
    }

    /// Adds to the user's ssh_config.
    fn configure(&self, more: &str) {
        let path = self.accounts.home("root").join(".ssh/config");
        let text = fs::read_to_string(&path).unwrap_or_default() + more;
        fs::write(&path, text).unwrap();
        self.accounts.give(&path, "root", 0o600);
    }

    fn write_hosts(&self, text: &str) {
        fs::write(self.accounts.home("root").join(".config/consolectl.toml"), text).unwrap();
    }

    fn consolectl(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_consolectl"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.accounts.home("root"));
        let output = command.args(words).stdin(Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    #[track_caller]
    fn done(&self, words: &[&str]) -> String {
        let (code, shown, aside) = self.consolectl(words);
        assert_eq!((code, aside.as_str()), (0, ""), "{words:?}: {shown}");
        shown
    }
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn five_servers_answer_as_one() {
    let fleet = Fleet::new(5);
    let begun = std::time::Instant::now();
    let table = fleet.done(&["-H", "rack[1-5]", "list"]);
    eprintln!("list of five servers: {:?}", begun.elapsed());
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0][..4], ["HOST", "PORT", "PLUGGED", "SETTINGS"], "{table}");
    let rows: Vec<_> = words[1..].iter().map(|row| (row[0], row[1])).collect();
    let wanted =
        ["rack1", "rack2", "rack3", "rack4", "rack5"].map(|host| [(host, "ttyUSB0"), (host, "ttyUSB1")]);
    assert_eq!(rows, wanted.concat(), "{table}");
    // A server without ports is in the output, too.
    let table = fleet.done(&["-H", "@core", "who"]);
    assert_eq!(
        table,
        "HOST   PORT  USER  FROM  SINCE  ROLE\nrack1  -     -     -     -      -\nrack2  -     -     -     -      -\n"
    );
    let json = fleet.done(&["-H", "@all", "status", "ttyUSB0", "--json"]);
    for (line, host) in sorted(&json).into_iter().zip(["rack1", "rack2", "rack3"]) {
        assert!(line.starts_with(&format!("{{\"host\":\"{host}\",")), "{json}");
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["port"], "ttyUSB0");
    }
    assert_eq!(json.lines().count(), 3);
    // The words arrive as they were typed.
    let label = "it's \"one\" $(id); `id` \\ #";
    fleet.done(&["-H", "@core", "describe", "ttyUSB0", label]);
    let (code, shown, _) = fleet.consolectl(&["-H", "@core", "commit", "confirm", "5"]);
    assert_eq!(code, 0, "{shown}");
    let minutes = "1 change committed; rolled back unless you `confirm` within 5 minutes";
    assert!(
        shown.contains(&format!("rack1: {minutes}")) && shown.contains(&format!("rack2: {minutes}")),
        "{shown}"
    );
    assert_eq!(sorted(&fleet.done(&["-H", "@core", "confirm"])), ["rack1: confirmed", "rack2: confirmed"]);
    for (_, bus) in &fleet.servers[..2] {
        assert!(bus.committed().contains("it's"), "{}", bus.committed());
    }
    assert!(!fleet.servers[2].1.committed().contains("it's"));
    let json = fleet.done(&["-H", "rack2", "list", "ttyUSB0", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["description"], label);
}

#[test]
fn a_server_that_is_down_hangs_or_lies_affects_no_other() {
    let fleet = Fleet::new(4);
    // It accepts and never answers. (ConnectTimeout of the user comes before ours.)
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let silent_port = silent.local_addr().unwrap().port();
    fleet.configure(&format!(
        "Host down\nHostName 127.0.0.1\nPort {closed}\nHost silent\nHostName 127.0.0.1\nPort {silent_port}\nConnectTimeout 1\n"
    ));
    let hosts = "silent,down,rack[1-2]";
    let (code, shown, aside) = fleet.consolectl(&["-H", hosts, "show", "server"]);
    assert_eq!(code, 1, "{aside}");
    for host in ["rack1", "rack2"] {
        assert!(shown.contains(&format!("{host}: ")), "{shown}{aside}");
    }
    assert!(!shown.contains("silent") && !shown.contains("down:"), "{shown}");
    let last = aside.lines().last().unwrap();
    assert_eq!(last, "consolectl: no result from 2 of 4 hosts: down,silent", "{aside}");
    assert!(aside.contains("down: ssh: connect to host 127.0.0.1"), "{aside}");
    // A command that fails at the server.
    let (code, shown, aside) = fleet.consolectl(&["-H", "rack[1-2]", "show", "ttyUSB7"]);
    assert_eq!((code, shown.as_str()), (1, ""));
    assert!(aside.contains("rack1: consolectl: there is no port ttyUSB7"), "{aside}");
    assert!(aside.ends_with("consolectl: exit status 1 at 2 of 2 hosts: rack[1-2]\n"), "{aside}");

    let lie = "printf '\\033]0;title\\007\\rrack1: down\\n\\233\\302\\205\\n'";
    fleet.servers[2].0.install(&format!("#!/bin/sh\n{lie}; {lie} >&2\n"));
    let (code, shown, aside) = fleet.consolectl(&["-H", "rack3", "show", "server"]);
    let escaped = "rack3: \\x1b]0;title\\x07\\rrack1: down\nrack3: \\x9b\\u{85}\n";
    assert_eq!((code, shown.as_str(), aside.as_str()), (0, escaped, escaped));
    let (code, _, aside) = fleet.consolectl(&["-H", "rack3,rack1", "status"]);
    assert_eq!(code, 1);
    assert!(aside.contains("rack3: unexpected output: "), "{aside}");
    assert!(aside.ends_with("no result from 1 of 2 hosts: rack3\n"), "{aside}");
    fleet.servers[2]
        .0
        .install("#!/bin/sh\nprintf '[{\"host\":\"rack1\",\"port\":\"x\",\"state\":\"a\\\\u001b[2J\"}]'\n");
    let shown = fleet.done(&["-H", "rack3", "status", "--json"]);
    assert_eq!(shown, "{\"host\":\"rack3\",\"port\":\"x\",\"state\":\"a\\u001b[2J\"}\n");
    // One that writes without an end, and one that never writes.
    fleet.servers[2].0.install("#!/bin/sh\nexec yes\n");
    fleet.servers[3].0.install("#!/bin/sh\nexec sleep 1000\n");
    let (code, shown, aside) = fleet.consolectl(&["-H", "rack3,rack1", "show", "ttyUSB0"]);
    assert_eq!(code, 1);
    assert_eq!(shown.lines().filter(|line| *line == "rack3: y").count(), 512 * 1024);
    assert!(shown.contains("rack1: "));
    assert!(aside.contains("rack3: more than 1024 KiB of output; the rest was discarded\n"), "{aside}");
    let (code, shown, aside) = fleet.consolectl(&["--host-timeout", "1", "-H", "rack4", "status"]);
    assert_eq!((code, shown.as_str()), (1, "HOST  PORT  SETTINGS  IN  OUT  ERRORS  USERS  STATE\n"));
    let wanted = "rack4: not finished within 1 s\nconsolectl: no result from 1 of 1 hosts: rack4\n";
    assert_eq!(aside, wanted);
}

#[test]
fn a_shared_connection_is_used_again() {
    let fleet = Fleet::new(1);
    let socket = fleet.servers[0].0.path("control");
    // Before the other lines, since ssh takes the first value.
    fleet.configure(&format!(
        "Host rack1\nControlMaster auto\nControlPersist 60\nControlPath {}\n",
        socket.display()
    ));
    fleet.done(&["-H", "rack1", "show", "ttyUSB0"]);
    assert!(socket.exists());
    // No user can log in now.
    fleet.accounts.authorize("root", "");
    let shown = fleet.done(&["-H", "rack1", "list", "--json"]);
    assert_eq!(shown.lines().count(), 2, "{shown}");
    let mut exit = Command::new("ssh");
    assert!(exit.args(["-O", "exit", "rack1"]).stderr(Stdio::null()).status().unwrap().success());
    let (code, _, aside) = fleet.consolectl(&["-H", "rack1", "list"]);
    assert_eq!(code, 1, "{aside}");
}

#[test]
fn hosts_that_cannot_be_meant_are_usage_errors() {
    let fleet = Fleet::new(0);
    let refused = |words: &[&str], code: i32, wanted: &str| {
        let (is, shown, aside) = fleet.consolectl(words);
        assert_eq!((is, shown.as_str()), (code, ""), "{words:?}: {aside}");
        assert!(aside.contains(wanted), "{words:?}: {aside}");
    };
    refused(&["-H", "-oProxyCommand=id", "list"], 2, "unexpected argument '-o'");
    refused(&["-H", "root@-oProxyCommand=id", "list"], 2, "invalid host");
    refused(&["-H", "rack1"], 2, "-H needs a command");
    refused(&["-H", "rack1", "connect", "p1"], 2, "ssh -t -p 8022 HOST connect PORT");
    refused(&["-H", "rack1", "lits"], 2, "did you mean list?");
    refused(&["-H", "rack1", "break", "p1", "0"], 2, "invalid value '0'");
    refused(&["-H", "@cor", "list"], 1, "there is no group cor of hosts: did you mean core?");
    fleet.write_hosts("[groups]\ncore = 7\n");
    refused(&["-H", "rack1", "list"], 1, "consolectl.toml:2: invalid type");
}

/// In place of ssh: takes a while, and the first ones wait for each other; every tenth server is down.
const SIMULATED: &str = r#"#!/bin/sh
while [ "$1" != -- ]; do host=$1; shift; done
echo begins >>"$LOG"
until [ -e "$LOG.all" ]; do
    [ "$(grep -c begins "$LOG")" -lt 64 ] || : >"$LOG.all"
    sleep 0.1
done
sleep 0.3
echo ends >>"$LOG"
case $host in *7) echo "ssh: connect to host $host port 8022: No route to host" >&2; exit 255 ;; esac
printf '[{"port":"ttyUSB0","settings":"9600 8N1","received":7,"sent":0,"errors":0,"users":[],"state":"open"}]\n'
"#;

/// `FLEET_HOSTS=1000 FLEET_SECONDS=15` is for a release.
#[test]
fn many_hosts_are_asked_once_and_64_at_a_time() {
    let set = |name, default| std::env::var(name).map_or(default, |text| text.parse::<usize>().unwrap());
    let count = set("FLEET_HOSTS", 150);
    let room = tempfile::tempdir().unwrap();
    let ssh = room.path().join("ssh");
    fs::write(&ssh, SIMULATED).unwrap();
    fs::set_permissions(&ssh, Permissions::from_mode(0o755)).unwrap();
    let log = room.path().join("log");
    let begun = std::time::Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_consolectl"));
    command.env_clear().env("HOME", room.path()).env("LOG", &log);
    command.env("PATH", format!("{}:/usr/bin:/bin", room.path().display()));
    command.args(["-H", &format!("rack[1-{count}]"), "status"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let took = begun.elapsed();
    eprintln!("status of {count} simulated hosts: {took:?}");
    assert!(took.as_secs() < set("FLEET_SECONDS", 3600) as u64, "{took:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    let aside = String::from_utf8(output.stderr).unwrap();
    let down: Vec<usize> = (1..=count).filter(|number| number % 10 == 7).collect();
    assert_eq!(shown.lines().count(), 1 + count - down.len(), "{aside}");
    let rows: Vec<&str> = shown.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    let up = (1..=count).filter(|number| number % 10 != 7).map(|number| format!("rack{number}"));
    assert!(rows.iter().copied().eq(up), "not in the order of the hosts: {shown}");
    let listed = down.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let wanted = format!("consolectl: no result from {} of {count} hosts: rack[{listed}]\n", down.len());
    assert!(aside.ends_with(&wanted), "{aside}");
    let (mut now, mut most, mut all) = (0, 0, 0);
    for line in fs::read_to_string(log).unwrap().lines() {
        match line {
            "begins" => {
                (now, all) = (now + 1, all + 1);
                most = most.max(now);
            }
            _ => now -= 1,
        }
    }
    assert_eq!((all, most), (count, 64));
}
