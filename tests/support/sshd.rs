//! Debian's sshd as the oracle: its decisions with the same users, the same PAM service and the settings of the same names.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::rig::{Rig, until};

/// A running sshd with changeable settings.
pub struct Sshd {
    port: u16,
    child: Option<Child>,
}

impl Sshd {
    /// Starts sshd with these lines in its sshd_config. It must run inside the accounts of the test, whose /etc it uses.
    pub fn start(rig: &Rig, lines: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::create_dir_all("/run/sshd").unwrap();
        fs::copy("/etc/pam.d/consoleserver", "/etc/pam.d/sshd").unwrap();
        let mut sshd = Self { port, child: None };
        sshd.configure(rig, lines);
        sshd
    }

    /// Starts it again with these lines.
    pub fn configure(&mut self, rig: &Rig, lines: &str) {
        self.stop();
        let file = rig.path("sshd_config");
        let text = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nUsePAM yes\n\
             KbdInteractiveAuthentication yes\nPrintMotd no\nPrintLastLog no\n{lines}\n",
            self.port,
            rig.path("hostkeys/hostkey_ed25519").display(),
        );
        fs::write(&file, text).unwrap();
        let journal = fs::File::create(rig.path("sshd-journal")).unwrap();
        let sshd = |words: &[&str]| {
            let mut command = Command::new("/usr/sbin/sshd");
            command.args(words).arg("-f").arg(&file).stdin(Stdio::null());
            command
        };
        let mut command = sshd(&["-D", "-e"]);
        command.stderr(journal);
        // Since OpenSSH 9.8: after some denied logins it would refuse all from this address. An older one does not know the setting.
        let no_penalties = ["-o", "PerSourcePenalties=no"];
        if sshd(&[&["-t"], &no_penalties[..]].concat()).output().unwrap().status.success() {
            command.args(no_penalties);
        }
        self.child = Some(command.spawn().unwrap());
        until("sshd", || TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    /// OpenSSH to it, with the options of `Rig::ssh`.
    pub fn ssh(&self, rig: &Rig, options: &[&str]) -> Command {
        // ssh uses the first of two ports.
        let (ours, port) = (rig.ssh(options), self.port.to_string());
        let mut command = Command::new("ssh");
        command.args(["-p", &port]).args(ours.get_args());
        command
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have exited by itself, which is what the test checks then.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}
