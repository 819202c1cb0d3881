#![allow(unsafe_code)] // One thread becomes another user.
//! `consolectl` on the machine itself: a console without SSH, and the status of the ports.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use consoleserver::attach::{Reply, Request};
use consoleserver::system::message::{receive, send};
use nix::libc;
use nix::sys::signal::Signal;

#[path = "support/accounts.rs"]
mod accounts;
#[path = "support/client.rs"]
mod client;
#[path = "support/rig.rs"]
mod rig;

use accounts::Accounts;
use client::Client;
use rig::{Rig, TIMEOUT, until};

fn served(settings: &str) -> Rig {
    let mut rig = Rig::new(settings);
    rig.start_plugged();
    rig
}

/// Output and exit status of `consolectl`.
fn said(mut command: Command) -> (Option<i32>, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_terminal_is_attached_and_restored_afterwards() {
    let rig = served("");
    let consolectl = rig.consolectl(&["connect", "demo"]);
    let words: Vec<_> = consolectl.get_args().map(|word| word.to_str().unwrap()).collect();
    // `expect` gives it a real terminal, whose settings are compared before and after.
    let script = format!(
        "set timeout {}\n\
         spawn -noecho sh -c {{stty -g; {} {}; echo status $?; stty -g}}\n\
         proc await {{words}} {{\n\
           expect -ex $words {{}} timeout {{ exit 3 }} eof {{ exit 4 }}\n\
         }}\n\
         expect -re {{([0-9a-f:]+)\\r\\n}}\n\
         set before $expect_out(1,string)\n\
         await \"\\[demo 9600 8N1; ^Ec? for help\\]\"\n\
         send \"typed\\r\"\n\
         await \"the answer\"\n\
         send \"\\005c.\"\n\
         await \"status 0\\r\\n\"\n\
         await $before\n\
         expect eof {{}} timeout {{ exit 3 }}\n",
        TIMEOUT.as_secs(),
        consolectl.get_program().to_str().unwrap(),
        words.join(" "),
    );
    let mut expect = Command::new("expect");
    let mut session = Client::start({
        expect.args(["-c", &script]);
        expect
    });
    rig.wait_for_status("1 attached");
    rig.expect_at_device(b"typed\r");
    rig.say(b"the answer\r\n");
    session.ends_with(0);
    rig.wait_for_status("0 attached");
}

#[test]
fn a_pipe_receives_bytes_only() {
    let rig = served("");
    rig.say(b"long ago\r\n");
    rig.wait_for_log("long ago");
    let mut client = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("1 attached");
    let every_byte: Vec<u8> = (0..=255).collect();
    rig.say(&every_byte);
    until("every byte", || (client.shown().len() >= every_byte.len()).then_some(()));
    assert_eq!(client.shown(), every_byte);
    client.type_in(&every_byte);
    client.end_input();
    rig.expect_at_device(&every_byte);
    rig.say(b"after the end of its input");
    client.sees("after the end of its input");
    assert_eq!(client.aside(), "");
}

#[test]
fn a_pipe_at_its_end_uses_no_cpu_time() {
    let rig = served("");
    let mut client = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("1 attached");
    client.end_input();
    rig.say(b"after the end of its input");
    client.sees("after the end of its input");
    let ticks = || -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", client.pid())).unwrap();
        // utime and stime, in hundredths of a second (proc_pid_stat(5)).
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = ticks();
    // The measured interval, not a wait for an event.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(ticks() - before <= 2, "{} ticks of 50", ticks() - before);
}

#[test]
fn a_port_that_stops_ends_its_local_clients() {
    let mut rig = served("");
    let mut client = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("1 attached");
    assert_eq!(rig.stop().code(), Some(0));
    client.ends_with(1);
    assert_eq!(client.aside(), "[console@demo is stopping]\nconsolectl: demo closed the session\n");
}

#[test]
fn a_pipe_without_write_access_is_told_who_has_it() {
    let rig = served("");
    let _writer = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("1 attached");
    let mut late = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("2 attached");
    late.type_in("reboot\n");
    late.is_told("(local) has write access; you are read-only: input is discarded]\n");
    rig.say(b"the device");
    late.sees("the device");
    assert_eq!(late.shown(), b"the device");
}

#[test]
fn a_pipe_that_never_gets_write_access_fails() {
    let rig = served("");
    let mut writer = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("1 attached");
    let mut pipe = Client::start(rig.consolectl(&["connect", "demo"]));
    pipe.type_in("reboot\n");
    pipe.end_input();
    pipe.ends_with(1);
    assert!(
        pipe.aside()
            .contains("has write access; you are read-only: input is discarded]\n[no input was sent]\n")
    );
    assert!(
        pipe.aside().ends_with("consolectl: not all of the input was sent to demo\n"),
        "{}",
        pipe.aside()
    );
    writer.type_in("mine");
    rig.expect_at_device(b"mine");
    let mut taker = Client::start(rig.consolectl(&["connect", "--force", "demo"]));
    taker.type_in("now\n");
    taker.end_input();
    rig.expect_at_device(b"now\n");
    rig.say(b"the answer");
    taker.ends_with(0);
    assert_eq!(taker.shown(), b"the answer");
}

#[test]
fn a_local_session_ends_with_its_device_on_request() {
    let mut rig = served("");
    let mut client = Client::start(rig.consolectl(&["connect", "--no-reconnect", "demo"]));
    rig.wait_for_status("1 attached");
    rig.say(b"last words");
    client.sees("last words");
    rig.unplug();
    client.ends_with(1);
    assert_eq!(client.shown(), b"last words");
    assert!(client.aside().contains(": session closed]\n"), "{}", client.aside());
}

#[test]
fn a_single_control_e_is_sent_to_the_device_and_detaching_ends_the_line() {
    let rig = served("");
    rig.say(b"Switch>");
    rig.wait_for_log("Switch>");
    let consolectl = rig.consolectl(&["connect", "demo"]);
    let words: Vec<_> = consolectl.get_args().map(|word| word.to_str().unwrap()).collect();
    let script = format!(
        "set timeout {}\n\
         spawn -noecho sh -c {{{} {}; echo status $?}}\n\
         expect -re {{Switch>$}} {{}} timeout {{ exit 3 }} eof {{ exit 4 }}\n\
         send \"\\005\"\n\
         expect -ex \"device\" {{}} timeout {{ exit 3 }} eof {{ exit 4 }}\n\
         send \"c.\"\n\
         send \"\\005c.\"\n\
         expect -re {{^\\r\\nstatus 0\\r\\n}} {{}} timeout {{ exit 3 }} eof {{ exit 4 }}\n",
        TIMEOUT.as_secs(),
        consolectl.get_program().to_str().unwrap(),
        words.join(" "),
    );
    let mut expect = Command::new("expect");
    expect.args(["-c", &script]);
    let mut session = Client::start(expect);
    rig.expect_at_device(b"\x05");
    rig.say(b"the device");
    rig.expect_at_device(b"c.");
    session.ends_with(0);
}

#[test]
fn a_stopped_client_that_is_killed_leaves_no_writer_behind() {
    let rig = served("");
    let stopped = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("1 attached");
    stopped.signal(Signal::SIGSTOP);
    rig.say(&vec![b'x'; 1 << 20]);
    stopped.signal(Signal::SIGKILL);
    rig.wait_for_status("0 attached");
    let mut next = Client::start(rig.consolectl(&["connect", "demo"]));
    next.type_in("mine");
    rig.expect_at_device(b"mine");
}

#[test]
fn a_pipe_that_is_killed_at_a_silent_device_is_noticed() {
    let rig = served("");
    let mut client = Client::start(rig.consolectl(&["connect", "demo"]));
    client.type_in("typed");
    rig.expect_at_device(b"typed");
    client.end_input();
    rig.wait_for_status("1 attached");
    client.signal(Signal::SIGKILL);
    rig.wait_for_status("0 attached");
}

#[test]
fn a_paste_that_is_killed_at_a_stuck_device_is_noticed() {
    let rig = served("");
    let mut client = Client::start(rig.consolectl(&["connect", "demo"]));
    rig.wait_for_status("1 attached");
    // More than the device's end and the session take, less than all buffers on the way hold.
    client.type_in(vec![b'x'; 256 * 1024]);
    client.signal(Signal::SIGKILL);
    rig.wait_for_status("0 attached");
}

#[test]
fn an_idle_client_does_not_block_others() {
    let rig = served("");
    open_to_every_user(&rig);
    let socket = rig.path("run/attach/demo");
    let mut silent = as_uid(65534, move || (0..100).map(|_| UnixStream::connect(&socket).unwrap()).collect());
    let mut last: UnixStream = silent.pop().unwrap();
    let refusal: Option<Reply> = receive(&mut last).unwrap();
    let wanted = "demo: too many pending clients of uid 65534; try again";
    assert_eq!(refusal, Some(Reply::Rejected(wanted.to_owned())));
    let (status, table, _) = said(rig.consolectl(&["status"]));
    assert_eq!(status, Some(0));
    assert!(table.lines().any(|line| line.ends_with("open")), "{table}");
}

#[test]
fn a_uid_without_an_account_is_rejected_with_a_reason() {
    const STRANGER: u32 = 4_000_000_000;
    let rig = served("");
    open_to_every_user(&rig);
    let socket = rig.path("run/attach/demo");
    let mut clients = as_uid(STRANGER, move || vec![UnixStream::connect(&socket).unwrap()]);
    send(&mut clients[0], &Request::Connect { terminal: false, options: Default::default() }).unwrap();
    let refusal: Option<Reply> = receive(&mut clients[0]).unwrap();
    let wanted = format!("cannot look up uid {STRANGER}: no such user");
    assert_eq!(refusal, Some(Reply::Rejected(wanted)));
}

/// Connects in a thread that runs as this user: the kernel records a client's user when it connects.
fn as_uid(uid: u32, connect: impl FnOnce() -> Vec<UnixStream> + Send + 'static) -> Vec<UnixStream> {
    let thread = std::thread::spawn(move || {
        // SAFETY: three integers. The bare call changes this thread alone, where libc's would change them all.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) };
        assert_eq!(changed, 0, "run as root (make test does)");
        connect()
    });
    thread.join().unwrap()
}

#[test]
fn access_requires_membership_in_one_of_the_groups() {
    let accounts = Accounts::enter();
    accounts.add("alice", None);
    accounts.run(&["usermod", "-aG", "dialout", "alice"]);
    accounts.add("bob", None);
    let mut rig =
        Rig::with_config("[access]\ngroups = [\"dialout\"]\n[ports.demo]\ndevice = \"@DIR@/dev/demo\"\n");
    rig.start_plugged();
    open_to_every_user(&rig);
    let as_user = |user: &str, arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--regid", user, "--clear-groups", "--"]);
        command.arg(rig.path("consolectl")).arg("--runtime-dir").arg(rig.path("run")).args(arguments);
        command
    };
    let (status, _, aside) = said(as_user("bob", &["connect", "demo"]));
    assert_eq!(
        (status, aside.as_str()),
        (Some(1), "consolectl: bob has no access to demo; this requires membership in the group dialout\n")
    );
    let (_, table, _) = said(as_user("bob", &["status"]));
    assert!(table.contains("bob has no access to demo"), "{table}");

    // Her group is looked up, not taken from her process, which has none.
    let mut alice = Client::start(as_user("alice", &["connect", "demo"]));
    rig.wait_for_status("1 attached");
    alice.type_in("alice was here");
    rig.expect_at_device(b"alice was here");
    let (status, table, _) = said(as_user("alice", &["status"]));
    assert_eq!(status, Some(0));
    assert!(table.contains("alice (local, writing since "), "{table}");
}

