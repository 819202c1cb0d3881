//! Admission of unauthenticated connections. Each costs memory, and a login helper process from its first authentication attempt,
//! so their number is bounded. Clients that hold all slots (idle, slow or sending garbage) must not lock out an administrator:
//! when no slot is free, a new connection evicts an existing one. Connections that have not reached authentication are evicted
//! first: those that have sent the least, then those from addresses without a recent login, then those of the address with the
//! most connections. Login helpers are scarcer, since all ports share them: a connection waits in a queue for one.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use super::reputation::Reputations;
use super::throttle::{Pace, Turn};
use crate::system::lock::Lock;

/// Unauthenticated connections of one port: where sshd refuses all (`MaxStartups`). The longest packets of so many are 25 MB.
const MAX_UNAUTHENTICATED_PER_PORT: usize = 100;
/// Limit for one address (an IPv6 /64 is one): all users behind a bastion host, with room for others.
const MAX_UNAUTHENTICATED_PER_SOURCE: usize = 80;
/// Bytes of a version line (RFC 4253, section 4.2). A genuine client sends it at once; one that sends a byte a second does not.
const VERSION_BYTES: usize = 16;
/// Bytes, more than the longest version line, that a genuine client has sent as soon as it has received ours. A client that sends a
/// byte a second does not reach it within the grace time.
const KEY_EXCHANGE_BYTES: usize = 256;
/// Time for a new connection to send its version: a round trip to the other side of the world. Half of all slots suffice for it at
/// 250 new connections a second.
const MIN_SLOT_TIME: Duration = Duration::from_millis(200);
/// A connection that has reached authentication keeps its slot for this long after it connected: enough to type a password. Login
/// helpers that delay their answer to a wrong password are therefore never more than a few beyond the number of slots.
const LOGIN_PROTECTION_TIME: Duration = Duration::from_secs(20);
/// Connections of one port that may use a login helper at once: there are 256 helpers for all ports
/// (`console-auth-port.socket`).
const MAX_LOGINS: usize = 32;
/// Limit for one address: twenty users behind a bastion host who all type a password.
pub(super) const MAX_LOGINS_PER_SOURCE: usize = 24;
/// Limit for an address with too many failed logins ([`super::reputation`]). At 64 ports this leaves a quarter of all helpers
/// to other addresses.
const MAX_LOGINS_PER_SUSPECT: usize = 3;
/// Longest wait for a login helper: longer than [`LOGIN_PROTECTION_TIME`] of the connections ahead.
const LOGIN_QUEUE_TIMEOUT: Duration = Duration::from_secs(25);
/// Interval of the check for clients that have disconnected.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Number of simultaneous connections after which it is worth returning freed memory to the system.
const CROWD_SIZE: usize = 10;

/// The unauthenticated connections of a port.
#[derive(Debug, Default)]
pub struct Slots {
    waiting: Mutex<Waiting>,
    /// More than [`CROWD_SIZE`] connections were open at once.
    crowd: AtomicBool,
    /// Notified when a login helper becomes free.
    helper_freed: Notify,
    pace: Arc<Pace>,
}

#[derive(Debug, Default)]
struct Waiting {
    slots: Vec<Arc<Slot>>,
    standings: Reputations,
}

#[derive(Debug)]
pub struct Slot {
    source: IpAddr,
    since: Instant,
    received: AtomicUsize,
    at_login: AtomicBool,
    logged_in: AtomicBool,
    /// Whether it has requested a login helper, and since when it has one.
    wants_helper: AtomicBool,
    helper_since: OnceLock<Instant>,
    evicted: Notify,
    turn: Turn,
}

impl Slot {
    /// Ready when the connection may be read. Its first bytes cost next to nothing and show whether it speaks SSH, so they are never delayed.
    pub(super) fn poll_turn(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.level() < 2 { Poll::Ready(()) } else { self.turn.poll_begin(context) }
    }

