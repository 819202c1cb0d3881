//! Writes the planned files. systemd empties the directory before it runs generators, so existing files are
//! from another generator and stay.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

use super::{Entry, Plan};

/// An entry that could not be written.
#[derive(Debug, Error)]
#[error("{}: {cause}", path.display())]
pub struct WriteError {
    path: PathBuf,
    cause: io::Error,
}

/// Writes the planned files below `directory`. An error does not stop the others.
pub fn write(plan: &Plan, directory: &Path) -> Vec<WriteError> {
    let made = plan.entries.iter().map(|(path, entry)| {
        let path = directory.join(below(path)?);
        make(&path, entry).map_err(|cause| WriteError { path, cause })
    });
    made.filter_map(Result::err).collect()
}

/// The files below `directory`: the units that systemd has loaded.
pub fn written(directory: &Path) -> io::Result<Plan> {
    let mut plan = Plan::default();
    let absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let names = |at: &Path| -> io::Result<Vec<PathBuf>> {
        match fs::read_dir(at) {
            Err(error) if absent(&error) => Ok(Vec::new()),
            entries => entries?.map(|entry| Ok(entry?.file_name().into())).collect(),
        }
    };
    for name in names(directory)? {
        let within = directory.join(&name);
        let inner = match within.is_dir() {
            true => names(&within)?.into_iter().map(|inner| name.join(inner)).collect(),
            false => vec![name],
        };
        for path in inner.into_iter().filter(|path| is_ours(path)) {
            let at = directory.join(&path);
            let entry = match fs::read_link(&at) {
                Ok(target) => Entry::Link(target),
                Err(_) => Entry::File(String::from_utf8_lossy(&fs::read(&at)?).into_owned()),
            };
            plan.entries.insert(path, entry);
        }
    }
    Ok(plan)
}

/// Other generators write to the same directory.
fn is_ours(path: &Path) -> bool {
    let begins = |name: Option<&std::ffi::OsStr>, with: &[&str]| {
        name.and_then(|name| name.to_str()).is_some_and(|name| with.iter().any(|with| name.starts_with(with)))
    };
    begins(
        path.iter().next(),
        &["console@", "console-attach@", "console-source@", "console-cli.", "consoleserver."],
    ) || begins(path.file_name(), &["console@"])
}

/// Defence in depth: `plan` makes no path that leads out of the directory.
fn below(path: &Path) -> Result<&Path, WriteError> {
    let cause = || io::Error::new(io::ErrorKind::InvalidInput, "leads out of the directory");
    match path.components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(path),
        false => Err(WriteError { path: path.to_owned(), cause: cause() }),
    }
}

fn make(path: &Path, entry: &Entry) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match entry {
        Entry::File(text) => {
            OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
        }
        Entry::Link(target) => symlink(target, path),
    }
}
