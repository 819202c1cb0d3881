//! The port's side: asks `console-logs` for the directory of the capture log, for as long as the port runs, and asks again when
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

use super::{Current, Identity, LogDirectory, NoLogDirectory, Told};
use crate::system::message::{self, MessageError};

/// Between two connections: `console-logs` may be restarted by an upgrade.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);
/// The same while it cannot be reached.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(30);

/// The directory at present, and a way to have it looked up again.
#[derive(Debug, Clone)]
pub struct Client {
    current: watch::Receiver<Current>,
    ask_again: Arc<Notify>,
}

impl Client {
    /// A directory that is reached by its path, which nobody has to be asked for.
    pub fn fixed(path: &Path) -> Self {
        // The sender goes: nothing changes.
        Self { current: watch::channel(Ok(path.into())).1, ask_again: Arc::default() }
    }

    /// Asks at this socket from now on.
    pub fn begin(socket: PathBuf) -> io::Result<Self> {
        let (sender, current) = watch::channel(Err(NoLogDirectory::NotYet));
        let ask_again = Arc::new(Notify::new());
        tokio::spawn(follow(socket, Slot::new()?, sender, ask_again.clone()));
        Ok(Self { current, ask_again })
    }

    /// The directory, or why there is none.
    pub fn current(&self) -> Current {
        self.current.borrow().clone()
    }

    /// Waits until it is another one. Never returns for a fixed one. Cancel safe.
    pub async fn changed(&mut self) {
        if self.current.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until there is an answer of any kind. Cancel safe.
    pub async fn answered(&mut self) {
        // Fails only once nothing changes any more: then what is there is the answer.
        let _ = self.current.wait_for(|current| !matches!(current, Err(NoLogDirectory::NotYet))).await;
    }

    /// Has the path looked up again, because the directory cannot be written to.
    pub fn ask_again(&self) {
        self.ask_again.notify_one();
    }
}

/// The one descriptor number at which the directory is, whichever it is: so a path that begins with it always leads to the
/// directory at present, also that of a reader who has had it for hours.
#[derive(Debug)]
struct Slot {
    descriptor: OwnedFd,
    /// proc(5): what is looked up below this link is looked up below the descriptor.
    path: PathBuf,
    /// Which directory it is.
    holds: Option<Identity>,
}

impl Slot {
    /// Without a directory: nothing is found below it.
    fn new() -> io::Result<Self> {
        let descriptor = nowhere()?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()));
        Ok(Self { descriptor, path, holds: None })
    }

    fn fill(&mut self, directory: &OwnedFd) -> io::Result<()> {
        Ok(rustix::io::dup3(directory, &mut self.descriptor, DupFlags::CLOEXEC)?)
    }

    /// Lets go of the directory: its disk may be about to be unmounted.
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
                // A directory that was handed over is good without it.
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

/// Takes what is sent until the connection ends.
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
            Told::Unavailable { why } => {
                slot.clear()?;
                drop(current.send_replace(Err(NoLogDirectory::Unavailable(why))));
            }
            Told::Directory { path, identity } => {
                let stream: &UnixStream = from.as_ref();
                let received =
                    stream.async_io(Interest::READABLE, || message::receive_descriptors(stream)).await?;
                let [descriptor] = <[OwnedFd; 1]>::try_from(received).map_err(|_| no_descriptor())?;
                // (What is known is not asked: its disk may not answer.)
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
    io::Error::new(io::ErrorKind::InvalidData, "a message without the directory that it announces")
}
