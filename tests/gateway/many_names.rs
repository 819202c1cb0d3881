//! Names of many console servers with 48 ports each at a real primary and two secondaries. `NAME_SERVERS=1000` is for a release, and asserts
//! the times; the gate runs the same with three.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::names::{ADDRESS, DnsProcess, Network, Program, Server, key, knot_key, query, resolve_by, start};
use crate::rig::until;

const PORTS: usize = 48;
/// A Knot and a BIND.
const SECONDARIES: [&str; 2] = ["192.0.2.8", "192.0.2.9"];
/// Publishers that run at once; in practice each runs on its own machine.
const AT_ONCE: usize = 8;

/// A primary with the zone console.example, and two secondaries.
struct Servers {
    processes: Vec<DnsProcess>,
    room: TempDir,
}

impl Servers {
    fn start(primary: Program, names: &[String]) -> Self {
        for address in SECONDARIES {
            let words = ["address", "add", &format!("{address}/32"), "dev", "lo"];
            assert!(Command::new("ip").args(words).status().unwrap().success());
        }
        let mut servers = Self { processes: Vec::new(), room: tempfile::tempdir().unwrap() };
        let all = names.iter().map(String::as_str);
        match primary {
            Program::Knot => {
                let keys: String = all.clone().map(knot_key).collect();
                let ids = all.collect::<Vec<_>>().join(", ");
                // Without zonefile-sync, each update would write the whole zone.
                servers.knot(
                    "primary",
                    ADDRESS,
                    &format!("key:\n{keys}"),
                    &format!(
                        "  - id: allow\n    key: [ {ids} ]\n    action: update\n  - id: copy\n    address: 192.0.2.0/24\n    action: transfer\n"
                    ),
                    "    zonefile-sync: -1\n    acl: [ allow, copy ]\n    notify: [ second, third ]\n",
                );
            }
            Program::Bind => {
                let keys: String = all.clone().map(key).collect();
                let grants: String = all.map(|name| format!("grant {name} zonesub ANY; ")).collect();
                let options = format!(
                    "type primary; notify explicit; notify-delay 0; also-notify {{ {}; {}; }}; update-policy {{ {grants} }};",
                    SECONDARIES[0], SECONDARIES[1]
                );
                servers.bind("primary", ADDRESS, &keys, &options);
            }
        }
        let has_zone = |address| {
            until("the zone", || query(address, "console.example", "SOA").contains("ns1").then_some(()));
        };
        // First: a secondary whose primary does not answer yet tries again after a minute.
        has_zone(ADDRESS);
        let primary = "    zonefile-sync: -1\n    master: first\n    acl: [ told ]\n";
        servers.knot(
            "second",
            SECONDARIES[0],
            "",
            "  - id: told\n    address: 192.0.2.0/24\n    action: [ notify, transfer ]\n",
            primary,
        );
        let options =
            format!("type secondary; primaries {{ {ADDRESS}; }}; allow-notify {{ 192.0.2.0/24; }};");
        servers.bind("third", SECONDARIES[1], "", &options);
        SECONDARIES.into_iter().for_each(has_zone);
        servers
    }

    fn directory(&self, name: &str) -> PathBuf {
        let directory = self.room.path().join(name);
        fs::create_dir_all(&directory).unwrap();
        let zone = "$TTL 60\n@ SOA ns1 root 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n";
        if name == "primary" {
            fs::write(directory.join("zone"), zone).unwrap();
        }
        directory
    }

    fn knot(&mut self, name: &str, address: &str, keys: &str, acl: &str, zone: &str) {
        let directory = self.directory(name);
        let remotes = [("first", ADDRESS), ("second", SECONDARIES[0]), ("third", SECONDARIES[1])]
            .map(|(id, address)| format!("  - id: {id}\n    address: {address}@53\n"))
            .concat();
        let text = format!(
            "server:\n    listen: {address}@53\n    rundir: {at}\n    user: root:root\ndatabase:\n    storage: {at}\n\
             log:\n  - target: stderr\n    any: warning\n{keys}remote:\n{remotes}acl:\n{acl}\
             zone:\n  - domain: console.example\n    storage: {at}\n    file: zone\n{zone}",
            at = directory.display()
        );
        fs::write(directory.join("conf"), text).unwrap();
        let conf = directory.join("conf");
        self.processes.push(start(Command::new("knotd").arg("-c").arg(conf), &directory));
    }

    fn bind(&mut self, name: &str, address: &str, keys: &str, zone: &str) {
        let directory = self.directory(name);
        let text = format!(
            "options {{ directory \"{}\"; listen-on port 53 {{ {address}; }}; listen-on-v6 {{ none; }}; pid-file none;\n\
             session-keyfile none; recursion no; dnssec-validation no; allow-transfer {{ 192.0.2.0/24; }};\n\
             tcp-clients 1000; max-records-per-type 0; transfers-in 10; serial-query-rate 100; }};\ncontrols {{ }};\n{keys}\
             zone \"console.example\" {{ file \"zone\"; {zone} }};\n",
            directory.display()
        );
        fs::write(directory.join("conf"), text).unwrap();
        let conf = directory.join("conf");
        self.processes.push(start(Command::new("named").args(["-g", "-c"]).arg(conf), &directory));
    }
}

