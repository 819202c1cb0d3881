//! Files by ZMODEM: lrzsz at both ends, through OpenSSH, to and from a device that is another pseudo-terminal's end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::line_cable::{Cable, contents, ends_well};
use crate::rig::{Rig, sha256};

/// A program whose input and output are those of an SSH client.
fn through_ssh(mut ssh: Command, program: &str, arguments: &[&str], directory: &Path) -> [Child; 2] {
    let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).stderr(Stdio::null());
    command.stdin(ssh.stdout.take().unwrap()).stdout(ssh.stdin.take().unwrap());
    [command.spawn().unwrap(), ssh]
}

/// A file there and back again.
fn both_ways(session: &[&str]) {
    let mut rig = Rig::new("baud = 1000000");
    rig.serve_logins(true);
    let cable = Cable::plug_into(&rig);
    rig.start();
    rig.wait_for_status("8N1");
    let [here, there] = ["here", "there"].map(|name| {
        let directory = rig.path(name);
        fs::create_dir(&directory).unwrap();
        directory
    });
    let contents = contents(14, 1 << 20);
    let hash = |path: PathBuf| sha256(&fs::read(path).unwrap());
    fs::write(here.join("up"), &contents).unwrap();
    fs::write(there.join("down"), &contents).unwrap();

    let receiver = cable.run("rz --binary --quiet", &there);
    let [sender, ssh] = through_ssh(rig.ssh(session), "sz", &["--binary", "--quiet", "up"], &here);
    ends_well("sz here", sender);
    ends_well("rz at the device", receiver);
    ends_well("ssh", ssh);
    assert_eq!(hash(there.join("up")), sha256(&contents));
    rig.wait_for_status("0 attached");

    let [receiver, ssh] = through_ssh(rig.ssh(session), "rz", &["--binary", "--quiet"], &here);
    rig.wait_for_status("1 attached");
    let sender = cable.run("sz --binary --quiet down", &there);
    ends_well("sz at the device", sender);
    ends_well("rz here", receiver);
    ends_well("ssh", ssh);
    assert_eq!(hash(here.join("down")), sha256(&contents));
}

#[test]
fn files_go_both_ways_without_a_terminal() {
    both_ways(&["-T", "demo@127.0.0.1"]);
}

#[test]
fn files_go_both_ways_with_a_terminal_without_escapes() {
    both_ways(&["-tt", "-e", "none", "demo@127.0.0.1", "connect", "--escape", "none"]);
}
