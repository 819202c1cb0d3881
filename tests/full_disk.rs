//! The log's disk is full: sessions continue, nothing is logged twice, and missing bytes are noted in the log itself.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

#[path = "support/rig.rs"]
mod rig;

use rig::{Rig, collect, until};

/// A rig whose log is on a disk of this many kilobytes, visible only to this test's thread and its children.
fn on_a_small_disk(kilobytes: u32, settings: &str) -> Rig {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace needs root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let rig = Rig::new(settings);
    let options = format!("size={kilobytes}k");
    let place = rig.path("log");
    mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), Some(options.as_str())).unwrap();
    rig
}

#[test]
fn nothing_is_lost_or_duplicated_if_space_is_freed_in_time() {
    let mut rig = on_a_small_disk(64, "");
    rig.serve_logins(true);
    rig.start_plugged();
    let mut child =
        rig.ssh(&["-tt", "demo@127.0.0.1"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let screen = collect(child.stdout.take().unwrap());
    rig.wait_for_status("1 attached");
    rig.say(b"first\r\n");
    rig.wait_for_log("first");

    fs::write(rig.path("log/ballast"), vec![0; 60 * 1024]).unwrap();
    for number in 0..200 {
        rig.say(format!("line {number:03} while the disk is full or nearly so\r\n").as_bytes());
    }
    until("the port to have heard them", || (rig.bytes_received() > 200 * 40).then_some(()));
    // The note about the unplug follows the lines, and cannot be written either.
    rig.unplug();
    rig.wait_for_status("cannot write the log");
    rig.plug();
    rig.wait_for_status("8N1");
    rig.say(b"keystrokes live\r\n");
    until("the session", || {
        String::from_utf8_lossy(&screen.lock().unwrap()).contains("keystrokes live").then_some(())
    });

    fs::remove_file(rig.path("log/ballast")).unwrap();
    let log = rig.wait_for_log("keystrokes live");
    for number in 0..200 {
        let line = format!("line {number:03} while");
        assert_eq!(log.matches(&line).count(), 1, "{line} in {log}");
    }
    assert_eq!(log.matches("# demo unplugged").count(), 1, "{log}");
    assert_eq!(log.matches("# demo plugged in").count(), 1, "{log}");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// rsyslogd ignores SIGXFSZ, too ("do not abort if 2gig file limit is hit").
#[test]
fn a_log_that_may_not_grow_further_does_not_end_the_console() {
    let mut rig = Rig::new("");
    rig.start_plugged();
    rig.say(b"first\r\n");
    rig.wait_for_log("first");
    let pid = rig.pid();
    let limit = |bytes: &str| {
        let mut prlimit = Command::new("prlimit");
        prlimit.arg(format!("--fsize={bytes}")).arg("--pid").arg(pid.to_string());
        assert!(prlimit.status().unwrap().success());
    };
    limit("4096:unlimited");
    for number in 0..200 {
        rig.say(format!("line {number:03} beyond the limit\r\n").as_bytes());
    }
    rig.wait_for_status("cannot write the log");
    rig.wait_for_status("File too large");
    assert!(rig.log_size() <= 4096);
    // It is renamed, as a rotation does.
    fs::rename(rig.log_path(), rig.path("log/console.log.1")).unwrap();
    limit("unlimited:unlimited");
    let log = rig.wait_for_log("line 199");
    let log = format!("{}{log}", fs::read_to_string(rig.path("log/console.log.1")).unwrap());
    for number in 0..200 {
        let line = format!("line {number:03} beyond");
        assert_eq!(log.matches(&line).count(), 1, "{line} in {log}");
    }
    assert_eq!(rig.pid(), pid);
}

#[test]
fn lost_bytes_are_counted_and_noted() {
    let mut rig = on_a_small_disk(1024, "scrollback = \"64K\"");
    rig.start_plugged();
    rig.say(b"first\r\n");
    rig.wait_for_log("first");
    fs::write(rig.path("log/ballast"), vec![0; 1020 * 1024]).unwrap();
    let lines: String =
        (0..8000).map(|number| format!("line {number:04} beyond what the ring holds\r\n")).collect();
    rig.say(lines.as_bytes());
    rig.wait_for_status("cannot write the log");
    // The loss is reported while nothing can be written: the disk may be full for a night.
    rig.wait_for_status("lost by the log");
    fs::remove_file(rig.path("log/ballast")).unwrap();
    rig.say(b"last\r\n");
    let log = rig.wait_for_log("< last");
    // A note may fit on the full disk; bytes that are overwritten after it get another note.
    let noted: u64 = log.lines().filter_map(lost_here).sum();
    assert!(noted > 0, "{log}");
    until("the journal to name what was lost", || {
        rig.journal().contains(&format!("{noted} bytes are not in the log")).then_some(())
    });
    rig.wait_for_status("lost by the log");
}

/// The count of `2026-11-29T16:10:46.392+00:00 # 242560 bytes lost here: …`.
fn lost_here(line: &str) -> Option<u64> {
    line.split_once(" # ")?.1.split_once(" bytes lost here")?.0.parse().ok()
}

/// A port without a device and without clients exits after 5 seconds, and systemd drops its ring then.
const LINGERS: Duration = Duration::from_secs(8);

#[test]
fn the_last_output_of_an_unplugged_device_is_kept_until_it_can_be_written() {
    let mut rig = on_a_small_disk(64, "");
    rig.start_plugged();
    rig.say(b"first\r\n");
    rig.wait_for_log("first");
    fs::write(rig.path("log/ballast"), vec![0; 60 * 1024]).unwrap();
    rig.say(&b"too much for this disk\r\n".repeat(400));
    rig.wait_for_status("cannot write the log");
    rig.say(b"last words\r\n");
    until("the port to have heard them", || (rig.bytes_received() >= 7 + 400 * 24 + 12).then_some(()));
    rig.unplug();
    rig.wait_for_status("unplugged");
    let unplugged = Instant::now();
    while unplugged.elapsed() < LINGERS {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        assert_eq!(waitid(Id::Pid(rig.pid()), flags), Ok(WaitStatus::StillAlive), "{}", rig.journal());
        std::thread::sleep(Duration::from_millis(50));
    }

    fs::remove_file(rig.path("log/ballast")).unwrap();
    assert!(rig.wait().success(), "then there is nothing to do");
    let log = rig.log_text();
    assert_eq!(log.matches("last words").count(), 1, "{log}");
    assert_eq!(log.matches("# demo unplugged").count(), 1, "{log}");
}
