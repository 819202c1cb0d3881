//! Many logins at once from one address, as by Ansible's forks or users behind a bastion host, beside unauthenticated clients.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use russh::client::KeyboardInteractiveAuthResponse;

use crate::accounts::Accounts;
use crate::attack::{FLOOR, Strangers, Typist, of_hundred};
use crate::limits::connect;
use crate::refused::connections;
use crate::rig::{Rig, until};
use crate::served;

/// Logins at once, from one address.
const RUSH: usize = 48;
/// People at a password prompt at once, behind one address.
const PEOPLE: usize = 20;

/// Starts them all, and waits for all; returns how many were served.
fn rush(logins: impl Iterator<Item = Command>) -> usize {
    let began = Instant::now();
    let start = |mut login: Command| -> Child {
        login.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let all: Vec<_> = logins.map(start).collect();
    let mut served = 0;
    for login in all {
        let output = login.wait_with_output().unwrap();
        match output.status.success() && output.stdout.ends_with(b"< a line\n") {
            true => served += 1,
            false => eprintln!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)),
        }
    }
    eprintln!("{served} logins in {:.1?}", began.elapsed());
    served
}

fn logged_line(rig: &Rig) {
    rig.say(b"a line\r\n");
    rig.wait_for_log("a line");
}

fn by_key(rig: &Rig) -> Command {
    let mut ssh = rig.ssh(&["demo@127.0.0.1"]);
    ssh.args(["log", "-n", "1"]);
    ssh
}

#[test]
fn forty_eight_key_logins_at_once_succeed_beside_a_thousand_unauthenticated_clients() {
    let rig = served("");
    logged_line(&rig);
    assert_eq!(rush((0..RUSH).map(|_| by_key(&rig))), RUSH, "with nobody else there");
    let strangers = Strangers::come(rig.tcp_port);
    strangers.have_come();
    assert_eq!(rush((0..RUSH).map(|_| by_key(&rig))), RUSH, "with strangers");
    strangers.leave();
}

#[test]
fn forty_eight_passwords_at_once_are_served() {
    let accounts = Accounts::enter();
    accounts.add("alice", Some("sesame"));
    accounts.run(&["usermod", "-aG", "dialout", "alice"]);
    let rig = served("");
    logged_line(&rig);
    let by_password = |_| {
        let mut login = Command::new("sshpass");
        login.args(["-p", "sesame", "ssh", "-F", "none", "-o", "UserKnownHostsFile=/dev/null"]);
        login.args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "LogLevel=ERROR",
            "-o",
            "PubkeyAuthentication=no",
        ]);
        login.args(["-p", &rig.tcp_port.to_string(), "alice@127.0.0.1", "log", "-n", "1"]);
        login
    };
    assert_eq!(rush((0..RUSH).map(by_password)), RUSH);
}

#[tokio::test]
async fn twenty_users_behind_one_address_get_their_prompts_at_once() {
    let accounts = Accounts::enter();
    accounts.add("alice", Some("sesame"));
    accounts.run(&["usermod", "-aG", "dialout", "alice"]);
    let rig = served("");
    let mut people = Vec::new();
    for _ in 0..PEOPLE {
        let mut person = connect(&rig).await;
        let asked = person.authenticate_keyboard_interactive_start("alice", None).await.unwrap();
        let KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } = asked else { panic!("{asked:?}") };
        assert_eq!(prompts[0].prompt, "Password: ");
        people.push(person);
    }
    // All have a prompt before the first has typed.
    for person in &mut people {
        let answer =
            person.authenticate_keyboard_interactive_respond(vec!["sesame".to_owned()]).await.unwrap();
        assert!(matches!(answer, KeyboardInteractiveAuthResponse::Success), "{answer:?}");
    }
    assert_eq!(connections(&rig), PEOPLE);
}

/// Scanners that exchange keys and disconnect, as fast as they can, from one address; returns their number.
fn scan(port: u16, until: Arc<AtomicBool>, scans: Arc<AtomicUsize>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        // Lowers the priority of this thread and its children alone (setpriority(2)): real scanners have their own processors.
        rustix::process::setpriority_process(None, 19).unwrap();
        while !until.load(Ordering::Relaxed) {
            let mut scan = Command::new("ssh-keyscan");
            scan.args(["-t", "ed25519", "-p", &port.to_string()]).args(["127.0.0.1"; 16]);
            let found = scan.output().unwrap().stdout;
            scans.fetch_add(found.split(|byte| *byte == b'\n').count() - 1, Ordering::Relaxed);
        }
    })
}

#[test]
fn sessions_are_not_affected_by_key_exchanges_of_unauthenticated_clients() {
    let rig = served("log = \"raw\"");
    // A slow run by other load of this machine is repeated: three in a row are a failure.
    let in_peace = (0..3).any(|_| {
        let typist = Typist::sit_down(&rig);
        let (stop, scans) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let pause = || std::thread::sleep(Duration::from_secs(2));
        pause();
        let came = Instant::now();
        let scanner = scan(rig.tcp_port, stop.clone(), scans.clone());
        until("some scans", || (scans.load(Ordering::Relaxed) > 50).then_some(()));
        let left = Instant::now();
        stop.store(true, Ordering::Relaxed);
        scanner.join().unwrap();
        pause();
        let took = typist.stand_up();
        let within = |scanned: bool| {
            let those = took.iter().filter(|(at, _)| (*at > came && *at < left) == scanned);
            of_hundred(those.map(|(_, took)| *took).collect())
        };
        let (calm, scanned) = (within(false), within(true));
        eprintln!(
            "{} scans in {:.1?}; echo p50, p99: calm {calm:.2?}, scanned {scanned:.2?}",
            scans.load(Ordering::Relaxed),
            left - came
        );
        scanned.1 <= 2 * calm.1.max(FLOOR / 2)
    });
    assert!(in_peace, "p99 of the echo is more than twice that of the calm, three times");
}
