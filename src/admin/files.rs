//! The state on disk: the committed file, the changes in /run, and the copies in the state directory. A
//! restarted `console-admin` continues from there.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::apply::Plan;
use super::state::{Last, State};
use crate::config::changes::{Changes, RUNNING_FILE};
use crate::config::commit::{COMMITTED_FILE, advice_by_owner};
use crate::config::{Config, ConfigError, Instances, LAST_GOOD, Text, committed, load_text};
use crate::system::persist;

/// Changes that were not reloaded; read by console-admin only.
const CANDIDATE_FILE: &str = "run/consoleserver/admin/candidate.toml";
/// An edited committed file that a rollback has replaced.
const EDITED_FILE: &str = "var/lib/consoleserver/admin/edited.toml";
/// An unreadable committed file that a rollback has moved.
const UNREADABLE_FILE: &str = "etc/consoleserver/config.toml.unreadable";
/// Author and time of the last commit, kept over reboots.
const LAST_COMMIT: &str = "var/lib/consoleserver/admin/last-commit.toml";
/// The steps of a reload in progress, so that a restarted service repeats them. Gone after a reboot, which
/// starts all units from the configuration.
const UNDER_WAY: &str = "run/consoleserver/admin/under-way.toml";
const VENDOR_FILE: &str = "usr/lib/consoleserver/config.toml";

/// A file of the state cannot be written.
#[derive(Debug, Error)]
#[error("{}: cannot be written: {cause}{}", path.display(), advice_by_owner(path, cause))]
pub struct FileError {
    path: PathBuf,
    cause: io::Error,
}

#[derive(Serialize, Deserialize)]
struct Candidate {
    revision: u64,
    last: Option<Last>,
    #[serde(default)]
    change: Changes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCommit {
    pub who: String,
    pub when: jiff::Timestamp,
    pub count: u32,
}

/// Identifies the version of a file without reading it.
pub type Stamp = Vec<Option<(u64, u64, i64, i64, u64)>>;

#[derive(Debug, Clone)]
pub struct Files {
    /// The directory that contains etc, usr, run and var.
    pub root: PathBuf,
}

impl Files {
    /// The version of the committed files, by inode, size and time of change.
    pub fn stamp(&self) -> Stamp {
        let stamp = |path: &str| {
            let meta = fs::metadata(self.root.join(path)).ok()?;
            Some((meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec(), meta.size()))
        };
        [COMMITTED_FILE, VENDOR_FILE].map(stamp).to_vec()
    }

    /// The committed text; if it is invalid, the last valid one and the error.
    pub fn committed(&self) -> (Text, Option<String>) {
        let wrong = match committed(&self.root)
            .and_then(|text| Config::parse(&text.text, &text.path).map(|_| text))
        {
            Ok(text) => return (text, None),
            Err(error) => error,
        };
        let path = self.root.join(COMMITTED_FILE);
        let text = match &wrong {
            ConfigError::Missing(_) => return (Text { text: String::new(), path }, None),
            _ => load_text(&self.root.join(LAST_GOOD)).ok().flatten().unwrap_or_default(),
        };
        (Text { text, path }, Some(wrong.to_string()))
    }

    /// Loads the state. Parts that cannot be read are left out and logged.
    pub fn load(&self) -> State {
        let (text, fault) = self.committed();
        let running = Changes::running(&self.root).unwrap_or_else(|error| {
            tracing::error!("changes that were reloaded but not committed are lost: {error}");
            Changes::default()
        });
        let candidate = self.candidate().unwrap_or_else(|error| {
            tracing::error!("changes that were not reloaded are lost: {error}");
            None
        });
        let Candidate { revision, last, change } =
            candidate.unwrap_or(Candidate { revision: 1, last: None, change: Changes::default() });
        let state = State::new(text, fault, running, change, revision, last);
        state.with_instances(Instances::running(&self.root)).without_done_renames()
    }

    fn candidate(&self) -> Result<Option<Candidate>, String> {
        read(&self.root.join(CANDIDATE_FILE))
    }

    /// Writes the running changes: ports and the generator read them from now on.
    pub fn save_running(&self, state: &State) -> Result<(), FileError> {
        let path = self.root.join(RUNNING_FILE);
        if state.running.is_empty() && state.instances.is_empty() {
            return remove(&path);
        }
        let text = state.running.to_running(&state.instances).map_err(io::Error::other);
        write(&path, text, 0o644)
    }

