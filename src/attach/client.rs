//! The caller's end of the local socket: what `consolectl` does.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use thiserror::Error;

use super::frame::{Frames, Kind};
use super::{Reply, Request, Status, Tried, socket_path};
use crate::exec::Command;
use crate::port::PortName;
use crate::printable::visible;
use crate::session::Options;
use crate::system::message::{MessageError, receive, receive_async, send, send_async};

/// For a port to answer. One that sleeps is started first.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a port cannot be used from here.
#[derive(Debug, Error)]
pub enum AttachError {
    /// No socket: no such port, or nothing serves it.
    #[error("{port} is not served here: `doctor {port}` says why")]
    NotServed {
        /// The port.
        port: PortName,
        /// Its socket.
        path: String,
    },
    /// There is a socket, but it cannot be reached.
    #[error("{port} cannot be reached at {path}: {source}")]
    Unreachable {
        /// The port.
        port: PortName,
        /// Its socket.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Something holds the socket, and says nothing.
    #[error("{0} has not answered within {n} s", n = REPLY_TIMEOUT.as_secs())]
    Silent(PortName),
    /// The port's own words.
    #[error("{0}")]
    Refused(String),
    /// The conversation failed.
    #[error("{0}: {1}")]
    Message(PortName, MessageError),
    /// The port has ended the session; why, it has said on the terminal or on standard error.
    #[error("{0} has ended the session")]
    Closed(PortName),
    /// Somebody else writes, or the device has gone; why, the port has said on the terminal or on standard error.
    #[error("{0} has not been sent all of the input")]
    Unsent(PortName),
    /// The port has gone without a word.
    #[error("the connection to {0} has broken")]
    Broken(PortName),
    /// The socket, or the caller's own terminal or pipe, failed.
    #[error("the session has failed: {0}")]
    Failed(#[from] io::Error),
}

/// Asks how a port does.
pub fn status(runtime_dir: &Path, port: &PortName) -> Result<Status, AttachError> {
    match ask(runtime_dir, port, &Request::Status)? {
        (Reply::Status(status), _) => Ok(status),
        (reply, _) => Err(unexpected(port, reply)),
    }
}

/// What came of a command at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code.
    pub status: u8,
    /// Whether the port has said something beside its output.
    pub remarked: bool,
}

/// Does a command at a port: what it says goes to `shown`, by whole lines if it is `log` or `grep`, and what the port says beside that
/// to `asides`, fit for a terminal.
pub fn run(
    runtime_dir: &Path,
    port: &PortName,
    command: Command,
    shown: &mut dyn Write,
    asides: &mut dyn Write,
) -> Result<Ran, AttachError> {
    let mut stream = match ask(runtime_dir, port, &Request::Run(command))? {
        (Reply::Connected, stream) => stream,
        (reply, _) => return Err(unexpected(port, reply)),
    };
    let mut frames = Frames::default();
    let mut buffer = [0; 32 * 1024];
    let mut remarked = false;
    loop {
        match show(&mut frames, shown, asides, &mut remarked)? {
            Some(Over::Exit(status)) => return Ok(Ran { status, remarked }),
            Some(over) => return ended(Some(over), port).map(|()| Ran { status: 0, remarked }),
            None => {}
        }
        match stream.read(&mut buffer)? {
            0 => return Err(AttachError::Broken(port.clone())),
            count => frames.receive(&buffer[..count]),
        }
    }
}

/// For the next rate: longer than a port listens for anything at all.
const AUTOBAUD_RATE_TIMEOUT: Duration = Duration::from_secs(20);

/// Has a port listen at the usual rates, and hands on what was heard at each. Dropped, it ends that.
pub async fn autobaud(
    runtime_dir: &Path,
    port: &PortName,
    mut tried: impl FnMut(Tried) -> io::Result<()>,
) -> Result<(), AttachError> {
    let path = socket_path(runtime_dir, port);
    let connected = tokio::net::UnixStream::connect(&path).await;
    let mut stream = connected.map_err(|source| unreachable(port, &path, source))?;
    let failed = |error| AttachError::Message(port.clone(), error);
    send_async(&mut stream, &Request::Autobaud).await.map_err(failed)?;
    loop {
        let reply = tokio::time::timeout(AUTOBAUD_RATE_TIMEOUT, receive_async(&mut stream)).await;
        match reply.map_err(|_| AttachError::Silent(port.clone()))?.map_err(failed)? {
            Some(Reply::Tried(rate)) => tried(rate)?,
            Some(Reply::Done) => return Ok(()),
            Some(reply) => return Err(unexpected(port, reply)),
            None => return Err(AttachError::Broken(port.clone())),
        }
    }
}

/// Has a port that runs read the configuration again and apply it: what could not be as it says, a sentence each.
pub fn apply(runtime_dir: &Path, port: &PortName) -> Result<Vec<String>, AttachError> {
    match ask(runtime_dir, port, &Request::Apply)? {
        (Reply::Applied(remarks), _) => Ok(remarks),
        (reply, _) => Err(unexpected(port, reply)),
    }
}

/// Begins a session without a terminal: what the caller writes goes to the device, and [`Frames`] come back.
pub fn open(runtime_dir: &Path, port: &PortName, options: Options) -> Result<UnixStream, AttachError> {
    match ask(runtime_dir, port, &Request::Connect { terminal: false, options })? {
        (Reply::Connected, stream) => Ok(stream),
        (reply, _) => Err(unexpected(port, reply)),
    }
}

/// Sends a break, as one of `by`.
pub fn send_break(
    runtime_dir: &Path,
    port: &PortName,
    length: Duration,
    by: &str,
) -> Result<(), AttachError> {
    let milliseconds = u32::try_from(length.as_millis()).unwrap_or(u32::MAX);
    match ask(runtime_dir, port, &Request::Break { milliseconds, by: by.to_owned() })? {
        (Reply::Done, _) => Ok(()),
        (reply, _) => Err(unexpected(port, reply)),
    }
}

/// Ends the sessions of a user, who is told `by` whom: how many.
pub fn disconnect(runtime_dir: &Path, port: &PortName, user: &str, by: &str) -> Result<u32, AttachError> {
    let request = Request::Disconnect { user: user.to_owned(), by: by.to_owned() };
    match ask(runtime_dir, port, &request)? {
        (Reply::Disconnected(count), _) => Ok(count),
        (reply, _) => Err(unexpected(port, reply)),
    }
}

pub(super) fn unexpected(port: &PortName, reply: Reply) -> AttachError {
    AttachError::Refused(match reply {
        Reply::Refused(why) => why,
        _ => format!("{port} answered another question"),
    })
}

/// Becomes the console of a port, and of those that its user goes on to, until that one leaves. That the port ends the session is
/// an error.
pub fn connect(runtime_dir: &Path, port: &PortName, mut options: Options) -> Result<(), AttachError> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let terminal = stdin.is_terminal() && stdout.is_terminal();
    let mut raw = None;
    let mut port = port.clone();
    loop {
        let stream = match ask(runtime_dir, &port, &Request::Connect { terminal, options })? {
            (Reply::Connected, stream) => stream,
            (reply, _) => return Err(unexpected(&port, reply)),
        };
        if terminal && raw.is_none() {
            raw = Some(RawTerminal::enter()?);
        }
        match pass_bytes(stream)? {
            Some(Over::Moved(next)) => {
                port = next;
                // It was meant for the first.
                options.force = false;
            }
            over => return ended(over, &port),
        }
    }
}

