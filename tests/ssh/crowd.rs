//! Twenty users at one console with constant output: they take over, are read-only, send messages, and one has stopped reading. The log
//! stays exact, no session gets write access unasked, and each gets the notices that concern it.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use consoleserver::attach;
use nix::sys::signal::Signal;

use crate::client::Client;
use crate::rig::{Rig, until};
use crate::{at_terminal, served};

const PEOPLE: usize = 20;
/// Bytes per second of output; what each client receives is kept and searched.
const RATE: usize = 100_000;

/// Duration in seconds; longer before a release.
fn seconds() -> u64 {
    std::env::var("CROWD_SECONDS").map_or(10, |seconds| seconds.parse().unwrap())
}

/// Prints numbered lines until it is stopped. Returns all of them.
fn talk(rig: &Rig, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<Vec<u8>> {
    let mut device = rig.device();
    std::thread::spawn(move || {
        let (began, mut said) = (Instant::now(), Vec::new());
        while !stop.load(Ordering::Relaxed) {
            let line = format!("{:08} the device goes on and on\r\n", said.len());
            device.write_all(line.as_bytes()).unwrap();
            said.extend_from_slice(line.as_bytes());
            let due = began + Duration::from_secs_f64(said.len() as f64 / RATE as f64);
            // The rhythm of a device, not a wait for something.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        said
    })
}

fn writers(rig: &Rig) -> usize {
    let status = attach::client::status(&rig.path("run"), &"demo".parse().unwrap()).unwrap();
    status.users.iter().filter(|user| user.writes).count()
}

#[test]
fn twenty_users_at_a_device_with_constant_output() {
    let rig = served("log = \"raw\"\nreplay = 0");
    let mut people: Vec<Client> = (0..PEOPLE).map(|_| at_terminal(&rig)).collect();
    rig.wait_for_status("20 attached");
    let stop = Arc::new(AtomicBool::new(false));
    let device = talk(&rig, stop.clone());
    let stopped = people.pop().unwrap();
    stopped.signal(Signal::SIGSTOP);

    let (began, mut round) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(seconds()) {
        let (taker, loser) = ((round + 1) % people.len(), round % people.len());
        people[taker].type_in("\x05cf");
        people[taker].sees("[you have write access]");
        people[loser].sees("took over; you are now read-only]");
        assert_eq!(writers(&rig), 1, "after a take-over");
        people[taker].type_in(format!("\x05cbround {round} is on\r"));
        people[taker].sees("[message sent to 19 clients]");
        for (_, other) in people.iter_mut().enumerate().filter(|(index, _)| *index != taker) {
            other.sees(&format!(": round {round} is on]"));
        }
        round += 1;
    }
    let writer = round % people.len();
    people[writer].type_in("\x05cs");
    people[writer].sees("[you are read-only]");
    assert_eq!(writers(&rig), 0, "nobody is promoted");
    people[writer].type_in("\x05ca");
    people[writer].sees("[you have write access]");
    assert_eq!(writers(&rig), 1);

    stop.store(true, Ordering::Relaxed);
    let said = device.join().unwrap();
    until("the whole log", || (rig.log_size() >= said.len() as u64).then_some(()));
    assert!(rig.log() == said, "the log is not what the device said");
    assert!(round > 2, "only {round} rounds");
    eprintln!(
        "{PEOPLE} people, {round} take-overs and messages to all, {} bytes, all in the log",
        said.len()
    );
}
