//! The port's end of the local socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::Uid;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{debug, warn};

use super::administer::Apply;
use super::frame::Kind;
use super::limits::{PendingSlot, PendingClients};
use super::outlet::LocalOutlet;
use super::{LineErrors, Reply, Request, Status, User};
use crate::auth::account::Account;
use crate::capture::writer::Health;
use crate::config::{Right, Rules};
use crate::event::Event;
use crate::seats::{Seats, is_administrator};
use crate::session::{self, AttachedUser, Console, SessionEnd, Feeder, Options, typed};
use crate::system::accepting::Failing;
use crate::system::message::{MessageError, encode, receive_async, send_async};

/// For the one request.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// For the account database to say who is calling. Shorter than a client waits for its answer, so that it hears why.
const USER_LOOKUP_TIMEOUT: Duration = Duration::from_secs(8);
/// For a client to take the frame that says how its session ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two refusals that the journal is told of: a local account could knock fast enough to drown all else that the
/// port says there (journald.conf(5), RateLimitBurst=).
const DENIAL_REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Who carries out what administrators ask for.
const ADMIN_ACCOUNT: &str = "_console-admin";

/// Who may make a request.
#[derive(Debug, Clone, Copy)]
enum Permission {
    /// Whoever may use the port.
    User,
    /// They, and console-admin, which shows how the port does.
    Status,
    /// Root, and console-admin for those whom it admits.
    Administrator,
}

/// The local side of one port.
#[derive(Debug)]
pub struct Server {
    pub(super) console: Arc<Console>,
    rules: watch::Receiver<Rules>,
    health: watch::Receiver<Health>,
    /// To the service, which reads the configuration.
    pub(super) applies: mpsc::Sender<Apply>,
    /// Of sessions and commands.
    seats: Arc<Seats>,
    pending: PendingClients,
    /// When a refusal was told last.
    last_denial: Mutex<Option<Instant>>,
    /// One at a time: a database that hangs must not hold the threads that the log and the line need.
    look_ups: Arc<Semaphore>,
    clients: watch::Sender<usize>,
}

/// Somebody who may not use the port.
struct Denied {
    /// The name, or the number if there is none.
    user: String,
    why: String,
}

/// A client, counted as long as this is held.
struct ClientSlot {
    clients: watch::Sender<usize>,
}

impl ClientSlot {
    fn new(clients: watch::Sender<usize>) -> Self {
        clients.send_modify(|count| *count += 1);
        Self { clients }
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        self.clients.send_modify(|count| *count -= 1);
    }
}

