//! The network side of a login (`auth::client`) against the real `console-auth`, one process a connection, as systemd's
//! `Accept=yes` starts them.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use consoleserver::auth::client::{Login, LoginError, Step};
use consoleserver::auth::protocol::{Identity, Secret, Target};
use consoleserver::config::RootLogin;
use russh::keys::PublicKey;
use tempfile::TempDir;
use tokio::net::UnixListener;

use crate::accounts::Accounts;
use crate::helper::{KEY, OTHER};

/// A listening login socket; must be made inside a runtime on the thread that has the accounts.
struct Helpers {
    directory: TempDir,
}

impl Helpers {
    fn listen() -> Self {
        Self::starting(env!("CARGO_BIN_EXE_console-auth"))
    }

    fn starting(program: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("auth-port")).unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let stream = stream.into_std().unwrap();
                stream.set_nonblocking(false).unwrap();
                let mut command = Command::new(program);
                command
                    .env("LISTEN_FDS", "1")
                    .env_remove("LISTEN_PID")
                    .stderr(Stdio::null())
                    .fd_mappings(vec![FdMapping { parent_fd: stream.into(), child_fd: 3 }])
                    .unwrap();
                let mut child = command.spawn().unwrap();
                tokio::task::spawn_blocking(move || child.wait());
            }
        });
        Self { directory }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("auth-port")
    }

    async fn login(&self, user: &str) -> Login {
        let rhost: IpAddr = "::ffff:192.0.2.7".parse().unwrap();
        let port = "ttyUSB0".parse().unwrap();
        Login::begin(&self.socket(), user, rhost, Target::Port(port), RootLogin::Key).await.unwrap()
    }
}

fn alice() -> Accounts {
    let accounts = crate::helper::alice();
    // The client's address arrives mapped, as a dual-stack listener gives it.
    accounts.authorize("alice", &format!("from=\"192.0.2.0/24\" {KEY}\n"));
    accounts
}

fn key(text: &str) -> PublicKey {
    PublicKey::from_openssh(text).unwrap()
}

fn secret(text: &str) -> Secret {
    Secret(text.into())
}

#[track_caller]
fn is_alice(identity: Option<Identity>) {
    assert_eq!(identity.expect("granted").name, "alice");
}

#[tokio::test]
async fn a_client_tries_keys_and_then_a_password() {
    let _accounts = alice();
    let helpers = Helpers::listen();
    let mut login = helpers.login("alice").await;
    assert!(!login.offer(&key(OTHER)).await.unwrap());
    assert!(login.offer(&key(KEY)).await.unwrap());
    assert_eq!(login.key(&key(OTHER), None).await.unwrap(), None);
    assert_eq!(login.password(secret("wrong")).await.unwrap(), None);
    is_alice(login.password(secret("sesame")).await.unwrap());
    assert!(matches!(login.offer(&key(KEY)).await, Err(LoginError::Over)));

    is_alice(helpers.login("alice").await.key(&key(KEY), None).await.unwrap());
}

#[tokio::test]
async fn a_second_factor_needs_a_conversation_and_an_abandoned_one_is_restarted() {
    let accounts = alice();
    accounts.pam_service(
        "auth required pam_unix.so\n\
         auth required pam_oath.so usersfile=/etc/users.oath window=2 digits=6\n\
         account required pam_unix.so\n",
    );
    fs::write("/etc/users.oath", "HOTP alice - 3132333435363738393031323334353637383930\n").unwrap();
    accounts.set_mode("/etc/users.oath", 0o600);
    let helpers = Helpers::listen();
    let mut login = helpers.login("alice").await;
    assert_eq!(login.password(secret("sesame")).await.unwrap(), None, "it cannot carry two answers");

    let Step::Prompts { prompts, .. } = login.converse().await.unwrap() else { panic!("no question") };
    assert_eq!((prompts[0].text.as_str(), prompts[0].echo), ("Password: ", false));
    let Step::Prompts { prompts, .. } = login.answer(vec![secret("sesame")]).await.unwrap() else {
        panic!("no second question")
    };
    assert!(prompts[0].text.starts_with("One-time password"), "{prompts:?}");
    let Step::Granted(identity) = login.answer(vec![secret("755224")]).await.unwrap() else {
        panic!("not granted")
    };
    assert_eq!(identity.name, "alice");
    assert!(matches!(login.answer(vec![]).await, Err(LoginError::Over)));
}

#[tokio::test]
async fn conversations_cannot_be_begun_and_left_for_ever() {
    let _accounts = alice();
    let helpers = Helpers::listen();
    let mut login = helpers.login("alice").await;
    for _ in 0..7 {
        assert!(matches!(login.converse().await.unwrap(), Step::Prompts { .. }));
    }
    assert!(matches!(login.converse().await, Err(LoginError::TooManyAbandoned)));
}

#[tokio::test]
async fn a_dead_or_missing_helper_is_reported() {
    let helpers = Helpers::starting("/bin/false");
    let mut login = helpers.login("alice").await;
    let error = login.converse().await.unwrap_err();
    assert!(matches!(error, LoginError::Gone), "{error}");

    let nowhere = helpers.directory.path().join("nobody");
    let port = "demo".parse().unwrap();
    let began = Login::begin(&nowhere, "a", "::1".parse().unwrap(), Target::Port(port), RootLogin::No).await;
    let said = began.unwrap_err().to_string();
    let expected = format!("the login helper is unreachable at {}: No such file", nowhere.display());
    assert!(said.starts_with(&expected), "{said}");
}
