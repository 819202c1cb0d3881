//! The port's end of the local socket.

use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{Group, Uid, User as Account, getgrouplist};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, warn};

use super::{Reply, Request, Status, User};
use crate::capture::writer::Health;
use crate::clock::clock;
use crate::config::Groups;
use crate::hub::LineState;
use crate::message::{MessageError, receive_async, send_async};
use crate::session::{self, Console, Ended, Event, Feeder, Gone, Outlet, Visitor, typed};

/// Local clients at once; a further one waits, and those behind it in the listener's backlog.
const CLIENTS: usize = 64;
/// For the one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a failed accept: others need the time to give descriptors back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// The local side of one port.
#[derive(Debug)]
pub struct Server {
    console: Arc<Console>,
    groups: watch::Receiver<Groups>,
    health: watch::Receiver<Health>,
    clients: Arc<Semaphore>,
}

impl Server {
    /// A server for this console.
    pub fn new(
        console: Arc<Console>,
        groups: watch::Receiver<Groups>,
        health: watch::Receiver<Health>,
    ) -> Arc<Self> {
        Arc::new(Self { console, groups, health, clients: Arc::new(Semaphore::new(CLIENTS)) })
    }

    /// How many clients there are.
    pub fn clients(&self) -> usize {
        CLIENTS - self.clients.available_permits()
    }

    /// Accepts for ever.
    pub async fn accept(self: Arc<Self>, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let Ok(place) = self.clients.clone().acquire_owned().await else { return };
                    let server = self.clone();
                    tokio::spawn(async move {
                        if let Err(error) = server.serve(stream).await {
                            debug!(console_port = %server.console.name, "local client: {error}");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(console_port = %self.console.name, "no local client can be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(&self, mut stream: UnixStream) -> Result<(), MessageError> {
        let uid = stream.peer_cred()?.uid();
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
            Err(refusal) => return send_async(&mut stream, &Reply::Refused(refusal)).await,
        };
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
    async fn caller(&self, uid: u32) -> Result<String, String> {
        let groups = self.groups.borrow().clone();
        // The account database may be slow (LDAP), and its calls block.
        let admitted = tokio::task::spawn_blocking(move || {
            let account = Account::from_uid(Uid::from_raw(uid)).map_err(|error| error.to_string())?;
            let account = account.ok_or_else(|| format!("uid {uid} has no account"))?;
            let own = Uid::from_raw(uid).is_root() || uid == Uid::current().as_raw();
            let admitted = own || groups.admit(&groups_of(&account)?);
            Ok((account.name, admitted))
        });
        let name = &self.console.name;
        match admitted.await {
            Ok(Ok((user, true))) => Ok(user),
            Ok(Ok((user, false))) => Err(format!("{user} may not use {name}: in none of its groups")),
            Ok(Err(error)) => Err(error),
            Err(panicked) => Err(format!("who is calling cannot be told: {panicked}")),
        }
    }

    async fn connect(&self, stream: UnixStream, user: String, terminal: bool) {
        let (reader, writer) = stream.into_split();
        let (feeder, typed) = typed();
        let visitor = Visitor { user, from: "local".to_owned() };
        let session = session::run(self.console.clone(), visitor, terminal, typed, LocalOutlet(writer));
        tokio::select! {
            ended = session => debug!("local session: {ended:?}"),
            Ended::Gone = feed(reader, feeder) => {}
            else => {}
        }
    }

    fn status(&self) -> Status {
        let console = &self.console;
        let (received, sent) = console.hub.traffic();
        let state = match &*console.hub.line().borrow() {
            LineState::Starting => "starting".to_owned(),
            LineState::Open(_) => "open".to_owned(),
            LineState::Away(since) => format!("unplugged since {}", clock(*since)),
            LineState::Failed(why) => why.clone(),
        };
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

/// Names of all groups of an account, the primary one included.
fn groups_of(account: &Account) -> Result<Vec<String>, String> {
    let name = std::ffi::CString::new(account.name.as_str()).map_err(|error| error.to_string())?;
    let gids =
        getgrouplist(&name, account.gid).map_err(|error| format!("groups of {}: {error}", account.name))?;
    let names = gids.into_iter().filter_map(|gid| Group::from_gid(gid).ok().flatten());
    Ok(names.map(|group| group.name).collect())
}

struct LocalOutlet(OwnedWriteHalf);

impl Outlet for LocalOutlet {
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.0.write_all(&bytes).await.map_err(|_| Gone)
    }

    /// A local pipe has no second stream: what we say is left to the log and the journal.
    async fn aside(&mut self, _text: String) -> Result<(), Gone> {
        Ok(())
    }
}

/// Feeds what the client types to its session, no faster than that can use it.
async fn feed(mut reader: OwnedReadHalf, feeder: Feeder) -> Ended {
    let mut buffer = [0; 4096];
    loop {
        std::future::poll_fn(|context| feeder.poll_ready(context)).await;
        match reader.read(&mut buffer).await {
            Ok(0) => {
                feeder.feed(Event::End);
                // What the device still says is wanted until the client closes for good: the next write tells.
                return std::future::pending().await;
            }
            Ok(count) => feeder.feed(Event::Bytes(buffer[..count].to_vec())),
            Err(_) => return Ended::Gone,
        }
    }
}
