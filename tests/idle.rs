//! A port on which nothing happens costs nothing: the watchdog's beat is all that wakes it.

use std::time::{Duration, Instant};

use nix::unistd::Pid;

#[path = "support/rig.rs"]
mod rig;

use rig::{Rig, until};

/// How often the threads of a process have been woken.
fn wakeups(pid: Pid) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_task = |task: std::fs::DirEntry| -> u64 {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    };
    tasks.map(|task| of_task(task.unwrap())).sum()
}

#[test]
fn nothing_wakes_an_idle_port_but_the_watchdog() {
    let mut rig = Rig::new("");
    rig.environment("WATCHDOG_USEC", "1000000");
    rig.start_plugged();
    rig.say(b"login: ");
    rig.wait_for_log("login: ");
    // Until the blocking thread of that write is gone and everything is synced.
    let threads = format!("/proc/{}/task", rig.pid());
    until("one thread", || (std::fs::read_dir(&threads).unwrap().count() == 1).then_some(()));
    let quiet_since = Instant::now();
    until("the sync", || (quiet_since.elapsed() > Duration::from_secs(8)).then_some(()));
    until("one thread", || (std::fs::read_dir(&threads).unwrap().count() == 1).then_some(()));

    let (beats, woken) = (rig.watchdogs(), wakeups(rig.pid()));
    until("ten beats", || (rig.watchdogs() >= beats + 10).then_some(()));
    let (beats, woken) = (rig.watchdogs() - beats, wakeups(rig.pid()) - woken);
    println!("{woken} wake-ups for {beats} beats");
    assert!(woken <= 2 * beats as u64 + 2, "{woken} wake-ups for {beats} beats of the watchdog");
}
