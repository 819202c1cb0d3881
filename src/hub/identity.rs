//! Whether the path of a port's device leads to a tty that is this port's, and to the one that people have had before their eyes.
//! Asked before each opening, and again whenever a link on the way changes while the tty is open.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::ownership::{Claims, Machine, Readiness, Record, leads};
use crate::port::PortName;

/// How long udev may take to begin with a new tty. Where it is at work, it gets as long as it gives its own workers (`event_timeout`,
/// `man udev.conf`). A tty without a record after that is one that udev does not care for.
const UDEV_IDLE: Duration = Duration::from_secs(5);
const UDEV_BUSY: Duration = Duration::from_secs(180);
/// At most so many names in a sentence.
const NAMED: usize = 4;

/// What may be done with the tty that the path leads to.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is this port's.
    Ours(Found),
    /// The path leads to no tty. Opening it tells why.
    Absent,
    /// udev has not made its links yet.
    Pending,
    /// It is another port's.
    NotOurs(String),
    /// It is not certain that it is the device that is meant.
    Refused(String),
}

/// A tty that may be opened.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) tty: u64,
    since: Option<u64>,
    place: Option<String>,
    /// What the log is to say about it.
    pub(super) remark: Option<String>,
}

/// Whether an open tty is this port's still.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Still {
    Ours,
    /// The path leads nowhere: an unplug that the tty has not heard of yet, or a link that was removed.
    Vanished,
    /// It is another's, or the path leads elsewhere.
    Moved(String),
}

/// The tty that was open last.
#[derive(Debug)]
struct Served {
    tty: u64,
    since: Option<u64>,
    place: Option<String>,
    /// When it was let go of (CLOCK_MONOTONIC, microseconds), and whether it was alive then.
    lost: Option<(u64, bool)>,
}

#[derive(Debug)]
pub(super) struct Identity {
    port: PortName,
    machine: Machine,
    served: Option<Served>,
    /// The tty that udev is waited for, and since when.
    pending: Option<(u64, Instant)>,
    /// Another adapter waits for somebody to confirm it; whether somebody has.
    asks: bool,
    confirmed: bool,
}

impl Identity {
    pub(super) fn new(port: PortName) -> Self {
        Self { port, machine: Machine::default(), served: None, pending: None, asks: false, confirmed: false }
    }

    /// The port is called so from now on.
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

    /// Whether it is worth asking again although nothing has changed.
    pub(super) fn awaits_udev(&self) -> bool {
        self.pending.is_some()
    }

    /// What may be done now; `watched` is whether a session is attached.
    pub(super) fn judge(&mut self, path: &Path, claims: &Claims, watched: bool) -> Verdict {
        self.asks = false;
        let Some(tty) = leads(path) else {
            self.pending = None;
            return Verdict::Absent;
        };
        let record = match self.machine.readiness(path, tty) {
            Readiness::Ready(record) => record,
            Readiness::Pending(busy) if self.has_patience(tty, busy) => return Verdict::Pending,
            Readiness::Pending(_) => self.machine.record(tty),
        };
        self.pending = None;
        // (A link that is away for a moment is judged while the line is served, which gives it time.)
        if leads(path).is_some()
            && let Some(why) = self.not_ours(path, claims, tty, record.as_ref())
        {
            return Verdict::NotOurs(why);
        }
        let record = record.unwrap_or_default();
        if record.links.iter().any(|link| link == path) {
            let namesakes = self.machine.namesakes(path, tty);
            if !namesakes.is_empty() {
                return Verdict::Refused(self.ambiguous(path, tty, &record, &namesakes));
            }
        }
        let Record { since, place, .. } = record;
        let mut found = Found { tty, since, place, remark: None };
        if self.is_another(&found) {
            let which = self.called(tty, found.place.as_deref());
            if watched && !self.confirmed {
                self.asks = true;
                return Verdict::Refused(format!(
                    "{} leads to another adapter than before, {which}, which was plugged in beside it; to go on with that one \
                     open the line anew (escape o) or: consolectl reload {}",
                    path.display(),
                    self.port
                ));
            }
            found.remark = Some(format!("{} is another adapter than before: {which}", self.port));
        }
        Verdict::Ours(found)
    }

    /// Somebody has seen what the port said.
    pub(super) fn confirm(&mut self) {
        self.confirmed = self.asks;
    }

    /// It is open.
    pub(super) fn opened(&mut self, Found { tty, since, place, .. }: Found) {
        self.confirmed = false;
        self.served = Some(Served { tty, since, place, lost: None });
    }

    /// A tty was taken over from the process before. It is this port's, or why not.
    pub(super) fn adopted(&mut self, path: &Path, claims: &Claims, tty: u64) -> Result<(), String> {
        let record = self.machine.record(tty);
        // (A link that is away for a moment is judged while the line is served, which gives it time.)
        if leads(path).is_some()
            && let Some(why) = self.not_ours(path, claims, tty, record.as_ref())
        {
            return Err(why);
        }
        let Record { since, place, .. } = record.unwrap_or_default();
        self.opened(Found { tty, since, place, remark: None });
        Ok(())
    }

    /// It is closed; whether it was `alive` until then.
    pub(super) fn closed(&mut self, alive: bool) {
        if let Some(served) = &mut self.served {
            served.lost.get_or_insert((now(), alive));
        }
    }

    /// The port is to have another device from now on: that is no surprise to anybody.
    pub(super) fn forget(&mut self) {
        self.served = None;
    }

    /// How it is with an open tty.
    pub(super) fn check(&self, path: &Path, claims: &Claims, tty: u64) -> Still {
        match leads(path) {
            None => Still::Vanished,
            Some(other) if other != tty => {
                Still::Moved(format!("{} leads to {} now", path.display(), self.called(other, None)))
            }
            Some(_) => match self.not_ours(path, claims, tty, self.machine.record(tty).as_ref()) {
                Some(why) => Still::Moved(why),
                None => Still::Ours,
            },
        }
    }

    fn has_patience(&mut self, tty: u64, busy: bool) -> bool {
        let since = match self.pending {
            Some((pending, since)) if pending == tty => since,
            _ => Instant::now(),
        };
        self.pending = Some((tty, since));
        since.elapsed() < if busy { UDEV_BUSY } else { UDEV_IDLE }
    }

    /// Why a tty is not this port's.
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
                format!("{kernel} is the device of the port {port} ({device} leads to it)")
            }
            None if clash == Some(self.port.as_str()) => format!(
                "{} leads to {kernel}, a second adapter with the serial number of the one that this port had: \
                 give the port its device by-path{}",
                path.display(),
                by_path(record)
            ),
            None => format!("{} leads to {kernel} no more", path.display()),
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

    /// Whether it is another adapter than the one that was open last, rather than that one in another place: it was there already when
    /// that one went.
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

    /// A tty as people call it.
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

/// CLOCK_MONOTONIC in microseconds, by which udev counts, too.
fn now() -> u64 {
    // It is always there (clock_gettime(2)).
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
    fn what_was_there_beside_the_adapter_that_went_is_another_one() {
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
        assert!(!identity.is_another(&found(10, 1000, "usb-1")), "the same tty, hung up by somebody");
    }

    #[test]
    fn a_link_that_leaves_a_living_tty_leads_to_another_one() {
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
