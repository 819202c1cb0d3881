//! The places of those who have connected and not logged in. Each costs memory, and a helper process from its first try to log
//! in, so they are bounded. Strangers who hold them all, silent or slow or talking nonsense, must not keep an administrator
//! out: whoever comes when there is none takes somebody's. It is taken from one that has not come as far as the login, first from one
//! that has said least to the purpose, then from an address from which nobody has logged in lately, and from the address that has most.
//! Helpers there are fewer still, because all ports share them: whoever wants one waits a while for their turn.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use super::pace::{Pace, Turn};
use super::standing::Standings;

/// Unauthenticated connections of one port: where sshd refuses all (`MaxStartups`). The longest packets of so many are 25 MB.
const PER_PORT: usize = 100;
/// Of those, from one address (an IPv6 /64 is one): everybody behind a bastion at once, and room for others.
const PER_SOURCE: usize = 80;
/// Bytes of a version line (RFC 4253, section 4.2), which one who means it sends at once, and one who sends a byte a second not so soon.
const VERSION: usize = 16;
/// Bytes, more than the longest version line, that one who means it has sent as soon as it has ours, and one who sends a byte a second
/// not in the whole grace time.
const SPEAKS: usize = 256;
/// At the login nobody loses their place before so long has gone since they connected: enough to type a password. What a refused
/// password keeps busy, a helper in its delay, is thus never more than a few beyond those that have places.
const AT_LOGIN: Duration = Duration::from_secs(20);
/// Of those who wait, so many may ask who they are at once, each of a helper: of these there are 256 for all ports
/// (`console-auth-port.socket`).
const ASKING: usize = 32;
/// Of those, from one address: twenty people behind a bastion who all type.
pub(super) const ASKING_PER_SOURCE: usize = 24;
/// Of those, from an address from which too many logins came to nothing ([`super::standing`]). At 64 ports it leaves a quarter of all
/// helpers to others.
const ASKING_PER_SUSPECT: usize = 3;
/// For one's turn to come: longer than somebody else is safe in theirs.
const TURN: Duration = Duration::from_secs(25);
/// How often it is looked whether somebody is no longer.
const LOOK: Duration = Duration::from_secs(1);
/// So many at once were a crowd, and what they have cost is worth giving back.
const CROWD: usize = 10;

/// Whoever is waiting at a port.
#[derive(Debug, Default)]
pub struct Places {
    waiting: Mutex<Waiting>,
    /// More came at once than do of themselves.
    crowd: AtomicBool,
    /// Told when somebody waits no longer.
    left: Notify,
    pace: Arc<Pace>,
}

#[derive(Debug, Default)]
struct Waiting {
    places: Vec<Arc<Place>>,
    standings: Standings,
}

/// One of them.
#[derive(Debug)]
pub struct Place {
    source: IpAddr,
    since: Instant,
    heard: AtomicUsize,
    at_login: AtomicBool,
    /// It is a stranger's no longer.
    logged_in: AtomicBool,
    /// It has wanted a helper, and since when it may have one.
    wants: AtomicBool,
    asks: OnceLock<Instant>,
    lost: Notify,
    turn: Turn,
}

impl Place {
    /// Ready when the connection may be read. What it says first costs next to nothing, and shows who speaks SSH: for that nobody waits.
    pub(super) fn poll_turn(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.level() < 2 { Poll::Ready(()) } else { self.turn.poll_begin(context) }
    }

    /// Its turn to be heard.
    pub(super) fn turn(&self) -> &Turn {
        &self.turn
    }

    /// So many bytes have come.
    pub fn hears(&self, count: usize) {
        self.heard.fetch_add(count, Ordering::Relaxed);
    }

    /// Keys have been exchanged, and a login is asked for.
    pub fn comes_to_login(&self) {
        self.at_login.store(true, Ordering::Relaxed);
    }

    /// Waits until somebody else has this place.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }

    fn is_at_login(&self) -> bool {
        self.at_login.load(Ordering::Relaxed)
    }

    fn has_had_time(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= AT_LOGIN
    }

    fn waits(&self) -> bool {
        self.wants.load(Ordering::Relaxed) && self.asks.get().is_none()
    }

    /// How far it has come on its way to the login.
    fn level(&self) -> usize {
        let heard = self.heard.load(Ordering::Relaxed);
        [VERSION, SPEAKS].iter().filter(|bound| heard >= **bound).count()
    }
}

