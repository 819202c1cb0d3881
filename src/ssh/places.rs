//! The places of those who have connected and not logged in. Each costs memory, and a helper process from its first try to log
//! in, so there are few. Strangers who hold them all, silent or slow or talking nonsense, must not keep an administrator
//! out: whoever comes when there is none takes somebody's. It is taken from the address that has most, there from one that has not
//! come as far as the login, first from one that has said nothing to the purpose, and first from the one that has waited longest.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Unauthenticated connections of one port.
const PER_PORT: usize = 40;
/// Of those, from one address (an IPv6 /64 is one).
const PER_SOURCE: usize = 10;
/// Bytes, more than the longest version line (RFC 4253, section 4.2), that one who means it has sent a moment after it has
/// connected, and one who sends a byte a second not in the whole grace time.
const SPEAKS: usize = 256;
/// At the login nobody loses their place before so long has gone since they connected: enough to type a password. What a refused
/// password keeps busy, a helper in its delay, is thus never more than a few beyond those that have places.
const AT_LOGIN: Duration = Duration::from_secs(20);

/// Whoever is waiting at a port.
#[derive(Debug, Default)]
pub struct Places {
    waiting: Mutex<Vec<Arc<Place>>>,
    /// More came at once than do of themselves.
    crowd: AtomicBool,
}

/// One of them.
#[derive(Debug)]
pub struct Place {
    source: IpAddr,
    since: Instant,
    heard: AtomicUsize,
    at_login: AtomicBool,
    lost: Notify,
}

impl Place {
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

    fn speaks(&self) -> bool {
        self.heard.load(Ordering::Relaxed) >= SPEAKS
    }
}

impl Places {
    /// A place for a connection from `peer` that came at `now`; `None` when there is none to be had.
    pub fn take(&self, peer: IpAddr, now: Instant) -> Option<Arc<Place>> {
        let source = source_of(peer);
        let mut waiting = self.lock();
        let from_here = count(&waiting, source);
        if from_here >= PER_SOURCE {
            let loser = loser(&waiting, |place| place.source == source && !place.is_at_login())?;
            waiting.remove(loser).lost.notify_one();
        } else if waiting.len() >= PER_PORT {
            let loser = loser(&waiting, |place| !place.is_at_login()).or_else(|| {
                // Who has more than the newcomer then has.
                loser(&waiting, |place| {
                    now.duration_since(place.since) >= AT_LOGIN
                        && count(&waiting, place.source) > from_here + 1
                })
            })?;
            waiting.remove(loser).lost.notify_one();
        }
        let place = Arc::new(Place {
            source,
            since: now,
            heard: AtomicUsize::default(),
            at_login: AtomicBool::default(),
            lost: Notify::new(),
        });
        waiting.push(place.clone());
        if waiting.len() >= PER_SOURCE {
            self.crowd.store(true, Ordering::Relaxed);
        }
        Some(place)
    }

    /// Whether many have been here, and nobody is now; said once.
    pub fn crowd_has_left(&self) -> bool {
        self.lock().is_empty() && self.crowd.swap(false, Ordering::Relaxed)
    }

    /// Gives a place back, if it was not lost.
    pub fn give_back(&self, place: &Arc<Place>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, place));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Place>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(waiting: &[Arc<Place>], source: IpAddr) -> usize {
    waiting.iter().filter(|place| place.source == source).count()
}

/// Who of those that `may` lose their place does: the first such in the order of their coming.
fn loser(waiting: &[Arc<Place>], may: impl Fn(&Place) -> bool) -> Option<usize> {
    let those = waiting.iter().enumerate().filter(|(_, place)| may(place));
    those
        .min_by_key(|(_, place)| (Reverse(count(waiting, place.source)), place.speaks()))
        .map(|(index, _)| index)
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
        assert!(places.take(near, now + 2 * AT_LOGIN).is_none(), "all of its own are at the login");
        assert!(!is_lost(&far));
    }

    #[test]
    fn all_sources_together_are_bounded_and_nothing_stays_behind() {
        let (places, now) = (Places::default(), Instant::now());
        let taken: Vec<_> = (0..200).filter_map(|number| places.take(host(number), now)).collect();
        assert_eq!(places.lock().len(), PER_PORT);
        assert_eq!(taken.iter().filter(|place| is_lost(place)).count(), taken.len() - PER_PORT);
        assert!(!places.crowd_has_left());
        taken.iter().for_each(|place| places.give_back(place));
        assert!(places.lock().is_empty());
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
}
