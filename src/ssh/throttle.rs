//! Limits the time that unauthenticated connections may use. A key exchange takes a millisecond or more of the thread that also
//! carries the port's bytes, and any client may start one. Packets of unauthenticated connections are therefore processed one at a
//! time, in order of arrival, each followed by a pause of twice its processing time: together they use at most a third of the thread.

use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::system::lock::Lock;

/// Pause after each packet of an unauthenticated client, in multiples of its processing time.
const PAUSE_FACTOR: u32 = 2;
/// Pauses add up to this before they are made: the resolution of timers.
const TIMER_RESOLUTION: Duration = Duration::from_millis(1);

/// The queue of a listener's unauthenticated clients.
#[derive(Debug)]
pub(super) struct Pace {
    turn: Arc<Semaphore>,
    /// Pause that is due.
    debt: Mutex<Duration>,
}

#[derive(Debug)]
pub(super) struct Turn {
    pace: Arc<Pace>,
    state: Mutex<State>,
}

enum State {
    Idle,
    /// With the waker for when it becomes exempt.
    Queued(Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>, Waker),
    /// With the thread's CPU time at its start.
    Active(OwnedSemaphorePermit, Duration),
    /// The client has logged in, or its connection is being closed.
    Exempt,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Idle => "Outside",
            Self::Queued(..) => "Waits",
            Self::Active(..) => "Has",
            Self::Exempt => "Free",
        })
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), debt: Mutex::default() }
    }
}

impl Turn {
    /// A client that is not queued.
    pub(super) fn new(pace: Arc<Pace>) -> Self {
        Self { pace, state: Mutex::new(State::Idle) }
    }

    /// Ready when the client may be read.
    pub(super) fn poll_begin(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.locked();
        if let State::Idle = *state {
            let turn = self.pace.turn.clone();
            let turn = Box::pin(async move { turn.acquire_owned().await.ok() });
            *state = State::Queued(turn, context.waker().clone());
        }
        if let State::Queued(turn, waker) = &mut *state {
            waker.clone_from(context.waker());
            let permit = ready!(turn.as_mut().poll(context));
            *state = permit.map_or(State::Idle, |permit| State::Active(permit, thread_time()));
        }
        Poll::Ready(())
    }

    /// Its input is processed, or waits for something that takes no CPU time.
    pub(super) fn end(&self) {
        let mut state = self.state.locked();
        match mem::replace(&mut *state, State::Idle) {
            State::Active(permit, since) => self.pace.release(permit, thread_time().saturating_sub(since)),
            other => *state = other,
        }
    }

    /// Exempts the client, which has logged in or is being closed.
    pub(super) fn leave(&self) {
        self.end();
        if let State::Queued(_, waker) = mem::replace(&mut *self.state.locked(), State::Exempt) {
            waker.wake();
        }
    }
}

impl Pace {
    fn release(&self, permit: OwnedSemaphorePermit, took: Duration) {
        let mut debt = self.debt.locked();
        *debt += PAUSE_FACTOR * took;
        if *debt >= TIMER_RESOLUTION {
            let debt = mem::take(&mut *debt);
            tokio::spawn(async move {
                tokio::time::sleep(debt).await;
                drop(permit);
            });
        }
    }
}

/// CPU time of this thread.
fn thread_time() -> Duration {
    // Linux has this clock (clock_gettime(2)); without it there are no pauses.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(time: Duration) {
        let since = thread_time();
        while thread_time() - since < time {}
    }

    #[tokio::test]
    async fn clients_are_read_one_at_a_time_with_pauses_of_twice_their_time() {
        let pace = Arc::<Pace>::default();
        let turns: Vec<_> = (0..3).map(|_| Turn::new(pace.clone())).collect();
        let begun = |turn: &Turn| turn.poll_begin(&mut Context::from_waker(Waker::noop())).is_ready();
        assert!(begun(&turns[0]) && begun(&turns[0]), "its turn continues");
        assert!(!begun(&turns[1]) && !begun(&turns[2]));
        let took = Duration::from_millis(20);
        work(took);
        let ended = tokio::time::Instant::now();
        turns[0].end();
        turns[0].end();
        assert!(!begun(&turns[2]) && !begun(&turns[0]));
        std::future::poll_fn(|context| turns[1].poll_begin(context)).await;
        assert!(ended.elapsed() >= PAUSE_FACTOR * took, "{:?}", ended.elapsed());
        turns[1].end();
        assert!(begun(&turns[2]), "no pause without CPU time");
        assert!(!begun(&turns[0]));
        turns[0].leave();
        assert!(begun(&turns[0]), "it is exempt");
        drop(turns);
        assert!(begun(&Turn::new(pace)), "a dropped turn is free");
    }
}
