//! Public keys: which files are accepted, and which lines admit a key.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use consoleserver::auth::protocol::Reply;

use crate::accounts::HOMES;
use crate::helper::{FINGERPRINT, Helper, KEY, OTHER, alice, granted};

#[test]
fn a_listed_key_is_acceptable_and_when_signed_granted() {
    let _accounts = alice();
    let mut helper = Helper::login("alice");
    assert_eq!(helper.offer(OTHER), Reply::Denied);
    assert_eq!(helper.offer(&format!("{KEY} another comment")), Reply::Acceptable);
    assert_eq!(granted(helper.key(KEY)).name, "alice");
    assert_eq!(helper.reply(), None, "it closes after a grant");
    helper.ends_saying(&format!("granted as alice by key {FINGERPRINT}"));
}

#[test]
fn a_key_in_authorized_keys2_counts_too() {
    let accounts = alice();
    let file = accounts.authorize("alice", "# nothing here\n");
    fs::rename(&file, file.with_file_name("authorized_keys2")).unwrap();
    accounts.authorize("alice", OTHER);
    fs::write(file.with_file_name("authorized_keys2"), KEY).unwrap();
    granted(Helper::login("alice").key(KEY));
}

#[test]
fn unlisted_keys_are_reported_once() {
    let _accounts = alice();
    let mut helper = Helper::login("alice");
    assert_eq!(helper.offer(OTHER), Reply::Denied);
    assert_eq!(helper.offer(OTHER), Reply::Denied);
    let journal = helper.ends_saying("none of the 2 offered keys is in the user's authorized_keys");
    assert_eq!(journal.lines().count(), 1, "{journal}");

    let mut helper = Helper::login("alice");
    assert_eq!(helper.key(OTHER), Reply::Denied);
    assert_eq!(helper.key("ssh-ed25519 rubbish"), Reply::Denied);
    helper.ends_saying("the client sent an invalid public key");
}

#[test]
fn a_line_that_narrows_the_key_is_obeyed_and_named() {
    let accounts = alice();
    for (options, reason) in [
        ("from=\"10.0.0.0/8\"", "line 2: from= does not match 192.0.2.7"),
        ("from=\"*,!192.0.2.7\"", "line 2: from= does not match 192.0.2.7"),
        ("from=\"10.0.0.1/8\"", "host bits are set, or the mask is too long"),
        ("expiry-time=\"20200101\"", "line 2: the key expired at"),
        ("command=\"/bin/date\"", "line 2: unsupported option \"command\""),
        ("restrict,frobnicate", "line 2: unsupported option \"frobnicate\""),
        (
            "cert-authority",
            "line 2: cert-authority authorizes certificates of this key, and not the key itself",
        ),
    ] {
        let file = accounts.authorize("alice", &format!("# keys\n{options} {KEY}\n"));
        let mut helper = Helper::login("alice");
        assert_eq!(helper.offer(KEY), Reply::Denied, "{options}");
        assert_eq!(helper.key(KEY), Reply::Denied, "{options}");
        let journal = helper.ends_saying(reason);
        assert!(journal.contains(file.to_str().unwrap()), "{journal}");
    }
    for options in ["restrict", "no-pty,from=\"192.0.2.0/24\"", "expiry-time=\"29991231Z\",port-forwarding"] {
        accounts.authorize("alice", &format!("{options} {KEY}\n"));
        granted(Helper::login("alice").key(KEY));
    }
}

