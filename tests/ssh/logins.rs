//! Logins end to end: OpenSSH, the port, `console-auth`, PAM and real accounts.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use crate::accounts::Accounts;
use crate::client::Client;
use crate::rig::{Rig, TIMEOUT};

const CONFIG: &str = "[access]\ngroups = [\"dialout\"]\n[ports.demo]\ndevice = \"@DIR@/dev/demo\"\n";

/// Alice, who may use the console, and a port that she may use.
fn served() -> (Accounts, Rig) {
    let accounts = Accounts::enter();
    accounts.add("alice", Some("sesame"));
    accounts.run(&["usermod", "-aG", "dialout", "alice"]);
    let mut rig = Rig::with_config(CONFIG);
    rig.serve_logins(false);
    rig.start_plugged();
    (accounts, rig)
}

/// OpenSSH that is given this password by sshpass, once.
pub fn with_password(rig: &Rig, user_at_host: &str, password: &str) -> Client {
    let ssh = rig.ssh(&["-tt", "-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1"]);
    let mut command = Command::new("sshpass");
    command.args(["-p", password]).arg(ssh.get_program()).args(ssh.get_args()).arg(user_at_host);
    Client::start(command)
}

fn with_key(rig: &Rig, user: &str) -> Client {
    Client::start(rig.ssh(&["-tt", "-o", "BatchMode=yes", &format!("{user}@127.0.0.1")]))
}

fn public_key(rig: &Rig) -> String {
    std::fs::read_to_string(rig.path("key.pub")).unwrap()
}

#[track_caller]
fn gets_the_console(rig: &Rig, mut client: Client) {
    client.sees("[demo 9600 8N1; ^Ec? for help]");
    client.type_in("it is me\r");
    rig.expect_at_device(b"it is me\r");
    client.type_in("\x05c.");
    client.ends_with(0);
    rig.wait_for_status("0 attached");
}

/// Denied, with OpenSSH's message for every denial.
#[track_caller]
fn is_refused(rig: &Rig, mut client: Client, why: &str) {
    let status = client.ends();
    assert_ne!(status.code(), Some(0));
    let said = client.aside();
    assert!(said.contains("Permission denied"), "{said}");
    assert!(client.shown().is_empty());
    crate::rig::until(why, || (rig.journal() + &rig.login_journal()).contains(why).then_some(()));
}

