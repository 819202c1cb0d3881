//! Faults of the directory, dealt by a seed: the DNS server hangs, is cut off, is killed, has a wrong clock
//! or a zone from a backup; publishers are killed; consoles move in the meantime. `NAME_FAULT_SECONDS=3600`
//! is for a release, `NAME_FAULT_SEED=` repeats a run.
//!
//! The fault injector knows nothing of the checkers, and they know nothing of the faults: they compare the zone with the
//! configurations.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::names::{ADDRESS, DnsProcess, Network, Server, key, knot_key, start};
use crate::rig::until;

const SERVERS: usize = 4;
const CONSOLES: usize = 12;
/// Runs of console-directory.timer within 60 s: it elapses every 20 s, at most 5 s late.
const RUNS: usize = 2;

/// xorshift64*: the same faults for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// The primary, whose files can be put back.
struct Knot {
    process: Option<DnsProcess>,
    room: TempDir,
}

impl Knot {
    fn new() -> Self {
        let mut knot = Self { process: None, room: tempfile::tempdir().unwrap() };
        let data = knot.room.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::write(
            data.join("zone"),
            "$TTL 60\n@ SOA ns1 root 1 3600 600 86400 60\n@ NS ns1\nns1 A 192.0.2.53\n",
        )
        .unwrap();
        let names: Vec<String> = (0..SERVERS).map(|number| format!("rack{number}")).collect();
        let keys: String = names.iter().map(|name| knot_key(name)).collect();
        let text = format!(
            "server:\n    listen: {ADDRESS}@53\n    rundir: {at}\n    user: root:root\ndatabase:\n    storage: {at}\n\
             log:\n  - target: stderr\n    any: warning\nkey:\n{keys}acl:\n  - id: update\n    key: [ {names} ]\n    action: update\n\
             \x20 - id: copy\n    address: 192.0.2.0/24\n    action: transfer\n\
             zone:\n  - domain: console.example\n    storage: {at}\n    file: zone\n    acl: [ update, copy ]\n",
            at = data.display(),
            names = names.join(", ")
        );
        fs::write(knot.room.path().join("conf"), text).unwrap();
        knot.start(None);
        knot
    }

    /// `clock`: how far its clock is off. (libfaketime does not work in nsupdate, whose allocator asks for
    /// the time.)
    fn start(&mut self, clock: Option<&str>) {
        let mut command = Command::new("knotd");
        command.arg("-c").arg(self.room.path().join("conf"));
        if let Some(clock) = clock {
            command.env("LD_PRELOAD", "libfaketime.so.1").env("FAKETIME", clock);
            command.env(
                "LD_LIBRARY_PATH",
                "/usr/lib/x86_64-linux-gnu/faketime:/usr/lib/aarch64-linux-gnu/faketime",
            );
        }
        self.process = Some(start(&mut command, self.room.path()));
        until("the zone", || (!zone().is_empty()).then_some(()));
    }

    fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    fn end(&mut self, signal: Signal) {
        self.process.take().expect("it runs").end(signal);
    }

    /// Copies of its files, as of a moment at which it does not run.
    fn copy(&self, from: &str, to: &str) {
        let (from, to) = (self.room.path().join(from), self.room.path().join(to));
        let _ = fs::remove_dir_all(&to);
        assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    }
}

/// A record: its name, type and data.
type Record = (String, String, String);

/// The whole zone; nothing without an answer.
fn zone() -> Vec<Record> {
    let words =
        [&format!("@{ADDRESS}"), "+noall", "+answer", "+time=2", "+tries=1", "console.example", "AXFR"];
    let output = Command::new("dig").args(words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let record = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.len() >= 5 && !line.starts_with(';'))
            .then(|| (fields[0].to_owned(), fields[3].to_owned(), fields[4..].join(" ")))
    };
    text.lines().filter_map(record).collect()
}

/// Where each console is: server and TCP port.
type Places = BTreeMap<String, (usize, u16)>;

/// The names of consoles in a zone, with the address, the TCP port and the two servers that its records name.
fn names_of(zone: &[Record]) -> BTreeMap<String, [String; 4]> {
    let mut names: BTreeMap<String, [String; 4]> = BTreeMap::new();
    for (name, kind, data) in zone {
        let name = name.trim_end_matches(".console.example.");
        let (of, index, value) =
            match (name.strip_prefix("_ssh._tcp."), name.strip_prefix("_consoleserver."), kind.as_str()) {
                (Some(of), _, "SRV") => (of, 1, data.split(' ').nth(2).unwrap().to_owned()),
                (_, Some(of), "TXT") => (of, 3, data.split(' ').next().unwrap().to_owned()),
                (None, None, "A") => (name, 0, data.clone()),
                (None, None, "TXT") => (name, 2, data.split(' ').next().unwrap().to_owned()),
                _ => continue,
            };
        if of.starts_with('c') {
            names.entry(of.to_owned()).or_default()[index] = value;
        }
    }
    names
}

