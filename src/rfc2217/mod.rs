//! RFC 2217 at a port: a session over telnet with the COM port control option, for programs that expect a
//! serial line (pyserial, labgrid, COM port redirectors). It is an ordinary session: it competes for write
//! access, is noted in the log, and can be disconnected by an administrator. The settings of the client are
//! on a lease that ends with the client ([`line`]).

mod line;

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::session::{
    AttachedUser, Console, Escape, Event, Feeder, Gone, Options, Outlet, QueuedInput, SessionEnd, SessionId,
    input_queue, run,
};
use crate::system::lock::Lock;
use crate::telnet::{self, Command, Role, Telnet};
use line::BorrowedLine;

/// Interval at which the modem lines and error counters are polled for a client: the kernel's notification of
/// changes (TIOCMIWAIT) would need one thread per client.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(250);

/// Time for the device to accept the remaining input of a client that has closed its connection; then the rest is
/// discarded.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves a client until it disconnects or the port ends its session. `typed` is its input, and `outlet` its
/// output, both encoded as telnet.
pub async fn serve<O: Outlet + Send + 'static>(
    console: Arc<Console>,
    client: AttachedUser,
    typed_bytes: QueuedInput,
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
    transport.telnet.locked().start(&mut requests);
    if transport.send(requests).await.is_err() {
        return SessionEnd::Gone;
    }
    let (feeder, input) = input_queue();
    let options = Options { escape: Escape::Off, ..Options::default() };
    let session = run(console.clone(), client, false, options, input, TelnetOutlet(transport.clone()));
    tokio::select! {
        // First, so that the session is attached before input of the client is processed.
        biased;
        ended = session => ended,
        ended = pump(console, &transport, typed_bytes, &feeder) => ended,
    }
}

/// The client's connection, shared by both directions.
struct Transport<O> {
    telnet: Mutex<Telnet>,
    /// Held for a whole chunk, so that a reply is not inserted between the two bytes of an escaped one.
    outlet: tokio::sync::Mutex<O>,
    /// The client has suspended the output.
    suspended: watch::Sender<bool>,
    member: OnceLock<SessionId>,
    moves_at: Option<IpAddr>,
}

impl<O: Outlet> Transport<O> {
    async fn send(&self, wire: Vec<u8>) -> Result<(), Gone> {
        if wire.is_empty() {
            return Ok(());
        }
        self.outlet.lock().await.send(wire).await
    }
}

/// The output of the session.
struct TelnetOutlet<O>(Arc<Transport<O>>);

impl<O: Outlet> Outlet for TelnetOutlet<O> {
    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        // The sender is in the transport, which outlives this. A client that does not resume falls behind
        // like any slow reader.
        let _ = self.0.suspended.subscribe().wait_for(|suspended| !suspended).await;
        let mut outlet = self.0.outlet.lock().await;
        let mut wire = Vec::new();
        self.0.telnet.locked().data(&bytes, &mut wire);
        outlet.send(wire).await
    }

    async fn notice(&mut self, text: String) -> Result<(), Gone> {
        self.0.outlet.lock().await.notice(text).await
    }

    fn attached(&mut self, id: SessionId) {
        // Reported once.
        let _ = self.0.member.set(id);
        if let Ok(mut outlet) = self.0.outlet.try_lock() {
            outlet.attached(id);
        }
    }

    fn reached_at(&self) -> Option<IpAddr> {
        self.0.moves_at
    }
}

/// Reads the client's input, at the rate at which the device accepts it, until the client disconnects.
async fn pump<O: Outlet>(
    console: Arc<Console>,
    transport: &Transport<O>,
    mut typed: QueuedInput,
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
                        // All input of the client was sent to the device. Telnet has no half-closed
                        // connections.
                        let _ = timeout(DRAIN_TIMEOUT, feeder.drained()).await;
                        return SessionEnd::Detached(None);
                    }
                    other => drop(feeder.feed(other)),
                }
                typed.settle(weight);
            }
            _ = ticks.tick(), if transport.telnet.locked().com_port() => {
                for notification in line.look().await {
                    transport.telnet.locked().command(&notification, &mut out);
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
    let events = transport.telnet.locked().receive(bytes, out);
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
            transport.telnet.locked().command(&reply, out);
        }
    }
}