#[test]
fn a_member_of_a_read_only_group_is_read_only_and_a_named_user_may_write() {
    let accounts = Accounts::enter();
    accounts.add("alice", None);
    accounts.add("carol", None);
    accounts.run(&["groupadd", "noc"]);
    accounts.run(&["usermod", "-aG", "noc", "carol"]);
    let mut rig = Rig::with_config(
        "[ports.demo]\ndevice = \"@DIR@/dev/demo\"\ngroups = []\nusers = [\"alice\"]\nread_only_groups = [\"noc\"]\n",
    );
    rig.start_plugged();
    open_to_every_user(&rig);
    let command = |user: &str, words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--regid", user, "--clear-groups", "--"]);
        command.arg(rig.path("consolectl")).arg("--runtime-dir").arg(rig.path("run")).args(words);
        command
    };
    let as_user = |user: &str| command(user, &["connect", "demo"]);
    let mut carol = Client::start(as_user("carol"));
    rig.wait_for_status("1 attached");
    carol.type_in("not this");
    carol.is_told("[you are read-only: input is discarded]");
    let mut alice = Client::start(as_user("alice"));
    rig.wait_for_status("2 attached");
    alice.type_in("this");
    rig.expect_at_device(b"this");
    rig.say(b"seen by both");
    carol.sees("seen by both");
    alice.sees("seen by both");

    // Commands grant no more rights.
    rig.say(b"\r\n");
    rig.wait_for_log("seen by both");
    assert_eq!(said(command("carol", &["grep", "seen by b"])).0, Some(0));
    let (status, _, aside) = said(command("carol", &["send", "--force", "demo", "x"]));
    assert_eq!(status, Some(1), "{aside}");
    assert!(aside.contains("your access to this port is read-only"), "{aside}");
    accounts.add("bob", None);
    let (status, found, aside) = said(command("bob", &["grep", "seen"]));
    // With access to no port: the groups that would grant it.
    let denied = "consolectl: bob has no access to demo; this requires membership in the group noc\n";
    assert_eq!((status, found.as_str(), aside.as_str()), (Some(1), "", denied));
    let (status, found, aside) = said(command("bob", &["watch"]));
    assert_eq!((status, found.as_str(), aside.as_str()), (Some(1), "", denied));
    let (status, _, aside) = said(command("bob", &["grep", "seen", "demo"]));
    assert!(status == Some(1) && aside.contains("bob has no access to demo"), "{aside}");
}

