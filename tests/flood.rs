//! 50 MB at memory speed, with clients that read and one that has stopped: the log and the reading clients get every byte, and
//! the stopped one costs bounded memory.

use std::io::Write;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[path = "support/rig.rs"]
mod rig;

use rig::{Rig, collect, sha256, until};

const FLOOD: usize = 50 * 1000 * 1000;

/// Kilobytes of private memory of a process: heap, stacks and its ring. The pages of its program do not depend on the
/// load.
fn private_memory(pid: Pid) -> u64 {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let kilobytes = |line: &str| -> u64 { line.split_whitespace().nth(1).unwrap().parse().unwrap() };
    let (mut in_ring, mut in_file) = (false, false);
    let mut total = 0;
    for line in smaps.lines() {
        match line.split_whitespace().next().unwrap_or_default() {
            "Rss:" if in_ring => total += kilobytes(line),
            "Anonymous:" if !in_file => total += kilobytes(line),
            first if first.contains('-') => {
                in_ring = line.contains("memfd:console-ring");
                in_file = line.split_whitespace().nth(5).is_some_and(|path| path.starts_with('/'));
            }
            _ => {}
        }
    }
    assert!(total > 256, "the ring alone is more");
    total
}

/// Waits for `total` bytes while more and more arrive: the total time depends on the machine.
fn until_all(what: &str, total: usize, count: impl Fn() -> usize) {
    while count() < total {
        let before = count();
        until(what, || (count() > before || count() >= total).then_some(()));
    }
}

#[test]
fn a_flood_reaches_the_log_and_all_reading_clients_completely() {
    let mut rig = Rig::new("log = \"raw\"\nreplay = 0");
    rig.serve_logins(true);
    rig.start_plugged();
    let client = || {
        let mut ssh = rig.ssh(&["-T", "demo@127.0.0.1"]);
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut readers = [client(), client()];
    let mut stopped = client();
    let heard = readers.each_mut().map(|reader| collect(reader.stdout.take().unwrap()));
    let stuck = collect(stopped.stdout.take().unwrap());
    rig.wait_for_status("3 attached");
    rig.say(b"x");
    until("all clients to receive it", || {
        let all = heard.iter().chain([&stuck]).all(|heard| !heard.lock().unwrap().is_empty());
        all.then_some(())
    });
    kill(Pid::from_raw(stopped.id() as i32), Signal::SIGSTOP).unwrap();

    let flood: Vec<u8> =
        (0..FLOOD as u64).map(|index| (index.wrapping_mul(2654435761) >> 13) as u8).collect();
    let mut device = rig.device();
    device.write_all(&flood).unwrap();
    let everything = [b"x".as_slice(), &flood].concat();

    for heard in &heard {
        until_all("the readers", everything.len(), || heard.lock().unwrap().len());
        assert_eq!(
            sha256(&heard.lock().unwrap()),
            sha256(&everything),
            "a reader missed or doubled something"
        );
    }
    until_all("the log", everything.len(), || rig.log_path().metadata().unwrap().len() as usize);
    assert_eq!(sha256(&rig.log()), sha256(&everything), "the log");
    let memory = private_memory(rig.pid());
    println!("private and ring memory of the process: {memory} kB");
    // The stopped client has not read 50 MB. The bound is a share of that: how much the clients' sockets and
    // the heap hold at one moment depends on the machine.
    assert!(memory < FLOOD as u64 / 1024 / 10, "{memory} kB");

    kill(Pid::from_raw(stopped.id() as i32), Signal::SIGCONT).unwrap();
    rig.say(b"the end");
    until("the stopped one to come back", || stuck.lock().unwrap().ends_with(b"the end").then_some(()));
    assert!(stuck.lock().unwrap().len() < FLOOD, "it was stopped, so it cannot have everything");
    for mut child in readers.into_iter().chain([stopped]) {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
