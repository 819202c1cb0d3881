//! Detects dead clients that were sent data. The kernel has no setting for it: `TCP_USER_TIMEOUT` also disconnects a client that has only
//! stopped reading (`^Z`, a suspended window) and answers every window probe, and keepalive is not sent while data is unacknowledged. So
//! this polls `TCP_INFO` (tcp(7)), until all data is acknowledged.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{self, c_int};
use socket2::Socket;
use tokio::sync::Notify;

/// A client that acknowledges nothing for this long is dead, and its write access is freed: with the check interval, before 30 s.
const DEAD_AFTER: Duration = Duration::from_secs(24);
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Unanswered window probes in a row. The kernel sends them up to 120 s apart, so the answer to the last one may still be on its way.
const MAX_UNANSWERED_PROBES: u8 = 2;

#[derive(Debug, Clone, Copy)]
pub struct Watch {
    dead_after: Duration,
    interval: Duration,
}

impl Default for Watch {
    fn default() -> Self {
        Self { dead_after: DEAD_AFTER, interval: CHECK_INTERVAL }
    }
}

impl Watch {
    /// Waits until the peer of `socket` is dead; `written` is notified of each write.
    pub async fn wait_until_dead(self, socket: &Socket, written: &Notify) -> io::Result<()> {
        loop {
            written.notified().await;
            while unacknowledged_bytes(socket)? > 0 {
                if Observation::of(socket)?.is_dead(self.dead_after) {
                    return Ok(());
                }
                tokio::time::sleep(self.interval).await;
            }
        }
    }
}

/// The kernel's state of a connection.
#[derive(Debug)]
struct Observation {
    /// Segments sent and not acknowledged.
    unacked: u32,
    /// Window probes since the last answer.
    probes: u8,
    /// Since data was sent or retransmitted; a window probe is not data.
    since_data: Duration,
    /// Since the peer acknowledged anything, a probe included.
    since_ack: Duration,
}

impl Observation {
    fn of(socket: &Socket) -> io::Result<Self> {
        let info = tcp_info(socket)?;
        Ok(Self {
            unacked: info.tcpi_unacked,
            probes: info.tcpi_probes,
            since_data: Duration::from_millis(info.tcpi_last_data_sent.into()),
            since_ack: Duration::from_millis(info.tcpi_last_ack_recv.into()),
        })
    }

    /// Silence alone is not enough, because a client that does not read is probed at growing intervals: it must have been probed.
    fn is_dead(&self, dead_after: Duration) -> bool {
        let data_unanswered = self.unacked > 0 && self.since_data < self.since_ack;
        self.since_ack >= dead_after && (data_unanswered || self.probes >= MAX_UNANSWERED_PROBES)
    }
}

/// Bytes written and not acknowledged, sent or not.
fn unacknowledged_bytes(socket: &Socket) -> io::Result<c_int> {
    nix::ioctl_read_bad!(siocoutq, libc::TIOCOUTQ, c_int);
    let mut count = 0;
    // SAFETY: the kernel writes one int through the pointer.
    unsafe { siocoutq(socket.as_raw_fd(), &mut count) }?;
    Ok(count)
}

fn tcp_info(socket: &Socket) -> io::Result<libc::tcp_info> {
    // SAFETY: zeros are a valid value of this struct of integers; the kernel writes at most `size` bytes to it, and fewer if
    // it is older than the struct.
    unsafe {
        let mut info: libc::tcp_info = std::mem::zeroed();
        let mut size = size_of_val(&info) as libc::socklen_t;
        let slot = (&raw mut info).cast();
        let done = libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, slot, &mut size);
        Errno::result(done)?;
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const WATCH: Watch =
        Watch { dead_after: Duration::from_millis(1000), interval: Duration::from_millis(50) };
    const TEST_TIMEOUT: Duration = Duration::from_secs(60);

    /// The server's end, and the client's.
    fn connection() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let ours = Socket::from(listener.accept().unwrap().0);
        ours.set_nonblocking(true).unwrap();
        (ours, client)
    }

    /// Drops all packets to this socket by a filter (socket(7)).
    fn pull_the_cable_of(client: &TcpStream) {
        let mut drop_all = libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 };
        let program = libc::sock_fprog { len: 1, filter: &mut drop_all };
        // SAFETY: the kernel copies the program, which lives until the call is over.
        let done = unsafe {
            libc::setsockopt(
                client.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of_val(&program) as libc::socklen_t,
            )
        };
        Errno::result(done).unwrap();
    }

    fn fill(ours: &Socket) {
        while ours.send(&[b'x'; 32 * 1024]).is_ok() {}
    }

    async fn dies(ours: &Socket, within: Duration) -> bool {
        let written = Notify::new();
        written.notify_one();
        match tokio::time::timeout(within, WATCH.wait_until_dead(ours, &written)).await {
            Ok(seen) => seen.map(|()| true).unwrap(),
            Err(_) => false,
        }
    }

    #[tokio::test]
    async fn a_disconnected_client_is_dead_after_a_write() {
        let (ours, client) = connection();
        pull_the_cable_of(&client);
        ours.send(b"keepalive").unwrap();
        assert!(dies(&ours, TEST_TIMEOUT).await);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_alive_until_its_cable_is_pulled() {
        let (ours, client) = connection();
        fill(&ours);
        assert!(!dies(&ours, 6 * WATCH.dead_after).await, "{:?}", Observation::of(&ours));
        assert_eq!(Observation::of(&ours).unwrap().unacked, 0, "its window is not closed");
        pull_the_cable_of(&client);
        assert!(dies(&ours, TEST_TIMEOUT).await, "{:?}", Observation::of(&ours));
    }

    #[tokio::test]
    async fn a_client_that_has_acknowledged_everything_is_not_watched() {
        let (ours, client) = connection();
        ours.send(b"hello").unwrap();
        until_taken(&ours).await;
        pull_the_cable_of(&client);
        assert!(!dies(&ours, 2 * WATCH.dead_after).await);
    }

    async fn until_taken(ours: &Socket) {
        while unacknowledged_bytes(ours).unwrap() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
