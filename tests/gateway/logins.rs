//! Logins and the users that sessions run as.

use std::fs;
use std::process::Command;

use crate::bench::Bench;
use crate::client::Client;
use crate::rig::{run, until};

fn with_password(bench: &Bench, user: &str, password: &str) -> Client {
    let ssh =
        bench.ssh(&["-tt", "-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1"]);
    let mut command = Command::new("sshpass");
    command
        .args(["-p", password])
        .arg(ssh.get_program())
        .args(ssh.get_args())
        .arg(format!("{user}@127.0.0.1"));
    Client::start(command)
}

#[test]
fn by_password_with_a_prompt() {
    let bench = Bench::new();
    let mut client = with_password(&bench, "alice", "sesame");
    client.sees("at your service\r\n");
    client.type_in("exit 0\r");
    client.ends_with(0);
    bench
        .wait_for_journal("login of \"alice\" to the admin CLI from 127.0.0.1: granted as alice by password");
    bench.wait_for_journal("session ended, exit status 0");
    bench.helpers_have_ended();
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_refused_alike() {
    let bench = Bench::new();
    for (user, password) in [("alice", "wrong"), ("mallory", "sesame")] {
        let mut client = with_password(&bench, user, password);
        assert_ne!(client.ends().code(), Some(0));
        assert!(client.aside().contains("Permission denied"), "{}", client.aside());
    }
    bench.helpers_have_ended();
}

#[test]
fn a_session_runs_as_the_user_in_a_clean_environment() {
    let bench = Bench::new();
    let id = fs::metadata(bench.accounts.home("alice")).unwrap();
    let (uid, gid) = (std::os::unix::fs::MetadataExt::uid(&id), std::os::unix::fs::MetadataExt::gid(&id));
    let home = bench.accounts.home("alice");
    let expected = |term: &str| {
        format!(
            "user {uid}:{uid} group {gid}:{gid}\n\
             names alice adm,alice,dialout\n\
             variables HOME={0} LANG=C.UTF-8 LOGNAME=alice PATH=/usr/bin:/bin {term}USER=alice\n\
             at {0}\n\
             leader yes\n",
            home.display()
        )
    };
    let mut piped = bench.command("report");
    piped.ends_with(0);
    let shown = String::from_utf8(piped.shown()).unwrap();
    assert_eq!(shown, expected("") + "descriptors 0,1,2\n");

    let mut ssh = bench.ssh(&["-tt", "-o", "SendEnv=LC_ALL SECRET", "alice@127.0.0.1", "report"]);
    ssh.env("LC_ALL", "C").env("SECRET", "y").env("TERM", "vt100");
    let mut client = Client::start(ssh);
    client.ends_with(0);
    let shown = String::from_utf8(client.shown()).unwrap().replace('\r', "");
    let terminal = format!("terminal of {uid}, tty, 0620\nin control\ndescriptors 0,1,2\n");
    assert_eq!(shown, expected("TERM=vt100 ") + &terminal);
    bench.wait_for_journal("session started, command \"report\"");
}

#[test]
fn a_user_without_a_home_begins_at_the_root() {
    let bench = Bench::new();
    let home = bench.accounts.home("alice");
    fs::remove_dir_all(&home).unwrap();
    let mut client = with_password(&bench, "alice", "sesame");
    client.sees("at your service\r\n");
    client.type_in("report\r");
    client.sees("at /\r\n");
}

#[test]
fn a_port_behind_the_user_name_is_its_console() {
    let bench = Bench::new();
    let mut client = Client::start(bench.ssh(&["-tt", "alice:ttyUSB3@127.0.0.1"]));
    client.sees("words: connect|--|ttyUSB3\r\n");
    client.type_in("hello\r");
    client.sees("typed hello\r\n");
    bench.wait_for_journal("login of \"alice\" to ttyUSB3 from 127.0.0.1: granted as alice by key");
    // The end of input ends the session, as on the port's own listener.
    client.end_input();
    client.ends_with(0);
    bench.helpers_have_ended();

    let mut piped = Client::start(bench.ssh(&["-T", "alice:/dev/ttyUSB3@127.0.0.1"]));
    piped.type_in("one\n");
    piped.end_input();
    piped.ends_with(0);
    assert_eq!(String::from_utf8(piped.shown()).unwrap(), "words: connect|--|ttyUSB3\ntyped one\n");
}

#[test]
fn an_invalid_port_and_a_command_for_a_console_are_reported_after_the_login() {
    let bench = Bench::new();
    let told = |name: &str, command: &[&str]| {
        let mut client = Client::start(bench.ssh(&[&["-T", &format!("{name}@127.0.0.1")], command].concat()));
        client.ends_with(2);
        assert!(client.shown().is_empty());
        client.aside()
    };
    assert!(told("alice:a%b", &[]).starts_with("invalid port name \"a%b\": use 1 to 32 characters of"));
    assert!(told("alice:ttyUSB3", &["show"]).starts_with("ttyUSB3 is a console and accepts no commands"));
    let mut client = with_password(&bench, "alice:a%b", "wrong");
    client.ends();
    assert!(!client.aside().contains("port name"), "{}", client.aside());
    bench.helpers_have_ended();
    until("both lines", || (bench.journal().matches("granted as alice by key").count() == 2).then_some(()));
}

#[test]
fn a_certificate_logs_in_until_it_is_revoked() {
    let bench = Bench::new();
    let path = |name: &str| bench.path(name).to_str().unwrap().to_owned();
    let keygen = |words: &[&str]| run(Command::new("ssh-keygen").arg("-q").args(words));
    keygen(&["-t", "ed25519", "-N", "", "-f", &path("ca")]);
    keygen(&["-s", &path("ca"), "-I", "laptop", "-n", "operator", &path("key.pub")]);
    let home = bench.accounts.home("alice");
    let ca = fs::read_to_string(bench.path("ca.pub")).unwrap();
    bench.accounts.authorize("alice", &format!("cert-authority,principals=\"operator,root\" {ca}"));
    let certificate = format!("CertificateFile={}", path("key-cert.pub"));
    let log_in = || {
        bench.ssh(&["-o", "BatchMode=yes", "-o", &certificate, "alice@127.0.0.1", "report"]).output().unwrap()
    };
    let output = log_in();
    assert!(output.status.success(), "{output:?}");
    bench.wait_for_journal("to the admin CLI from 127.0.0.1: granted as alice by certificate \"laptop\"");
    bench.accounts.authorize("alice", &format!("cert-authority {ca}"));
    assert!(!log_in().status.success());
    bench.wait_for_journal("the certificate is for none of the principals \"alice\"");

    // The configuration is root's, and so is the directory; and so is the list of what is revoked.
    bench.accounts.authorize("alice", &format!("cert-authority,principals=\"operator\" {ca}"));
    fs::create_dir_all(bench.path("root/etc/consoleserver")).unwrap();
    let revoked = home.join("revoked");
    fs::write(&revoked, "").unwrap();
    let config = format!("[access]\nrevoked = {revoked:?}\n");
    fs::write(bench.path("root/etc/consoleserver/config.toml"), config).unwrap();
    assert!(log_in().status.success());
    fs::copy(bench.path("key.pub"), &revoked).unwrap();
    assert!(!log_in().status.success());
    bench.wait_for_journal("denied (key): the certificate \"laptop\" (serial 0) of CA SHA256:");
}
