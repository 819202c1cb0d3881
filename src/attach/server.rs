//! The port's end of the local socket.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use nix::unistd::Uid;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{debug, warn};

use super::administer::Apply;
use super::frame::Kind;
use super::limits::{PendingClients, PendingSlot};
use super::metrics::METRICS_ACCOUNT;
use super::outlet::LocalOutlet;
use super::{LineErrors, Reply, Request, Status, User, administer, autobaud, run};
use crate::auth::account::Account;
use crate::capture::writer::Health;
use crate::config::{Right, Rules};
use crate::event::Event;
use crate::seats::{Seats, is_administrator};
use crate::session::{self, AttachedUser, Console, Feeder, Options, SessionEnd, input_queue};
use crate::system::accepting::Failing;
use crate::system::lock::Lock;
use crate::system::message::{MessageError, encode, receive_async, send_async};
use crate::system::reactor::peer_closed;

/// Timeout of reading the request and of writing the reply.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of the account database. Shorter than a client's wait for the reply, so that it gets the reason.
const USER_LOOKUP_TIMEOUT: Duration = Duration::from_secs(8);
/// Timeout of sending the last frame of a session.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval between journal messages about denied clients: without it a local account could exhaust the port's rate limit
/// (journald.conf(5), RateLimitBurst=).
const DENIAL_REPORT_INTERVAL: Duration = Duration::from_secs(1);
const ADMIN_ACCOUNT: &str = "_console-admin";

/// The permission that a request requires.
#[derive(Debug, Clone, Copy)]
enum Permission {
    User,
    /// Requires access to the port; console-admin has it too.
    Status,
    /// Requires access to the port; console-admin and console-metrics have it too.
    Metrics,
    /// Root, or console-admin on behalf of users that it has authorized.
    Administrator,
}

/// The local side of one port.
#[derive(Debug)]
pub struct Server {
    pub(super) console: Arc<Console>,
    rules: watch::Receiver<Rules>,
    pub(super) health: watch::Receiver<Health>,
    /// Requests to the service, which reads the configuration.
    pub(super) applies: mpsc::Sender<Apply>,
    /// Limits sessions and commands.
    seats: Arc<Seats>,
    pending: PendingClients,
    /// Time of the last journal message about a denied client.
    last_denial: Mutex<Option<Instant>>,
    /// One lookup at a time: a database that hangs must not take the threads that the log and the tty need.
    look_ups: Arc<Semaphore>,
    clients: watch::Sender<usize>,
    /// The uid of console-metrics, once looked up: a scrape of all ports must not start a thread in each.
    metrics_uid: OnceLock<u32>,
}

/// A client without the required permission.
struct Denied {
    /// User name, or uid if it has none.
    user: String,
    why: String,
}

/// Counts a client until dropped. Nothing is notified before its request is known: a client that only reads figures, such as the
/// overview in a browser every 10 s, must not wake the service, which would restart the time after which a port without a device exits,
/// and send STATUS=, which systemd signals to all subscribers.
struct ClientSlot {
    clients: watch::Sender<usize>,
    is_silent: bool,
}

impl ClientSlot {
    fn new(clients: watch::Sender<usize>) -> Self {
        clients.send_if_modified(|count| {
            *count += 1;
            false
        });
        Self { clients, is_silent: true }
    }

    fn announce(&mut self) {
        self.is_silent = false;
        self.clients.send_modify(|_| {});
    }
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        self.clients.send_if_modified(|count| {
            *count -= 1;
            !self.is_silent
        });
    }
}

