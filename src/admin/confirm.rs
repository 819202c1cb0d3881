//! A commit that waits for its confirmation, with the previous text and its deadline. It is on disk, so that
//! neither a crash nor a reboot makes it permanent.

use std::path::{Path, PathBuf};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::files::{self, FileError, Files};
use crate::config::Instances;
use crate::config::changes::Changes;
use crate::config::load_text;

const CONFIRM_FILE: &str = "var/lib/consoleserver/admin/confirm.toml";
const BEFORE_FILE: &str = "var/lib/consoleserver/admin/before.toml";
/// The changes of the commit, which become the candidate again if it is rolled back.
const CHANGES_FILE: &str = "var/lib/consoleserver/admin/commit.toml";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Limit of the time to confirm: one day.
pub const MAX_CONFIRM_SECONDS: u32 = 24 * 3600;

/// A commit that waits for its confirmation.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// CLOCK_BOOTTIME in seconds.
    pub deadline: u64,
    /// The boot id at the time of the commit.
    pub boot: String,
    /// The committed file before the commit; `None` if there was none.
    pub before: Option<String>,
    /// The committed file after the commit.
    pub after: String,
    pub changes: Changes,
}

#[derive(Serialize, Deserialize)]
struct Record {
    boot: String,
    deadline: u64,
    had_file: bool,
    after: String,
}

/// Whether a commit waits for its confirmation.
pub fn is_awaited(root: &Path) -> bool {
    root.join(CONFIRM_FILE).exists()
}

impl Waiting {
    /// A commit that waits for `seconds` from now on.
    pub fn new(seconds: u32, before: Option<String>, after: String, changes: Changes) -> Self {
        Self { deadline: now() + u64::from(seconds), boot: boot_id(), before, after, changes }
    }

    /// Seconds until the deadline; 0 if it is of another boot.
    pub fn left(&self) -> u64 {
        if self.boot == boot_id() { self.deadline.saturating_sub(now()) } else { 0 }
    }

    /// The deadline in local time.
    pub fn until(&self) -> String {
        let left = i64::try_from(self.left()).unwrap_or_default();
        crate::system::clock::clock(jiff::Timestamp::now() + jiff::SignedDuration::from_secs(left))
    }

    /// Written before /etc changes. The record is written last, after the files that it refers to.
    pub fn save(&self, files: &Files) -> Result<(), FileError> {
        let record = Record {
            boot: self.boot.clone(),
            deadline: self.deadline,
            had_file: self.before.is_some(),
            after: self.after.clone(),
        };
        files::write(&path(files, BEFORE_FILE), Ok(self.before.clone().unwrap_or_default()), 0o600)?;
        let changes = self.changes.to_running(&Instances::default()).map_err(std::io::Error::other);
        files::write(&path(files, CHANGES_FILE), changes, 0o600)?;
        files::write_toml(&path(files, CONFIRM_FILE), &record)
    }

    /// Reads what an earlier process has written. An error means that it is unknown whether a commit waits.
    pub fn load(files: &Files) -> Result<Option<Self>, String> {
        let Some(record) = files::read(&path(files, CONFIRM_FILE))? else { return Ok(None) };
        let Record { boot, deadline, had_file, after } = record;
        let before = match had_file {
            true => {
                let text = load_text(&path(files, BEFORE_FILE)).map_err(|error| error.to_string())?;
                Some(text.ok_or(format!("/{BEFORE_FILE} is missing"))?)
            }
            false => None,
        };
        // A rollback works without them.
        let changes = Changes::read(&path(files, CHANGES_FILE)).unwrap_or_else(|error| {
            tracing::error!(
                "the changes of the commit that waits for confirmation are lost if it is rolled back: {error}"
            );
            Changes::default()
        });
        Ok(Some(Self { deadline, boot, before, after, changes }))
    }

    /// Removes the record: the commit no longer waits.
    pub fn forget(files: &Files) -> Result<(), FileError> {
        files::remove(&path(files, CONFIRM_FILE))?;
        files::remove(&path(files, CHANGES_FILE))?;
        files::remove(&path(files, BEFORE_FILE))
    }
}

fn path(files: &Files, name: &str) -> PathBuf {
    files.root.join(name)
}

/// A clock that includes suspend.
fn now() -> u64 {
    // Every kernel that runs systemd has this clock.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| u64::try_from(time.tv_sec()).unwrap_or_default())
}

/// Without a boot id no deadline can be trusted: each counts as one of another boot and is rolled back.
fn boot_id() -> String {
    match std::fs::read_to_string(BOOT_ID) {
        Ok(id) => id.trim().to_owned(),
        Err(_) => format!("unknown, {}", std::process::id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::changes::Change;

    #[test]
    fn it_is_found_again_as_it_was_and_ends_with_its_boot() {
        let room = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(room.path().join("var/lib/consoleserver/admin")).unwrap();
        let files = Files { root: room.path().to_owned() };
        assert_eq!(Waiting::load(&files), Ok(None));
        for before in [None, Some("[ports.a]\n".to_owned())] {
            let mut changes = Changes::default();
            let change = Change {
                who: "alice".to_owned(),
                when: jiff::Timestamp::UNIX_EPOCH,
                old: None,
                new: Some(300.into()),
            };
            changes.insert("ports.b.baud".parse().unwrap(), change);
            let waiting = Waiting::new(100, before, "[ports.b]\n".to_owned(), changes);
            waiting.save(&files).unwrap();
            assert_eq!(Waiting::load(&files), Ok(Some(waiting.clone())));
            assert!((90..=100).contains(&waiting.left()));
            assert_eq!(Waiting { boot: "other".to_owned(), ..waiting }.left(), 0);
        }
        Waiting::forget(&files).unwrap();
        assert_eq!(Waiting::load(&files), Ok(None));
    }
}
