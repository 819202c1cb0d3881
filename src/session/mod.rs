//! A session: somebody at a port. It pulls from the ring at its own pace, shows notices, hears escapes, and hands what its
//! client types to the hub if it is the one that writes. It does not know whether it is reached by SSH or
//! locally: that side gives it [`Typed`] events and an [`Outlet`].

mod commands;
mod console;
pub mod escape;
mod info;
mod input;
mod input_queue;
mod options;
mod output;
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

pub use console::{Console, Directory, LAST_WORDS, Membership, Neighbours, closed};
pub use info::facts;
pub use input_queue::{Event, Feeder, Typed, WINDOW_GRANT_BYTES, typed, typed_by_grants};
pub use options::{Escape, Options};
pub use output::say;
pub use roster::{AttachedUser, Member, MemberId, Notifications, plain};

/// The viewer's connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Where a session shows what it has. A send may wait as long as the viewer does not read.
pub trait Outlet: Send {
    /// The device's bytes, and on a terminal also what we say.
    fn send(&mut self, bytes: Vec<u8>) -> impl Future<Output = Result<(), Gone>> + Send;
    /// What we say to a viewer without a terminal, beside its bytes (standard error of an SSH client).
    fn aside(&mut self, text: String) -> impl Future<Output = Result<(), Gone>> + Send;
    /// The session has joined the roster as this member.
    fn joined(&mut self, _id: MemberId) {}
    /// Whether its client can go to another console by itself.
    fn moves(&self) -> bool {
        false
    }
    /// The address of this machine that its client has come to, if it has come by a network.
    fn reached_at(&self) -> Option<IpAddr> {
        None
    }
}

/// How a session came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The user left by escape or end of input; what there is to say of that.
    Left(Option<String>),
    /// The input has ended, but not all of its input was sent to the device: what there is to say of that.
    Unsent(String),
    /// The connection is gone.
    Gone,
    /// We ended it: why.
    Closed(String),
    /// An administrator ended it: what there is to say of that.
    Dismissed(String),
    /// The user goes on at another console, only where [`Outlet::moves`]; what there is to say of that.
    Moved(PortName, Option<String>),
}

/// What a session says to its own viewer.
#[derive(Debug)]
enum Answer {
    /// Words of ours.
    Said(String),
    /// Characters of a line that the viewer enters.
    Echo(Vec<u8>),
    /// So many lines again.
    Replay(usize),
    /// The time before each line, or no longer.
    Timestamps,
}

/// Answers that may wait for a viewer. One that does not read will not miss further ones.
const REPLY_QUEUE: usize = 16;

/// Where input stands between the two loops of a session.
#[derive(Clone)]
struct Here {
    console: Arc<Console>,
    id: MemberId,
    user: String,
    terminal: bool,
    options: Options,
    moves: bool,
    reached_at: Option<IpAddr>,
    own: mpsc::Sender<Answer>,
    /// What becomes of the breaks that it has asked for.
    breaks: mpsc::Sender<BreakEvent>,
    fate: Arc<InputFate>,
    /// What takes its time is done one at a time, so that a key held down does not pile it up.
    errands: Arc<Semaphore>,
}

/// What has become of the input of a session.
#[derive(Default)]
struct InputFate {
    /// A pipe sends no more, and the line has taken what was for it, or never will.
    input_ended: Notify,
    /// Whether anything was handed to the line.
    sent: AtomicBool,
    /// Whether anything was not.
    unsent: AtomicBool,
}

impl InputFate {
    /// How a session ends whose input has.
    fn left(&self) -> Ended {
        match (self.unsent.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed)) {
            (false, _) => Ended::Left(None),
            (true, true) => Ended::Unsent("not all of the input was sent".to_owned()),
            (true, false) => Ended::Unsent("nothing was sent".to_owned()),
        }
    }
}

impl Here {
    /// The escape prefix of this session.
    fn prefix(&self, settings: &config::Port) -> Option<EscapePrefix> {
        let prefix = match self.options.escape {
            Escape::AsConfigured => settings.escape,
            Escape::Off => None,
            Escape::Prefix(prefix) => Some(prefix),
        };
        prefix.filter(|_| self.terminal)
    }