impl Server {
    pub(crate) fn new(
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
            metrics_uid: OnceLock::new(),
        })
    }

    pub fn clients(&self) -> watch::Receiver<usize> {
        self.clients.subscribe()
    }

    /// Accepts clients without end.
    pub async fn accept(self: Arc<Self>, listener: UnixListener) {
        let mut failing = Failing::default();
        loop {
            let (stream, _) = failing.accept("local client", || listener.accept()).await;
            self.clone().begin(stream);
        }
    }

    /// Not inlined: the client's whole task is on the stack for a moment, and the accept loop would reserve that space from the start.
    #[inline(never)]
    fn begin(self: Arc<Self>, stream: UnixStream) {
        let Some((uid, pending)) = self.admit(&stream) else { return };
        let mut slot = ClientSlot::new(self.clients.clone());
        tokio::spawn(async move {
            if let Err(error) = self.serve(stream, uid, pending, &mut slot).await {
                debug!("local client: {error}");
            }
        });
    }

    /// Returns the uid of a client with a slot, or rejects it at once.
    fn admit(&self, stream: &UnixStream) -> Option<(u32, PendingSlot)> {
        let name = &self.console.name();
        let uid = match stream.peer_cred() {
            Ok(credentials) => credentials.uid(),
            Err(error) => {
                warn!("cannot read the credentials of a local client: {error}");
                return None;
            }
        };
        let slot = self.pending.admit(uid).inspect_err(|full| {
            debug!("client of uid {uid} rejected: {full}");
            // Without waiting: a new socket has room for the reply.
            let reply = Reply::Rejected(format!("{name}: {full}"));
            let _ = encode(&reply).map(|message| stream.try_write(&message));
        });
        Some((uid, slot.ok()?))
    }

    async fn serve(
        &self,
        mut stream: UnixStream,
        uid: u32,
        pending: PendingSlot,
        slot: &mut ClientSlot,
    ) -> Result<(), MessageError> {
        let request = tokio::time::timeout(CLIENT_TIMEOUT, receive_async::<Request>(&mut stream)).await;
        if !matches!(request, Ok(Ok(Some(Request::Metrics | Request::Status)))) {
            slot.announce();
        }
        let request = match request {
            Ok(Ok(Some(request))) => request,
            Ok(Ok(None)) | Err(_) => return Ok(()),
            Ok(Err(error)) => {
                send_async(&mut stream, &Reply::Rejected(format!("invalid request: {error}"))).await?;
                return Err(error);
            }
        };
        let needs = match request {
            Request::Status => Permission::Status,
            Request::Metrics if self.metrics_uid.get() == Some(&uid) => {
                return send_async(&mut stream, &Reply::Metrics(self.metrics().await)).await;
            }
            Request::Metrics => Permission::Metrics,
            _ if request.requires_administrator() => Permission::Administrator,
            _ => Permission::User,
        };
        let (caller, right, administrator) = match self.caller(uid, needs).await {
            Ok(caller) => caller,
            Err(denied) => {
                if let Request::Connect { .. } | Request::Run(_) = request {
                    self.log_denial(&denied);
                }
                return send_async(&mut stream, &Reply::Rejected(denied.why)).await;
            }
        };
        // Only requests that last count; an administrator's request is served however many sessions there are.
        let lasts = matches!(request, Request::Connect { .. } | Request::Run(_) | Request::Autobaud);
        let seat = lasts.then(|| self.seats.take(&caller, administrator)).transpose();
        let _seat = match seat {
            Ok(seat) => seat,
            Err(full) => {
                let why = format!("{}: {full}", self.console.name());
                return send_async(&mut stream, &Reply::Rejected(why)).await;
            }
        };
        drop(pending);
        let user = AttachedUser { user: caller, from: "local".to_owned(), right };
        match request {
            Request::Status => send_async(&mut stream, &Reply::Status(self.status().await)).await,
            Request::Metrics => {
                if user.user == METRICS_ACCOUNT {
                    // Only the first value is kept.
                    let _ = self.metrics_uid.set(uid);
                }
                send_async(&mut stream, &Reply::Metrics(self.metrics().await)).await
            }
            Request::Connect { terminal, options } => {
                send_async(&mut stream, &Reply::Connected).await?;
                self.connect(stream, user, terminal, options).await;
                Ok(())
            }
            Request::Autobaud if right != Right::Write => {
                let why = format!(
                    "{} has read-only access to {}: autobaud requires write access",
                    user.user,
                    self.console.name()
                );
                send_async(&mut stream, &Reply::Rejected(why)).await
            }
            Request::Autobaud => autobaud::autobaud(&self.console, stream, &user.user).await,
            Request::Run(command) => run::run(&self.console, stream, user, command).await,
            Request::Apply => {
                send_async(&mut stream, &administer::apply(&self.console, &self.applies).await).await
            }
            Request::Break { milliseconds, name, by } => {
                send_async(&mut stream, &administer::send_break(&self.console, milliseconds, name, by).await)
                    .await
            }
            Request::Note { text } => send_async(&mut stream, &administer::note(&self.console, &text)).await,
            Request::Disconnect { user, by } => {
                send_async(&mut stream, &administer::disconnect(&self.console, &user, &by)).await
            }
        }
    }

    /// The caller's name and access, if it has the required permission, and whether it is an administrator.
    async fn caller(&self, uid: u32, needs: Permission) -> Result<(String, Right, bool), Denied> {
        let rules = self.rules.borrow().clone();
        let requirement = rules.requirement();
        // The account database may be slow (LDAP) or hang, and its functions block.
        let look_up = on_a_thread(&self.look_ups, move || {
            let uid = Uid::from_raw(uid);
            let failed = |error| format!("cannot look up uid {uid}: {error}");
            let account = Account::of_uid(uid).map_err(failed)?;
            let own = uid.is_root() || !matches!(needs, Permission::Administrator) && uid == Uid::current();
            let mut administrator = uid.is_root();
            let right = match needs {
                _ if own => Some(Right::Write),
                Permission::Administrator => administers(&account).then_some(Right::Watch),
                Permission::Status | Permission::Metrics if administers(&account) => Some(Right::Watch),
                Permission::Metrics if account.name.as_str() == METRICS_ACCOUNT => Some(Right::Watch),
                Permission::User | Permission::Status | Permission::Metrics => {
                    let identity = account.identity().map_err(failed)?;
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
                    Permission::User | Permission::Status | Permission::Metrics => {
                        format!("{user} has no access to {name}; {requirement}")
                    }
                    Permission::Administrator => {
                        format!("{user} is not an administrator of {name}: use consolectl")
                    }
                };
                Err(Denied { user, why })
            }
            Ok(Err(why)) => Err(Denied { user: uid.to_string(), why }),
            Err(_) => {
                let why = format!(
                    "cannot look up uid {uid}: no response from the account database within {} s",
                    USER_LOOKUP_TIMEOUT.as_secs()
                );
                Err(Denied { user: uid.to_string(), why })
            }
        }
    }

    fn log_denial(&self, Denied { user, why }: &Denied) {
        let mut last = self.last_denial.locked();
        if last.is_none_or(|last| last.elapsed() >= DENIAL_REPORT_INTERVAL) {
            *last = Some(Instant::now());
            warn!(message_id = Event::Denied.id(), console_user = user, "local client denied: {why}");
        }
    }

    async fn connect(&self, stream: UnixStream, user: AttachedUser, terminal: bool, options: Options) {
        let watched = match stream.as_fd().try_clone_to_owned() {
            Ok(watched) => watched,
            Err(error) => {
                warn!("cannot start a local session: {error}");
                return;
            }
        };
        let (reader, writer) = stream.into_split();
        let (feeder, typed) = input_queue();
        let mut outlet = LocalOutlet::new(writer);
        let session = session::run(self.console.clone(), user, terminal, options, typed, &mut outlet);
        let ended = tokio::select! {
            ended = session => ended,
            () = feed(reader, feeder, watched) => SessionEnd::Gone,
        };
        debug!("local session: {ended:?}");
        let (kind, next) = match ended {
            SessionEnd::Detached(_) => (Kind::Detached, String::new()),
            SessionEnd::Unsent(_) => (Kind::Unsent, String::new()),
            SessionEnd::Closed(_) => (Kind::Closed, String::new()),
            SessionEnd::Disconnected(_) => (Kind::Disconnected, String::new()),
            SessionEnd::Switched(port, _) => (Kind::Switched, port.to_string()),
            SessionEnd::Gone => return,
        };
        // Bounded, as the last notice is: a client that does not read misses it.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, outlet.frame(kind, next.as_bytes())).await;
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

/// Runs a blocking call on a thread, limited by `permits`. The permit is held until the call ends, which cannot be cancelled.
async fn on_a_thread<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    blocking: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let permit = permits.clone().acquire_owned().await;
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        blocking()
    });
    done.await.unwrap_or_else(|panicked| Err(panicked.to_string()))
}

