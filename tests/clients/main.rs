//! Client programs with their defaults, as CLIENTS in `man console@.service` describes them.
//! OpenSSH, PuTTY, Dropbear, paramiko, asyncssh, libssh2; and what is built on those, up to Ansible.

#[path = "../support/accounts.rs"]
mod accounts;
#[path = "../support/client.rs"]
mod client;
#[path = "../support/programs.rs"]
mod programs;
#[path = "../support/rig.rs"]
mod rig;

mod automation;
mod everyone;
mod foreign;
mod tool;
mod zmodem;

use std::process::{Child, Command, Stdio};

use accounts::Accounts;
use rig::Rig;

/// A bench on which alice may log in, by the bench's key and by her password.
struct Bench {
    accounts: Accounts,
    rig: Rig,
    /// The other end of the line.
    device: Option<Child>,
}

const USER: &str = "alice";
const PASSWORD: &str = "sesame";

impl Bench {
    fn new(settings: &str) -> Self {
        let mut bench = Self::prepared();
        bench.start(&format!("baud = 115200\n{settings}"));
        bench
    }

    /// The port is not started yet.
    fn prepared() -> Self {
        let accounts = Accounts::enter();
        accounts.rehome_root();
        accounts.add(USER, Some(PASSWORD));
        accounts.run(&["usermod", "-aG", "dialout", USER]);
        let rig = Self::port("");
        accounts.authorize(USER, &std::fs::read_to_string(rig.path("key.pub")).unwrap());
        Self { accounts, rig, device: None }
    }

    fn start(&mut self, settings: &str) {
        self.rig.configure(&Self::config(settings));
        self.rig.serve_logins(false);
        self.rig.start_plugged();
    }

    fn config(settings: &str) -> String {
        format!("[access]\ngroups = [\"dialout\"]\n[ports.demo]\ndevice = \"@DIR@/dev/demo\"\n{settings}\n")
    }

    fn port(settings: &str) -> Rig {
        Rig::with_config(&Self::config(&format!("baud = 115200\n{settings}")))
    }

    /// Starts one more port, for the same users.
    fn another(&self, settings: &str) -> Rig {
        let mut rig = Self::port(settings);
        // OpenSSH reads the public half beside the key.
        for half in ["key", "key.pub"] {
            std::fs::copy(self.rig.path(half), rig.path(half)).unwrap();
        }
        rig.serve_logins(false);
        rig.start_plugged();
        rig
    }

    /// Attaches this program to the line.
    fn connect(&mut self, mut program: Command) {
        program.stdin(Stdio::from(self.rig.device())).stdout(Stdio::from(self.rig.device()));
        let started = program.spawn().unwrap_or_else(|error| panic!("{program:?}: {error}"));
        self.device = Some(started);
    }

    /// A Cisco router's console.
    fn with_router() -> Self {
        let mut bench = Self::new("");
        bench.connect(Command::new(here("fake-ios")));
        bench.rig.wait_for_log("Press RETURN to get started.");
        bench
    }

    /// OpenSSH's messages about an unknown host, and about alice's key.
    fn ssh_options(&self) -> String {
        format!(
            "-F none -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR -i {}",
            self.rig.path("key").display()
        )
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(device) = &mut self.device {
            // It may have ended already.
            let _ = device.kill();
            let _ = device.wait();
        }
    }
}

/// A file of this directory.
fn here(name: &str) -> String {
    format!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/{}"), name)
}

/// The Python with Debian's packages and those that Debian does not have.
fn python() -> String {
    let made = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/client-venv"))
        .arg(concat!(env!("CARGO_TARGET_TMPDIR"), "/clients"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(made.status.success(), "pip could not install tests/clients/requirements.txt");
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// Runs a program to its end, which must succeed; returns its output.
#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let aside = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{shown}\n{aside}", output.status);
    shown
}
