//! The port's side: requests the directory of the capture log from `console-logs` while the port runs, and again when
//! the log cannot be written.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::io::DupFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::{Notify, watch};

use super::{Current, DirectoryReply, Identity, LogDirectory, NoLogDirectory};
use crate::system::message::{self, MessageError};

/// Time between two connections: an upgrade restarts `console-logs`.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);
/// The same while it cannot be reached.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(30);

/// After [`Client::ask_again`]: `console-logs` looks the directory up and changes the owner of its files, usually in a few milliseconds.
pub const LOOKUP_TIME: Duration = Duration::from_millis(500);

/// The current directory, and a way to request it again.
#[derive(Debug, Clone)]
pub struct Client {
    current: watch::Receiver<Current>,
    ask_again: Arc<Notify>,
}

impl Client {
    /// A directory that is reached by its path, without `console-logs`.
    pub fn fixed(path: &Path) -> Self {
        // The sender is dropped: nothing changes.
        Self { current: watch::channel(Ok(path.into())).1, ask_again: Arc::default() }
    }

    pub fn begin(socket: PathBuf) -> io::Result<Self> {
        let (sender, current) = watch::channel(Err(NoLogDirectory::NotYet));
        let ask_again = Arc::new(Notify::new());
        tokio::spawn(follow(socket, Slot::new()?, sender, ask_again.clone()));
        Ok(Self { current, ask_again })
    }

    /// The directory, or the reason why it is missing.
    pub fn current(&self) -> Current {
        self.current.borrow().clone()
    }

    /// Waits until it changes. Never returns for a fixed one. Cancel safe.
    pub async fn changed(&mut self) {
        if self.current.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for the first reply. Cancel safe.
    pub async fn answered(&mut self) {
        // Fails only if the value no longer changes: then the current one is the reply.
        let _ = self.current.wait_for(|current| !matches!(current, Err(NoLogDirectory::NotYet))).await;
    }

    /// Requests another lookup of the path, because the directory cannot be written to.
    pub fn ask_again(&self) {
        self.ask_again.notify_one();
    }
}

/// The descriptor number of the current directory. A path that begins with it always leads to the
/// current directory, even for a reader that has had the path for hours.
#[derive(Debug)]
struct Slot {
    descriptor: OwnedFd,
    /// proc(5): names below this link are looked up below the descriptor.
    path: PathBuf,
    holds: Option<Identity>,
}

impl Slot {
    /// Without a directory: lookups below it fail.
    fn new() -> io::Result<Self> {
        let descriptor = nowhere()?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()));
        Ok(Self { descriptor, path, holds: None })
    }

    fn fill(&mut self, directory: &OwnedFd) -> io::Result<()> {
        Ok(rustix::io::dup3(directory, &mut self.descriptor, DupFlags::CLOEXEC)?)
    }

    /// Closes the directory: its disk may be about to be unmounted.
    fn clear(&mut self) -> io::Result<()> {
        self.holds = None;
        self.fill(&nowhere()?)
    }
}

fn nowhere() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

async fn follow(socket: PathBuf, mut slot: Slot, current: watch::Sender<Current>, ask_again: Arc<Notify>) {
    let mut delay = RECONNECT_DELAY;
    while !current.is_closed() {
        match UnixStream::connect(&socket).await {
            Ok(stream) => {
                if let Err(error) = listen(stream, &mut slot, &current, &ask_again).await {
                    tracing::warn!("console-logs.service: {error}");
                }
                delay = if current.borrow().is_ok() {
                    RECONNECT_DELAY
                } else {
                    (delay * 2).min(RECONNECT_DELAY_MAX)
                };
            }
            Err(error) => {
                // A directory that was received before stays valid.
                current.send_if_modified(|current| {
                    let why = Err(NoLogDirectory::Unreachable(error.to_string()));
                    let news = current.is_err() && current.as_ref().err() != why.as_ref().err();
                    if news {
                        *current = why;
                    }
                    news
                });
                delay = (delay * 2).min(RECONNECT_DELAY_MAX);
            }
        }
        tokio::time::sleep(delay).await;
    }
}

async fn listen(
    stream: UnixStream,
    slot: &mut Slot,
    current: &watch::Sender<Current>,
    ask_again: &Notify,
) -> Result<(), MessageError> {
    let (mut from, mut to) = stream.into_split();
    loop {
        // (Receiving a message is not cancel safe, receiving its first byte is.)
        let mut first = [0];
        tokio::select! {
            read = from.read(&mut first) => if read? == 0 {
                return Ok(());
            },
            () = current.closed() => return Ok(()),
            () = ask_again.notified() => {
                to.write_all(&[0]).await?;
                continue;
            }
        }
        let mut message = first.as_slice().chain(&mut from);
        let Some(told) = message::receive_async(&mut message).await? else { return Ok(()) };
        match told {
            DirectoryReply::Unavailable { why } => {
                slot.clear()?;
                drop(current.send_replace(Err(NoLogDirectory::Unavailable(why))));
            }
            DirectoryReply::Directory { path, identity } => {
                let stream: &UnixStream = from.as_ref();
                let received =
                    stream.async_io(Interest::READABLE, || message::receive_descriptors(stream)).await?;
                let [descriptor] = <[OwnedFd; 1]>::try_from(received).map_err(|_| no_descriptor())?;
                // (A known directory is not examined: its disk may not respond.)
                if current.borrow().is_err() || slot.holds != Some(identity) {
                    slot.holds = Some(identity);
                    slot.fill(&descriptor)?;
                    drop(current.send_replace(Ok(LogDirectory { path: slot.path.clone(), shown: path })));
                }
            }
        }
    }
}

fn no_descriptor() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a message without the directory descriptor that it announces")
}
