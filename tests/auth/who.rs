//! Checks of accounts, independent of the method: locked and expired accounts, nologin, root, the demonstration key.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use consoleserver::auth::protocol::{Identity, Reply, Request};
use consoleserver::config::RootLogin;
use nix::unistd::User;

use crate::accounts::{Accounts, HOMES};
use crate::helper::{Ended, Helper, KEY, OTHER, PROGRAM, alice, granted, prompts};

#[test]
fn a_locked_account_is_refused_by_any_method() {
    let accounts = alice();
    accounts.run(&["usermod", "-L", "alice"]);
    let mut helper = Helper::login("alice");
    assert_eq!(helper.offer(KEY), Reply::Denied);
    assert_eq!(helper.key(KEY), Reply::Denied);
    assert_eq!(helper.password("sesame"), Reply::Denied);
    helper.ends_saying("denied (key): the account is locked");
}

/// A module that authenticates elsewhere, such as Kerberos, and does not know of a lock in /etc/shadow.
const PROVES_ELSEWHERE: &str = "
auth     optional  pam_unix.so
auth     required  pam_permit.so
account  required  pam_permit.so
";

#[test]
fn a_lock_holds_against_a_password_that_is_proved_elsewhere() {
    let accounts = alice();
    accounts.pam_service(PROVES_ELSEWHERE);
    granted(Helper::login("alice").password("known elsewhere"));
    accounts.run(&["usermod", "-L", "alice"]);
    let mut helper = Helper::login("alice");
    assert_eq!(helper.password("known elsewhere"), Reply::Denied);
    helper.ends_saying("denied (password): the account is locked");
}

#[test]
fn an_account_that_never_had_a_password_logs_in_by_key() {
    let accounts = Accounts::enter();
    accounts.add("carol", None);
    accounts.authorize("carol", KEY);
    granted(Helper::login("carol").key(KEY));
    accounts.run(&["usermod", "-p", "*", "carol"]);
    granted(Helper::login("carol").key(KEY));
}

#[test]
fn an_expired_account_is_refused_by_any_method() {
    let accounts = alice();
    accounts.run(&["chage", "-E", "2020-01-01", "alice"]);
    let mut helper = Helper::login("alice");
    let why = "Your account has expired; please contact your system administrator.";
    assert_eq!(helper.key(KEY), Reply::AccountDenied(why.to_owned()));
    assert_eq!(helper.password("sesame"), Reply::AccountDenied(why.to_owned()));
    let journal = helper.ends_saying("denied (key): PAM account: ");
    assert_eq!(journal.matches("Your account has expired").count(), 2, "{journal}");
}

#[test]
fn a_password_that_must_be_changed_is_changed_where_it_can_be_asked_for() {
    let accounts = alice();
    accounts.run(&["chage", "-d", "0", "alice"]);
    let mut helper = Helper::login("alice");
    for told in [helper.key(KEY), {
        assert_eq!(helper.ask(&Request::Password), prompts("Password: "));
        helper.answer("sesame")
    }] {
        let Reply::AccountDenied(told) = told else { panic!("{told:?}") };
        assert!(told.starts_with("You are required to change your password immediately"), "{told}");
        assert!(told.ends_with("ssh -o PreferredAuthentications=keyboard-interactive"), "{told}");
    }
    let Reply::Prompts { instructions, prompts } = helper.password("sesame") else { panic!("no question") };
    assert!(
        instructions.starts_with("You are required to change your password immediately"),
        "{instructions}"
    );
    assert_eq!(prompts[0].text, "Current password: ");
    assert!(matches!(helper.answer("sesame"), Reply::Prompts { .. }));
    assert!(matches!(helper.answer("open sesame 8"), Reply::Prompts { .. }));
    granted(helper.answer("open sesame 8"));
    helper.ends_saying("password changed");
    granted(Helper::login("alice").password("open sesame 8"));
}

#[test]
fn an_expired_password_that_is_not_changed_is_denied() {
    let accounts = alice();
    accounts.run(&["chage", "-d", "0", "alice"]);
    let mut helper = Helper::login("alice");
    assert!(matches!(helper.password("sesame"), Reply::Prompts { .. }));
    assert!(matches!(helper.answer("sesame"), Reply::Prompts { .. }));
    assert!(matches!(helper.answer("open sesame 8"), Reply::Prompts { .. }));
    let refused = helper.answer("another one");
    assert!(matches!(&refused, Reply::AccountDenied(_) | Reply::Prompts { .. }), "{refused:?}");
    helper.end();
    assert!(
        matches!(Helper::login("alice").password("sesame"), Reply::Prompts { .. }),
        "it has expired still"
    );
}

#[test]
fn while_nologin_exists_only_root_gets_in() {
    let accounts = alice();
    fs::write("/etc/nologin", "Down for repair.\n").unwrap();
    let mut helper = Helper::login("alice");
    let why = Reply::AccountDenied("Down for repair.".to_owned());
    assert_eq!(helper.key(KEY), why);
    assert_eq!(helper.password("sesame"), why);
    helper.ends_saying("(Down for repair.)");
    accounts.set_password("root", "rootpw");
    let mut helper = Helper::start().begin("root", "ttyUSB0", RootLogin::Yes);
    assert_eq!(helper.password("rootpw"), Reply::Messages("Down for repair.\n".to_owned()));
    granted(helper.reply().unwrap());
}

