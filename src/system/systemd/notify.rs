//! `man sd_notify`, without waiting for systemd: PID 1 may be busy or stopped, and its socket full. (The functions of the crate
//! sd_notify block.) What the socket does not take is kept, the latest of each kind, and sent again until it is taken:
//! a descriptor that is to be stored, above all, which would otherwise be lost with this process.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sd_notify::NotifyState;
use tokio::sync::Notify;

/// Between two attempts to send what has not been taken.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);

static NOTIFIER: Mutex<Notifier> = Mutex::new(Notifier { socket: None, pending: Vec::new() });
/// Told when something is kept that was not before.
static KEPT: Notify = Notify::const_new();

#[derive(Debug)]
struct Notifier {
    /// Kept open: a process that has no descriptor left is alive all the same.
    socket: Option<UnixDatagram>,
    /// In the order in which it has to be sent; of each kind the latest, so that there are never more than a few.
    pending: Vec<Message>,
}

#[derive(Debug)]
struct Message {
    kind: Kind,
    text: String,
    descriptor: Option<OwnedFd>,
}

/// What a later message of the same kind replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// `READY=`, `RELOADING=`, `STOPPING=`
    State,
    /// `STATUS=`
    Status,
    /// `WATCHDOG=`
    Watchdog,
    /// `FDSTORE=` under this name
    Store(String),
    /// `FDSTOREREMOVE=` of this name
    Forget(String),
}

/// Tells systemd, sooner or later.
pub fn notify(state: &[NotifyState<'_>]) {
    let kind = match state.first() {
        Some(NotifyState::Status(_)) => Kind::Status,
        Some(NotifyState::Watchdog) => Kind::Watchdog,
        _ => Kind::State,
    };
    say(kind, state, None);
}

/// Has systemd keep a descriptor for the next process of this unit. Returns whether systemd has taken it already, or nobody keeps
/// anything; otherwise it is sent again until it is taken.
pub fn store(name: &str, fd: BorrowedFd<'_>) -> bool {
    // What was stored under the name before is another device's, or the same: one of them is enough.
    forget(name);
    match fd.try_clone_to_owned() {
        Ok(own) => {
            let state = [NotifyState::FdStore, NotifyState::FdName(name)];
            say(Kind::Store(name.to_owned()), &state, Some(own))
        }
        Err(error) => {
            tracing::warn!("{name} cannot be stored: {error}");
            false
        }
    }
}

/// Has systemd drop the descriptors of this name.
pub fn forget(name: &str) {
    let state = [NotifyState::FdStoreRemove, NotifyState::FdName(name)];
    say(Kind::Forget(name.to_owned()), &state, None);
}

/// Whether a notification waits for systemd.
fn waits() -> bool {
    !lock().pending.is_empty()
}

/// Waits until a notification is kept that systemd did not take, and then until it has. Cancel safe.
pub(super) async fn resend() {
    loop {
        let kept = KEPT.notified();
        match waits() {
            true => {
                tokio::time::sleep(RETRY_INTERVAL).await;
                lock().send();
            }
            false => kept.await,
        }
    }
}

/// Whether nothing is kept back.
fn say(kind: Kind, state: &[NotifyState<'_>], descriptor: Option<OwnedFd>) -> bool {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return true;
    }
    let text = state.iter().map(|state| format!("{state}\n")).collect();
    let mut notifier = lock();
    notifier.say(Message { kind, text, descriptor });
    notifier.pending.is_empty()
}

fn lock() -> MutexGuard<'static, Notifier> {
    NOTIFIER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Notifier {
    fn say(&mut self, message: Message) {
        let waited = !self.pending.is_empty();
        self.pending.retain(|other| !message.replaces(&other.kind));
        self.pending.push(message);
        self.send();
        if !waited && !self.pending.is_empty() {
            KEPT.notify_one();
        }
    }

    /// Sends what is kept, in its order, until systemd takes no more.
    fn send(&mut self) {
        while let Some(message) = self.pending.first() {
            match send(&mut self.socket, message) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // Another socket may stand there by now.
                    self.socket = None;
                    tracing::warn!("systemd cannot be told: {error}");
                }
            }
            self.pending.remove(0);
        }
    }
}

impl Message {
    /// What is stored under a name, or forgotten, is no use to be forgotten or stored once more.
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
        while near.send(b"somebody else's").is_ok() {}
        let mut notifier = Notifier { socket: Some(near), pending: Vec::new() };
        for count in 0..1000 {
            notifier.say(message(Kind::Status, &format!("STATUS={count}")));
            notifier.say(message(Kind::Forget("tty".into()), "FDSTOREREMOVE=1"));
            let mut store = message(Kind::Store("tty".into()), "FDSTORE=1");
            store.descriptor = Some(File::open("/dev/null").unwrap().into());
            notifier.say(store);
            notifier.say(message(Kind::Watchdog, "WATCHDOG=1"));
        }
        assert_eq!(notifier.pending.len(), 4, "{notifier:?}");
        received(&far);
        notifier.send();
        assert_eq!(notifier.pending.len(), 0);
        assert_eq!(received(&far), ["STATUS=999", "FDSTOREREMOVE=1", "FDSTORE=1", "WATCHDOG=1"]);
        notifier.say(message(Kind::State, "READY=1"));
        assert_eq!(received(&far), ["READY=1"], "taken at once again");
    }
}
