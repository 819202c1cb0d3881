//! Sessions of the admin CLI: programs that run as the user, inside one PAM session. A session ends with its program, its socket or the
//! connection.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal as Kind, killpg};
use nix::unistd::{Pid, alarm};
use thiserror::Error;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use super::account::Account;
use super::pam::{PamError, Transaction};
use super::peer::{Peer, PeerError};
use super::protocol::{Exit, Reply, Request, Run, Terminal};
use super::run::{self, RunError};
use crate::system::message::{self, MessageError};

/// Time for a program to exit after SIGHUP.
const HANG_UP: Duration = Duration::from_secs(5);

/// Sessions of one login at once: as many as its connection may have (`ssh::channels`).
const MAX_SESSIONS: usize = 10;

/// Seconds for PAM's session to open. The network side waits for 60.
const OPEN: u32 = 75;

/// Timeout of sending the exit status.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum SessionError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error(transparent)]
    Pam(#[from] PamError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("limit of {MAX_SESSIONS} sessions per login reached")]
    TooMany,
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// Runs `program` as `account` on request of the network side, also several at once, until it disconnects. `log` writes to the journal.
/// There is one PAM session for all of them, as in sshd; it begins with the first.
pub fn serve(
    peer: Peer,
    account: &Account,
    mut pam: Transaction<'static>,
    program: &Path,
    log: impl Fn(&str),
) -> Result<(), SessionError> {
    let system = |what| move |error| SessionError::System(what, error);
    // The alarm was for the login only. A connection without a session may last.
    alarm::cancel();
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(system("no runtime"))?.block_on(async {
        let mut network = Network::new(peer)?;
        let mut running = JoinSet::new();
        let Some(mut request) = network.next_run(&mut running, &log).await? else { return Ok(()) };
        // A module that hangs ends the process.
        alarm::set(OPEN);
        let opened =
            run::take_groups(account).map_err(SessionError::from).and_then(|()| Ok(pam.open_session()?));
        alarm::cancel();
        // Closed when this is dropped, after the last program.
        let (_session, messages) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                message::send_async(&mut network.replies, &Reply::Failed).await?;
                return Err(error);
            }
        };
        if !messages.trim().is_empty() {
            // Fails if the network side has disconnected, which is handled below.
            let _ = message::send_async(&mut network.replies, &Reply::Messages(messages)).await;
        }
        let hang_up = Arc::new(Semaphore::new(0));
        loop {
            let (run, terminal) = request;
            log(&begins(&run));
            let started = match running.len() {
                MAX_SESSIONS.. => Err(SessionError::TooMany),
                _ => start(program, account, &run, terminal.as_ref()),
            };
            match started {
                Ok(Started { child, ours, theirs }) => {
                    // Fails if the network side has disconnected, which is handled below.
                    let _ = network.hand_over(theirs).await;
                    running.spawn(keep(child, ours, hang_up.clone()));
                }
                Err(error) => {
                    log(&format!("session not started: {error}"));
                    message::send_async(&mut network.replies, &Reply::Failed).await?;
                }
            }
            match network.next_run(&mut running, &log).await {
                Ok(Some(next)) => request = next,
                end => {
                    hang_up.close();
                    while let Some(ended) = running.join_next().await {
                        log(&has_ended(ended));
                    }
                    return end.map(drop);
                }
            }
        }
    })
}

/// The network side, after the login.
struct Network {
    requests: OwnedReadHalf,
    replies: OwnedWriteHalf,
    terminate: Signal,
}

impl Network {
    fn new(peer: Peer) -> Result<Self, SessionError> {
        let stream = peer.into_stream();
        stream.set_nonblocking(true).map_err(MessageError::from)?;
        let (requests, replies) = UnixStream::from_std(stream).map_err(MessageError::from)?.into_split();
        let terminate = signal(SignalKind::terminate());
        let terminate = terminate.map_err(|error| SessionError::System("signals", error))?;
        Ok(Self { requests, replies, terminate })
    }

