//! Files by ZMODEM: lrzsz at both ends, through OpenSSH, to and from a device that is another pseudo-terminal's end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::rig::{Rig, sha256, until};

/// 1 MiB in which everything occurs that means something on the way: each byte value, escape keys of ours and of OpenSSH, XON, XOFF.
fn contents() -> Vec<u8> {
    let mut state = 14u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut contents = Vec::with_capacity(1 << 20);
    while contents.len() < 1 << 20 {
        contents.extend((0..200).map(|_| noise()));
        contents.extend_from_slice(b"\x05c.\x05\r~.\x13\x11\x18\x05cl0");
    }
    contents.truncate(1 << 20);
    contents
}

/// Two ends of a cable: the port's, and the device's.
struct Cable {
    socat: Child,
    device: PathBuf,
}

impl Cable {
    fn plug_into(rig: &Rig) -> Self {
        let [port, device] = ["cable-a", "cable-b"].map(|name| rig.path(name));
        let end = |path: &Path| format!("pty,rawer,link={}", path.display());
        let socat = Command::new("socat").args([end(&port), end(&device)]).spawn().unwrap();
        until("the cable", || (port.exists() && device.exists()).then_some(()));
        rig.plug_in(&fs::canonicalize(port).unwrap());
        Self { socat, device }
    }

    /// A program at the device, for which its line is a terminal.
    fn run(&self, program: &str, arguments: &[&str], directory: &Path) -> Child {
        let line = File::options().read(true).write(true).open(&self.device).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).current_dir(directory).stdin(line.try_clone().unwrap()).stdout(line);
        command.stderr(Stdio::null()).spawn().unwrap()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = self.socat.kill();
        let _ = self.socat.wait();
    }
}

/// A program whose input and output are those of an SSH client.
fn through_ssh(mut ssh: Command, program: &str, arguments: &[&str], directory: &Path) -> [Child; 2] {
    let mut ssh = ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).stderr(Stdio::null());
    command.stdin(ssh.stdout.take().unwrap()).stdout(ssh.stdin.take().unwrap());
    [command.spawn().unwrap(), ssh]
}

fn ends_well(what: &str, mut child: Child) {
    let status = until(what, || child.try_wait().unwrap());
    assert!(status.success(), "{what}: {status}");
}

/// A file there and back again.
fn both_ways(session: &[&str]) {
    let mut rig = Rig::new("");
    rig.serve_logins(true);
    let cable = Cable::plug_into(&rig);
    rig.start();
    rig.wait_for_status("8N1");
    let [here, there] = ["here", "there"].map(|name| {
        let directory = rig.path(name);
        fs::create_dir(&directory).unwrap();
        directory
    });
    let contents = contents();
    let hash = |path: PathBuf| sha256(&fs::read(path).unwrap());
    fs::write(here.join("up"), &contents).unwrap();
    fs::write(there.join("down"), &contents).unwrap();

    let receiver = cable.run("rz", &["--binary", "--quiet"], &there);
    let [sender, ssh] = through_ssh(rig.ssh(session), "sz", &["--binary", "--quiet", "up"], &here);
    ends_well("sz here", sender);
    ends_well("rz at the device", receiver);
    ends_well("ssh", ssh);
    assert_eq!(hash(there.join("up")), sha256(&contents));

    let [receiver, ssh] = through_ssh(rig.ssh(session), "rz", &["--binary", "--quiet"], &here);
    rig.wait_for_status("1 attached");
    let sender = cable.run("sz", &["--binary", "--quiet", "down"], &there);
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
