//! Wake-ups of a port: only the watchdog while it is idle; a few reads a second, and not each byte, while its device sends; and
//! each key immediately.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

#[path = "support/client.rs"]
mod client;
#[path = "support/rig.rs"]
mod rig;

use client::Client;
use rig::{Rig, TIMEOUT, system_calls, until};

/// How often the threads of a process have been woken, but for the waits for pages of its program, which the kernel drops when other
/// processes need the memory (majflt of proc_pid_stat(5)).
fn wakeups(pid: Pid) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_task = |task: std::fs::DirEntry| -> u64 {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    };
    let switches: u64 = tasks.map(|task| of_task(task.unwrap())).sum();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name of the program, in parentheses, may have blanks.
    let after_name = stat.rsplit_once(')').unwrap().1;
    let major_faults: u64 = after_name.split_whitespace().nth(9).unwrap().parse().unwrap();
    switches.saturating_sub(major_faults)
}

/// How often a process waits while `done` is waited for: its calls that may block, as strace(1) sees them. Context switches are no
/// measure of an idle port: beside busy processes there are some for each page and each lock of the kernel.
fn waits(pid: Pid, done: impl FnOnce()) -> usize {
    const MAY_BLOCK: &str =
        "epoll_wait,epoll_pwait,epoll_pwait2,poll,ppoll,select,pselect6,futex,nanosleep,clock_nanosleep";
    let calls = system_calls(pid, MAY_BLOCK, done);
    // Not tokio's own eventfd, of token 0, which is ready before the call. The call that strace interrupts at its end has no result.
    let at_once = |line: &str| line.contains("[{events=EPOLLIN, data={u32=0, u64=0}}]");
    calls.lines().filter(|line| line.contains(" = ") && !at_once(line)).count()
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

    let before = rig.watchdogs();
    let woken = waits(rig.pid(), || {
        until("ten beats", || (rig.watchdogs() >= before + 10).then_some(()));
    });
    let beats = rig.watchdogs() - before;
    println!("{woken} wake-ups for {beats} beats");
    // A beat every 500 ms has two: tokio's timer wheel wakes at the slot of 64 ms and at the millisecond, and once more every 4 s.
    assert!(woken < 3 * beats, "{woken} wake-ups for {beats} beats of the watchdog");
}

/// Sends numbered lines at the speed of 115200 baud, a few bytes at a time, as adapters do. Returns what was sent.
fn talk(rig: &Rig, time: Duration) -> Vec<u8> {
    let (mut device, began, mut said) = (rig.device(), Instant::now(), Vec::new());
    let text: Vec<u8> =
        (0..).flat_map(|number| format!("{number:08}\r\n").into_bytes()).take(100_000).collect();
    while began.elapsed() < time {
        // The speed of a line is what is tested.
        std::thread::sleep(Duration::from_millis(5));
        let due = (began.elapsed().as_secs_f64() * 11_520.0) as usize;
        device.write_all(&text[said.len()..due]).unwrap();
        said.extend_from_slice(&text[said.len()..due]);
    }
    said
}

#[test]
fn a_sending_device_wakes_its_port_a_few_times_a_second() {
    let mut rig = Rig::new("baud = 115200\nlog.type = \"raw\"");
    rig.start_plugged();
    talk(&rig, Duration::from_millis(500));
    let before = wakeups(rig.pid());
    let said = talk(&rig, Duration::from_secs(3));
    let woken = wakeups(rig.pid()) - before;
    println!("{woken} wake-ups for 3 s and {} bytes", said.len());
    // 18 reads a second, each of which wakes the log's thread and is woken by its end. Reading each 58 bytes as they come would be 200.
    assert!(woken <= 3 * 75, "{woken} wake-ups in 3 s");
    until("all of it in the log", || rig.log().ends_with(&said).then_some(()));
}

