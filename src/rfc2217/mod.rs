//! RFC 2217 at a port: a session whose transport speaks telnet with the COM port control option, for programs
//! that want a serial line (pyserial, labgrid, COM port redirectors). It is a session as any other: one
//! client writes, the log has it, an administrator may end it. What the client sets of the line is on a
//! lease, which ends with the client ([`line`]).

mod line;

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::session::{
    AttachedUser, Console, Escape, Event, Feeder, Gone, Options, Outlet, SessionEnd, SessionId, Typed, run,
    typed,
};
use crate::telnet::{self, Command, Role, Telnet};
use line::BorrowedLine;

/// How often the modem lines and the error counters are looked at for a client: the kernel's notification of
/// a change (TIOCMIWAIT) would need a thread for each client.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(250);

/// For the line to take the input of a client that has closed its connection. A slower line loses the rest.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves a client until it is gone or the port ends its session. `typed` is what it sends, and `outlet` is
/// where telnet goes.
pub async fn serve<O: Outlet + Send + 'static>(
    console: Arc<Console>,
    client: AttachedUser,
    typed_bytes: Typed,
    outlet: O,
) -> SessionEnd {
    let transport = Arc::new(Transport {
        moves_at: outlet.reached_at(),
        telnet: Mutex::new(Telnet::new(Role::Server, true)),
        outlet: tokio::sync::Mutex::new(outlet),
        suspended: watch::Sender::new(false),
        member: OnceLock::new(),
    });
    let mut requests = Vec::new();
    transport.telnet().start(&mut requests);
    if transport.send(requests).await.is_err() {
        return SessionEnd::Gone;
    }
    let (feeder, input) = typed();
    let options = Options { escape: Escape::Off, ..Options::default() };
    let session = run(console.clone(), client, false, options, input, TelnetOutlet(transport.clone()));
    tokio::select! {
        // First, so that it has joined the port before anything of the client is looked at.
        biased;
        ended = session => ended,
        ended = pump(console, &transport, typed_bytes, &feeder) => ended,
    }
}

/// The client's connection, as both directions use it.
struct Transport<O> {
    telnet: Mutex<Telnet>,
    /// Held for a whole piece, so that a reply does not stand between the bytes of an escaped one.
    outlet: tokio::sync::Mutex<O>,
    /// The client takes no data for now.
    suspended: watch::Sender<bool>,
    member: OnceLock<SessionId>,
    moves_at: Option<IpAddr>,
}

impl<O: Outlet> Transport<O> {
    fn telnet(&self) -> MutexGuard<'_, Telnet> {
        self.telnet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends negotiations and replies.
    async fn send(&self, wire: Vec<u8>) -> Result<(), Gone> {
        if wire.is_empty() {
            return Ok(());
        }
        self.outlet.lock().await.send(wire).await
    }
}

/// Where the session's words go.
struct TelnetOutlet<O>(Arc<Transport<O>>);

impl<O: Outlet> Outlet for TelnetOutlet<O> {
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        // The sender lives in the transport. A client that never resumes is a reader that falls behind.
        let _ = self.0.suspended.subscribe().wait_for(|suspended| !suspended).await;
        let mut outlet = self.0.outlet.lock().await;
        let mut wire = Vec::new();
        self.0.telnet().data(&bytes, &mut wire);
        outlet.send(wire).await
    }

    async fn notice(&mut self, text: String) -> Result<(), Gone> {
        self.0.outlet.lock().await.notice(text).await
    }

    fn attached(&mut self, id: SessionId) {
        // Said once.
        let _ = self.0.member.set(id);
        if let Ok(mut outlet) = self.0.outlet.try_lock() {
            outlet.attached(id);
        }
    }

    fn reached_at(&self) -> Option<IpAddr> {
        self.0.moves_at
    }
}

/// Takes what the client sends, no faster than the line does, until the client is gone.
async fn pump<O: Outlet>(
    console: Arc<Console>,
    transport: &Transport<O>,
    mut typed: Typed,
    feeder: &Feeder,
) -> SessionEnd {
    let Some(member) = transport.member.get().copied() else { return SessionEnd::Gone };
    let mut line = BorrowedLine::new(console, member);
    let mut ticks = interval(NOTIFY_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut out = Vec::new();
        let next = async {
            poll_fn(|context| feeder.poll_ready(context)).await;
            typed.next().await
        };
        tokio::select! {
            event = next => {
                let Some(event) = event else { return SessionEnd::Gone };
                let weight = event.weight();
                match event {
                    Event::Bytes(bytes) => receive(transport, &mut line, &bytes, feeder, &mut out).await,
                    Event::End => {
                        // What the client has sent is sent. Telnet has no half of a connection.
                        let _ = timeout(DRAIN_TIMEOUT, feeder.drained()).await;
                        return SessionEnd::Detached(None);
                    }
                    other => drop(feeder.feed(other)),
                }
                typed.settle(weight);
            }
            _ = ticks.tick(), if transport.telnet().com_port() => {
                for notification in line.look().await {
                    transport.telnet().command(&notification, &mut out);
                }
            }
        }
        if transport.send(out).await.is_err() {
            return SessionEnd::Gone;
        }
    }
}

async fn receive<O: Outlet>(
    transport: &Transport<O>,
    line: &mut BorrowedLine,
    bytes: &[u8],
    feeder: &Feeder,
    out: &mut Vec<u8>,
) {
    let events = transport.telnet().receive(bytes, out);
    for event in events {
        let replies = match event {
            telnet::Event::Data(data) => {
                feeder.feed(Event::Bytes(data));
                continue;
            }
            telnet::Event::Break => {
                feeder.feed(Event::Break);
                continue;
            }
            telnet::Event::ComPort(true) => line.modem_state().await.into_iter().collect(),
            telnet::Event::ComPort(false) => continue,
            telnet::Event::Command(Command::Suspend) => {
                transport.suspended.send_replace(true);
                continue;
            }
            telnet::Event::Command(Command::Resume) => {
                transport.suspended.send_replace(false);
                continue;
            }
            telnet::Event::Command(command) => line.command(command, feeder).await,
        };
        for reply in replies {
            transport.telnet().command(&reply, out);
        }
    }
}