fn records_at((server, tcp_port): (usize, u16)) -> [String; 4] {
    let name = format!("\"server=rack{server}\"");
    [format!("192.0.2.1{server}"), tcp_port.to_string(), name.clone(), name]
}

/// Checker: in every case each name has the records of one server, and of one that had the console at
/// some time.
fn no_name_leads_elsewhere(
    zone: &[Record],
    history: &BTreeMap<String, Vec<(usize, u16)>>,
) -> Result<(), String> {
    for (name, records) in names_of(zone) {
        let places = history.get(&name).map(Vec::as_slice).unwrap_or_default();
        if !places.iter().any(|place| records_at(*place) == records) {
            return Err(format!("{name} leads to {records:?}, and was at {places:?}"));
        }
    }
    Ok(())
}

/// Checks that the zone has the consoles of all configurations, and no others.
fn is_union(zone: &[Record], places: &Places) -> Result<(), String> {
    let wanted: BTreeMap<String, [String; 4]> =
        places.iter().map(|(name, place)| (name.clone(), records_at(*place))).collect();
    let is = names_of(zone);
    let differing = |(name, records): (&String, &[String; 4])| {
        (is.get(name) != Some(records)).then(|| format!("{name}: {:?} instead of {records:?}", is.get(name)))
    };
    let mut wrong: Vec<String> = wanted.iter().filter_map(differing).collect();
    wrong.extend(
        is.keys().filter(|name| !wanted.contains_key(*name)).map(|name| format!("{name} is left over")),
    );
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn configure(servers: &[Server], places: &Places) {
    for (number, server) in servers.iter().enumerate() {
        let of_it = places.iter().filter(|(_, (at, _))| *at == number);
        let text: String = of_it
            .map(|(name, (_, tcp_port))| {
                format!("[ports.{name}]\nssh_port = {tcp_port}\ndevice = '/dev/{name}'\n")
            })
            .collect();
        server.write("etc/consoleserver/config.toml", &text);
    }
}

/// One of the faults: its actions before the publishers run, and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    None,
    Hangs,
    CutOff,
    Killed,
    FromBackup,
    PublisherKilled,
    WrongClock,
}

const FAULTS: [Fault; 7] = [
    Fault::None,
    Fault::Hangs,
    Fault::CutOff,
    Fault::Killed,
    Fault::FromBackup,
    Fault::PublisherKilled,
    Fault::WrongClock,
];

fn address(verb: &str) {
    let words = ["address", verb, &format!("{ADDRESS}/32"), "dev", "lo"];
    assert!(Command::new("ip").args(words).status().unwrap().success());
}

