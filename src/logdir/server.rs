//! `console-logs`: opens the directory of the capture log for each port that requests it, creates it if it is missing, and sends another one
//! when the path leads elsewhere. It reads nothing from its peers but requests without content, and nothing from the directories but the
//! owners of files.

use std::collections::HashMap;
use std::fs::{DirBuilder, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid, fchownat};
use rustix::fs::{CWD, Mode, OFlags, openat};
use sd_notify::NotifyState;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::watch::PathWatch;
use super::{DirectoryReply, Identity, adopt, detached, peer, rename};
use crate::config::Instances;
use crate::port::PortName;
use crate::system::accepting::Failing;
use crate::system::exit_signals::ExitSignals;
use crate::system::lock::Lock;
use crate::system::message;
use crate::system::systemd;

/// Simultaneous connections of all ports: a configuration has up to 1024. A further one waits in the backlog.
const CONNECTIONS_MAX: usize = 2048;
/// Connections of one port: its own, and those of previous processes that have just ended. All ports have one user id, and no port may take the
/// connections of the others.
const PORT_CONNECTIONS_MAX: usize = 4;
/// Time between two lookups that one connection requests.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// A disk that does not respond within this time is reported as the reason. The lookup continues: at most one for each port.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay before a path that may lead elsewhere is looked up: `mv` and `mkdir`, or several mounts, are one change.
const SETTLE_DELAY: Duration = Duration::from_millis(20);
/// A peer that does not read a reply within this time is disconnected.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// A `console-admin` that renames ports suspends the lookups until it has written the new names.
const HOLD_TIMEOUT: Duration = Duration::from_secs(3);

/// Mode of a port's directory: the group `adm` reads logs.
const DIRECTORY_MODE: u32 = 0o750;

/// Owner and place of the directories.
#[derive(Debug, Clone)]
pub struct Options {
    /// `/var/log/consoleserver`.
    pub base: PathBuf,
    /// The user that ports run as.
    pub user: Uid,
    /// The group that may read logs.
    pub group: Gid,
}

/// Why the program cannot run.
#[derive(Debug, Error)]
pub enum ServerError {
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
    #[error("the disk of the log directory {} does not respond", .0.display())]
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
    // A lookup that hangs must not keep the program from ending.
    runtime.shutdown_background();
    done
}

async fn serve(server: Arc<Server>, listener: UnixListener, mut watch: PathWatch) -> Result<(), ServerError> {
    let system = |what| move |error| ServerError::System(what, error);
    let mut signals = ExitSignals::new().map_err(system("signals"))?;
    let changes = watch::Sender::new(());
    let mut ports = JoinSet::new();
    let mut failing = Failing::default();
    systemd::notify(&[NotifyState::Ready]);
    loop {
        tokio::select! {
            () = signals.next() => return Ok(()),
            changed = watch.changed() => {
                changed.map_err(system("watch"))?;
                changes.send_replace(());
            }
            (stream, _) = failing.accept("port", || listener.accept()), if ports.len() < CONNECTIONS_MAX => {
                let (server, changes) = (server.clone(), changes.subscribe());
                ports.spawn(async move { server.attend(stream, changes).await });
            }
            Some(_) = ports.join_next(), if !ports.is_empty() => {}
        }
    }
}

struct Server {
    options: Arc<Options>,
    /// One lookup at a time for each port, even if its disk hangs.
    lookups: Mutex<HashMap<PortName, Arc<tokio::sync::Mutex<()>>>>,
    /// Held while ports are renamed; each lookup takes it, too.
    renaming: tokio::sync::RwLock<()>,
    connected: Mutex<HashMap<PortName, usize>>,
}

impl Server {
    fn new(options: Options) -> Self {
        Self {
            options: Arc::new(options),
            lookups: Mutex::default(),
            renaming: tokio::sync::RwLock::default(),
            connected: Mutex::default(),
        }
    }

