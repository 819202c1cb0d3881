//! A port without a tty: the protocol between `console-port` and `console-dial`, and the port's side of it. The two share one
//! `SOCK_SEQPACKET` connection for requests and events ([`message`]); for each connection to the far end, `console-dial` hands over one end of a
//! stream socket that carries nothing but the console's bytes. The port keeps both in systemd's FD store, so that a new process of the
//! port finds the same connection.

mod connection;
mod dialer;
mod message;

pub use connection::Connection;
pub use dialer::{Dialer, DialerError, DialerEvent, socket_path};
pub use message::{FromDialer, FromPort, PacketError, Packets, RemoteLine, RemoteModem, Request};

/// Name in the FD store of the connection to `console-dial`.
pub const DIALER_STORED_AS: &str = "dialer";
/// Name in the FD store of the stream that carries the console's bytes.
pub const STREAM_STORED_AS: &str = "stream";
