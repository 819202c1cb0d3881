//! The listeners of `console-metrics.socket`: TCP, or unix sockets, whichever `ListenStream=` names.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

#[derive(Debug, Default)]
pub struct Listeners {
    pub tcp: Vec<TcpListener>,
    pub unix: Vec<UnixListener>,
}

impl Listeners {
    /// Takes all of them, non-blocking.
    pub fn take() -> io::Result<Self> {
        let mut fds = ListenFd::from_env();
        let mut listeners = Self::default();
        for index in 0..fds.len() {
            // The descriptor stays available if it is of another kind.
            if let Ok(Some(listener)) = fds.take_tcp_listener(index) {
                listener.set_nonblocking(true)?;
                listeners.tcp.push(listener);
            } else if let Some(listener) = fds.take_unix_listener(index)? {
                listener.set_nonblocking(true)?;
                listeners.unix.push(listener);
            }
        }
        Ok(listeners)
    }
}
