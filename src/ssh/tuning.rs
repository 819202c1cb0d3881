//! Settings of SSH and TCP: windows, limits, keepalives.

use std::time::Duration;

use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::hostkeys::HostKeys;
use crate::session::WINDOW_GRANT_BYTES;

/// Window of a channel: what a client may send beside the input that waits in its session, which grants more as it is taken
/// (`session::Feeder`). Four times the queue of a tty, so that no tty is idle for want of a grant.
const WINDOW_BYTES: u32 = 16 * 1024;
/// Kernel memory for a client that has stopped reading.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// TCP keepalive: idle time, interval and number of probes. A dead peer is found after 27 s, before the documented 30, as is one that was
/// sent data ([`super::liveness`]).
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(12), Duration::from_secs(5), 3);

const _: () = assert!(
    WINDOW_GRANT_BYTES < WINDOW_BYTES as usize,
    "a client whose window is used up would wait without limit"
);

/// Sends small packets at once, detects dead peers, and limits memory for a client that does not read.
pub(crate) fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let (time, interval, retries) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(retries);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)
}

/// The configuration with these host keys and algorithms, and possibly other algorithms for all key exchanges but the first.
pub(super) fn config(served: HostKeys, preferred: Preferred, in_rekey: Option<Preferred>) -> Config {
    Config {
        server_id: russh::SshId::Standard("SSH-2.0-consoleserver".into()),
        methods: methods(),
        // Passwords have our longer delay; this one hides how long the lookup of a key takes.
        auth_rejection_time: Duration::from_millis(50),
        auth_rejection_time_initial: Some(Duration::ZERO),
        max_auth_attempts: 6,
        keys: served.keys,
        certificates: served.certificates,
        window_size: WINDOW_BYTES,
        // The connection itself is always read: a keepalive that is not answered ends the session (`ServerAliveInterval`), and a key
        // exchange that is not answered stops the output (ours of every hour, or the client's).
        replenish_window: false, // No such field? russh lacks our patch: run cargo inside this tree, and without RUSTC_WRAPPER (patches/README.md).
        maximum_packet_size: 32 * 1024,
        // Few: each may be a 32 KiB packet for a client that does not read.
        event_buffer_size: 4,
        channel_buffer_size: 4,
        // TCP detects a dead peer; a session may be idle without limit.
        inactivity_timeout: None,
        keepalive_interval: None,
        preferred,
        preferred_in_rekey: in_rekey,
        ..Config::default()
    }
}

pub(super) fn methods() -> MethodSet {
    let methods: &[MethodKind] =
        &[MethodKind::PublicKey, MethodKind::KeyboardInteractive, MethodKind::Password];
    MethodSet::from(methods)
}
