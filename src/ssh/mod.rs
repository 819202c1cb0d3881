//! The SSH side: accepts connections, bounds them, and hands each to russh with a [`handler`] that logs somebody in and leads
//! them to the listener's [`Destination`], a port's console or the admin CLI. Everything here comes from the network and is
//! hostile until somebody has logged in.

mod breaks;
mod destination;
mod door;
mod handler;
mod host_keys;
mod limits;
mod liveness;
mod login;
mod outlet;
mod places;
mod refuse;
mod throttle;
mod tuning;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

pub use breaks::listen as listen_for_breaks;
pub use destination::{Destination, Gatekeeping, Screen, Visit, Wish};
pub use door::{Access, Door};
pub use host_keys::HostKeyState;
pub use outlet::{SshOutlet, show_said};
pub use refuse::refuse;

use crate::accepting::Failing;
use crate::memory;
use crate::session::typed;
use handler::{Connection, Stage};
use host_keys::KeyRing;
use limits::{Limits, Ticket};
use liveness::Watch;
use throttle::Throttled;

/// For a client to leave after its session has ended. One that does not even read would stay for ever.
const LEAVE: Duration = Duration::from_secs(15);

/// The listeners' common side of one destination.
pub struct Server<D> {
    host_keys: KeyRing,
    /// What a client is told while there is no host key.
    unserved: String,
    destination: Arc<D>,
    limits: Arc<Limits>,
    connections: watch::Sender<usize>,
}

impl<D: Destination> Server<D> {
    /// A server for this destination. It loads its host keys, by `console-auth` behind `auth_socket`, when it is told to or its
    /// first client comes; a client that cannot be served without one is told to look into the journal of `unit`.
    pub fn new(destination: Arc<D>, auth_socket: PathBuf, unit: &str) -> Arc<Self> {
        let name = destination.name();
        let unserved = format!("{name} cannot be served over SSH at present; journalctl -u {unit} says why");
        Arc::new(Self {
            host_keys: KeyRing::new(auth_socket),
            unserved,
            destination,
            limits: Arc::default(),
            connections: watch::Sender::new(0),
        })
    }

    /// Loads the host keys, again if there are some.
    pub async fn load_host_keys(&self) {
        self.host_keys.load(tokio::time::Instant::now()).await;
    }

    /// Whether there are host keys, and which files are not used as such.
    pub fn host_keys(&self) -> watch::Receiver<HostKeyState> {
        self.host_keys.state()
    }

    /// How many connections there are, logged in or not.
    pub fn connections(&self) -> watch::Receiver<usize> {
        self.connections.subscribe()
    }

    /// Accepts for ever. An accept that fails is no reason to stop listening.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut failing = Failing::default();
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    failing.is_over();
                    self.clone().admit(stream, peer);
                }
                Err(error) => failing.goes_on("connection", error).await,
            }
        }
    }

    /// Not inlined: a connection's whole task lies on the stack for a moment, and in the loop it would do so before the first has come.
    #[inline(never)]
    fn admit(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        match self.limits.admit(peer.ip().to_canonical()) {
            Some(ticket) => {
                self.connections.send_modify(|count| *count += 1);
                tokio::spawn(async move {
                    if let Err(error) = self.serve(stream, peer, ticket).await {
                        debug!("connection of {peer}: {error}");
                    }
                    self.connections.send_modify(|count| *count -= 1);
                    // What they have cost is not kept until the last session ends, which may be in months.
                    if self.limits.crowd_has_left() {
                        memory::give_back();
                    }
                });
            }
            None => self.too_many(peer),
        }
    }

    fn too_many(&self, peer: SocketAddr) {
        if self.limits.is_news(Instant::now()) {
            warn!(
                "{} closed: too many connections have not logged in (said once in {} s, whoever else is closed)",
                peer.ip().to_canonical(),
                limits::NEWS.as_secs()
            );
        }
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, ticket: Ticket) -> Result<(), russh::Error> {
        tuning::tune(&stream)?;
        let Some(config) = self.host_keys.config().await else {
            refuse(stream, &self.unserved).await;
            return Ok(());
        };
        // russh's task cannot be told to end; its socket can.
        let plug = SockRef::from(&stream).try_clone()?;
        let (feeder, typed) = typed();
        let place = ticket.place().clone();
        let connection = Connection::new(self.destination.clone(), peer, ticket, (feeder.clone(), typed));
        let stage = connection.stage();
        let written = Arc::new(Notify::new());
        let stream = Throttled::new(stream, feeder, written.clone(), place.clone());
        let conversation = async { russh::server::run_stream(config, stream, connection).await?.await };
        tokio::pin!(conversation);
        tokio::select! {
            done = &mut conversation => return done,
            why = self.ends(stage) => debug!("{peer} {why}"),
            () = place.lost() => self.too_many(peer),
            dead = Watch::default().until_dead(&plug, &written) => {
                dead?;
                debug!("{peer} acknowledges nothing any more");
            }
        }
        plug.shutdown(std::net::Shutdown::Both)?;
        conversation.await
    }

    /// Waits until the connection has stood still for too long; why it must end.
    async fn ends(&self, mut stage: watch::Receiver<Stage>) -> &'static str {
        let mut closing = self.destination.closing();
        let grace = self.limits.grace;
        for (wanted, overdue) in [
            (Stage::Admitted, "has not logged in in time"),
            (Stage::Session, "has logged in and begun no session in time"),
        ] {
            tokio::select! {
                // Only sessions are told; and nobody waits for those who have not begun one.
                _ = closing.changed() => return "has no session that could be told of the end",
                _ = reached(&mut stage, wanted) => {}
                () = tokio::time::sleep(grace) => return overdue,
            }
        }
        reached(&mut stage, Stage::Over).await;
        tokio::time::sleep(LEAVE).await;
        "does not leave after its session"
    }
}