    /// Why this session ends with a device in this state; `None` if it goes on.
    fn ends_with(&self, line: &LineState) -> Option<String> {
        let name = &self.console.name();
        if self.options.watch || !self.options.no_reconnect && self.console.settings().reconnect {
            return None;
        }
        match line {
            LineState::Starting | LineState::Open(_) => None,
            LineState::Away(since) => {
                Some(format!("{name} unplugged {}: the session ends with it", clock(*since)))
            }
            LineState::Failed(why) | LineState::NotOurs(why) => {
                Some(format!("{why}: the session ends with it"))
            }
        }
    }

    /// Says something to this session's own viewer.
    fn say(&self, text: String) {
        self.tell(Answer::Said(text));
    }

    fn tell(&self, answer: Answer) {
        // Full: see ANSWERS.
        let _ = self.own.try_send(answer);
    }

    /// Does something that takes its time beside the session.
    fn errand<F: Future<Output = ()> + Send + 'static>(&self, errand: impl FnOnce(Self) -> F) {
        match self.errands.clone().try_acquire_owned() {
            Ok(permit) => {
                let errand = errand(self.clone());
                tokio::spawn(async move {
                    let _permit = permit;
                    errand.await;
                });
            }
            Err(_) => self.say("one thing at a time: the last one is not done".to_owned()),
        }
    }
}

/// Runs a session until it ends, as its `options` say. `terminal` is whether the viewer has one: without, there are no banner, replay,
/// notices in the stream and escapes.
pub async fn run<O: Outlet>(
    console: Arc<Console>,
    mut client: AttachedUser,
    terminal: bool,
    options: Options,
    typed: Typed,
    mut outlet: O,
) -> Ended {
    if options.watch {
        client.right = Right::Watch;
    }
    let lines = if terminal { console.settings().replay } else { 0 };
    // Before anybody can see the session: from then on it misses nothing.
    let (replay, head) = console.hub.last_words(lines);
    let cursor = console.hub.session_cursor(head);
    let user = client.user.clone();
    let (membership, Notifications { notices, mut dismissal }) = console.join(client);
    outlet.joined(membership.id);
    let (own, answers) = mpsc::channel(REPLY_QUEUE);
    let (moves, reached_at, errands) = (outlet.moves(), outlet.reached_at(), Arc::new(Semaphore::new(1)));
    let fate = Arc::default();
    let (breaks, break_events) = mpsc::channel(REPLY_QUEUE);
    let here = Here {
        console,
        id: membership.id,
        user,
        terminal,
        options,
        moves,
        reached_at,
        own,
        breaks,
        fate,
        errands,
    };
    if options.force {
        commands::take_over(&here);
    }
    let stale = here.console.stale().borrow().clone();
    if let Some(warning) = stale.filter(|_| terminal) {
        here.say(warning);
    }
    let output = output::run(&here, (cursor, replay), notices, answers, &mut outlet);
    typed.hold_pastes();
    let input = input::run(&here, typed, break_events);
    let ended = tokio::select! {
        ended = output => ended,
        ended = input => ended,
        Ok(why) = &mut dismissal => Ended::Dismissed(why),
    };
    let last_words = async {
        match &ended {
            Ended::Closed(why)
            | Ended::Dismissed(why)
            | Ended::Unsent(why)
            | Ended::Left(Some(why))
            | Ended::Moved(_, Some(why)) => output::say(&mut outlet, terminal, why).await,
            // What the client says then, or a shell, begins on a line of its own.
            Ended::Left(None) if terminal => outlet.send(b"\r\n".to_vec()).await,
            Ended::Left(None) | Ended::Gone | Ended::Moved(_, None) => Ok(()),
        }
    };
    // Bounded: a viewer that has stopped reading does not learn why, and holds nobody up.
    let _ = tokio::time::timeout(console::LAST_WORDS, last_words).await;
    // Last, because the process may end once nobody is attached.
    drop(membership);
    ended
}
