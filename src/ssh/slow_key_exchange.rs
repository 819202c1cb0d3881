//! Serves connections whose key exchange is slow: Diffie-Hellman in a 4096-bit group takes 20 ms of CPU time, in an 8192-bit group
//! 90 ms, and several times that on a small board; an RSA signature takes a few milliseconds. On the port's own thread, nothing
//! would be read from the tty or echoed during that time. Such connections are served by a second thread, started on demand. It
//! processes one key exchange of an unauthenticated client at a time, each followed by a pause of three times its duration: key
//! exchanges of unauthenticated clients use at most a quarter of that thread.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use super::hello::{Hello, OUR_VERSION, packet_length};
use crate::system::lock::Lock;

/// Pause after an unauthenticated client's key exchange, in multiples of its duration.
const YIELD_FACTOR: u32 = 3;
/// How often and how long the thread checks for remaining sessions after the last connection.
const CLOSE_POLL_INTERVAL: Duration = Duration::from_millis(50);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Stack of the thread: russh's futures are large, and so are those of sessions.
const STACK_BYTES: usize = 1024 * 1024;
/// Blocking threads of its runtime, for searches of the log by sessions.
const BLOCKING_THREADS: usize = 2;
/// The client's messages that start the computation (RFC 4253, section 8; RFC 4419, section 5).
const KEXDH_INIT: u8 = 30;
const KEX_GEX_INIT: u8 = 32;
/// The longest packet before encryption that is waited for; russh rejects a longer one.
const PACKET_LIMIT: usize = 35_000;

/// The thread, while it is needed.
#[derive(Debug, Default)]
pub(super) struct SlowThread {
    thread: Mutex<Weak<Thread>>,
    turns: Arc<Turns>,
}

/// The thread; it ends with the last of these.
#[derive(Debug)]
pub(super) struct Thread {
    /// Where to spawn a connection.
    pub(super) runtime: Handle,
    _needed: oneshot::Sender<()>,
}

impl SlowThread {
    /// The thread for such a connection, which holds it for as long as it lives.
    pub(super) fn thread(&self) -> io::Result<Arc<Thread>> {
        let mut running = self.thread.locked();
        if let Some(thread) = running.upgrade() {
            return Ok(thread);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_stack_size(STACK_BYTES)
            .build()?;
        let (needed, unneeded) = oneshot::channel();
        let thread = Arc::new(Thread { runtime: runtime.handle().clone(), _needed: needed });
        let builder = std::thread::Builder::new().name("ssh-costly".to_owned()).stack_size(STACK_BYTES);
        builder.spawn(move || {
            runtime.block_on(async {
                // It is dropped, not sent.
                let _ = unneeded.await;
                let sessions = async {
                    // Sessions of closed connections still detach from their console.
                    while Handle::current().metrics().num_alive_tasks() > 0 {
                        tokio::time::sleep(CLOSE_POLL_INTERVAL).await;
                    }
                };
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, sessions).await;
            });
            runtime.shutdown_background();
        })?;
        *running = Arc::downgrade(&thread);
        Ok(thread)
    }

    /// The queue of unauthenticated clients.
    pub(super) fn turns(&self) -> Arc<Turns> {
        self.turns.clone()
    }
}

#[derive(Debug, Default)]
pub(super) struct Turns {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<(u64, IpAddr)>,
    next: u64,
    busy: bool,
    pause_until: Option<Instant>,
}

impl Turns {
    /// Waits for the turn of a client at this address. An address with fewer waiting clients is served first.
    async fn take(self: Arc<Self>, source: IpAddr) -> Turn {
        let waiting = QueueEntry::new(&self, source);
        loop {
            let changed = self.changed.notified();
            match self.try_start(waiting.number, Instant::now()) {
                Start::Now => break,
                Start::At(time) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(time.into()) => {}
                    }
                }
                Start::Later => changed.await,
            }
        }
        drop(waiting);
        Turn { turns: self, since: Instant::now() }
    }

    fn try_start(&self, number: u64, now: Instant) -> Start {
        let mut queue = self.queue.locked();
        if queue.busy {
            return Start::Later;
        }
        if let Some(time) = queue.pause_until.filter(|time| *time > now) {
            return Start::At(time);
        }
        let waiting = &queue.waiting;
        let from = |source| waiting.iter().filter(|(_, other)| *other == source).count();
        let first = waiting.iter().min_by_key(|(number, source)| (from(*source), *number));
        if first.is_some_and(|(first, _)| *first == number) {
            queue.busy = true;
            return Start::Now;
        }
        Start::Later
    }
}

/// When a waiting client may start.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    Now,
    At(Instant),
    Later,
}

/// An entry in the queue, removed when dropped.
struct QueueEntry {
    turns: Arc<Turns>,
    number: u64,
}

impl QueueEntry {
    fn new(turns: &Arc<Turns>, source: IpAddr) -> Self {
        let mut queue = turns.queue.locked();
        let number = queue.next;
        queue.next += 1;
        queue.waiting.push((number, source));
        drop(queue);
        // The first one may have changed.
        turns.changed.notify_waiters();
        Self { turns: turns.clone(), number }
    }
}

