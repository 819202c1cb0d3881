//! A commit that waits for its confirmation: what was there before, and until when. It lies on the disk, so that neither a crash nor
//! a reboot makes it permanent.

use std::path::{Path, PathBuf};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::files::{self, FileError, Files};
use crate::config::Instances;
use crate::config::changes::Changes;
use crate::config::load_text;

const CONFIRM_FILE: &str = "var/lib/consoleserver/admin/confirm.toml";
const BEFORE_FILE: &str = "var/lib/consoleserver/admin/before.toml";
/// The changes of the commit, which are the candidate again if it goes back.
const CHANGES_FILE: &str = "var/lib/consoleserver/admin/commit.toml";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Seconds that may be asked for: a day.
pub const MAX_CONFIRM_SECONDS: u32 = 24 * 3600;

/// A commit that is not confirmed.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// Seconds on CLOCK_BOOTTIME.
    pub deadline: u64,
    /// The boot that the deadline is of.
    pub boot: String,
    /// The committed file as it was; `None` if there was none.
    pub before: Option<String>,
    /// The committed file as the commit has left it.
    pub after: String,
    /// What was committed, and whose it was.
    pub changes: Changes,
}

#[derive(Serialize, Deserialize)]
struct Record {
    boot: String,
    deadline: u64,
    had_file: bool,
    after: String,
}

/// Whether a commit may yet be rolled back.
pub fn is_awaited(root: &Path) -> bool {
    root.join(CONFIRM_FILE).exists()
}

impl Waiting {
    /// From now on for so long.
    pub fn new(seconds: u32, before: Option<String>, after: String, changes: Changes) -> Self {
        Self { deadline: now() + u64::from(seconds), boot: boot_id(), before, after, changes }
    }

    /// Seconds that are left; of a deadline of another boot, none.
    pub fn left(&self) -> u64 {
        if self.boot == boot_id() { self.deadline.saturating_sub(now()) } else { 0 }
    }

    /// Until when, local time.
    pub fn until(&self) -> String {
        let left = i64::try_from(self.left()).unwrap_or_default();
        crate::system::clock::clock(jiff::Timestamp::now() + jiff::SignedDuration::from_secs(left))
    }

    /// Kept, before anything in /etc changes. The old text and the changes are there before the record that they are needed.
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
        files::write(
            &path(files, CONFIRM_FILE),
            toml::to_string(&record).map_err(std::io::Error::other),
            0o600,
        )
    }

    /// What an earlier life has left; `Err` says why it cannot be told.
    pub fn load(files: &Files) -> Result<Option<Self>, String> {
        let read = |path: PathBuf| load_text(&path).map_err(|error| error.to_string());
        let Some(text) = read(path(files, CONFIRM_FILE))? else { return Ok(None) };
        let wrong = |error: toml::de::Error| format!("{CONFIRM_FILE}: {}", error.message());
        let Record { boot, deadline, had_file, after } = toml::from_str(&text).map_err(wrong)?;
        let before = if had_file {
            Some(read(path(files, BEFORE_FILE))?.ok_or(format!("/{BEFORE_FILE} is missing"))?)
        } else {
            None
        };
        // Without them it goes back all the same.
        let changes = Changes::read(&path(files, CHANGES_FILE)).unwrap_or_else(|error| {
            tracing::error!("if the commit that waits goes back, its changes are lost: {error}");
            Changes::default()
        });
        Ok(Some(Self { deadline, boot, before, after, changes }))
    }

    /// It does not wait any more.
    pub fn forget(files: &Files) -> Result<(), FileError> {
        files::remove(&path(files, CONFIRM_FILE))?;
        files::remove(&path(files, CHANGES_FILE))?;
        files::remove(&path(files, BEFORE_FILE))
    }
}

fn path(files: &Files, name: &str) -> PathBuf {
    files.root.join(name)
}

/// Time that goes on while the machine sleeps.
fn now() -> u64 {
    // The clock is there on every kernel that has systemd.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| u64::try_from(time.tv_sec()).unwrap_or_default())
}

/// Without a boot id no deadline can be trusted: each is then of another boot, and rolled back.
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
