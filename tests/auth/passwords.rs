//! Passwords and other prompts of PAM.

use std::fs;
use std::time::{Duration, Instant};

use consoleserver::auth::protocol::{Reply, Request};
use nix::unistd::User;

use crate::accounts::Accounts;
use crate::helper::{Helper, OTHER, alice, granted, prompts};

#[test]
fn the_right_password_is_granted_with_all_groups() {
    let accounts = alice();
    accounts.run(&["usermod", "-aG", "dialout,adm", "alice"]);
    let mut helper = Helper::login("alice");
    let identity = granted(helper.password("sesame"));
    assert_eq!(identity.name, "alice");
    assert_eq!(identity.uid, User::from_name("alice").unwrap().unwrap().uid.as_raw());
    for group in ["alice", "dialout", "adm"] {
        assert!(identity.groups.iter().any(|name| name == group), "{group}: {:?}", identity.groups);
    }
    let ended = helper.end();
    assert!(ended.status.success());
    let line = r#"login of "alice" to ttyUSB0 from 192.0.2.7: granted as alice by password"#;
    assert!(ended.journal.contains(line), "{}", ended.journal);
    assert_eq!(ended.journal.lines().count(), 1, "{}", ended.journal);
}

#[test]
fn a_wrong_password_is_refused_and_the_right_one_may_follow() {
    let _accounts = alice();
    let mut helper = Helper::login("alice");
    assert_eq!(helper.password("wrong"), Reply::Denied);
    granted(helper.password("sesame"));
    let journal = helper.ends_saying("denied (password): PAM authentication: Authentication failure");
    assert!(!journal.contains("wrong") && !journal.contains("sesame"), "{journal}");
}

#[test]
fn an_unknown_user_is_asked_and_delayed_like_a_known_one() {
    let _accounts = alice();
    for (user, reason) in [
        ("alice", "Authentication failure"),
        ("mallory", "no such user"),
        ("-oProxyCommand=x", "invalid user name"),
        ("../../etc/x", "invalid user name"),
        ("evil\n\u{1b}[2Jname", r#""evil\n\u{1b}[2Jname" to ttyUSB0"#),
    ] {
        let began = Instant::now();
        let mut helper = Helper::login(user);
        assert_eq!(helper.offer(OTHER), Reply::Denied);
        assert_eq!(helper.password("wrong"), Reply::Denied);
        // Regardless of PAM's own delay.
        assert!(began.elapsed() >= Duration::from_secs(2), "{user:?} after {:?}", began.elapsed());
        helper.ends_saying(reason);
    }
}

#[test]
fn an_answer_that_no_password_can_be_is_just_wrong() {
    let _accounts = alice();
    let mut helper = Helper::login("alice");
    assert_eq!(helper.password("sesame\0"), Reply::Denied);
    assert_eq!(helper.password(&"x".repeat(5000)), Reply::Denied);
    granted(helper.password("sesame"));
}

#[test]
fn an_empty_password_proves_nothing() {
    let accounts = alice();
    accounts.run(&["passwd", "-d", "alice"]);
    let mut helper = Helper::login("alice");
    assert_eq!(helper.password(""), Reply::Denied);
    helper.ends_saying("PAM authentication");
}

/// Password, then a one-time password; the values are those of RFC 4226, appendix D.
const TWO_FACTORS: &str = "
auth     required  pam_unix.so
auth     required  pam_oath.so usersfile=/etc/users.oath window=2 digits=6
account  required  pam_unix.so
";

fn with_second_factor() -> Accounts {
    let accounts = alice();
    accounts.pam_service(TWO_FACTORS);
    fs::write("/etc/users.oath", "HOTP alice - 3132333435363738393031323334353637383930\n").unwrap();
    accounts.set_mode("/etc/users.oath", 0o600);
    accounts
}

#[test]
fn a_second_factor_is_asked_for_after_the_password() {
    let _accounts = with_second_factor();
    let mut helper = Helper::login("alice");
    assert_eq!(helper.password("sesame"), prompts("One-time password (OATH) for `alice': "));
    granted(helper.answer("755224"));

    let mut helper = Helper::login("alice");
    assert_eq!(helper.password("sesame"), prompts("One-time password (OATH) for `alice': "));
    assert_eq!(helper.answer("755224"), Reply::Denied, "a one-time password is used up");
    assert_eq!(helper.password("wrong"), prompts("One-time password (OATH) for `alice': "));
    assert_eq!(helper.answer("287082"), Reply::Denied);
}

#[test]
fn an_unknown_user_is_asked_for_the_second_factor_as_well() {
    let _accounts = with_second_factor();
    // pam_oath asks users in its file; mallory is in the file but no longer has an account.
    let tokens = fs::read_to_string("/etc/users.oath").unwrap();
    fs::write("/etc/users.oath", format!("{tokens}{}", tokens.replace("alice", "mallory"))).unwrap();
    let mut helper = Helper::login("mallory");
    assert_eq!(helper.password("x"), prompts("One-time password (OATH) for `mallory': "));
    assert_eq!(helper.answer("755224"), Reply::Denied);
    helper.ends_saying("no such user");
}

#[test]
fn messages_of_pam_are_sent_with_the_next_question() {
    let accounts = alice();
    fs::write("/etc/notice", "Maintenance tonight.\n").unwrap();
    accounts.pam_service("auth optional pam_echo.so file=/etc/notice\nauth required pam_unix.so\n");
    let mut helper = Helper::login("alice");
    match helper.ask(&Request::Converse) {
        Reply::Prompts { instructions, prompts } => {
            assert_eq!(instructions.trim(), "Maintenance tonight.");
            assert_eq!(prompts.len(), 1);
        }
        other => panic!("{other:?}"),
    }
}
