//! `authorized_keys_files` and `authorized_keys_command`: beside Debian's sshd, which has the same settings and must decide alike.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::accounts::Accounts;
use crate::rig::Rig;
use crate::sshd::Sshd;

struct Beside {
    accounts: Accounts,
    rig: Rig,
    sshd: Sshd,
    key: String,
}

/// Creates alice, who has no key in her home directory, and a directory for programs that only root can write.
fn beside() -> Beside {
    let accounts = Accounts::enter();
    accounts.add("alice", Some("sesame"));
    accounts.add("keeper", None);
    fs::create_dir("/etc/keys").unwrap();
    let mut rig = Rig::with_config("[access]\ngroups = [\"*\"]\n[ports.demo]\ndevice = \"@DIR@/dev/demo\"\n");
    rig.serve_logins(false);
    rig.start_plugged();
    let sshd = Sshd::start(&rig, "");
    let key = fs::read_to_string(rig.path("key.pub")).unwrap();
    Beside { accounts, rig, sshd, key }
}

/// OpenSSH's exit status 255 is its own, for a login that was refused.
pub fn is_let_in(mut ssh: Command, user: &str) -> bool {
    let words = ["-T", "-o", "BatchMode=yes", &format!("{user}@127.0.0.1"), "no-such-command"];
    let output = ssh.args(words).output().unwrap();
    match output.status.code() {
        Some(255) => false,
        Some(_) => true,
        None => panic!("{output:?}"),
    }
}

impl Beside {
    fn configure(&mut self, files: Option<&str>, command: Option<(&str, &str)>) {
        let mut ours = "[access]\ngroups = [\"*\"]\n".to_owned();
        let mut theirs = String::new();
        if let Some(files) = files {
            ours += &format!("authorized_keys_files = {files:?}\n");
            theirs += &format!("AuthorizedKeysFile {files}\n");
        }
        if let Some((command, user)) = command {
            ours +=
                &format!("authorized_keys_command = {command:?}\nauthorized_keys_command_user = {user:?}\n");
            theirs += &format!("AuthorizedKeysCommand {command}\nAuthorizedKeysCommandUser {user}\n");
        }
        self.rig.configure(&format!("{ours}[ports.demo]\ndevice = \"@DIR@/dev/demo\"\n"));
        self.sshd.configure(&self.rig, &theirs);
    }

    #[track_caller]
    fn both(&self, user: &str, right: bool, case: &str) {
        let theirs = is_let_in(self.sshd.ssh(&self.rig, &[]), user);
        let ours = is_let_in(self.rig.ssh(&[]), user);
        assert_eq!((theirs, ours), (right, right), "{case} (sshd, ours): {}", self.rig.login_journal());
    }

    fn script(&self, path: &str, text: &str) {
        fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        self.accounts.set_mode(path, 0o755);
    }
}

/// Debian's sshd accepts a file that its user's own group may write.
#[test]
fn a_group_that_may_write_is_believed_as_sshd_does() {
    let mut beside = beside();
    beside.configure(None, None);
    let key = beside.key.clone();
    let file = beside.accounts.authorize("alice", &key);
    let home = beside.accounts.home("alice");
    for path in [&file, &file.parent().unwrap().to_owned(), &home] {
        beside.accounts.set_mode(path, 0o775);
        beside.both("alice", true, "her own group");
    }
    beside.accounts.run(&["usermod", "--append", "--groups", "alice", "alice"]);
    beside.both("alice", true, "her own group, which lists her");
    beside.accounts.run(&["usermod", "--append", "--groups", "alice", "keeper"]);
    beside.both("alice", false, "keeper is a member too");
    beside.accounts.run(&["gpasswd", "--delete", "alice", "alice"]);
    beside.both("alice", false, "keeper is the only one listed");
    beside.accounts.run(&["gpasswd", "--delete", "keeper", "alice"]);
    beside.both("alice", true, "nobody else");
    beside.accounts.run(&["usermod", "--gid", "alice", "keeper"]);
    beside.both("alice", false, "the primary group of keeper");
    beside.accounts.run(&["usermod", "--gid", "keeper", "keeper"]);
    beside.accounts.run(&["chgrp", "users", file.to_str().unwrap()]);
    beside.both("alice", false, "a group without members");
    beside.accounts.run(&["chgrp", "54321", file.to_str().unwrap()]);
    beside.both("alice", false, "a group without a name");
    beside.accounts.give(&file, "alice", 0o606);
    beside.both("alice", false, "all may write");
}

