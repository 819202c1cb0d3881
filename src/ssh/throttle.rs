//! Limits the time that unauthenticated connections may use. A key exchange takes a millisecond or more of the thread that also
//! carries the port's bytes, and any client may start one. Packets of unauthenticated connections are therefore processed one at a
//! time, in order of arrival, each followed by a pause of twice its processing time: together they use at most a third of the thread.

use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// For others, after each stranger: so many times what that one took.
const FOR_OTHERS: u32 = 2;
/// What is owed to others until it is worth a timer, which has no finer ones.
const WORTH_A_TIMER: Duration = Duration::from_millis(1);

/// The turns of a listener's strangers.
#[derive(Debug)]
pub(super) struct Pace {
    turn: Arc<Semaphore>,
    /// Owed to others.
    debt: Mutex<Duration>,
}

/// One stranger's turn.
#[derive(Debug)]
pub(super) struct Turn {
    pace: Arc<Pace>,
    state: Mutex<State>,
}

enum State {
    Outside,
    /// And who is to be told if it need not wait any more.
    Waits(Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>, Waker),
    /// Since the thread's clock showed this.
    Has(OwnedSemaphorePermit, Duration),
    /// It is no stranger any more, or is leaving.
    Free,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Outside => "Outside",
            Self::Waits(..) => "Waits",
            Self::Has(..) => "Has",
            Self::Free => "Free",
        })
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), debt: Mutex::default() }
    }
}

impl Turn {
    /// A stranger whose turn has not come.
    pub(super) fn new(pace: Arc<Pace>) -> Self {
        Self { pace, state: Mutex::new(State::Outside) }
    }

    /// Ready when it may be heard.
    pub(super) fn poll_begin(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if let State::Outside = *state {
            let turn = self.pace.turn.clone();
            let turn = Box::pin(async move { turn.acquire_owned().await.ok() });
            *state = State::Waits(turn, context.waker().clone());
        }
        if let State::Waits(turn, waker) = &mut *state {
            waker.clone_from(context.waker());
            let permit = ready!(turn.as_mut().poll(context));
            *state = permit.map_or(State::Outside, |permit| State::Has(permit, thread_time()));
        }
        Poll::Ready(())
    }

    /// What was heard has been worked on, or waits for something that costs the thread nothing.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::Outside) {
            State::Has(permit, since) => self.pace.pass_on(permit, thread_time().saturating_sub(since)),
            other => *state = other,
        }
    }

    /// It waits for no turn any more: it has logged in, or is to see its end.
    pub(super) fn leave(&self) {
        self.end();
        if let State::Waits(_, waker) = mem::replace(&mut *self.lock(), State::Free) {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace {
    fn pass_on(&self, permit: OwnedSemaphorePermit, took: Duration) {
        let mut debt = self.debt.lock().unwrap_or_else(PoisonError::into_inner);
        *debt += FOR_OTHERS * took;
        if *debt >= WORTH_A_TIMER {
            let debt = mem::take(&mut *debt);
            tokio::spawn(async move {
                tokio::time::sleep(debt).await;
                drop(permit);
            });
        }
    }
}

/// What this thread has had of a processor.
fn thread_time() -> Duration {
    // It has that clock (clock_gettime(2)); without, nobody owes anything.
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
    async fn strangers_are_heard_one_at_a_time_and_others_have_twice_as_long_in_between() {
        let pace = Arc::<Pace>::default();
        let turns: Vec<_> = (0..3).map(|_| Turn::new(pace.clone())).collect();
        let begun = |turn: &Turn| turn.poll_begin(&mut Context::from_waker(Waker::noop())).is_ready();
        assert!(begun(&turns[0]) && begun(&turns[0]), "it has it");
        assert!(!begun(&turns[1]) && !begun(&turns[2]));
        let took = Duration::from_millis(20);
        work(took);
        let ended = tokio::time::Instant::now();
        turns[0].end();
        turns[0].end();
        assert!(!begun(&turns[2]) && !begun(&turns[0]));
        std::future::poll_fn(|context| turns[1].poll_begin(context)).await;
        assert!(ended.elapsed() >= FOR_OTHERS * took, "{:?}", ended.elapsed());
        turns[1].end();
        assert!(begun(&turns[2]), "what took nothing costs nothing");
        assert!(!begun(&turns[0]));
        turns[0].leave();
        assert!(begun(&turns[0]), "it is no stranger");
        drop(turns);
        assert!(begun(&Turn::new(pace)), "whoever leaves has no turn");
    }
}
