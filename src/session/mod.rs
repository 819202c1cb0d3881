//! A session: somebody at a port. It pulls from the ring at its own pace, shows notices, hears escapes, and hands what its
//! client types to the hub if it is the one that writes. It does not know whether it is reached by SSH or
//! locally: that side gives it [`Typed`] events and an [`Outlet`].

mod console;
pub mod escape;
mod facts;
mod input;
mod menu;
mod output;
pub mod replay;
mod roster;
pub mod timestamps;
mod typed;

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Notify, Semaphore, mpsc};

use crate::hub::BreakEvent;
use crate::port::PortName;

pub use console::{Console, LAST_WORDS, Membership, Neighbours, closed};
pub use facts::facts;
pub use output::say;
pub use roster::{Ears, Member, MemberId, Visitor, plain};
pub use typed::{Event, Feeder, GRANT, Typed, typed, typed_by_grants};

/// The viewer's connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Where a session shows what it has. A send may wait as long as the viewer does not read.
pub trait Outlet: Send {
    /// The device's bytes, and on a terminal also what we say.
    fn send(&mut self, bytes: Vec<u8>) -> impl Future<Output = Result<(), Gone>> + Send;
    /// What we say to a viewer without a terminal, beside its bytes (standard error of an SSH client).
    fn aside(&mut self, text: String) -> impl Future<Output = Result<(), Gone>> + Send;
    /// Whether its client can go to another console by itself.
    fn moves(&self) -> bool {
        false
    }
}

/// How a session came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The user left by escape or end of input.
    Left,
    /// The connection is gone.
    Gone,
    /// We ended it: why.
    Closed(String),
    /// The user goes on at another console; only where [`Outlet::moves`].
    Moved(PortName),
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
const ANSWERS: usize = 16;

/// Where input stands between the two loops of a session.
#[derive(Clone)]
struct Here {
    console: Arc<Console>,
    id: MemberId,
    user: String,
    terminal: bool,
    moves: bool,
    own: mpsc::Sender<Answer>,
    /// What becomes of the breaks that it has asked for.
    breaks: mpsc::Sender<BreakEvent>,
    /// A pipe that has sent something sends no more, and the line has been given all of it.
    piped: Arc<Notify>,
    /// What takes its time is done one at a time, so that a key held down does not pile it up.
    errands: Arc<Semaphore>,
}

impl Here {
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

/// Runs a session until it ends. `terminal` is whether the viewer has one: without, there are no banner, replay,
/// notices in the stream and escapes.
pub async fn run<O: Outlet>(
    console: Arc<Console>,
    visitor: Visitor,
    terminal: bool,
    typed: Typed,
    mut outlet: O,
) -> Ended {
    let lines = if terminal { console.settings().replay } else { 0 };
    // Before anybody can see the session: from then on it misses nothing.
    let (replay, head) = console.hub.last_words(lines);
    let cursor = console.hub.session_cursor(head);
    let user = visitor.user.clone();
    let (membership, Ears { notices, mut dismissal }) = console.join(visitor);
    let (own, answers) = mpsc::channel(ANSWERS);
    let (moves, errands) = (outlet.moves(), Arc::new(Semaphore::new(1)));
    let piped = Arc::new(Notify::new());
    let (breaks, break_events) = mpsc::channel(ANSWERS);
    let here = Here { console, id: membership.id, user, terminal, moves, own, breaks, piped, errands };
    if let Some(news) = here.console.news().filter(|_| terminal) {
        here.say(news);
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
        Ok(why) = &mut dismissal => Ended::Closed(why),
    };
    if let Ended::Closed(why) = &ended {
        // Bounded: a viewer that has stopped reading does not learn why, and holds nobody up.
        let last_words = output::say(&mut outlet, terminal, why);
        let _ = tokio::time::timeout(console::LAST_WORDS, last_words).await;
    }
    // Last, because the process may end once nobody is attached.
    drop(membership);
    ended
}
