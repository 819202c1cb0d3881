//! Plug-in as inotify tells it: something appeared beside one of our devices, so look again. udev's own events
//! need no privilege either, but do not tell when a link in /dev/serial/by-path is there.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::place::in_file;
use super::{ForegroundError, readiness};

/// Watches the directories of some devices; a directory that is not there yet is awaited.
#[derive(Debug)]
pub struct Devices {
    inotify: Inotify,
    readable: AsyncFd<OwnedFd>,
    directories: BTreeSet<PathBuf>,
    changes: watch::Sender<()>,
}

impl Devices {
    /// Begins to watch: a device that appears after this is told to every receiver.
    pub fn watch<'a>(devices: impl Iterator<Item = &'a Path>) -> Result<Self, ForegroundError> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(|error| ForegroundError::Inotify(error.into()))?;
        let readable = inotify.as_fd().try_clone_to_owned();
        let readable = readable.and_then(|fd| readiness::watch(fd, Interest::READABLE));
        let watched = Self {
            inotify,
            readable: readable.map_err(ForegroundError::Inotify)?,
            directories: devices.filter_map(Path::parent).map(Path::to_owned).collect(),
            changes: watch::Sender::new(()),
        };
        watched.renew()?;
        Ok(watched)
    }

    /// Told whenever it is worth looking whether a device is there.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Tells for ever; the answer is why it could not go on.
    pub async fn tell(self) -> ForegroundError {
        loop {
            match self.next().await {
                Ok(()) => self.changes.send_replace(()),
                Err(error) => return error,
            }
        }
    }

    async fn next(&self) -> Result<(), ForegroundError> {
        let mut ready = self.readable.readable().await.map_err(ForegroundError::Inotify)?;
        loop {
            match self.inotify.read_events() {
                Ok(_) => {}
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(ForegroundError::Inotify(error.into())),
            }
        }
        ready.clear_ready();
        self.renew()
    }

    /// A directory may have come or gone: watches each, or the nearest above it that exists.
    fn renew(&self) -> Result<(), ForegroundError> {
        for directory in &self.directories {
            for nearest in directory.ancestors() {
                match self.add(nearest) {
                    Ok(()) if nearest == directory => break,
                    // It may have been made between the two calls, and then nobody would tell.
                    Ok(()) if directory.is_dir() => return self.renew(),
                    Ok(()) => break,
                    Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                    Err(error) => return Err(in_file(nearest)(io::Error::from(error))),
                }
            }
        }
        Ok(())
    }

    fn add(&self, directory: &Path) -> Result<(), Errno> {
        let appears = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        self.inotify.add_watch(directory, appears).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    /// Told, and then nothing more for a while: what is told next is about what happens next.
    async fn told(changes: &mut watch::Receiver<()>) {
        timeout(Duration::from_secs(10), changes.changed()).await.expect("nobody told").unwrap();
        while timeout(Duration::from_millis(50), changes.changed()).await.is_ok() {}
    }

    #[tokio::test]
    async fn a_device_is_told_even_if_its_directory_comes_goes_and_comes_again() {
        let room = tempfile::tempdir().unwrap();
        let directory = room.path().join("serial/by-path");
        let device = directory.join("usb-1");
        let devices = Devices::watch([device.as_path()].into_iter()).unwrap();
        let mut changes = devices.changes();
        tokio::spawn(devices.tell());

        for _ in 0..3 {
            std::fs::create_dir(room.path().join("serial")).unwrap();
            told(&mut changes).await;
            std::fs::create_dir(&directory).unwrap();
            told(&mut changes).await;
            std::fs::write(&device, "").unwrap();
            told(&mut changes).await;
            std::fs::remove_dir_all(room.path().join("serial")).unwrap();
            told(&mut changes).await;
        }
    }
}
