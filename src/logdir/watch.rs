//! Whether a path may lead elsewhere: mounts come and go (`/proc/self/mountinfo`, proc_pid_mountinfo(5)), directories are
//! removed, renamed and created (inotify(7)). It reports that something has changed, not what.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::Interest;

use crate::system::reactor::{Notifier, Watched};

pub(super) struct PathWatch {
    base: PathBuf,
    mounts: Watched<File>,
    inotify: Watched<Notifier>,
    /// The watch of the parent directory, in which only one name matters.
    above: Option<WatchDescriptor>,
}

impl PathWatch {
    pub(super) fn new(base: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let mut watch = Self {
            base: base.to_owned(),
            mounts: Watched::new(File::open("/proc/self/mountinfo")?, Interest::PRIORITY)?,
            inotify: Watched::new(Notifier(inotify), Interest::READABLE)?,
            above: None,
        };
        watch.arm();
        Ok(watch)
    }

    /// Waits until a path below the directory may lead elsewhere. Cancel safe.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        loop {
            let matters = tokio::select! {
                changed = self.mounts.ready(Interest::PRIORITY) => {
                    changed?.clear_ready();
                    true
                }
                ready = self.inotify.readable() => {
                    match ready?.try_io(|watcher| Ok(watcher.get_ref().0.read_events()?)) {
                        Ok(events) => events?.iter().any(|event| self.matters(event)),
                        Err(_would_block) => false,
                    }
                }
            };
            if matters {
                self.arm();
                return Ok(());
            }
        }
    }

    fn matters(&self, event: &InotifyEvent) -> bool {
        let elsewhere = Some(event.wd) == self.above && event.name.as_deref() != self.base.file_name();
        !elsewhere || event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)
    }

    /// Watches the current directories. One that is watched already is not watched twice.
    fn arm(&mut self) {
        self.above = self.base.parent().and_then(|above| self.watch(above));
        self.watch(&self.base);
    }

    fn watch(&self, directory: &Path) -> Option<WatchDescriptor> {
        let events = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_ONLYDIR;
        match self.inotify.get_ref().0.add_watch(directory, events) {
            Ok(watched) => Some(watched),
            // It does not exist: the directory above reports when it is created.
            Err(Errno::ENOENT | Errno::ENOTDIR) => None,
            Err(errno) => {
                tracing::warn!("cannot watch {}: {errno}", directory.display());
                None
            }
        }
    }
}
