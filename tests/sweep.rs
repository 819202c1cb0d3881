//! `kill -9` at one instruction after another, from the read of the tty to the mark of the log: each byte of output is in
//! the log once, also if the log is rotated before the next process starts, and during a resize of the scrollback.
//! `SWEEP_KILLS=2000` is the long form.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use nix::libc;

#[path = "support/records.rs"]
mod records;
#[path = "support/rig.rs"]
mod rig;
#[path = "support/stepper.rs"]
mod stepper;

use records::lines;
use rig::{Rig, until};
use stepper::Stepper;

/// Kills on one rig: its logs are compared again for each.
const ROUNDS: u64 = 50;
/// Instructions after a system call that are tried one by one, as far as there are kills for that.
const DENSE: u64 = 4000;

/// The number of kills: these fifths of SWEEP_KILLS, or the default, which takes some seconds.
fn kills(fifths: u64, short: u64) -> u64 {
    std::env::var("SWEEP_KILLS").map_or(short, |kills| kills.parse::<u64>().unwrap() * fifths / 5)
}

/// Numbers that look random, and are the same in each run.
struct Dice(u64);

impl Dice {
    /// Below `most`.
    fn roll(&mut self, most: u64) -> u64 {
        // The multiplier of Knuth's MMIX; its low bits are poor.
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % most
    }
}

/// Output of the device: every byte value alone, all of them, and runs of bytes that were special in earlier versions.
fn words(round: u64, text: bool, dice: &mut Dice) -> Vec<u8> {
    let length = 1 + dice.roll(600) as usize;
    let mut said = match round % 5 {
        0 => vec![(round / 5 % 256) as u8],
        1 => (0..=255).collect(),
        2 => vec![0xfe; length],
        3 => vec![0; length],
        _ => (0..length).map(|_| dice.roll(256) as u8).collect(),
    };
    if text {
        // The text log does not keep which line end it was.
        said.retain(|byte| !matches!(byte, b'\r' | b'\n'));
        said.push(b'\n');
    }
    said
}

/// A rig and all output of its device.
struct Bench {
    rig: Rig,
    text: bool,
    said: Vec<u8>,
    rotated: Vec<PathBuf>,
}

impl Bench {
    fn new(text: bool) -> Self {
        let mut rig = Rig::new(if text { "log = \"text\"\n" } else { "log = \"raw\"\n" });
        rig.start_plugged();
        Self { rig, text, said: Vec::new(), rotated: Vec::new() }
    }

    fn say(&mut self, words: &[u8]) {
        self.rig.say(words);
        self.said.extend_from_slice(words);
    }

    /// Renames the log, as logrotate does. Returns whether there was one: a port that was killed early had not opened it yet.
    fn rotate(&mut self) -> bool {
        let log = self.rig.log_path();
        if !log.exists() {
            return false;
        }
        let name = self.rig.path(&format!("log/console.log.{}", self.rotated.len()));
        fs::rename(log, &name).unwrap();
        self.rotated.push(name);
        true
    }

    fn logged(&self) -> Vec<u8> {
        let mut logged: Vec<u8> = self.rotated.iter().flat_map(|path| fs::read(path).unwrap()).collect();
        logged.extend(self.rig.log());
        logged
    }

    /// Each byte is in the log once.
    #[track_caller]
    fn check(&self, killed: &str) {
        if self.text {
            let wanted: Vec<&[u8]> = self.said.split_inclusive(|byte| *byte == b'\n').collect();
            let wanted: Vec<&[u8]> = wanted.iter().map(|line| &line[..line.len() - 1]).collect();
            let logged = until("the log", || {
                let logged = self.logged();
                // A write in progress may end anywhere.
                let whole = logged.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
                Some(lines(&logged[..whole])).filter(|logged| logged.len() >= wanted.len())
            });
            let at = logged.iter().zip(&wanted).take_while(|(one, other)| one == *other).count();
            assert!(
                logged == wanted,
                "killed {killed}: line {at} is {:?} instead of {:?}, of {} and {}",
                logged.get(at),
                wanted.get(at),
                logged.len(),
                wanted.len(),
            );
        } else {
            until("the log", || (self.logged().len() >= self.said.len()).then_some(()));
            let logged = self.logged();
            let at = logged.iter().zip(&self.said).take_while(|(one, other)| one == other).count();
            assert!(
                logged == self.said,
                "killed {killed}: differs at {at}, {} bytes instead of {}",
                logged.len(),
                self.said.len()
            );
        }
    }

    /// The same, when no further bytes can come. Returns their number.
    fn finish(mut self) -> usize {
        assert!(self.rig.stop().success());
        self.check("before, and now stopped");
        self.said.len()
    }

    /// Whether a descriptor of the port is its log.
    fn is_log(&self, fd: u64) -> bool {
        let to = fs::read_link(format!("/proc/{}/fd/{fd}", self.rig.pid()));
        to.is_ok_and(|to| to == self.rig.log_path())
    }
}