/// How a session ended.
#[derive(Debug)]
enum Over {
    /// The user has left.
    Left,
    /// Likewise, and not all of the input was sent.
    Unsent,
    /// The port has ended it, and said why.
    Closed,
    /// The user goes to this console.
    Moved(PortName),
    /// A command has ended.
    Exit(u8),
}

fn ended(how: Option<Over>, port: &PortName) -> Result<(), AttachError> {
    match how {
        Some(Over::Left) => Ok(()),
        Some(Over::Unsent) => Err(AttachError::Unsent(port.clone())),
        Some(_) => Err(AttachError::Closed(port.clone())),
        None => Err(AttachError::Broken(port.clone())),
    }
}

/// Shows what has come. How the session ended, if the port has said it.
fn show(
    frames: &mut Frames,
    shown: &mut dyn Write,
    asides: &mut dyn Write,
    remarked: &mut bool,
) -> io::Result<Option<Over>> {
    while let Some((kind, bytes)) = frames.next_frame()? {
        match kind {
            Kind::Shown => put(&mut *shown, &bytes)?,
            Kind::Aside => {
                *remarked = true;
                put(&mut *asides, visible(&String::from_utf8_lossy(&bytes)).as_bytes())?;
            }
            Kind::Closed | Kind::Dismissed => return Ok(Some(Over::Closed)),
            Kind::Left => return Ok(Some(Over::Left)),
            Kind::Unsent => return Ok(Some(Over::Unsent)),
            Kind::Moved => {
                let name = std::str::from_utf8(&bytes).ok().and_then(|name| name.parse().ok());
                let name = name.ok_or_else(|| io::Error::other("the port names a console that cannot be"))?;
                return Ok(Some(Over::Moved(name)));
            }
            Kind::Exit => return Ok(Some(Over::Exit(bytes.first().copied().unwrap_or(1)))),
        }
    }
    Ok(None)
}

