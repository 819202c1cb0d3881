//! The client's end of the local socket, for `consolectl`.

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
use crate::hub::DEFAULT_BREAK_MS;
use crate::port::{BreakName, PortName};
use crate::printable::visible;
use crate::session::Options;
use crate::system::message::{MessageError, receive, receive_async, send, send_async};

/// Timeout of a reply. An idle port is started first.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum AttachError {
    /// No socket: no such port, or its units are not running.
    #[error("{port} is not running; for the reason run `doctor {port}`")]
    NotServed { port: PortName, path: String },
    #[error("cannot connect to {port} at {path}: {source}")]
    Unreachable { port: PortName, path: String, source: io::Error },
    #[error("no response from {0} within {n} s", n = REPLY_TIMEOUT.as_secs())]
    Silent(PortName),
    #[error("{0}")]
    Rejected(String),
    #[error("{0}: {1}")]
    Message(PortName, MessageError),
    /// The port closed the session; it has printed the reason on the terminal or on standard error.
    #[error("{0} closed the session")]
    Closed(PortName),
    /// Input was discarded; the port has printed the reason on the terminal or on standard error.
    #[error("not all of the input was sent to {0}")]
    Unsent(PortName),
    #[error("connection to {0} lost")]
    Broken(PortName),
    /// The socket, or the caller's own terminal or pipe, failed.
    #[error("session failed: {0}")]
    Failed(#[from] io::Error),
}

/// Requests the state of a port.
pub fn status(runtime_dir: &Path, port: &PortName) -> Result<Status, AttachError> {
    match ask(runtime_dir, port, &Request::Status)? {
        (Reply::Status(status), _) => Ok(status),
        (reply, _) => Err(unexpected(port, reply)),
    }
}

/// Result of a command at a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ran {
    pub status: u8,
    /// Whether the port has printed notices beside the output.
    pub had_notices: bool,
}

/// Runs a command at a port. Output goes to `output`, in whole lines for `log` and `grep`, and notices to `notices`, printable.
pub fn run(
    runtime_dir: &Path,
    port: &PortName,
    command: Command,
    output: &mut dyn Write,
    notices: &mut dyn Write,
) -> Result<Ran, AttachError> {
    let mut stream = match ask(runtime_dir, port, &Request::Run(command))? {
        (Reply::Connected, stream) => stream,
        (reply, _) => return Err(unexpected(port, reply)),
    };
    let mut frames = Frames::default();
    let mut buffer = [0; 32 * 1024];
    let mut had_notices = false;
    loop {
        match receive_frames(&mut frames, output, notices, &mut had_notices)? {
            Some(SessionEnd::Exit(status)) => return Ok(Ran { status, had_notices }),
            Some(end) => return result_of(Some(end), port).map(|()| Ran { status: 0, had_notices }),
            None => {}
        }
        match stream.read(&mut buffer)? {
            0 => return Err(AttachError::Broken(port.clone())),
            count => frames.receive(&buffer[..count]),
        }
    }
}

/// Timeout of each rate: longer than a port waits for output.
const AUTOBAUD_RATE_TIMEOUT: Duration = Duration::from_secs(20);

/// Has a port read from its device at the usual rates, and reports each result. Ends that when dropped.
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

/// Makes a running port apply its configuration again. Returns a sentence for each part that is not in effect.
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

/// Sends a break in the name of `by`.
pub fn send_break(
    runtime_dir: &Path,
    port: &PortName,
    length: Duration,
    by: &str,
) -> Result<(), AttachError> {
    let milliseconds = u32::try_from(length.as_millis()).unwrap_or(u32::MAX);
    perform(runtime_dir, port, &Request::Break { milliseconds, name: None, by: by.to_owned() })
}

/// Sends the break of this name in the name of `by`.
pub fn send_named_break(
    runtime_dir: &Path,
    port: &PortName,
    name: &BreakName,
    by: &str,
) -> Result<(), AttachError> {
    let milliseconds = DEFAULT_BREAK_MS;
    let name = Some(name.clone());
    perform(runtime_dir, port, &Request::Break { milliseconds, name, by: by.to_owned() })
}