#[test]
fn nologin_counts_in_run_and_without_our_pam_service_too() {
    let accounts = alice();
    fs::remove_file("/etc/pam.d/consoleserver").unwrap();
    accounts.run(&["mount", "-t", "tmpfs", "test-run", "/run"]);
    granted(Helper::login("alice").key(KEY));
    fs::write("/run/nologin", "").unwrap();
    let mut helper = Helper::login("alice");
    assert_eq!(helper.key(KEY), Reply::Denied);
    helper.ends_saying("/run/nologin exists");
}

/// Root with the password `rootpw`, the key `KEY`, and a home that is not the machine's /root.
fn root() -> Accounts {
    let accounts = Accounts::enter();
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let moved = users.replacen(":/root:", &format!(":{HOMES}/root:"), 1);
    assert_ne!(moved, users, "root's home is /root");
    fs::write("/etc/passwd", moved).unwrap();
    accounts.set_password("root", "rootpw");
    accounts.authorize("root", KEY);
    accounts
}

#[test]
fn root_logs_in_by_key_and_by_password_only_where_that_is_allowed() {
    let _accounts = root();
    let begin = |policy| Helper::start().begin("root", "ttyUSB0", policy);

    let mut helper = begin(RootLogin::Key);
    assert_eq!(helper.password("rootpw"), Reply::Denied);
    assert_eq!(granted(helper.key(KEY)).uid, 0);
    helper.ends_saying("denied (password): root may log in by key only");

    granted(begin(RootLogin::Yes).password("rootpw"));
    granted(begin(RootLogin::Yes).key(KEY));

    let mut helper = begin(RootLogin::No);
    assert_eq!(helper.offer(KEY), Reply::Denied);
    assert_eq!(helper.key(KEY), Reply::Denied);
    assert_eq!(helper.password("rootpw"), Reply::Denied);
    helper.ends_saying("denied (key): root may not log in");
}

#[test]
fn a_second_name_of_root_is_root() {
    let accounts = root();
    accounts.run(&["useradd", "--no-log-init", "-o", "-u", "0", "-M", "toor"]);
    accounts.set_password("toor", "rootpw");
    let mut helper = Helper::login("toor");
    assert_eq!(helper.password("rootpw"), Reply::Denied);
    helper.ends_saying("root may log in by key only");
}

#[test]
fn the_demonstration_key_opens_the_demonstration_port_alone() {
    let _accounts = alice();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("demo.pub");
    fs::write(&file, format!("{OTHER} demo\n")).unwrap();
    let demo = || {
        let mut command = Command::new(PROGRAM);
        command.arg("--demo-key").arg(&file);
        Helper::run(command)
    };
    for user in ["alice", "whoever", "-x\n", "root"] {
        let mut helper = demo().begin(user, "demo", RootLogin::No);
        assert_eq!(helper.offer(OTHER), Reply::Acceptable);
        let expected = Identity { name: "demo".to_owned(), uid: 65534, groups: vec![] };
        assert_eq!(granted(helper.key(OTHER)), expected);
    }
    for port in ["ttyUSB0", "demo2", "Demo"] {
        let mut helper = demo().begin("alice", port, RootLogin::Key);
        assert_eq!(helper.offer(OTHER), Reply::Denied, "{port}");
        assert_eq!(helper.key(OTHER), Reply::Denied, "{port}");
    }
    assert_eq!(granted(demo().begin("alice", "demo", RootLogin::Key).key(KEY)).name, "alice");
    assert_eq!(granted(demo().begin("alice", "demo", RootLogin::Key).password("sesame")).name, "alice");
    assert_eq!(Helper::start().begin("alice", "demo", RootLogin::Key).key(OTHER), Reply::Denied);
}

#[test]
fn a_demonstration_key_that_is_none_is_an_error_with_its_path() {
    let Ended { status, journal } = {
        let mut command = Command::new(PROGRAM);
        command.args(["--demo-key", "/etc/hostname"]);
        Helper::run(command).end()
    };
    assert_eq!(status.code(), Some(1));
    assert!(journal.contains("/etc/hostname does not hold one OpenSSH public key"), "{journal}");
}

#[test]
fn without_root_only_the_own_user_gets_in() {
    let accounts = alice();
    accounts.add("bob", Some("bobpw"));
    accounts.authorize("bob", KEY);
    // Alice may have no access to the directory of the sources.
    let program = &Path::new(HOMES).join("console-auth");
    fs::copy(PROGRAM, program).unwrap();
    let alice = User::from_name("alice").unwrap().unwrap();
    let login = |user| {
        let mut command = Command::new(program);
        command.uid(alice.uid.as_raw()).gid(alice.gid.as_raw());
        Helper::run(command).begin(user, "ttyUSB0", RootLogin::Yes)
    };
    assert_eq!(granted(login("alice").key(KEY)).name, "alice");
    assert_eq!(granted(login("alice").password("sesame")).name, "alice");
    assert_eq!(login("alice").password("wrong"), Reply::Denied);
    for (user, password) in [("bob", "bobpw"), ("root", "x")] {
        let mut helper = login(user);
        assert_eq!(helper.password(password), Reply::Denied);
        assert_eq!(helper.key(KEY), Reply::Denied);
        helper.ends_saying("console-auth does not run as root, so only its own user");
    }
}
