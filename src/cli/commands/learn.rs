//! `learn PORT`: waits for an adapter to be plugged in, and binds the port to its USB socket.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use thiserror::Error;
use tokio::io::Interest;
use tokio::time::{Instant, sleep, timeout_at};

use super::show;
use crate::admin::wire;
use crate::cli::adapters;
use crate::cli::client::{Client, print_warnings};
use crate::cli::error::{CommandError, Done};
use crate::cli::service::{ServiceError, sentence};
use crate::cli::stdout::print_error;
use crate::cli::target::Target;
use crate::exec;
use crate::port::PortName;
use crate::session::plain;
use crate::system::reactor::{Notifier, Watched};

/// udev's links for USB serial ports, named by the USB socket. udev removes the directory and its parent with the last link.
const BY_PATH: &str = "/dev/serial/by-path";
/// Time without a new tty after which an adapter is complete: the ttys of one adapter and the links of one tty appear within tens of
/// milliseconds; two adapters, on a slow machine, more than a second apart.
const QUIET_TIME: Duration = Duration::from_secs(2);
/// The limit if new ttys keep appearing.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_LISTED_TTYS: usize = 8;
/// The limit of `--timeout`, in seconds.
const MAX_TIMEOUT: u32 = 3600;

fn seconds(word: &str) -> Result<u32, String> {
    exec::seconds(word, 1..=MAX_TIMEOUT)
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Learn {
    /// Port; created if it does not exist
    pub port: PortName,
    /// Timeout in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = seconds)]
    pub timeout: u32,
}

/// Why no adapter was bound. Nothing was changed.
#[derive(Debug, Error)]
pub enum LearnError {
    #[error("cannot watch {BY_PATH}: {0} (see also: sysctl fs.inotify.max_user_instances)")]
    Watch(io::Error),
    #[error("no adapter was plugged in within {0} s; nothing was changed")]
    Nothing(u64),
    #[error(
        "the adapter was unplugged again immediately, and no other one was plugged in within {0} s; nothing was changed"
    )]
    Gone(u64),
    #[error(
        "{} ttys appeared at once: {}; nothing was changed: plug in an adapter with a single port, or use `create` and `device`",
        .0.len(), named(.0)
    )]
    Many(Vec<Found>),
    #[error("{path} is already the device of port {port}; nothing was changed", path = path.display())]
    Bound { path: PathBuf, port: PortName },
}

impl From<LearnError> for CommandError {
    fn from(error: LearnError) -> Self {
        Self::of_command(error)
    }
}

/// A tty that appeared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The link in /dev/serial/by-path, which stays with the USB socket.
    pub path: PathBuf,
    /// The kernel's current name, such as `ttyUSB0`.
    pub tty: String,
}

fn named(found: &[Found]) -> String {
    let mut names: Vec<_> = found
        .iter()
        .take(MAX_LISTED_TTYS)
        .map(|Found { path, tty }| format!("{} ({})", path.display(), plain(tty)))
        .collect();
    if found.len() > MAX_LISTED_TTYS {
        names.push(format!("and {} more", found.len() - MAX_LISTED_TTYS));
    }
    names.join(", ")
}

/// Links with their targets and change times (seconds, nanoseconds), by which a link that was replaced between two scans is detected.
type Links = BTreeMap<PathBuf, (PathBuf, (i64, i64))>;

fn links(directory: &Path) -> io::Result<Links> {
    let absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match std::fs::read_dir(directory) {
        Err(error) if absent(&error) => return Ok(Links::new()),
        entries => entries?,
    };
    let mut links = Links::new();
    for entry in entries {
        let path = entry?.path();
        // A link that was just removed is skipped.
        if let (Ok(target), Ok(link)) = (std::fs::read_link(&path), path.symlink_metadata()) {
            links.insert(path, (target, (link.ctime(), link.ctime_nsec())));
        }
    }
    Ok(links)
}

/// The ttys of new links, each with one of its links: udev may create several.
fn new_ttys(before: &Links, now: &Links) -> Vec<Found> {
    let new: BTreeSet<&PathBuf> =
        now.iter().filter(|(path, link)| before.get(*path) != Some(*link)).map(|(path, _)| path).collect();
    let mut ttys: BTreeMap<String, &PathBuf> = BTreeMap::new();
    // `usbv2-` in a name is the USB version of the socket, which systemd 252 does not include.
    let rank = |path: &Path| (path.to_string_lossy().contains("-usbv"), path.as_os_str().len());
    for path in new {
        let tty = now[path].0.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let best = ttys.entry(tty).or_insert(path);
        if rank(path) < rank(best) {
            *best = path;
        }
    }
    ttys.into_iter().map(|(tty, path)| Found { path: path.clone(), tty }).collect()
}

/// Reports when links may have appeared or gone.
struct Watch {
    inotify: Watched<Notifier>,
}