#[test]
fn the_logs_of_all_ports_are_searched() {
    let mut rig = Rig::new("");
    rig.start_plugged();
    rig.say(b"boot\r\nKernel panic at 5\r\n");
    rig.wait_for_log("panic");
    let (status, found, aside) = said(rig.consolectl(&["grep", "-i", "kernel PANIC"]));
    assert_eq!((status, aside.as_str()), (Some(0), ""));
    assert!(found.starts_with("demo: 2") && found.ends_with(" < Kernel panic at 5\n"), "{found}");
    assert_eq!(said(rig.consolectl(&["grep", "nothing like it"])).0, Some(1));
    let (status, _, why) = said(rig.consolectl(&["grep", "a("]));
    assert!(status == Some(2) && why.contains("unclosed group") && why.lines().count() == 1, "{why}");
    let (status, _, why) = said(rig.consolectl(&["log", "demo", "--since", "soon"]));
    assert!(status == Some(2) && why.contains("expected a duration ago"), "{why}");
    // The device echoes its input.
    let mut asked = Client::start(rig.consolectl(&["send", "--expect", "answer", "demo", "question\\r"]));
    rig.expect_at_device(b"question\r");
    rig.say(b"the answer\r\n");
    asked.ends_with(0);
    assert_eq!(asked.shown(), b"the answer");
}

