//! What a server has published, and the problems of its last publication.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::directory::{FILE, Remark};
use super::former::{Former, Location, MAX_FORMER};
use super::publish::PublishError;
use crate::system::persist;

/// File with the remarks for `doctor`, below the directory of the state.
const REMARKS: &str = "remarks.json";
/// File with the published names, below the directory of the state.
const STATE: &str = "state.json";
/// The directory of the state, below the root.
pub const STATE_DIRECTORY: &str = "var/lib/consoleserver/directory";
/// How long a removed name is remembered: an older backup of the zone needs an administrator.
pub const REMEMBERED_SECONDS: i64 = 30 * 24 * 3600;
/// Removed names that are remembered. Each costs a message of 200 bytes in a full publication.
const MAX_REMOVED: usize = 256;

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The random number of this server.
    pub id: String,
    #[serde(default)]
    pub location: Option<Location>,
    #[serde(default)]
    pub former: Vec<Former>,
    /// The names that are this server's, or would be if the last publication had been completed.
    pub names: BTreeMap<String, Name>,
    /// Names that it had, and when it gave them up: a zone that is restored from a backup has them again.
    #[serde(default)]
    pub removed: BTreeMap<String, i64>,
    /// The digest of the last publication, if it was complete.
    #[serde(default)]
    pub digest: Option<String>,
    /// When that was, in seconds of Unix time.
    #[serde(default)]
    pub published_at: i64,
    /// The fingerprints of the host keys at that time.
    #[serde(default)]
    pub fingerprints: Vec<String>,
}

#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// Since when its device is absent, in seconds of Unix time.
    pub absent_since: Option<i64>,
}

impl State {
    /// Reads the state, or makes the random number of a server that has none.
    pub fn load(directory: &Path) -> Result<Self, PublishError> {
        let mut state = Self::load_existing(directory)?.unwrap_or_default();
        if state.id.is_empty() {
            let random = "/proc/sys/kernel/random/uuid";
            let id =
                std::fs::read_to_string(random).map_err(|error| PublishError::File(random.into(), error))?;
            state.id = id.trim().to_owned();
            // Before it is used: names that were published under a forgotten id would have no owner.
            state.save(directory)?;
        }
        Ok(state)
    }

    /// Reads the state of a server that has published something.
    pub fn load_existing(directory: &Path) -> Result<Option<Self>, PublishError> {
        let path = directory.join(STATE);
        let failed = |error| PublishError::File(path.clone(), error);
        match persist::read(&path) {
            // An invalid file is an error: with a new id, this server would no longer own its names.
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Deletes the state of a server that has nothing published anywhere.
    pub fn delete(directory: &Path) -> Result<(), PublishError> {
        for name in [REMARKS, STATE] {
            let path = directory.join(name);
            persist::gone(std::fs::remove_file(&path)).map_err(|error| PublishError::File(path, error))?;
        }
        Ok(())
    }

    /// From now on, the names are published there, or nowhere; the names at the former location must be removed.
    pub fn move_to(&mut self, location: Option<Location>, now: i64) {
        if self.location == location {
            return;
        }
        let mut before = std::mem::replace(&mut self.location, location);
        let names: BTreeSet<String> = self.names.keys().chain(self.removed.keys()).cloned().collect();
        // (The first version of the state had no location.)
        if let Some(before) = before.take().filter(|_| !names.is_empty()) {
            self.former.push(Former::new(before, names, now));
        }
        match &self.location {
            // Back again.
            Some(location) => {
                for former in self.former.extract_if(.., |former| former.location == *location) {
                    for name in former.names {
                        self.names.entry(name).or_default();
                    }
                }
            }
            None => self.names.clear(),
        }
        while self.former.len() > MAX_FORMER {
            self.former.remove(0).forget();
        }
        self.removed.clear();
        self.digest = None;
        self.published_at = 0;
    }

    /// Former names of this server at the current location.
    pub fn former_names(&self) -> impl Iterator<Item = String> {
        let is_in_zone = |former: &&Former| {
            self.location.as_ref().is_some_and(|location| {
                former.location.zone == location.zone && former.location.name != location.name
            })
        };
        self.former.iter().filter(is_in_zone).map(|former| former.location.name.clone())
    }

    pub fn save(&self, directory: &Path) -> Result<(), PublishError> {
        write_json(&directory.join(STATE), self)
    }

    /// Moves names to the removed ones, and forgets those that were removed long ago.
    pub fn remove(&mut self, names: &[String], now: i64) {
        for name in names {
            self.names.remove(name);
            self.removed.insert(name.clone(), now);
        }
        self.removed.retain(|_, at| now - *at < REMEMBERED_SECONDS);
        while self.removed.len() > MAX_REMOVED {
            let oldest = self.removed.iter().min_by_key(|(_, at)| **at).map(|(name, _)| name.clone());
            oldest.map(|name| self.removed.remove(&name));
        }
    }
}

/// The problems of the last run.
pub fn remarks(root: &Path) -> Vec<Remark> {
    let directory = root.join(STATE_DIRECTORY);
    let remarks = read_remarks(&directory).unwrap_or_default();
    if root.join(FILE).exists() {
        return remarks;
    }
    // Publishing was disabled: the names in the state must be removed.
    let state = State::load_existing(&directory).ok().flatten().unwrap_or_default();
    match state.location {
        Some(location) if !state.names.is_empty() => {
            vec![Former::new(location, state.names.into_keys().collect(), 0).not_yet_removed()]
        }
        _ => remarks,
    }
}

fn read_remarks(directory: &Path) -> io::Result<Vec<Remark>> {
    Ok(serde_json::from_slice(&persist::read(&directory.join(REMARKS))?)?)
}

/// Writes the problems of this run: those that the last one did not have.
pub fn write_remarks(directory: &Path, remarks: &[Remark]) -> Result<Vec<Remark>, PublishError> {
    let before = read_remarks(directory).ok();
    if before.as_deref() != Some(remarks) {
        write_json(&directory.join(REMARKS), &remarks)?;
    }
    let before = before.unwrap_or_default();
    Ok(remarks.iter().filter(|remark| !before.contains(remark)).cloned().collect())
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), PublishError> {
    let text = serde_json::to_vec(value).expect("strings and numbers");
    persist::write(path, &text, 0o644, None).map_err(|error| PublishError::File(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_names_are_remembered_for_a_while() {
        let mut state = State::default();
        state.names.insert("kept".to_owned(), Name::default());
        let many: Vec<String> = (0..300).map(|number| format!("n{number}")).collect();
        state.remove(&many[..1], 0);
        state.remove(&many, 10);
        assert_eq!((state.names.len(), state.removed.len()), (1, MAX_REMOVED));
        state.remove(&[], 10 + REMEMBERED_SECONDS);
        assert_eq!((state.names.len(), state.removed.len()), (1, 0));
    }
}