fn administers(account: &Account) -> bool {
    account.uid.is_root() || account.name.as_str() == ADMIN_ACCOUNT
}

/// Rejects a client of a port that cannot be served; but returns an administrator's connection that requests to apply the
/// configuration, which may fix the port.
pub async fn refuse(mut client: UnixStream, why: &str) -> Option<UnixStream> {
    // The request is read first: if the socket is closed with unread bytes, the client may miss the reply.
    let request = tokio::time::timeout(CLIENT_TIMEOUT, receive_async::<Request>(&mut client)).await;
    if let (Ok(Ok(Some(Request::Apply))), Ok(peer)) = (request, client.peer_cred()) {
        let account = tokio::task::spawn_blocking(move || Account::of_uid(Uid::from_raw(peer.uid())));
        if let Ok(Ok(Ok(account))) = tokio::time::timeout(USER_LOOKUP_TIMEOUT, account).await
            && administers(&account)
        {
            return Some(client);
        }
    }
    answer(client, Reply::Rejected(why.to_owned())).await;
    None
}

/// Sends the last reply to a client.
pub async fn answer(mut client: UnixStream, reply: Reply) {
    // Fails if the client has disconnected.
    let _ = tokio::time::timeout(CLIENT_TIMEOUT, send_async(&mut client, &reply)).await;
}

/// Passes input to the session, no faster than it takes it, until the client disconnects.
async fn feed(mut reader: OwnedReadHalf, feeder: Feeder, watched: OwnedFd) {
    // After a half-close the client still reads. If it cannot be watched (no memory), it is taken to be gone.
    let gone = peer_closed(watched, Interest::WRITABLE);
    tokio::pin!(gone);
    let mut buffer = [0; 4096];
    loop {
        let ready = std::future::poll_fn(|context| feeder.poll_ready(context));
        tokio::select! {
            biased;
            () = ready => {}
            // A client that disconnects from a stuck device must not keep write access.
            _ = &mut gone => return,
        }
        match reader.read(&mut buffer).await {
            Ok(0) => {
                feeder.feed(session::Event::End);
                // The client still reads output until it closes the socket.
                let _ = gone.await;
                return;
            }
            Ok(count) => {
                feeder.feed(session::Event::Bytes(buffer[..count].to_vec()));
            }
            Err(_) => return,
        }
    }
}
