//! A session: somebody at a port. It pulls from the ring at its own pace, shows notices, hears escapes, and hands what its
//! client types to the hub if it is the one that writes. It does not know whether it is reached by SSH or
//! locally: that side gives it [`Typed`] events and an [`Outlet`].

mod console;
mod escape;
mod input;
mod output;
mod roster;
mod typed;

use std::future::Future;
use std::sync::Arc;

use tokio::sync::mpsc;

pub use console::Console;
use roster::Ears;
pub use roster::{Member, MemberId, Visitor, plain};
pub use typed::{Event, Feeder, Typed, typed};

/// The viewer's connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Where a session shows what it has. A send may wait as long as the viewer does not read.
pub trait Outlet: Send {
    /// The device's bytes, and on a terminal also what we say.
    fn send(&mut self, bytes: Vec<u8>) -> impl Future<Output = Result<(), Gone>> + Send;
    /// What we say to a viewer without a terminal, beside its bytes (standard error of an SSH client).
    fn aside(&mut self, text: String) -> impl Future<Output = Result<(), Gone>> + Send;
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
}

/// Where input stands between the two loops of a session.
struct Here {
    console: Arc<Console>,
    id: MemberId,
    user: String,
    terminal: bool,
    /// What the session says to its own viewer.
    own: mpsc::Sender<String>,
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
    let replay = if terminal { console.settings().replay } else { 0 };
    // Before anybody can see the session: from then on it misses nothing.
    let cursor = console.hub.session_cursor(console.hub.last_lines(replay));
    let user = visitor.user.clone();
    let (membership, Ears { notices, mut dismissal }) = console.join(visitor);
    let (own, answers) = mpsc::channel(16);
    let here = Here { console, id: membership.id, user, terminal, own };
    let output = output::run(&here, cursor, notices, answers, &mut outlet);
    let input = input::run(&here, typed);
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
