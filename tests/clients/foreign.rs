//! Programs that use SSH for other things than a console, and logins by other ways than one connection to the port.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::programs::By;
use crate::rig::run;
use crate::tool::Tool;
use crate::{Bench, PASSWORD, USER, succeeds};

/// Runs a program that must fail; returns its output.
#[track_caller]
fn fails(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let shown = [output.stdout, output.stderr].concat();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    assert!(!output.status.success(), "{command:?} succeeded: {shown}");
    shown
}

#[test]
fn file_transfer_programs_get_an_alternative() {
    let bench = Bench::new("");
    let options = bench.ssh_options();
    let words: Vec<_> = options.split(' ').collect();
    let port = bench.rig.tcp_port.to_string();
    let place = format!("{USER}@127.0.0.1:/tmp/");
    let advice =
        "file transfer is not supported here; to send files to a device use sz, rz or sx through ssh -T";
    for (program, arguments) in [
        ("scp", vec!["-P", &port, "/etc/hostname", &place]),
        ("scp", vec!["-O", "-P", &port, "/etc/hostname", &place]),
        ("sftp", vec!["-b", "/dev/null", "-P", &port, "alice@127.0.0.1"]),
    ] {
        let shown = fails(Command::new(program).args(&words).args(arguments));
        assert!(shown.contains(advice), "{program}: {shown}");
    }
    // curl and others on this library would wait without limit if the request were granted.
    let key = bench.rig.path("key");
    let shown = fails(&mut Tool::Libssh2.library(&bench.rig, By::Key(&key), "sftp"));
    assert!(shown.contains("ChannelFailure"), "libssh2: {shown}");
    let shell = format!("ssh {options} -p {port}");
    let shown = fails(Command::new("rsync").args(["-e", &shell, "/etc/hostname", &place]));
    assert!(shown.contains(advice), "rsync: {shown}");
}

#[test]
fn ssh_copy_id_gets_the_place_for_keys() {
    let bench = Bench::new("");
    let home = bench.accounts.home("root");
    std::fs::create_dir(home.join(".ssh")).unwrap();
    let key = home.join(".ssh/id_rsa");
    run(Command::new("ssh-keygen").args(["-q", "-t", "rsa", "-N", "", "-f"]).arg(&key));
    let mut copy = Command::new("sshpass");
    copy.args(["-p", PASSWORD, "ssh-copy-id", "-p", &bench.rig.tcp_port.to_string(), "-i"]).arg(&key);
    copy.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no", "alice@127.0.0.1"]);
    let shown = fails(copy.env("HOME", home));
    assert!(
        shown.contains(
            "ssh-copy-id: keys cannot be installed here; run it against this machine's own SSH port"
        ),
        "{shown}"
    );
}

/// The commands by which VS Code's Remote-SSH starts its server, and Ansible its modules.
#[test]
fn commands_for_a_shell_are_rejected_with_the_reason() {
    let bench = Bench::new("");
    let key = bench.rig.path("key");
    // OpenSSH does not accept port 0 here.
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for (options, command) in [
        (&["-D", &proxy] as &[_], "bash"),
        (&["-o", "RequestTTY=force"], "/bin/sh -c 'echo ~alice && sleep 0'"),
    ] {
        let mut ssh = Tool::OpenSsh.program(&bench.rig, By::Key(&key), false, options);
        let shown = fails(ssh.arg(command));
        assert!(shown.contains("there is no shell here; help lists the commands"), "{command}: {shown}");
    }
}

#[test]
fn a_port_is_reached_through_a_bastion() {
    let bench = Bench::new("");
    std::fs::create_dir_all("/run/sshd").unwrap();
    let host_key = bench.rig.path("hostkeys/hostkey_ed25519");
    let configuration = bench.rig.path("sshd_config");
    std::fs::write(&configuration, format!("HostKey {}\nUsePAM no\n", host_key.display())).unwrap();
    let options = bench.ssh_options();
    // Debian's sshd at the other end of a pipe, in place of a bastion host.
    let bastion = format!(
        "ssh {options} -o 'ProxyCommand=/usr/sbin/sshd -i -f {}' -W %h:%p {USER}@bastion",
        configuration.display()
    );
    let key = bench.rig.path("key");
    let through = format!("ProxyCommand={bastion}");
    let mut ssh = Tool::OpenSsh.program(&bench.rig, By::Key(&key), false, &["-o", &through]);
    assert!(succeeds(ssh.arg("status")).contains("settings 115200 8N1"));
}

#[test]
fn a_port_is_no_bastion() {
    let bench = Bench::new("");
    let key = bench.rig.path("key");
    let mut forward = Tool::OpenSsh.program(&bench.rig, By::Key(&key), false, &["-W", "127.0.0.1:22"]);
    let shown = fails(&mut forward);
    assert!(shown.contains("stdio forwarding failed"), "{shown}");
    bench.rig.wait_for_status("0 attached");
}

#[test]
fn ssh_keyscan_finds_the_host_key() {
    let bench = Bench::new("");
    let found =
        succeeds(Command::new("ssh-keyscan").args(["-p", &bench.rig.tcp_port.to_string(), "127.0.0.1"]));
    let key = bench.rig.path("hostkeys/hostkey_ed25519");
    let kept = succeeds(Command::new("ssh-keygen").arg("-yf").arg(key));
    let key = kept.split(' ').nth(1).unwrap().trim();
    assert!(found.contains(key), "{found}\nnot {kept}");
}
