//! The plain listeners of a port: `rfc2217` and `raw`. There is no login and no encryption, so the
//! configuration keeps them to this machine unless a key says otherwise. A client here has write access or is
//! refused with a sentence, as by ser2net: a program that uses a serial line cannot do anything with one that
//! it may only read, and is not told that by a notice.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::config::{Right, Writers};
use crate::event::Event as LogEvent;
use crate::rfc2217;
use crate::session::{
    AttachedUser, Console, Escape, Event, Feeder, Gone, Options, Outlet, SessionEnd, SessionId, run, typed,
};
use crate::ssh::peer_dead;
use crate::ssh::tune;
use crate::system::accepting::Failing;

/// Clients of a port's plain listeners at once: one, unless the port is shared, and then no more than share a
/// console by hand.
const MAX_CLIENTS: usize = 8;
/// Clients that are being told why they are refused. Further ones are closed without a word.
const MAX_REFUSED: usize = 8;
/// For a refused client to read why, and to close. Closed with bytes of it unread, it would be sent a reset,
/// and might not see the sentence.
const REFUSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes that such a client may send meanwhile.
const REFUSED_BYTES: u64 = 64 * 1024;
/// For the line to take the input of a client that has closed its connection. A slower line loses the rest.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes read at once.
const READ_CHUNK: usize = 4096;

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Telnet with the COM port control option.
    Rfc2217,
    /// The bytes of the line, and nothing else.
    Raw,
}

impl Protocol {
    /// The key of the configuration, and the name of such a client in the log.
    pub fn key(self) -> &'static str {
        match self {
            Self::Rfc2217 => "rfc2217",
            Self::Raw => "raw",
        }
    }
}

/// The plain side of one port.
#[derive(Debug)]
pub struct Server {
    console: Arc<Console>,
    places: Arc<Semaphore>,
    refused: Arc<Semaphore>,
    clients: watch::Sender<usize>,
}

impl Server {
    /// The server of this console.
    pub fn new(console: Arc<Console>) -> Arc<Self> {
        let (places, refused) =
            (Arc::new(Semaphore::new(MAX_CLIENTS)), Arc::new(Semaphore::new(MAX_REFUSED)));
        Arc::new(Self { console, places, refused, clients: watch::Sender::new(0) })
    }

    /// How many clients there are.
    pub fn clients(&self) -> watch::Receiver<usize> {
        self.clients.subscribe()
    }

    /// Accepts without end.
    pub async fn accept(self: Arc<Self>, listener: TcpListener, protocol: Protocol) {
        let mut failing = Failing::default();
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    failing.is_over();
                    self.clone().admit(stream, peer, protocol);
                }
                Err(error) => failing.goes_on("plain connection", error).await,
            }
        }
    }

    fn admit(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, protocol: Protocol) {
        let place = self.places.clone().try_acquire_owned();
        let (Ok(place), None) = (place, self.taken()) else {
            return self.refuse(stream, peer, protocol);
        };
        self.clients.send_modify(|count| *count += 1);
        tokio::spawn(async move {
            match self.serve(stream, peer, protocol).await {
                Ok(ended) => debug!("{peer}: {ended:?}"),
                Err(error) => debug!("{peer}: {error}"),
            }
            drop(place);
            self.clients.send_modify(|count| *count -= 1);
        });
    }

    /// Why no further client can write, if so.
    fn taken(&self) -> Option<String> {
        if self.console.settings().write == Writers::Shared {
            return None;
        }
        let roster = self.console.roster();
        roster
            .writer()
            .map(|writer| format!("{} is in use: {} has write access", self.console.name(), writer.client))
    }

    fn refuse(&self, mut stream: TcpStream, peer: SocketAddr, protocol: Protocol) {
        let Ok(place) = self.refused.clone().try_acquire_owned() else { return };
        let full = || format!("{} is in use by {MAX_CLIENTS} clients", self.console.name());
        let why = self.taken().unwrap_or_else(full);
        info!(message_id = LogEvent::Refused.id(), "{} client from {peer} refused: {why}", protocol.key());
        tokio::spawn(async move {
            let told = async {
                stream.write_all(format!("{why}\r\n").as_bytes()).await?;
                stream.shutdown().await?;
                tokio::io::copy(&mut stream.take(REFUSED_BYTES), &mut tokio::io::sink()).await
            };
            // A client that does not read why has closed itself.
            let _ = timeout(REFUSE_TIMEOUT, told).await;
            drop(place);
        });
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, protocol: Protocol) -> io::Result<SessionEnd> {
        tune(&stream)?;
        let socket = socket2::SockRef::from(&stream).try_clone()?;
        let written = Arc::new(Notify::new());
        let (reader, writer) = stream.into_split();
        let client = AttachedUser {
            user: protocol.key().to_owned(),
            from: SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string(),
            right: Right::Write,
        };
        let outlet = PlainOutlet {
            console: self.console.clone(),
            writer,
            written: written.clone(),
            member: OnceLock::new(),
        };
        let (feeder, input) = typed();
        let session = async {
            match protocol {
                Protocol::Rfc2217 => rfc2217::serve(self.console.clone(), client, input, outlet).await,
                Protocol::Raw => {
                    let options = Options { escape: Escape::Off, ..Options::default() };
                    run(self.console.clone(), client, false, options, input, outlet).await
                }
            }
        };
        Ok(tokio::select! {
            ended = session => ended,
            ended = feed(reader, &feeder) => ended,
            () = peer_dead(&socket, &written, peer) => SessionEnd::Gone,
        })
    }
}

/// Feeds what the client sends to its session, no faster than the line takes it. The end of its input is the
/// end of the client, as with ser2net: a program that has closed the line may open it again at once.
async fn feed(mut reader: OwnedReadHalf, feeder: &Feeder) -> SessionEnd {
    let mut buffer = [0; READ_CHUNK];
    loop {
        std::future::poll_fn(|context| feeder.poll_ready(context)).await;
        match reader.read(&mut buffer).await {
            Ok(0) => {
                let _ = timeout(DRAIN_TIMEOUT, feeder.drained()).await;
                return SessionEnd::Detached(None);
            }
            Ok(count) => drop(feeder.feed(Event::Bytes(buffer[..count].to_vec()))),
            Err(_) => return SessionEnd::Gone,
        }
    }
}

/// The client's connection.
struct PlainOutlet {
    console: Arc<Console>,
    writer: OwnedWriteHalf,
    written: Arc<Notify>,
    member: OnceLock<SessionId>,
}

impl Outlet for PlainOutlet {
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.written.notify_one();
        self.writer.write_all(&bytes).await.map_err(|_| Gone)
    }

    /// There is nothing beside the bytes of the line. A client that has lost its write access is
    /// disconnected, and is told that.
    async fn notice(&mut self, text: String) -> Result<(), Gone> {
        let writes = self.member.get().is_none_or(|member| self.console.roster().writes(*member));
        if writes {
            return Ok(());
        }
        warn!("a plain client is disconnected: {}", text.trim_end());
        self.send(format!("\r\n{}\r\n", text.trim_end()).into_bytes()).await?;
        Err(Gone)
    }

    fn attached(&mut self, id: SessionId) {
        // Said once.
        let _ = self.member.set(id);
    }
}