#[test]
fn a_key_is_echoed_immediately_although_output_is_coalesced() {
    let mut rig = Rig::new("baud = 115200");
    rig.start_plugged();
    let mut client = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("1 attached");
    let mut device = rig.device();
    std::thread::spawn(move || {
        let mut keys = [0; 16];
        while let Ok(count @ 1..) = device.read(&mut keys) {
            device.write_all(&b"!".repeat(count)).unwrap();
        }
    });
    // Each key follows the answer to the last one.
    let mut answered = 0;
    let mut median = || {
        let mut times: Vec<Duration> = (0..40)
            .map(|_| {
                answered += 1;
                let began = Instant::now();
                client.type_in("k");
                while client.shown().iter().filter(|byte| **byte == b'!').count() < answered {
                    assert!(began.elapsed() < TIMEOUT, "key {answered} is not answered");
                    std::thread::yield_now();
                }
                began.elapsed()
            })
            .collect();
        times.sort();
        times[20]
    };
    let silent = median();
    // Within a second of a keystroke nothing is coalesced in any case.
    talk(&rig, Duration::from_millis(1500));
    let talking = median();
    println!("median {silent:?} with a silent device, {talking:?} with one that has sent output");
    // Each answer would wait for most of a window of 56 ms, beside what this machine takes for a key.
    assert!(
        talking < silent + Duration::from_millis(15),
        "an answer takes {talking:?} instead of {silent:?}"
    );
}

#[test]
fn coalesced_output_is_in_the_log_of_a_port_that_stops_or_reopens_its_line() {
    let settings = "baud = 115200\nlog.type = \"raw\"";
    let mut rig = Rig::new(settings);
    rig.start_plugged();
    let mut said = Vec::new();
    for round in 0..4 {
        said.extend(talk(&rig, Duration::from_millis(400)));
        std::os::unix::fs::symlink("demo", rig.path(&format!("dev/{round}"))).unwrap();
        rig.configure(&format!(
            "[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/{round}\"\n{settings}\n"
        ));
        rig.apply();
        until("all of it in the log", || (rig.log() == said).then_some(()));
        rig.wait_for_status("115200");
    }
    for _ in 0..4 {
        said.extend(talk(&rig, Duration::from_millis(400)));
        assert!(rig.stop().success());
        // A window is 650 bytes. On a busy machine the kernel may not have delivered the last write yet.
        assert!(rig.log().len() + 150 >= said.len(), "{} bytes of {}", rig.log().len(), said.len());
        rig.start();
        until("all of it in the log", || (rig.log() == said).then_some(()));
        rig.wait_for_status("115200");
    }
}

#[test]
fn a_port_without_free_descriptors_keeps_running() {
    let mut rig = Rig::new("");
    rig.environment("WATCHDOG_USEC", "200000");
    rig.start_plugged();
    rig.say(b"here\r\n");
    rig.wait_for_log("here");
    let pid = rustix::process::Pid::from_raw(rig.pid().as_raw());
    let none = rustix::process::Rlimit { current: Some(3), maximum: Some(3) };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, none).unwrap();
    let beats = rig.watchdogs();
    until("ten beats", || (rig.watchdogs() >= beats + 10).then_some(()));
    rig.say(b"still here\r\n");
    rig.wait_for_log("still here");
}

/// A port holds the configuration of the whole machine only while it reads it: what it keeps of it must not keep the heap in use.
#[test]
fn a_port_does_not_grow_with_the_number_of_other_ports() {
    let memory = |others: usize| {
        let others: String = (0..others).map(|number| format!("[ports.other{number}]\n")).collect();
        let config = format!("[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\n{others}");
        let mut rig = Rig::with_config(&config);
        rig.start_plugged();
        let started = Instant::now();
        until("the freed memory to be returned", || {
            (started.elapsed() > Duration::from_secs(4)).then_some(())
        });
        rig.private_memory()
    };
    let (alone, beside) = (memory(0), memory(300));
    println!("{alone} kB alone, {beside} kB beside 300 other ports");
    // Each of them as one page would be 1200 kB.
    assert!(beside < alone + 400, "{beside} kB beside 300 other ports, {alone} kB alone");
}
