//! Sessions at the admin CLI: what whoever was let in asks to be run, PAM's session around it, and its end, which is
//! the program's, or that of its socket or the connection.

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

/// For the program to leave once it has been hung up.
const HANG_UP: Duration = Duration::from_secs(5);

/// Sessions of one login at once: as many as its connection may have (`ssh::channels`).
const MAX_SESSIONS: usize = 10;

/// Seconds for PAM's session to open. The network side waits for 60.
const OPEN: u32 = 75;

/// For the network side to take the news of its end.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there was no session, or how it was lost.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The network side broke the protocol.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// It left.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A module said no.
    #[error(transparent)]
    Pam(#[from] PamError),
    /// The program.
    #[error(transparent)]
    Run(#[from] RunError),
    /// More than there may be.
    #[error("{MAX_SESSIONS} sessions of this login run: no more")]
    TooMany,
    /// Everything else.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// Runs `program` as `account` for whatever the network side asks for, several at once if need be, until it leaves. `tell` has
/// the journal told. PAM's session is one, around them all, as sshd has it; it begins with the first.
pub fn serve(
    peer: Peer,
    account: &Account,
    mut pam: Transaction<'static>,
    program: &Path,
    tell: impl Fn(&str),
) -> Result<(), SessionError> {
    let system = |what| move |error| SessionError::System(what, error);
    // That was for the login. A connection without a session may last.
    alarm::cancel();
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(system("no runtime"))?.block_on(async {
        let mut network = Network::new(peer)?;
        let mut running = JoinSet::new();
        let Some(mut wanted) = network.wants(&mut running, &tell).await? else { return Ok(()) };
        // A module that hangs ends the process.
        alarm::set(OPEN);
        let opened =
            run::take_groups(account).map_err(SessionError::from).and_then(|()| Ok(pam.open_session()?));
        alarm::cancel();
        // Closed when this is dropped, after the last program.
        let (_session, said) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                message::send_async(&mut network.replies, &Reply::Failed).await?;
                return Err(error);
            }
        };
        if !said.trim().is_empty() {
            // An error is a network side that is gone, which is seen below.
            let _ = message::send_async(&mut network.replies, &Reply::Said(said)).await;
        }
        let hang_up = Arc::new(Semaphore::new(0));
        loop {
            let (run, terminal) = wanted;
            tell(&begins(&run));
            let started = match running.len() {
                MAX_SESSIONS.. => Err(SessionError::TooMany),
                _ => start(program, account, &run, terminal.as_ref()),
            };
            match started {
                Ok(Started { child, ours, theirs }) => {
                    // An error is a network side that is gone, which is seen below.
                    let _ = network.hand_over(theirs).await;
                    running.spawn(keep(child, ours, hang_up.clone()));
                }
                Err(error) => {
                    tell(&format!("session failed: {error}"));
                    message::send_async(&mut network.replies, &Reply::Failed).await?;
                }
            }
            match network.wants(&mut running, &tell).await {
                Ok(Some(next)) => wanted = next,
                end => {
                    hang_up.close();
                    while let Some(ended) = running.join_next().await {
                        tell(&has_ended(ended));
                    }
                    return end.map(drop);
                }
            }
        }
    })
}

/// The network side, once it need not be waited for.
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

    /// Waits for what is to be run next; `None` is the end. Meanwhile programs end.
    async fn wants(
        &mut self,
        running: &mut JoinSet<Result<Exit, SessionError>>,
        tell: impl Fn(&str),
    ) -> Result<Option<(Run, Option<Terminal>)>, SessionError> {
        // It is not cancel safe, and goes on where it was.
        let request = message::receive_async(&mut self.requests);
        tokio::pin!(request);
        let request = loop {
            tokio::select! {
                request = &mut request => break request?,
                Some(ended) = running.join_next() => tell(&has_ended(ended)),
                _ = self.terminate.recv() => break None,
            }
        };
        match request {
            None => Ok(None),
            Some(Request::Run { run, terminal }) => Ok(Some((run, terminal))),
            Some(_) => Err(PeerError::OutOfTurn("whoever has been let in may only Run").into()),
        }
    }

    /// Says that a program runs, and hands its ends over. A terminal hangs up when the last of its other side is closed, and that must
    /// not be ours: they are closed here.
    async fn hand_over(&mut self, ends: Vec<OwnedFd>) -> Result<(), SessionError> {
        message::send_async(&mut self.replies, &Reply::Running).await?;
        let ends: Vec<_> = ends.iter().map(AsFd::as_fd).collect();
        let stream: &UnixStream = self.replies.as_ref();
        let sent = stream.async_io(Interest::WRITABLE, || message::send_descriptors(stream, &ends));
        Ok(sent.await.map_err(MessageError::from)?)
    }
}

/// A program that has been started, and our end and the network side's of what belongs to it.
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
        Ok(Ok(Exit::Status(status))) => format!("session ended with {status}"),
        Ok(Ok(Exit::Signal(signal))) => format!("session ended by signal {signal}"),
        Ok(Err(error)) => format!("session lost: {error}"),
        Err(error) => format!("session lost: {error}"),
    }
}

fn begins(run: &Run) -> String {
    match run {
        Run::Admin => "session begins".to_owned(),
        Run::Line(line) => format!("session begins, for {:?}", line.as_str()),
        Run::Console(port) => format!("session begins, at the console of {port}"),
    }
}

/// Waits until the program has ended, and ends it when the network side has closed its socket, or all are hung up.
async fn keep(mut child: Child, mut socket: UnixStream, all: Arc<Semaphore>) -> Result<Exit, SessionError> {
    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = left(&mut socket) => hang_up(&mut child).await,
        // There is no permit: this is the end of all of them.
        _ = all.acquire() => hang_up(&mut child).await,
    };
    let exit = exit(ended.map_err(|error| SessionError::System("the program is lost", error))?);
    // A peer that has left does not want to know.
    let _ = timeout(NOTIFY_TIMEOUT, message::send_async(&mut socket, &Reply::Exited(exit))).await;
    Ok(exit)
}

/// Waits until the network side has closed its end, or says something, which it may not.
async fn left(stream: &mut UnixStream) {
    let _ = stream.read(&mut [0]).await;
}

/// What a terminal does to its session when its line is cut; and an end to who does not listen.
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

/// The program leads a group, and is not reaped yet: the number is its.
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
