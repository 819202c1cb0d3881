//! The SSH server: accepts connections, limits them, and passes each to russh with a [`handler`] that authenticates the user and starts
//! sessions at the listener's [`Destination`], a port's console or the admin CLI. All input comes from the network and is hostile until
//! the user has logged in.

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
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

pub use console_channel::{Access, ConsoleChannel};
pub use destination::{ChannelRequest, Destination, Gatekeeping, Login, Screen};
pub use host_keys::HostKeyState;
pub use outlet::{SshOutlet, print_messages};
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
use counted::ClientStream;
use handler::{CLOSE_TIMEOUT, Connection, Progress, Shared};
use hello::{Hello, HelloError, KexInit, NotSsh};
use host_keys::{Configs, KeyRing};
use limits::{Limits, Ticket};
use liveness::Watch;
use mismatch::MismatchLog;
use slow_key_exchange::{ReplayStream, SlowThread};

/// Time for a client to receive the disconnect message, since it may not read at all.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The SSH server of one destination, with one or more listeners.
pub struct Server<D> {
    host_keys: KeyRing,
    /// Sent to clients while there is no host key.
    no_host_key_message: String,
    destination: Arc<D>,
    limits: Arc<Limits>,
    connections: watch::Sender<usize>,
    banner: Arc<Banner>,
    slow_thread: SlowThread,
    mismatches: MismatchLog,
}

impl<D: Destination> Server<D> {
    /// A server for this destination. It loads its host keys, from `console-auth` at `auth_socket`, on request or for the first client.
    /// Without a host key, clients are referred to the journal of `unit`.
    pub fn new(destination: Arc<D>, auth_socket: PathBuf, unit: &str) -> Arc<Self> {
        let name = destination.name();
        let unserved = format!("SSH to {name} is not available now; for the reason see journalctl -u {unit}");
        Arc::new(Self {
            host_keys: KeyRing::new(auth_socket),
            no_host_key_message: unserved,
            destination,
            limits: Arc::default(),
            connections: watch::Sender::new(0),
            banner: Arc::default(),
            slow_thread: SlowThread::default(),
            mismatches: MismatchLog::default(),
        })
    }

    pub async fn load_host_keys(&self) {
        self.host_keys.load(tokio::time::Instant::now()).await;
    }

    pub fn host_keys(&self) -> watch::Receiver<HostKeyState> {
        self.host_keys.state()
    }

    /// Number of connections, logged in or not.
    pub fn connections(&self) -> watch::Receiver<usize> {
        self.connections.subscribe()
    }