/// Waits until the connection has come so far. If it is gone before, this waits for ever: its end is told elsewhere.
async fn reached(stage: &mut watch::Receiver<Stage>, wanted: Stage) {
    if stage.wait_for(|stage| *stage >= wanted).await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use russh::keys::{Algorithm, PrivateKey};

    use crate::config::{self, RootLogin};
    use crate::hub::Hub;
    use crate::ring::Ring;
    use crate::session::Console;

    const SHORT: Duration = Duration::from_millis(50);

    fn impatient_server() -> Arc<Server<Door>> {
        let (hub, _inbox) = Hub::new(Ring::create(64 * 1024).unwrap());
        let log = crate::capture::reader::Reader::new(crate::logdir::Client::fixed(std::path::Path::new(
            "/nonexistent",
        )));
        let console = Console::new("demo".parse().unwrap(), hub, log, config::Port::default());
        let gatekeeping = Gatekeeping { auth_socket: "/nonexistent".into(), root: RootLogin::Key };
        let rules = config::Config::default().rules(&config::Port::default());
        let access = watch::Sender::new(Access { gatekeeping, rules });
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
        Arc::new(Server {
            host_keys: KeyRing::with(vec![key]),
            unserved: String::new(),
            destination: Arc::new(Door::new(console, access.subscribe())),
            limits: Arc::new(Limits::with_grace(SHORT)),
            connections: watch::Sender::new(0),
        })
    }

    #[tokio::test]
    async fn whoever_begins_no_session_within_the_grace_time_after_the_login_must_go_and_others_may_stay() {
        let server = impatient_server();
        let (logged_in, stage) = watch::channel(Stage::Admitted);
        let ends = tokio::time::timeout(Duration::from_secs(30), server.ends(stage));
        assert_eq!(ends.await.expect("still there"), "has logged in and begun no session in time");
        logged_in.send_replace(Stage::Session);
        let ends = tokio::time::timeout(SHORT * 4, server.ends(logged_in.subscribe()));
        assert!(ends.await.is_err(), "a session may be silent for ever");
    }

    #[tokio::test]
    async fn whoever_has_not_logged_in_within_the_grace_time_is_disconnected() {
        let server = impatient_server();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(server.clone().accept(listener));

        let mut stranger = TcpStream::connect(address).await.unwrap();
        let mut said = Vec::new();
        let told = tokio::time::timeout(Duration::from_secs(30), stranger.read_to_end(&mut said));
        told.await.expect("still connected").unwrap();
        assert!(said.starts_with(b"SSH-2.0-consoleserver\r\n"), "it was served: {said:?}");
        let mut connections = server.connections();
        let gone = tokio::time::timeout(Duration::from_secs(30), connections.wait_for(|count| *count == 0));
        gone.await.expect("still counted").unwrap();
    }
}
