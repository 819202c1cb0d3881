//! A session: a user attached to a port. It reads the ring at its own pace, prints notices, interprets escape commands, and passes
//! the client's input to the hub if it has write access. It is the same over SSH and over the local socket: the transport gives it
//! [`Typed`] events and an [`Outlet`].

mod commands;
mod console;
pub mod escape;
mod info;
mod input;
mod input_queue;
mod options;
mod output;
mod power;
pub mod replay;
mod roster;
pub mod timestamps;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, Semaphore, mpsc};

use crate::config::{self, EscapePrefix, Right};
use crate::hub::{BreakEvent, LineState};
use crate::port::PortName;
use crate::system::clock::clock;

pub(crate) use console::PackedPorts;
pub use console::{Console, DRAIN_TIMEOUT, Directory, PortList, SessionGuard, closed};
pub use info::status_rows;
pub use input_queue::{Event, Feeder, QueuedInput, WINDOW_GRANT_BYTES, input_queue, input_queue_by_grants};
pub use options::{Escape, Options};
pub use output::notify;
pub use roster::{AttachedSession, AttachedUser, Notifications, SessionId, plain};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// The client's end of a session. A send waits while the client does not read.
pub trait Outlet: Send {
    /// Sends device output; on a terminal, notices too.
    fn send(&mut self, bytes: Vec<u8>) -> impl Future<Output = Result<(), Gone>> + Send;
    /// The session is in the roster under this number.
    fn attached(&mut self, _id: SessionId) {}
    /// Sends a notice to a client without a terminal, on a second stream (standard error of an SSH client).
    fn notice(&mut self, text: String) -> impl Future<Output = Result<(), Gone>> + Send;
    /// Whether the client can switch to another console itself.
    fn can_switch(&self) -> bool {
        false
    }
    /// The local address that the client connected to, if it connected over the network.
    fn reached_at(&self) -> Option<IpAddr> {
        None
    }
}

/// How a session ended, each with the notice that is printed last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// The user detached by an escape command or by end of input.
    Detached(Option<String>),
    /// End of input, but not all of it was sent to the device.
    Unsent(String),
    Gone,
    Closed(String),
    /// An administrator disconnected the user.
    Disconnected(String),
    /// The user switches to another console; only if [`Outlet::can_switch`].
    Switched(PortName, Option<String>),
}

/// Output for this session's client only.
#[derive(Debug)]
enum Reply {
    Notice(String),
    /// Echo of the line that the user is editing.
    Echo(Vec<u8>),
    Replay(usize),
    Timestamps,
}

/// Replies queued for a client; further ones are dropped if it does not read.
const REPLY_QUEUE: usize = 16;

/// Shared by the input loop and the output loop of a session.
#[derive(Clone)]
struct Context {
    console: Arc<Console>,
    id: SessionId,
    user: String,
    terminal: bool,
    options: Options,
    can_switch: bool,
    reached_at: Option<IpAddr>,
    replies: mpsc::Sender<Reply>,
    /// Progress of the breaks that this session requested.
    breaks: mpsc::Sender<BreakEvent>,
    input_outcome: Arc<InputOutcome>,
    /// One slow command at a time, so that a key held down does not queue them up.
    commands: Arc<Semaphore>,
}

/// How much of a session's input was sent.
#[derive(Default)]
struct InputOutcome {
    /// End of input, and the tty has taken all of it or never will.
    input_ended: Notify,
    /// Some input was passed to the hub.
    sent: AtomicBool,
    unsent: AtomicBool,
}

impl InputOutcome {
    /// How the session ends after end of input.
    fn session_end(&self) -> SessionEnd {
        match (self.unsent.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed)) {
            (false, _) => SessionEnd::Detached(None),
            (true, true) => SessionEnd::Unsent("not all of the input was sent".to_owned()),
            (true, false) => SessionEnd::Unsent("no input was sent".to_owned()),
        }
    }
}

impl Context {
    fn prefix(&self, settings: &config::Port) -> Option<EscapePrefix> {
        let prefix = match self.options.escape {
            Escape::AsConfigured => settings.escape,
            Escape::Off => None,
            Escape::Prefix(prefix) => Some(prefix),
        };
        prefix.filter(|_| self.terminal)
    }

