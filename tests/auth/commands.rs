//! `authorized_keys_command`: its arguments, and its end.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use consoleserver::auth::protocol::Reply;
use consoleserver::config::RootLogin;

use crate::accounts::Accounts;
use crate::helper::{Helper, KEY, OTHER, PROGRAM, alice, granted};

const CONFIG: &str = "/etc/console-test.toml";
const SCRIPT: &str = "/etc/keys/print";

fn with_command(script: &str) -> Accounts {
    let accounts = alice();
    accounts.authorize("alice", "# none\n");
    accounts.add("keeper", None);
    fs::create_dir("/etc/keys").unwrap();
    fs::write(SCRIPT, format!("#!/bin/sh\n{script}\n")).unwrap();
    accounts.set_mode(SCRIPT, 0o755);
    fs::write(
        CONFIG,
        format!(
            "[access]\nauthorized_keys_command = \"{SCRIPT} %u\"\nauthorized_keys_command_user = \"keeper\"\n"
        ),
    )
    .unwrap();
    accounts
}

fn login(user: &str) -> Helper {
    // As in the sandbox of the ports' login helper, which may not signal other users' processes.
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set=-kill", "--inh-caps=-kill", PROGRAM, "--config", CONFIG])
        .env("SECRET", "of the service");
    Helper::run(command).begin(user, "ttyUSB0", RootLogin::Key)
}

/// Whether a process with this word on its command line runs.
fn runs(word: &str) -> bool {
    Command::new("pgrep").args(["-f", word]).output().unwrap().status.success()
}

#[test]
fn it_gets_nothing_of_ours() {
    let _accounts = with_command(&format!(
        "exec >/etc/homes/keeper/seen; env; echo stdin $(cat | wc -c); \
         for fd in /proc/self/fd/*; do echo \"$fd $(readlink /proc/$$/fd/${{fd##*/}})\"; done; echo '{KEY}'"
    ));
    assert_eq!(login("alice").key(KEY), Reply::Denied);
    let seen = fs::read_to_string("/etc/homes/keeper/seen").unwrap();
    assert!(seen.contains("HOME=/etc/homes/keeper\n") && seen.contains("stdin 0\n"), "{seen}");
    for ours in ["SECRET", "LISTEN_FDS", "socket:"] {
        assert!(!seen.contains(ours), "{ours}: {seen}");
    }
}

#[test]
fn an_agent_full_of_keys_costs_one_run() {
    let accounts = with_command(&format!("echo x >>/etc/homes/keeper/runs; echo '{KEY}'"));
    let mut helper = login("alice");
    for _ in 0..5 {
        assert_eq!(helper.offer(OTHER), Reply::Denied);
    }
    assert_eq!(helper.offer(KEY), Reply::Acceptable);
    granted(helper.key(KEY));
    let runs = || fs::read_to_string("/etc/homes/keeper/runs").unwrap().lines().count();
    assert_eq!(runs(), 1);
    // A command with the key among its arguments is run for each key.
    let asked = fs::read_to_string(CONFIG).unwrap().replace("%u", "%u %f");
    fs::write(CONFIG, asked).unwrap();
    let mut helper = login("alice");
    assert_eq!(helper.offer(OTHER), Reply::Denied);
    granted(helper.key(KEY));
    assert_eq!(runs(), 3);
    drop(accounts);
}

#[test]
fn it_is_ended_in_time_with_all_that_it_has_started() {
    let _accounts =
        with_command("sleep 7771 & setsid sleep 7772 & (setsid sh -c 'sleep 7773; true' &) ; sleep 7774");
    let began = Instant::now();
    let mut helper = login("alice");
    assert_eq!(helper.key(KEY), Reply::Denied);
    assert!(began.elapsed() >= Duration::from_secs(15));
    assert!(!runs("sleep 777[1-4]"), "something was left");
    // The second key does not wait for it again.
    let again = Instant::now();
    assert_eq!(helper.key(OTHER), Reply::Denied);
    assert!(again.elapsed() < Duration::from_secs(15));
    granted(helper.password("sesame"));
    helper.ends_saying("it ran longer than 15 s and was killed");
}

#[test]
fn its_remaining_processes_are_killed() {
    let _accounts = with_command(&format!("setsid sleep 7781 >/dev/null 2>&1 & echo '{KEY}'"));
    granted(login("alice").key(KEY));
    assert!(!runs("sleep 778[1]"));
}

#[test]
fn excessive_output_is_cut_off_and_a_failure_is_reported() {
    let _accounts = with_command("yes");
    let mut helper = login("alice");
    assert_eq!(helper.key(KEY), Reply::Denied);
    helper.ends_saying("it printed more than 1048576 bytes");

    fs::write(SCRIPT, format!("#!/bin/sh\necho '{KEY}'; echo 'cannot reach ldap://dir' >&2; exit 3\n"))
        .unwrap();
    let mut helper = login("alice");
    assert_eq!(helper.key(KEY), Reply::Denied);
    helper.ends_saying("it ended with exit status 3: \"cannot reach ldap://dir\"");
}

#[test]
fn an_unknown_user_costs_a_run_too_and_the_script_never_sees_the_name() {
    let _accounts = with_command(&format!("echo \"$1\" >>/etc/homes/keeper/names; echo '{KEY}'"));
    for user in ["mallory", "../../etc/x"] {
        assert_eq!(login(user).key(KEY), Reply::Denied);
    }
    assert_eq!(fs::read_to_string("/etc/homes/keeper/names").unwrap(), "nobody\nnobody\n");
}

#[test]
fn a_configuration_that_is_not_roots_starts_nothing() {
    let accounts = with_command(&format!("echo '{KEY}'"));
    accounts.give(CONFIG.as_ref(), "keeper", 0o644);
    let mut helper = login("alice");
    assert_eq!(helper.key(KEY), Reply::Denied);
    helper.ends_saying(&format!("as root, check the command and run `chown root {CONFIG}`"));
}