    /// Waits for the next request; `None` at the end of the connection. Logs programs that end in the meantime.
    async fn next_run(
        &mut self,
        running: &mut JoinSet<Result<Exit, SessionError>>,
        log: impl Fn(&str),
    ) -> Result<Option<(Run, Option<Terminal>)>, SessionError> {
        // Not cancel safe, so it is polled to its end.
        let request = message::receive_async(&mut self.requests);
        tokio::pin!(request);
        let request = loop {
            tokio::select! {
                request = &mut request => break request?,
                Some(ended) = running.join_next() => log(&has_ended(ended)),
                _ = self.terminate.recv() => break None,
            }
        };
        match request {
            None => Ok(None),
            Some(Request::Run { run, terminal }) => Ok(Some((run, terminal))),
            Some(_) => Err(PeerError::OutOfTurn("only Run is allowed after the login").into()),
        }
    }

    /// Sends the descriptors of a program, and closes them here, because a terminal hangs up only when the last copy of its master is closed.
    async fn hand_over(&mut self, ends: Vec<OwnedFd>) -> Result<(), SessionError> {
        message::send_async(&mut self.replies, &Reply::Running).await?;
        let ends: Vec<_> = ends.iter().map(AsFd::as_fd).collect();
        let stream: &UnixStream = self.replies.as_ref();
        let sent = stream.async_io(Interest::WRITABLE, || message::send_descriptors(stream, &ends));
        Ok(sent.await.map_err(MessageError::from)?)
    }
}

/// A started program, with our descriptors and those of the network side.
struct Started {
    child: Child,
    ours: UnixStream,
    theirs: Vec<OwnedFd>,
}

fn start(
    program: &Path,
    account: &Account,
    run: &Run,
    terminal: Option<&Terminal>,
) -> Result<Started, SessionError> {
    let (ours, socket) = UnixStream::pair().map_err(|error| SessionError::System("no socket", error))?;
    let socket = socket.into_std().map_err(|error| SessionError::System("no socket", error))?;
    let (child, ends) = run::start(program, account, run, terminal)?;
    Ok(Started { child, ours, theirs: std::iter::once(socket.into()).chain(ends).collect() })
}

fn has_ended(ended: Result<Result<Exit, SessionError>, JoinError>) -> String {
    match ended {
        Ok(Ok(Exit::Status(status))) => format!("session ended, exit status {status}"),
        Ok(Ok(Exit::Signal(signal))) => format!("session ended, signal {signal}"),
        Ok(Err(error)) => format!("session failed: {error}"),
        Err(error) => format!("session failed: {error}"),
    }
}

fn begins(run: &Run) -> String {
    match run {
        Run::Admin => "session started".to_owned(),
        Run::Line(line) => format!("session started, command {:?}", line.as_str()),
        Run::Console(port) => format!("session started, console of {port}"),
    }
}

/// Waits until the program ends; hangs it up when the network side closes its socket, or when all sessions end.
async fn keep(mut child: Child, mut socket: UnixStream, all: Arc<Semaphore>) -> Result<Exit, SessionError> {
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = disconnected(&mut socket) => hang_up(&mut child).await,
        // There is no permit: it returns when the semaphore is closed.
        _ = all.acquire() => hang_up(&mut child).await,
    };
    let exit = exit(ended.map_err(|error| SessionError::System("cannot wait for the program", error))?);
    // Fails if the peer has disconnected.
    let _ = timeout(NOTIFY_TIMEOUT, message::send_async(&mut socket, &Reply::Exited(exit))).await;
    Ok(exit)
}

/// Waits until the network side closes its end, or sends something, which it must not.
async fn disconnected(stream: &mut UnixStream) {
    let _ = stream.read(&mut [0]).await;
}

/// Sends SIGHUP and SIGCONT, as a terminal does when it hangs up, and kills a program that does not exit.
async fn hang_up(child: &mut Child) -> io::Result<ExitStatus> {
    for signal in [Kind::SIGHUP, Kind::SIGCONT] {
        to_group(child, signal)?;
    }
    match timeout(HANG_UP, child.wait()).await {
        Ok(ended) => ended,
        Err(_) => {
            to_group(child, Kind::SIGKILL)?;
            child.wait().await
        }
    }
}

/// The program leads a process group, and is not reaped yet, so its pid is not reused.
fn to_group(child: &Child, signal: Kind) -> io::Result<()> {
    match child.id() {
        Some(id) => Ok(killpg(Pid::from_raw(id as i32), signal)?),
        None => Ok(()),
    }
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Status(code as u8),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Status(u8::MAX),
    }
}