impl Drop for QueueEntry {
    fn drop(&mut self) {
        self.turns.queue.locked().waiting.retain(|(number, _)| *number != self.number);
        self.turns.changed.notify_waiters();
    }
}

#[derive(Debug)]
struct Turn {
    turns: Arc<Turns>,
    since: Instant,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut queue = self.turns.queue.locked();
        queue.busy = false;
        queue.pause_until = Some(now + YIELD_FACTOR * now.duration_since(self.since));
        drop(queue);
        self.turns.changed.notify_waiters();
    }
}

/// A connection whose [`Hello`] has been exchanged: russh reads the client's part again from here, and our version line is not sent twice.
pub(super) struct ReplayStream<S> {
    stream: S,
    /// Bytes of our version line that russh has still to write.
    version_left: usize,
    /// Bytes that the client has sent, and how many of them may be read.
    buffer: Vec<u8>,
    readable: usize,
    gate: Option<Gate>,
}

/// Holds packets back until it is their turn; removed after the key exchange.
struct Gate {
    turns: Arc<Turns>,
    source: IpAddr,
    waiting: Option<Pin<Box<dyn Future<Output = Turn> + Send>>>,
    turn: Option<Turn>,
}

impl<S> ReplayStream<S> {
    /// Passes all bytes on.
    pub(super) fn new(stream: S, hello: Hello) -> Self {
        let readable = hello.bytes.len();
        Self { stream, version_left: OUR_VERSION.len(), buffer: hello.bytes, readable, gate: None }
    }

    /// Holds back the packet that starts the computation until it is this client's turn.
    pub(super) fn gated(stream: S, hello: Hello, turns: Arc<Turns>, source: IpAddr) -> Self {
        let gate = Gate { turns, source, waiting: None, turn: None };
        let readable = hello.plain;
        Self { stream, version_left: OUR_VERSION.len(), buffer: hello.bytes, readable, gate: Some(gate) }
    }
}

impl<S: AsyncRead + Unpin> ReplayStream<S> {
    /// Waits until part of the buffer is readable, or the gate is removed.
    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(gate) = self.gate.as_mut().filter(|_| self.readable == 0) {
            if gate.turn.is_some() {
                // russh has the packet, and reads on only after its reply.
                self.readable = self.buffer.len();
                self.gate = None;
                break;
            }
            let length = packet_length(&self.buffer).filter(|length| *length <= PACKET_LIMIT);
            let kind = self.buffer.get(5).copied();
            match (length, kind) {
                (Some(length), Some(KEXDH_INIT | KEX_GEX_INIT)) if self.buffer.len() >= length => {
                    let waiting =
                        gate.waiting.get_or_insert_with(|| Box::pin(gate.turns.clone().take(gate.source)));
                    let turn = std::task::ready!(waiting.as_mut().poll(cx));
                    gate.waiting = None;
                    gate.turn = Some(turn);
                    self.readable = length;
                }
                (Some(length), Some(_)) if self.buffer.len() >= length => self.readable = length,
                (None, Some(_)) => {
                    // No packet that russh would accept.
                    self.readable = self.buffer.len();
                    self.gate = None;
                }
                _ => {
                    let mut scratch = [0; 1024];
                    let mut read = ReadBuf::new(&mut scratch);
                    std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
                    if read.filled().is_empty() {
                        self.readable = self.buffer.len();
                        self.gate = None;
                    } else {
                        self.buffer.extend_from_slice(read.filled());
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReplayStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_gate(cx))?;
        if self.readable == 0 {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.readable.min(buf.remaining());
        buf.put_slice(&self.buffer[..count]);
        self.buffer.drain(..count);
        self.readable -= count;
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReplayStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.version_left > 0 {
            let count = self.version_left.min(buf.len());
            self.version_left -= count;
            return Poll::Ready(Ok(count));
        }
        if self.readable == 0 && self.gate.as_ref().is_some_and(|gate| gate.turn.is_some()) {
            // The reply has been computed.
            self.readable = self.buffer.len();
            self.gate = None;
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u8) -> IpAddr {
        [192, 0, 2, number].into()
    }

    #[test]
    fn one_key_exchange_at_a_time_and_an_address_with_fewer_goes_first() {
        let turns = Arc::new(Turns::default());
        let now = Instant::now();
        let crowd: Vec<_> = (0..3).map(|_| QueueEntry::new(&turns, host(1))).collect();
        let administrator = QueueEntry::new(&turns, host(2));
        assert_eq!(turns.try_start(crowd[0].number, now), Start::Later);
        assert_eq!(turns.try_start(administrator.number, now), Start::Now);
        drop(administrator);
        assert_eq!(
            turns.try_start(crowd[0].number, now),
            Start::Later,
            "the other key exchange is in progress"
        );
        drop(Turn { turns: turns.clone(), since: now - std::time::Duration::from_secs(1) });
        let Start::At(time) = turns.try_start(crowd[0].number, now) else { panic!("no pause") };
        assert!(time >= now + std::time::Duration::from_secs(3));
        assert_eq!(turns.try_start(crowd[1].number, time), Start::Later);
        assert_eq!(turns.try_start(crowd[0].number, time), Start::Now);
    }
}
