//! Files that appear whole or not at all: a reader never sees half a host key or half a configuration,
//! and a power cut leaves the old file or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

/// Who owns a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Puts `contents` at `path` with exactly these permissions, whatever the umask says, replacing what is there.
/// `owner` is given the file before it gets its name; `None` leaves it to the caller.
pub fn write(path: &Path, contents: &[u8], mode: u32, owner: Option<Owner>) -> io::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the path of a file"));
    };
    let mut draft_name = std::ffi::OsString::from(".");
    draft_name.push(name);
    draft_name.push(format!(".{}", std::process::id()));
    let draft = directory.join(draft_name);

    let written = fill(&draft, contents, mode, owner)
        .and_then(|()| fs::rename(&draft, path))
        .and_then(|()| sync_directory(path));
    if written.is_err() {
        // The error that matters is the first one; there may be no draft to remove.
        let _ = fs::remove_file(&draft);
    }
    written
}

/// Has what was done to the entry `path` of its directory outlast a power cut.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn fill(draft: &Path, contents: &[u8], mode: u32, owner: Option<Owner>) -> io::Result<()> {
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(contents)?;
    if let Some(Owner { uid, gid }) = owner {
        fchown(&file, Some(uid), Some(gid))?;
    }
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_the_permissions_asked_for_and_no_draft_stays() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("config.toml");
        fs::write(&path, "old and longer than the new").unwrap();
        write(&path, b"new", 0o640, None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_put_in_place_leaves_no_draft() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(write(&path, b"new", 0o600, None).is_err());
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 1);
    }
}