impl Server {
    /// A server for this console.
    pub fn new(
        console: Arc<Console>,
        rules: watch::Receiver<Rules>,
        health: watch::Receiver<Health>,
        applies: mpsc::Sender<Apply>,
    ) -> Arc<Self> {
        Arc::new(Self {
            console,
            rules,
            health,
            applies,
            seats: Arc::default(),
            pending: PendingClients::default(),
            last_denial: Mutex::default(),
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
        let mut failing = Failing::default();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    failing.is_over();
                    self.clone().begin(stream);
                }
                Err(error) => failing.goes_on("local client", error).await,
            }
        }
    }

    /// Not inlined: a client's whole task lies on the stack for a moment, and in the loop it would do so before the first one has come.
    #[inline(never)]
    fn begin(self: Arc<Self>, stream: UnixStream) {
        let Some((uid, ticket)) = self.admit(&stream) else { return };
        let place = ClientSlot::new(self.clients.clone());
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = self.serve(stream, uid, ticket).await {
                debug!("local client: {error}");
            }
        });
    }

    /// Who is calling, with a place among the unjudged; one for whom there is none is told so at once.
    fn admit(&self, stream: &UnixStream) -> Option<(u32, PendingSlot)> {
        let name = &self.console.name();
        let uid = match stream.peer_cred() {
            Ok(credentials) => credentials.uid(),
            Err(error) => {
                warn!("who is calling cannot be told: {error}");
                return None;
            }
        };
        let ticket = self.pending.admit(uid).inspect_err(|full| {
            debug!("a client of uid {uid} closed: {full}");
            // A new socket takes so little at once, and one that does not is closed without.
            let refused = Reply::Refused(format!("{name}: {full}"));
            let _ = encode(&refused).map(|message| stream.try_write(&message));
        });
        Some((uid, ticket.ok()?))
    }

    async fn serve(&self, mut stream: UnixStream, uid: u32, ticket: PendingSlot) -> Result<(), MessageError> {
        let request = match tokio::time::timeout(CLIENT_TIMEOUT, receive_async::<Request>(&mut stream)).await
        {
            Ok(Ok(Some(request))) => request,
            Ok(Ok(None)) | Err(_) => return Ok(()),
            Ok(Err(error)) => {
                send_async(&mut stream, &Reply::Refused(format!("not understood: {error}"))).await?;
                return Err(error);
            }
        };
        let needs = match request {
            Request::Status => Permission::Status,
            _ if request.is_of_administrators() => Permission::Administrator,
            _ => Permission::User,
        };
        let (caller, right, administrator) = match self.caller(uid, needs).await {
            Ok(caller) => caller,
            Err(refusal) => {
                if let Request::Connect { .. } | Request::Run(_) = request {
                    self.log_denial(&refusal);
                }
                return send_async(&mut stream, &Reply::Refused(refusal.why)).await;
            }
        };
        // Those who stay take places; an administrator's request is done at once, however many sit here.
        let stays = matches!(request, Request::Connect { .. } | Request::Run(_) | Request::Autobaud);
        let seat = stays.then(|| self.seats.take(&caller, administrator)).transpose();
        let _seat = match seat {
            Ok(seat) => seat,
            Err(full) => {
                let why = format!("{}: {full}", self.console.name());
                return send_async(&mut stream, &Reply::Refused(why)).await;
            }
        };
        drop(ticket);
        let visitor = AttachedUser { user: caller, from: "local".to_owned(), right };
        match request {
            Request::Status => send_async(&mut stream, &Reply::Status(self.status().await)).await,
            Request::Connect { terminal, options } => {
                send_async(&mut stream, &Reply::Connected).await?;
                self.connect(stream, visitor, terminal, options).await;
                Ok(())
            }
            Request::Autobaud if right != Right::Write => {
                let why = format!("{} may only watch at {}: no autobaud", visitor.user, self.console.name());
                send_async(&mut stream, &Reply::Refused(why)).await
            }
            Request::Autobaud => self.autobaud(stream, &visitor.user).await,
            Request::Run(command) => self.run(stream, visitor, command).await,
            Request::Apply => send_async(&mut stream, &self.apply().await).await,
            Request::Break { milliseconds, by } => {
                send_async(&mut stream, &self.send_break(milliseconds, by).await).await
            }
            Request::Disconnect { user, by } => send_async(&mut stream, &self.disconnect(&user, &by)).await,
        }
    }

    /// The caller's name and right, if they may do what they ask for, and whether they are an administrator.
    async fn caller(&self, uid: u32, needs: Permission) -> Result<(String, Right, bool), Denied> {
        let rules = self.rules.borrow().clone();
        // The account database may be slow (LDAP) or hang, and its calls block.
        let look_up = on_a_thread(&self.look_ups, move || {
            let uid = Uid::from_raw(uid);
            let told = |error| format!("who uid {uid} is cannot be told: {error}");
            let account = Account::of_uid(uid).map_err(told)?;
            let own = uid.is_root()
                || matches!(needs, Permission::User | Permission::Status) && uid == Uid::current();
            let mut administrator = uid.is_root();
            let right = match needs {
                _ if own => Some(Right::Write),
                Permission::Administrator => administers(&account).then_some(Right::Watch),
                Permission::Status if administers(&account) => Some(Right::Watch),
                Permission::User | Permission::Status => {
                    let identity = account.identity().map_err(told)?;
                    administrator = is_administrator(identity.uid, &identity.groups);
                    rules.right(&identity.name, &identity.groups)
                }
            };
            Ok((account.name.as_str().to_owned(), right, administrator))
        });
        let name = &self.console.name();
        match tokio::time::timeout(USER_LOOKUP_TIMEOUT, look_up).await {
            Ok(Ok((user, Some(right), administrator))) => Ok((user, right, administrator)),
            Ok(Ok((user, None, _))) => {
                let why = match needs {
                    Permission::User | Permission::Status => {
                        format!("{user} may not use {name}: in none of its groups")
                    }
                    Permission::Administrator => {
                        format!("{user} may not do that to {name}: ask console-admin (consolectl)")
                    }
                };
                Err(Denied { user, why })
            }
            Ok(Err(why)) => Err(Denied { user: uid.to_string(), why }),
            Err(_) => {
                let why = format!(
                    "who uid {uid} is cannot be told: the account database has not answered within {} s",
                    USER_LOOKUP_TIMEOUT.as_secs()
                );
                Err(Denied { user: uid.to_string(), why })
            }
        }
    }

    fn log_denial(&self, Denied { user, why }: &Denied) {
        let mut last = self.last_denial.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.elapsed() >= DENIAL_REPORT_INTERVAL) {
            *last = Some(Instant::now());
            warn!(message_id = Event::Refused.id(), console_user = user, "local client refused: {why}");
        }
    }

    async fn connect(&self, stream: UnixStream, visitor: AttachedUser, terminal: bool, options: Options) {
        let watched = match stream.as_fd().try_clone_to_owned() {
            Ok(watched) => watched,
            Err(error) => {
                warn!("no local session can begin: {error}");
                return;
            }
        };
        let (reader, writer) = stream.into_split();
        let (feeder, typed) = typed();
        let mut outlet = LocalOutlet::new(writer);
        let session = session::run(self.console.clone(), visitor, terminal, options, typed, &mut outlet);
        let ended = tokio::select! {
            ended = session => ended,
            () = feed(reader, feeder, watched) => SessionEnd::Gone,
        };
        debug!("local session: {ended:?}");
        let (how, whither) = match ended {
            SessionEnd::Detached(_) => (Kind::Detached, String::new()),
            SessionEnd::Unsent(_) => (Kind::Unsent, String::new()),
            SessionEnd::Closed(_) => (Kind::Closed, String::new()),
            SessionEnd::Disconnected(_) => (Kind::Disconnected, String::new()),
            SessionEnd::Switched(port, _) => (Kind::Switched, port.to_string()),
            SessionEnd::Gone => return,
        };
        // As with the last words: a client that does not read does not learn it.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, outlet.frame(how, whither.as_bytes())).await;
    }

    async fn status(&self) -> Status {
        let console = &self.console;
        let errors = console.hub.examine().await.counters.map(LineErrors::from);
        let (received, sent) = console.hub.traffic();
        let state = console.hub.line().borrow().to_string();
        let roster = console.roster();
        let users = roster.sessions().map(|(_, member)| User {
            name: member.client.user.clone(),
            from: member.client.from.clone(),
            since: member.since,
            writes: member.writes,
        });
        let users = users.collect();
        let Health { trouble, lost } = self.health.borrow().clone();
        let settings = console.settings().line.to_string();
        let stale = console.stale().borrow().clone();
        Status { state, settings, received, sent, log_trouble: trouble, stale, log_lost: lost, errors, users }
    }
}

