//! The login on one SSH connection: what russh asks about methods goes to `console-auth`, with one user name, bounded tries
//! and refusals that tell nothing by their time.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::PublicKey;
use russh::server::Auth;
use tokio::time::Instant;

use super::destination::Destination;
use super::limits::Queue;
use super::tuning;
use crate::auth::client::{Granted, Login, LoginError, Step};
use crate::auth::protocol::{Identity, Secret};
use crate::event::Event;

/// A refused password is answered so long after it came, whatever the reason: a second longer than `console-auth` takes with a wrong one,
/// which it needs to hash it if there is such a user. So a refusal tells nothing by its time.
const DENIAL_DELAY: Duration = Duration::from_secs(3);

/// Helpers that one connection may have begun: one is enough for a login, and each refusal by the groups costs another.
/// russh counts refusals, not conversations that are begun and left.
const MAX_HELPERS: u32 = 8;

/// Somebody who has logged in.
#[derive(Debug, Clone)]
pub(super) struct Admitted {
    /// The user name, as the client gave it.
    pub(super) name: String,
    /// Who that is.
    pub(super) identity: Identity,
    /// The login that was granted.
    pub(super) login: Granted,
    /// What PAM has said to the user: the first session shows it.
    pub(super) said: String,
}

/// The login, from the first method that the client tries.
#[derive(Debug)]
pub(super) struct Logins<D> {
    destination: Arc<D>,
    peer: IpAddr,
    queue: Queue,
    /// Who wants to log in: one user only, as with OpenSSH's server.
    name: Option<String>,
    login: Option<Login>,
    /// How many helpers were begun.
    helpers: u32,
    identity: Option<Identity>,
    /// The last words of PAM are shown as a question without a prompt, and the answer to it is refused.
    parting: bool,
    /// Why the user, who has proved who they are, is not let in: nothing but to be told.
    farewell: Option<String>,
}

impl<D: Destination> Logins<D> {
    /// Nobody has logged in from `peer` yet.
    pub(super) fn new(destination: Arc<D>, peer: IpAddr, queue: Queue) -> Self {
        Self {
            destination,
            peer,
            queue,
            name: None,
            login: None,
            helpers: 0,
            identity: None,
            parting: false,
            farewell: None,
        }
    }

    /// Who has, once.
    pub(super) fn admitted(&mut self) -> Option<Admitted> {
        let (name, identity) = (self.name.clone()?, self.identity.take()?);
        let mut login = self.login.take()?;
        let said = login.take_said();
        Some(Admitted { name, identity, login: login.granted()?, said })
    }

    /// Why the user, who has proved who they are, is not let in, whatever they may try: for the client to be told as the connection is
    /// closed.
    pub(super) fn farewell(&self) -> Option<&str> {
        self.farewell.as_deref()
    }

    /// Would this key be taken?
    pub(super) async fn offered(&mut self, name: &str, key: &PublicKey) -> Result<Auth, russh::Error> {
        self.turn().await?;
        let Some(login) = self.login(name).await? else { return Ok(refused()) };
        match login.offer(key).await {
            Ok(true) => Ok(Auth::Accept),
            Ok(false) => Ok(refused()),
            Err(error) => self.helper_failed(&error),
        }
    }

    /// By a key, whose signature russh has verified.
    pub(super) async fn by_key(&mut self, name: &str, key: &PublicKey) -> Result<Auth, russh::Error> {
        self.turn().await?;
        let Some(login) = self.login(name).await? else { return Ok(refused()) };
        match login.key(key).await {
            Ok(Some(identity)) => Ok(self.admit(identity)),
            Ok(None) => Ok(refused()),
            Err(LoginError::AccountRefused(why)) => Ok(self.say_farewell(&why)),
            Err(error) => self.helper_failed(&error),
        }
    }

    /// By SSH's method `password`.
    pub(super) async fn by_password(&mut self, name: &str, password: &str) -> Result<Auth, russh::Error> {
        let since = self.turn().await?;
        let Some(login) = self.login(name).await? else { return Ok(evenly(since, refused()).await) };
        let auth = match login.password(Secret(password.to_owned())).await {
            Ok(Some(identity)) => self.admit(identity),
            Ok(None) => refused(),
            Err(LoginError::AccountRefused(why)) => self.say_farewell(&why),
            Err(error) => self.helper_failed(&error)?,
        };
        Ok(evenly(since, auth).await)
    }

    /// By `keyboard-interactive`: without answers it begins.
    pub(super) async fn by_questions(
        &mut self,
        name: &str,
        answers: Option<Vec<Secret>>,
    ) -> Result<Auth, russh::Error> {
        // It has been waited for before the words were shown.
        if std::mem::take(&mut self.parting) && answers.is_some() {
            return Ok(refused());
        }
        let since = self.turn().await?;
        let Some(login) = self.login(name).await? else { return Ok(evenly(since, refused()).await) };
        let step = match answers {
            None => login.converse().await,
            Some(answers) => login.answer(answers).await,
        };
        let auth = match step {
            Ok(Step::Denied) => self.part(None),
            Ok(step) => self.step(step),
            Err(LoginError::AccountRefused(why)) => self.part(Some(why)),
            Err(error) => self.helper_failed(&error)?,
        };
        if self.parting {
            tokio::time::sleep_until(since + DENIAL_DELAY).await;
        }
        Ok(evenly(since, auth).await)
    }

