//! Host keys: one good key is enough, regardless of the others; and without any, only SSH is not available.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::client::Client;
use crate::rig::{Rig, run, until};

/// A bench whose keys come from `console-auth`, as they do under systemd.
fn by_helper() -> Rig {
    let mut rig = Rig::new("");
    fs::remove_file(rig.path("credentials/hostkey_ed25519")).unwrap();
    rig.serve_logins(true);
    rig
}

/// Logs in with a client that knows only this kind of host key.
fn log_in(rig: &Rig, kind: &str) -> Client {
    let kind = format!("HostKeyAlgorithms={kind}");
    let mut client = Client::start(rig.ssh(&["-o", &kind, "-tt", "demo@127.0.0.1"]));
    client.sees("[demo ");
    client
}

#[test]
fn good_keys_are_served_whatever_lies_beside_them() {
    let mut rig = by_helper();
    let keys = rig.path("hostkeys");
    run(Command::new("ssh-keygen")
        .args(["-q", "-t", "ecdsa", "-N", "", "-f"])
        .arg(keys.join("hostkey_ecdsa")));
    fs::write(keys.join("hostkey_empty"), "").unwrap();
    fs::create_dir(keys.join("hostkey_directory")).unwrap();
    symlink("/nonexistent", keys.join("hostkey_link")).unwrap();
    // A name that systemd refuses as a credential's, and a file larger than all credentials of a unit may be (systemd.exec(5)).
    fs::write(keys.join("hostkey:old"), "x").unwrap();
    fs::write(keys.join("core"), vec![0; 2 << 20]).unwrap();
    rig.start_plugged();

    drop(log_in(&rig, "ssh-ed25519"));
    drop(log_in(&rig, "ecdsa-sha2-nistp256"));
    rig.wait_for_status("; host key ignored: ");
    for name in ["hostkey_empty", "hostkey_directory", "hostkey_link", "hostkey:old", "core"] {
        rig.wait_for_journal(&format!("host key ignored: {}: ", keys.join(name).display()));
    }
    assert!(
        !rig.journal().contains("hostkey_ecdsa"),
        "a key and its public half are not a fault: {}",
        rig.journal()
    );
}

#[test]
fn a_key_that_was_added_is_served_after_a_reload() {
    let mut rig = by_helper();
    rig.start_plugged();
    drop(log_in(&rig, "ssh-ed25519"));
    let key = rig.path("hostkeys/hostkey_ecdsa");
    run(Command::new("ssh-keygen").args(["-q", "-t", "ecdsa", "-N", "", "-f"]).arg(&key));
    rig.apply();
    let only = ["-o", "HostKeyAlgorithms=ecdsa-sha2-nistp256", "demo@127.0.0.1", "log"];
    until("the new key to be served", || rig.ssh(&only).status().unwrap().success().then_some(()));

    // A key that can no longer be loaded stays in use.
    fs::remove_dir_all(rig.path("hostkeys")).unwrap();
    rig.apply();
    rig.wait_for_journal("host keys not reloaded: host keys: ");
    drop(log_in(&rig, "ssh-ed25519"));
}

