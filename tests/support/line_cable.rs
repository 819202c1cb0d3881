#![allow(dead_code)] // Each test program uses its own part of this.
//! A cable between a port and a program that plays the device, by socat; and files to send over it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::rig::{Rig, until};

/// Bytes that include everything special on the way: each byte value, the escape keys of sessions and of OpenSSH, XON, XOFF, CAN.
pub fn contents(seed: u32, size: usize) -> Vec<u8> {
    let mut state = seed;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut contents = Vec::with_capacity(size);
    while contents.len() < size {
        contents.extend((0..200).map(|_| noise()));
        contents.extend_from_slice(b"\x05c.\x05\r~.\x13\x11\x18\x05cl0");
    }
    contents.truncate(size);
    contents
}

/// Two ends of a cable: the port's, and the device's.
pub struct Cable {
    socat: Child,
    pub device: PathBuf,
}

impl Cable {
    pub fn plug_into(rig: &Rig) -> Self {
        let [port, device] = ["cable-a", "cable-b"].map(|name| rig.path(name));
        let end = |path: &Path| format!("pty,rawer,link={}", path.display());
        let socat = Command::new("socat").args([end(&port), end(&device)]).spawn().unwrap();
        until("the cable", || (port.exists() && device.exists()).then_some(()));
        rig.plug_in(&fs::canonicalize(port).unwrap());
        Self { socat, device }
    }

    /// Runs a program at the device. It is behind socat, as behind a line: at the pty itself lrzsz discards its own last answer as it ends,
    /// and the other lrzsz waits for that three times for 10 s.
    pub fn run(&self, program: &str, directory: &Path) -> Child {
        let mut command = Command::new("socat");
        command.arg(format!("OPEN:{},rawer", self.device.display())).arg(format!("EXEC:{program}"));
        command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = self.socat.kill();
        let _ = self.socat.wait();
    }
}

pub fn ends_well(what: &str, mut child: Child) {
    let status = until(what, || child.try_wait().unwrap());
    assert!(status.success(), "{what}: {status}");
}
