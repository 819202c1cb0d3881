//! Where the state lies between two lives of `console-admin`: the committed file, the changes in /run, the copies in its state
//! directory.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::apply::Plan;
use super::state::{Last, State};
use crate::config::changes::{Changes, RUNNING_FILE};
use crate::config::commit::COMMITTED_FILE;
use crate::config::{Config, ConfigError, Instances, LAST_GOOD, Text, committed, load_text};
use crate::system::persist;

/// Changes not yet reloaded; nobody else's business.
const CANDIDATE_FILE: &str = "run/consoleserver/admin/candidate.toml";
/// What a rollback has replaced.
const EDITED_FILE: &str = "var/lib/consoleserver/admin/edited.toml";
/// What a rollback has found in place of the committed file, and could not read.
const UNREADABLE_FILE: &str = "etc/consoleserver/config.toml.unreadable";
/// Who has committed last, and when. It outlives a boot, as what was committed does.
const LAST_COMMIT: &str = "var/lib/consoleserver/admin/last-commit.toml";
/// What systemd and the ports are being told, so that a killed service tells them again. Gone at a reboot, which begins afresh.
const UNDER_WAY: &str = "run/consoleserver/admin/under-way.toml";
/// Where the vendor's configuration is.
const VENDOR_FILE: &str = "usr/lib/consoleserver/config.toml";

/// A file of the state cannot be written.
#[derive(Debug, Error)]
#[error("{}: cannot be written: {cause}", path.display())]
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

/// The last commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCommit {
    /// User name.
    pub who: String,
    /// When.
    pub when: jiff::Timestamp,
    /// Of how many changes.
    pub count: u32,
}

/// What tells one version of a file from another without reading it.
pub type Stamp = Vec<Option<(u64, u64, i64, i64, u64)>>;

/// The files below a root.
#[derive(Debug, Clone)]
pub struct Files {
    /// Where /etc, /usr, /run and /var are.
    pub root: PathBuf,
}

impl Files {
    /// The committed files as they are at present, told apart by inode, size and time of change.
    pub fn stamp(&self) -> Stamp {
        let stamp = |path: &str| {
            let meta = fs::metadata(self.root.join(path)).ok()?;
            Some((meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec(), meta.size()))
        };
        [COMMITTED_FILE, VENDOR_FILE].map(stamp).to_vec()
    }

    /// The committed text. Of a wrong one the last good one, and what is wrong.
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

    /// Everything, as it lies there. What cannot be read is left out, and said.
    pub fn load(&self) -> State {
        let (text, fault) = self.committed();
        let running = Changes::running(&self.root).unwrap_or_else(|error| {
            tracing::error!("what was reloaded and not committed is lost: {error}");
            Changes::default()
        });
        let candidate = self.candidate().unwrap_or_else(|error| {
            tracing::error!("what was not reloaded is lost: {error}");
            None
        });
        let Candidate { revision, last, change } =
            candidate.unwrap_or(Candidate { revision: 1, last: None, change: Changes::default() });
        let state = State::new(text, fault, running, change, revision, last);
        state.with_instances(Instances::running(&self.root)).without_done_renames()
    }

    fn candidate(&self) -> Result<Option<Candidate>, String> {
        let path = self.root.join(CANDIDATE_FILE);
        let text = load_text(&path).map_err(|error| error.to_string())?;
        let parse = |text: String| {
            toml::from_str(&text).map_err(|error| format!("{}: {}", path.display(), error.message()))
        };
        text.map(parse).transpose()
    }

    /// Keeps what runs: from now on every port and the generator take it.
    pub fn save_running(&self, state: &State) -> Result<(), FileError> {
        let path = self.root.join(RUNNING_FILE);
        if state.running.is_empty() && state.instances.is_empty() {
            return remove(&path);
        }
        let text = state.running.to_running(&state.instances).map_err(io::Error::other);
        write(&path, text, 0o644)
    }