#[test]
fn without_a_host_key_the_device_is_logged_and_clients_get_the_reason() {
    let mut rig = by_helper();
    let (key, aside) = (rig.path("hostkeys/hostkey_ed25519"), rig.path("aside"));
    fs::rename(&key, &aside).unwrap();
    fs::write(&key, fs::read(&aside).unwrap()).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    rig.start_plugged();
    rig.say(b"a line without users\n");
    rig.wait_for_log("a line without users");
    let status = rig.wait_for_status("; SSH is not available: no usable host key in ");
    assert!(status.contains("mode 0644 allows other users to read it: chmod 600 "), "{status}");
    // `doctor` divides it there: each part would be a problem of its own.
    assert_eq!(status.matches("; ").count(), 1, "{status}");
    let refused = rig.ssh(&["demo@127.0.0.1"]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    let why = "SSH to demo is not available now; for the reason see journalctl -u console@demo";
    assert!(!refused.status.success() && said.contains(why), "{said}");
    let log = rig.consolectl(&["log", "demo"]).output().unwrap();
    assert!(log.status.success() && log.stdout.ends_with(b"a line without users\n"), "{log:?}");

    // Once it is fixed, the next client is served.
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    until("it to be served", || {
        rig.ssh(&["demo@127.0.0.1", "log"]).status().unwrap().success().then_some(())
    });
    rig.wait_for_journal("SSH is available: a host key was loaded");
}

#[test]
fn an_unreachable_login_helper_disables_only_ssh() {
    let mut rig = Rig::new("");
    fs::remove_file(rig.path("credentials/hostkey_ed25519")).unwrap();
    rig.start_plugged();
    rig.say(b"a line\n");
    rig.wait_for_log("a line");
    rig.wait_for_status("; SSH is not available: the login helper is unreachable at ");
}

/// Has an authority certify the bench's host key, for these names and this time.
fn certify(rig: &Rig, words: &[&str]) {
    let key = rig.path("hostkeys/hostkey_ed25519");
    let public = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&key).output().unwrap();
    fs::write(rig.path("host.pub"), public.stdout).unwrap();
    run(Command::new("ssh-keygen")
        .args(["-q", "-h", "-I", "bench", "-s"])
        .arg(rig.path("ca"))
        .args(words)
        .arg(rig.path("host.pub")));
    fs::copy(rig.path("host-cert.pub"), rig.path("hostkeys/hostkey_ed25519-cert.pub")).unwrap();
}

#[test]
fn a_host_certificate_identifies_every_port_by_one_line() {
    let mut rig = by_helper();
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(rig.path("ca")));
    let ca = fs::read_to_string(rig.path("ca.pub")).unwrap();
    certify(&rig, &["-n", "127.0.0.1,localhost", "-V", "-1h:+1h"]);
    rig.start_plugged();
    let known = rig.path("known_hosts");
    let ssh = |options: &[&str]| {
        // ssh uses the first of two values.
        let (strict, file) = ("StrictHostKeyChecking=yes", format!("UserKnownHostsFile={}", known.display()));
        let mut command = Command::new("ssh");
        command.args(["-o", strict, "-o", &file]).args(rig.ssh(options).get_args());
        command.args(["demo@127.0.0.1", "log"]).output().unwrap()
    };
    fs::write(&known, format!("@cert-authority 127.0.0.1,[127.0.0.1]:* {ca}")).unwrap();
    let output = ssh(&[]);
    assert!(output.status.success(), "{output:?}");
    // A name that is not in the certificate is another machine.
    let alias = ["-o", "HostKeyAlias=other", "-o", "HostKeyAlgorithms=ssh-ed25519-cert-v01@openssh.com"];
    fs::write(&known, format!("@cert-authority * {ca}")).unwrap();
    let output = ssh(&alias);
    assert!(!output.status.success(), "{output:?}");
    // A client without the authority is served the key.
    fs::write(
        &known,
        format!("[127.0.0.1]:{} {}", rig.tcp_port, fs::read_to_string(rig.path("host.pub")).unwrap()),
    )
    .unwrap();
    let output = ssh(&[]);
    assert!(output.status.success(), "{output:?}");

    fs::write(&known, format!("@cert-authority * {ca}")).unwrap();
    certify(&rig, &["-n", "127.0.0.1", "-V", "20200101:20210101"]);
    rig.apply();
    rig.wait_for_journal("hostkey_ed25519-cert.pub: certificate that expired at 2021-01-01T");
    let output = ssh(&[]);
    assert!(!output.status.success(), "{output:?}");
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(rig.path("key2")));
    run(Command::new("ssh-keygen")
        .args(["-q", "-I", "x", "-n", "x", "-s"])
        .arg(rig.path("ca"))
        .arg(rig.path("key2.pub")));
    fs::copy(rig.path("key2-cert.pub"), rig.path("hostkeys/hostkey_user")).unwrap();
    rig.apply();
    rig.wait_for_journal("hostkey_user: user certificate; a host certificate is needed: ssh-keygen -h -s CA");
}
