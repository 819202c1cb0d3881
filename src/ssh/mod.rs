//! The SSH side: accepts connections, bounds them, and hands each to russh with a [`handler`] that logs somebody in and leads
//! them to the listener's [`Destination`], a port's console or the admin CLI. Everything here comes from the network and is
//! hostile until somebody has logged in.

mod admission;
mod algorithms;
mod banner;
mod channels;
mod console_channel;
mod counted;
mod destination;
mod handler;
mod hello;
mod host_keys;
mod limits;
mod liveness;
mod login;
mod mismatch;
mod outlet;
mod refuse;
mod reputation;
mod slow_key_exchange;
mod throttle;
mod tuning;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::Disconnect;
use russh::server::Handle;
use socket2::{SockRef, Socket};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

pub use console_channel::{Access, ConsoleChannel};
pub use destination::{ChannelRequest, Destination, Gatekeeping, Login, Screen};
pub use host_keys::HostKeyState;
pub use outlet::{SshOutlet, show_said};
pub use refuse::refuse;
pub(crate) use tuning::tune;

use crate::config::SshAlgorithms;
use crate::seats::Seat;
use crate::session::closed;
use crate::system::accepting::Failing;
use crate::system::memory;
use algorithms::Category;
use banner::Banner;
use channels::Channels;
use counted::Counted;
use handler::{CLOSE_TIMEOUT, Connection, Progress, Shared};
use hello::{Hello, KexInit};
use host_keys::{Configs, KeyRing};
use limits::{Limits, Ticket};
use liveness::Watch;
use mismatch::Mismatches;
use slow_key_exchange::{Costly, Greeted};

/// For a client to take our last words. One that does not even read would stay for ever.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The listeners' common side of one destination.
pub struct Server<D> {
    host_keys: KeyRing,
    /// What a client is told while there is no host key.
    unserved: String,
    destination: Arc<D>,
    limits: Arc<Limits>,
    connections: watch::Sender<usize>,
    banner: Arc<Banner>,
    costly: Costly,
    mismatches: Mismatches,
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
            banner: Arc::default(),
            costly: Costly::default(),
            mismatches: Mismatches::default(),
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
                    // What it has sent already is read before the next one comes, which may take its place.
                    tokio::task::yield_now().await;
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
                limits::REPORT_INTERVAL.as_secs()
            );
        }
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, ticket: Ticket) -> Result<(), russh::Error> {
        tuning::tune(&stream)?;
        let offer = self.destination.ssh_offer().await;
        let Some(configs) = self.host_keys.configs(offer.algorithms).await else {
            refuse(stream, &self.unserved).await;
            return Ok(());
        };
        // russh's task cannot be told to end; its socket can.
        let plug = Arc::new(SockRef::from(&stream).try_clone()?);
        let slot = ticket.slot().clone();
        let text = offer.banner.map(|path| (self.banner.clone(), path));
        let channels = Channels::default();
        let (progress, mut watched) = watch::channel(Progress::default());
        let shared = Shared { plug: plug.clone(), slot: slot.clone(), channels, progress };
        let addresses = (peer.ip().to_canonical(), stream.local_addr()?.ip().to_canonical());
        let connection = Connection::new(self.destination.clone(), addresses, ticket, shared, text);
        let written = Arc::new(Notify::new());
        let stream = Counted::new(stream, written.clone(), slot.clone());
        let conversation = self.converse(stream, connection, configs, offer.algorithms, (peer, &*slot));
        tokio::pin!(conversation);
        tokio::select! {
            done = &mut conversation => return done,
            why = self.ends(&mut watched, peer) => debug!("{peer} {why}"),
            () = slot.lost() => self.too_many(peer),
            () = gone_silent(&plug, &written, peer) => debug!("{peer} acknowledges nothing any more"),
        }
        // It sees its end at once, whoever else waits to be heard.
        slot.turn().leave();
        plug.shutdown(std::net::Shutdown::Both)?;
        conversation.await
    }

    /// Serves a client, on the thread that its algorithms ask for.
    async fn converse(
        &self,
        mut stream: Counted,
        connection: Connection<D>,
        configs: Configs,
        word: SshAlgorithms,
        (peer, slot): (SocketAddr, &admission::Slot),
    ) -> Result<(), russh::Error> {
        let hello = Hello::exchange(&mut stream).await?;
        // What follows may wait, and nobody is to wait for that.
        slot.turn().end();
        if let Some(kexinit) = &hello.kexinit {
            self.report_mismatch(kexinit, &hello, word, &configs, peer).await;
            if algorithms::is_cheap(kexinit, word, &configs.keys) {
                let stream = Greeted::new(stream, hello);
                return russh::server::run_stream(configs.cheap, stream, connection).await?.await;
            }
        }
        // The second thread has turns of its own.
        slot.turn().leave();
        let stream = Greeted::gated(stream, hello, self.costly.turns(), peer.ip().to_canonical());
        let thread = self.costly.thread()?;
        let served = thread
            .runtime
            .spawn(async move { russh::server::run_stream(configs.every, stream, connection).await?.await });
        served.await.map_err(|panicked| russh::Error::IO(std::io::Error::other(panicked)))?
    }

    async fn report_mismatch(
        &self,
        kexinit: &KexInit,
        hello: &Hello,
        word: SshAlgorithms,
        configs: &Configs,
        peer: SocketAddr,
    ) {
        let Some(category) = algorithms::unmatched(kexinit, word, &configs.keys) else { return };
        let source = peer.ip().to_canonical();
        if let Some(why) = mismatch::sentence(kexinit, &hello.version(), word, &configs.keys)
            && self.mismatches.is_news(source, &why, Instant::now())
        {
            warn!("{source} cannot be served: {why}");
        }
        if category == Category::HostKey {
            self.host_keys.load_for_another_kind().await;
        }
    }

    /// Waits until the connection must end: why. Once somebody has logged in, it may stay without a session (`ssh -MN`) for as long as
    /// nobody else needs its seat.
    async fn ends(&self, progress: &mut watch::Receiver<Progress>, peer: SocketAddr) -> &'static str {
        let mut closing = self.destination.closing();
        let (seat, handle) = tokio::select! {
            inside = logged_in(progress) => inside,
            _ = closed(&mut closing) => return "has not logged in, and the listener closes",
            () = tokio::time::sleep(self.limits.grace) => return "has not logged in in time",
        };
        let name = self.destination.name();
        let (reason, text, why) = tokio::select! {
            () = seat.lost() => {
                // No user can fill the journal with that: each line is a login of somebody's.
                tracing::info!("a connection of {} without a session has given its seat to another login", peer.ip().to_canonical());
                (
                    Disconnect::TooManyConnections,
                    format!(
                        "{name}: others log in, and no connection has been without a session for longer than this one"
                    ),
                    "has given its seat to another login",
                )
            }
            why = closed(&mut closing) => {
                // The sessions are told by themselves.
                if progress.wait_for(|progress| progress.sessions == 0).await.is_err() {
                    return std::future::pending().await;
                }
                tokio::time::sleep(CLOSE_TIMEOUT).await;
                (Disconnect::ByApplication, why, "has no session any more, and the listener closes")
            }
        };
        let last_words = async {
            let _ = handle.disconnect(reason, text, String::new()).await;
            std::future::pending().await
        };
        let _: Result<(), _> = tokio::time::timeout(DRAIN_TIMEOUT, last_words).await;
        why
    }
}