/// The first step.
#[derive(Debug, Clone, Copy)]
enum From {
    /// The system call that reads from the tty.
    Read,
    /// The system call that writes to the log.
    Write,
}

fn run_to(stepper: &mut Stepper, bench: &Bench, from: From) {
    match from {
        From::Read => stepper.run_to("a read", |call, _| call == libc::SYS_splice as u64),
        From::Write => stepper.run_to("a write to the log", |call, args| {
            call == libc::SYS_write as u64 && bench.is_log(args[0])
        }),
    }
}

/// Instructions from the read of a few words until everything is done.
fn instructions(text: bool) -> u64 {
    let mut bench = Bench::new(text);
    let mut stepper = Stepper::seize(bench.rig.pid());
    bench.say(b"a few words\n");
    run_to(&mut stepper, &bench, From::Read);
    let count = stepper.step(u64::MAX);
    stepper.kill();
    bench.rig.is_reaped();
    bench.rig.start();
    bench.check("when it was done");
    count
}

/// Each instruction is two switches between this process and the port, and beside busy tests each of them would wait for a time slice.
fn raise_priority() {
    rustix::process::nice(-10).expect("tests run as root");
}

/// Kills the port `kills` times, at instructions that are spread over everything from the read to the mark, most of them
/// where bytes are between two locations.
fn sweep(text: bool, kills: u64) {
    raise_priority();
    let began = Instant::now();
    let whole = instructions(text);
    // Most instructions are far from where a byte could be lost, and take long to reach.
    let sparse = if std::env::var_os("SWEEP_KILLS").is_some() { 4 } else { 16 };
    let mut dice = Dice(7 + u64::from(text));
    let (mut bytes, mut rotations) = (0, 0);
    let mut bench = Bench::new(text);
    for round in 0..kills {
        if round % ROUNDS == ROUNDS - 1 {
            bytes += bench.finish();
            bench = Bench::new(text);
        }
        let (from, most) = match (round % sparse, round % 2) {
            (0, _) => (From::Read, whole),
            (_, 0) => (From::Read, DENSE),
            _ => (From::Write, DENSE),
        };
        // Evenly over the range, and not in step with the output.
        let steps = (round * 7919 + dice.roll(97)) % most;
        let words = words(round, text, &mut dice);
        let mut stepper = Stepper::seize(bench.rig.pid());
        bench.say(&words);
        run_to(&mut stepper, &bench, from);
        let steps = stepper.step(steps);
        stepper.kill();
        bench.rig.is_reaped();
        let rotate = dice.roll(3) == 0 && bench.rotate();
        rotations += u64::from(rotate);
        bench.rig.start();
        bench.check(&format!("{steps} instructions after {from:?} in round {round}, rotated: {rotate}"));
    }
    bytes += bench.finish();
    println!(
        "{kills} kills among {whole} instructions, {rotations} with a rotation, {bytes} bytes, text: {text}: none lost or doubled in {} s",
        began.elapsed().as_secs()
    );
}

#[test]
fn a_raw_log_has_each_byte_once_wherever_the_port_is_killed() {
    sweep(false, kills(2, 100));
}

#[test]
fn a_text_log_has_each_byte_once_wherever_the_port_is_killed() {
    sweep(true, kills(2, 100));
}

#[test]
fn a_resize_loses_nothing_wherever_the_port_is_killed() {
    raise_priority();
    let kills = kills(1, 20);
    let mut dice = Dice(3);
    let mut bench = Bench::new(false);
    let size = |round: u64| if round.is_multiple_of(2) { "128K" } else { "64K" };
    let settings = |bench: &Bench, round| {
        bench.rig.configure(&format!(
            "[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\nlog = \"raw\"\nscrollback = \"{}\"\n",
            size(round)
        ));
    };
    let mut whole = None;
    for round in 0..kills {
        let words = words(round, false, &mut dice);
        bench.say(&words);
        bench.check("before");
        settings(&bench, round);
        let mut stepper = Stepper::seize(bench.rig.pid());
        bench.rig.signal(nix::sys::signal::Signal::SIGHUP);
        stepper.run_to("a resize", |call, _| call == libc::SYS_memfd_create as u64);
        // The first one finishes, which shows how many instructions there are.
        let most = whole.map_or(u64::MAX, |whole| (round * 7919 + dice.roll(97)) % whole);
        let steps = stepper.step(most);
        whole.get_or_insert(steps.min(40_000));
        bench.say(&words);
        stepper.kill();
        bench.rig.is_reaped();
        bench.rig.start();
        bench.check(&format!("{steps} instructions into a resize, in round {round}"));
        assert_eq!(bench.rig.bytes_received(), bench.said.len() as u64, "{steps} instructions into a resize");
    }
    println!(
        "{kills} kills in a resize of {whole:?} instructions, {} bytes: none lost or doubled",
        bench.finish()
    );
}