    /// Its place in the throttle's queue.
    pub(super) fn turn(&self) -> &Turn {
        &self.turn
    }

    /// `count` bytes have been received.
    pub fn received(&self, count: usize) {
        self.received.fetch_add(count, Ordering::Relaxed);
    }

    /// The key exchange is done and the client has requested authentication.
    pub fn reached_login(&self) {
        self.at_login.store(true, Ordering::Relaxed);
    }

    /// Waits until another connection has evicted this one.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn is_at_login(&self) -> bool {
        self.at_login.load(Ordering::Relaxed)
    }

    fn rank(&self, now: Instant) -> Rank {
        let fresh = now.duration_since(self.since) < MIN_SLOT_TIME;
        match self.level() {
            0 if fresh => Rank::Fresh,
            0 => Rank::Silent,
            1 if fresh => Rank::FreshVersion,
            1 => Rank::HalfOpen,
            _ => Rank::Speaks,
        }
    }

    fn may_be_evicted(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= LOGIN_PROTECTION_TIME
    }

    fn waits(&self) -> bool {
        self.wants_helper.load(Ordering::Relaxed) && self.helper_since.get().is_none()
    }

    /// How much of the handshake it has sent: 0 nothing, 1 a version line, 2 a key exchange.
    fn level(&self) -> usize {
        let heard = self.received.load(Ordering::Relaxed);
        [VERSION_BYTES, KEY_EXCHANGE_BYTES].iter().filter(|bound| heard >= **bound).count()
    }
}

/// Order of eviction among the connections that have not reached authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Has sent nothing within [`MIN_SLOT_TIME`].
    Silent,
    /// Has sent only a version line within [`MIN_SLOT_TIME`]. Such connections must not keep the slots, which would leave new connections
    /// a single slot to evict each other from.
    HalfOpen,
    Fresh,
    /// Has just connected and has sent a version line.
    FreshVersion,
    /// Has sent a key exchange.
    Speaks,
}

impl Slots {
    /// A slot for a new connection from `peer`; `None` if no connection can be evicted.
    pub fn take(&self, peer: IpAddr, now: Instant) -> Option<Arc<Slot>> {
        let source = source_of(peer);
        let mut waiting = self.waiting.locked();
        let from_here = count(&waiting.slots, source);
        if from_here >= MAX_UNAUTHENTICATED_PER_SOURCE {
            let own = |slot: &Slot| slot.source == source;
            let loser = waiting.victim(now, |slot| own(slot) && !slot.is_at_login());
            let loser =
                loser.or_else(|| waiting.victim(now, |slot| own(slot) && slot.may_be_evicted(now)))?;
            self.evict(&mut waiting, loser);
        } else if waiting.slots.len() >= MAX_UNAUTHENTICATED_PER_PORT {
            let loser = waiting.victim(now, |slot| !slot.is_at_login()).or_else(|| {
                // A connection of an address that has more connections than that of the new one.
                waiting.victim(now, |slot| {
                    slot.may_be_evicted(now) && count(&waiting.slots, slot.source) > from_here + 1
                })
            })?;
            self.evict(&mut waiting, loser);
        }
        let slot = Arc::new(Slot {
            source,
            since: now,
            received: AtomicUsize::default(),
            at_login: AtomicBool::default(),
            logged_in: AtomicBool::default(),
            wants_helper: AtomicBool::default(),
            helper_since: OnceLock::new(),
            evicted: Notify::new(),
            turn: Turn::new(self.pace.clone()),
        });
        waiting.slots.push(slot.clone());
        if waiting.slots.len() >= CROWD_SIZE {
            self.crowd.store(true, Ordering::Relaxed);
        }
        Some(slot)
    }

    /// Whether a crowd of connections was here and all are gone; true once.
    pub fn crowd_has_left(&self) -> bool {
        self.waiting.locked().slots.is_empty() && self.crowd.swap(false, Ordering::Relaxed)
    }

