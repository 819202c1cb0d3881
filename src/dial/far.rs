//! Connects the far end.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Options;
use super::program::{self, Program};
use crate::port::{Endpoint, Source};
use crate::serial::{DeviceWatch, WatchError};
use crate::system::byte_stream::ByteStream;

/// Time for a name lookup and a TCP connection: shorter than the kernel's two minutes, longer than three lost
/// SYNs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An address of a host that has not replied within this time does not hold up the next one. RFC 8305 has 250 ms, for clients that
/// may open two connections at a time: a terminal server may permit one.
const NEXT_ADDRESS_DELAY: Duration = Duration::from_secs(2);
/// Limit of addresses of a host that are tried.
const MAX_ADDRESSES: usize = 8;
/// Keepalive of an idle TCP connection: time until the first probe, interval and number of probes. A far end
/// that has vanished is detected within a minute.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);
/// The connection is closed if bytes are not acknowledged within this time (tcp(7), TCP_USER_TIMEOUT).
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(60);

/// A byte stream in both directions.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

pub(super) struct FarEnd {
    pub(super) bytes: Box<dyn Bytes>,
    pub(super) program: Option<Program>,
}

/// Connects. The error is a sentence.
pub(super) async fn connect(options: &Options) -> Result<FarEnd, String> {
    match &options.source {
        Source::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(|error| unix_failed(path, &error))?;
            Ok(FarEnd { bytes: Box::new(stream), program: None })
        }
        Source::Tcp(endpoint) | Source::Telnet(endpoint) | Source::Rfc2217(endpoint) => {
            let stream = tcp(endpoint).await?;
            let stream = stream
                .into_std()
                .and_then(ByteStream::new)
                .map_err(|error| format!("{endpoint}: {error}"))?;
            Ok(FarEnd { bytes: Box::new(stream), program: None })
        }
        Source::Unit => program::start(options),
    }
}

async fn tcp(endpoint: &Endpoint) -> Result<TcpStream, String> {
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, look_up_and_connect(endpoint)).await {
        Ok(connected) => connected.map_err(|error| format!("cannot connect to {endpoint}: {error}"))?,
        Err(_) => return Err(format!("no reply from {endpoint} within {} s", CONNECT_TIMEOUT.as_secs())),
    };
    tune(&stream).map_err(|error| format!("{endpoint}: {error}"))?;
    Ok(stream)
}

async fn look_up_and_connect(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let addresses = lookup_host((endpoint.host.as_str(), endpoint.port)).await?;
    connect_to_any(addresses.take(MAX_ADDRESSES)).await
}

/// Connects to the first address that accepts. The error is that of the last one.
async fn connect_to_any(mut addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    loop {
        let next = addresses.next();
        let has_more = next.is_some();
        if let Some(address) = next {
            attempts.spawn(TcpStream::connect(address));
        }
        tokio::select! {
            attempt = attempts.join_next() => match attempt {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => failure = error,
                Some(Err(panicked)) => failure = io::Error::other(panicked),
                None => return Err(failure),
            },
            () = sleep(NEXT_ADDRESS_DELAY), if has_more => {}
        }
    }
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (idle, interval, probes) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    // A telnet server sends the data mark as urgent data (RFC 854, "Synch"). Out of line, the kernel would drop that byte, and the one
    // after it would be taken for the command.
    socket.set_out_of_band_inline(true)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT))
}

fn unix_failed(path: &Path, error: &io::Error) -> String {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no socket at {shown}"),
        io::ErrorKind::ConnectionRefused => format!("nothing listens at {shown}"),
        io::ErrorKind::PermissionDenied => format!(
            "no permission for {shown}: give its group to the unit by `systemctl edit console-source@.service`, \
             SupplementaryGroups= in [Service]"
        ),
        _ => format!("cannot connect to {shown}: {error}"),
    }
}

fn report(error: &WatchError) {
    // Not `eprintln!`, which panics if standard error is closed.
    let _ = writeln!(io::stderr(), "{error}; connecting by the back-off alone");
}

/// Waits for a unix socket to appear.
pub(super) struct Arrival(Option<DeviceWatch>);

impl Arrival {
    pub(super) fn of(source: &Source) -> Self {
        Self(match source {
            Source::Unix(path) => DeviceWatch::new(std::slice::from_ref(path)).inspect_err(report).ok(),
            _ => None,
        })
    }

    /// Waits until it exists, or has changed. Cancel safe.
    pub(super) async fn next(&mut self) {
        match &mut self.0 {
            Some(watch) => {
                if let Err(error) = watch.appeared().await {
                    report(&error);
                    self.0 = None;
                }
            }
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// A host that is switched off behind a router: the kernel drops the connection requests to a listener whose backlog is full.
    fn silent() -> (SocketAddr, Vec<Socket>) {
        let new = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = new();
        listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut sockets = vec![listener];
        for _ in 0..4 {
            let socket = new();
            socket.set_nonblocking(true).unwrap();
            // Not complete yet, or not accepted.
            let _ = socket.connect(&address);
            sockets.push(socket);
        }
        (address.as_socket().unwrap(), sockets)
    }

    #[tokio::test]
    async fn an_address_that_is_dead_does_not_hide_the_next_one() {
        let (silent, _sockets) = silent();
        let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let alive = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = alive.local_addr().unwrap();
        for addresses in [vec![refusing, address], vec![silent, address], vec![silent, refusing, address]] {
            let connected =
                tokio::time::timeout(CONNECT_TIMEOUT, connect_to_any(addresses.into_iter())).await;
            assert_eq!(connected.unwrap().unwrap().peer_addr().unwrap(), address);
        }
        let refused = connect_to_any([refusing].into_iter()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let none = connect_to_any(std::iter::empty()).await.unwrap_err();
        assert_eq!(none.to_string(), "the host has no address");
    }
}
