//! Triggers of a real port: matches are in the journal immediately, regardless of the bus; a storm and a costly pattern
//! delay nothing.

use std::io::Write;
use std::os::unix::net::UnixListener;

#[path = "support/rig.rs"]
mod rig;

use rig::{Rig, until};

fn rules(rules: &str) -> String {
    format!("[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\n[ports.demo.triggers]\n{rules}\n")
}

fn fired(rig: &Rig, what: &str) -> usize {
    rig.journal().matches(&format!("trigger {what}")).count()
}

#[test]
fn a_line_fires_its_rule_and_a_reload_changes_the_rules_of_a_running_port() {
    let mut rig = Rig::with_config(&rules("panic = { match = \"[Pp]anic\" }\nquiet = { silence = \"1s\" }"));
    rig.start_plugged();
    rig.say(b"all is well\r\n\x1b[31mKernel\x1b[0m pa");
    rig.wait_for_log("well");
    rig.say(b"nic: not syncing\r\n");
    rig.wait_for_journal("trigger panic: Kernel panic: not syncing");
    rig.wait_for_journal("trigger quiet: no output for 1 s");

    rig.configure(&rules("oom = { match = \"Out of memory\" }"));
    rig.apply();
    rig.say(b"Out of memory: Killed process 1\nKernel panic\n");
    rig.wait_for_journal("trigger oom: Out of memory: Killed process 1");
    assert_eq!(fired(&rig, "panic"), 1, "a rule that was taken out fires no more");

    rig.configure(&rules(""));
    rig.apply();
    rig.configure(&rules("again = { match = \"hello\" }"));
    rig.apply();
    rig.say(b"hello\n");
    rig.wait_for_journal("trigger again: hello");
}

#[test]
fn the_silence_of_an_unplugged_adapter_fires_without_clients() {
    let mut rig = Rig::with_config(&rules("quiet = { silence = \"9s\" }"));
    rig.start_plugged();
    rig.say(b"up\n");
    rig.wait_for_log("up");
    // Longer than a port without a rule for silence would run.
    rig.unplug();
    rig.wait_for_journal("trigger quiet: no output for 9 s");
    assert!(rig.wait().success(), "and then it leaves");
}

#[test]
fn output_from_before_the_start_of_the_process_fires() {
    let mut rig = Rig::with_config(&rules("panic = { match = \"panic\" }"));
    rig.start_plugged();
    rig.say(b"up\n");
    rig.wait_for_log("up");
    rig.kill();
    rig.say(b"Kernel panic\n");
    rig.start();
    rig.wait_for_journal("trigger panic: Kernel panic");
}

#[test]
fn a_storm_of_lines_fires_once_and_counts_suppressed_matches() {
    let mut rig = Rig::with_config(&rules("panic = { match = \"panic\", cooldown = \"5s\" }"));
    rig.start_plugged();
    let storm = "Kernel panic\n".repeat(20_000);
    let mut device = rig.device();
    std::thread::spawn(move || device.write_all(storm.as_bytes()).unwrap());
    rig.wait_for_journal("trigger panic: Kernel panic");
    let journal = rig.wait_for_journal("further matches suppressed (cooldown 5 s)");
    let lines = journal.lines().filter(|line| line.contains("trigger panic")).count();
    assert_eq!(lines, 2, "{journal}");
    let suppressed = journal.split(" further matches").next().unwrap().rsplit(' ').next().unwrap();
    assert!(suppressed.parse::<u64>().unwrap() > 1000, "{journal}");
    assert!(rig.log_text().lines().count() >= 20_000, "the log is whole");
}

#[test]
fn a_dead_or_silent_bus_delays_nothing() {
    let mut rig = Rig::with_config(&rules("a = { match = \"panic\" }\nb = { match = \"oom\" }"));
    // This bus accepts connections and never replies.
    let bus = UnixListener::bind(rig.path("bus")).unwrap();
    rig.environment("DBUS_SYSTEM_BUS_ADDRESS", &format!("unix:path={}", rig.path("bus").display()));
    rig.argument("--bus");
    rig.start_plugged();
    assert!(no_connection(&bus), "a port has no connection to the bus before it has something to say");
    rig.say(b"panic\n");
    rig.wait_for_journal("trigger a: panic");
    until("a connection", || (!no_connection(&bus)).then_some(()));
    rig.say(b"oom\nand on\n");
    rig.wait_for_journal("trigger b: oom");
    rig.wait_for_log("and on");
    assert!(!rig.journal().contains("was not notified"), "it has waited for the bus: {}", rig.journal());
    rig.wait_for_journal("console-admin was not notified of a trigger: system bus: no answer within 10 s");

    drop(bus);
    let before = rig.journal().matches("was not notified").count();
    rig.configure(&rules("c = { match = \"again\" }"));
    rig.apply();
    rig.say(b"again\n");
    until("that too to be said", || {
        (rig.journal().matches("was not notified").count() > before).then_some(())
    });
    rig.stop();
}

fn no_connection(bus: &UnixListener) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let mut fds = [PollFd::new(bus.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() == 0
}

#[test]
fn sixteen_costly_patterns_leave_the_log_complete_and_the_port_responsive() {
    let bombs: String = (0..16)
        .map(|n| format!("b{n} = {{ match = \"[ab]*a[ab]{{250}}[c-{}]\" }}\n", char::from(b'd' + n)))
        .collect();
    let mut rig = Rig::with_config(&rules(&bombs));
    rig.start_plugged();
    let flood: Vec<u8> = (0u32..1_000_000)
        .map(|n| {
            if n % 1000 == 999 {
                b'\n'
            } else if n.wrapping_mul(2_654_435_761) >> 13 & 1 == 0 {
                b'a'
            } else {
                b'b'
            }
        })
        .collect();
    let before = rig.private_memory();
    let mut device = rig.device();
    let writer = std::thread::spawn(move || device.write_all(&flood).unwrap());
    writer.join().unwrap();
    rig.say(b"the end\n");
    rig.wait_for_log("the end");
    assert_eq!(rig.log_text().lines().filter(|line| line.len() > 900).count(), 1000, "the log is whole");
    let (more, limit) = (rig.private_memory() - before, 16 * 1024);
    println!("{more} KB more with sixteen bombs");
    assert!(more < limit, "{more} KB more");
    rig.apply();
}
