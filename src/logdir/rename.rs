//! The logs of renamed ports. `console-admin` has them moved as part of a reload: a port's directory gets the new name, and a
//! link with the old name stays, by which `consolectl log OLD` and programs that know the path find it. rename(2) keeps open files
//! open, so the log of a running port continues without a gap. While the connection lasts, no port's directory is looked up, because the
//! names of the ports change in that time.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, readlinkat, renameat, statat, symlinkat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::port::PortName;
use crate::system::message::{self, MessageError};

/// Time for the reply of `console-logs`: a rename(2) of each directory, on a disk that may be busy.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub from: PortName,
    pub to: PortName,
}

/// The request of `console-admin`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) moves: Vec<Move>,
    /// Whether links with the old names stay.
    pub(super) link: bool,
}

/// The result: everything was renamed, or nothing and why.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reply {
    pub(super) failed: Option<String>,
}

/// Why the logs were not renamed.
#[derive(Debug, Error)]
pub enum RenameError {
    #[error("console-logs.socket is not active ({0})")]
    Inactive(io::Error),
    #[error("console-logs.service has not answered within {n} s", n = REPLY_TIMEOUT.as_secs())]
    Silent,
    #[error("console-logs.service: {0}")]
    Message(#[from] MessageError),
    /// The reason that it sent.
    #[error("{0}")]
    Rejected(String),
}

/// No port's directory is looked up while this lives.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "it is there to be dropped")] UnixStream);

/// Renames the log directories of ports, all or none.
pub async fn rename(socket: &Path, moves: Vec<Move>, link: bool) -> Result<Held, RenameError> {
    let mut stream = UnixStream::connect(socket).await.map_err(RenameError::Inactive)?;
    let asked = async {
        message::send_async(&mut stream, &Request { moves, link }).await?;
        message::receive_async::<Reply>(&mut stream).await
    };
    let reply = timeout(REPLY_TIMEOUT, asked).await.map_err(|_| RenameError::Silent)??;
    match reply {
        Some(Reply { failed: None }) => Ok(Held(stream)),
        Some(Reply { failed: Some(why) }) => Err(RenameError::Rejected(why)),
        None => Err(MessageError::Io(io::ErrorKind::UnexpectedEof.into()).into()),
    }
}

/// Whether the entry is the link of a former name, and of which port. Links of an administrator lead elsewhere.
pub(super) fn former(above: &OwnedFd, name: &str) -> Option<PortName> {
    let target = readlinkat(above, name, Vec::new()).ok()?;
    let target = target.to_str().ok().filter(|target| !target.contains('/'))?;
    target.parse().ok()
}

/// Removes the link of a former name, if it is one.
pub(super) fn remove_former(above: &OwnedFd, name: &str) -> Result<(), Errno> {
    match former(above, name) {
        Some(_) => unlinkat(above, name, AtFlags::empty()),
        None => Ok(()),
    }
}

/// Renames the directories below `base`, all or none. Blocking.
pub(super) fn rename_all(base: &Path, Request { moves, link }: &Request) -> Result<(), String> {
    let above =
        match rustix::fs::open(base, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(above) => above,
            // No port has a log yet.
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => {
                return Err(format!("the log directory {} cannot be opened: {errno}", base.display()));
            }
        };
    // A port that never ran has no directory, and one that was moved already only a link.
    let has_log = |step: &&Move| {
        former(&above, step.from.as_str()).is_none()
            && statat(&above, step.from.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    };
    let moves: Vec<&Move> = moves.iter().filter(has_log).collect();
    let sources: BTreeSet<&PortName> = moves.iter().map(|step| &step.from).collect();
    // (No port has this name: names do not begin with a dot.)
    let aside = |port: &PortName| format!(".renamed-{port}");
    let (waiting, free): (Vec<&Move>, Vec<&Move>) = moves.iter().partition(|step| sources.contains(&step.to));
    let name = |port: &PortName| port.to_string();
    let mut steps: Vec<(String, String)> = Vec::new();
    steps.extend(waiting.iter().map(|step| (name(&step.from), aside(&step.from))));
    steps.extend(free.iter().map(|step| (name(&step.from), name(&step.to))));
    steps.extend(waiting.iter().map(|step| (aside(&step.from), name(&step.to))));
    for (done, (from, to)) in steps.iter().enumerate() {
        let renamed =
            remove_former(&above, to).and_then(|()| renameat(&above, from.as_str(), &above, to.as_str()));
        if let Err(errno) = renamed {
            for (from, to) in steps[..done].iter().rev() {
                if let Err(errno) = renameat(&above, to.as_str(), &above, from.as_str()) {
                    tracing::error!("{}/{to} cannot be renamed back to {from}: {errno}", base.display());
                }
            }
            return Err(rename_error(base, from, to, errno));
        }
    }
    for Move { from, to } in moves {
        if let Err(errno) = relink(&above, from, to, *link && !sources_hold(&above, from)) {
            // The log is in the right place; only its old name is missing.
            tracing::warn!("{}: no link {from} to {to}: {errno}", base.display());
        }
    }
    Ok(())
}

/// Whether an entry of that name exists.
fn sources_hold(above: &OwnedFd, name: &PortName) -> bool {
    statat(above, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Links to the old name lead to the new one, and with `link` the old name itself does.
fn relink(above: &OwnedFd, from: &PortName, to: &PortName, link: bool) -> Result<(), Errno> {
    let names =
        Dir::new(openat(above, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)?;
    for entry in names {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        let Ok(name) = name.to_str() else { continue };
        if former(above, name).is_some_and(|target| target == *from) {
            unlinkat(above, name, AtFlags::empty())?;
            // (One of the new name would lead to itself.)
            if name != to.as_str() {
                symlinkat(to.as_str(), above, name)?;
            }
        }
    }
    if link { symlinkat(to.as_str(), above, from.as_str()) } else { Ok(()) }
}

fn rename_error(base: &Path, from: &str, to: &str, errno: Errno) -> String {
    let base = base.display();
    match errno {
        Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR | Errno::ISDIR => format!(
            "the log cannot be renamed: {base}/{to} exists, from a former port {to}: move it away, or use another name"
        ),
        Errno::BUSY => format!("the log cannot be renamed: {base}/{from} is a mount point"),
        errno => format!("the log cannot be renamed from {base}/{from} to {base}/{to}: {errno}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn room(ports: &[&str]) -> tempfile::TempDir {
        let room = tempfile::tempdir().unwrap();
        for port in ports {
            fs::create_dir(room.path().join(port)).unwrap();
            fs::write(room.path().join(port).join("log"), port).unwrap();
        }
        room
    }

    fn moved(room: &tempfile::TempDir, moves: &[(&str, &str)], link: bool) -> Result<(), String> {
        let step = |(from, to): &(&str, &str)| Move { from: from.parse().unwrap(), to: to.parse().unwrap() };
        rename_all(room.path(), &Request { moves: moves.iter().map(step).collect(), link })
    }

    /// The port to which the log belongs, and whether the entry is a link.
    fn log(room: &tempfile::TempDir, port: &str) -> Option<(String, bool)> {
        let path: PathBuf = room.path().join(port);
        let is_link = fs::symlink_metadata(&path).ok()?.is_symlink();
        Some((fs::read_to_string(path.join("log")).ok()?, is_link))
    }

    fn is(port: &str, is_link: bool) -> Option<(String, bool)> {
        Some((port.to_owned(), is_link))
    }

    #[test]
    fn a_log_is_found_by_all_former_names_of_its_port() {
        let room = room(&["a"]);
        let open = fs::File::create(room.path().join("a/open")).unwrap();
        moved(&room, &[("a", "b")], true).unwrap();
        assert_eq!((log(&room, "a"), log(&room, "b")), (is("a", true), is("a", false)));
        moved(&room, &[("b", "c")], true).unwrap();
        assert_eq!(
            (log(&room, "a"), log(&room, "b"), log(&room, "c")),
            (is("a", true), is("a", true), is("a", false))
        );
        // Done again, as after a crash.
        moved(&room, &[("b", "c")], true).unwrap();
        assert_eq!(log(&room, "c"), is("a", false));
        // And back.
        moved(&room, &[("c", "a")], true).unwrap();
        assert_eq!((log(&room, "a"), log(&room, "c")), (is("a", false), is("a", true)));
        io::Write::write_all(&mut &open, b"on").unwrap();
        assert_eq!(fs::read(room.path().join("a/open")).unwrap(), b"on");
    }

    #[test]
    fn an_undone_rename_leaves_no_link() {
        let room = room(&["a"]);
        moved(&room, &[("a", "b")], true).unwrap();
        moved(&room, &[("b", "a")], false).unwrap();
        assert_eq!((log(&room, "a"), log(&room, "b")), (is("a", false), None));
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 1);
    }

    #[test]
    fn two_ports_swap_names() {
        let room = room(&["a", "b", "c"]);
        moved(&room, &[("a", "b"), ("b", "a")], true).unwrap();
        assert_eq!((log(&room, "a"), log(&room, "b")), (is("b", false), is("a", false)));
        moved(&room, &[("a", "b"), ("b", "c"), ("c", "a")], true).unwrap();
        let logs = [log(&room, "a"), log(&room, "b"), log(&room, "c")];
        assert_eq!(logs, [is("c", false), is("b", false), is("a", false)]);
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 3);
    }

    #[test]
    fn the_log_of_a_former_port_is_not_replaced() {
        let room = room(&["a", "b", "old"]);
        let refused = moved(&room, &[("b", "c"), ("a", "old")], true).unwrap_err();
        assert!(refused.contains("/old exists, from a former port old"), "{refused}");
        assert_eq!(
            (log(&room, "a"), log(&room, "b"), log(&room, "c")),
            (is("a", false), is("b", false), None)
        );
        // An empty one belongs to no port.
        fs::remove_file(room.path().join("old/log")).unwrap();
        moved(&room, &[("a", "old")], true).unwrap();
        assert_eq!(log(&room, "old"), is("a", false));
        // Without a log there is nothing to move.
        moved(&room, &[("never", "ran")], true).unwrap();
        assert_eq!(log(&room, "never"), None);
    }
}
