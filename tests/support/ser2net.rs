#![allow(dead_code, unsafe_code)] // Each test program uses its own part of this; TCGETS2.
//! A terminal server: Debian's ser2net.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};

use crate::rig::{listens, until};

/// A terminal server by Debian's ser2net, on a pty in place of its serial line.
pub struct Ser2net {
    child: Child,
    pub line: fs::File,
    pub port: u16,
    _place: tempfile::TempDir,
}

impl Ser2net {
    /// `accepter` is ser2net's name of the protocol.
    pub fn start(accepter: &str) -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        let mut termios = nix::sys::termios::tcgetattr(&pty.slave).unwrap();
        nix::sys::termios::cfmakeraw(&mut termios);
        nix::sys::termios::tcsetattr(&pty.slave, nix::sys::termios::SetArg::TCSANOW, &termios).unwrap();
        let tty = nix::unistd::ttyname(&pty.slave).unwrap();
        Self::run(accepter, &format!("serialdev,{},9600n81,local", tty.display()), pty.master.into())
    }

    /// In front of another server.
    pub fn relay(accepter: &str, connector: &str) -> Self {
        Self::run(accepter, connector, fs::File::open("/dev/null").unwrap())
    }

    fn run(accepter: &str, connector: &str, line: fs::File) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let place = tempfile::tempdir().unwrap();
        let config = format!(
            "connection: &c\n  accepter: {accepter},tcp,127.0.0.1,{port}\n  connector: {connector}\n  options:\n    kickolduser: true\n"
        );
        fs::write(place.path().join("ser2net.yaml"), config).unwrap();
        let child = Command::new("ser2net")
            .args(["-n", "-c"])
            .arg(place.path().join("ser2net.yaml"))
            .stdin(Stdio::null())
            .spawn()
            .expect("ser2net, which `make` installs");
        until("ser2net to listen", || listens(port).then_some(()));
        Self { child, line, port, _place: place }
    }

    /// Bits per second of its line.
    pub fn rate(&self) -> u32 {
        nix::ioctl_read_bad!(tcgets2, nix::libc::TCGETS2, nix::libc::termios2);
        // SAFETY: zeros are a valid value of this struct of integers, and the kernel fills it in.
        unsafe {
            let mut termios = std::mem::zeroed();
            tcgets2(self.line.as_raw_fd(), &mut termios).unwrap();
            termios.c_ospeed
        }
    }
}

impl Drop for Ser2net {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
