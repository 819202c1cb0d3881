//! Files in a port's directory that do not belong to the ports: a backup that was restored, `cp` and a logrotate with `create` leave them,
//! and a port cannot append to its log or read an older one. They are given to the user of the ports, as `LogsDirectory=` does
//! (systemd.exec(5)).

use std::ffi::CStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid, fchownat};
use rustix::fs::{Dir, Mode, OFlags, openat};

use super::server::proc_path;

/// Entries that are examined: a log and its rotated files, 30 by default.
const ENTRIES_MAX: usize = 1024;
/// Mode of a file that its owner may not read and write.
const FILE_MODE: u32 = 0o640;

/// Gives the files to `user`. A failure is logged, and the file stays as it is: the port reports the one that it cannot open.
pub(super) fn files(directory: &OwnedFd, user: Uid, group: Gid) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let listed = openat(directory, c".", flags, Mode::empty()).and_then(Dir::new);
    let Ok(entries) = listed.map_err(|error| tracing::warn!("a log directory cannot be listed: {error}"))
    else {
        return;
    };
    for entry in entries.take(ENTRIES_MAX).flatten() {
        if let Err(error) = file(directory, entry.file_name(), user, group) {
            let name = entry.file_name().to_string_lossy();
            tracing::warn!(
                "{name:?} belongs to another user than the port, and its owner cannot be changed: {error}"
            );
        }
    }
}

/// Links are not followed. A file with several names is left: another one may be outside of this directory.
fn file(directory: &OwnedFd, name: &CStr, user: Uid, group: Gid) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    let found = file.metadata()?;
    if !found.is_file() || found.nlink() != 1 || Uid::from_raw(found.uid()) == user {
        return Ok(());
    }
    fchownat(&file, "", Some(user), Some(group), AtFlags::AT_EMPTY_PATH)?;
    if found.mode() & 0o600 != 0o600 {
        // (fchmod(2) takes no O_PATH descriptor.)
        std::fs::set_permissions(proc_path(&file), Permissions::from_mode(FILE_MODE))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn files_of_other_users_are_given_to_the_ports_and_links_are_left() {
        let room = tempfile::tempdir().unwrap();
        let directory = room.path().join("ttyUSB0");
        fs::create_dir(&directory).unwrap();
        let (outside, ports) = (room.path().join("outside"), 4321);
        for path in ["console.log", "console.log.1", "console.log.2", "hard"].map(|name| directory.join(name))
        {
            fs::write(path, "").unwrap();
        }
        fs::write(&outside, "").unwrap();
        fs::set_permissions(directory.join("console.log"), Permissions::from_mode(0o400)).unwrap();
        chown(directory.join("console.log.1"), Some(1234), Some(1234)).unwrap();
        chown(directory.join("console.log.2"), Some(ports), Some(99)).unwrap();
        symlink(&outside, directory.join("link")).unwrap();
        fs::hard_link(directory.join("hard"), room.path().join("elsewhere")).unwrap();
        fs::create_dir(directory.join("kept")).unwrap();

        files(&fs::File::open(&directory).unwrap().into(), Uid::from_raw(ports), Gid::from_raw(4));

        let of = |name: &str| {
            let found = fs::symlink_metadata(directory.join(name)).unwrap();
            (found.uid(), found.gid(), found.mode() & 0o777)
        };
        assert_eq!(of("console.log"), (ports, 4, 0o640));
        assert_eq!(of("console.log.1").0, ports);
        // A group that an administrator has chosen stays.
        assert_eq!(of("console.log.2").1, 99);
        for left in ["hard", "link", "kept"] {
            assert_eq!(of(left).0, 0, "{left}");
        }
        assert_eq!(fs::metadata(&outside).unwrap().uid(), 0);
    }
}