    async fn attend(&self, mut stream: UnixStream, changes: watch::Receiver<()>) {
        let port = match peer::of(&stream) {
            Ok(peer::Peer::Port(port)) => port,
            Ok(peer::Peer::Admin) => return self.rename(stream).await,
            Err(error) => {
                tracing::warn!("connection rejected: it is not from a port: {error}");
                // The reply is for the STATUS of the peer; a peer that does not read it needs no report.
                let _ = timeout(SEND_TIMEOUT, send(&mut stream, Err(error.into()))).await;
                return;
            }
        };
        if !self.count(&port) {
            tracing::warn!(console_port = %port, "{port} has {PORT_CONNECTIONS_MAX} connections already");
            return;
        }
        self.send_directories(&port, stream, changes).await;
        self.discount(&port);
    }

    /// Renames directories, and suspends the lookups until `console-admin` has written the names of the ports.
    async fn rename(&self, mut stream: UnixStream) {
        let Ok(Ok(Some(request))) =
            timeout(SEND_TIMEOUT, message::receive_async::<rename::Request>(&mut stream)).await
        else {
            return;
        };
        let _held = self.renaming.write().await;
        let moves = request.moves.clone();
        let base = self.options.base.clone();
        let renamed = tokio::task::spawn_blocking(move || rename::rename_all(&base, &request)).await;
        let failed = renamed.map_err(|error| error.to_string()).and_then(|renamed| renamed).err();
        match &failed {
            Some(why) => tracing::warn!("{why}"),
            None => moves.iter().for_each(|rename::Move { from, to }| {
                tracing::info!(console_port = %to, "the log of {from} is now the log of {to}");
            }),
        }
        let done = failed.is_none();
        // It ends the connection; a client that has disconnected delays no other.
        let replied =
            timeout(SEND_TIMEOUT, message::send_async(&mut stream, &rename::Reply { failed })).await;
        if done && matches!(replied, Ok(Ok(()))) {
            let _ = timeout(HOLD_TIMEOUT, stream.read(&mut [0])).await;
        }
    }

    /// Counts a connection of a port, unless it has too many.
    fn count(&self, port: &PortName) -> bool {
        let mut connected = self.connected.locked();
        let count = connected.entry(port.clone()).or_default();
        let admitted = *count < PORT_CONNECTIONS_MAX;
        *count += usize::from(admitted);
        admitted
    }

    fn discount(&self, port: &PortName) {
        let mut connected = self.connected.locked();
        if let Some(count) = connected.get_mut(port) {
            *count -= 1;
            if *count == 0 {
                connected.remove(port);
            }
        }
    }

