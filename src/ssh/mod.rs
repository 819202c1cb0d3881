//! The port's SSH side: accepts connections, bounds them, and hands each to russh with a [`handler`] that turns what happens
//! into session events. Everything here comes from the network and is hostile until somebody has logged in.

mod breaks;
mod handler;
mod limits;
mod outlet;
mod refuse;
mod throttle;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Algorithm, PrivateKey};
use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred, cipher, compression, kex, mac};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tracing::{debug, warn};

pub use breaks::listen as listen_for_breaks;
pub use handler::Gatekeeping;
pub use refuse::refuse;

use crate::session::{Console, typed};
use handler::Connection;
use limits::{Limits, Ticket};
use throttle::Throttled;

/// What a client may send ahead: a paste's bytes that are on their way beside those that wait in the session. Small, so that a
/// client's own keepalive is never long behind a paste on a slow line.
const WINDOW: u32 = 16 * 1024;
/// Kernel memory for a client that has stopped reading.
const SEND_BUFFER: usize = 256 * 1024;
/// A peer that acknowledges nothing for so long is dead, and its writer's place free.
const DEAD_AFTER: Duration = Duration::from_secs(30);
/// Silence after which the kernel asks whether the peer still lives, and between two such questions.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(5));
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
                        warn!(console_port = %self.console.name, "no connection can be accepted: {error}");
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
                        debug!(console_port = %self.console.name, "connection of {peer}: {error}");
                    }
                    self.connections.send_modify(|count| *count -= 1);
                });
            }
            None => {
                warn!(
                    console_port = %self.console.name,
                    "{} closed: too many connections from there have not logged in", peer.ip()
                );
            }
        }
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, ticket: Ticket) -> Result<(), russh::Error> {
        tune(&stream)?;
        // russh's task cannot be told to end; its socket can.
        let plug = SockRef::from(&stream).try_clone()?;
        let (feeder, typed) = typed();
        let gate = self.gate.borrow().clone();
        let connection = Connection::new(self.console.clone(), gate, peer, ticket, (feeder.clone(), typed));
        let mut admitted = connection.admitted();
        let conversation = async {
            let running =
                russh::server::run_stream(self.config.clone(), Throttled::new(stream, feeder), connection)
                    .await?;
            running.await
        };
        tokio::pin!(conversation);
        let mut closing = self.console.closing();
        tokio::select! {
            done = &mut conversation => return done,
            _ = admitted.wait_for(|admitted| *admitted) => {}
            // Only sessions are told; and nobody waits for those who have not begun one.
            _ = closing.changed() => plug.shutdown(std::net::Shutdown::Both)?,
            () = tokio::time::sleep(self.limits.grace) => {
                debug!(console_port = %self.console.name, "{peer} has not logged in within {:?}", self.limits.grace);
                plug.shutdown(std::net::Shutdown::Both)?;
            }
        }
        conversation.await
    }
}

fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(DEAD_AFTER))?;
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
        // TCP notices a dead peer (DEAD_AFTER); a session may be silent for ever.
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

    #[tokio::test]
    async fn whoever_has_not_logged_in_within_the_grace_time_is_disconnected() {
        let (hub, _inbox) = Hub::new(Ring::create(64 * 1024).unwrap());
        let console = Console::new("demo".parse().unwrap(), hub, config::Port::default());
        let gate = Gatekeeping {
            auth_socket: "/nonexistent".into(),
            groups: Groups::Everyone,
            root: RootLogin::Key,
        };
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
        let server = Server {
            config: Arc::new(config(vec![key])),
            console,
            gate: watch::Sender::new(gate).subscribe(),
            limits: Arc::new(Limits::with_grace(Duration::from_millis(50))),
            connections: watch::Sender::new(0),
        };
        let server = Arc::new(server);
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
