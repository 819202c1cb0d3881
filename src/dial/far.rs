//! Connects the far end.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::Options;
use super::program::{self, Program};
use crate::port::{Endpoint, Source};
use crate::serial::{DeviceWatch, WatchError};

/// For a name lookup and a TCP connection: shorter than the kernel's two minutes, longer than three lost
/// SYNs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Keepalive of an idle TCP connection: time until the first probe, interval and number of probes. A far end
/// that has vanished is detected within a minute.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);
/// The connection is closed if bytes are not acknowledged within this time (tcp(7), TCP_USER_TIMEOUT).
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(60);

/// A byte stream in both directions.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A connected far end.
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
            Ok(FarEnd { bytes: Box::new(stream), program: None })
        }
        Source::Unit => program::start(options),
    }
}

async fn tcp(endpoint: &Endpoint) -> Result<TcpStream, String> {
    let connecting = TcpStream::connect((endpoint.host.as_str(), endpoint.port));
    let stream = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected.map_err(|error| format!("cannot connect to {endpoint}: {error}"))?,
        Err(_) => return Err(format!("no reply from {endpoint} within {} s", CONNECT_TIMEOUT.as_secs())),
    };
    tune(&stream).map_err(|error| format!("{endpoint}: {error}"))?;
    Ok(stream)
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (idle, interval, probes) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(probes);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
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