    /// Writes the changes that were not reloaded, and the revision.
    pub fn save_candidate(&self, state: &State) -> Result<(), FileError> {
        let file =
            Candidate { revision: state.revision, last: state.last.clone(), change: state.candidate.clone() };
        write_toml(&self.root.join(CANDIDATE_FILE), &file)
    }

    /// Copies an edited committed file that is about to be replaced. Returns the path of the copy.
    pub fn save_edited(&self, text: &str) -> Result<PathBuf, FileError> {
        write(&self.root.join(EDITED_FILE), Ok(text.to_owned()), 0o600)?;
        Ok(Path::new("/").join(EDITED_FILE))
    }

    /// Moves an unreadable committed file out of the way, also if it is a directory. Returns its new path.
    pub fn set_aside(&self) -> Result<PathBuf, FileError> {
        let (from, to) = (self.root.join(COMMITTED_FILE), self.root.join(UNREADABLE_FILE));
        fs::rename(&from, &to).map_err(|cause| FileError { path: to, cause })?;
        Ok(Path::new("/").join(UNREADABLE_FILE))
    }

    /// Writes the steps that are about to be done; [`Self::is_done`] removes them.
    pub fn save_under_way(&self, plan: &Plan) -> Result<(), FileError> {
        write_toml(&self.root.join(UNDER_WAY), plan)
    }

    /// The steps that an earlier process has begun and not finished.
    pub fn under_way(&self) -> Result<Option<Plan>, String> {
        read(&self.root.join(UNDER_WAY))
    }

    /// Removes the steps: they are done, or undone.
    pub fn is_done(&self) -> Result<(), FileError> {
        remove(&self.root.join(UNDER_WAY))
    }

    /// Copies a valid committed text, as the fallback for an invalid file.
    pub fn save_last_good(&self, text: &str) -> Result<(), FileError> {
        let path = self.root.join(LAST_GOOD);
        match load_text(&path) {
            Ok(Some(same)) if same == text => Ok(()),
            _ => write(&path, Ok(text.to_owned()), 0o644),
        }
    }

    /// Writes author and time of the last commit.
    pub fn save_last_commit(&self, commit: &LastCommit) -> Result<(), FileError> {
        write_toml(&self.root.join(LAST_COMMIT), commit)
    }

    /// The last commit; `None` if there was none or the file cannot be read.
    pub fn last_commit(&self) -> Option<LastCommit> {
        read(&self.root.join(LAST_COMMIT)).unwrap_or_else(|error| {
            tracing::warn!("the last commit is unknown: {error}");
            None
        })
    }

    /// Removes temporary files of a process that was killed while it wrote.
    pub fn sweep(&self) {
        for path in [COMMITTED_FILE, CANDIDATE_FILE, LAST_GOOD].map(|path| self.root.join(path)) {
            let Some(directory) = path.parent() else { continue };
            // A missing directory has none.
            let Ok(entries) = fs::read_dir(directory) else { continue };
            for name in entries.filter_map(|entry| Some(entry.ok()?.file_name())) {
                let draft = name.to_str().and_then(|name| name.strip_prefix('.')?.rsplit_once(".toml."));
                if draft.is_some_and(|(_, pid)| pid.bytes().all(|b| b.is_ascii_digit()))
                    && let Err(error) = fs::remove_file(directory.join(&name))
                {
                    tracing::warn!("cannot remove temporary files in {}: {error}", directory.display());
                }
            }
        }
    }
}

pub(super) fn write(path: &Path, text: io::Result<String>, mode: u32) -> Result<(), FileError> {
    text.and_then(|text| persist::write(path, text.as_bytes(), mode, None))
        .map_err(|cause| FileError { path: path.to_owned(), cause })
}

/// Writes a file of console-admin's own.
pub(super) fn write_toml(path: &Path, content: &impl Serialize) -> Result<(), FileError> {
    write(path, toml::to_string(content).map_err(io::Error::other), 0o600)
}

/// Reads a file of console-admin's own; `None` if there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let text = load_text(path).map_err(|error| error.to_string())?;
    let parse = |text: String| {
        toml::from_str(&text).map_err(|error| format!("{}: {}", path.display(), error.message()))
    };
    text.map(parse).transpose()
}

pub(super) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => persist::sync_directory(path).map_err(|cause| FileError { path: path.to_owned(), cause }),
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(FileError { path: path.to_owned(), cause })
        }
        Err(_) => Ok(()),
    }
}