#[test]
fn by_password_over_ipv4_and_ipv6() {
    let (_accounts, rig) = served();
    gets_the_console(&rig, with_password(&rig, "alice@127.0.0.1", "sesame"));
    gets_the_console(&rig, with_password(&rig, "alice@::1", "sesame"));
    let journal = rig.login_journal();
    assert!(journal.contains(r#"login of "alice" to demo from 127.0.0.1: granted"#), "{journal}");
    assert!(journal.contains(r#"login of "alice" to demo from ::1: granted"#), "{journal}");
}

#[test]
fn by_key_and_the_others_see_the_accounts_name() {
    let (accounts, rig) = served();
    accounts.authorize("alice", &public_key(&rig));
    accounts.add("bob", Some("open"));
    accounts.run(&["usermod", "-aG", "dialout", "bob"]);
    let mut alice = with_key(&rig, "alice");
    alice.sees("[demo ");
    let mut bob = with_password(&rig, "bob@::1", "open");
    bob.sees("[alice (127.0.0.1) has write access; you are read-only");
    alice.sees("[bob (::1) attached, read-only]");
}

#[test]
fn by_two_questions_of_pam_one_after_the_other() {
    let (accounts, rig) = served();
    accounts.pam_service(
        "auth required pam_unix.so\n\
         auth required pam_oath.so usersfile=/etc/users.oath window=2 digits=6\n\
         account required pam_unix.so\n",
    );
    // The secret and the value of RFC 4226, appendix D.
    std::fs::write("/etc/users.oath", "HOTP alice - 3132333435363738393031323334353637383930\n").unwrap();
    accounts.set_mode("/etc/users.oath", 0o600);
    let ssh = rig.ssh(&["-tt", "-o", "PreferredAuthentications=keyboard-interactive", "alice@127.0.0.1"]);
    let words: Vec<_> = ssh.get_args().map(|word| word.to_str().unwrap()).collect();
    let script = format!(
        "set timeout {}\n\
         spawn -noecho ssh {}\n\
         proc await {{words}} {{\n\
           expect -ex $words {{}} timeout {{ exit 3 }} eof {{ exit 4 }}\n\
         }}\n\
         await \"Password: \"\n\
         send \"sesame\\r\"\n\
         await \"One-time password (OATH) for `alice': \"\n\
         send \"755224\\r\"\n\
         await \"for help\\]\"\n\
         send \"it is me\\r\\005c.\"\n\
         expect eof {{}} timeout {{ exit 3 }}\n\
         exit [lindex [wait] 3]\n",
        TIMEOUT.as_secs(),
        words.join(" "),
    );
    let output = Command::new("expect").args(["-c", &script]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    rig.expect_at_device(b"it is me\r");
}

#[test]
fn a_wrong_password_is_refused() {
    let (_accounts, rig) = served();
    is_refused(&rig, with_password(&rig, "alice@127.0.0.1", "wrong"), "Authentication failure");
}

#[test]
fn a_mistyped_password_may_be_typed_again() {
    let (_accounts, rig) = served();
    let ask = rig.path("ask");
    let script = "#!/bin/sh\n[ -e \"$0.asked\" ] && exec echo sesame\n: >\"$0.asked\"\necho sesmae\n";
    std::fs::write(&ask, script).unwrap();
    std::fs::set_permissions(&ask, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut ssh = rig.ssh(&["-tt", "-o", "PreferredAuthentications=password", "alice@127.0.0.1"]);
    ssh.env("SSH_ASKPASS", ask).env("SSH_ASKPASS_REQUIRE", "force");
    gets_the_console(&rig, Client::start(ssh));
    assert!(rig.login_journal().contains("Authentication failure"), "{}", rig.login_journal());
}

#[test]
fn an_unknown_user_is_refused() {
    let (_accounts, rig) = served();
    is_refused(&rig, with_password(&rig, "mallory@127.0.0.1", "sesame"), "no such user");
}

#[test]
fn a_user_in_no_access_group_is_denied_by_password_and_by_key() {
    let (accounts, rig) = served();
    accounts.add("bob", Some("open"));
    accounts.authorize("bob", &public_key(&rig));
    let why = "bob from 127.0.0.1 denied: not in any of the access groups of demo";
    is_refused(&rig, with_password(&rig, "bob@127.0.0.1", "open"), why);
    is_refused(&rig, with_key(&rig, "bob"), why);
}

#[test]
fn root_is_refused_by_password_and_admitted_by_key() {
    let (accounts, rig) = served();
    rig.configure(&CONFIG.replace("\"dialout\"", "\"root\""));
    rig.apply();
    accounts.set_password("root", "toor");
    let why = "denied (password): root may log in by key only";
    is_refused(&rig, with_password(&rig, "root@127.0.0.1", "toor"), why);
    accounts.rehome_root();
    accounts.authorize("root", &public_key(&rig));
    gets_the_console(&rig, with_key(&rig, "root"));
}

#[test]
fn a_locked_account_is_refused_by_password_and_by_key() {
    let (accounts, rig) = served();
    accounts.authorize("alice", &public_key(&rig));
    accounts.run(&["usermod", "-L", "alice"]);
    let why = "denied (password): the account is locked";
    is_refused(&rig, with_password(&rig, "alice@127.0.0.1", "sesame"), why);
    is_refused(&rig, with_key(&rig, "alice"), "denied (key): the account is locked");
}

#[test]
fn without_a_login_helper_all_logins_are_denied_and_the_reason_is_logged() {
    let accounts = Accounts::enter();
    accounts.add("alice", Some("sesame"));
    let mut rig = Rig::with_config(CONFIG);
    rig.start_plugged();
    let why = "login failed: the login helper is unreachable at ";
    is_refused(&rig, with_password(&rig, "alice@127.0.0.1", "sesame"), why);
}
