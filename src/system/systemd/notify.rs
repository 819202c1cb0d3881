//! `man sd_notify`, without waiting for systemd: PID 1 may be busy or stopped, and its socket full. (The functions of the crate
//! sd_notify block.) What the socket does not accept is kept, the latest of each kind, and sent again until it is accepted:
//! above all a descriptor for the FD store, which would otherwise be lost with this process.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sd_notify::NotifyState;
use tokio::sync::Notify;

use crate::system::lock::Lock;

/// Time between two attempts to send pending notifications.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

static NOTIFIER: Mutex<Notifier> = Mutex::new(Notifier { socket: None, pending: Vec::new() });
/// Notified when the first notification becomes pending.
static KEPT: Notify = Notify::const_new();

#[derive(Debug)]
struct Notifier {
    /// Kept open: a process without free descriptors must still send heartbeats.
    socket: Option<UnixDatagram>,
    /// In the order in which they must be sent; the latest of each kind, so that there are never more than a few.
    pending: Vec<Message>,
}

#[derive(Debug)]
struct Message {
    kind: Kind,
    text: String,
    descriptor: Option<OwnedFd>,
}

/// The kind of a notification: a later one replaces an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// `READY=`, `RELOADING=`, `STOPPING=`
    State,
    Status,
    Watchdog,
    /// `FDSTORE=` under this name
    Store(String),
    /// `FDSTOREREMOVE=` of this name
    Forget(String),
}

/// Sends a notification, now or as soon as systemd accepts it.
pub fn notify(state: &[NotifyState<'_>]) {
    let kind = match state.first() {
        Some(NotifyState::Status(_)) => Kind::Status,
        Some(NotifyState::Watchdog) => Kind::Watchdog,
        _ => Kind::State,
    };
    submit(kind, state, None);
}

/// Stores a descriptor for the next process of this unit. Returns whether systemd has accepted it already, or there is no FD store;
/// otherwise it is sent again until it is accepted.
pub fn store(name: &str, fd: BorrowedFd<'_>) -> bool {
    store_as(name, fd, &[NotifyState::FdStore, NotifyState::FdName(name)])
}

fn store_as(name: &str, fd: BorrowedFd<'_>, state: &[NotifyState<'_>]) -> bool {
    // What was stored under the name before is another device's, or a duplicate.
    forget(name);
    match fd.try_clone_to_owned() {
        Ok(own) => submit(Kind::Store(name.to_owned()), state, Some(own)),
        Err(error) => {
            tracing::warn!("{name} cannot be stored: {error}");
            false
        }
    }
}

/// [`store`] for a socket. systemd drops a stored descriptor as soon as its other end is closed (`FDPOLL=`, sd_notify(3)), and with it
/// the bytes that are still to be read.
pub fn store_unpolled(name: &str, fd: BorrowedFd<'_>) -> bool {
    store_as(name, fd, &[NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")])
}

/// Removes the descriptors of this name from the FD store.
pub fn forget(name: &str) {
    let state = [NotifyState::FdStoreRemove, NotifyState::FdName(name)];
    submit(Kind::Forget(name.to_owned()), &state, None);
}

fn waits() -> bool {
    !NOTIFIER.locked().pending.is_empty()
}

/// Waits until a notification is pending, and then until systemd has accepted it. Cancel safe.
pub(super) async fn resend() {
    loop {
        let kept = KEPT.notified();
        match waits() {
            true => {
                tokio::time::sleep(RETRY_INTERVAL).await;
                NOTIFIER.locked().send();
            }
            false => kept.await,
        }
    }
}

/// Queues a notification and sends it. Returns whether nothing is pending.
fn submit(kind: Kind, state: &[NotifyState<'_>], descriptor: Option<OwnedFd>) -> bool {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return true;
    }
    let text = state.iter().map(|state| format!("{state}\n")).collect();
    let mut notifier = NOTIFIER.locked();
    notifier.add(Message { kind, text, descriptor });
    notifier.pending.is_empty()
}

impl Notifier {
    fn add(&mut self, message: Message) {
        let waited = !self.pending.is_empty();
        self.pending.retain(|other| !message.replaces(&other.kind));
        self.pending.push(message);
        self.send();
        if !waited && !self.pending.is_empty() {
            KEPT.notify_one();
        }
    }

    /// Sends pending notifications in order, until systemd accepts no more.
    fn send(&mut self) {
        while let Some(message) = self.pending.first() {
            match send(&mut self.socket, message) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // Another socket may be at this path by now.
                    self.socket = None;
                    tracing::warn!("systemd cannot be notified: {error}");
                }
            }
            self.pending.remove(0);
        }
    }
}

impl Message {
    /// A pending store and a pending removal of the same name replace each other.
    fn replaces(&self, kind: &Kind) -> bool {
        match (&self.kind, kind) {
            (Kind::Forget(name), Kind::Store(other)) => name == other,
            (own, other) => own == other,
        }
    }
}

fn send(socket: &mut Option<UnixDatagram>, message: &Message) -> io::Result<()> {
    let socket = match socket {
        Some(socket) => socket,
        None => socket.insert(connected()?),
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = message.descriptor.as_ref().map(|descriptor| [descriptor.as_fd()]);
    if let Some(descriptors) = &descriptors
        && !control.push(SendAncillaryMessage::ScmRights(descriptors))
    {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(message.text.as_bytes())], &mut control, flags)?;
    Ok(())
}

fn connected() -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    let path = std::env::var_os("NOTIFY_SOCKET").ok_or(io::ErrorKind::NotFound)?;
    // `@` is an abstract name (`man 7 unix`).
    match path.as_encoded_bytes().strip_prefix(b"@") {
        Some(name) => {
            use std::os::linux::net::SocketAddrExt;
            socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        }
        None => socket.connect(path)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn message(kind: Kind, text: &str) -> Message {
        Message { kind, text: text.to_owned(), descriptor: None }
    }

    fn received(far: &UnixDatagram) -> Vec<String> {
        far.set_nonblocking(true).unwrap();
        let mut buffer = [0; 4096];
        let mut all = Vec::new();
        while let Ok(length) = far.recv(&mut buffer) {
            all.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        all
    }

    #[test]
    fn what_a_full_socket_does_not_take_is_kept_the_latest_of_each_kind_and_in_its_order() {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        while near.send(b"of another program").is_ok() {}
        let mut notifier = Notifier { socket: Some(near), pending: Vec::new() };
        for count in 0..1000 {
            notifier.add(message(Kind::Status, &format!("STATUS={count}")));
            notifier.add(message(Kind::Forget("tty".into()), "FDSTOREREMOVE=1"));
            let mut store = message(Kind::Store("tty".into()), "FDSTORE=1");
            store.descriptor = Some(File::open("/dev/null").unwrap().into());
            notifier.add(store);
            notifier.add(message(Kind::Watchdog, "WATCHDOG=1"));
        }
        assert_eq!(notifier.pending.len(), 4, "{notifier:?}");
        received(&far);
        notifier.send();
        assert_eq!(notifier.pending.len(), 0);
        assert_eq!(received(&far), ["STATUS=999", "FDSTOREREMOVE=1", "FDSTORE=1", "WATCHDOG=1"]);
        notifier.add(message(Kind::State, "READY=1"));
        assert_eq!(received(&far), ["READY=1"], "taken at once again");
    }
}
