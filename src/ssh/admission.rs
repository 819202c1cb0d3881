//! Admission of unauthenticated connections. Each costs memory, and a login helper process from its first authentication attempt,
//! so their number is bounded. Clients that hold all slots (idle, slow or sending garbage) must not lock out an administrator:
//! when no slot is free, a new connection evicts an existing one. Connections that have not reached authentication are evicted
//! first: those that have sent the least, then those from addresses without a recent login, then those of the address with the
//! most connections. Login helpers are scarcer, since all ports share them: a connection waits in a queue for one.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use super::reputation::Standings;
use super::throttle::{Pace, Turn};

/// Unauthenticated connections of one port: where sshd refuses all (`MaxStartups`). The longest packets of so many are 25 MB.
const MAX_UNAUTHENTICATED_PER_PORT: usize = 100;
/// Of those, from one address (an IPv6 /64 is one): everybody behind a bastion at once, and room for others.
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
/// Of those, from one address: twenty users behind a bastion host who all type a password.
pub(super) const MAX_LOGINS_PER_SOURCE: usize = 24;
/// Of those, from an address with too many failed logins ([`super::reputation`]). At 64 ports this leaves a quarter of all helpers
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
    left: Notify,
    pace: Arc<Pace>,
}

#[derive(Debug, Default)]
struct Waiting {
    slots: Vec<Arc<Slot>>,
    standings: Standings,
}

/// One unauthenticated connection.
#[derive(Debug)]
pub struct Slot {
    source: IpAddr,
    since: Instant,
    heard: AtomicUsize,
    at_login: AtomicBool,
    /// The client has logged in.
    logged_in: AtomicBool,
    /// Whether it has requested a login helper, and since when it has one.
    wants: AtomicBool,
    asks: OnceLock<Instant>,
    lost: Notify,
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
    pub fn hears(&self, count: usize) {
        self.heard.fetch_add(count, Ordering::Relaxed);
    }

    /// The key exchange is done and the client has requested authentication.
    pub fn comes_to_login(&self) {
        self.at_login.store(true, Ordering::Relaxed);
    }

