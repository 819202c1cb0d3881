//! The port's end of the local socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::Uid;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, warn};

use super::frame::{self, Kind};
use super::limits::{Ticket, Unjudged};
use super::{Reply, Request, Status, User};
use crate::auth::account::Account;
use crate::capture::writer::Health;
use crate::config::Groups;
use crate::event::Event;
use crate::message::{MessageError, encode, receive_async, send_async};
use crate::session::{self, Console, Ended, Feeder, Gone, Outlet, Visitor, typed};

/// Local clients at once; a further one waits, and those behind it in the listener's backlog.
const CLIENTS: usize = 64;
/// For the one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the account database to say who is calling. Shorter than a client waits for its answer, so that it hears why.
const LOOK_UP: Duration = Duration::from_secs(8);
/// For a client to take the frame that says how its session ended.
const LAST_FRAME: Duration = Duration::from_secs(1);
/// Between two refusals that the journal is told of: a local account could knock fast enough to drown all else that the
/// port says there (journald.conf(5), RateLimitBurst=).
const REFUSALS: Duration = Duration::from_secs(1);
/// Pause after a failed accept: others need the time to give descriptors back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// The local side of one port.
#[derive(Debug)]
pub struct Server {
    console: Arc<Console>,
    groups: watch::Receiver<Groups>,
    health: watch::Receiver<Health>,
    places: Arc<Semaphore>,
    unjudged: Unjudged,
    /// When a refusal was told last.
    refused: Mutex<Option<Instant>>,
    /// One at a time: a database that hangs must not hold the threads that the log and the line need.
    look_ups: Arc<Semaphore>,
    clients: watch::Sender<usize>,
}

/// Somebody who may not use the port.
struct Refusal {
    /// The name, or the number if there is none.
    user: String,
    why: String,
}

/// A client's place, counted as long as it is held.
struct Place {
    clients: watch::Sender<usize>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn new(clients: watch::Sender<usize>, permit: OwnedSemaphorePermit) -> Self {
        clients.send_modify(|count| *count += 1);
        Self { clients, _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clients.send_modify(|count| *count -= 1);
    }
}

impl Server {
    /// A server for this console.
    pub fn new(
        console: Arc<Console>,
        groups: watch::Receiver<Groups>,
        health: watch::Receiver<Health>,
    ) -> Arc<Self> {
        Arc::new(Self {
            console,
            groups,
            health,
            places: Arc::new(Semaphore::new(CLIENTS)),
            unjudged: Unjudged::default(),
            refused: Mutex::default(),
            look_ups: Arc::new(Semaphore::new(1)),
            clients: watch::Sender::new(0),
        })
    }

    /// How many clients there are.
    pub fn clients(&self) -> watch::Receiver<usize> {
        self.clients.subscribe()
    }