impl Places {
    /// A place for a connection from `peer` that came at `now`; `None` when there is none to be had.
    pub fn take(&self, peer: IpAddr, now: Instant) -> Option<Arc<Place>> {
        let source = source_of(peer);
        let mut waiting = self.lock();
        let from_here = count(&waiting.places, source);
        if from_here >= PER_SOURCE {
            let own = |place: &Place| place.source == source;
            let loser = waiting.loser(now, |place| own(place) && !place.is_at_login());
            let loser =
                loser.or_else(|| waiting.loser(now, |place| own(place) && place.has_had_time(now)))?;
            self.takes(&mut waiting, loser);
        } else if waiting.places.len() >= PER_PORT {
            let loser = waiting.loser(now, |place| !place.is_at_login()).or_else(|| {
                // Who has more than the newcomer then has.
                waiting.loser(now, |place| {
                    place.has_had_time(now) && count(&waiting.places, place.source) > from_here + 1
                })
            })?;
            self.takes(&mut waiting, loser);
        }
        let place = Arc::new(Place {
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
        waiting.places.push(place.clone());
        if waiting.places.len() >= CROWD {
            self.crowd.store(true, Ordering::Relaxed);
        }
        Some(place)
    }

    /// Whether many have been here, and nobody is now; said once.
    pub fn crowd_has_left(&self) -> bool {
        self.lock().places.is_empty() && self.crowd.swap(false, Ordering::Relaxed)
    }

    /// Somebody has logged in there.
    pub fn logs_in(&self, place: &Place, now: Instant) {
        place.logged_in.store(true, Ordering::Relaxed);
        place.turn.leave();
        self.lock().standings.succeeds(place.source, now);
    }

    /// Whoever had this place waits no longer.
    pub fn give_back(&self, place: &Arc<Place>, now: Instant) {
        place.turn.leave();
        let mut waiting = self.lock();
        waiting.places.retain(|other| !Arc::ptr_eq(other, place));
        if place.asks.get().is_some() && !place.logged_in.load(Ordering::Relaxed) {
            waiting.standings.fails(place.source, now);
        }
        drop(waiting);
        self.left.notify_waiters();
    }

    fn takes(&self, waiting: &mut Waiting, loser: usize) {
        let loser = waiting.places.remove(loser);
        loser.turn.leave();
        loser.lost.notify_one();
        self.left.notify_waiters();
    }

    /// Waits until this one may have a helper; false if that takes too long, or the place is lost.
    pub async fn turn(&self, place: &Arc<Place>) -> bool {
        let until = Instant::now() + TURN;
        place.wants.store(true, Ordering::Relaxed);
        loop {
            let left = self.left.notified();
            let now = Instant::now();
            match self.may_ask(place, now) {
                Some(false) if now < until => {
                    // Whichever it is: it is looked again.
                    let _ = timeout(LOOK, left).await;
                }
                turn => return turn == Some(true),
            }
        }
    }

    /// Whether it may have a helper at `now`; `None` if it has no place any more. Who comes from an address that has none takes that of
    /// one who has had time, and is first where one is free; who comes from one that has enough, that of one who has had time there.
    fn may_ask(&self, place: &Arc<Place>, now: Instant) -> Option<bool> {
        let mut waiting = self.lock();
        let places = &waiting.places;
        places.iter().find(|other| Arc::ptr_eq(other, place))?;
        if place.asks.get().is_some() {
            return Some(true);
        }
        let asking = |source| {
            places.iter().filter(|place| place.source == source && place.asks.get().is_some()).count()
        };
        let from_here = asking(place.source);
        let enough = |source| match waiting.standings.is_suspect(source, now) {
            true => ASKING_PER_SUSPECT,
            false => ASKING_PER_SOURCE,
        };
        let first = places.iter().any(|other| {
            let there = asking(other.source);
            other.waits() && there < from_here && there < enough(other.source)
        });
        let all =
            places.iter().enumerate().filter_map(|(index, place)| Some((index, place, *place.asks.get()?)));
        let has_enough = from_here >= enough(place.source);
        if first && !has_enough {
            return Some(false);
        }
        if has_enough || all.clone().count() >= ASKING {
            let concerns =
                |other: &Place| if has_enough { other.source == place.source } else { from_here == 0 };
            let may =
                all.filter(|(_, other, since)| concerns(other) && now.duration_since(*since) >= AT_LOGIN);
            let loser = may.min_by_key(|(_, place, since)| (Reverse(asking(place.source)), *since));
            let Some((loser, ..)) = loser else { return Some(false) };
            self.takes(&mut waiting, loser);
        }
        place.asks.get_or_init(|| now);
        Some(true)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Who of those that `may` lose their place does: the first such in the order of their coming.
    fn loser(&self, now: Instant, may: impl Fn(&Place) -> bool) -> Option<usize> {
        let mut counts = HashMap::<IpAddr, usize>::new();
        self.places.iter().for_each(|place| *counts.entry(place.source).or_default() += 1);
        let those = self.places.iter().enumerate().filter(|(_, place)| may(place));
        let worth = |place: &Place| {
            let known = self.standings.is_known(place.source, now);
            (place.level(), known, Reverse(counts.get(&place.source).copied()))
        };
        those.min_by_key(|(_, place)| worth(place)).map(|(index, _)| index)
    }
}

fn count(places: &[Arc<Place>], source: IpAddr) -> usize {
    places.iter().filter(|place| place.source == source).count()
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

    fn is_lost(place: &Place) -> bool {
        place.lost().now_or_never().is_some()
    }

    /// As many as have a place, from so many addresses in turn.
    fn full(places: &Places, now: Instant, addresses: usize) -> Vec<Arc<Place>> {
        (0..PER_PORT).map(|index| places.take(host(index % addresses), now).unwrap()).collect()
    }

    #[test]
    fn one_source_takes_its_places_from_itself_only() {
        let (places, now) = (Places::default(), Instant::now());
        let near: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::ffff".parse().unwrap();
        let far = places.take(host(7), now).unwrap();
        let taken: Vec<_> = (0..PER_SOURCE).map(|_| places.take(near, now).unwrap()).collect();
        assert!(!taken.iter().any(|place| is_lost(place)));
        places.take(neighbour, now).unwrap();
        assert!(is_lost(&taken[0]) && !is_lost(&taken[1]) && !is_lost(&far), "the same /64, the first there");
        for place in &taken {
            place.comes_to_login();
        }
        let second = places.take(near, now).unwrap();
        second.comes_to_login();
        assert!(places.take(near, now).is_none(), "all of its own are at the login");
        assert!(places.take(near, now + AT_LOGIN).is_some());
        assert!(is_lost(&taken[1]) && !is_lost(&taken[2]), "it has had time");
        assert!(!is_lost(&far));
    }

    #[test]
    fn all_sources_together_are_bounded_and_nothing_stays_behind() {
        let (places, now) = (Places::default(), Instant::now());
        let taken: Vec<_> = (0..200).filter_map(|number| places.take(host(number), now)).collect();
        assert_eq!(places.lock().places.len(), PER_PORT);
        assert_eq!(taken.iter().filter(|place| is_lost(place)).count(), taken.len() - PER_PORT);
        assert!(!places.crowd_has_left());
        taken.iter().for_each(|place| places.give_back(place, now));
        assert!(places.lock().places.is_empty());
        assert!(places.crowd_has_left() && !places.crowd_has_left());
    }

    #[test]
    fn who_has_fewer_places_is_safe_from_those_who_have_more() {
        let (places, now) = (Places::default(), Instant::now());
        full(&places, now, 4);
        let newcomer = places.take(host(100), now).unwrap();
        for number in 0..200 {
            places.take(host(number % 4), now).unwrap();
        }
        assert!(!is_lost(&newcomer));
    }

    #[test]
    fn who_speaks_is_safe_from_those_who_do_not_and_who_is_at_the_login_from_all() {
        let (places, now) = (Places::default(), Instant::now());
        let held = full(&places, now, PER_PORT);
        held[0].hears(SPEAKS);
        held[1].comes_to_login();
        for number in 0..PER_PORT - 2 {
            places.take(host(100 + number), now).unwrap();
        }
        assert!(!is_lost(&held[0]) && !is_lost(&held[1]));
        assert!(held[2..].iter().all(|place| is_lost(place)), "first come, first to go");
    }

    #[test]
    fn who_has_sent_a_version_line_is_safe_from_silence_and_a_known_address_from_unknown_ones() {
        let (places, now) = (Places::default(), Instant::now());
        let at_bastion: Vec<_> = (0..48).map(|_| places.take(host(200), now).unwrap()).collect();
        let silent: Vec<_> = (48..PER_PORT).map(|number| places.take(host(number), now).unwrap()).collect();
        at_bastion.iter().for_each(|place| place.hears(VERSION));
        for number in 0..2 * PER_PORT {
            places.take(host(number % 50), now).unwrap();
        }
        assert!(silent.iter().all(|place| is_lost(place)));
        assert!(!at_bastion.iter().any(|place| is_lost(place)), "although they have most");

        places.logs_in(&at_bastion[0], now);
        for number in 0..2 * PER_PORT {
            places.take(host(number % 50), now).unwrap().hears(VERSION);
        }
        assert!(!at_bastion.iter().any(|place| is_lost(place)), "somebody is known there");
    }

    #[test]
    fn where_nobody_ever_gets_in_few_may_ask_at_once() {
        let (places, now) = (Places::default(), Instant::now());
        let come = |number| places.take(host(number), now).unwrap();
        for _ in 0..ASKING_PER_SOURCE {
            let guesser = come(1);
            assert_eq!(places.may_ask(&guesser, now), Some(true));
            places.give_back(&guesser, now);
        }
        let guessers: Vec<_> = (0..ASKING_PER_SOURCE).map(|_| come(1)).collect();
        let ask = |now| guessers.iter().filter(|place| places.may_ask(place, now) == Some(true)).count();
        assert_eq!(ask(now), ASKING_PER_SUSPECT);
        places.logs_in(&guessers[0], now);
        assert_eq!(ask(now), ASKING_PER_SOURCE, "somebody has got in");
    }

    #[test]
    fn when_all_are_at_the_login_who_has_had_time_gives_way_to_who_has_less() {
        let (places, now) = (Places::default(), Instant::now());
        let held = full(&places, now, 4);
        held.iter().for_each(|place| place.comes_to_login());
        assert!(places.take(host(100), now).is_none(), "they may still be typing");
        let newcomer = places.take(host(100), now + AT_LOGIN).unwrap();
        assert!(is_lost(&held[0]));
        newcomer.comes_to_login();
        assert!(places.take(host(0), now + 2 * AT_LOGIN).is_none(), "the same as others have");

        let places = Places::default();
        let alone = full(&places, now, PER_PORT);
        alone.iter().for_each(|place| place.comes_to_login());
        assert!(places.take(host(100), now + 2 * AT_LOGIN).is_none(), "everybody has one");
    }
    #[test]
    fn one_source_leaves_helpers_to_others_and_who_has_had_time_gives_way() {
        let (places, now) = (Places::default(), Instant::now());
        let come = |number| places.take(host(number), now).unwrap();
        let strangers: Vec<_> = (0..PER_SOURCE).map(|_| come(0)).collect();
        let asking = strangers.iter().filter(|place| places.may_ask(place, now) == Some(true));
        assert_eq!(asking.count(), ASKING_PER_SOURCE);
        assert_eq!(places.may_ask(&strangers[0], now), Some(true), "once is for all its tries");
        assert_eq!(places.may_ask(&strangers[9], now), Some(false));
        for number in 1..=ASKING - ASKING_PER_SOURCE {
            assert_eq!(places.may_ask(&come(number), now), Some(true));
        }
        let administrator = come(100);
        assert_eq!(places.may_ask(&administrator, now), Some(false), "they may still be typing");
        assert_eq!(places.may_ask(&administrator, now + AT_LOGIN), Some(true));
        assert!(is_lost(&strangers[0]), "of those who have most, the first");
        assert_eq!(places.may_ask(&strangers[0], now), None);
    }

    #[test]
    fn whoever_has_left_prompts_standing_can_log_in_all_the_same() {
        let (places, now) = (Places::default(), Instant::now());
        let prompts: Vec<_> = (0..=ASKING_PER_SOURCE).map(|_| places.take(host(0), now).unwrap()).collect();
        let (last, forgotten) = prompts.split_last().unwrap();
        assert!(forgotten.iter().all(|place| places.may_ask(place, now) == Some(true)));
        assert_eq!(places.may_ask(last, now), Some(false));
        assert_eq!(places.may_ask(last, now + AT_LOGIN), Some(true));
        assert!(is_lost(&forgotten[0]) && !is_lost(&forgotten[1]));
    }

    #[test]
    fn a_helper_that_is_free_is_for_an_address_that_has_fewer() {
        let (places, now) = (Places::default(), Instant::now());
        let come = |number| places.take(host(number), now).unwrap();
        let held: Vec<_> = (0..ASKING).map(|number| come(number % 4)).collect();
        assert!(held.iter().all(|place| places.may_ask(place, now) == Some(true)));
        let (stranger, administrator) = (come(0), come(100));
        administrator.wants.store(true, Ordering::Relaxed);
        let late = now + 2 * AT_LOGIN;
        assert_eq!(places.may_ask(&stranger, late), Some(false), "it takes nobody's");
        places.give_back(&held[0], now);
        assert_eq!(places.may_ask(&stranger, now), Some(false));
        assert_eq!(places.may_ask(&administrator, now), Some(true));
    }

    #[tokio::test]
    async fn who_waits_for_a_helper_has_it_when_somebody_leaves() {
        let (places, now) = (Places::default(), Instant::now());
        let held: Vec<_> = (0..=ASKING_PER_SOURCE).map(|_| places.take(host(0), now).unwrap()).collect();
        for place in &held[1..] {
            assert!(places.turn(place).await);
        }
        let turn = places.turn(&held[0]);
        tokio::pin!(turn);
        assert_eq!((&mut turn).now_or_never(), None);
        places.give_back(&held[1], now);
        assert_eq!(turn.now_or_never(), Some(true));
    }
}