    pub fn logged_in(&self, slot: &Slot, now: Instant) {
        slot.logged_in.store(true, Ordering::Relaxed);
        slot.turn.leave();
        self.waiting.locked().standings.succeeds(slot.source, now);
    }

    pub fn release(&self, slot: &Arc<Slot>, now: Instant) {
        slot.turn.leave();
        let mut waiting = self.waiting.locked();
        waiting.slots.retain(|other| !Arc::ptr_eq(other, slot));
        if slot.helper_since.get().is_some() && !slot.logged_in.load(Ordering::Relaxed) {
            waiting.standings.fails(slot.source, now);
        }
        drop(waiting);
        self.helper_freed.notify_waiters();
    }

    fn evict(&self, waiting: &mut Waiting, loser: usize) {
        let loser = waiting.slots.remove(loser);
        loser.turn.leave();
        loser.evicted.notify_one();
        self.helper_freed.notify_waiters();
    }

    /// Waits until the connection may have a helper; false on timeout, or if it is evicted.
    pub async fn wait_for_helper(&self, slot: &Arc<Slot>) -> bool {
        let until = Instant::now() + LOGIN_QUEUE_TIMEOUT;
        slot.wants_helper.store(true, Ordering::Relaxed);
        loop {
            let left = self.helper_freed.notified();
            let now = Instant::now();
            match self.may_have_helper(slot, now) {
                Some(false) if now < until => {
                    // Checked again in either case.
                    let _ = timeout(CHECK_INTERVAL, left).await;
                }
                turn => return turn == Some(true),
            }
        }
    }

    /// Whether it may have a helper at `now`; `None` if it was evicted. A connection from an address without a helper is served first, and
    /// may evict one that has had its time; a connection from an address at its limit may evict only one of that address.
    fn may_have_helper(&self, slot: &Arc<Slot>, now: Instant) -> Option<bool> {
        let mut waiting = self.waiting.locked();
        let slots = &waiting.slots;
        slots.iter().find(|other| Arc::ptr_eq(other, slot))?;
        if slot.helper_since.get().is_some() {
            return Some(true);
        }
        let asking = |source| {
            slots.iter().filter(|slot| slot.source == source && slot.helper_since.get().is_some()).count()
        };
        let from_here = asking(slot.source);
        let enough = |source| match waiting.standings.is_suspect(source, now) {
            true => MAX_LOGINS_PER_SUSPECT,
            false => MAX_LOGINS_PER_SOURCE,
        };
        let first = slots.iter().any(|other| {
            let there = asking(other.source);
            other.waits() && there < from_here && there < enough(other.source)
        });
        let all = slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| Some((index, slot, *slot.helper_since.get()?)));
        let has_enough = from_here >= enough(slot.source);
        if first && !has_enough {
            return Some(false);
        }
        if has_enough || all.clone().count() >= MAX_LOGINS {
            let concerns =
                |other: &Slot| if has_enough { other.source == slot.source } else { from_here == 0 };
            let may = all.filter(|(_, other, since)| {
                concerns(other) && now.duration_since(*since) >= LOGIN_PROTECTION_TIME
            });
            let loser = may.min_by_key(|(_, slot, since)| (Reverse(asking(slot.source)), *since));
            let Some((loser, ..)) = loser else { return Some(false) };
            self.evict(&mut waiting, loser);
        }
        slot.helper_since.get_or_init(|| now);
        Some(true)
    }
}

impl Waiting {
    /// The connection to evict among those that `may` be: the first in the order of arrival.
    fn victim(&self, now: Instant, may: impl Fn(&Slot) -> bool) -> Option<usize> {
        let mut counts = HashMap::<IpAddr, usize>::new();
        self.slots.iter().for_each(|slot| *counts.entry(slot.source).or_default() += 1);
        let those = self.slots.iter().enumerate().filter(|(_, slot)| may(slot));
        let worth = |slot: &Slot| {
            let known = self.standings.is_known(slot.source, now);
            (slot.rank(now), known, Reverse(counts.get(&slot.source).copied()))
        };
        those.min_by_key(|(_, slot)| worth(slot)).map(|(index, _)| index)
    }
}

