//! Whether the path of a port's device leads to a tty that belongs to this port, and to the adapter that users expect there.
//! Checked before each opening, and again whenever a link on the way changes while the tty is open.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::ownership::{Claims, Machine, Readiness, Record, leads};
use crate::port::PortName;

/// How long udev may take to begin with a new tty. While it is at work, it gets as long as it gives its own workers (`event_timeout`,
/// `man udev.conf`). A tty without a record after that is one that udev ignores.
const UDEV_IDLE: Duration = Duration::from_secs(5);
const UDEV_BUSY: Duration = Duration::from_secs(180);
/// Limit of names in a sentence.
const NAMED: usize = 4;

/// What may be done with the tty that the path leads to.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The tty belongs to this port.
    Ours(Found),
    /// The path leads to no tty. Opening it reports why.
    Absent,
    /// udev has not created its links yet.
    Pending,
    /// It belongs to another port.
    NotOurs(String),
    /// The tty may not be the intended device.
    Rejected(String),
}

/// A tty that may be opened.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) tty: u64,
    since: Option<u64>,
    place: Option<String>,
    pub(super) remark: Option<String>,
}

/// Whether an open tty still belongs to this port.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Still {
    Ours,
    /// The path leads nowhere: an unplug that the tty has not reported yet, or a removed link.
    Vanished,
    /// It belongs to another port, or the path leads elsewhere.
    Moved(String),
}

/// The tty that was open last.
#[derive(Debug)]
struct Served {
    tty: u64,
    since: Option<u64>,
    place: Option<String>,
    /// When it was closed (CLOCK_MONOTONIC, microseconds), and whether it was alive then.
    lost: Option<(u64, bool)>,
}

#[derive(Debug)]
pub(super) struct Identity {
    port: PortName,
    machine: Machine,
    served: Option<Served>,
    /// The tty for which the port waits for udev, and since when.
    pending: Option<(u64, Instant)>,
    /// Whether another adapter needs confirmation by a user, and whether a user has confirmed.
    asks: bool,
    confirmed: bool,
}

impl Identity {
    pub(super) fn new(port: PortName) -> Self {
        Self { port, machine: Machine::default(), served: None, pending: None, asks: false, confirmed: false }
    }

    pub(super) fn rename(&mut self, port: PortName) {
        self.port = port;
    }

    /// Paths whose change can change the verdict.
    pub(super) fn watched(&self, path: &Path, claims: &Claims) -> Vec<PathBuf> {
        let others = claims.iter().filter(|claim| claim.by_device).map(|claim| claim.path.clone());
        let record = leads(path).map(|tty| self.machine.record_path(tty));
        let mut paths: Vec<PathBuf> = others.chain(record).filter(|other| other != path).collect();
        paths.push(path.to_owned());
        paths
    }

    /// Whether to check again soon although nothing has changed.
    pub(super) fn awaits_udev(&self) -> bool {
        self.pending.is_some()
    }

    /// Decides what may be done with the tty now; `watched`: a session is attached.
    pub(super) fn judge(&mut self, path: &Path, claims: &Claims, watched: bool) -> Verdict {
        self.asks = false;
        let Some(tty) = leads(path) else {
            self.pending = None;
            return Verdict::Absent;
        };
        let record = match self.machine.readiness(path, tty) {
            Readiness::Ready(record) => record,
            Readiness::Pending(busy) if self.may_wait_for_udev(tty, busy) => return Verdict::Pending,
            Readiness::Pending(_) => self.machine.record(tty),
        };
        self.pending = None;
        // (A link that is missing for a moment is judged while the line is served, which gives it time.)
        if leads(path).is_some()
            && let Some(why) = self.not_ours(path, claims, tty, record.as_ref())
        {
            return Verdict::NotOurs(why);
        }
        let record = record.unwrap_or_default();
        if record.links.iter().any(|link| link == path) {
            let namesakes = self.machine.namesakes(path, tty);
            if !namesakes.is_empty() {
                return Verdict::Rejected(self.ambiguous(path, tty, &record, &namesakes));
            }
        }
        let Record { since, place, .. } = record;
        let mut found = Found { tty, since, place, remark: None };
        if self.is_another(&found) {
            let which = self.called(tty, found.place.as_deref());
            if watched && !self.confirmed {
                self.asks = true;
                return Verdict::Rejected(format!(
                    "{} points to another adapter than before, {which}, which was plugged in at the same time as the previous \
                     one; to use it, reopen the tty (escape o), or: consolectl reload {}",
                    path.display(),
                    self.port
                ));
            }
            found.remark = Some(format!("{} is not the same adapter as before: {which}", self.port));
        }
        Verdict::Ours(found)
    }

    /// A user has seen the message.
    pub(super) fn confirm(&mut self) {
        self.confirmed = self.asks;
    }

    pub(super) fn opened(&mut self, Found { tty, since, place, .. }: Found) {
        self.confirmed = false;
        self.served = Some(Served { tty, since, place, lost: None });
    }

    /// A tty was taken over from the previous process: `Err` if it does not belong to this port, with the reason.
    pub(super) fn adopted(&mut self, path: &Path, claims: &Claims, tty: u64) -> Result<(), String> {
        let record = self.machine.record(tty);
        // (A link that is missing for a moment is judged while the line is served, which gives it time.)
        if leads(path).is_some()
            && let Some(why) = self.not_ours(path, claims, tty, record.as_ref())
        {
            return Err(why);
        }
        let Record { since, place, .. } = record.unwrap_or_default();
        self.opened(Found { tty, since, place, remark: None });
        Ok(())
    }

