//! `console-dial`: connects a port to its far end. It is started by `console-source@PORT.socket` when
//! `console-port` connects there, keeps the connection while the port requests it, and exits with the port.
//! It runs as its own user, with network access and without access to ttys, logs and configuration: the far
//! end is in its command line.

mod backoff;
#[doc(hidden)] // for the fuzz target
pub mod codec;
mod far;
mod hold;
mod program;
mod pump;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, socketpair};
use thiserror::Error;
use tokio::io::Interest;
use tokio::time::{Instant, sleep_until};

use crate::port::{PortName, Source};
use crate::source::{FromDialer, FromPort, PacketError, Packets, Request};
use crate::system::memory;
use crate::system::reactor::Watched;
use backoff::Backoff;
use codec::Codec;
use far::{Arrival, FarEnd};
use hold::Failures;
use pump::Ended;

/// A connection that has lasted this long resets the back-off. That of a program begins with its first output: it may take as long to
/// fail.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// Consecutive rejected logins after which the connection is not retried: BMCs lock an account after a few
/// (IPMI 2.0, 22.26: bad password threshold).
const MAX_REFUSED: u32 = 3;
/// An idle blocking thread exits after this time. It only looks up names.
const BLOCKING_IDLE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct Options {
    /// The port, by the instance name of its unit.
    pub port: PortName,
    pub source: Source,
    /// The program of [`Source::Unit`] and its arguments.
    pub program: Vec<std::ffi::OsString>,
    /// The text that is sent to that program as a break.
    pub break_text: Option<Vec<u8>>,
}

