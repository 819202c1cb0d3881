//! The plain listeners of a port: `rfc2217` and `raw`. They have no login and no encryption, so the
//! configuration restricts them to loopback addresses unless a key allows others. A client gets write access,
//! or is rejected with a message, as by ser2net: a program that expects a serial line cannot use a read-only
//! one, and does not understand notices.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::config::{Right, Writers};
use crate::event::Event as LogEvent;
use crate::rfc2217;
use crate::session::{
    AttachedUser, Console, Escape, Event, Feeder, Gone, Options, Outlet, SessionEnd, SessionId, input_queue,
    run,
};
use crate::ssh::peer_dead;
use crate::ssh::tune;
use crate::system::accepting::Failing;
use crate::system::byte_stream::ByteStream;

/// Limit of clients of a port's plain listeners: more than write to one console in practice. Unless the port
/// is shared, there is one.
const MAX_CLIENTS: usize = 8;
/// Limit of rejected clients that are sent the reason. Further ones are closed without a message.
const MAX_REFUSED: usize = 8;
/// Time for a rejected client to read the reason and close. If the connection were closed with unread input, the
/// client would get a reset and might lose the message.
const REFUSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of input that are read from such a client.
const REFUSED_BYTES: u64 = 64 * 1024;
/// Time for the device to accept the remaining input of a client that has closed its connection; then the rest is
/// discarded.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes read at once.
const READ_CHUNK: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Telnet with the COM port control option.
    Rfc2217,
    /// The bytes of the line only.
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
    slots: Arc<Semaphore>,
    refused: Arc<Semaphore>,
    clients: watch::Sender<usize>,
}

impl Server {
    pub fn new(console: Arc<Console>) -> Arc<Self> {
        let (places, refused) =
            (Arc::new(Semaphore::new(MAX_CLIENTS)), Arc::new(Semaphore::new(MAX_REFUSED)));
        Arc::new(Self { console, slots: places, refused, clients: watch::Sender::new(0) })
    }

    /// How many clients there are.
    pub fn clients(&self) -> watch::Receiver<usize> {
        self.clients.subscribe()
    }

    /// Accepts connections until it is dropped.
    pub async fn accept(self: Arc<Self>, listener: TcpListener, protocol: Protocol) {
        let mut failing = Failing::default();
        loop {
            let (stream, peer) = failing.accept("plain connection", || listener.accept()).await;
            self.clone().admit(stream, peer, protocol);
        }
    }

    fn admit(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, protocol: Protocol) {
        let place = self.slots.clone().try_acquire_owned();
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

    /// The reason why another client cannot get write access, if there is one.
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
        info!(message_id = LogEvent::Denied.id(), "{} client from {peer} rejected: {why}", protocol.key());
        tokio::spawn(async move {
            let told = async {
                stream.write_all(format!("{why}\r\n").as_bytes()).await?;
                stream.shutdown().await?;
                tokio::io::copy(&mut stream.take(REFUSED_BYTES), &mut tokio::io::sink()).await
            };
            // A client that does not read the reason has closed the connection.
            let _ = timeout(REFUSE_TIMEOUT, told).await;
            drop(place);
        });
    }

    async fn serve(&self, stream: TcpStream, peer: SocketAddr, protocol: Protocol) -> io::Result<SessionEnd> {
        tune(&stream)?;
        let socket = socket2::SockRef::from(&stream).try_clone()?;
        // The data mark of telnet's Synch is urgent data (RFC 854), which the kernel would drop otherwise.
        socket.set_out_of_band_inline(true)?;
        let written = Arc::new(Notify::new());
        // tokio's reader cannot be used: it takes a read that ends at urgent data for the end.
        let reader = ByteStream::reader(std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?))?;
        let (_, writer) = stream.into_split();
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
        let (feeder, input) = input_queue();
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

/// Passes the client's input to its session, at the rate at which the device accepts it. The end of input
/// ends the session, as with ser2net: a program that closes the line may reopen it immediately.
async fn feed(mut reader: ByteStream<std::net::TcpStream>, feeder: &Feeder) -> SessionEnd {
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

    /// There is no channel for notices. A client that has lost write access gets the notice and is
    /// disconnected.
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
        // Set once.
        let _ = self.member.set(id);
    }
}
