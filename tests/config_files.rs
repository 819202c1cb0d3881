//! Which file is the configuration, and the error when it cannot be read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use consoleserver::config::{Config, Loaded, commit};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, geteuid, mkfifo, setfsuid};
use tempfile::TempDir;

fn place(directory: &TempDir, path: &str, text: &str) -> PathBuf {
    let path = directory.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn etc_precedes_the_vendor_file_and_the_foreground_files_precede_both() {
    let root = tempfile::tempdir().unwrap();
    let found = |root: &TempDir| {
        let (cwd, home) = (root.path().join("cwd"), root.path().join("home"));
        (
            Config::load(root.path()).map(|loaded| loaded.path),
            Config::load_foreground(&cwd, Some(&home), root.path()).map(|loaded| loaded.path),
        )
    };
    let missing = found(&root).0.unwrap_err().to_string();
    assert_eq!(
        missing,
        format!(
            "no configuration file: none of {0}/etc/consoleserver/config.toml, \
             {0}/usr/lib/consoleserver/config.toml exists",
            root.path().display()
        )
    );
    let vendor = place(&root, "usr/lib/consoleserver/config.toml", "[server]\n");
    assert_eq!(found(&root).0.unwrap(), vendor);
    let etc = place(&root, "etc/consoleserver/config.toml", "[server]\n");
    assert_eq!(found(&root).0.unwrap(), etc);
    assert_eq!(found(&root).1.unwrap(), etc);
    let home = place(&root, "home/.consoleserver/config.toml", "[server]\n");
    assert_eq!(found(&root).1.unwrap(), home);
    let cwd = place(&root, "cwd/config.toml", "[server]\n");
    assert_eq!(found(&root).1.unwrap(), cwd);
    assert_eq!(found(&root).0.unwrap(), etc);
}

#[test]
fn an_unreadable_file_is_an_error_and_not_skipped() {
    let root = tempfile::tempdir().unwrap();
    place(&root, "usr/lib/consoleserver/config.toml", "[server]\n");
    let etc = root.path().join("etc/consoleserver/config.toml");
    let reported = || Config::load(root.path()).unwrap_err().to_string();

    fs::create_dir_all(&etc).unwrap();
    assert_eq!(reported(), format!("{}: cannot be read: it is a directory, not a file", etc.display()));
    fs::remove_dir(&etc).unwrap();
    mkfifo(&etc, Mode::S_IRUSR).unwrap();
    assert_eq!(reported(), format!("{}: cannot be read: it is a FIFO, not a file", etc.display()));
    fs::remove_file(&etc).unwrap();
    symlink("/nonexistent", &etc).unwrap();
    assert_eq!(
        reported(),
        format!("{}: cannot be read: it is a dangling symbolic link, not a file", etc.display())
    );
}

#[test]
fn a_file_without_read_permission_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let etc = place(&root, "etc/consoleserver/config.toml", "[server]\n");
    place(&root, "usr/lib/consoleserver/config.toml", "[server]\n");
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // Root reads everything; this thread, whose file system uid is its own, shall not.
    let as_nobody = || {
        setfsuid(Uid::from_raw(65534));
        let loaded = Config::load(root.path());
        setfsuid(geteuid());
        loaded
    };
    assert_eq!(as_nobody().unwrap().path, etc);
    fs::set_permissions(&etc, fs::Permissions::from_mode(0o000)).unwrap();
    let reported = as_nobody().unwrap_err().to_string();
    let denied = format!("{}: cannot be read: Permission denied (os error 13)", etc.display());
    assert_eq!(
        reported,
        format!("{denied} (every port must be able to read it: chmod a+r {})", etc.display())
    );
    let directory = etc.parent().unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    let reported = as_nobody().unwrap_err().to_string();
    assert_eq!(
        reported,
        format!("{denied} (every port must be able to read it: chmod a+x {})", directory.display())
    );
    // The suggested command works.
    fs::set_permissions(directory, fs::Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(&etc, fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(as_nobody().unwrap().path, etc);
}

/// `cp` leaves an empty file on a full disk: the last valid configuration stays in effect. A configuration without ports has a table or a comment.
#[test]
fn an_empty_file_is_an_error_and_not_a_configuration_without_ports() {
    let root = tempfile::tempdir().unwrap();
    place(&root, "usr/lib/consoleserver/config.toml", "[ports.ttyUSB0]\n");
    place(&root, "var/lib/consoleserver/admin/last-good.toml", "[ports.core]\n");
    for empty in ["", "\n", "  \r\n\t\n"] {
        let etc = place(&root, "etc/consoleserver/config.toml", empty);
        let Loaded { config, fault, .. } = Config::load_or_last_good(root.path()).unwrap();
        assert!(config.ports.contains_key(&"core".parse().unwrap()), "{empty:?}");
        assert_eq!(
            fault.unwrap().to_string(),
            format!(
                "{}: is empty, as a full disk leaves a file: restore it, or remove it to use the vendor's configuration",
                etc.display()
            )
        );
    }
    place(&root, "etc/consoleserver/config.toml", "# none\n");
    let Loaded { config, fault, .. } = Config::load_or_last_good(root.path()).unwrap();
    assert!(config.ports.is_empty() && fault.is_none());
}

/// A container may have one file of the host mounted: rename(2) over a mount fails with EBUSY.
#[test]
fn a_commit_to_a_mount_point_is_written_in_place() {
    let root = tempfile::tempdir().unwrap();
    let path = place(&root, "etc/consoleserver/config.toml", "# longer than what comes\n");
    let host = place(&root, "host/config.toml", "# the host's, and longer than what comes\n");
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    mount(Some(&host), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    commit::write(root.path(), "# new\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "# new\n");
    assert_eq!(fs::read_to_string(&host).unwrap(), "# new\n");
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a draft stays");

    let remount = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, &path, None::<&str>, remount, None::<&str>).unwrap();
    let refusal = commit::write(root.path(), "# newer\n").unwrap_err().to_string();
    assert!(
        refusal.contains("Read-only file system") && refusal.contains("it is a mount point"),
        "{refusal}"
    );
    assert_eq!(fs::read_to_string(&host).unwrap(), "# new\n");
}

#[test]
fn a_commit_through_a_symbolic_link_writes_its_target() {
    let root = tempfile::tempdir().unwrap();
    let stowed = place(&root, "stow/config.toml", "[server]\n");
    let path = root.path().join("etc/consoleserver/config.toml");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink("../../stow/config.toml", &path).unwrap();
    commit::write(root.path(), "# new\n").unwrap();
    assert_eq!(fs::read_to_string(&stowed).unwrap(), "# new\n");
    assert_eq!(fs::read_link(&path).unwrap(), Path::new("../../stow/config.toml"));

    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
    setfsuid(Uid::from_raw(65534));
    let refused = commit::write(root.path(), "# newer\n");
    setfsuid(geteuid());
    let refusal = refused.unwrap_err().to_string();
    let expected = format!("it is a link to {}", stowed.canonicalize().unwrap().display());
    assert!(refusal.contains(&expected) && refusal.contains("ReadWritePaths="), "{refusal}");
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
}

#[test]
fn a_file_that_is_too_large_or_not_utf8_is_an_error_with_its_position() {
    let root = tempfile::tempdir().unwrap();
    let path = place(&root, "config.toml", &"#".repeat(1024 * 1024 + 1));
    let reported = || Config::load_file(&path).unwrap_err().to_string();
    assert_eq!(reported(), format!("{}: larger than the limit of 1048576 bytes", path.display()));
    fs::write(&path, b"[server]\n# caf\xe9\n").unwrap();
    assert_eq!(
        reported(),
        format!("{}:2: byte 6 of this line is not UTF-8: save the file as UTF-8 text", path.display())
    );
    assert_eq!(
        Config::load_file(Path::new("/nonexistent.toml")).unwrap_err().to_string(),
        "no configuration file: /nonexistent.toml does not exist"
    );
}

#[test]
fn a_file_with_a_syntax_error_never_gives_back_revoked_keys() {
    let root = tempfile::tempdir().unwrap();
    let etc = place(&root, "etc/consoleserver/config.toml", "[access]\ngroups = [\"*\"]\nbaud = \n");
    // No setting names the files of keys, so they are the default ones.
    assert_eq!(Config::load_access(root.path()).unwrap().1, None);
    for key in ["revoked = \"/etc/ssh/revoked\"", "authorized_keys_files = [\"/etc/keys/%u\"]"] {
        fs::write(&etc, format!("[access]\n{key}\nbaud = \n")).unwrap();
        let error = Config::load_access(root.path()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}:3: ", etc.display())), "{error}");
    }
}
