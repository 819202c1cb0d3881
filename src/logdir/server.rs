//! `console-logs`: opens for each port that asks the directory of its capture log, makes it if it is missing, and hands over another one
//! when the path leads elsewhere. It reads nothing from its peers but that they want an answer, and nothing from the directories.

use std::collections::HashMap;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid, fchownat};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{OpenTreeFlags, open_tree};
use sd_notify::NotifyState;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::watch::PathWatch;
use super::{Told, peer};
use crate::accepting::Failing;
use crate::message;
use crate::port::PortName;
use crate::systemd;

/// Connections at a time. A port keeps one; the next one beyond waits in the backlog.
const CONNECTIONS_MAX: usize = 512;
/// A disk that does not answer within this is reported as the reason. The look-up goes on: at most one for each port.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Until a path that may lead elsewhere is looked up: `mv` and `mkdir`, or several mounts, are one change.
const SETTLE_DELAY: Duration = Duration::from_millis(20);
/// A peer that does not take an answer within this is disconnected.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Mode of a port's directory: the group `adm` reads logs.
const DIRECTORY_MODE: u32 = 0o750;

/// Whose the directories are, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// `/var/log/consoleserver`.
    pub base: PathBuf,
    /// The user that ports run as.
    pub user: Uid,
    /// The group that may read logs.
    pub group: Gid,
}

/// Why the program cannot serve.
#[derive(Debug, Error)]
pub enum ServerError {
    /// Not started by its socket unit.
    #[error("no listener: start console-logs.socket instead")]
    NoListener,
    /// The runtime, a signal, a watch.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// Why a port gets no directory. Its Display is a sentence for the port's STATUS.
#[derive(Debug, Error)]
enum OpenError {
    #[error("the log directory {} cannot be {what}: {source}{}", path.display(), hint(source))]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("the log directory {} is not a directory", .0.display())]
    NoDirectory(PathBuf),
    #[error("the disk of the log directory {} does not answer", .0.display())]
    Hangs(PathBuf),
    #[error("console-logs.service: {0}")]
    Peer(#[from] peer::PeerError),
    #[error("the log directory could not be looked up: {0}")]
    Panicked(#[from] tokio::task::JoinError),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            " (if its file system has no owners, as exFAT: mount it with uid=_console-port,gid=adm)"
        }
        io::ErrorKind::NotConnected => " (the file system behind it is dead: unmount it)",
        _ => "",
    }
}

/// Serves ports on the listener that systemd hands over, until SIGTERM.
pub fn run(options: Options) -> Result<(), ServerError> {
    let system = |what| move |error| ServerError::System(what, error);
    let listener =
        systemd::only_unix_listener().map_err(system("listener"))?.ok_or(ServerError::NoListener)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(CONNECTIONS_MAX)
        .thread_stack_size(128 * 1024)
        .build()
        .map_err(system("runtime"))?;
    let done = runtime.block_on(async {
        listener.set_nonblocking(true).map_err(system("listener"))?;
        let listener = UnixListener::from_std(listener).map_err(system("listener"))?;
        let watch = PathWatch::new(&options.base).map_err(system("watch"))?;
        serve(Arc::new(Server::new(options)), listener, watch).await
    });
    // A look-up that hangs must not keep the program from ending.
    runtime.shutdown_background();
    done
}

async fn serve(server: Arc<Server>, listener: UnixListener, mut watch: PathWatch) -> Result<(), ServerError> {
    let system = |what| move |error| ServerError::System(what, error);
    let mut terminate = signal(SignalKind::terminate()).map_err(system("signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("signals"))?;
    let changes = watch::Sender::new(());
    let mut ports = JoinSet::new();
    let mut failing = Failing::default();
    systemd::notify(&[NotifyState::Ready]);
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            changed = watch.changed() => {
                changed.map_err(system("watch"))?;
                changes.send_replace(());
            }
            accepted = listener.accept(), if ports.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    failing.is_over();
                    let (server, changes) = (server.clone(), changes.subscribe());
                    ports.spawn(async move { server.attend(stream, changes).await });
                }
                Err(error) => failing.goes_on("port", error).await,
            },
            Some(_) = ports.join_next(), if !ports.is_empty() => {}
        }
    }
}

struct Server {
    options: Arc<Options>,
    /// One look-up at a time for each port, whatever its disk does.
    lookups: Mutex<HashMap<PortName, Arc<tokio::sync::Mutex<()>>>>,
}

impl Server {
    fn new(options: Options) -> Self {
        Self { options: Arc::new(options), lookups: Mutex::default() }
    }

