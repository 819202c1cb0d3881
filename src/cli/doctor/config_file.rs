//! Checks that the programs that do not run as root may read the configuration. Only root can check that for other users.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{User, geteuid};

use super::finding::Finding;
use crate::config;

/// The users that read it, and the effect if one cannot.
pub(super) const READERS: [(&str, &str); 3] = [
    ("_console-port", "ports keep the last valid configuration, or are not served"),
    ("_console-cli", "the admin CLI rejects SSH logins"),
    ("_console-admin", "nothing can be changed"),
];

pub(in crate::cli) fn check(path: &Path) -> Option<Finding> {
    if !geteuid().is_root() {
        return None;
    }
    let (reader, effect) = READERS.into_iter().find(|(reader, _)| !may_read(reader, path))?;
    Some(unreadable(path, reader, effect))
}

/// A configuration that other users than root and console-admin may write.
pub(super) fn writable(path: &Path) -> Option<Finding> {
    let metadata = path.metadata().ok()?;
    let admin = User::from_name("_console-admin").ok().flatten();
    let is_ours = |id: u32, own: Option<u32>| id == 0 || own == Some(id);
    let by_owner = !is_ours(metadata.uid(), admin.as_ref().map(|user| user.uid.as_raw()));
    let by_group = metadata.mode() & 0o020 != 0
        && !is_ours(metadata.gid(), admin.as_ref().map(|user| user.gid.as_raw()));
    let by_all = metadata.mode() & 0o002 != 0;
    (by_owner || by_group || by_all).then(|| loose(path))
}

pub(super) fn loose(path: &Path) -> Finding {
    let shown = path.display();
    let problem =
        format!("{shown} may be written by other users than root: they decide who may use each console");
    Finding::everywhere(problem, format!("chown root: {shown}; chmod 644 {shown}"))
}

/// Files that look like parts of the configuration and are not read. There is one file, and no drop-ins.
pub(in crate::cli) fn ignored(root: &Path) -> Vec<PathBuf> {
    /// config.toml, and those of the fleet.
    const READ: [&str; 3] = ["config.toml", "hosts.toml", "directory.toml"];
    let toml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
    let within = |directory: &Path| -> Vec<PathBuf> {
        let entries = directory.read_dir().into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    };
    let directory = root.join("etc/consoleserver");
    let inside = within(&directory);
    let nested = inside.iter().filter(|path| path.is_dir()).flat_map(|path| within(path));
    let is_read = |path: &PathBuf| path.file_name().is_some_and(|name| READ.iter().any(|read| name == *read));
    let beside = inside.iter().filter(|path| path.is_file() && !is_read(path)).cloned();
    let mut found: Vec<PathBuf> =
        beside.chain(nested).chain([root.join("etc/consoleserver.toml")]).filter(toml).collect();
    found.retain(|path| path.exists());
    found.sort();
    found
}

pub(in crate::cli) fn not_read(path: &Path) -> Finding {
    let problem = format!("{} is not read: the configuration is one file", path.display());
    Finding::everywhere(
        problem,
        "move its tables to /etc/consoleserver/config.toml; then: consolectl check; consolectl reload",
    )
}

/// A configuration without ports, as of an administrator who has written only what differs from the vendor's.
pub(in crate::cli) fn without_ports(path: &Path) -> Finding {
    let problem = format!(
        "{} has no ports, and the vendor's are not read beside it: no port is served",
        path.display()
    );
    Finding::everywhere(
        problem,
        "copy the [ports.NAME] of /usr/lib/consoleserver/config.toml into it; then: consolectl check; consolectl reload",
    )
}

pub(super) fn unreadable(path: &Path, reader: &str, effect: &str) -> Finding {
    let problem = format!("{} is not readable by {reader}: {effect}", path.display());
    let fix = format!("{}\nthen: systemctl reload 'console@*.service'", config::permit(path));
    Finding::everywhere(problem, fix)
}

/// Tries as that user, because ACLs and security modules matter too. A user that does not exist is ignored.
fn may_read(user: &str, path: &Path) -> bool {
    if !User::from_name(user).is_ok_and(|user| user.is_some()) {
        return true;
    }
    let mut command = Command::new("setpriv");
    match user {
        // The groups of its unit.
        "_console-port" => command.args(["--reuid", user, "--regid", "adm", "--groups", "dialout"]),
        _ => command.args(["--reuid", user, "--regid", user, "--init-groups"]),
    };
    command
        .args(["sh", "-c", "test -r \"$0\" || exit 3"])
        .arg(path)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    // (Anything else is an error of setpriv, such as a group that does not exist.)
    !command.status().is_ok_and(|status| status.code() == Some(3))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_beside_the_configuration_are_named_except_those_of_the_fleet() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("etc/consoleserver");
        fs::create_dir_all(directory.join("conf.d")).unwrap();
        for name in ["config.toml", "hosts.toml", "directory.toml", "directory.key", "config.toml.unreadable"]
        {
            fs::write(directory.join(name), "").unwrap();
        }
        assert!(ignored(root.path()).is_empty());
        let others =
            ["etc/consoleserver.toml", "etc/consoleserver/conf.d/a.toml", "etc/consoleserver/rack.toml"];
        let others = others.map(|name| root.path().join(name));
        others.iter().for_each(|path| fs::write(path, "").unwrap());
        assert_eq!(ignored(root.path()), [&others[1], &others[2], &others[0]].map(Clone::clone));
    }

    #[test]
    fn a_configuration_that_every_user_may_write_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mode = |mode| fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        if geteuid().is_root() {
            mode(0o644);
            assert_eq!(writable(file.path()), None);
        }
        mode(0o646);
        assert_eq!(writable(file.path()), Some(loose(file.path())));
    }
}
