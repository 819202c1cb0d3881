#![allow(dead_code)] // Each test program uses its own part of this.
//! Real accounts that exist for one test only. `Accounts::enter` gives the calling thread, and all that it starts, its
//! own /etc, homes included, so that `useradd`, `chage` and PAM are the real ones and the machine is left as it was.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Uid, User};

/// The PAM service as the package installs it.
pub const PAM_SERVICE: &str = include_str!("../../debian/consoleserver.pam");

/// Where the accounts live. Not in /home, since the sources, and the programs under test, may lie there.
pub const HOMES: &str = "/etc/homes";

/// A thread's own accounts; the machine's come back when it is dropped.
pub struct Accounts {
    outside: File,
    directory: PathBuf,
}

impl Accounts {
    /// Moves this thread into a mount namespace with a copy of /etc.
    pub fn enter() -> Self {
        assert!(Uid::effective().is_root(), "these tests make accounts: run them as root (make test does)");
        let outside = File::open("/proc/thread-self/ns/mnt").unwrap();
        let directory = std::env::current_dir().unwrap();
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace needs CAP_SYS_ADMIN");
        let accounts = Self { outside, directory };
        accounts.run(&["mount", "--make-rprivate", "/"]);
        accounts.run(&["mount", "-t", "tmpfs", "-o", "mode=755", "test-etc", "/mnt"]);
        accounts.run(&["cp", "-a", "/etc", "/mnt/etc"]);
        accounts.run(&["mount", "--bind", "/mnt/etc", "/etc"]);
        accounts.run(&["umount", "/mnt"]);
        fs::create_dir(HOMES).unwrap();
        accounts.pam_service(PAM_SERVICE);
        accounts
    }

    /// Adds a user with a home directory. The shell is nologin, as users of consoles only have it.
    pub fn add(&self, name: &str, password: Option<&str>) {
        let home = self.home(name);
        let home = home.to_str().unwrap();
        let shell = "/usr/sbin/nologin";
        // Without --no-log-init useradd would write to the machine's /var/log/lastlog.
        self.run(&[
            "useradd",
            "--no-log-init",
            "--create-home",
            "--skel",
            "/var/empty",
            "-d",
            home,
            "-s",
            shell,
            name,
        ]);
        self.set_mode(home, 0o755);
        if let Some(password) = password {
            self.set_password(name, password);
        }
    }

    /// `chpasswd`.
    pub fn set_password(&self, name: &str, password: impl AsRef<[u8]>) {
        let mut child = Command::new("chpasswd").stdin(Stdio::piped()).spawn().unwrap();
        let line = [name.as_bytes(), b":", password.as_ref(), b"\n"].concat();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), &line).unwrap();
        assert!(child.wait().unwrap().success(), "chpasswd failed for {name}");
    }

    /// The home directory of `name`.
    pub fn home(&self, name: &str) -> PathBuf {
        Path::new(HOMES).join(name)
    }

    /// Makes `lines` the user's authorized_keys, with the permissions that ssh-copy-id gives.
    pub fn authorize(&self, name: &str, lines: &str) -> PathBuf {
        let directory = self.home(name).join(".ssh");
        let file = directory.join("authorized_keys");
        fs::create_dir_all(&directory).unwrap();
        fs::write(&file, lines).unwrap();
        self.give(&directory, name, 0o700);
        self.give(&file, name, 0o600);
        file
    }

    /// Makes `path` belong to `name`.
    pub fn give(&self, path: &Path, name: &str, mode: u32) {
        let user = User::from_name(name).unwrap().unwrap_or_else(|| panic!("no user {name}"));
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        self.set_mode(path, mode);
    }

    /// `chmod`.
    pub fn set_mode(&self, path: impl AsRef<Path>, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// Replaces /etc/pam.d/consoleserver.
    pub fn pam_service(&self, text: &str) {
        fs::write("/etc/pam.d/consoleserver", text).unwrap();
    }

    /// Gives root a home of its own among the others; the sources may lie in the machine's.
    pub fn rehome_root(&self) {
        let accounts = fs::read_to_string("/etc/passwd").unwrap();
        let home = self.home("root");
        let rehomed = accounts.replacen(":/root:", &format!(":{}:", home.display()), 1);
        assert_ne!(accounts, rehomed, "root has another home here");
        fs::write("/etc/passwd", rehomed).unwrap();
        fs::create_dir(home).unwrap();
    }

    /// Runs a program of the system, which must succeed.
    pub fn run(&self, command: &[&str]) {
        let output = Command::new(command[0]).args(&command[1..]).output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", command[0]));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    }
}

impl Drop for Accounts {
    /// `cargo test -- --test-threads=1` runs the next test on the same thread. Threads that the test has started stay
    /// in its namespace; the working directory, which they share, must not be shared by the thread that leaves it.
    fn drop(&mut self) {
        unshare(CloneFlags::CLONE_FS).expect("an own working directory");
        setns(&self.outside, CloneFlags::CLONE_NEWNS).expect("the way back out of the test's namespace");
        std::env::set_current_dir(&self.directory).expect("the directory of before the test");
    }
}