/// Waits until somebody has logged in. If the connection is gone before, this waits for ever: its end is told elsewhere.
async fn logged_in(progress: &mut watch::Receiver<Progress>) -> (Arc<Seat>, Handle) {
    let inside = progress.wait_for(|progress| progress.inside.is_some()).await;
    match inside.ok().and_then(|progress| progress.inside.clone()) {
        Some(inside) => inside,
        None => std::future::pending().await,
    }
}

/// Waits until the client acknowledges nothing any more. Where that cannot be told, it is taken to be there.
pub(crate) async fn gone_silent(socket: &Socket, written: &Notify, peer: SocketAddr) {
    if let Err(error) = Watch::default().until_dead(socket, written).await {
        warn!("whether {peer} is still there cannot be told: {error}");
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

    fn impatient_server() -> Arc<Server<ConsoleChannel>> {
        let (hub, _inbox) = Hub::new(Ring::create(64 * 1024).unwrap());
        let log = crate::capture::reader::Reader::new(crate::logdir::Client::fixed(std::path::Path::new(
            "/nonexistent",
        )));
        let console = Console::new("demo".parse().unwrap(), hub, log, config::Port::default());
        let gatekeeping = Gatekeeping { auth_socket: "/nonexistent".into(), root: RootLogin::Key };
        let rules = config::Config::default().rules(&config::Port::default());
        let access = watch::Sender::new(Access { gatekeeping, rules, offer: config::SshOffer::default() });
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
        Arc::new(Server {
            host_keys: KeyRing::with(vec![key]),
            unserved: String::new(),
            destination: Arc::new(ConsoleChannel::new(console, access.subscribe())),
            limits: Arc::new(Limits::with_grace(SHORT)),
            connections: watch::Sender::new(0),
            banner: Arc::default(),
            costly: Costly::default(),
            mismatches: Mismatches::default(),
        })
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