    /// Sends a port its directory, and again whenever it changes or the port requests it.
    async fn send_directories(
        &self,
        port: &PortName,
        mut stream: UnixStream,
        mut changes: watch::Receiver<()>,
    ) {
        let mut known = None;
        let mut asked = true;
        loop {
            let of = known.as_ref().and_then(|known: &Result<Identity, String>| known.as_ref().ok()).copied();
            let found = self.look_up(port, asked, of).await;
            let identity = found.as_ref().map(|found| found.identity).map_err(ToString::to_string);
            let news = known.as_ref() != Some(&identity);
            if asked || news {
                if let Err(error) = &found
                    && news
                {
                    tracing::warn!(console_port = %port, "{port}: {error}");
                }
                match timeout(SEND_TIMEOUT, send(&mut stream, found)).await {
                    Ok(Ok(())) => known = Some(identity),
                    Ok(Err(_)) | Err(_) => return,
                }
            }
            let mut bytes = [0; 64];
            asked = tokio::select! {
                read = stream.read(&mut bytes) => match read {
                    Ok(1..) => {
                        tokio::time::sleep(ASK_INTERVAL).await;
                        true
                    }
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

    /// Looks the directory up, and creates it if `create`.
    async fn look_up(
        &self,
        port: &PortName,
        create: bool,
        known: Option<Identity>,
    ) -> Result<Found, OpenError> {
        let _named = self.renaming.read().await;
        // A port that was renamed while it runs is in the unit of its old name.
        let instances = tokio::task::spawn_blocking(|| Instances::of_runtime(&systemd::runtime_directory()));
        let port = instances.await?.port(port).clone();
        let path = self.options.base.join(port.as_str());
        let lookup = {
            let mut lookups = self.lookups.locked();
            lookups.entry(port.clone()).or_default().clone()
        };
        let options = self.options.clone();
        let opened = async {
            let guard = lookup.lock_owned().await;
            let open = tokio::task::spawn_blocking(move || {
                let _guard = guard;
                open(&options, &port, create, known)
            });
            open.await?
        };
        timeout(LOOKUP_TIMEOUT, opened).await.unwrap_or(Err(OpenError::Hangs(path)))
    }
}

/// A directory that can be sent.
struct Found {
    mount: OwnedFd,
    path: PathBuf,
    identity: Identity,
}

async fn send(stream: &mut UnixStream, found: Result<Found, OpenError>) -> io::Result<()> {
    let told = match &found {
        Ok(found) => DirectoryReply::Directory { path: found.path.clone(), identity: found.identity },
        Err(error) => DirectoryReply::Unavailable { why: error.to_string() },
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
fn open(
    options: &Options,
    port: &PortName,
    create: bool,
    known: Option<Identity>,
) -> Result<Found, OpenError> {
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
    // Links in a directory that users other than root may write to are not followed: they would mislead root (/var/log on Ubuntu).
    let follow_in = |found: &Metadata| match found.uid() == 0 && found.mode() & 0o022 == 0 {
        true => OFlags::empty(),
        false => OFlags::NOFOLLOW,
    };
    let parent = base.parent().unwrap_or(base);
    let parent = std::fs::metadata(parent).map_err(failed("examined", parent))?;
    let above = directory(base, follow_in(&parent)).map_err(failed("opened", base))?;
    let above_found = std::fs::metadata(proc_path(&above)).map_err(failed("examined", base))?;
    if create {
        // The link of a former name.
        rename::remove_former(&above, port.as_str())
            .map_err(io::Error::from)
            .map_err(failed("made", &path))?;
        make(&proc_path(&above).join(port.as_str()), DIRECTORY_MODE).map_err(failed("made", &path))?;
    }
    let opened = directory(&proc_path(&above).join(port.as_str()), follow_in(&above_found))
        .map_err(failed("opened", &path))?;

    // LogsDirectory= of systemd.exec(5) does the same: the ports own a directory that was created by hand or mounted.
    let found = std::fs::metadata(proc_path(&opened)).map_err(failed("examined", &path))?;
    // Once: where it has no effect (a file system without owners), each attempt would be another change of the directory.
    let is_new = known.is_none_or(|(device, inode, _)| (device, inode) != (found.dev(), found.ino()));
    let is_theirs = Uid::from_raw(found.uid()) == *user && found.mode() & 0o700 == 0o700;
    if (create || is_new) && !is_theirs {
        fchownat(&opened, "", Some(*user), Some(*group), AtFlags::AT_EMPTY_PATH)
            .map_err(io::Error::from)
            .and_then(|()| {
                std::fs::set_permissions(proc_path(&opened), Permissions::from_mode(DIRECTORY_MODE))
            })
            .map_err(failed("given to the user of the ports", &path))?;
    }
    if create {
        adopt::files(&opened, *user, *group);
    }
    let mount = detached::mount(&opened).map_err(failed("handed over", &path))?;
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

/// A path to an open directory, for calls that take a path (proc(5)).
pub(super) fn proc_path(opened: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()))
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // It exists anyway, or opening it reports the error.
        Err(_) if path.is_dir() => Ok(()),
        made => made,
    }
}