    /// Accepts for ever.
    pub async fn accept(self: Arc<Self>, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let Some((uid, ticket)) = self.admit(&stream) else { continue };
                    let Ok(permit) = self.places.clone().acquire_owned().await else { return };
                    let place = Place::new(self.clients.clone(), permit);
                    let server = self.clone();
                    tokio::spawn(async move {
                        let _place = place;
                        if let Err(error) = server.serve(stream, uid, ticket).await {
                            debug!("local client: {error}");
                        }
                    });
                }
                Err(error) => {
                    warn!("no local client can be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Who is calling, with a place among the unjudged; one who has too many is told so at once.
    fn admit(&self, stream: &UnixStream) -> Option<(u32, Ticket)> {
        let name = &self.console.name;
        let uid = match stream.peer_cred() {
            Ok(credentials) => credentials.uid(),
            Err(error) => {
                warn!("who is calling cannot be told: {error}");
                return None;
            }
        };
        let ticket = self.unjudged.admit(uid);
        if ticket.is_none() {
            debug!("a client of uid {uid} closed: it has too many that have asked nothing");
            let why = format!("{name}: too many clients of uid {uid} wait for an answer; try again");
            // A new socket takes so little at once, and one that does not is closed without.
            let _ = encode(&Reply::Refused(why)).map(|message| stream.try_write(&message));
        }
        Some((uid, ticket?))
    }

    async fn serve(&self, mut stream: UnixStream, uid: u32, ticket: Ticket) -> Result<(), MessageError> {
        let request = match tokio::time::timeout(PATIENCE, receive_async::<Request>(&mut stream)).await {
            Ok(Ok(Some(request))) => request,
            Ok(Ok(None)) | Err(_) => return Ok(()),
            Ok(Err(error)) => {
                send_async(&mut stream, &Reply::Refused(format!("not understood: {error}"))).await?;
                return Err(error);
            }
        };
        let caller = match self.caller(uid).await {
            Ok(caller) => caller,
            Err(refusal) => {
                if let Request::Connect { .. } = request {
                    self.tell_refusal(&refusal);
                }
                return send_async(&mut stream, &Reply::Refused(refusal.why)).await;
            }
        };
        drop(ticket);
        match request {
            Request::Status => send_async(&mut stream, &Reply::Status(self.status())).await,
            Request::Connect { terminal } => {
                send_async(&mut stream, &Reply::Connected).await?;
                self.connect(stream, caller, terminal).await;
                Ok(())
            }
        }
    }

    /// The caller's name, if they may use the port.
    async fn caller(&self, uid: u32) -> Result<String, Refusal> {
        let groups = self.groups.borrow().clone();
        // The account database may be slow (LDAP) or hang, and its calls block. The permit goes with the call, which
        // nobody can end.
        let look_up = self.look_up(move || {
            let uid = Uid::from_raw(uid);
            let told = |error| format!("who uid {uid} is cannot be told: {error}");
            let account = Account::of_uid(uid).map_err(told)?;
            let own = uid.is_root() || uid == Uid::current();
            let admitted = own || groups.admit(&account.identity().map_err(told)?.groups);
            Ok((account.name.as_str().to_owned(), admitted))
        });
        let name = &self.console.name;
        match tokio::time::timeout(LOOK_UP, look_up).await {
            Ok(Ok((user, true))) => Ok(user),
            Ok(Ok((user, false))) => {
                let why = format!("{user} may not use {name}: in none of its groups");
                Err(Refusal { user, why })
            }
            Ok(Err(why)) => Err(Refusal { user: uid.to_string(), why }),
            Err(_) => {
                let why = format!(
                    "who uid {uid} is cannot be told: the account database has not answered within {} s",
                    LOOK_UP.as_secs()
                );
                Err(Refusal { user: uid.to_string(), why })
            }
        }
    }

    fn tell_refusal(&self, Refusal { user, why }: &Refusal) {
        let mut last = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= REFUSALS) {
            *last = Some(Instant::now());
            warn!(message_id = Event::Refused.id(), console_user = user, "local client refused: {why}");
        }
    }

    async fn look_up<T: Send + 'static>(
        &self,
        blocking: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let permit = self.look_ups.clone().acquire_owned().await;
        let looked_up = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            blocking()
        });
        match looked_up.await {
            Ok(found) => found,
            Err(panicked) => Err(format!("who is calling cannot be told: {panicked}")),
        }
    }

    async fn connect(&self, stream: UnixStream, user: String, terminal: bool) {
        let watched = match stream.as_fd().try_clone_to_owned() {
            Ok(watched) => watched,
            Err(error) => {
                warn!("no local session can begin: {error}");
                return;
            }
        };
        let (reader, writer) = stream.into_split();
        let (feeder, typed) = typed();
        let visitor = Visitor { user, from: "local".to_owned() };
        let mut outlet = LocalOutlet { writer, unsent: Vec::new() };
        let session = session::run(self.console.clone(), visitor, terminal, typed, &mut outlet);
        let ended = tokio::select! {
            ended = session => ended,
            () = feed(reader, feeder, watched) => Ended::Gone,
        };
        debug!("local session: {ended:?}");
        let how = match ended {
            Ended::Left => Kind::Left,
            Ended::Closed(_) => Kind::Closed,
            Ended::Gone => return,
        };
        // As with the last words: a client that does not read does not learn it.
        let _ = tokio::time::timeout(LAST_FRAME, outlet.frame(how, &[])).await;
    }

    fn status(&self) -> Status {
        let console = &self.console;
        let (received, sent) = console.hub.traffic();
        let state = console.hub.line().borrow().to_string();
        let roster = console.roster();
        let users = roster.members().map(|(_, member)| User {
            name: member.visitor.user.clone(),
            from: member.visitor.from.clone(),
            since: member.since,
            writes: member.writes,
        });
        let users = users.collect();
        let Health { trouble, lost } = self.health.borrow().clone();
        let settings = console.settings().line.to_string();
        Status { state, settings, received, sent, log_trouble: trouble, log_lost: lost, users }
    }
}

/// Tells a client of a port that cannot be served why.
pub async fn refuse(mut client: UnixStream, why: String) {
    // Its request is heard first: closed with that unread, it could miss the answer.
    let _ = tokio::time::timeout(PATIENCE, receive_async::<Request>(&mut client)).await;
    // A client that is gone has missed it.
    let _ = send_async(&mut client, &Reply::Refused(why)).await;
}

struct LocalOutlet {
    writer: OwnedWriteHalf,
    /// The rest of a frame whose sending was given up half-way. It goes first: the next frame must not begin inside it.
    unsent: Vec<u8>,
}

impl LocalOutlet {
    /// Cancel safe.
    async fn frame(&mut self, kind: Kind, bytes: &[u8]) -> Result<(), Gone> {
        self.flush().await?;
        self.unsent = frame::encode(kind, bytes);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        while !self.unsent.is_empty() {
            let count = self.writer.write(&self.unsent).await.map_err(|_| Gone)?;
            self.unsent.drain(..count);
        }
        // Its memory too: a silent session should cost little.
        self.unsent = Vec::new();
        Ok(())
    }
}

impl Outlet for &mut LocalOutlet {
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.frame(Kind::Shown, &bytes).await
    }

    async fn aside(&mut self, text: String) -> Result<(), Gone> {
        self.frame(Kind::Aside, text.as_bytes()).await
    }
}

/// Feeds what the client types to its session, no faster than that can use it, until the client is gone.
async fn feed(mut reader: OwnedReadHalf, feeder: Feeder, watched: OwnedFd) {
    let left = left(watched);
    tokio::pin!(left);
    let mut buffer = [0; 4096];
    loop {
        let ready = std::future::poll_fn(|context| feeder.poll_ready(context));
        tokio::select! {
            biased;
            () = ready => {}
            // Whoever has left a stuck device must not stay its writer.
            _ = &mut left => return,
        }
        match reader.read(&mut buffer).await {
            Ok(0) => {
                feeder.feed(session::Event::End);
                // What the device still says is wanted until the client closes for good.
                let _ = left.await;
                return;
            }
            Ok(count) => feeder.feed(session::Event::Bytes(buffer[..count].to_vec())),
            Err(_) => return,
        }
    }
}

/// Waits until the client has closed both its directions; one that only sends no more is still there. If that cannot be
/// seen (no memory), the client counts as gone.
async fn left(watched: OwnedFd) -> io::Result<()> {
    let watched = UnixStream::from_std(watched.into())?;
    while !watched.ready(Interest::WRITABLE).await?.is_write_closed() {
        // What is writable stays so; this asks to be told of the next change.
        let _ =
            watched.try_io(Interest::WRITABLE, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
    }
    Ok(())
}
