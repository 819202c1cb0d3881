//! Unauthenticated clients cannot lock out an administrator.

use std::io::Read;
use std::net::TcpStream;
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use russh::client::{self, Handle};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};

use crate::accounts::Accounts;
use crate::client::Client;
use crate::rig::{Rig, TIMEOUT};
use crate::{at_terminal, served};

/// Limit of unauthenticated connections from one address (`ssh::admission`).
const PER_SOURCE: usize = 80;
/// How many of those may have a login helper (`ssh::admission`).
const ASKING_PER_SOURCE: usize = 24;
/// Limit of sessions of one user (`seats`).
const OF_ONE_USER: usize = 64;
/// Conversations that one connection may abandon (`auth::client`).
const ABANDONED: usize = 6;

/// A russh client for tests of misbehaviour. It accepts any host key.
pub struct AnyKey;

impl client::Handler for AnyKey {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

pub async fn connect(rig: &Rig) -> Handle<AnyKey> {
    client::connect(Arc::default(), ("127.0.0.1", rig.tcp_port), AnyKey).await.unwrap()
}

/// A client that has requested authentication once.
async fn stranger(rig: &Rig) -> Handle<AnyKey> {
    let mut stranger = connect(rig).await;
    assert!(!stranger.authenticate_none("alice").await.unwrap().success());
    stranger
}

/// Begins a conversation of this user, and then of others, without reading the prompts: all requests are
/// with the client's task before it runs.
async fn begins(stranger: &mut Handle<AnyKey>, users: &[&str]) {
    std::future::poll_fn(|cx| {
        for user in users {
            let asked = stranger.authenticate_keyboard_interactive_start(*user, None);
            assert!(pin!(asked).poll(cx).is_pending(), "answered before it was sent");
        }
        Poll::Ready(())
    })
    .await
}

#[tokio::test]
async fn one_address_leaves_login_helpers_to_others() {
    let _accounts = Accounts::enter();
    let rig = served("");
    let mut strangers = Vec::new();
    for _ in 0..ASKING_PER_SOURCE + 4 {
        let mut stranger = stranger(&rig).await;
        begins(&mut stranger, &["alice"]).await;
        strangers.push(stranger);
    }
    holds("no helpers", || helpers(&rig) >= ASKING_PER_SOURCE).await;
    let mut elsewhere = Client::start(rig.ssh(&["-tt", "-b", "127.0.0.2", "demo@127.0.0.1"]));
    elsewhere.sees("for help]");
    assert_eq!(helpers(&rig), ASKING_PER_SOURCE + 1, "{}", rig.login_journal());
}

/// Waits until the port has closed every connection; the client's side runs in the meantime.
async fn all_closed(rig: &Rig) {
    holds("still connected", || crate::refused::connections(rig) == 0).await;
}

/// Waits until it holds; clients of this runtime run in the meantime.
async fn holds(otherwise: &str, condition: impl Fn() -> bool) {
    let comes = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, comes).await.expect(otherwise);
}

/// Login helpers that were ever started.
fn helpers(rig: &Rig) -> usize {
    rig.login_journal().matches("Spawned ").count()
}

#[tokio::test]
async fn a_client_that_changes_the_user_name_is_disconnected_without_a_second_helper() {
    let _accounts = Accounts::enter();
    let rig = served("");
    let mut stranger = stranger(&rig).await;
    begins(&mut stranger, &["alice", "bob"]).await;
    all_closed(&rig).await;
    assert_eq!(helpers(&rig), 1, "{}", rig.login_journal());
}

#[tokio::test]
async fn a_client_that_keeps_abandoning_conversations_is_disconnected() {
    let _accounts = Accounts::enter();
    let rig = served("");
    let mut stranger = stranger(&rig).await;
    begins(&mut stranger, &["alice"; ABANDONED + 2]).await;
    all_closed(&rig).await;
    rig.wait_for_journal("more than 6 conversations were abandoned");
    assert_eq!(helpers(&rig), 1 + ABANDONED, "{}", rig.login_journal());
}