fn count(slots: &[Arc<Slot>], source: IpAddr) -> usize {
    slots.iter().filter(|slot| slot.source == source).count()
}

fn source_of(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) if address.is_loopback() => peer,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn host(number: usize) -> IpAddr {
        [192, 0, 2, number as u8].into()
    }

    fn is_lost(slot: &Slot) -> bool {
        slot.evicted().now_or_never().is_some()
    }

    /// All slots taken, from this many addresses in turn.
    fn full(slots: &Slots, now: Instant, addresses: usize) -> Vec<Arc<Slot>> {
        (0..MAX_UNAUTHENTICATED_PER_PORT)
            .map(|index| slots.take(host(index % addresses), now).unwrap())
            .collect()
    }

    #[test]
    fn a_source_at_its_limit_evicts_only_its_own_connections() {
        let (slots, now) = (Slots::default(), Instant::now());
        let near: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::ffff".parse().unwrap();
        let far = slots.take(host(7), now).unwrap();
        let taken: Vec<_> =
            (0..MAX_UNAUTHENTICATED_PER_SOURCE).map(|_| slots.take(near, now).unwrap()).collect();
        assert!(!taken.iter().any(|slot| is_lost(slot)));
        slots.take(neighbour, now).unwrap();
        assert!(is_lost(&taken[0]) && !is_lost(&taken[1]) && !is_lost(&far), "the same /64, the first there");
        for slot in &taken {
            slot.reached_login();
        }
        let second = slots.take(near, now).unwrap();
        second.reached_login();
        assert!(slots.take(near, now).is_none(), "all connections of this address are at the login");
        assert!(slots.take(near, now + LOGIN_PROTECTION_TIME).is_some());
        assert!(is_lost(&taken[1]) && !is_lost(&taken[2]), "it has had time");
        assert!(!is_lost(&far));
    }

    #[test]
    fn all_sources_together_are_bounded_and_all_slots_are_freed() {
        let (slots, now) = (Slots::default(), Instant::now());
        let taken: Vec<_> = (0..200).filter_map(|number| slots.take(host(number), now)).collect();
        assert_eq!(slots.waiting.locked().slots.len(), MAX_UNAUTHENTICATED_PER_PORT);
        assert_eq!(
            taken.iter().filter(|slot| is_lost(slot)).count(),
            taken.len() - MAX_UNAUTHENTICATED_PER_PORT
        );
        assert!(!slots.crowd_has_left());
        taken.iter().for_each(|slot| slots.release(slot, now));
        assert!(slots.waiting.locked().slots.is_empty());
        assert!(slots.crowd_has_left() && !slots.crowd_has_left());
    }

    #[test]
    fn an_address_with_few_connections_is_not_evicted_by_one_with_many() {
        let (slots, now) = (Slots::default(), Instant::now());
        full(&slots, now, 4);
        let newcomer = slots.take(host(100), now).unwrap();
        for number in 0..200 {
            slots.take(host(number % 4), now).unwrap();
        }
        assert!(!is_lost(&newcomer));
    }

    #[test]
    fn clients_that_speak_ssh_are_evicted_after_silent_ones_and_those_at_the_login_never() {
        let (slots, now) = (Slots::default(), Instant::now());
        let held = full(&slots, now, MAX_UNAUTHENTICATED_PER_PORT);
        held[0].received(KEY_EXCHANGE_BYTES);
        held[1].reached_login();
        for number in 0..MAX_UNAUTHENTICATED_PER_PORT - 2 {
            slots.take(host(100 + number), now).unwrap();
        }
        assert!(!is_lost(&held[0]) && !is_lost(&held[1]));
        assert!(held[2..].iter().all(|slot| is_lost(slot)), "first come, first to go");
    }

    #[test]
    fn silent_clients_are_evicted_before_clients_with_a_version_line_and_unknown_addresses_before_known_ones()
    {
        let (slots, now) = (Slots::default(), Instant::now());
        let at_bastion: Vec<_> = (0..48).map(|_| slots.take(host(200), now).unwrap()).collect();
        let silent: Vec<_> =
            (48..MAX_UNAUTHENTICATED_PER_PORT).map(|number| slots.take(host(number), now).unwrap()).collect();
        at_bastion.iter().for_each(|slot| slot.received(VERSION_BYTES));
        for number in 0..2 * MAX_UNAUTHENTICATED_PER_PORT {
            slots.take(host(number % 50), now).unwrap();
        }
        assert!(silent.iter().any(|slot| is_lost(slot)));
        assert!(!at_bastion.iter().any(|slot| is_lost(slot)), "although they have most");

        slots.logged_in(&at_bastion[0], now);
        for number in 0..2 * MAX_UNAUTHENTICATED_PER_PORT {
            slots.take(host(number % 50), now).unwrap().received(VERSION_BYTES);
        }
        assert!(!at_bastion.iter().any(|slot| is_lost(slot)), "the address is known");
    }

    #[test]
    fn half_open_connections_leave_new_clients_time_to_send_their_version() {
        let (slots, now) = (Slots::default(), Instant::now());
        let half_open = full(&slots, now, MAX_UNAUTHENTICATED_PER_PORT);
        half_open.iter().for_each(|slot| slot.received(VERSION_BYTES));
        let later = now + MIN_SLOT_TIME;
        let newcomers: Vec<_> = (0..MAX_UNAUTHENTICATED_PER_PORT / 2)
            .map(|number| slots.take(host(100 + number), later).unwrap())
            .collect();
        assert!(!newcomers.iter().any(|slot| is_lost(slot)));
        assert!(
            half_open[..MAX_UNAUTHENTICATED_PER_PORT / 2].iter().all(|slot| is_lost(slot)),
            "first come, first to go"
        );
        let last = slots.take(host(200), later + MIN_SLOT_TIME).unwrap();
        assert!(is_lost(&newcomers[0]) && !is_lost(&last), "silent for too long");
    }

    #[test]
    fn an_address_with_only_failed_logins_gets_few_helpers() {
        let (slots, now) = (Slots::default(), Instant::now());
        let come = |number| slots.take(host(number), now).unwrap();
        for _ in 0..MAX_LOGINS_PER_SOURCE {
            let guesser = come(1);
            assert_eq!(slots.may_have_helper(&guesser, now), Some(true));
            slots.release(&guesser, now);
        }
        let guessers: Vec<_> = (0..MAX_LOGINS_PER_SOURCE).map(|_| come(1)).collect();
        let ask = |now| guessers.iter().filter(|slot| slots.may_have_helper(slot, now) == Some(true)).count();
        assert_eq!(ask(now), MAX_LOGINS_PER_SUSPECT);
        slots.logged_in(&guessers[0], now);
        assert_eq!(ask(now), MAX_LOGINS_PER_SOURCE, "a login succeeded");
    }

    #[test]
    fn when_all_are_at_the_login_the_address_with_most_connections_loses_one_that_has_had_its_time() {
        let (slots, now) = (Slots::default(), Instant::now());
        let held = full(&slots, now, 4);
        held.iter().for_each(|slot| slot.reached_login());
        assert!(slots.take(host(100), now).is_none(), "users may still be typing");
        let newcomer = slots.take(host(100), now + LOGIN_PROTECTION_TIME).unwrap();
        assert!(is_lost(&held[0]));
        newcomer.reached_login();
        assert!(
            slots.take(host(0), now + 2 * LOGIN_PROTECTION_TIME).is_none(),
            "its address has as many as the others"
        );

        let slots = Slots::default();
        let alone = full(&slots, now, MAX_UNAUTHENTICATED_PER_PORT);
        alone.iter().for_each(|slot| slot.reached_login());
        assert!(slots.take(host(100), now + 2 * LOGIN_PROTECTION_TIME).is_none(), "every address has one");
    }
    #[test]
    fn a_source_leaves_helpers_to_others_and_loses_one_that_has_had_its_time() {
        let (slots, now) = (Slots::default(), Instant::now());
        let come = |number| slots.take(host(number), now).unwrap();
        let strangers: Vec<_> = (0..MAX_UNAUTHENTICATED_PER_SOURCE).map(|_| come(0)).collect();
        let asking = strangers.iter().filter(|slot| slots.may_have_helper(slot, now) == Some(true));
        assert_eq!(asking.count(), MAX_LOGINS_PER_SOURCE);
        assert_eq!(
            slots.may_have_helper(&strangers[0], now),
            Some(true),
            "a helper is for all attempts of a connection"
        );
        assert_eq!(slots.may_have_helper(&strangers[MAX_LOGINS_PER_SOURCE], now), Some(false));
        for number in 1..=MAX_LOGINS - MAX_LOGINS_PER_SOURCE {
            assert_eq!(slots.may_have_helper(&come(number), now), Some(true));
        }
        let administrator = come(100);
        assert_eq!(slots.may_have_helper(&administrator, now), Some(false), "users may still be typing");
        assert_eq!(slots.may_have_helper(&administrator, now + LOGIN_PROTECTION_TIME), Some(true));
        assert!(is_lost(&strangers[0]), "of those who have most, the first");
        assert_eq!(slots.may_have_helper(&strangers[0], now), None);
    }

    #[test]
    fn open_password_prompts_do_not_lock_out_their_own_address() {
        let (slots, now) = (Slots::default(), Instant::now());
        let prompts: Vec<_> =
            (0..=MAX_LOGINS_PER_SOURCE).map(|_| slots.take(host(0), now).unwrap()).collect();
        let (last, forgotten) = prompts.split_last().unwrap();
        assert!(forgotten.iter().all(|slot| slots.may_have_helper(slot, now) == Some(true)));
        assert_eq!(slots.may_have_helper(last, now), Some(false));
        assert_eq!(slots.may_have_helper(last, now + LOGIN_PROTECTION_TIME), Some(true));
        assert!(is_lost(&forgotten[0]) && !is_lost(&forgotten[1]));
    }

    #[test]
    fn a_free_helper_goes_to_an_address_with_fewer() {
        let (slots, now) = (Slots::default(), Instant::now());
        let come = |number| slots.take(host(number), now).unwrap();
        let held: Vec<_> = (0..MAX_LOGINS).map(|number| come(number % 4)).collect();
        assert!(held.iter().all(|slot| slots.may_have_helper(slot, now) == Some(true)));
        let (stranger, administrator) = (come(0), come(100));
        administrator.wants_helper.store(true, Ordering::Relaxed);
        let late = now + 2 * LOGIN_PROTECTION_TIME;
        assert_eq!(slots.may_have_helper(&stranger, late), Some(false), "it evicts none");
        slots.release(&held[0], now);
        assert_eq!(slots.may_have_helper(&stranger, now), Some(false));
        assert_eq!(slots.may_have_helper(&administrator, now), Some(true));
    }

    #[tokio::test]
    async fn a_waiting_connection_gets_a_freed_helper() {
        let (slots, now) = (Slots::default(), Instant::now());
        let held: Vec<_> = (0..=MAX_LOGINS_PER_SOURCE).map(|_| slots.take(host(0), now).unwrap()).collect();
        for slot in &held[1..] {
            assert!(slots.wait_for_helper(slot).await);
        }
        let turn = slots.wait_for_helper(&held[0]);
        tokio::pin!(turn);
        assert_eq!((&mut turn).now_or_never(), None);
        slots.release(&held[1], now);
        assert_eq!(turn.now_or_never(), Some(true));
    }
}
