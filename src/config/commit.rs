//! The one writer of /etc: a commit puts the whole new text in the place of the old one, and a rollback puts the old one back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::persist;

/// The committed file, below the root.
pub const COMMITTED: &str = "etc/consoleserver/config.toml";

/// The file cannot be written.
#[derive(Debug, Error)]
#[error("{}: cannot be written: {cause}{}", path.display(), advice(path, cause))]
pub struct CommitError {
    path: PathBuf,
    cause: io::Error,
}

/// What to do about it, where the file is not simply one in its directory.
fn advice(path: &Path, cause: &io::Error) -> String {
    let denied = matches!(
        cause.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::ResourceBusy
    );
    match fs::canonicalize(path) {
        Ok(real) if denied && real != path => {
            let directory = real.parent().unwrap_or(&real).display();
            format!(
                "; it is a link to {}, and console-admin writes there only if {directory} belongs to _console-admin and \
                 `systemctl edit console-admin` has ReadWritePaths={directory}: or change that file by hand, then \
                 systemctl daemon-reload; systemctl restart consoleserver.target",
                real.display()
            )
        }
        // (Its directory belongs to console-admin, where it can replace any file but one.)
        Ok(_) if denied && persist::is_mount(path) => {
            "; it is mounted by itself, so that it can only be written in place: mount its directory instead, or let \
             _console-admin write it"
                .to_owned()
        }
        _ => String::new(),
    }
}

/// Puts the text there: after a power cut either the old or the new one is there, whole.
pub fn write(root: &Path, text: &str) -> Result<(), CommitError> {
    let path = root.join(COMMITTED);
    persist::write(&path, text.as_bytes(), 0o644, None).map_err(|cause| CommitError { path, cause })
}

/// What was there before, which may be nothing: then the vendor's configuration rules again.
pub fn restore(root: &Path, before: Option<&str>) -> Result<(), CommitError> {
    let Some(text) = before else {
        let path = root.join(COMMITTED);
        let removed = fs::remove_file(&path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        });
        return removed
            .and_then(|()| fs::File::open(path.parent().unwrap_or(root))?.sync_all())
            .map_err(|cause| CommitError { path, cause });
    };
    write(root, text)
}