    /// Keeps what is not reloaded, and the revision.
    pub fn save_candidate(&self, state: &State) -> Result<(), FileError> {
        let file =
            Candidate { revision: state.revision, last: state.last.clone(), change: state.candidate.clone() };
        write(&self.root.join(CANDIDATE_FILE), toml::to_string(&file).map_err(io::Error::other), 0o600)
    }

    /// Keeps a text that somebody has written into the committed file, and that is about to be replaced; where.
    pub fn save_edited(&self, text: &str) -> Result<PathBuf, FileError> {
        write(&self.root.join(EDITED_FILE), Ok(text.to_owned()), 0o600)?;
        Ok(Path::new("/").join(EDITED_FILE))
    }

    /// Moves a committed file that cannot be read out of the way, whatever it is; where it is now.
    pub fn set_aside(&self) -> Result<PathBuf, FileError> {
        let (from, to) = (self.root.join(COMMITTED_FILE), self.root.join(UNREADABLE_FILE));
        fs::rename(&from, &to).map_err(|cause| FileError { path: to, cause })?;
        Ok(Path::new("/").join(UNREADABLE_FILE))
    }

    /// Keeps what is about to be done, until [`Self::is_done`].
    pub fn save_under_way(&self, plan: &Plan) -> Result<(), FileError> {
        write(&self.root.join(UNDER_WAY), toml::to_string(plan).map_err(io::Error::other), 0o600)
    }

    /// What an earlier life had begun and not ended.
    pub fn under_way(&self) -> Result<Option<Plan>, String> {
        let path = self.root.join(UNDER_WAY);
        let text = load_text(&path).map_err(|error| error.to_string())?;
        let parse = |text: String| {
            toml::from_str(&text).map_err(|error| format!("{}: {}", path.display(), error.message()))
        };
        text.map(parse).transpose()
    }

    /// It is done, or undone.
    pub fn is_done(&self) -> Result<(), FileError> {
        remove(&self.root.join(UNDER_WAY))
    }

    /// Keeps a committed text that is right, for the day when the file is not.
    pub fn save_last_good(&self, text: &str) -> Result<(), FileError> {
        let path = self.root.join(LAST_GOOD);
        match load_text(&path) {
            Ok(Some(same)) if same == text => Ok(()),
            _ => write(&path, Ok(text.to_owned()), 0o644),
        }
    }

    /// Keeps who has committed.
    pub fn save_last_commit(&self, commit: &LastCommit) -> Result<(), FileError> {
        write(&self.root.join(LAST_COMMIT), toml::to_string(commit).map_err(io::Error::other), 0o600)
    }

    /// Who has committed last; `None` if nobody has, or that cannot be read.
    pub fn last_commit(&self) -> Option<LastCommit> {
        let path = self.root.join(LAST_COMMIT);
        match load_text(&path) {
            Ok(text) => toml::from_str(&text?)
                .inspect_err(|error| tracing::warn!("{}: {}", path.display(), error.message()))
                .ok(),
            Err(error) => {
                tracing::warn!("who has committed last cannot be told: {error}");
                None
            }
        }
    }

    /// Drafts of a writer that was killed.
    pub fn sweep(&self) {
        for path in [COMMITTED_FILE, CANDIDATE_FILE, LAST_GOOD].map(|path| self.root.join(path)) {
            let Some(directory) = path.parent() else { continue };
            // A directory that is not there has no drafts.
            let Ok(entries) = fs::read_dir(directory) else { continue };
            for name in entries.filter_map(|entry| Some(entry.ok()?.file_name())) {
                let draft = name.to_str().and_then(|name| name.strip_prefix('.')?.rsplit_once(".toml."));
                if draft.is_some_and(|(_, pid)| pid.bytes().all(|b| b.is_ascii_digit()))
                    && let Err(error) = fs::remove_file(directory.join(&name))
                {
                    tracing::warn!("a draft of an earlier life stays in {}: {error}", directory.display());
                }
            }
        }
    }
}

pub(super) fn write(path: &Path, text: io::Result<String>, mode: u32) -> Result<(), FileError> {
    text.and_then(|text| persist::write(path, text.as_bytes(), mode, None))
        .map_err(|cause| FileError { path: path.to_owned(), cause })
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