#[test]
fn the_directory_is_right_again_after_each_fault() {
    let set = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (seconds, seed) = (set("NAME_FAULT_SECONDS", 1), set("NAME_FAULT_SEED", 19));
    let _network = Network::enter();
    let mut random = Random(seed.max(1));
    let mut knot = Knot::new();
    let servers: Vec<Server> = (0..SERVERS)
        .map(|number| {
            let server = Server::new(&format!("rack{number}"));
            let settings = format!(
                "zone = 'console.example'\nserver = '{ADDRESS}'\nname = 'rack{number}'\naddresses = ['192.0.2.1{number}']\n"
            );
            server.write("etc/consoleserver/directory.toml", &settings);
            for console in 0..CONSOLES + 4 {
                server.write(&format!("dev/c{console}"), "");
            }
            server.write("credentials/tsig", &key(&format!("rack{number}")));
            server
        })
        .collect();
    let mut places: Places = (0..CONSOLES)
        .map(|number| (format!("c{number}"), (number % SERVERS, 8100 + number as u16)))
        .collect();
    let mut history: BTreeMap<String, Vec<(usize, u16)>> =
        places.iter().map(|(name, place)| (name.clone(), vec![*place])).collect();
    configure(&servers, &places);
    for server in &servers {
        server.publish();
    }
    is_union(&zone(), &places).unwrap();

    let begun = Instant::now();
    let mut dealt: BTreeMap<Fault, usize> = BTreeMap::new();
    let mut second_runs = 0;
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < Duration::from_secs(seconds) || dealt.len() < FAULTS.len() {
        // All of them in turn first, so that a short run has each.
        let round: usize = dealt.values().sum();
        let fault = if round < FAULTS.len() { FAULTS[round] } else { FAULTS[random.below(FAULTS.len())] };
        *dealt.entry(fault).or_default() += 1;
        let at = format!("seed {seed}, round {round}, {fault:?}");
        if fault == Fault::FromBackup {
            knot.end(Signal::SIGTERM);
            knot.copy("data", "backup");
            knot.start(None);
        }
        // Consoles move, some are added, some removed, and two swap their TCP ports.
        for _ in 0..=random.below(4) {
            let name = format!("c{}", random.below(CONSOLES + 4));
            let place = (random.below(SERVERS), 8100 + random.below(40) as u16);
            let is_free = !places.values().any(|other| *other == place);
            if random.below(5) == 0 {
                places.remove(&name);
            } else if is_free {
                places.insert(name.clone(), place);
                history.entry(name).or_default().push(place);
            }
        }
        configure(&servers, &places);
        match fault {
            Fault::None | Fault::PublisherKilled => {}
            Fault::WrongClock => {
                knot.end(Signal::SIGTERM);
                knot.start(Some(if random.below(2) == 0 { "+1h" } else { "-1h" }));
            }
            Fault::FromBackup => {
                // First all is published, by both runs of the timer.
                for server in servers.iter().chain(&servers) {
                    assert!(server.tick().status.success(), "{at}");
                }
                is_union(&zone(), &places).unwrap_or_else(|wrong| panic!("{at}, before the backup: {wrong}"));
                knot.end(Signal::SIGTERM);
                knot.copy("backup", "data");
                knot.start(None);
            }
            Fault::Hangs => knot.signal(Signal::SIGSTOP),
            Fault::CutOff => address("del"),
            Fault::Killed => knot.end(Signal::SIGKILL),
        }
        // The servers that publish while it lasts.
        let victims: Vec<&Server> = servers.iter().filter(|_| random.below(2) == 0).collect();
        let mut children = Vec::new();
        for server in victims {
            let mut command = server.program();
            // A separate process group, which is killed as systemd kills a control group.
            command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null());
            children.push(command.spawn().unwrap());
        }
        match fault {
            Fault::Hangs => {
                std::thread::sleep(Duration::from_millis(random.below(2000) as u64));
                knot.signal(Signal::SIGCONT);
            }
            Fault::PublisherKilled => {
                std::thread::sleep(Duration::from_millis(random.below(60) as u64));
                for child in &children {
                    // It may have ended already.
                    let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
                }
            }
            _ => {}
        }
        for mut child in children {
            let status = child.wait().unwrap();
            let is_down = matches!(fault, Fault::CutOff | Fault::Killed | Fault::WrongClock);
            assert!(
                !is_down || status.code() == Some(1),
                "{at}: a publisher without its DNS server: {status:?}"
            );
        }
        match fault {
            Fault::CutOff => address("add"),
            Fault::Killed => knot.start(None),
            Fault::WrongClock => {
                knot.end(Signal::SIGTERM);
                knot.start(None);
            }
            _ => {}
        }
        no_name_leads_elsewhere(&zone(), &history).unwrap_or_else(|wrong| panic!("{at}: {wrong}"));

        // The fault is over: the timers run.
        let over = Instant::now();
        for run in 1..=RUNS {
            for server in &servers {
                let output = server.tick();
                assert!(output.status.success(), "{at}: {}", String::from_utf8_lossy(&output.stderr));
                no_name_leads_elsewhere(&zone(), &history).unwrap_or_else(|wrong| panic!("{at}: {wrong}"));
            }
            match is_union(&zone(), &places) {
                Ok(()) => break,
                Err(wrong) => assert!(run < RUNS, "{at}, after {run} runs of each timer: {wrong}"),
            }
            second_runs += 1;
        }
        slowest = slowest.max(over.elapsed());
        for server in &servers {
            assert_eq!(
                server.problems().iter().filter(|problem| problem.contains("not published in DNS:")).count(),
                0
            );
        }
    }
    eprintln!(
        "seed {seed}: {dealt:?} in {:?}; {second_runs} needed the timer's second run; all runs of one fault took {slowest:?} at most",
        begun.elapsed()
    );
}