#[tokio::test]
async fn sessions_of_one_user_are_limited_and_other_users_get_in() {
    let accounts = Accounts::enter();
    accounts.add("alice", Some("sesame"));
    accounts.run(&["usermod", "-aG", "dialout", "alice"]);
    let rig = served("");
    let key = Arc::new(russh::keys::load_secret_key(rig.path("key"), None).unwrap());
    let mut inside = Vec::new();
    for _ in 0..OF_ONE_USER {
        let mut client = connect(&rig).await;
        let key = PrivateKeyWithHashAlg::new(key.clone(), None);
        assert!(client.authenticate_publickey("demo", key).await.unwrap().success());
        let session = client.channel_open_session().await.unwrap();
        session.request_shell(true).await.unwrap();
        inside.push((client, session));
    }
    // A connection without a session would be evicted.
    holds("not all attached", || rig.journal().matches(" attached").count() >= OF_ONE_USER).await;
    let mut one_more = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1"]));
    let told = "demo: you have 64 sessions: the remaining ones are reserved for other users";
    one_more.is_told(told);
    one_more.ends_with(255);
    rig.wait_for_journal(&format!("demo from 127.0.0.1 closed: {told}"));
    let mut alice = crate::logins::with_password(&rig, "alice@127.0.0.1", "sesame");
    alice.sees("for help]");
    let (leaves, _) = inside.pop().unwrap();
    leaves.disconnect(russh::Disconnect::ByApplication, "", "").await.unwrap();
    // The disconnect was sent when the task has ended.
    let _ = leaves.await;
    at_terminal(&rig);
}

/// A silent client. The server's version line shows that it has a slot.
fn silent(rig: &Rig) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", rig.tcp_port)).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut version = [0; 23];
    stream.read_exact(&mut version).unwrap();
    assert_eq!(&version, b"SSH-2.0-consoleserver\r\n");
    stream
}

#[test]
fn one_address_evicts_only_its_own_connections_and_blocks_no_login() {
    let rig = served("");
    let mut inside = at_terminal(&rig);
    let mut strangers: Vec<_> = (0..PER_SOURCE).map(|_| silent(&rig)).collect();
    let mut more = [silent(&rig), silent(&rig)];
    for first in &mut strangers[..2] {
        assert_eq!(first.read(&mut [0]).unwrap(), 0, "closed, since another has its place");
    }
    let refusal = "connection from 127.0.0.1 closed: too many connections that are not logged in";
    rig.wait_for_journal(refusal);
    assert_eq!(rig.journal().matches(refusal).count(), 1, "a stranger could fill the journal");

    inside.type_in("still in");
    rig.expect_at_device(b"still in");
    for address in ["127.0.0.2", "127.0.0.1"] {
        let mut elsewhere = Client::start(rig.ssh(&["-tt", "-b", address, "demo@127.0.0.1"]));
        elsewhere.sees("for help]");
    }
    // The administrator's own connection took a slot as well, while it logged in.
    for stayed in strangers[3..].iter_mut().chain(&mut more) {
        stayed.set_nonblocking(true).unwrap();
        assert_eq!(stayed.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    drop((strangers, more));
    crate::rig::until("their places", || {
        let mut scan = Command::new("ssh-keyscan");
        scan.args(["-t", "ed25519", "-p", &rig.tcp_port.to_string(), "127.0.0.1"]);
        (!scan.output().unwrap().stdout.is_empty()).then_some(())
    });
}

#[test]
fn a_flood_of_connections_from_one_address_leaks_nothing() {
    let rig = served("");
    for _ in 0..50 {
        drop(TcpStream::connect(("127.0.0.1", rig.tcp_port)).unwrap());
    }
    let mut client = crate::rig::until("a place", || {
        let mut client = Client::start(rig.ssh(&["-tt", "-o", "ConnectTimeout=10", "demo@127.0.0.1"]));
        crate::rig::until("the session or its refusal", || {
            (!client.shown().is_empty()).then_some(true).or_else(|| client.has_ended().then_some(false))
        })
        .then_some(client)
    });
    client.sees("for help]");
}