#[test]
fn the_logs_of_former_ports_are_read_and_searched_and_marked() {
    let mut rig = Rig::new("");
    rig.start_plugged();
    rig.say(b"panic of demo\r\n");
    rig.wait_for_log("panic");
    let old = |name: &str| rig.path("logs").join(name);
    for (name, text) in [
        ("old-core/console.log", "2026-11-02T00:00:00.000+00:00 < \\x1b[1mpanic\\x1b[0m of old-core\\r\n"),
        ("old-core/console.log.1", "2026-11-01T00:00:00.000+00:00 < older\n"),
        ("rawlog/switch.log", "panic \x1b[1mof rawlog\r\n"),
        ("demo/console.log", "is served, and shows its own\n"),
        ("not a port/console.log", "panic\n"),
    ] {
        fs::create_dir_all(old(name).parent().unwrap()).unwrap();
        fs::write(old(name), text).unwrap();
    }
    let logs = old("").to_str().unwrap().to_owned();
    let ask = |words: &[&str]| said(rig.consolectl(&[&["--log-dir", &logs], words].concat()));
    let (status, log, aside) = ask(&["log", "old-core"]);
    let wanted = "2026-11-01T00:00:00.000+00:00 < older\n2026-11-02T00:00:00.000+00:00 < panic of old-core\n";
    assert_eq!((status, log.as_str()), (Some(0), wanted));
    assert_eq!(aside, "old-core is a former port; this is its last log\n");
    assert_eq!(ask(&["log", "old-core", "-n", "1"]).1, wanted.split_inclusive('\n').next_back().unwrap());
    assert_eq!(
        ask(&["log", "old-core", "--until", "2026-11-01T12:00Z"]).1,
        wanted.split_inclusive('\n').next().unwrap()
    );
    assert_eq!(ask(&["log", "rawlog"]).1, "panic \x1b[1mof rawlog\r\n", "the bytes, to a pipe");
    let (status, _, why) = ask(&["log", "rawlog", "--since", "1d"]);
    assert!(status == Some(1) && why.contains("of type \"raw\""), "{why}");
    let (status, found, aside) = ask(&["grep", "panic of"]);
    assert_eq!((status, aside.as_str()), (Some(0), ""));
    let found: Vec<&str> = found.lines().collect();
    assert!(found[0].starts_with("demo: 2") && found[0].ends_with("< panic of demo"), "{found:?}");
    assert_eq!(found[1], "old-core (former port): 2026-11-02T00:00:00.000+00:00 < panic of old-core");
    assert_eq!(found[2..], ["rawlog (former port): panic \u{1b}[1mof rawlog"]);
    // Former names of a port that is served, and of one that is not: console-logs leaves links.
    std::os::unix::fs::symlink("demo", old("ttyUSB0")).unwrap();
    std::os::unix::fs::symlink("old-core", old("older")).unwrap();
    let (status, log, aside) = ask(&["log", "ttyUSB0"]);
    assert!(status == Some(0) && log.ends_with("< panic of demo\n"), "{log}");
    assert_eq!(aside, "ttyUSB0 was renamed to demo\n");
    let (status, found, aside) = ask(&["grep", "panic", "ttyUSB0"]);
    assert!(status == Some(0) && found.starts_with("demo: 2"), "{found}");
    assert_eq!(aside, "ttyUSB0 was renamed to demo\n");
    assert_eq!(ask(&["log", "older"]).1, wanted);
    assert_eq!(
        ask(&["grep", "panic of"]).1.lines().count(),
        3,
        "a log is searched once, whatever it was called"
    );
    // A name that never existed.
    let (status, _, why) = ask(&["log", "nobody"]);
    assert!(status == Some(1) && why.contains("there is no port nobody: "), "{why}");
    // A directory that its ports write to cannot redirect a reader.
    std::os::unix::fs::symlink("/etc", old("link")).unwrap();
    fs::create_dir(old("trap")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", old("trap/console.log")).unwrap();
    for name in ["link", "trap"] {
        let (status, log, _) = ask(&["log", name]);
        assert_eq!((status, log.as_str()), (Some(1), ""), "{name}");
    }
}

#[test]
fn the_log_of_a_former_port_requires_permission_on_its_files() {
    let mut rig = Rig::new("");
    rig.start_plugged();
    let directory = rig.path("logs/old");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("console.log"), "2026-11-02T00:00:00.000+00:00 < panic\n").unwrap();
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    open_to_every_user(&rig);
    let ask = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(rig.path("consolectl"));
        command.arg("--runtime-dir").arg(rig.path("run")).arg("--log-dir").arg(rig.path("logs")).args(words);
        said(command)
    };
    let (status, log, why) = ask(&["log", "old"]);
    assert_eq!((status, log.as_str()), (Some(1), ""));
    assert!(
        why.contains("the log of the former port old is readable by root and the group adm only"),
        "{why}"
    );
    let (status, found, why) = ask(&["grep", "panic"]);
    assert_eq!((status, found.as_str()), (Some(1), ""));
    assert!(
        why.contains("skipped the logs of ports that are not served") && why.ends_with(": old\n"),
        "{why}"
    );
}