fn perform(runtime_dir: &Path, port: &PortName, request: &Request) -> Result<(), AttachError> {
    match ask(runtime_dir, port, request)? {
        (Reply::Done, _) => Ok(()),
        (reply, _) => Err(unexpected(port, reply)),
    }
}

/// Records an event in the port's log and notifies its sessions.
pub fn note(runtime_dir: &Path, port: &PortName, text: &str) -> Result<(), AttachError> {
    perform(runtime_dir, port, &Request::Note { text: text.to_owned() })
}

/// Disconnects a user's sessions, which are notified of `by`. Returns their number.
pub fn disconnect(runtime_dir: &Path, port: &PortName, user: &str, by: &str) -> Result<u32, AttachError> {
    let request = Request::Disconnect { user: user.to_owned(), by: by.to_owned() };
    match ask(runtime_dir, port, &request)? {
        (Reply::Disconnected(count), _) => Ok(count),
        (reply, _) => Err(unexpected(port, reply)),
    }
}

pub(super) fn unexpected(port: &PortName, reply: Reply) -> AttachError {
    AttachError::Rejected(match reply {
        Reply::Rejected(why) => why,
        _ => format!("unexpected reply from {port}"),
    })
}

/// Attaches to a port, and to those to which its user switches, until the user detaches. If the port closes the session, that is an
/// error.
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
            Some(SessionEnd::Switched(next)) => {
                port = next;
                // It was meant for the first port.
                options.force = false;
            }
            end => return result_of(end, &port),
        }
    }
}

#[derive(Debug)]
enum SessionEnd {
    Detached,
    /// The user detached, and not all of the input was sent.
    Unsent,
    /// The port closed the session, and has printed the reason.
    Closed,
    Switched(PortName),
    /// A command ended with this exit code.
    Exit(u8),
}

fn result_of(end: Option<SessionEnd>, port: &PortName) -> Result<(), AttachError> {
    match end {
        Some(SessionEnd::Detached) => Ok(()),
        Some(SessionEnd::Unsent) => Err(AttachError::Unsent(port.clone())),
        Some(_) => Err(AttachError::Closed(port.clone())),
        None => Err(AttachError::Broken(port.clone())),
    }
}

/// Prints the frames received. Returns how the session ended, if it did.
fn receive_frames(
    frames: &mut Frames,
    output: &mut dyn Write,
    notices: &mut dyn Write,
    had_notices: &mut bool,
) -> io::Result<Option<SessionEnd>> {
    while let Some((kind, bytes)) = frames.next_frame()? {
        match kind {
            Kind::Output => write_flushed(&mut *output, &bytes)?,
            Kind::Notice => {
                *had_notices = true;
                write_flushed(&mut *notices, visible(&String::from_utf8_lossy(&bytes)).as_bytes())?;
            }
            Kind::Closed | Kind::Disconnected => return Ok(Some(SessionEnd::Closed)),
            Kind::Detached => return Ok(Some(SessionEnd::Detached)),
            Kind::Unsent => return Ok(Some(SessionEnd::Unsent)),
            Kind::Switched => {
                let name = std::str::from_utf8(&bytes).ok().and_then(|name| name.parse().ok());
                let name = name.ok_or_else(|| io::Error::other("the port sent an invalid console name"))?;
                return Ok(Some(SessionEnd::Switched(name)));
            }
            Kind::Exit => return Ok(Some(SessionEnd::Exit(bytes.first().copied().unwrap_or(1)))),
        }
    }
    Ok(None)
}

/// Connects within [`REPLY_TIMEOUT`].
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
        // The accept queue is full, because the port does not accept.
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
    // A client that is rejected gets its reply before it has sent the request.
    if !matches!(reply, Ok(Some(_))) {
        sent.map_err(failed)?;
    }
    stream.set_read_timeout(None)?;
    let reply = reply.map_err(failed)?;
    let reply = reply
        .ok_or_else(|| AttachError::Rejected(format!("{port} closed the connection without a reply")))?;
    Ok((reply, stream))
}

