//! An alarm: one timer that is set anew all the time (`man timerfd_create`), by one system call. What a talking port does twenty times a
//! second has these: of tokio's timers, each one that becomes the earliest wakes its own thread once more, and each turn of the wheel under
//! it does so again. Where there is no descriptor left for a timer, tokio's do.

use std::io;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::time::Instant;

use crate::system::clock::reached;
use crate::system::reactor::{Timer, Watched};

/// See above.
#[derive(Debug)]
pub struct Alarm {
    timer: Option<Watched<Timer>>,
    at: Option<Instant>,
}

impl Alarm {
    /// One that is not set.
    pub fn new() -> Self {
        let timer = timer().inspect_err(|error| tracing::warn!("no timer: {error}")).ok();
        Self { timer, at: None }
    }

    /// Has it ring then and not before.
    pub fn set(&mut self, at: Option<Instant>) {
        if self.at == at {
            return;
        }
        self.at = at;
        if let Some((timer, at)) = self.timer.as_ref().zip(at)
            && let Err(error) = start(timer, at.saturating_duration_since(Instant::now()))
        {
            tracing::warn!("the timer cannot be set: {error}");
            self.timer = None;
        }
    }

    /// Waits until it rings; at once for as long as it is not set to another time. Cancel safe.
    pub async fn rings(&self) {
        let Some((timer, at)) = self.timer.as_ref().zip(self.at) else { return reached(self.at).await };
        while Instant::now() < at {
            // What has rung may be what it was set to before. An error would be the runtime's end.
            match timer.readable().await {
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return reached(self.at).await,
            }
        }
    }
}

impl Default for Alarm {
    fn default() -> Self {
        Self::new()
    }
}

fn timer() -> io::Result<Watched<Timer>> {
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?;
    Watched::new(Timer(timer), Interest::READABLE)
}

fn start(timer: &Watched<Timer>, after: Duration) -> io::Result<()> {
    // 0 would stop it.
    let after = Expiration::OneShot(TimeSpec::from_duration(after.max(Duration::from_nanos(1))));
    Ok(timer.get_ref().0.set(after, TimerSetTimeFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATE: Duration = Duration::from_secs(10);

    async fn rings(alarm: &Alarm) -> Duration {
        let began = Instant::now();
        tokio::time::timeout(LATE, alarm.rings()).await.expect("it does not ring");
        began.elapsed()
    }

    #[tokio::test]
    async fn it_rings_when_it_was_set_to_last() {
        for mut alarm in [Alarm::new(), Alarm { timer: None, at: None }] {
            let after = |millis| Some(Instant::now() + Duration::from_millis(millis));
            alarm.set(after(60_000));
            alarm.set(after(20));
            assert!(rings(&alarm).await >= Duration::from_millis(15));
            // And goes on ringing: the minute that it was set to first is longer than `rings` waits.
            rings(&alarm).await;
            alarm.set(after(1));
            std::thread::sleep(Duration::from_millis(5));
            alarm.set(after(40));
            assert!(rings(&alarm).await >= Duration::from_millis(35), "what was due before is no more");
            alarm.set(after(0));
            rings(&alarm).await;
        }
    }

    #[tokio::test]
    async fn one_that_is_not_set_is_silent() {
        let mut alarm = Alarm::new();
        alarm.set(Some(Instant::now()));
        alarm.set(None);
        assert!(tokio::time::timeout(Duration::from_millis(50), alarm.rings()).await.is_err());
    }
}
