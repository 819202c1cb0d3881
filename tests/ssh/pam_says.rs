//! PAM's messages to a user (PAM_TEXT_INFO, PAM_ERROR_MSG): beside Debian's sshd, with OpenSSH and real PAM modules.

use std::fs;
use std::process::{Command, Stdio};

use jiff::{ToSpan, Zoned};

use crate::accounts::Accounts;
use crate::client::Client;
use crate::logins::with_password;
use crate::rig::{Rig, TIMEOUT};
use crate::sshd::Sshd;

fn served() -> (Accounts, Rig) {
    let accounts = Accounts::enter();
    accounts.add("alice", Some("sesame"));
    let mut rig = Rig::with_config("[access]\ngroups = [\"*\"]\n[ports.demo]\ndevice = \"@DIR@/dev/demo\"\n");
    let key = fs::read_to_string(rig.path("key.pub")).unwrap();
    accounts.authorize("alice", &key);
    rig.serve_logins(false);
    rig.start_plugged();
    (accounts, rig)
}

/// Three days before the password must be changed, within the seven days of warnings.
fn expires_in_three_days(accounts: &Accounts) {
    let changed = Zoned::now().checked_sub(7.days()).unwrap().strftime("%Y-%m-%d").to_string();
    accounts.run(&["chage", "-M", "10", "-W", "7", "-d", &changed, "alice"]);
}

const WARNING: &str = "Warning: your password will expire in 3 days.";

/// OpenSSH with its default verbosity: with LogLevel=ERROR it shows neither instructions nor banners.
fn at_its_usual_level(ssh: Command) -> Command {
    let mut usual = Command::new(ssh.get_program());
    usual.args(
        ssh.get_args().map(|word| if word == "LogLevel=ERROR" { "LogLevel=INFO".as_ref() } else { word }),
    );
    usual
}

/// OpenSSH by keyboard-interactive on a terminal, whose questions get these answers in their order; returns all its output, and its
/// exit status.
fn by_questions(ssh: Command, answers: &[&str], at_the_end: &str) -> (String, i32) {
    by_questions_to("alice@127.0.0.1", ssh, answers, at_the_end)
}

fn by_questions_to(whom: &str, mut ssh: Command, answers: &[&str], at_the_end: &str) -> (String, i32) {
    ssh.args(["-o", "PreferredAuthentications=keyboard-interactive", "-o", "NumberOfPasswordPrompts=1"]);
    ssh.arg(whom);
    let ssh = at_its_usual_level(ssh);
    let words: Vec<_> = ssh.get_args().map(|word| word.to_str().unwrap()).collect();
    let answers: String = answers
        .iter()
        .map(|answer| format!("expect -re \"assword: $\" {{}} timeout {{ exit 103 }} eof {{ exit 104 }}\nsend \"{answer}\\r\"\n"))
        .collect();
    let script = format!(
        "set timeout {}\nspawn -noecho ssh {}\n{answers}{at_the_end}\n\
         expect eof {{}} timeout {{ exit 105 }}\nexit [lindex [wait] 3]\n",
        TIMEOUT.as_secs(),
        words.join(" "),
    );
    let output = Command::new("expect").args(["-c", &script]).stdin(Stdio::null()).output().unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code().unwrap())
}

const LEAVES: &str = "expect -ex \"for help\\]\" {} timeout { exit 106 } eof { exit 107 }\nsend \"\\005c.\"";

#[test]
fn an_expiring_password_is_reported_at_the_beginning_of_the_session() {
    let (accounts, rig) = served();
    expires_in_three_days(&accounts);
    let (seen, status) = by_questions(rig.ssh(&["-tt"]), &["sesame"], LEAVES);
    assert_eq!((seen.matches(WARNING).count(), status), (1, 0), "{seen}");
    let sshd = Sshd::start(&rig, "");
    let (seen, _) = by_questions(sshd.ssh(&rig, &["-tt"]), &["sesame"], "");
    assert!(seen.contains(WARNING), "sshd: {seen}");

    let mut by_key = Client::start(rig.ssh(&["-tt", "alice@127.0.0.1"]));
    by_key.sees(WARNING);
    by_key.sees("[demo ");
    let mut by_password = with_password(&rig, "alice@127.0.0.1", "sesame");
    by_password.sees(WARNING);
    // A program that reads the console's bytes gets only these.
    let scripted = Client::start(rig.ssh(&["-T", "alice@127.0.0.1"]));
    scripted.is_told(WARNING);
    assert!(!String::from_utf8_lossy(&scripted.shown()).contains("Warning"));
}