    /// Accepts connections without end.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut failing = Failing::default();
        loop {
            let (stream, peer) = failing.accept("connection", || listener.accept()).await;
            self.clone().admit(stream, peer);
            // Reads what it has sent before the next connection, which may evict it.
            tokio::task::yield_now().await;
        }
    }

    /// Not inlined: the connection's whole task is on the stack for a moment, and the accept loop would reserve that space from the start.
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
                    // Frees their memory now, and not when the last session ends, which may take months.
                    if self.limits.crowd_is_gone() {
                        memory::give_back();
                    }
                });
            }
            None => self.log_rejected(peer),
        }
    }

    fn log_rejected(&self, peer: SocketAddr) {
        if self.limits.should_log(Instant::now()) {
            warn!(
                "connection from {} closed: too many connections that are not logged in (reported at most once per {} s)",
                peer.ip().to_canonical(),
                limits::REPORT_INTERVAL.as_secs()
            );
        }
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, ticket: Ticket) -> Result<(), russh::Error> {
        tuning::tune(&stream)?;
        let offer = self.destination.ssh_offer().await;
        let Some(configs) = self.host_keys.configs(offer.algorithms).await else {
            refuse(stream, &self.no_host_key_message).await;
            return Ok(());
        };
        // russh's task cannot be cancelled from here; its socket can be shut down.
        let plug = Arc::new(SockRef::from(&stream).try_clone()?);
        let slot = ticket.slot().clone();
        let text = offer.banner.map(|path| (self.banner.clone(), path));
        let channels = Channels::default();
        let (progress, mut watched) = watch::channel(Progress::default());
        let shared = Shared { socket: plug.clone(), slot: slot.clone(), channels, progress };
        let addresses = (peer.ip().to_canonical(), stream.local_addr()?.ip().to_canonical());
        let handler = Connection::new(self.destination.clone(), addresses, ticket, shared, text);
        let written = Arc::new(Notify::new());
        let stream = ClientStream::new(stream, written.clone(), slot.clone());
        let connection = self.run_connection(stream, handler, configs, offer.algorithms, (peer, &*slot));
        tokio::pin!(connection);
        tokio::select! {
            done = &mut connection => return done,
            why = self.wait_for_end(&mut watched, peer) => debug!("{peer} {why}"),
            () = slot.evicted() => self.log_rejected(peer),
            () = peer_dead(&plug, &written, peer) => debug!("{peer} no longer acknowledges data"),
        }
        // The connection then sees the end of its socket immediately, without waiting for its turn.
        slot.turn().leave();
        plug.shutdown(std::net::Shutdown::Both)?;
        connection.await
    }

    /// Serves a client, on the thread that its algorithms require.
    async fn run_connection(
        &self,
        mut stream: ClientStream,
        handler: Connection<D>,
        mut configs: Configs,
        mut word: SshAlgorithms,
        (peer, slot): (SocketAddr, &admission::Slot),
    ) -> Result<(), russh::Error> {
        let hello = match Hello::exchange(&mut stream).await {
            Ok(hello) => hello,
            Err(HelloError::NotSsh(why)) => {
                slot.turn().end();
                self.report_not_ssh(why, peer);
                if why == NotSsh::Proxy {
                    drain(&mut stream).await;
                }
                return Err(russh::Error::IO(std::io::Error::other(why)));
            }
            Err(HelloError::Io(error)) => return Err(error.into()),
        };
        // The next steps may wait; other connections must not wait for them.
        slot.turn().end();
        if let Some(kexinit) = &hello.kexinit {
            if algorithms::unmatched(kexinit, word, &configs.keys) == Some(Category::HostKey) {
                // A key of another kind may have been generated in the meantime.
                self.host_keys.load_for_another_kind().await;
                configs = self.host_keys.configs(word).await.unwrap_or(configs);
            }
            let for_client = algorithms::for_client(kexinit, word, &configs.keys);
            if for_client != word {
                word = for_client;
                configs = self.host_keys.configs(word).await.unwrap_or(configs);
            }
            self.report_mismatch(kexinit, &hello, word, &configs, peer);
            if algorithms::is_cheap(kexinit, word, &configs.keys) {
                let stream = ReplayStream::new(stream, hello);
                return russh::server::run_stream(configs.cheap, stream, handler).await?.await;
            }
        }
        // The second thread has its own turns.
        slot.turn().leave();
        let stream = ReplayStream::gated(stream, hello, self.slow_thread.turns(), peer.ip().to_canonical());
        let thread = self.slow_thread.thread()?;
        let served = thread
            .runtime
            .spawn(async move { russh::server::run_stream(configs.every, stream, handler).await?.await });
        served.await.map_err(|panicked| russh::Error::IO(std::io::Error::other(panicked)))?
    }

    /// Reports what an administrator has configured. Of the rest, scanners would fill the journal.
    fn report_not_ssh(&self, why: NotSsh, peer: SocketAddr) {
        let source = peer.ip().to_canonical();
        if why == NotSsh::Proxy && self.mismatches.should_log(source, &why.to_string(), Instant::now()) {
            warn!("cannot serve {source}: {why}");
        }
    }

    fn report_mismatch(
        &self,
        kexinit: &KexInit,
        hello: &Hello,
        word: SshAlgorithms,
        configs: &Configs,
        peer: SocketAddr,
    ) {
        let source = peer.ip().to_canonical();
        if let Some(why) = mismatch::sentence(kexinit, &hello.version(), word, &configs.keys)
            && self.mismatches.should_log(source, &why, Instant::now())
        {
            warn!("cannot serve {source}: {why}");
        }
    }

    /// Waits until the connection must end. Returns the reason. After the login it may stay without a session (`ssh -MN`) until another
    /// login needs its seat.
    async fn wait_for_end(&self, progress: &mut watch::Receiver<Progress>, peer: SocketAddr) -> &'static str {
        let mut closing = self.destination.closing();
        let (seat, handle) = tokio::select! {
            inside = logged_in(progress) => inside,
            _ = closed(&mut closing) => return "is not logged in, and the listener closes",
            () = tokio::time::sleep(self.limits.grace) => return "did not log in within the grace time",
        };
        let name = self.destination.name();
        let (reason, text, why) = tokio::select! {
            () = seat.lost() => {
                // Users cannot fill the journal with this, since each line needs a login.
                tracing::info!("connection from {} closed: idle, and its slot is needed for another login", peer.ip().to_canonical());
                (
                    Disconnect::TooManyConnections,
                    format!(
                        "{name}: connection closed: it has no session, and its slot is needed for another login"
                    ),
                    "disconnected in favour of another login",
                )
            }
            why = closed(&mut closing) => {
                // The sessions print the reason themselves.
                if progress.wait_for(|progress| progress.sessions == 0).await.is_err() {
                    return std::future::pending().await;
                }
                tokio::time::sleep(CLOSE_TIMEOUT).await;
                (Disconnect::ByApplication, why, "has no session left, and the listener closes")
            }
        };
        let disconnect = async {
            let _ = handle.disconnect(reason, text, String::new()).await;
            std::future::pending().await
        };
        let _: Result<(), _> = tokio::time::timeout(DRAIN_TIMEOUT, disconnect).await;
        why
    }
}

