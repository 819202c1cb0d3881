//! Reads a user's authorized_keys: as that user, so that no link leads to a file that only root may read, and only if no other user could
//! have written it (StrictModes in sshd_config(5); safe_path in OpenSSH's misc.c).

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, getgroups, initgroups, setegid, seteuid, setgroups};
use thiserror::Error;

use super::account::{Account, is_private_group};

/// Longest file that is read: some thousand keys.
pub(super) const FILE_LIMIT: u64 = 1024 * 1024;

/// Write permission for group or others.
const OTHERS_WRITE: u32 = 0o022;
/// Write permission for others.
const WRITE_BY_ALL: u32 = 0o002;

#[derive(Debug, Error)]
pub enum KeyFileError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    #[error("{} has {} bytes, more than the limit of {}", .0.display(), .1, .2)]
    TooLong(PathBuf, u64, u64),
    #[error("{} is owned by uid {}, not by its user or root", .0.display(), .1)]
    Owner(PathBuf, u32),
    #[error("{} is owned by uid {}, not by root", .0.display(), .1)]
    NotRoots(PathBuf, u32),
    #[error("{} is writable by group or others (mode {:03o}): chmod go-w", .0.display(), .1)]
    Writable(PathBuf, u32),
}

pub struct KeyFile {
    pub path: PathBuf,
    pub contents: Vec<u8>,
}

/// Reads those of `account`'s `files` that exist.
///
/// # Errors
/// The outer one if the process could not become that user.
pub fn read_all(account: &Account, files: &[PathBuf]) -> nix::Result<Vec<Result<KeyFile, KeyFileError>>> {
    let _as_user = match Uid::effective().is_root() {
        true => Some(AsUser::become_user(account)?),
        false => None,
    };
    Ok(files.iter().filter_map(|file| read(account, file).transpose()).collect())
}

/// `None` if there is no such file.
fn read(account: &Account, path: &Path) -> Result<Option<KeyFile>, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    // O_NONBLOCK: opening a FIFO must not wait for a writer. O_NOCTTY: a terminal must not become the controlling one.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW;
    let (real, file) = match path.canonicalize().and_then(|real| {
        let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(&real)?;
        Ok((real, file))
    }) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile(real));
    }
    let may_be_read = |path: &Path, metadata: &Metadata| {
        let checked = only_its_user_writes(path, metadata, account.uid);
        match &checked {
            Err(KeyFileError::Writable(..)) if only_a_private_group_writes(metadata, account.uid) => Ok(()),
            _ => checked,
        }
    };
    may_be_read(&real, &metadata)?;
    for directory in up_to(&real, &account.home) {
        may_be_read(directory, &directory.metadata().map_err(failed)?)?;
    }
    if metadata.len() > FILE_LIMIT {
        return Err(KeyFileError::TooLong(real, metadata.len(), FILE_LIMIT));
    }
    let contents = bounded(file, FILE_LIMIT).map_err(failed)?;
    Ok(Some(KeyFile { path: path.to_owned(), contents }))
}

/// The real path of a program that only root could have written: it, and each directory above it (subprocess and safe_path in
/// OpenSSH's misc.c).
pub(super) fn only_root_writes(program: &Path) -> Result<PathBuf, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: program.to_owned(), source };
    let real = program.canonicalize().map_err(failed)?;
    if !real.metadata().map_err(failed)?.is_file() {
        return Err(KeyFileError::NotAFile(real));
    }
    for path in real.ancestors() {
        let metadata = path.metadata().map_err(failed)?;
        if metadata.uid() != 0 {
            return Err(KeyFileError::NotRoots(path.to_owned(), metadata.uid()));
        }
        only_its_user_writes(path, &metadata, Uid::from_raw(0))?;
    }
    Ok(real)
}