#[test]
fn an_authenticated_user_with_a_denied_account_gets_the_reason() {
    let (accounts, rig) = served();
    let sshd = Sshd::start(&rig, "");
    let why = "Your account has expired; please contact your system administrator.";
    accounts.run(&["chage", "-E", "2020-01-01", "alice"]);
    for ssh in [rig.ssh(&["-tt"]), sshd.ssh(&rig, &["-tt"])] {
        let (seen, status) = by_questions(ssh, &["sesame"], "");
        assert_eq!((seen.matches(why).count(), status), (1, 255), "{seen}");
        assert!(seen.contains("Permission denied"), "{seen}");
    }
    let words = ["-T", "alice@127.0.0.1"];
    for ssh in [rig.ssh(&words), sshd.ssh(&rig, &words)] {
        let mut client = Client::start(at_its_usual_level(ssh));
        client.ends_with(255);
        assert!(client.aside().contains(why), "{}", client.aside());
    }
    let mut client = with_password(&rig, "alice@127.0.0.1", "sesame");
    client.ends_with(255);
    assert!(client.aside().contains(why), "{}", client.aside());

    accounts.run(&["chage", "-E", "-1", "alice"]);
    fs::write("/etc/nologin", "Down for repair.\n").unwrap();
    for ssh in [rig.ssh(&["-tt"]), sshd.ssh(&rig, &["-tt"])] {
        let (seen, status) = by_questions(ssh, &["sesame"], "");
        assert_eq!((seen.matches("Down for repair.").count(), status), (1, 255), "{seen}");
    }
}

#[test]
fn a_password_that_must_be_changed_is_changed_in_the_same_conversation() {
    let (accounts, rig) = served();
    let sshd = Sshd::start(&rig, "");
    let answers = ["sesame", "sesame", "open sesame 8", "open sesame 8"];
    for (ssh, end) in [(sshd.ssh(&rig, &["-tt"]), ""), (rig.ssh(&["-tt"]), LEAVES)] {
        accounts.set_password("alice", "sesame");
        accounts.run(&["chage", "-d", "0", "alice"]);
        let (seen, status) = by_questions(ssh, &answers, end);
        assert!(seen.contains("You are required to change your password immediately"), "{seen}");
        for question in ["Current password: ", "New password: ", "Retype new password: "] {
            assert!(seen.contains(question), "{question}: {seen}");
        }
        // (sshd's shell is nologin.)
        assert_eq!(status, if end.is_empty() { 1 } else { 0 }, "{seen}");
    }
    by_questions(rig.ssh(&["-tt"]), &["open sesame 8"], LEAVES);

    accounts.run(&["chage", "-d", "0", "alice"]);
    let mut by_key = Client::start(rig.ssh(&["-T", "alice@127.0.0.1"]));
    by_key.ends_with(255);
    let told = by_key.aside();
    assert!(told.contains("You are required to change your password immediately"), "{told}");
    assert!(told.contains("log in by keyboard-interactive"), "{told}");
}

#[test]
fn texts_before_and_after_a_refusal_are_shown_and_no_terminal_obeys_them() {
    let (accounts, rig) = served();
    fs::write("/etc/notice", b"Tonight \x1b]0;evil\x07 at ten.\nSecond line.\n").unwrap();
    let sh = "#!/bin/sh\nprintf 'left \\033[31mred'\n";
    fs::write("/etc/say", sh).unwrap();
    accounts.set_mode("/etc/say", 0o755);
    accounts.pam_service(
        "auth optional pam_echo.so file=/etc/notice\n\
         auth [default=1 success=ignore] pam_unix.so\n\
         auth sufficient pam_permit.so\n\
         auth optional pam_exec.so stdout /etc/say\n\
         auth required pam_deny.so\n\
         account required pam_unix.so\n",
    );
    let (seen, status) = by_questions(rig.ssh(&["-tt"]), &["wrong"], "");
    assert_eq!(status, 255, "{seen}");
    for text in ["Tonight ", " at ten.", "Second line.", "left "] {
        assert!(seen.contains(text), "{text}: {seen}");
    }
    assert!(!seen.contains('\u{1b}') && !seen.contains('\u{7}'), "{seen:?}");
    // The same for a user who does not exist: an unauthenticated client gains no information.
    let (seen, _) = by_questions_to("mallory@127.0.0.1", rig.ssh(&["-tt"]), &["wrong"], "");
    assert!(seen.contains("left "), "{seen}");
}

#[test]
fn a_flood_of_text_is_cut() {
    let (accounts, rig) = served();
    fs::write("/etc/notice", "x".repeat(70) + "\n").unwrap();
    let mut service = "auth optional pam_echo.so file=/etc/notice\n".repeat(200);
    service += "auth required pam_unix.so\naccount required pam_unix.so\n";
    accounts.pam_service(&service);
    let (seen, status) = by_questions(rig.ssh(&["-tt"]), &["sesame"], LEAVES);
    assert_eq!(status, 0, "{seen}");
    let said = seen.matches('x').count();
    assert!((3000..=4096).contains(&said), "{said}");
}