/// Discards what the client has sent, for a moment: closing with unread bytes would reset the connection, and the message could be lost.
async fn drain(stream: &mut ClientStream) {
    let rest = async {
        stream.shutdown().await?;
        let mut scratch = [0; 1024];
        while stream.read(&mut scratch).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, rest).await;
}

/// Waits for the login. If the connection ends before, this never returns, since its end is handled elsewhere.
async fn logged_in(progress: &mut watch::Receiver<Progress>) -> (Arc<Seat>, Handle) {
    let inside = progress.wait_for(|progress| progress.login.is_some()).await;
    match inside.ok().and_then(|progress| progress.login.clone()) {
        Some(inside) => inside,
        None => std::future::pending().await,
    }
}

/// Waits until the client no longer acknowledges data. If that cannot be watched, it is taken to be there.
pub(crate) async fn peer_dead(socket: &Socket, written: &Notify, peer: SocketAddr) {
    if let Err(error) = Watch::default().wait_until_dead(socket, written).await {
        warn!("cannot watch the connection of {peer}: {error}");
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::{Algorithm, PrivateKey};

    use crate::config::{self, RootLogin};
    use crate::hub::Hub;
    use crate::ring::Ring;
    use crate::session::Console;

    const SHORT: Duration = Duration::from_millis(50);

    fn server_with_short_grace_time() -> Arc<Server<ConsoleChannel>> {
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
            no_host_key_message: String::new(),
            destination: Arc::new(ConsoleChannel::new(console, access.subscribe())),
            limits: Arc::new(Limits::with_grace(SHORT)),
            connections: watch::Sender::new(0),
            banner: Arc::default(),
            slow_thread: SlowThread::default(),
            mismatches: MismatchLog::default(),
        })
    }

    #[tokio::test]
    async fn a_client_that_does_not_log_in_within_the_grace_time_is_disconnected() {
        let server = server_with_short_grace_time();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(server.clone().accept(listener));

        let mut stranger = TcpStream::connect(address).await.unwrap();
        let mut received = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(30), stranger.read_to_end(&mut received));
        closed.await.expect("still connected").unwrap();
        assert!(received.starts_with(b"SSH-2.0-consoleserver\r\n"), "it was served: {received:?}");
        let mut connections = server.connections();
        let gone = tokio::time::timeout(Duration::from_secs(30), connections.wait_for(|count| *count == 0));
        gone.await.expect("still counted").unwrap();
    }
}
