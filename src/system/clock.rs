//! The time: formatted for users at a console, and waited for.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::time::Instant;

/// `12:01:07`, local time.
pub fn clock(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string()
}

/// `2026-11-24 12:01:07`, local time.
pub fn date_and_clock(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The machine's time zone (localtime(5)).
const LOCALTIME: &str = "/etc/localtime";
/// Time between two checks of it.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The machine's time zone for a process that runs for months: checked once a minute, and only while it is used.
#[derive(Debug)]
pub struct SystemZone {
    path: PathBuf,
    zone: TimeZone,
    seen: Seen,
    looked: std::time::Instant,
}

/// The link and the file behind it: `timedatectl set-timezone` makes another link, an update of tzdata another file.
type Seen = [Option<(u64, u64, i64, i64)>; 2];

impl Default for SystemZone {
    fn default() -> Self {
        let path = PathBuf::from(LOCALTIME);
        let seen = seen(&path);
        Self { path, zone: TimeZone::system(), seen, looked: std::time::Instant::now() }
    }
}

impl SystemZone {
    /// The zone at the last check.
    pub fn zone(&self) -> TimeZone {
        self.zone.clone()
    }

    /// The new zone, if it has changed; at most one check a minute.
    pub fn changed(&mut self) -> Option<TimeZone> {
        if self.looked.elapsed() < CHECK_INTERVAL {
            return None;
        }
        self.looked = std::time::Instant::now();
        self.update().then(|| {
            // jiff keeps what it has read.
            jiff::tz::db().reset();
            self.zone = TimeZone::system();
            self.zone()
        })
    }

    fn update(&mut self) -> bool {
        let before = std::mem::replace(&mut self.seen, seen(&self.path));
        before != self.seen
    }
}

fn seen(path: &Path) -> Seen {
    let what = |metadata: Metadata| (metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
    [path.symlink_metadata().ok().map(what), path.metadata().ok().map(what)]
}

/// Waits until a time; without one, without end. Cancel safe.
pub async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn another_link_and_another_file_behind_it_are_another_zone() {
        let room = tempfile::tempdir().unwrap();
        let at = |name: &str| room.path().join(name);
        fs::write(at("Berlin"), "1").unwrap();
        fs::write(at("Tokyo"), "2").unwrap();
        symlink("Berlin", at("localtime")).unwrap();
        let path = at("localtime");
        let mut zone = SystemZone { seen: seen(&path), path, ..SystemZone::default() };
        assert!(!zone.update());
        // timedatectl replaces the link like this.
        symlink("Tokyo", at("new")).unwrap();
        fs::rename(at("new"), at("localtime")).unwrap();
        assert!(zone.update() && !zone.update());
        // dpkg replaces the file like this.
        fs::write(at("newer"), "3").unwrap();
        fs::rename(at("newer"), at("Tokyo")).unwrap();
        assert!(zone.update() && !zone.update());
        fs::remove_file(at("localtime")).unwrap();
        assert!(zone.update() && !zone.update());
    }
}