    /// Why the session ends if the device is in this state; `None` if it continues.
    fn ends_with_device(&self, line: &LineState) -> Option<String> {
        let name = &self.console.name();
        if self.options.watch || !self.options.no_reconnect && self.console.settings().reconnect {
            return None;
        }
        match line {
            LineState::Starting | LineState::Open(_) | LineState::OnTrial(..) => None,
            LineState::Away(since) => Some(format!("{name} unplugged {}: session closed", clock(*since))),
            LineState::Disconnected(since, why) => {
                Some(format!("{name} disconnected {}: {why}: session closed", clock(*since)))
            }
            LineState::Failed(why) | LineState::NotOurs(why) => Some(format!("{why}: session closed")),
        }
    }

    fn notify(&self, text: String) {
        self.reply(Reply::Notice(text));
    }

    fn reply(&self, answer: Reply) {
        // Full: see REPLY_QUEUE.
        let _ = self.replies.try_send(answer);
    }

    /// Runs a slow command in a task of its own.
    fn spawn_command<F: Future<Output = ()> + Send + 'static>(&self, errand: impl FnOnce(Self) -> F) {
        match self.commands.clone().try_acquire_owned() {
            Ok(permit) => {
                let errand = errand(self.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    errand.await;
                });
            }
            Err(_) => self.notify("the previous command is still in progress".to_owned()),
        }
    }
}

/// Runs a session until it ends. Without a `terminal` there is no banner and no replay, escape commands are off, and notices go
/// to a second stream.
pub async fn run<O: Outlet>(
    console: Arc<Console>,
    mut client: AttachedUser,
    terminal: bool,
    options: Options,
    typed: QueuedInput,
    mut outlet: O,
) -> SessionEnd {
    if options.watch {
        client.right = Right::Watch;
    }
    let lines = if terminal { console.settings().replay } else { 0 };
    // Before the session is in the roster, so that it misses nothing that follows.
    let (replay, head) = console.hub.last_words(lines);
    let cursor = console.hub.session_cursor(head);
    let user = client.user.clone();
    let (membership, Notifications { notices, disconnect: mut dismissal }) = console.attach(client);
    outlet.attached(membership.id);
    let (own, answers) = mpsc::channel(REPLY_QUEUE);
    let (moves, reached_at, errands) =
        (outlet.can_switch(), outlet.reached_at(), Arc::new(Semaphore::new(1)));
    let fate = Arc::default();
    let (breaks, break_events) = mpsc::channel(REPLY_QUEUE);
    let here = Context {
        console,
        id: membership.id,
        user,
        terminal,
        options,
        can_switch: moves,
        reached_at,
        replies: own,
        breaks,
        input_outcome: fate,
        commands: errands,
    };
    if options.force {
        commands::take_over(&here);
    }
    let stale = here.console.stale().borrow().clone();
    if let Some(warning) = stale.filter(|_| terminal) {
        here.notify(warning);
    }
    let output = output::run(&here, (cursor, replay), notices, answers, &mut outlet);
    typed.hold_pastes();
    let input = input::run(&here, typed, break_events);
    let ended = tokio::select! {
        ended = output => ended,
        ended = input => ended,
        Ok(why) = &mut dismissal => SessionEnd::Disconnected(why),
    };
    let last_notice = async {
        match &ended {
            SessionEnd::Closed(why)
            | SessionEnd::Disconnected(why)
            | SessionEnd::Unsent(why)
            | SessionEnd::Detached(Some(why))
            | SessionEnd::Switched(_, Some(why)) => output::notify(&mut outlet, terminal, why).await,
            // So that the client's last message, or the shell's prompt, starts on a new line.
            SessionEnd::Detached(None) if terminal => outlet.send(b"\r\n".to_vec()).await,
            SessionEnd::Detached(None) | SessionEnd::Gone | SessionEnd::Switched(_, None) => Ok(()),
        }
    };
    // Bounded: a client that has stopped reading does not get the notice, and does not delay the end.
    let _ = tokio::time::timeout(console::DRAIN_TIMEOUT, last_notice).await;
    // Last, because the process may exit when no session is left.
    drop(membership);
    ended
}
