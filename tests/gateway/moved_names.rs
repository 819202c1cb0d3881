//! Settings of the directory that change: the names are removed where they were, and a name is never another
//! server's in between.

use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::names::{ADDRESS, DnsProcess, Network, STATE, Server, key, knot_key, query, start};
use crate::rig::until;

/// Another address of the first DNS server.
const ALIAS: &str = "192.0.2.10";
/// The address of the second DNS server.
const SECOND: &str = "192.0.2.8";

/// A primary with zones that rack1 and rack2 may change.
struct Knot {
    process: Option<DnsProcess>,
    room: TempDir,
}

impl Knot {
    fn new(addresses: &[&str], zones: &[&str]) -> Self {
        let mut knot = Self { process: None, room: tempfile::tempdir().unwrap() };
        for zone in zones {
            let text = "$TTL 60\n@ SOA ns1 root 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n";
            fs::write(knot.room.path().join(zone), text).unwrap();
        }
        knot.start(addresses, zones, "rack1, rack2");
        knot
    }

    /// Starts it with these zones, which these keys may change.
    fn start(&mut self, addresses: &[&str], zones: &[&str], allowed: &str) {
        let listen = addresses.iter().map(|address| format!("{address}@53")).collect::<Vec<_>>().join(", ");
        let keys = ["rack1", "rack2"].map(knot_key).concat();
        let of = |zone: &&str| {
            format!(
                "  - domain: {zone}\n    storage: {at}\n    file: {zone}\n    acl: update\n",
                at = self.room.path().display()
            )
        };
        let all: String = zones.iter().map(of).collect();
        let text = format!(
            "server:\n    listen: [ {listen} ]\n    rundir: {at}\n    user: root:root\ndatabase:\n    storage: {at}\n\
             log:\n  - target: stderr\n    any: warning\nkey:\n{keys}acl:\n  - id: update\n    key: [ {allowed} ]\n    action: update\nzone:\n{all}",
            at = self.room.path().display()
        );
        let conf = self.room.path().join("conf");
        fs::write(&conf, text).unwrap();
        self.process = Some(start(Command::new("knotd").arg("-c").arg(conf), self.room.path()));
        for address in addresses {
            for zone in zones {
                until("the zone", || query(address, zone, "SOA").contains("ns1").then_some(()));
            }
        }
    }

    fn end(&mut self) {
        self.process.take().expect("it runs").end(Signal::SIGTERM);
    }