    /// Waits until another connection has evicted this one.
    pub async fn lost(&self) {
        self.lost.notified().await;
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

    fn has_had_time(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= LOGIN_PROTECTION_TIME
    }

    fn waits(&self) -> bool {
        self.wants.load(Ordering::Relaxed) && self.asks.get().is_none()
    }

    /// How much of the handshake it has sent: 0 nothing, 1 a version line, 2 a key exchange.
    fn level(&self) -> usize {
        let heard = self.heard.load(Ordering::Relaxed);
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
    /// Has just connected.
    Fresh,
    /// Has just connected and has sent a version line.
    FreshVersion,
    /// Has sent a key exchange.
    Speaks,
}

impl Slots {
    /// A place for a connection from `peer` that came at `now`; `None` when there is none to be had.
    pub fn take(&self, peer: IpAddr, now: Instant) -> Option<Arc<Slot>> {
        let source = source_of(peer);
        let mut waiting = self.lock();
        let from_here = count(&waiting.slots, source);
        if from_here >= MAX_UNAUTHENTICATED_PER_SOURCE {
            let own = |slot: &Slot| slot.source == source;
            let loser = waiting.loser(now, |slot| own(slot) && !slot.is_at_login());
            let loser = loser.or_else(|| waiting.loser(now, |slot| own(slot) && slot.has_had_time(now)))?;
            self.takes(&mut waiting, loser);
        } else if waiting.slots.len() >= MAX_UNAUTHENTICATED_PER_PORT {
            let loser = waiting.loser(now, |slot| !slot.is_at_login()).or_else(|| {
                // Who has more than the newcomer then has.
                waiting.loser(now, |slot| {
                    slot.has_had_time(now) && count(&waiting.slots, slot.source) > from_here + 1
                })
            })?;
            self.takes(&mut waiting, loser);
        }
        let slot = Arc::new(Slot {
            source,
            since: now,
            heard: AtomicUsize::default(),
            at_login: AtomicBool::default(),
            logged_in: AtomicBool::default(),
            wants: AtomicBool::default(),
            asks: OnceLock::new(),
            lost: Notify::new(),
            turn: Turn::new(self.pace.clone()),
        });
        waiting.slots.push(slot.clone());
        if waiting.slots.len() >= CROWD_SIZE {
            self.crowd.store(true, Ordering::Relaxed);
        }
        Some(slot)
    }

    /// Whether many have been here, and nobody is now; said once.
    pub fn crowd_has_left(&self) -> bool {
        self.lock().slots.is_empty() && self.crowd.swap(false, Ordering::Relaxed)
    }

    /// Somebody has logged in there.
    pub fn logs_in(&self, slot: &Slot, now: Instant) {
        slot.logged_in.store(true, Ordering::Relaxed);
        slot.turn.leave();
        self.lock().standings.succeeds(slot.source, now);
    }

    /// Whoever had this place waits no longer.
    pub fn give_back(&self, slot: &Arc<Slot>, now: Instant) {
        slot.turn.leave();
        let mut waiting = self.lock();
        waiting.slots.retain(|other| !Arc::ptr_eq(other, slot));
        if slot.asks.get().is_some() && !slot.logged_in.load(Ordering::Relaxed) {
            waiting.standings.fails(slot.source, now);
        }
        drop(waiting);
        self.left.notify_waiters();
    }

    fn takes(&self, waiting: &mut Waiting, loser: usize) {
        let loser = waiting.slots.remove(loser);
        loser.turn.leave();
        loser.lost.notify_one();
        self.left.notify_waiters();
    }

    /// Waits until this one may have a helper; false if that takes too long, or the place is lost.
    pub async fn turn(&self, slot: &Arc<Slot>) -> bool {
        let until = Instant::now() + LOGIN_QUEUE_TIMEOUT;
        slot.wants.store(true, Ordering::Relaxed);
        loop {
            let left = self.left.notified();
            let now = Instant::now();
            match self.may_ask(slot, now) {
                Some(false) if now < until => {
                    // Whichever it is: it is looked again.
                    let _ = timeout(CHECK_INTERVAL, left).await;
                }
                turn => return turn == Some(true),
            }
        }
    }

    /// Whether it may have a helper at `now`; `None` if it has no place any more. Who comes from an address that has none takes that of
    /// one who has had time, and is first where one is free; who comes from one that has enough, that of one who has had time there.
    fn may_ask(&self, slot: &Arc<Slot>, now: Instant) -> Option<bool> {
        let mut waiting = self.lock();
        let slots = &waiting.slots;
        slots.iter().find(|other| Arc::ptr_eq(other, slot))?;
        if slot.asks.get().is_some() {
            return Some(true);
        }
        let asking =
            |source| slots.iter().filter(|slot| slot.source == source && slot.asks.get().is_some()).count();
        let from_here = asking(slot.source);
        let enough = |source| match waiting.standings.is_suspect(source, now) {
            true => MAX_LOGINS_PER_SUSPECT,
            false => MAX_LOGINS_PER_SOURCE,
        };
        let first = slots.iter().any(|other| {
            let there = asking(other.source);
            other.waits() && there < from_here && there < enough(other.source)
        });
        let all = slots.iter().enumerate().filter_map(|(index, slot)| Some((index, slot, *slot.asks.get()?)));
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
            self.takes(&mut waiting, loser);
        }
        slot.asks.get_or_init(|| now);
        Some(true)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Who of those that `may` lose their place does: the first such in the order of their coming.
    fn loser(&self, now: Instant, may: impl Fn(&Slot) -> bool) -> Option<usize> {
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
        slot.lost().now_or_never().is_some()
    }

    /// As many as have a place, from so many addresses in turn.
    fn full(slots: &Slots, now: Instant, addresses: usize) -> Vec<Arc<Slot>> {
        (0..MAX_UNAUTHENTICATED_PER_PORT)
            .map(|index| slots.take(host(index % addresses), now).unwrap())
            .collect()
    }

    #[test]
    fn one_source_takes_its_places_from_itself_only() {
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
            slot.comes_to_login();
        }
        let second = slots.take(near, now).unwrap();
        second.comes_to_login();
        assert!(slots.take(near, now).is_none(), "all of its own are at the login");
        assert!(slots.take(near, now + LOGIN_PROTECTION_TIME).is_some());
        assert!(is_lost(&taken[1]) && !is_lost(&taken[2]), "it has had time");
        assert!(!is_lost(&far));
    }

    #[test]
    fn all_sources_together_are_bounded_and_nothing_stays_behind() {
        let (slots, now) = (Slots::default(), Instant::now());
        let taken: Vec<_> = (0..200).filter_map(|number| slots.take(host(number), now)).collect();
        assert_eq!(slots.lock().slots.len(), MAX_UNAUTHENTICATED_PER_PORT);
        assert_eq!(
            taken.iter().filter(|slot| is_lost(slot)).count(),
            taken.len() - MAX_UNAUTHENTICATED_PER_PORT
        );
        assert!(!slots.crowd_has_left());
        taken.iter().for_each(|slot| slots.give_back(slot, now));
        assert!(slots.lock().slots.is_empty());
        assert!(slots.crowd_has_left() && !slots.crowd_has_left());
    }

    #[test]
    fn who_has_fewer_places_is_safe_from_those_who_have_more() {
        let (slots, now) = (Slots::default(), Instant::now());
        full(&slots, now, 4);
        let newcomer = slots.take(host(100), now).unwrap();
        for number in 0..200 {
            slots.take(host(number % 4), now).unwrap();
        }
        assert!(!is_lost(&newcomer));
    }

    #[test]
    fn who_speaks_is_safe_from_those_who_do_not_and_who_is_at_the_login_from_all() {
        let (slots, now) = (Slots::default(), Instant::now());
        let held = full(&slots, now, MAX_UNAUTHENTICATED_PER_PORT);
        held[0].hears(KEY_EXCHANGE_BYTES);
        held[1].comes_to_login();
        for number in 0..MAX_UNAUTHENTICATED_PER_PORT - 2 {
            slots.take(host(100 + number), now).unwrap();
        }
        assert!(!is_lost(&held[0]) && !is_lost(&held[1]));
        assert!(held[2..].iter().all(|slot| is_lost(slot)), "first come, first to go");
    }

    #[test]
    fn who_has_sent_a_version_line_is_safe_from_silence_and_a_known_address_from_unknown_ones() {
        let (slots, now) = (Slots::default(), Instant::now());
        let at_bastion: Vec<_> = (0..48).map(|_| slots.take(host(200), now).unwrap()).collect();
        let silent: Vec<_> =
            (48..MAX_UNAUTHENTICATED_PER_PORT).map(|number| slots.take(host(number), now).unwrap()).collect();
        at_bastion.iter().for_each(|slot| slot.hears(VERSION_BYTES));
        for number in 0..2 * MAX_UNAUTHENTICATED_PER_PORT {
            slots.take(host(number % 50), now).unwrap();
        }
        assert!(silent.iter().any(|slot| is_lost(slot)));
        assert!(!at_bastion.iter().any(|slot| is_lost(slot)), "although they have most");

        slots.logs_in(&at_bastion[0], now);
        for number in 0..2 * MAX_UNAUTHENTICATED_PER_PORT {
            slots.take(host(number % 50), now).unwrap().hears(VERSION_BYTES);
        }
        assert!(!at_bastion.iter().any(|slot| is_lost(slot)), "somebody is known there");
    }

    #[test]
    fn half_open_connections_leave_newcomers_the_time_to_speak() {
        let (slots, now) = (Slots::default(), Instant::now());
        let half_open = full(&slots, now, MAX_UNAUTHENTICATED_PER_PORT);
        half_open.iter().for_each(|slot| slot.hears(VERSION_BYTES));
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
    fn where_nobody_ever_gets_in_few_may_ask_at_once() {
        let (slots, now) = (Slots::default(), Instant::now());
        let come = |number| slots.take(host(number), now).unwrap();
        for _ in 0..MAX_LOGINS_PER_SOURCE {
            let guesser = come(1);
            assert_eq!(slots.may_ask(&guesser, now), Some(true));
            slots.give_back(&guesser, now);
        }
        let guessers: Vec<_> = (0..MAX_LOGINS_PER_SOURCE).map(|_| come(1)).collect();
        let ask = |now| guessers.iter().filter(|slot| slots.may_ask(slot, now) == Some(true)).count();
        assert_eq!(ask(now), MAX_LOGINS_PER_SUSPECT);
        slots.logs_in(&guessers[0], now);
        assert_eq!(ask(now), MAX_LOGINS_PER_SOURCE, "somebody has got in");
    }

    #[test]
    fn when_all_are_at_the_login_who_has_had_time_gives_way_to_who_has_less() {
        let (slots, now) = (Slots::default(), Instant::now());
        let held = full(&slots, now, 4);
        held.iter().for_each(|slot| slot.comes_to_login());
        assert!(slots.take(host(100), now).is_none(), "they may still be typing");
        let newcomer = slots.take(host(100), now + LOGIN_PROTECTION_TIME).unwrap();
        assert!(is_lost(&held[0]));
        newcomer.comes_to_login();
        assert!(slots.take(host(0), now + 2 * LOGIN_PROTECTION_TIME).is_none(), "the same as others have");

        let slots = Slots::default();
        let alone = full(&slots, now, MAX_UNAUTHENTICATED_PER_PORT);
        alone.iter().for_each(|slot| slot.comes_to_login());
        assert!(slots.take(host(100), now + 2 * LOGIN_PROTECTION_TIME).is_none(), "everybody has one");
    }
    #[test]
    fn one_source_leaves_helpers_to_others_and_who_has_had_time_gives_way() {
        let (slots, now) = (Slots::default(), Instant::now());
        let come = |number| slots.take(host(number), now).unwrap();
        let strangers: Vec<_> = (0..MAX_UNAUTHENTICATED_PER_SOURCE).map(|_| come(0)).collect();
        let asking = strangers.iter().filter(|slot| slots.may_ask(slot, now) == Some(true));
        assert_eq!(asking.count(), MAX_LOGINS_PER_SOURCE);
        assert_eq!(slots.may_ask(&strangers[0], now), Some(true), "once is for all its tries");
        assert_eq!(slots.may_ask(&strangers[MAX_LOGINS_PER_SOURCE], now), Some(false));
        for number in 1..=MAX_LOGINS - MAX_LOGINS_PER_SOURCE {
            assert_eq!(slots.may_ask(&come(number), now), Some(true));
        }
        let administrator = come(100);
        assert_eq!(slots.may_ask(&administrator, now), Some(false), "they may still be typing");
        assert_eq!(slots.may_ask(&administrator, now + LOGIN_PROTECTION_TIME), Some(true));
        assert!(is_lost(&strangers[0]), "of those who have most, the first");
        assert_eq!(slots.may_ask(&strangers[0], now), None);
    }

    #[test]
    fn whoever_has_left_prompts_standing_can_log_in_all_the_same() {
        let (slots, now) = (Slots::default(), Instant::now());
        let prompts: Vec<_> =
            (0..=MAX_LOGINS_PER_SOURCE).map(|_| slots.take(host(0), now).unwrap()).collect();
        let (last, forgotten) = prompts.split_last().unwrap();
        assert!(forgotten.iter().all(|slot| slots.may_ask(slot, now) == Some(true)));
        assert_eq!(slots.may_ask(last, now), Some(false));
        assert_eq!(slots.may_ask(last, now + LOGIN_PROTECTION_TIME), Some(true));
        assert!(is_lost(&forgotten[0]) && !is_lost(&forgotten[1]));
    }

    #[test]
    fn a_helper_that_is_free_is_for_an_address_that_has_fewer() {
        let (slots, now) = (Slots::default(), Instant::now());
        let come = |number| slots.take(host(number), now).unwrap();
        let held: Vec<_> = (0..MAX_LOGINS).map(|number| come(number % 4)).collect();
        assert!(held.iter().all(|slot| slots.may_ask(slot, now) == Some(true)));
        let (stranger, administrator) = (come(0), come(100));
        administrator.wants.store(true, Ordering::Relaxed);
        let late = now + 2 * LOGIN_PROTECTION_TIME;
        assert_eq!(slots.may_ask(&stranger, late), Some(false), "it takes nobody's");
        slots.give_back(&held[0], now);
        assert_eq!(slots.may_ask(&stranger, now), Some(false));
        assert_eq!(slots.may_ask(&administrator, now), Some(true));
    }

    #[tokio::test]
    async fn who_waits_for_a_helper_has_it_when_somebody_leaves() {
        let (slots, now) = (Slots::default(), Instant::now());
        let held: Vec<_> = (0..=MAX_LOGINS_PER_SOURCE).map(|_| slots.take(host(0), now).unwrap()).collect();
        for slot in &held[1..] {
            assert!(slots.turn(slot).await);
        }
        let turn = slots.turn(&held[0]);
        tokio::pin!(turn);
        assert_eq!((&mut turn).now_or_never(), None);
        slots.give_back(&held[1], now);
        assert_eq!(turn.now_or_never(), Some(true));
    }
}