/// A connection that waits no longer than [`PATIENCE`] to be made.
fn connected(path: &Path) -> io::Result<UnixStream> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.set_write_timeout(Some(REPLY_TIMEOUT))?;
    socket.connect(&socket2::SockAddr::unix(path)?)?;
    socket.set_write_timeout(None)?;
    Ok(UnixStream::from(std::os::fd::OwnedFd::from(socket)))
}

pub(super) fn unreachable(port: &PortName, path: &Path, source: io::Error) -> AttachError {
    let (port, path) = (port.clone(), path.display().to_string());
    match source.kind() {
        io::ErrorKind::NotFound => AttachError::NotServed { port, path },
        _ => AttachError::Unreachable { port, path, source },
    }
}

fn ask(runtime_dir: &Path, port: &PortName, request: &Request) -> Result<(Reply, UnixStream), AttachError> {
    let path = socket_path(runtime_dir, port);
    let mut stream = match connected(&path) {
        // The queue of a port that accepts nothing is full.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(AttachError::Silent(port.clone()));
        }
        stream => stream.map_err(|source| unreachable(port, &path, source))?,
    };
    let failed = |error| AttachError::Message(port.clone(), error);
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    let sent = send(&mut stream, request);
    let reply = match receive(&mut stream) {
        Err(MessageError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(AttachError::Silent(port.clone()));
        }
        reply => reply,
    };
    // One whose turn has not come is answered before it asks.
    if !matches!(reply, Ok(Some(_))) {
        sent.map_err(failed)?;
    }
    stream.set_read_timeout(None)?;
    let reply = reply.map_err(failed)?;
    let reply = reply.ok_or_else(|| AttachError::Refused(format!("{port} closed without an answer")))?;
    Ok((reply, stream))
}

/// Both directions at once, neither able to hold up the other: standard input is read only when the socket has taken what
/// came before. How the session ended, if the port has said it.
fn pass_bytes(mut stream: UnixStream) -> io::Result<Option<Over>> {
    stream.set_nonblocking(true)?;
    let stdin = io::stdin();
    let mut frames = Frames::default();
    let mut typed: Vec<u8> = Vec::new();
    let mut buffer = [0; 32 * 1024];
    let mut input_ended = false;
    loop {
        let mut socket_wants = PollFlags::POLLIN;
        socket_wants.set(PollFlags::POLLOUT, !typed.is_empty());
        let mut fds =
            [PollFd::new(stream.as_fd(), socket_wants), PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        // An input that is not wanted is left out altogether: the end of a pipe is reported whatever is asked.
        let listens = !input_ended && typed.is_empty();
        let watched = if listens { &mut fds[..] } else { &mut fds[..1] };
        poll(watched, PollTimeout::NONE)?;
        let (from_socket, from_input) = (fds[0].any() == Some(true), listens && fds[1].any() == Some(true));

        if from_socket {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => {
                    frames.receive(&buffer[..count]);
                    if let Some(over) = show(&mut frames, &mut io::stdout(), &mut io::stderr(), &mut false)? {
                        return Ok(Some(over));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        if from_input {
            // Not through io::stdin's buffer, which poll would not see.
            let count = read_now(stdin.as_fd(), &mut buffer)?;
            typed.extend_from_slice(&buffer[..count]);
            if count == 0 {
                input_ended = true;
                stream.shutdown(std::net::Shutdown::Write)?;
            }
        }
        if !typed.is_empty() {
            match stream.write(&typed) {
                Ok(count) => drop(typed.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => typed.clear(),
                Err(error) => return Err(error),
            }
        }
    }
}

fn put(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

fn read_now(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    match nix::unistd::read(fd, buffer) {
        Ok(count) => Ok(count),
        // A terminal that is gone.
        Err(nix::errno::Errno::EIO) => Ok(0),
        Err(errno) => Err(errno.into()),
    }
}

/// The caller's terminal in raw mode; as it was before when dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // The terminal may be gone; there is nobody left to tell.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}
