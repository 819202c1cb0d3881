//! The port's SSH side: accepts connections, bounds them, and hands each to russh with a [`handler`] that turns what happens
//! into session events. Everything here comes from the network and is hostile until somebody has logged in.

mod breaks;
mod handler;
mod limits;
mod liveness;
mod outlet;
mod refuse;
mod throttle;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::keys::{Algorithm, PrivateKey};
use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred, cipher, compression, kex, mac};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

pub use breaks::listen as listen_for_breaks;
pub use handler::Gatekeeping;
pub use refuse::refuse;

use crate::session::{Console, typed};
use handler::{Connection, Stage};
use limits::{Limits, Ticket};
use liveness::Watch;
use throttle::Throttled;

/// What a client may send ahead: a paste's bytes that are on their way beside those that wait in the session. Small, so that a
/// client's own keepalive is never long behind a paste on a slow line.
const WINDOW: u32 = 16 * 1024;
/// Kernel memory for a client that has stopped reading.
const SEND_BUFFER: usize = 256 * 1024;
/// Silence after which the kernel asks whether the peer still lives, between two such questions, and how many of them: dead
/// after 30 s, as one that has been sent something ([`liveness`]).
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);
/// For a client to leave after its session has ended. One that does not even read would stay for ever.
const LEAVE: Duration = Duration::from_secs(15);
/// Pause after a failed accept (no file descriptors, no memory): others need the time to give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// The SSH side of one port.
pub struct Server {
    config: Arc<Config>,
    console: Arc<Console>,
    gate: watch::Receiver<Gatekeeping>,
    limits: Arc<Limits>,
    connections: watch::Sender<usize>,
}

impl Server {
    /// A server for this console with these host keys.
    pub fn new(
        keys: Vec<PrivateKey>,
        console: Arc<Console>,
        gate: watch::Receiver<Gatekeeping>,
    ) -> Arc<Self> {
        let config = Arc::new(config(keys));
        Arc::new(Self { config, console, gate, limits: Arc::default(), connections: watch::Sender::new(0) })
    }

    /// How many connections there are, logged in or not.
    pub fn connections(&self) -> watch::Receiver<usize> {
        self.connections.subscribe()
    }

    /// Accepts for ever. An accept that fails is no reason to stop listening.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut failing = false;
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    failing = false;
                    self.clone().admit(stream, peer);
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!("no connection can be accepted: {error}");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        match self.limits.admit(peer.ip().to_canonical()) {
            Some(ticket) => {
                self.connections.send_modify(|count| *count += 1);
                tokio::spawn(async move {
                    if let Err(error) = self.serve(stream, peer, ticket).await {
                        debug!("connection of {peer}: {error}");
                    }
                    self.connections.send_modify(|count| *count -= 1);
                });
            }
            None if self.limits.is_news(Instant::now()) => {
                warn!(
                    "{} closed: too many connections from there have not logged in \
                     (said once in {} s, whoever else is closed)",
                    peer.ip(),
                    limits::NEWS.as_secs()
                );
            }
            None => {}
        }
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, ticket: Ticket) -> Result<(), russh::Error> {
        tune(&stream)?;
        // russh's task cannot be told to end; its socket can.
        let plug = SockRef::from(&stream).try_clone()?;
        let (feeder, typed) = typed();
        let gate = self.gate.borrow().clone();
        let connection = Connection::new(self.console.clone(), gate, peer, ticket, (feeder.clone(), typed));
        let stage = connection.stage();
        let written = Arc::new(Notify::new());
        let stream = Throttled::new(stream, feeder, written.clone());
        let conversation =
            async { russh::server::run_stream(self.config.clone(), stream, connection).await?.await };
        tokio::pin!(conversation);
        tokio::select! {
            done = &mut conversation => return done,
            why = self.ends(stage) => debug!("{peer} {why}"),
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
        let mut closing = self.console.closing();
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

fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let (time, interval, retries) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(retries);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_send_buffer_size(SEND_BUFFER)
}

fn config(keys: Vec<PrivateKey>) -> Config {
    let methods: &[MethodKind] =
        &[MethodKind::PublicKey, MethodKind::KeyboardInteractive, MethodKind::Password];
    Config {
        server_id: russh::SshId::Standard("SSH-2.0-consoleserver".into()),
        methods: MethodSet::from(methods),
        // Passwords have a longer one of ours; this evens out how long a key takes to be looked up.
        auth_rejection_time: Duration::from_millis(50),
        auth_rejection_time_initial: Some(Duration::ZERO),
        max_auth_attempts: 6,
        keys,
        window_size: WINDOW,
        maximum_packet_size: 32 * 1024,
        // Few: each may be a 32 KiB piece for a client that does not read.
        event_buffer_size: 4,
        channel_buffer_size: 4,
        // TCP notices a dead peer; a session may be silent for ever.
        inactivity_timeout: None,
        keepalive_interval: None,
        preferred: preferred(),
        ..Config::default()
    }
}

/// What ssh-audit has nothing against, fastest first.
fn preferred() -> Preferred {
    Preferred {
        kex: vec![
            kex::MLKEM768X25519_SHA256,
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::EXTENSION_SUPPORT_AS_SERVER,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        ]
        .into(),
        key: vec![
            Algorithm::Ed25519,
            Algorithm::Ecdsa { curve: russh::keys::EcdsaCurve::NistP256 },
            Algorithm::Ecdsa { curve: russh::keys::EcdsaCurve::NistP384 },
            Algorithm::Ecdsa { curve: russh::keys::EcdsaCurve::NistP521 },
            Algorithm::Rsa { hash: Some(russh::keys::HashAlg::Sha512) },
            Algorithm::Rsa { hash: Some(russh::keys::HashAlg::Sha256) },
            Algorithm::SkEd25519,
            Algorithm::SkEcdsaSha2NistP256,
        ]
        .into(),
        cipher: vec![
            cipher::AES_128_GCM,
            cipher::AES_256_GCM,
            cipher::CHACHA20_POLY1305,
            cipher::AES_256_CTR,
        ]
        .into(),
        mac: vec![mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM].into(),
        compression: vec![compression::NONE].into(),
        ..Preferred::default()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::config::{self, Groups, RootLogin};
    use crate::hub::Hub;
    use crate::ring::Ring;

    const SHORT: Duration = Duration::from_millis(50);

    fn impatient_server() -> Arc<Server> {
        let (hub, _inbox) = Hub::new(Ring::create(64 * 1024).unwrap());
        let log = crate::capture::reader::Reader::new("/nonexistent".into());
        let console = Console::new("demo".parse().unwrap(), hub, log, config::Port::default());
        let gate = Gatekeeping {
            auth_socket: "/nonexistent".into(),
            groups: Groups::Everyone,
            root: RootLogin::Key,
        };
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
        Arc::new(Server {
            config: Arc::new(config(vec![key])),
            console,
            gate: watch::Sender::new(gate).subscribe(),
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
