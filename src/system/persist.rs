//! Files that appear complete or not at all: a reader never sees half a host key or half a configuration,
//! and a power failure leaves the old file or the new one. Also, small files are read with a limit.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Symbolic links that are followed: the kernel's limit (path_resolution(7)).
const LINK_LIMIT: usize = 40;

/// The owner of a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
}

/// Writes `contents` to `path` with exactly these permissions, regardless of the umask, replacing the file.
/// `owner` becomes the owner of the file before it gets its name; `None` leaves the caller.
///
/// A symbolic link stays, and what it leads to is replaced: configurations are kept elsewhere by stow, etckeeper and others.
/// A file that is a mount point itself (a container's bind mount) cannot be replaced (EBUSY, rename(2)) and is written in
/// place, with the new contents on the disk beside it or in the same directory until that is done.
///
/// # Errors
/// When the file stays as it was, with the reason.
pub fn write(path: &Path, contents: &[u8], mode: u32, owner: Option<Owner>) -> io::Result<()> {
    let path = &target(path)?;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the path of a file"));
    };
    let mut draft_name = std::ffi::OsString::from(".");
    draft_name.push(name);
    draft_name.push(format!(".{}", std::process::id()));
    let draft = directory.join(draft_name);

    let written = fill(&draft, contents, mode, owner)
        .and_then(|()| match fs::rename(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                overwrite(path, contents).and_then(|()| fs::remove_file(&draft))
            }
            renamed => renamed,
        })
        .and_then(|()| sync_directory(path));
    if written.is_err() {
        // The first error matters; there may be no draft to remove.
        let _ = fs::remove_file(&draft);
    }
    written
}

/// The target of a path after all symbolic links; that file need not exist, its directory must.
fn target(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINK_LIMIT {
        match fs::read_link(&path) {
            // A relative link is relative to where it lies. `join` replaces the whole by an absolute one.
            Ok(link) => path = path.parent().unwrap_or(Path::new("")).join(link),
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(nix::libc::ELOOP))
}

pub fn is_mount(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == path))
}

/// Writes in place, keeping owner and mode of the file: the administrator who mounted it chose them. A mount of a single file permits no other way.
fn overwrite(path: &Path, contents: &[u8]) -> io::Result<()> {
    let before = fs::read(path)?;
    let mut file = OpenOptions::new().write(true).open(path)?;
    let replaced = replace(&mut file, contents);
    if replaced.is_err() {
        // The disk may be full: the old contents had space.
        let _ = replace(&mut file, &before);
    }
    replaced
}

fn replace(file: &mut File, contents: &[u8]) -> io::Result<()> {
    file.rewind()?;
    file.write_all(contents)?;
    file.set_len(contents.len() as u64)?;
    file.sync_all()
}

/// Bytes of the longest file that [`read`] accepts: keys and histories have a hundredth of it.
pub const READ_LIMIT: u64 = 1024 * 1024;

/// Opens a file that a user owns or names, if it is a regular one of at most [`READ_LIMIT`] bytes: reading /dev/zero never ends,
/// a pipe waits for its writer, and a sparse file of a gigabyte takes a gigabyte of memory.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    match metadata.len() {
        _ if !metadata.is_file() => Err(io::Error::other("not a regular file")),
        length if length > READ_LIMIT => Err(too_long()),
        _ => Ok(file),
    }
}

pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    // The length may have changed in the meantime.
    match open(path)?.take(READ_LIMIT + 1).read_to_end(&mut contents)? as u64 > READ_LIMIT {
        true => Err(too_long()),
        false => Ok(contents),
    }
}

fn too_long() -> io::Error {
    io::Error::other(format!("longer than {} KiB, which is the limit", READ_LIMIT / 1024))
}

/// The result of a removal, which has succeeded too if there was nothing to remove.
pub fn gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Makes a change of the entry `path` of its directory survive a power failure.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

fn fill(draft: &Path, contents: &[u8], mode: u32, owner: Option<Owner>) -> io::Result<()> {
    gone(fs::remove_file(draft))?;
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
    use std::os::unix::fs::symlink;

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
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let room = tempfile::tempdir().unwrap();
        let (link, hop, end) =
            (room.path().join("config.toml"), room.path().join("hop"), room.path().join("stow/config.toml"));
        fs::create_dir(room.path().join("stow")).unwrap();
        symlink("hop", &link).unwrap();
        symlink(&end, &hop).unwrap();
        for text in ["made", "replaced"] {
            write(&link, text.as_bytes(), 0o644, None).unwrap();
            assert_eq!(fs::read_to_string(&end).unwrap(), text);
            assert_eq!(fs::read_link(&link).unwrap(), Path::new("hop"));
        }
        assert!(fs::symlink_metadata(&end).unwrap().is_file());
        assert_eq!(fs::read_dir(room.path().join("stow")).unwrap().count(), 1);

        fs::remove_file(&hop).unwrap();
        symlink("config.toml", &hop).unwrap();
        let refusal = write(&link, b"x", 0o644, None).unwrap_err();
        assert_eq!(refusal.raw_os_error(), Some(nix::libc::ELOOP));
        fs::remove_file(&hop).unwrap();
        symlink("nowhere/config.toml", &hop).unwrap();
        let refusal = write(&link, b"x", 0o644, None).unwrap_err();
        assert_eq!(refusal.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_that_cannot_be_put_in_place_leaves_no_draft() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(write(&path, b"new", 0o600, None).is_err());
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_regular_file_or_too_long_is_not_read() {
        let room = tempfile::tempdir().unwrap();
        let said = |path: &Path| read(path).unwrap_err().to_string();
        assert_eq!(said(Path::new("/dev/zero")), "not a regular file");
        let pipe = room.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(said(&pipe), "not a regular file");
        let sparse = room.path().join("sparse");
        File::create(&sparse).unwrap().set_len(1 << 30).unwrap();
        assert_eq!(said(&sparse), "longer than 1024 KiB, which is the limit");
        let longest = room.path().join("longest");
        fs::write(&longest, vec![b'x'; READ_LIMIT as usize]).unwrap();
        assert_eq!(read(&longest).unwrap().len() as u64, READ_LIMIT);
        // For files in /proc, whose size is reported as 0.
        assert!(!read(Path::new("/proc/self/status")).unwrap().is_empty());
    }
}
