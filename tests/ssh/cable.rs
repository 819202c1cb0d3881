//! The network cable of a client is unplugged: it sends nothing more. Its write access is free within half a minute, whether the device
//! writes or not, and without effect on other sessions.

use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use crate::at_terminal;
use crate::client::Client;
use crate::rig::{Rig, run};

/// The documented limit.
const FREE_WITHIN: Duration = Duration::from_secs(30);

const OURS: &str = "10.99.0.1";

fn ip(words: &str) {
    run(Command::new("ip").args(words.split(' ')));
}

/// Another computer, at the end of a cable.
struct Computer {
    holder: Child,
}

impl Computer {
    /// This thread, its children and the computer get a private network.
    fn at_a_cable() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs CAP_SYS_ADMIN");
        ip("link set lo up");
        // `cat` ends with us.
        let mut holder = Command::new("unshare");
        holder
            .args(["--net", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut holder = holder.spawn().unwrap();
        let mut ready = [0; 6];
        std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut ready).unwrap();
        ip(&format!("link add ours type veth peer name theirs netns {}", holder.id()));
        ip(&format!("address add {OURS}/24 dev ours"));
        ip("link set ours up");
        let computer = Self { holder };
        computer.ip("address add 10.99.0.2/24 dev theirs");
        computer.ip("link set theirs up");
        computer
    }

    /// This command, on that computer.
    fn runs(&self, command: &Command) -> Command {
        let mut there = Command::new("nsenter");
        there.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).arg(command.get_program());
        there.args(command.get_args());
        there
    }

    fn ip(&self, words: &str) {
        run(&mut self.runs(Command::new("ip").args(words.split(' '))));
    }

    fn pull_the_cable(&self) {
        self.ip("link set theirs down");
    }
}

impl Drop for Computer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Unplugs the session with write access. Returns the time until the other session is notified.
fn how_long(between: impl Fn(&Rig) + Send + 'static) -> JoinHandle<Duration> {
    // In a thread, whose network ends with it.
    std::thread::spawn(move || {
        let computer = Computer::at_a_cable();
        let mut rig = Rig::new("");
        rig.listen_at(OURS);
        rig.serve_logins(true);
        rig.start_plugged();
        let mut writer = Client::start(computer.runs(&rig.ssh(&["-tt", &format!("demo@{OURS}")])));
        writer.sees("for help]");
        let mut watcher = at_terminal(&rig);
        watcher.sees("[demo (10.99.0.2) has write access");
        rig.say(b"yours");
        writer.sees("yours");
        // Its input acknowledges its output, so nothing is in flight.
        writer.type_in("mine");
        rig.expect_at_device(b"mine");

        computer.pull_the_cable();
        let pulled = Instant::now();
        while !String::from_utf8_lossy(&watcher.shown()).contains("detached; no client has write access]") {
            assert!(pulled.elapsed() < 2 * FREE_WITHIN, "still there after {:?}", pulled.elapsed());
            between(&rig);
            // The rate of a device, and of the check.
            std::thread::sleep(Duration::from_millis(50));
        }
        let took = pulled.elapsed();
        eprintln!("free after {took:?}");
        watcher.type_in("\x05ca");
        watcher.sees("[you have write access]");
        took
    })
}

#[test]
fn the_writers_place_is_free_within_half_a_minute_whether_the_device_talks_or_not() {
    let (silent, talking) = (how_long(|_| {}), how_long(|rig| rig.say(b"tick\r\n")));
    for took in [silent.join().unwrap(), talking.join().unwrap()] {
        assert!(took <= FREE_WITHIN, "{took:?}");
    }
}