    /// Waits until this connection may have a helper. It is the moment from which a refusal is timed: what comes before it tells
    /// nothing of any user.
    async fn turn(&self) -> Result<Instant, russh::Error> {
        if self.login.is_some() || self.queue.turn().await {
            return Ok(Instant::now());
        }
        if self.queue.is_news() {
            tracing::warn!(
                "{} closed: too many are logging in, and none of them was done in time",
                self.peer
            );
        }
        Err(ends("no login helper was free in time"))
    }

    /// The login under this name, begun with `console-auth` if there is none. `None`: it cannot be reached. An error ends the
    /// connection.
    async fn login(&mut self, name: &str) -> Result<Option<&mut Login>, russh::Error> {
        if self.name.get_or_insert_with(|| name.to_owned()) != name {
            return Err(ends("another user name than before"));
        }
        if self.login.is_none() {
            if self.helpers >= MAX_HELPERS {
                return Err(ends("too many logins on one connection"));
            }
            self.helpers += 1;
            let gate = self.destination.gatekeeping();
            let (user, slot) = self.destination.asks(name);
            match Login::begin(&gate.auth_socket, &user, self.peer, slot, gate.root).await {
                Ok(login) => self.login = Some(login),
                Err(error) => {
                    self.helper_failed(&error)?;
                }
            }
        }
        Ok(self.login.as_mut())
    }

    /// A refusal, since nobody could decide. Whoever keeps leaving conversations is disconnected, not given new ones.
    fn helper_failed(&mut self, error: &LoginError) -> Result<Auth, russh::Error> {
        tracing::error!("no login is possible: {error}");
        self.login = None;
        match error {
            LoginError::TooManyAbandoned => Err(ends("too many conversations begun and left")),
            _ => Ok(refused()),
        }
    }

    /// Admits somebody if the destination does: this is who the connection belongs to from now on.
    fn admit(&mut self, identity: Identity) -> Auth {
        let Some(why) = self.destination.refuses(&identity) else {
            self.identity = Some(identity);
            return Auth::Accept;
        };
        self.login = None;
        tracing::warn!(
            message_id = Event::Refused.id(),
            console_user = identity.name,
            "{} from {} refused: {why}",
            identity.name,
            self.peer
        );
        refused()
    }

    /// A refusal, and before it, if PAM has said something to the user, that: a question without a prompt, as sshd has it.
    fn part(&mut self, why: Option<String>) -> Auth {
        let said = why.or_else(|| self.login.as_mut().map(Login::take_said)).unwrap_or_default();
        if said.trim().is_empty() {
            return refused();
        }
        self.parting = true;
        Auth::Partial { name: Cow::Borrowed(""), instructions: Cow::Owned(said), prompts: Cow::Borrowed(&[]) }
    }

    /// Lets somebody in who gets nothing but these words, as the connection is closed. A key and the method `password` have no words for
    /// a refusal; sshd has a banner and closes the connection, but russh has none at this moment, and a client that has no
    /// other method leaves after a failure, without reading on.
    fn say_farewell(&mut self, why: &str) -> Auth {
        let lines: Vec<&str> = why.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        self.farewell = Some(lines.join(" "));
        Auth::Accept
    }

    /// What PAM's next step means for the client.
    fn step(&mut self, step: Step) -> Auth {
        match step {
            // In the prompt, as sshd has it: OpenSSH's client cuts an instruction at 1 KiB, and shows none with `-q`.
            Step::Prompts { instructions, mut prompts } => {
                if let Some(first) = prompts.first_mut() {
                    first.text.insert_str(0, &instructions);
                }
                Auth::Partial {
                    name: Cow::Borrowed(""),
                    instructions: Cow::Borrowed(""),
                    prompts: prompts
                        .into_iter()
                        .map(|prompt| (Cow::Owned(prompt.text), prompt.echo))
                        .collect(),
                }
            }
            Step::Granted(identity) => self.admit(identity),
            Step::Denied => refused(),
        }
    }
}

/// A refusal that names every method again, as OpenSSH's server has it: of itself russh takes the password away after the first
/// wrong one, and paramiko then asks for a service anew, which russh does not answer.
fn refused() -> Auth {
    Auth::Reject { proceed_with_methods: Some(tuning::methods()), partial_success: false }
}

/// Waits, if this is a refusal, until it tells nothing by its time.
async fn evenly(since: Instant, auth: Auth) -> Auth {
    if matches!(auth, Auth::Reject { .. }) {
        tokio::time::sleep_until(since + DENIAL_DELAY).await;
    }
    auth
}

/// An error that makes russh end the connection.
fn ends(why: &str) -> russh::Error {
    russh::Error::IO(std::io::Error::other(why.to_owned()))
}