/// Does what may block on a thread, no more at once than there are `places`. A place goes with what was begun, which nobody
/// can end.
async fn on_a_thread<T: Send + 'static>(
    places: &Arc<Semaphore>,
    blocking: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let permit = places.clone().acquire_owned().await;
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        blocking()
    });
    done.await.unwrap_or_else(|panicked| Err(panicked.to_string()))
}

fn administers(account: &Account) -> bool {
    account.uid.is_root() || account.name.as_str() == ADMIN_ACCOUNT
}

/// Tells a client of a port that cannot be served why; but gives back an administrator who wants the configuration applied,
/// which may mend it.
pub async fn refuse(mut client: UnixStream, why: &str) -> Option<UnixStream> {
    // Its request is heard first: closed with that unread, it could miss the answer.
    let request = tokio::time::timeout(CLIENT_TIMEOUT, receive_async::<Request>(&mut client)).await;
    if let (Ok(Ok(Some(Request::Apply))), Ok(peer)) = (request, client.peer_cred()) {
        let account = tokio::task::spawn_blocking(move || Account::of_uid(Uid::from_raw(peer.uid())));
        if let Ok(Ok(Ok(account))) = tokio::time::timeout(USER_LOOKUP_TIMEOUT, account).await
            && administers(&account)
        {
            return Some(client);
        }
    }
    answer(client, Reply::Refused(why.to_owned())).await;
    None
}

/// Answers a client that asks nothing more.
pub async fn answer(mut client: UnixStream, reply: Reply) {
    // One that is gone has missed it.
    let _ = tokio::time::timeout(CLIENT_TIMEOUT, send_async(&mut client, &reply)).await;
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
            Ok(count) => {
                feeder.feed(session::Event::Bytes(buffer[..count].to_vec()));
            }
            Err(_) => return,
        }
    }
}

/// Waits until the client has closed both its directions; one that only sends no more is still there. If that cannot be
/// seen (no memory), the client counts as gone.
pub(super) async fn left(watched: OwnedFd) -> io::Result<()> {
    let watched = UnixStream::from_std(watched.into())?;
    while !watched.ready(Interest::WRITABLE).await?.is_write_closed() {
        // What is writable stays so; this asks to be told of the next change.
        let _ =
            watched.try_io(Interest::WRITABLE, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
    }
    Ok(())
}