#[test]
fn files_are_found_and_believed_as_sshd_does() {
    let mut beside = beside();
    let key = beside.key.clone();
    let home_file = beside.accounts.authorize("alice", &key);
    beside.both("alice", true, "by default, her home's");
    beside.configure(Some("/etc/keys/%u"), None);
    beside.both("alice", false, "her home's file does not count");

    let file = "/etc/keys/alice";
    fs::write(file, &key).unwrap();
    beside.accounts.set_mode(file, 0o644);
    beside.both("alice", true, "root's file, which she may read");
    beside.accounts.set_mode(file, 0o600);
    beside.both("alice", false, "it is read as she");
    beside.accounts.set_mode(file, 0o664);
    beside.both("alice", false, "a group writes it");
    beside.accounts.give(Path::new(file), "keeper", 0o644);
    beside.both("alice", false, "another user's");
    beside.accounts.give(Path::new(file), "alice", 0o600);
    beside.both("alice", true, "her own");
    beside.accounts.set_mode("/etc/keys", 0o777);
    beside.both("alice", false, "every user may replace it");
    beside.accounts.set_mode("/etc/keys", 0o755);

    for (files, right) in [
        ("none", false),
        ("/etc/keys/nothing .ssh/authorized_keys", true),
        ("%h/.ssh/authorized_keys", true),
        ("/etc/keys/%%u /etc/keys/%U", false),
    ] {
        beside.configure(Some(files), None);
        beside.both("alice", right, files);
    }
    let uid = nix::unistd::User::from_name("alice").unwrap().unwrap().uid;
    fs::rename(file, format!("/etc/keys/{uid}")).unwrap();
    beside.both("alice", true, "by the number of the user");
    fs::remove_file(home_file).unwrap();
}

#[test]
fn a_command_is_run_and_believed_as_sshd_does() {
    let mut beside = beside();
    let key = beside.key.trim().to_owned();
    let program = "/etc/keys/print";
    fs::write("/etc/keys/list", format!("# keys\n{key}\n")).unwrap();
    beside.accounts.set_mode("/etc/keys/list", 0o644);
    let by_name = "test \"$1\" = alice && cat /etc/keys/list";
    for (text, arguments, right) in [
        (by_name, " %u", true),
        // sshd's rule: without arguments, the user.
        (by_name, "", true),
        (by_name, " %U", false),
        ("test \"$1\" = 'a b' -a \"$2\" = '%' && cat /etc/keys/list", " 'a b' %%", true),
        ("test \"$(id -un)\" = keeper && cat /etc/keys/list", "", true),
        ("test \"$(id -Gn)\" = keeper && cat /etc/keys/list", "", true),
        ("cat /etc/keys/list; exit 1", " %u", false),
        ("cat /etc/keys/list; kill -9 $$", " %u", false),
        ("cat /etc/keys/list >&2", " %u", false),
        ("read word && exit 1; cat /etc/keys/list", " %u", true),
        ("printf '%s %s' \"$1\" \"$2\"", " %t %k", true),
        ("test \"$HOME $USER $LOGNAME\" = '/etc/homes/keeper keeper keeper' && cat /etc/keys/list", "", true),
        ("test -z \"$LISTEN_FDS$RUST_LOG$SSH_CONNECTION\" && cat /etc/keys/list", "", true),
        ("head -c 200000 /dev/zero | tr '\\0' '\\n'; cat /etc/keys/list", "", true),
    ] {
        beside.script(program, text);
        beside.configure(None, Some((&format!("{program}{arguments}"), "keeper")));
        beside.both("alice", right, &format!("{text} {arguments}"));
    }

    beside.script(program, by_name);
    // Debian's sshd lets root's own group write (user-group-modes.patch), OpenSSH's and ours do not.
    let keepers = nix::unistd::User::from_name("keeper").unwrap().unwrap().gid;
    nix::unistd::chown(program, None, Some(keepers)).unwrap();
    beside.accounts.set_mode(program, 0o775);
    beside.both("alice", false, "a group may write the program");
    beside.accounts.give(Path::new(program), "keeper", 0o755);
    beside.both("alice", false, "it belongs to its user");
    nix::unistd::chown(program, Some(0.into()), Some(0.into())).unwrap();
    beside.accounts.set_mode(program, 0o755);
    beside.configure(None, Some((&format!("{program} %u"), "keeper")));
    beside.both("alice", true, "root's again");
    beside.accounts.set_mode("/etc/keys", 0o777);
    beside.both("alice", false, "every user may replace it");
    beside.accounts.set_mode("/etc/keys", 0o755);
    beside.configure(None, Some((&format!("{program} %u"), "no-such-user")));
    beside.both("alice", false, "no such user to run as");
    beside.configure(None, Some(("/etc/keys/no-such-program", "keeper")));
    beside.both("alice", false, "no such program");
    beside.configure(None, Some((&format!("{program} %u"), "%u")));
    beside.both("alice", true, "as the user who logs in");
}

#[test]
fn the_files_are_asked_first_and_the_command_only_then() {
    let mut beside = beside();
    let log = "/etc/keys/ran";
    fs::write(log, "").unwrap();
    beside.accounts.set_mode(log, 0o666);
    beside.script("/etc/keys/print", &format!("echo ran >>{log}; test \"$1\" = alice && cat /etc/keys/list"));
    fs::write("/etc/keys/list", &beside.key).unwrap();
    beside.accounts.set_mode("/etc/keys/list", 0o644);
    beside.configure(None, Some(("/etc/keys/print %u", "keeper")));
    beside.accounts.authorize("alice", &beside.key.clone());
    beside.both("alice", true, "by her file");
    assert_eq!(fs::read_to_string(log).unwrap(), "", "neither has run it");
    fs::remove_file(beside.accounts.home("alice").join(".ssh/authorized_keys")).unwrap();
    beside.both("alice", true, "by the command");
    // sshd asks about the offered and again about the signed key; ours caches the reply about this user.
    assert_eq!(fs::read_to_string(log).unwrap(), "ran\n".repeat(3));
}