/// All names of consoles at a DNS server.
fn consoles(address: &str) -> usize {
    let words = [&format!("@{address}"), "+noall", "+answer", "console.example", "AXFR"];
    let output = Command::new("dig").args(words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .filter(|line| line.starts_with("_ssh._tcp.") && line.split_whitespace().nth(3) == Some("SRV"))
        .count()
}

fn configure(server: &Server, number: usize, last: &str) {
    let mut text = String::new();
    for port in 0..PORTS {
        let name = if port == PORTS - 1 { last.to_owned() } else { format!("r{number}-p{port}") };
        text.push_str(&format!(
            "[ports.{name}]\nssh_port = {}\ndevice = '/dev/d{port}'\ndescription = 'unit {port}'\n",
            8100 + port
        ));
    }
    server.write("etc/consoleserver/config.toml", &text);
}

fn many(program: Program) {
    let asked = std::env::var("NAME_SERVERS").ok().map(|text| text.parse::<usize>().unwrap());
    let count = asked.unwrap_or(3);
    // A bound in seconds depends on the machine: only a run with many servers has one.
    let within = |what: &str, took: Duration, limit: Duration| {
        eprintln!("{count} servers, {program:?}: {what}: {took:?}");
        assert!(asked.is_none() || took <= limit, "{what}: {took:?}");
    };
    let _network = Network::enter();
    let names: Vec<String> = (0..count).map(|number| format!("rack{number}")).collect();
    let dns = Servers::start(program, &names);
    let servers: Vec<Server> = names.iter().map(|name| Server::new(name)).collect();
    for (number, server) in servers.iter().enumerate() {
        for port in 0..PORTS {
            server.write(&format!("dev/d{port}"), "");
        }
        configure(server, number, &format!("r{number}-last"));
    }

    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(server) = servers.get(next.fetch_add(1, Ordering::Relaxed)) {
                    server.publish();
                }
            });
        }
    });
    within("all published at the primary", begun.elapsed(), Duration::from_secs(60));
    let serial = |address| query(address, "console.example", "SOA");
    for address in SECONDARIES {
        until("the secondary", || (serial(address) == serial(ADDRESS)).then_some(()));
    }
    within("all published at the secondaries", begun.elapsed(), Duration::from_secs(60));

    let wanted = count * (PORTS + 1);
    for address in [ADDRESS, SECONDARIES[0], SECONDARIES[1]] {
        let begun = Instant::now();
        assert_eq!(consoles(address), wanted);
        within(
            "the whole list, by AXFR",
            begun.elapsed(),
            Duration::from_secs(if address == ADDRESS { 1 } else { 3 }),
        );
    }
    let begun = Instant::now();
    let listed = query(ADDRESS, "_consoleserver._tcp.console.example", "PTR");
    assert_eq!(listed.matches("._consoleserver._tcp.").count(), count);
    within("the list of servers", begun.elapsed(), Duration::from_secs(1));

    // One change.
    configure(&servers[1], 1, "moved");
    let begun = Instant::now();
    servers[1].publish();
    for address in SECONDARIES {
        until("the change", || {
            (query(address, "_ssh._tcp.moved.console.example", "SRV") == "0 0 8147 moved.console.example.\n")
                .then_some(())
        });
    }
    within("one change at each secondary", begun.elapsed(), Duration::from_secs(2));
    // Unchanged names cause no change of the zone.
    let unchanged = serial(ADDRESS);
    let begun = Instant::now();
    servers[1].publish();
    within("an unchanged publication", begun.elapsed(), Duration::from_secs(1));
    assert!(servers[1].tick().status.success());
    assert_eq!(serial(ADDRESS), unchanged);

    // A new client each time, which has nothing cached.
    let listener = TcpListener::bind((ADDRESS, 8147)).unwrap();
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".config")).unwrap();
    fs::write(home.path().join(".config/consolectl.toml"), "zone = 'console.example'\n").unwrap();
    let _accounts = crate::accounts::Accounts::enter();
    resolve_by(SECONDARIES[0]);
    let mut times: Vec<Duration> = (0..9)
        .map(|_| {
            let begun = Instant::now();
            let mut dial = Command::new(env!("CARGO_BIN_EXE_consolectl"));
            dial.args(["dial", "moved.console"]).env("HOME", home.path()).stdin(Stdio::null());
            let mut dial = dial.stdout(Stdio::null()).spawn().unwrap();
            let accepted = listener.accept().unwrap();
            let took = begun.elapsed();
            drop(accepted);
            assert!(dial.wait().unwrap().success());
            took
        })
        .collect();
    times.sort();
    within("a cold lookup, with the start of the client (median)", times[4], Duration::from_millis(50));
    drop(dns);
}

#[test]
fn many_servers_publish_at_knot() {
    many(Program::Knot);
}

#[test]
fn many_servers_publish_at_bind() {
    many(Program::Bind);
}
