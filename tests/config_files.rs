//! Which file is the configuration, and what is said when it cannot be read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use consoleserver::config::Config;
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
fn etc_comes_before_the_vendor_and_the_foreground_before_both() {
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
    let vendor = place(&root, "usr/lib/consoleserver/config.toml", "");
    assert_eq!(found(&root).0.unwrap(), vendor);
    let etc = place(&root, "etc/consoleserver/config.toml", "");
    assert_eq!(found(&root).0.unwrap(), etc);
    assert_eq!(found(&root).1.unwrap(), etc);
    let home = place(&root, "home/.consoleserver/config.toml", "");
    assert_eq!(found(&root).1.unwrap(), home);
    let cwd = place(&root, "cwd/config.toml", "");
    assert_eq!(found(&root).1.unwrap(), cwd);
    assert_eq!(found(&root).0.unwrap(), etc);
}

#[test]
fn an_unreadable_file_is_an_error_and_not_the_next_file() {
    let root = tempfile::tempdir().unwrap();
    place(&root, "usr/lib/consoleserver/config.toml", "");
    let etc = root.path().join("etc/consoleserver/config.toml");
    let told = || Config::load(root.path()).unwrap_err().to_string();

    fs::create_dir_all(&etc).unwrap();
    assert_eq!(told(), format!("{}: cannot be read: it is a directory, not a file", etc.display()));
    fs::remove_dir(&etc).unwrap();
    mkfifo(&etc, Mode::S_IRUSR).unwrap();
    assert_eq!(told(), format!("{}: cannot be read: it is a FIFO, not a file", etc.display()));
    fs::remove_file(&etc).unwrap();
    symlink("/nonexistent", &etc).unwrap();
    assert_eq!(
        told(),
        format!("{}: cannot be read: it is a symbolic link to nothing, not a file", etc.display())
    );
}

#[test]
fn a_file_that_permissions_close_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let etc = place(&root, "etc/consoleserver/config.toml", "");
    place(&root, "usr/lib/consoleserver/config.toml", "");
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
    let told = as_nobody().unwrap_err().to_string();
    assert_eq!(told, format!("{}: cannot be read: Permission denied (os error 13)", etc.display()));
}

#[test]
fn a_file_too_long_or_not_text_is_an_error_with_its_place() {
    let root = tempfile::tempdir().unwrap();
    let path = place(&root, "config.toml", &"#".repeat(1024 * 1024 + 1));
    let told = || Config::load_file(&path).unwrap_err().to_string();
    assert_eq!(told(), format!("{}: longer than the 1048576 bytes that are read", path.display()));
    fs::write(&path, b"[server]\n# caf\xe9\n").unwrap();
    assert_eq!(
        told(),
        format!("{}:2: byte 6 of this line is not UTF-8: save the file as UTF-8 text", path.display())
    );
    assert_eq!(
        Config::load_file(Path::new("/nonexistent.toml")).unwrap_err().to_string(),
        "no configuration file: /nonexistent.toml does not exist"
    );
}
