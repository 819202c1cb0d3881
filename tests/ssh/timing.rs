//! The timing of a denial reveals nothing: unknown, known and locked users wait equally long.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::client::{self, Handle};
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::accounts::Accounts;
use crate::limits::AnyKey;
use crate::rig::Rig;

/// How far apart the medians may be: a twentieth.
const APART: u32 = 20;
/// Tries on one connection; after the sixth it ends.
const TRIES: usize = 5;
/// Connections at once: fewer than a port has slots for, nine from an address, of which each has ten.
const AT_ONCE: usize = 36;
const FROM_ONE: usize = 9;

const USERS: [&str; 3] = ["mallory", "alice", "bob"];

/// Tries of each user; more before a release.
fn tries() -> usize {
    std::env::var("TIMING_TRIES").map_or(24, |tries| tries.parse().unwrap())
}

/// mallory does not exist, and bob is locked.
fn served() -> (Accounts, Rig) {
    let accounts = Accounts::enter();
    for user in ["alice", "bob"] {
        accounts.add(user, Some("sesame"));
        accounts.authorize(user, "# none\n");
    }
    accounts.run(&["usermod", "--lock", "bob"]);
    let mut rig = Rig::with_config("[access]\ngroups = [\"*\"]\n[ports.demo]\ndevice = \"@DIR@/dev/demo\"\n");
    rig.serve_logins(false);
    rig.start_plugged();
    (accounts, rig)
}

async fn connect(port: u16, number: usize) -> Handle<AnyKey> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 2, (number / FROM_ONE) as u8 + 1), 0).into()).unwrap();
    let stream = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
    client::connect_stream(Arc::default(), stream, AnyKey).await.unwrap()
}

/// The durations of the attempts of one connection.
async fn with_passwords(port: u16, number: usize, user: &str, tries: usize) -> Vec<Duration> {
    let mut stranger = connect(port, number).await;
    let mut took = Vec::new();
    for _ in 0..tries {
        let began = Instant::now();
        assert!(!stranger.authenticate_password(user, "wrong").await.unwrap().success());
        took.push(began.elapsed());
    }
    took
}

async fn with_keys(port: u16, number: usize, user: &str, tries: usize) -> Vec<Duration> {
    let mut stranger = connect(port, number).await;
    let mut took = Vec::new();
    for _ in 0..tries {
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        let began = Instant::now();
        assert!(!stranger.authenticate_publickey(user, key).await.unwrap().success());
        took.push(began.elapsed());
    }
    took
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() / 2]
}

/// The median duration of each user's attempts.
fn medians(what: &str, took: &[(&'static str, Vec<Duration>)]) -> [(&'static str, Duration); 3] {
    let medians = USERS.map(|user| {
        let of_user = took.iter().filter(|(name, _)| *name == user).flat_map(|(_, took)| took.clone());
        (user, median(of_user.collect()))
    });
    eprintln!("{what}: {medians:.2?}");
    medians
}

/// The medians are within a twentieth of the longest.
#[track_caller]
fn are_alike(what: &str, took: &[(&'static str, Vec<Duration>)]) {
    let medians = medians(what, took);
    let longest = medians.iter().map(|(_, took)| *took).max().unwrap();
    let shortest = medians.iter().map(|(_, took)| *took).min().unwrap();
    assert!(longest - shortest <= longest / APART, "{what}: {medians:.2?}");
}

#[tokio::test]
async fn by_password() {
    let (_accounts, rig) = served();
    let port = rig.tcp_port;
    let mut took = Vec::new();
    let mut left = tries() * USERS.len();
    while left > 0 {
        let each = left.div_ceil(AT_ONCE).min(TRIES);
        let mut crowd = JoinSet::new();
        for number in 0..AT_ONCE {
            let user = USERS[number % USERS.len()];
            crowd.spawn(async move { (user, with_passwords(port, number, user, each).await) });
        }
        took.extend(crowd.join_all().await);
        left = left.saturating_sub(each * AT_ONCE);
    }
    are_alike("passwords", &took);
}

#[tokio::test]
async fn by_key() {
    let (_accounts, rig) = served();
    let port = rig.tcp_port;
    let mut took = Vec::new();
    for _ in 0..tries().div_ceil(TRIES) {
        // In parallel: a disturbance affects all alike.
        let mut crowd = JoinSet::new();
        for (number, user) in USERS.into_iter().enumerate() {
            crowd.spawn(async move { (user, with_keys(port, number, user, TRIES).await) });
        }
        took.extend(crowd.join_all().await);
    }
    are_alike("keys", &took);
    // The helper's start is the machine's noise, the same for all.
    let first: Vec<_> = took.iter().map(|(user, took)| (*user, took[..1].to_vec())).collect();
    medians("of these, the first of each connection", &first);
}
