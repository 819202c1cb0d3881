//! A disk that loses written data: fsync returns EIO once, and the next one succeeds although the bytes are gone. They are written
//! again, or reported as missing.

use std::fs;
use std::process::{Child, Command};

#[path = "support/records.rs"]
mod records;
#[path = "support/rig.rs"]
mod rig;

use records::lines;
use rig::{Rig, until};

/// A rig whose log is on such a disk. `backing` has the real content.
struct Bench {
    rig: Rig,
    disk: Child,
}

impl Bench {
    fn new(settings: &str) -> Self {
        let rig = Rig::new(settings);
        fs::create_dir(rig.path("backing")).unwrap();
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/forgetful-disk");
        let disk = Command::new(program).arg(rig.path("backing")).arg(rig.path("log")).spawn().unwrap();
        let mounted = format!(" {} fuse ", rig.path("log").display());
        until("the disk", || fs::read_to_string("/proc/mounts").unwrap().contains(&mounted).then_some(()));
        Self { rig, disk }
    }

    fn on_disk(&self) -> Vec<u8> {
        fs::read(self.rig.path("backing/console.log")).unwrap_or_default()
    }

    fn refuse(&self, refuse: bool) {
        let switch = self.rig.path("backing.refuse");
        if refuse { fs::write(switch, "").unwrap() } else { fs::remove_file(switch).unwrap() }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.rig.stop();
        let unmounted = Command::new("umount").arg(self.rig.path("log")).status().unwrap();
        assert!(unmounted.success() || std::thread::panicking());
        self.disk.wait().unwrap();
    }
}

#[test]
fn bytes_that_a_disk_has_lost_are_written_again() {
    let mut bench = Bench::new("log = { type = \"text\", sync = \"1s\" }\n");
    bench.rig.start_plugged();
    bench.rig.say(b"one\n");
    bench.rig.wait_for_log("< one\n");
    let synced = format!("/console.log {}\n", bench.rig.log_size());
    until("a sync", || {
        let syncs = fs::read_to_string(bench.rig.path("backing.syncs")).unwrap_or_default();
        syncs.contains(&synced).then_some(())
    });

    bench.refuse(true);
    bench.rig.say(b"two\nthree\n");
    bench.rig.wait_for_journal("the disk did not store 10 bytes: they are written again");
    bench.rig.wait_for_status("cannot sync the log");
    bench.rig.say(b"four\n");
    bench.refuse(false);
    bench.rig.wait_for_journal("logging resumed");
    let log = bench.rig.wait_for_log("< four\n");
    assert!(log.contains(" # the disk did not store 10 bytes: they are written again\n"), "{log}");
    until("the disk", || (bench.on_disk() == bench.rig.log()).then_some(()));
    let on_disk = bench.on_disk();
    assert!(!on_disk.contains(&0), "{}", String::from_utf8_lossy(&on_disk));
    assert_eq!(lines(&on_disk), [b"one".to_vec(), b"two".to_vec(), b"three".to_vec(), b"four".to_vec()]);
    assert!(!bench.rig.wait_for_status("8N1").contains("lost"));
}

#[test]
fn bytes_that_are_no_longer_in_the_ring_are_reported_as_missing() {
    let mut bench = Bench::new("scrollback = \"64K\"\nlog = { type = \"raw\", sync = \"1m\" }\n");
    bench.rig.start_plugged();
    bench.rig.say(&vec![b'x'; 100_000]);
    until("the log", || (bench.rig.log_size() == 100_000).then_some(()));
    bench.refuse(true);
    // A rotation syncs.
    bench.rig.signal(nix::sys::signal::Signal::SIGUSR1);
    bench.rig.wait_for_journal("up to 100000 bytes may be missing in the log: the disk did not store them");
    bench.rig.wait_for_status("100000 lost by the log");
    bench.refuse(false);
    bench.rig.say(b"on\n");
    until("the log", || bench.rig.log().ends_with(b"on\n").then_some(()));
    assert_eq!(bench.rig.log_size(), 100_003, "nothing that may be there was cut off");
}