#[derive(Debug, Error)]
pub enum DialError {
    #[error("console-dial is started by console-source@PORT.socket, which passes the listening socket")]
    NotPassed,
    #[error("the connection to console-port: {0}")]
    Port(#[from] PacketError),
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// Serves one process of the port after the other until none is connected.
pub fn run(options: &Options) -> Result<(), DialError> {
    // All dialers have the same uid; without this, a compromised one could read the secrets of the others
    // through /proc.
    nix::sys::prctl::set_dumpable(false)
        .map_err(|errno| DialError::System("other dialers cannot be kept out of this one", errno.into()))?;
    memory::one_heap();
    let listener = crate::system::systemd::only_descriptor()
        .map_err(|error| DialError::System("the listening socket", error))?
        .ok_or(DialError::NotPassed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_keep_alive(BLOCKING_IDLE)
        .max_io_events_per_tick(16)
        .build()
        .map_err(|error| DialError::System("no runtime", error))?;
    let done = runtime.block_on(async {
        let packets = accept(listener).await.map_err(|error| DialError::System("accept", error))?;
        Dial {
            options,
            packets,
            request: Request::default(),
            refused: 0,
            reason: None,
            lasting_since: None,
            failures: Failures::default(),
        }
        .run()
        .await
    });
    runtime.shutdown_background();
    match done {
        // The port has closed its connection, or exited while a message was sent to it.
        Err(DialError::Port(PacketError::Io(error)))
            if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
        {
            Ok(())
        }
        done => done,
    }
}

/// Accepts the connection of the port. Only the port can connect (`SocketUser=`).
async fn accept(listener: OwnedFd) -> io::Result<Packets> {
    rustix::io::ioctl_fionbio(&listener, true)?;
    let listener = Watched::new(listener, Interest::READABLE)?;
    loop {
        let mut ready = listener.readable().await?;
        let accepted = ready.try_io(|socket| Ok(accept_with(socket.get_ref(), SocketFlags::CLOEXEC)?));
        if let Ok(accepted) = accepted {
            return Packets::new(accepted?);
        }
    }
}

struct Dial<'a> {
    options: &'a Options,
    packets: Packets,
    request: Request,
    /// Consecutive logins that the far end has rejected.
    refused: u32,
    /// The reason why there is no connection, which is also sent to a new process of the port.
    reason: Option<FromDialer>,
    /// Since when the connection counts as one that lasts.
    lasting_since: Option<Instant>,
    failures: Failures,
}

impl Dial<'_> {
    async fn run(mut self) -> Result<(), DialError> {
        let mut backoff = Backoff::new();
        self.send(&FromDialer::Target(self.options.source.to_string()))?;
        // Armed before each attempt, so that no event in between is missed.
        let mut arrival = Arrival::of(&self.options.source);
        loop {
            if !self.request.connect || self.refused >= MAX_REFUSED {
                self.obey().await?;
                continue;
            }
            let attempt = far::connect(self.options);
            tokio::pin!(attempt);
            let connected = loop {
                tokio::select! {
                    connected = &mut attempt => break Some(connected),
                    message = self.message() => {
                        self.take(message?)?;
                        if !self.request.connect {
                            break None;
                        }
                    }
                }
            };
            let failure = match connected {
                None => {
                    self.disconnected("no session is attached".to_owned(), false)?;
                    continue;
                }
                Some(Ok(far)) => {
                    self.lasting_since = far.program.is_none().then(Instant::now);
                    memory::give_back();
                    let ended = self.serve(far).await?;
                    if self.has_lasted() {
                        backoff = Backoff::new();
                        self.refused = 0;
                    }
                    ended
                }
                Some(Err(why)) => Ended::Far { why, refused: false, stream: None },
            };
            match failure {
                Ended::Far { why, refused, stream } => {
                    self.refused = if refused { self.refused + 1 } else { 0 };
                    let gives_up = self.refused >= MAX_REFUSED;
                    self.disconnected(self.sentence(why, gives_up), gives_up)?;
                    drop(stream);
                    if gives_up {
                        continue;
                    }
                }
                // The port has requested a new connection, or none.
                Ended::Port => {
                    let why =
                        if self.request.connect { "connecting again" } else { "no session is attached" };
                    self.disconnected(why.to_owned(), false)?;
                    if !self.request.connect || std::mem::take(&mut self.request.at_once) {
                        continue;
                    }
                    // A port that was stopped has its stream closed first, and its connection to this program a moment later.
                }
            }
            self.pause(&mut backoff, &mut arrival).await?;
        }
    }

    fn has_lasted(&self) -> bool {
        self.lasting_since.is_some_and(|since| since.elapsed() >= STABLE_AFTER)
    }

    fn sentence(&self, why: String, gives_up: bool) -> String {
        match gives_up {
            false => why,
            true => format!(
                "{why}; not retried after {MAX_REFUSED} rejected logins: correct the login, then `consolectl reload {}`",
                self.options.port
            ),
        }
    }

    /// Waits for the time of the next attempt.
    async fn pause(&mut self, backoff: &mut Backoff, arrival: &mut Arrival) -> Result<(), DialError> {
        let until = Instant::now() + backoff.next();
        loop {
            tokio::select! {
                () = sleep_until(until) => return Ok(()),
                () = arrival.next() => {
                    *backoff = Backoff::of_arrival();
                    return Ok(());
                }
                message = self.message() => {
                    self.take(message?)?;
                    if std::mem::take(&mut self.request.at_once) {
                        *backoff = Backoff::new();
                        return Ok(());
                    }
                    if !self.request.connect {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits for a request from the port.
    async fn obey(&mut self) -> Result<(), DialError> {
        let message = self.message().await?;
        self.take(message)?;
        if !self.request.connect && self.reason.is_none() {
            self.disconnected("no session is attached".to_owned(), false)?;
        }
        Ok(())
    }

    /// The next message of the port. Its end is the same error as that of a message to it. Cancel safe.
    async fn message(&self) -> Result<FromPort, PacketError> {
        match self.packets.receive().await? {
            Some((message, _)) => Ok(message),
            None => Err(io::Error::from(io::ErrorKind::ConnectionReset).into()),
        }
    }

    fn take(&mut self, message: FromPort) -> Result<(), PacketError> {
        let FromPort::Request(request) = message else { return Ok(()) };
        if request.at_once {
            self.refused = 0;
        }
        self.request = request;
        self.send(&FromDialer::Target(self.options.source.to_string()))?;
        self.reason.as_ref().map_or(Ok(()), |reason| self.send(reason))
    }

    /// Reports that there is no connection. A repeated reason is not sent again, because the port may not
    /// read for a long time.
    fn disconnected(&mut self, why: String, refused: bool) -> Result<(), PacketError> {
        let reason = FromDialer::Disconnected { why, refused };
        if self.reason.as_ref() != Some(&reason) {
            self.send(&reason)?;
            self.reason = Some(reason);
        }
        Ok(())
    }

    fn send(&self, message: &FromDialer) -> Result<(), PacketError> {
        self.packets.send(message, None)
    }

    /// Passes a stream to the port, and copies bytes until one end closes.
    async fn serve(&mut self, far: FarEnd) -> Result<Ended, DialError> {
        let system = |what| move |error: rustix::io::Errno| DialError::System(what, error.into());
        let pair = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        };
        self.reason = None;
        let own = 'streams: loop {
            let (own, theirs) = pair().map_err(system("a socket for the port"))?;
            self.packets.send(&FromDialer::Connected, Some(theirs.as_fd()))?;
            drop(theirs);
            let own = tokio::net::UnixStream::from_std(own.into())
                .map_err(|error| DialError::System("a socket for the port", error))?;
            // Output of the far end stays in the kernel until the port has stored the stream, so that a kill
            // loses none.
            loop {
                tokio::select! {
                    // Input that follows immediately is behind that message.
                    biased;
                    message = self.message() => match message? {
                        FromPort::Stored => break 'streams own,
                        message => {
                            self.take(message)?;
                            if !self.request.connect {
                                return Ok(Ended::Port);
                            }
                        }
                    },
                    // The process that received the stream was killed before it stored it. (Nothing was sent:
                    // the stream is not stored.)
                    _ = own.readable() => continue 'streams,
                }
            }
        };
        let codec = Codec::of(&self.options.source, &self.options.break_text, &self.request);
        pump::run(self, far, own, codec).await
    }
}