    /// A change by an administrator.
    fn change(&self, address: &str, zone: &str, lines: &str) {
        let (key_file, script) = (self.room.path().join("by-hand.key"), self.room.path().join("by-hand"));
        fs::write(&key_file, key("rack2")).unwrap();
        fs::write(&script, format!("server {address}\nzone {zone}\n{lines}\nsend\n")).unwrap();
        let output = Command::new("nsupdate").arg("-k").arg(key_file).arg(script).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

fn settings(server: &Server, zone: &str, dns: &str, name: &str) {
    server.write(
        "etc/consoleserver/directory.toml",
        &format!("zone = '{zone}'\nserver = '{dns}'\nname = '{name}'\naddresses = ['192.0.2.7']\n"),
    );
}

/// The result of a later run: it is not yet time for another attempt.
fn tick_later(server: &Server) {
    let state: String = fs::read_to_string(server.path(STATE)).unwrap();
    let (before, after) = state.split_once("\"tried_at\":").expect("an attempt");
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
    server.write(STATE, &format!("{before}\"tried_at\":1000{after}"));
    let output = server.tick();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn srv(address: &str, name: &str, zone: &str) -> String {
    query(address, &format!("_ssh._tcp.{name}.{zone}"), "SRV")
}

fn network() -> Network {
    let network = Network::enter();
    for address in [SECOND, ALIAS] {
        let words = ["address", "add", &format!("{address}/32"), "dev", "lo"];
        assert!(Command::new("ip").args(words).status().unwrap().success());
    }
    network
}

#[test]
fn names_are_removed_from_the_zone_and_the_dns_server_that_the_settings_had() {
    let _network = network();
    const ZONES: &[&str] = &["console.example", "other.example"];
    let mut first = Knot::new(&[ADDRESS, ALIAS], ZONES);
    let second = Knot::new(&[SECOND], &["console.example"]);
    let (server, other) = (Server::new("rack1"), Server::new("rack2"));
    other.configure("edge", 8200, "");
    other.publish();
    server.write("dev/second", "");
    let two = "[ports.core]\nssh_port = 8100\ndevice = '/dev/second'\n[ports.edge]\nssh_port = 8101\ndevice = '/dev/adapter'\n";
    server.write("etc/consoleserver/config.toml", two);
    settings(&server, "console.example", ADDRESS, "rack1");
    server.publish();
    assert_eq!(srv(ADDRESS, "core", "console.example"), "0 0 8100 core.console.example.\n");
    let count = |output: std::process::Output, what: &str| {
        String::from_utf8_lossy(&output.stderr).matches(what).count()
    };

    // A mistake in the new settings: everything stays.
    settings(&server, "mistake.example", ADDRESS, "rack1");
    assert_eq!(server.run().status.code(), Some(1));
    assert_eq!(server.problems().len(), 1, "{:?}", server.problems());
    assert_eq!(srv(ADDRESS, "core", "console.example"), "0 0 8100 core.console.example.\n");

    // Another zone. Names of other servers stay there.
    settings(&server, "other.example", ADDRESS, "rack1");
    server.publish();
    assert_eq!(server.problems(), [""; 0]);
    for name in ["core", "rack1"] {
        assert_eq!(query(ADDRESS, &format!("{name}.console.example"), "ANY"), "", "{name}");
        assert_eq!(query(ADDRESS, &format!("_consoleserver.{name}.console.example"), "TXT"), "", "{name}");
        assert_eq!(srv(ADDRESS, name, "console.example"), "", "{name}");
    }
    let servers = query(ADDRESS, "_consoleserver._tcp.console.example", "PTR");
    assert_eq!(servers, "rack2._consoleserver._tcp.console.example.\n");
    assert_eq!(srv(ADDRESS, "edge", "console.example"), "0 0 8200 edge.console.example.\n");
    for (name, tcp_port) in [("core", 8100), ("edge", 8101)] {
        assert_eq!(srv(ADDRESS, name, "other.example"), format!("0 0 {tcp_port} {name}.other.example.\n"));
    }

    // Another address of the same DNS server is the same location.
    let served = query(ADDRESS, "core.other.example", "A");
    settings(&server, "other.example", ALIAS, "rack1");
    server.publish();
    assert_eq!((server.problems().len(), query(ADDRESS, "core.other.example", "A")), (0, served));
    assert!(!fs::read_to_string(server.path(STATE)).unwrap().contains(ADDRESS), "it is still to be removed");

    // Another DNS server, while the former one is dead.
    first.end();
    settings(&server, "console.example", SECOND, "rack1");
    let left = "names of this server may be left in the zone other.example of the DNS server 192.0.2.10 (3: core, edge, rack1): the DNS server 192.0.2.10 does not answer: ";
    assert_eq!(count(server.run(), left), 1);
    assert_eq!(srv(SECOND, "core", "console.example"), "0 0 8100 core.console.example.\n");
    assert_eq!(server.problems().len(), 1);
    assert!(server.problems()[0].starts_with(left), "{:?}", server.problems());
    assert_eq!(count(server.tick(), left), 0, "reported once");
    assert_eq!(server.problems().len(), 1, "and doctor still knows it");
    // The former server no longer accepts the key; then an administrator removes the names.
    first.start(&[ADDRESS, ALIAS], ZONES, "rack2");
    assert_eq!(srv(ADDRESS, "core", "other.example"), "0 0 8100 core.other.example.\n");
    tick_later(&server);
    let rejected = left.replace("does not answer", "rejected the ");
    let rejected = rejected.trim_end_matches(": ");
    assert!(server.problems()[0].starts_with(rejected), "{:?}", server.problems());
    let all = ["core", "edge", "rack1"]
        .map(|name| format!("update delete {name}.other.example\nupdate delete _consoleserver.{name}.other.example\nupdate delete _ssh._tcp.{name}.other.example\n"));
    first.change(ADDRESS, "other.example", &all.concat());
    tick_later(&server);
    assert_eq!(server.problems(), [""; 0]);

    // A zone that its DNS server no longer has.
    settings(&server, "other.example", ADDRESS, "rack1");
    first.end();
    first.start(&[ADDRESS, ALIAS], ZONES, "rack1, rack2");
    server.publish();
    assert_eq!(srv(SECOND, "core", "console.example"), "");
    first.end();
    settings(&server, "console.example", SECOND, "rack1");
    assert!(server.run().status.success());
    assert_eq!(server.problems().len(), 1);
    first.start(&[ADDRESS, ALIAS], &["console.example"], "rack1, rack2");
    tick_later(&server);
    assert_eq!(server.problems(), [""; 0]);
    drop(second);
}

#[test]
fn without_settings_nothing_is_left_in_dns() {
    let _network = network();
    let mut dns = Knot::new(&[ADDRESS], &["console.example"]);
    let server = Server::new("rack1");
    server.configure("core", 8100, "");
    server.publish();
    fs::remove_file(server.path("etc/consoleserver/directory.toml")).unwrap();
    let waiting = "names of this server may be left in the zone console.example of the DNS server 192.0.2.7 (2: core, rack1): ";
    assert_eq!(server.problems(), [format!("{waiting}not yet removed")]);
    // The unit passes this if the key is missing.
    server.write("credentials/tsig", "none");
    server.publish();
    assert_eq!(server.problems(), [format!("{waiting}no TSIG key")]);
    server.write("credentials/tsig", &key("rack1"));
    dns.end();
    tick_later(&server);
    assert!(
        server.problems()[0].starts_with(&format!("{waiting}the DNS server 192.0.2.7 does not answer: ")),
        "{:?}",
        server.problems()
    );
    dns.start(&[ADDRESS], &["console.example"], "rack1");
    assert_eq!(srv(ADDRESS, "core", "console.example"), "0 0 8100 core.console.example.\n");
    tick_later(&server);
    assert_eq!((server.problems().len(), srv(ADDRESS, "core", "console.example").as_str()), (0, ""));
    assert_eq!(query(ADDRESS, "_consoleserver._tcp.console.example", "PTR"), "");
    assert!(!server.path(STATE).exists(), "console-directory.service is skipped without it");
    assert!(server.tick().status.success());
}

#[test]
fn a_renamed_server_keeps_its_names() {
    let _network = network();
    let dns = Knot::new(&[ADDRESS], &["console.example"]);
    let (server, other) = (Server::new("rack1"), Server::new("rack2"));
    server.configure("core", 8100, "");
    server.publish();
    other.configure("core", 8200, "");
    other.publish();
    settings(&server, "console.example", ADDRESS, "rack9");
    server.publish();
    other.publish();
    assert_eq!((server.problems().len(), other.problems().len()), (0, 1));
    assert_eq!(srv(ADDRESS, "core", "console.example"), "0 0 8100 core.console.example.\n");
    let marker = query(ADDRESS, "_consoleserver.core.console.example", "TXT");
    assert!(marker.starts_with("\"server=rack9\"") && marker.lines().count() == 1, "{marker}");
    assert_eq!(query(ADDRESS, "rack1.console.example", "ANY"), "");
    assert_eq!(query(ADDRESS, "rack1._consoleserver._tcp.console.example", "TXT"), "");
    let servers = query(ADDRESS, "_consoleserver._tcp.console.example", "PTR");
    let mut servers: Vec<_> = servers.lines().collect();
    servers.sort_unstable();
    assert_eq!(
        servers,
        ["rack2", "rack9"].map(|name| format!("{name}._consoleserver._tcp.console.example."))
    );

    // A backup from before that.
    let id = marker.split('"').nth(3).unwrap();
    dns.change(
        ADDRESS,
        "console.example",
        &format!(
            "update delete rack9._consoleserver._tcp.console.example TXT\n\
             update delete _consoleserver.core.console.example TXT\n\
             update add _consoleserver.core.console.example 60 TXT \"server=rack1\" \"{id}\"\n\
             update add _consoleserver.rack1.console.example 60 TXT \"server=rack1\" \"{id}\"\n\
             update add rack1.console.example 60 A 192.0.2.7"
        ),
    );
    assert!(server.tick().status.success());
    assert_eq!(server.problems(), [""; 0]);
    assert_eq!(query(ADDRESS, "_consoleserver.core.console.example", "TXT"), marker);
    assert_eq!(query(ADDRESS, "rack1.console.example", "ANY"), "");

    // And back.
    settings(&server, "console.example", ADDRESS, "rack1");
    server.publish();
    assert_eq!(server.problems(), [""; 0]);
    assert!(query(ADDRESS, "_consoleserver.core.console.example", "TXT").starts_with("\"server=rack1\""));
    assert_eq!(query(ADDRESS, "rack9.console.example", "ANY"), "");
}