/// Lets every user reach the sockets and the program, as on a real machine: the port decides about access.
fn open_to_every_user(rig: &Rig) {
    fs::copy(env!("CARGO_BIN_EXE_consolectl"), rig.path("consolectl")).unwrap();
    for (path, mode) in [("", 0o755), ("run", 0o755), ("run/attach", 0o755), ("run/attach/demo", 0o666)] {
        fs::set_permissions(rig.path(path), Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn status_shows_settings_traffic_and_attached_users() {
    let mut rig = Rig::new("baud = 115200");
    rig.serve_logins(true);
    rig.start_plugged();
    rig.say(b"12345");
    rig.wait_for_log("12345");
    let mut client = Client::start(rig.ssh(&["-T", "demo@127.0.0.1"]));
    rig.wait_for_status("1 attached");
    client.type_in("123");
    rig.expect_at_device(b"123");
    let (status, table, aside) = said(rig.consolectl(&["status"]));
    assert_eq!((status, aside.as_str()), (Some(0), ""));
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["PORT", "SETTINGS", "IN", "OUT", "ERRORS", "USERS", "STATE"]);
    assert_eq!(rows[1][..9], ["demo", "115200", "8N1", "5", "3", "-", "demo", "(127.0.0.1,", "writing"]);
    assert_eq!(rows[1].last(), Some(&"open"));
    assert_eq!(rows.len(), 2);
}

#[test]
fn status_continues_after_a_socket_without_a_server() {
    let rig = served("");
    drop(std::os::unix::net::UnixListener::bind(rig.path("run/attach/dead")).unwrap());
    fs::write(rig.path("run/running/dead"), "").unwrap();
    let (status, table, _) = said(rig.consolectl(&["status"]));
    assert_eq!(status, Some(0));
    assert!(table.contains("cannot connect to dead at "), "{table}");
    assert!(table.lines().any(|line| line.starts_with("demo ") && line.ends_with("open")), "{table}");
}

#[test]
fn status_does_not_start_a_port_that_does_not_run() {
    let rig = served("");
    let sleeping = std::os::unix::net::UnixListener::bind(rig.path("run/attach/sleeping")).unwrap();
    sleeping.set_nonblocking(true).unwrap();
    let (status, table, _) = said(rig.consolectl(&["status"]));
    assert_eq!(status, Some(0));
    let row = |line: &str| line.starts_with("sleeping ") && line.ends_with("not running");
    assert!(table.lines().any(row), "{table}");
    assert!(sleeping.accept().is_err(), "it was asked");
}

#[test]
fn a_port_that_does_not_answer_times_out() {
    let rig = Rig::new("");
    // The listener is the test's, which never accepts.
    let (status, _, aside) = said(rig.consolectl(&["connect", "demo"]));
    assert_eq!((status, aside.as_str()), (Some(1), "consolectl: no response from demo within 10 s\n"));
}

#[test]
fn a_systemctl_that_fails_is_quoted() {
    let rig = Rig::new("");
    fs::remove_dir_all(rig.path("run/running")).unwrap();
    let program = rig.path("systemctl");
    fs::write(&program, "#!/bin/sh\necho 'Failed to connect to bus: Host is down' >&2\nexit 1\n").unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let mut command = rig.consolectl(&["status"]);
    command.env("PATH", format!("{}:/usr/bin:/bin", rig.dir.path().display()));
    let (status, table, aside) = said(command);
    assert_eq!((status, table.as_str()), (Some(1), ""));
    let wanted = "consolectl: cannot list running ports: systemctl: Failed to connect to bus: Host is down";
    assert!(aside.starts_with(wanted), "{aside}");
}

#[test]
fn a_port_that_is_not_served_is_one_sentence_and_exit_status_1() {
    let rig = served("");
    for (words, wanted) in [
        (&["connect", "ttyUSB7"][..], "consolectl: there is no port ttyUSB7: the ports are demo\n"),
        (&["connect", "dmeo"], "consolectl: there is no port dmeo: did you mean demo?\n"),
        (&["log", "emo"], "consolectl: there is no port emo: did you mean demo?\n"),
        (&["grep", "x", "ttyUSB7"], "consolectl: there is no port ttyUSB7: the ports are demo\n"),
        (&["send", "ttyUSB7", "x"], "consolectl: there is no port ttyUSB7: the ports are demo\n"),
        (&["who", "ttyUSB7"], "consolectl: there is no port ttyUSB7: the ports are demo\n"),
    ] {
        let (status, _, aside) = said(rig.consolectl(words));
        assert_eq!((status, aside.as_str()), (Some(1), wanted), "{words:?}");
    }
}

#[test]
fn a_unique_abbreviation_of_a_name_is_accepted() {
    let rig = served("");
    let (status, table, aside) = said(rig.consolectl(&["status", "de", "--json"]));
    assert_eq!((status, aside.as_str()), (Some(0), ""));
    assert!(table.starts_with("[{\"port\":\"demo\""), "{table}");
    let mut session = Client::start(rig.consolectl(&["connect", "d"]));
    rig.wait_for_status("1 attached");
    session.type_in("through");
    rig.expect_at_device(b"through");
    let (status, who, _) = said(rig.consolectl(&["who", "demo"]));
    assert_eq!((status, who.lines().count()), (Some(0), 2), "{who}");
}

#[test]
fn no_sockets_at_all_is_one_sentence_and_exit_status_1() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_consolectl"));
    command.arg("--runtime-dir").arg(directory.path()).arg("status");
    let (status, _, aside) = said(command);
    assert_eq!(status, Some(1));
    assert!(aside.starts_with("consolectl: no ports are served ("), "{aside}");
    assert_eq!(aside.lines().count(), 1);
}

#[test]
fn a_usage_error_is_exit_status_2() {
    let rig = Rig::new("");
    for arguments in [&["connect"][..], &["connect", "../etc"], &["connect", "a%b"], &["reboot"]] {
        let (status, shown, aside) = said(rig.consolectl(arguments));
        assert_eq!(status, Some(2), "{arguments:?}: {aside}");
        assert!(shown.is_empty() && !aside.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_closed_output_does_not_panic() {
    let rig = served("");
    let mut command = rig.consolectl(&["status"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{output:?}");
}

#[test]
fn a_terminal_that_was_closed_does_not_panic() {
    let rig = Rig::new("");
    let port = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_console-port"));
        command.args(arguments);
        command
    };
    let mut foreground = Command::new(env!("CARGO_BIN_EXE_consoleserver"));
    foreground.args(["--check", "/nonexistent"]);
    for (mut command, status) in [
        (rig.consolectl(&["connect", "other"]), 1),
        (rig.consolectl(&["reboot"]), 2),
        (rig.consolectl(&["help"]), 1),
        (rig.consolectl(&["show"]), 1),
        (port(&[]), 2),
        (port(&["--help"]), 1),
        (foreground, 1),
    ] {
        // With its master closed, each write to a pty fails with EIO.
        let terminal = nix::pty::openpty(None, None).unwrap();
        drop(terminal.master);
        let end = || Stdio::from(terminal.slave.try_clone().unwrap());
        let ended = command.stdin(Stdio::null()).stdout(end()).stderr(end()).status().unwrap();
        assert_eq!(ended.code(), Some(status), "{command:?}");
    }
}