/// Each breaks one thing, which the message must name; once it is fixed, the key is accepted.
#[test]
fn files_that_others_could_have_written_are_not_believed() {
    let accounts = alice();
    accounts.add("bob", None);
    let home = accounts.home("alice");
    let directory = home.join(".ssh");
    let file = directory.join("authorized_keys");
    // A group with other members; that of alice alone is safe (with the umask 002 of many Debian machines).
    for (path, mode) in [(&file, 0o620), (&file, 0o602), (&directory, 0o770), (&home, 0o775), (&home, 0o757)]
    {
        accounts.run(&["chgrp", "users", path.to_str().unwrap()]);
        accounts.set_mode(path, mode);
        refused_naming(path, "is writable by group or others");
        accounts.give(path, "alice", 0o700);
        accounts.set_mode(path, mode | 0o020);
        if mode & 0o002 == 0 {
            granted(Helper::login("alice").key(KEY));
        }
        accounts.set_mode(path, 0o700);
    }
    for path in [&file, &directory, &home] {
        accounts.give(path, "bob", 0o755);
        refused_naming(path, "is owned by uid");
        accounts.give(path, "alice", 0o700);
    }
    granted(Helper::login("alice").key(KEY));
}

#[track_caller]
fn refused_naming(path: &Path, reason: &str) {
    let mut helper = Helper::login("alice");
    assert_eq!(helper.key(KEY), Reply::Denied, "{path:?}");
    helper.ends_saying(&format!("{} {reason}", path.display()));
}

#[test]
fn files_are_read_as_their_user_and_only_if_they_are_files() {
    let accounts = alice();
    let file = accounts.home("alice").join(".ssh/authorized_keys");

    // Only root may read it, though it has the key: root must not have read it on the user's behalf.
    let secret = Path::new(HOMES).join("secret");
    fs::write(&secret, KEY).unwrap();
    accounts.set_mode(&secret, 0o600);
    fs::remove_file(&file).unwrap();
    symlink(&secret, &file).unwrap();
    let mut helper = Helper::login("alice");
    assert_eq!(helper.key(KEY), Reply::Denied);
    helper.ends_saying("authorized_keys: Permission denied");

    // A FIFO without a writer would block the process that opens it.
    fs::remove_file(&file).unwrap();
    accounts.run(&["mkfifo", file.to_str().unwrap()]);
    accounts.give(&file, "alice", 0o600);
    refused_naming(&file, "is not a regular file");

    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    accounts.give(&file, "alice", 0o700);
    refused_naming(&file, "is not a regular file");

    // A file without an end.
    fs::remove_dir(&file).unwrap();
    symlink("/dev/zero", &file).unwrap();
    refused_naming(Path::new("/dev/zero"), "is not a regular file");

    fs::remove_file(&file).unwrap();
    accounts.authorize("alice", &format!("{KEY}\n{}", "#".repeat(1024 * 1024)));
    refused_naming(&file, "has ");
    fs::File::options().write(true).open(&file).unwrap().set_len(1 << 40).unwrap();
    refused_naming(&file, "has 1099511627776 bytes");

    // A file of the maximal size without a key.
    for rubbish in ["\0", "A", "\n", "ssh-ed25519 ", "from=\"", "\u{9b}2J\u{202e}"] {
        accounts.authorize("alice", &rubbish.repeat(1024 * 1024 / rubbish.len()));
        let mut helper = Helper::login("alice");
        assert_eq!(helper.key(KEY), Reply::Denied, "{rubbish:?}");
        let journal = helper.end().journal;
        assert_eq!(journal.find(|c: char| c.is_control() && c != '\n'), None, "{rubbish:?}");
        assert!(journal.len() < 4096, "{} bytes in the journal for {rubbish:?}", journal.len());
    }

    accounts.authorize("alice", &format!("{KEY}\n"));
    granted(Helper::login("alice").key(KEY));
}

#[test]
fn a_link_to_a_file_in_a_safe_place_is_followed() {
    let accounts = alice();
    let file = accounts.home("alice").join(".ssh/authorized_keys");
    let elsewhere = accounts.home("alice").join("keys");
    fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    granted(Helper::login("alice").key(KEY));

    // Out of the home directory every directory up to the root counts.
    let shared = Path::new(HOMES).join("shared");
    fs::create_dir(&shared).unwrap();
    fs::rename(&elsewhere, shared.join("keys")).unwrap();
    accounts.set_mode(&shared, 0o777);
    fs::remove_file(&file).unwrap();
    symlink(shared.join("keys"), &file).unwrap();
    refused_naming(&shared, "is writable by group or others");
}