impl Watch {
    /// Events are queued from here on: create it, scan, and only then wait.
    fn new(directory: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let events = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
        // Parents first, so that a directory created in the meantime is an event.
        let parents: Vec<&Path> = directory.ancestors().take(3).collect();
        for parent in parents.into_iter().rev() {
            match inotify.add_watch(parent, events | AddWatchFlags::IN_ONLYDIR) {
                Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Self { inotify: Watched::new(Notifier(inotify), Interest::READABLE)? })
    }

    async fn changed(&self) -> io::Result<()> {
        self.inotify.readable().await.map(drop)
    }
}

/// The next tty that appears, besides those that were there `before`.
async fn next(directory: &Path, mut before: Links, timeout: Duration) -> Result<Found, LearnError> {
    let deadline = Instant::now() + timeout;
    let mut has_gone = false;
    loop {
        // A new watch each time: udev removes directories when they are empty.
        let watch = Watch::new(directory).map_err(LearnError::Watch)?;
        let now = links(directory).map_err(LearnError::Watch)?;
        if !new_ttys(&before, &now).is_empty() {
            match settled(directory, &before).await? {
                Some(found) => return Ok(found),
                None => has_gone = true,
            }
            continue;
        }
        // A link that was removed counts as new when it appears again.
        before.retain(|path, _| now.contains_key(path));
        match timeout_at(deadline, watch.changed()).await {
            Ok(changed) => changed.map_err(LearnError::Watch)?,
            Err(_) if has_gone => return Err(LearnError::Gone(timeout.as_secs())),
            Err(_) => return Err(LearnError::Nothing(timeout.as_secs())),
        }
    }
}

/// The tty that appeared, once no more appear; `None` if it is gone again.
async fn settled(directory: &Path, before: &Links) -> Result<Option<Found>, LearnError> {
    let until = Instant::now() + SETTLE_TIMEOUT;
    let mut found = Vec::new();
    let mut since = Instant::now();
    while Instant::now() < until && since.elapsed() < QUIET_TIME {
        let now = new_ttys(before, &links(directory).map_err(LearnError::Watch)?);
        if now != found {
            (found, since) = (now, Instant::now());
        }
        sleep(QUIET_TIME / 10).await;
    }
    match <[Found; 1]>::try_from(found) {
        Ok([found]) => Ok(Some(found)),
        Err(none) if none.is_empty() => Ok(None),
        Err(many) => Err(LearnError::Many(many)),
    }
}

/// `learn`: nothing is changed until an adapter appears.
pub(in crate::cli) async fn run(
    Learn { port, timeout }: Learn,
    client: &Client,
    to: &mut impl Write,
) -> Done {
    let port = &port;
    // Checked first: otherwise an unauthorized user would wait for nothing.
    if !client.may_administer().await? {
        let why = "you may not administer this console server".to_owned();
        return Err(CommandError::Service(ServiceError::Denied(why)));
    }
    // Scanned before the prompt, so that an adapter that is plugged in immediately is new.
    let directory = Path::new(BY_PATH);
    let before = links(directory).map_err(LearnError::Watch)?;
    print_error(&format_args!(
        "plug in the adapter for {port} now; if it is already plugged in, unplug it first (timeout: {timeout} s)"
    ));
    let timeout = Duration::from_secs(timeout.into());
    let Found { path, tty } = next(directory, before, timeout).await?;
    let existing = client.candidate().await?;
    let other =
        existing.ports.iter().find(|(name, other)| *name != port && other.device.as_ref() == Some(&path));
    if let Some((other, _)) = other {
        return Err(LearnError::Bound { path, port: other.clone() }.into());
    }
    let before = existing.ports.get(port);
    let made = if before.is_none() { vec![port.as_str()] } else { Vec::new() };
    let device = path.display().to_string();
    let value = wire::to_bus(&device.as_str().into()).expect("a text is a value of the bus");
    let values = [(port.as_str(), "device", &*value)];
    let manager = &client.service().await?.manager;
    let set = manager.set_many(&made, &values, client.revision()).await;
    print_warnings(set.map_err(sentence)?)?;
    show::changed(Target::Port(port.clone()), client, to).await?;
    let adapter = adapters::description(&tty).unwrap_or_else(|| "unknown adapter".to_owned());
    writeln!(to, "{port} is bound to that USB socket, currently {}: {}", plain(&tty), plain(&adapter))?;
    if before.is_none_or(|before| before.ssh_port.is_none()) {
        writeln!(to, "it has no SSH port: `sshport {port} N` sets one")?;
    }
    if tty != port.as_str() && existing.ports.keys().any(|name| name.as_str() == tty) {
        writeln!(to, "port {tty} releases the device when {port} is reloaded")?;
    }
    Ok(writeln!(to, "next: `reload {port}` applies it, `commit` makes it permanent")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(links: &[(&str, &str, i64)]) -> Links {
        let link = |(name, tty, since): &(&str, &str, i64)| {
            ((*name).into(), (format!("../../{tty}").into(), (*since, 0)))
        };
        links.iter().map(link).collect()
    }

    #[test]
    fn each_new_or_replaced_tty_is_found_once() {
        let before = all(&[("a-usb-1", "ttyUSB0", 1), ("a-usb-2", "ttyUSB1", 2)]);
        let found = |now: &[(&str, &str, i64)]| -> Vec<(String, String)> {
            let found = new_ttys(&before, &all(now));
            found.into_iter().map(|Found { path, tty }| (path.display().to_string(), tty)).collect()
        };
        let pair = |path: &str, tty: &str| (path.to_owned(), tty.to_owned());
        assert_eq!(found(&[("a-usb-1", "ttyUSB0", 1)]), []);
        assert_eq!(found(&[("a-usb-1", "ttyUSB0", 7)]), [pair("a-usb-1", "ttyUSB0")]);
        let two_names = [("a-usb-1", "ttyUSB0", 1), ("a-usbv2-3", "ttyUSB2", 3), ("a-usb-3", "ttyUSB2", 4)];
        assert_eq!(found(&two_names), [pair("a-usb-3", "ttyUSB2")]);
        let two = [("a-usb-4-port0", "ttyUSB2", 3), ("a-usb-4-port1", "ttyUSB3", 4)];
        assert_eq!(found(&two), [pair("a-usb-4-port0", "ttyUSB2"), pair("a-usb-4-port1", "ttyUSB3")]);
    }

    #[tokio::test]
    async fn a_tty_that_is_gone_again_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(settled(dir.path(), &Links::new()).await.unwrap(), None);
        let message = LearnError::Gone(12).to_string();
        assert!(
            message.contains("unplugged again immediately") && message.contains("within 12 s"),
            "{message}"
        );
    }
}