/// [`ask`] on a runtime, without a timeout.
pub(super) async fn ask_async(
    runtime_dir: &Path,
    port: &PortName,
    request: &Request,
) -> Result<(Reply, tokio::net::UnixStream), AttachError> {
    let path = socket_path(runtime_dir, port);
    let mut stream = match tokio::net::UnixStream::connect(&path).await {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(AttachError::Silent(port.clone()));
        }
        stream => stream.map_err(|source| unreachable(port, &path, source))?,
    };
    let failed = |error| AttachError::Message(port.clone(), error);
    let sent = send_async(&mut stream, request).await;
    let reply = receive_async(&mut stream).await;
    if !matches!(reply, Ok(Some(_))) {
        sent.map_err(failed)?;
    }
    let reply = reply.map_err(failed)?.ok_or_else(|| AttachError::Broken(port.clone()))?;
    Ok((reply, stream))
}

/// Copies both directions, neither blocking the other: standard input is read only after the socket has taken the input before.
/// Returns how the session ended, if the port has sent that.
fn pass_bytes(mut stream: UnixStream) -> io::Result<Option<SessionEnd>> {
    stream.set_nonblocking(true)?;
    let stdin = io::stdin();
    let mut frames = Frames::default();
    let mut typed: Vec<u8> = Vec::new();
    let mut buffer = [0; 32 * 1024];
    let mut input_ended = false;
    loop {
        let mut socket_events = PollFlags::POLLIN;
        socket_events.set(PollFlags::POLLOUT, !typed.is_empty());
        let mut fds =
            [PollFd::new(stream.as_fd(), socket_events), PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        // Standard input is left out if it is not to be read, because poll reports a hangup always.
        let reads_input = !input_ended && typed.is_empty();
        let watched = if reads_input { &mut fds[..] } else { &mut fds[..1] };
        poll(watched, PollTimeout::NONE)?;
        let (from_socket, from_input) =
            (fds[0].any() == Some(true), reads_input && fds[1].any() == Some(true));

        if from_socket {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => {
                    frames.receive(&buffer[..count]);
                    let (output, notices) = (&mut io::stdout(), &mut io::stderr());
                    if let Some(end) = receive_frames(&mut frames, output, notices, &mut false)? {
                        return Ok(Some(end));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        if from_input {
            // Not through io::stdin's buffer, which poll does not see.
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

fn write_flushed(mut to: impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

fn read_now(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    match nix::unistd::read(fd, buffer) {
        Ok(count) => Ok(count),
        // The terminal was closed.
        Err(nix::errno::Errno::EIO) => Ok(0),
        Err(errno) => Err(errno.into()),
    }
}

/// The caller's terminal in raw mode; restored when dropped.
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
        // Fails if the terminal was closed, which needs no report.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_messages() {
        let (port, path) = (|| "ttyUSB0".parse::<PortName>().unwrap(), Path::new("/run/x/attach/ttyUSB0"));
        let io = io::Error::from_raw_os_error;
        let errors = [
            unreachable(&port(), path, io(nix::libc::ENOENT)),
            unreachable(&port(), path, io(nix::libc::EACCES)),
            AttachError::Silent(port()),
            unexpected(&port(), Reply::Rejected("bob has no access to ttyUSB0".to_owned())),
            unexpected(&port(), Reply::Done),
            AttachError::Message(port(), MessageError::Io(io(nix::libc::EPIPE))),
            AttachError::Closed(port()),
            AttachError::Unsent(port()),
            AttachError::Broken(port()),
            AttachError::Failed(io(nix::libc::EIO)),
        ];
        let text: String = errors.iter().map(|error| format!("{error}\n")).collect();
        snapbox::assert_data_eq!(text, snapbox::file!["../../tests/golden/attach/errors.txt"].raw());
    }
}