    /// Attends to one connection until it ends.
    async fn attend(&self, mut stream: UnixStream, mut changes: watch::Receiver<()>) {
        let port = match peer::port(&stream) {
            Ok(port) => port,
            Err(error) => {
                tracing::warn!("a connection without a port: {error}");
                // What it is told is for its STATUS; if it does not take it, there is nobody to tell.
                let _ = timeout(SEND_TIMEOUT, send(&mut stream, Err(error.into()))).await;
                return;
            }
        };
        let mut known = None;
        let mut asked = true;
        loop {
            let found = self.look_up(&port, asked).await;
            let identity = found.as_ref().map(|found| found.identity).map_err(ToString::to_string);
            if asked || known.as_ref() != Some(&identity) {
                if let Err(error) = &found {
                    tracing::warn!(console_port = %port, "{port}: {error}");
                }
                match timeout(SEND_TIMEOUT, send(&mut stream, found)).await {
                    Ok(Ok(())) => known = Some(identity),
                    Ok(Err(_)) | Err(_) => return,
                }
            }
            let mut byte = [0];
            asked = tokio::select! {
                read = stream.read(&mut byte) => match read {
                    Ok(1..) => true,
                    Ok(0) | Err(_) => return,
                },
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(SETTLE_DELAY).await;
                    changes.mark_unchanged();
                    false
                }
            };
        }
    }

    /// Looks the directory up, and makes it if `create`.
    async fn look_up(&self, port: &PortName, create: bool) -> Result<Found, OpenError> {
        let path = self.options.base.join(port.as_str());
        let lookup = {
            let mut lookups = self.lookups.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            lookups.entry(port.clone()).or_default().clone()
        };
        let (options, port) = (self.options.clone(), port.clone());
        let opened = async {
            let guard = lookup.lock_owned().await;
            let open = tokio::task::spawn_blocking(move || {
                let _guard = guard;
                open(&options, &port, create)
            });
            open.await?
        };
        timeout(LOOKUP_TIMEOUT, opened).await.unwrap_or(Err(OpenError::Hangs(path)))
    }
}

/// A directory that can be handed over.
struct Found {
    mount: OwnedFd,
    path: PathBuf,
    /// Device, inode, and whether its mount is read-only.
    identity: (u64, u64, bool),
}

async fn send(stream: &mut UnixStream, found: Result<Found, OpenError>) -> io::Result<()> {
    let told = match &found {
        Ok(found) => Told::Directory { path: found.path.clone() },
        Err(error) => Told::Unavailable { why: error.to_string() },
    };
    stream.write_all(&message::encode(&told).map_err(io::Error::other)?).await?;
    if let Ok(found) = &found {
        let stream = &*stream;
        stream
            .async_io(Interest::WRITABLE, || message::send_descriptors(stream, &[found.mount.as_fd()]))
            .await?;
    }
    Ok(())
}

/// Opens the directory as a mount of its own. Blocking.
fn open(options: &Options, port: &PortName, create: bool) -> Result<Found, OpenError> {
    let Options { base, user, group } = options;
    let path = base.join(port.as_str());
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| match source.kind() {
            io::ErrorKind::NotADirectory => OpenError::NoDirectory(path),
            _ => OpenError::Io { what, path, source },
        }
    };
    if create {
        make(base, 0o755).map_err(failed("made", base))?;
    }
    let above = directory(base, OFlags::empty()).map_err(failed("opened", base))?;
    // Names in a directory that others may write to are not followed.
    let above_found = std::fs::metadata(proc_path(&above)).map_err(failed("examined", base))?;
    let trusted = above_found.uid() == 0 && above_found.mode() & 0o022 == 0;
    if create {
        make(&proc_path(&above).join(port.as_str()), DIRECTORY_MODE).map_err(failed("made", &path))?;
    }
    let follow = if trusted { OFlags::empty() } else { OFlags::NOFOLLOW };
    let opened =
        directory(&proc_path(&above).join(port.as_str()), follow).map_err(failed("opened", &path))?;

    // As LogsDirectory= of systemd.exec(5) does it: one that was made by hand, or mounted, becomes the ports'.
    let found = std::fs::metadata(proc_path(&opened)).map_err(failed("examined", &path))?;
    if Uid::from_raw(found.uid()) != *user {
        fchownat(&opened, "", Some(*user), Some(*group), AtFlags::AT_EMPTY_PATH)
            .map_err(io::Error::from)
            .and_then(|()| {
                std::fs::set_permissions(proc_path(&opened), Permissions::from_mode(DIRECTORY_MODE))
            })
            .map_err(failed("given to the user of the ports", &path))?;
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_EMPTY_PATH;
    let mount =
        open_tree(&opened, "", flags).map_err(io::Error::from).map_err(failed("handed over", &path))?;
    let read_only = nix::sys::statvfs::fstatvfs(&mount)
        .map_err(io::Error::from)
        .map_err(failed("examined", &path))?
        .flags()
        .contains(nix::sys::statvfs::FsFlags::ST_RDONLY);
    Ok(Found { mount, path, identity: (found.dev(), found.ino(), read_only) })
}

fn directory(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | flags, Mode::empty())?)
}

/// What leads to an open directory, for calls that take a path (proc(5)).
fn proc_path(directory: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // It is there all the same, or opening it says what is wrong.
        Err(_) if path.is_dir() => Ok(()),
        made => made,
    }
}
