//! What is wrong with an open line: errors that the driver has counted, another program that uses the device, settings that the driver has
//! refused. Reported to the log, the journal and STATUS.

use std::path::Path;
use std::sync::Arc;

use tokio::time::Instant;

use super::Hub;
use super::quality::{self, Quality};
use super::sharing::{Seen, Sharing};
use super::stream::Stream;
use crate::serial::{Counters, Tty};

/// The checks of a line and their last results.
#[derive(Debug)]
pub(super) struct Checks {
    hub: Arc<Hub>,
    quality: Quality,
    sharing: Sharing,
    /// Settings that the driver refused, a sentence each.
    refused: Vec<String>,
    /// What another program does with the device, if one uses it.
    meddled: Option<String>,
    /// When the driver's counters may be read next.
    next_check: Instant,
    due: Option<Instant>,
}

impl Checks {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            quality: Quality::default(),
            sharing: Sharing::default(),
            refused: Vec::new(),
            meddled: None,
            next_check: Instant::now(),
            due: None,
        }
    }

    pub(super) fn opened(&mut self, tty: &Tty) {
        (self.sharing, self.meddled) = (Sharing::default(), None);
        self.adopted(tty);
    }

    /// The device was left open by the process before.
    pub(super) fn adopted(&mut self, tty: &Tty) {
        self.quality = Quality::since(tty.counters());
    }

    /// When [`Self::run`] is due, because output has come since the counters were read.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// A read follows within the coalescing window, and checks.
    pub(super) fn wait_for_read(&mut self) {
        self.due = None;
    }

    /// Checks the device that is open by this path, unless it was checked just now; `xonxoff`: its driver consumes some bytes itself.
    pub(super) fn run(&mut self, stream: &Stream, path: &Path, xonxoff: bool) {
        let Some(tty) = stream.tty() else {
            self.due = None;
            return;
        };
        let now = Instant::now();
        if now < self.next_check {
            // Even if the device sends nothing more, errors of its last output are found.
            self.due = Some(self.next_check);
            return;
        }
        self.next_check = now + quality::CHECK_INTERVAL;
        self.due = None;
        let counters = tty.counters();
        self.check_sharing(tty, path, xonxoff, now, counters);
        let Some(counters) = counters else { return };
        for said in self.quality.update(now.into_std(), counters) {
            self.hub.report(said);
        }
    }

    /// Reports if another program also reads the device, or has taken it: a login prompt, a terminal program of root.
    fn check_sharing(
        &mut self,
        tty: &Tty,
        path: &Path,
        xonxoff: bool,
        now: Instant,
        counters: Option<Counters>,
    ) {
        if !self.sharing.is_due(now.into_std()) {
            return;
        }
        // A driver without counters has received 0 bytes, of which none are missing.
        let Counters { rx, overrun, buffer_overrun, .. } = counters.unwrap_or_default();
        let lost = overrun.wrapping_add(buffer_overrun);
        let here = self.hub.traffic().0 + tty.unread() as u64;
        let taken = self.sharing.update(now.into_std(), Seen { received: rx, lost, here });
        let taken = taken.filter(|_| !xonxoff).map(|bytes| {
            let path = path.display();
            format!(
                "another program also reads {path} and has taken {bytes} bytes: run `fuser -v {path}` as root to find it"
            )
        });
        let meddled = Tty::denied(path).map(|why| format!("{why} (the port still has it open)")).or(taken);
        if let Some(meddled) = meddled.as_ref().filter(|_| self.meddled.is_none()) {
            self.hub.report(meddled.clone());
        }
        if meddled != self.meddled {
            self.meddled = meddled;
            self.publish();
        }
    }

    /// The driver has refused these of the current settings, a sentence each.
    pub(super) fn set_refused(&mut self, refused: Vec<String>) {
        self.refused = refused;
        self.publish();
    }

    fn publish(&self) {
        self.hub.refused.send_replace(self.refused.iter().chain(&self.meddled).cloned().collect());
    }
}
