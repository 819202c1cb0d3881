//! Waiting for an unplugged device, and for a change of the links that lead to it, by inotify: uevents do not reach a private network
//! namespace, and the running service must see its adapter come back. It watches every directory that the path leads through,
//! links included, for the one name in it that matters.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use thiserror::Error;
use tokio::io::Interest;

use crate::system::reactor::{Notifier, Watched};

/// Names that a path may lead through; more is a loop of links (the kernel's limit is 40 links).
const MAX_STEPS: usize = 256;

#[derive(Debug, Error)]
#[error(
    "cannot watch for {path}: {source} (if this is a limit: sysctl fs.inotify.max_user_instances, max_user_watches)"
)]
pub struct WatchError {
    path: PathBuf,
    source: io::Error,
}

/// Reports when another attempt to open a device is due. It is armed when created: create it, try to open, and then
/// wait, so that no change is missed in between.
#[derive(Debug)]
pub struct DeviceWatch {
    paths: Vec<PathBuf>,
    inotify: Watched<Notifier>,
    /// The names that matter and their directories; at most [`MAX_STEPS`] a path.
    steps: Vec<(WatchDescriptor, OsString)>,
}

impl DeviceWatch {
    /// A watch for these paths, which may be links, and which may not exist yet, nor their directories. The last one is that of the
    /// device.
    pub fn new(paths: &[PathBuf]) -> Result<Self, WatchError> {
        let failed = |source| WatchError { path: paths.last().cloned().unwrap_or_default(), source };
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)
            .map_err(|errno| failed(errno.into()))?;
        let mut watch = Self {
            paths: paths.iter().map(std::path::absolute).collect::<Result<_, _>>().map_err(failed)?,
            inotify: Watched::new(Notifier(inotify), Interest::READABLE).map_err(failed)?,
            steps: Vec::new(),
        };
        watch.arm()?;
        Ok(watch)
    }

    /// Waits until a device, or a link or directory on the way to it, is created, moved there, removed or changes owner or
    /// mode (udev changes the owner after the node exists). The device may still be absent. Cancel safe.
    pub async fn appeared(&mut self) -> Result<(), WatchError> {
        loop {
            let mut ready = self.inotify.readable().await.map_err(|source| self.failed(source))?;
            let read = ready.try_io(|watcher| Ok(watcher.get_ref().0.read_events()?));
            drop(ready);
            match read {
                Ok(Ok(events)) if events.iter().any(|event| self.matters(event)) => return self.arm(),
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(source)) => return Err(self.failed(source)),
            }
        }
    }

    fn matters(&self, event: &InotifyEvent) -> bool {
        // The kernel's queue has overflowed: the lost events may have been for these names.
        let lost = event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
        lost || self.steps.iter().any(|(dir, name)| *dir == event.wd && Some(name) == event.name.as_ref())
    }

    /// Follows each path as far as it leads and watches on the way. A directory is watched *before* the name in it is
    /// looked up, so either the lookup finds the name or its creation is an event.
    fn arm(&mut self) -> Result<(), WatchError> {
        let mut steps = Vec::new();
        for path in &self.paths {
            self.arm_path(path, &mut steps)?;
        }
        self.forget_all_but(&steps);
        self.steps = steps;
        Ok(())
    }

    fn arm_path(&self, path: &Path, steps: &mut Vec<(WatchDescriptor, OsString)>) -> Result<(), WatchError> {
        let end = steps.len() + MAX_STEPS;
        let mut dir = PathBuf::from("/");
        let mut ahead = names(path);
        while let Some(name) = ahead.pop() {
            if name == ".." {
                dir.pop();
                continue;
            }
            match self.watch_dir(&dir) {
                Ok(wd) => steps.push((wd, name.clone())),
                // Removed or replaced since the lookup: that is an event one directory up.
                Err(Errno::ENOENT | Errno::ENOTDIR) => break,
                Err(errno) => return Err(self.failed(errno.into())),
            }
            let here = dir.join(&name);
            if let Ok(target) = fs::read_link(&here) {
                if target.is_absolute() {
                    dir = PathBuf::from("/");
                }
                ahead.extend(names(&target));
            } else if here.exists() {
                dir = here;
            } else {
                break;
            }
            if steps.len() >= end {
                break;
            }
        }
        Ok(())
    }

    fn watch_dir(&self, dir: &Path) -> Result<WatchDescriptor, Errno> {
        let events = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB;
        self.inotify.get_ref().0.add_watch(dir, events | AddWatchFlags::IN_ONLYDIR)
    }

    fn forget_all_but(&self, kept: &[(WatchDescriptor, OsString)]) {
        for (wd, _) in &self.steps {
            if !kept.iter().any(|(other, _)| other == wd) {
                // Fails if the directory is gone, and then the kernel has removed the watch already.
                let _ = self.inotify.get_ref().0.rm_watch(*wd);
            }
        }
    }

    fn failed(&self, source: io::Error) -> WatchError {
        WatchError { path: self.paths.last().cloned().unwrap_or_default(), source }
    }
}

/// The names in a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(name).map(OsStr::to_owned).collect()
}