    /// Notes that the tty was closed; `alive`: its device worked until then.
    pub(super) fn closed(&mut self, alive: bool) {
        if let Some(served) = &mut self.served {
            served.lost.get_or_insert((now(), alive));
        }
    }

    /// The configured device changes, so another adapter is expected.
    pub(super) fn forget(&mut self) {
        self.served = None;
    }

    pub(super) fn check(&self, path: &Path, claims: &Claims, tty: u64) -> Still {
        match leads(path) {
            None => Still::Vanished,
            Some(other) if other != tty => {
                Still::Moved(format!("{} now points to {}", path.display(), self.called(other, None)))
            }
            Some(_) => match self.not_ours(path, claims, tty, self.machine.record(tty).as_ref()) {
                Some(why) => Still::Moved(why),
                None => Still::Ours,
            },
        }
    }

    fn may_wait_for_udev(&mut self, tty: u64, busy: bool) -> bool {
        let since = match self.pending {
            Some((pending, since)) if pending == tty => since,
            _ => Instant::now(),
        };
        self.pending = Some((tty, since));
        since.elapsed() < if busy { UDEV_BUSY } else { UDEV_IDLE }
    }

    /// Why a tty does not belong to this port.
    fn not_ours(&self, path: &Path, claims: &Claims, tty: u64, record: Option<&Record>) -> Option<String> {
        let clash = record.and_then(|record| record.clash.as_deref());
        let owner = claims.owner(tty, clash, leads);
        if owner.is_some_and(|owner| owner.port == self.port) {
            return None;
        }
        let kernel = self.called(tty, None);
        Some(match owner {
            Some(owner) => {
                let (port, device) = (&owner.port, owner.path.display());
                format!("{kernel} is the device of the port {port} ({device} points to it)")
            }
            None if clash == Some(self.port.as_str()) => format!(
                "{} points to {kernel}, a second adapter with the serial number of the one that this port had: \
                 give the port its device by-path{}",
                path.display(),
                by_path(record)
            ),
            None => format!("{} no longer points to {kernel}", path.display()),
        })
    }

    fn ambiguous(&self, path: &Path, tty: u64, record: &Record, namesakes: &[(u64, Record)]) -> String {
        let others = namesakes.iter().map(|(tty, record)| (*tty, record));
        let all: Vec<String> = std::iter::once((tty, record))
            .chain(others)
            .take(NAMED)
            .map(|(tty, record)| self.called(tty, None) + &by_path(Some(record)))
            .collect();
        format!(
            "{} is the name of {} adapters with the same serial number: {}; give the port its device by-path",
            path.display(),
            namesakes.len() + 1,
            all.join(", ")
        )
    }

    /// Whether it is another adapter than the one that was open last, rather than that one in another place: it was plugged in already when
    /// that one was unplugged.
    fn is_another(&self, found: &Found) -> bool {
        let Some(Served { tty, since, place, lost: Some((lost, alive)) }) = &self.served else {
            return false;
        };
        if (*tty, *since) == (found.tty, found.since) {
            return false;
        }
        let elsewhere = place.is_some() && found.place.is_some() && *place != found.place;
        *alive && *tty != found.tty || elsewhere && found.since.is_some_and(|since| since < *lost)
    }

    fn called(&self, tty: u64, place: Option<&str>) -> String {
        let name = self.machine.kernel_name(tty);
        let name = name.map_or_else(|| format!("tty {}", device_number(tty)), |name| format!("/dev/{name}"));
        place.map_or_else(|| name.clone(), |place| format!("{name} at {place}"))
    }
}

fn device_number(tty: u64) -> String {
    format!("{}:{}", nix::sys::stat::major(tty), nix::sys::stat::minor(tty))
}

fn by_path(record: Option<&Record>) -> String {
    let link = record.and_then(|record| record.name("by-path"));
    link.map(|link| format!(" ({})", link.display())).unwrap_or_default()
}

/// CLOCK_MONOTONIC in microseconds, which udev uses, too.
fn now() -> u64 {
    // This clock always exists (clock_gettime(2)).
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |now| now.tv_sec() as u64 * 1_000_000 + now.tv_nsec() as u64 / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tty: u64, since: u64, place: &str) -> Found {
        Found { tty, since: Some(since), place: Some(place.to_owned()), remark: None }
    }

    #[test]
    fn a_tty_from_before_the_unplug_is_another_adapter() {
        let mut identity = Identity::new("one".parse().unwrap());
        identity.opened(found(10, 1000, "usb-1"));
        identity.closed(false);
        let lost = identity.served.as_ref().and_then(|served| served.lost).unwrap().0;
        assert!(identity.is_another(&found(11, 2000, "usb-2")), "it was there before the first one went");
        assert!(
            !identity.is_another(&found(11, lost + 1, "usb-2")),
            "it may be the same one, plugged in elsewhere"
        );
        assert!(
            !identity.is_another(&found(11, 2000, "usb-1")),
            "the same socket, and we were slow to notice"
        );
        assert!(!identity.is_another(&found(10, 1000, "usb-1")), "the same tty after a hang-up");
    }

    #[test]
    fn a_link_that_left_a_working_tty_leads_to_another_adapter() {
        let mut identity = Identity::new("one".parse().unwrap());
        let pty = |tty| Found { tty, since: None, place: None, remark: None };
        identity.opened(pty(10));
        identity.closed(true);
        assert!(identity.is_another(&pty(11)));
        assert!(!identity.is_another(&pty(10)), "it came back");
        identity.opened(pty(10));
        identity.closed(false);
        assert!(!identity.is_another(&pty(11)), "plugged out and in again");
    }
}
