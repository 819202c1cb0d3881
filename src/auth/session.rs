//! A session at the admin CLI: what whoever was let in asks to be run, PAM's session around it, and its end, which is
//! the program's or that of the connection.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, alarm};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::account::Account;
use super::pam::{PamError, Transaction};
use super::peer::{Peer, PeerError};
use super::protocol::{Exit, Reply, Request, Run};
use super::run::{self, RunError};
use crate::message::{self, MessageError};

/// For the program to leave once it has been hung up.
const HANG_UP: Duration = Duration::from_secs(5);

/// For the network side to take the news of its end.
const TELL: Duration = Duration::from_secs(10);

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
    /// Everything else.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// Waits for what is to be run, and runs `program` for it as `account` until it ends or the network side leaves. `tell` has
/// the journal told.
pub fn serve(
    mut peer: Peer,
    account: &Account,
    mut pam: Transaction<'static>,
    program: &Path,
    tell: impl Fn(&str),
) -> Result<(), SessionError> {
    let (run, terminal) = match peer.receive()? {
        None => return Ok(()),
        Some(Request::Run { run, terminal }) => (run, terminal),
        Some(_) => return Err(PeerError::OutOfTurn("whoever has been let in may only Run").into()),
    };
    tell(&begins(&run));
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| SessionError::System("no runtime", error))?;
    let _context = runtime.enter();
    let started = run::take_groups(account).map_err(SessionError::from).and_then(|()| {
        let (session, said) = pam.open_session()?;
        let (child, ends) = run::start(program, account, &run, terminal.as_ref())?;
        Ok((session, said, child, ends))
    });
    // Dropped last, and with it PAM's session closed.
    let (_session, said, child, ends) = match started {
        Ok(started) => started,
        Err(error) => {
            peer.send(&Reply::Failed)?;
            return Err(error);
        }
    };
    if !said.trim().is_empty() {
        peer.send(&Reply::Said(said))?;
    }
    // That was for the login.
    alarm::cancel();
    let exit = runtime.block_on(keep(child, ends, peer))?;
    tell(&match exit {
        Exit::Status(status) => format!("session ended with {status}"),
        Exit::Signal(signal) => format!("session ended by signal {signal}"),
    });
    Ok(())
}

fn begins(run: &Run) -> String {
    match run {
        Run::Admin => "session begins".to_owned(),
        Run::Line(line) => format!("session begins, for {:?}", line.as_str()),
        Run::Console(port) => format!("session begins, at the console of {port}"),
    }
}

/// Hands the program's ends over and waits until it has ended. On an error it is killed as it is dropped.
async fn keep(mut child: Child, ends: Vec<OwnedFd>, mut peer: Peer) -> Result<Exit, SessionError> {
    let system = |what| move |error| SessionError::System(what, error);
    let mut terminate = signal(SignalKind::terminate()).map_err(system("signals"))?;
    peer.send(&Reply::Running)?;
    let stream = peer.into_stream();
    let borrowed: Vec<_> = ends.iter().map(AsFd::as_fd).collect();
    message::send_descriptors(&stream, &borrowed).map_err(MessageError::from)?;
    // A terminal hangs up when the last of its other side is closed, and that must not be ours.
    drop(ends);
    stream.set_nonblocking(true).map_err(MessageError::from)?;
    let mut stream = UnixStream::from_std(stream).map_err(MessageError::from)?;

    let ended = tokio::select! {
        ended = child.wait() => ended,
        () = left(&mut stream) => hang_up(&mut child).await,
        _ = terminate.recv() => hang_up(&mut child).await,
    };
    let exit = exit(ended.map_err(system("the program is lost"))?);
    // A peer that has left does not want to know.
    let _ = timeout(TELL, message::send_async(&mut stream, &Reply::Exited(exit))).await;
    Ok(exit)
}

/// Waits until the network side has closed its end, or says something, which it may not.
async fn left(stream: &mut UnixStream) {
    let _ = stream.read(&mut [0]).await;
}

/// What a terminal does to its session when its line is cut; and an end to who does not listen.
async fn hang_up(child: &mut Child) -> io::Result<ExitStatus> {
    for signal in [Signal::SIGHUP, Signal::SIGCONT] {
        to_group(child, signal)?;
    }
    match timeout(HANG_UP, child.wait()).await {
        Ok(ended) => ended,
        Err(_) => {
            to_group(child, Signal::SIGKILL)?;
            child.wait().await
        }
    }
}

/// The program leads a group, and is not reaped yet: the number is its.
fn to_group(child: &Child, signal: Signal) -> io::Result<()> {
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