/// The real path of a file that no other user than root and that of this process could have written: it, and each directory above it.
pub(super) fn only_this_user_writes(file: &Path) -> Result<PathBuf, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: file.to_owned(), source };
    let real = file.canonicalize().map_err(failed)?;
    for path in real.ancestors() {
        only_its_user_writes(path, &path.metadata().map_err(failed)?, Uid::effective())?;
    }
    Ok(real)
}

/// Limited again, because the file may have grown since its length was checked.
pub(super) fn bounded(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    file.take(limit).read_to_end(&mut contents)?;
    Ok(contents)
}

/// The directories above `path`, up to the home directory, or to `/` if a link leads out of it.
fn up_to<'a>(path: &'a Path, home: &Path) -> impl Iterator<Item = &'a Path> {
    let home = home.canonicalize().unwrap_or_default();
    let mut past_home = false;
    path.ancestors().skip(1).take_while(move |directory| {
        let wanted = !past_home;
        past_home = *directory == home;
        wanted
    })
}

/// Whether a file that its group may write is still writable by no other user.
fn only_a_private_group_writes(metadata: &Metadata, user: Uid) -> bool {
    let (group, owner) = (Gid::from_raw(metadata.gid()), Uid::from_raw(metadata.uid()));
    metadata.mode() & WRITE_BY_ALL == 0 && is_private_group(group, owner, user)
}

fn only_its_user_writes(path: &Path, metadata: &Metadata, user: Uid) -> Result<(), KeyFileError> {
    if metadata.uid() != 0 && metadata.uid() != user.as_raw() {
        return Err(KeyFileError::Owner(path.to_owned(), metadata.uid()));
    }
    if metadata.mode() & OTHERS_WRITE != 0 {
        return Err(KeyFileError::Writable(path.to_owned(), metadata.mode() & 0o777));
    }
    Ok(())
}

/// While it exists, the process has another effective user. It has one thread, so nothing else runs as the wrong user.
pub(super) struct AsUser {
    gid: Gid,
    groups: Vec<Gid>,
}

impl AsUser {
    pub(super) fn become_user(account: &Account) -> nix::Result<Self> {
        let before = Self { gid: Gid::effective(), groups: getgroups()? };
        initgroups(account.name.as_c_str(), account.gid)?;
        setegid(account.gid)?;
        seteuid(account.uid)?;
        Ok(before)
    }
}

impl Drop for AsUser {
    /// A helper that cannot restore all its ids must not decide about a login.
    fn drop(&mut self) {
        let back = seteuid(Uid::from_raw(0)).and(setegid(self.gid)).and(setgroups(&self.groups));
        if let Err(error) = back {
            tracing::error!("cannot become root again: {error}");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_ends_at_home_or_at_the_root() {
        let walk = |path: &'static str, home: &str| -> Vec<&Path> {
            up_to(Path::new(path), Path::new(home)).collect()
        };
        assert_eq!(walk("/usr/lib/x/y", "/usr/lib"), [Path::new("/usr/lib/x"), Path::new("/usr/lib")]);
        assert_eq!(walk("/etc/x", "/usr/lib"), [Path::new("/etc"), Path::new("/")]);
        assert_eq!(walk("/x", "/"), [Path::new("/")]);
        assert_eq!(walk("/a/b", "/nonexistent"), [Path::new("/a"), Path::new("/")]);
    }

    #[test]
    fn error_messages() {
        let path = || PathBuf::from("/home/alice/.ssh/authorized_keys");
        let errors = [
            KeyFileError::Read { path: path(), source: io::Error::from_raw_os_error(13) },
            KeyFileError::NotAFile(path()),
            KeyFileError::TooLong(path(), 2 * FILE_LIMIT, FILE_LIMIT),
            KeyFileError::Owner(path(), 1001),
            KeyFileError::NotRoots("/usr/local/bin/keys".into(), 1001),
            KeyFileError::Writable(path(), 0o664),
        ];
        let text: String = errors.iter().map(|error| format!("{error}\n")).collect();
        snapbox::assert_data_eq!(text, snapbox::file!["../../tests/golden/auth/key-files.txt"].raw());
    }
}
