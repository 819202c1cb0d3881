//! Authentication on one SSH connection: russh's requests are passed to `console-auth`, with one user name, a limited number of attempts,
//! and denials whose timing reveals nothing.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::Algorithm;
use russh::keys::ssh_key::Signature;
use russh::server::Auth;
use tokio::time::Instant;

use super::algorithms::KEY_ALGORITHMS;
use super::destination::Destination;
use super::limits::Queue;
use super::tuning;
use crate::auth::client::{ClientKey, Granted, Login, LoginError, Step};
use crate::auth::protocol::{Identity, Secret, SecurityKeyFlags};
use crate::event::Event;

/// Time from a password to its denial, for any reason: a second longer than `console-auth` takes for a wrong password, which it hashes
/// only if the user exists. So the timing of a denial reveals nothing.
const DENIAL_DELAY: Duration = Duration::from_secs(3);

/// Login helpers that one connection may start: one is enough for a login, and each denial by the access groups needs another one.
/// russh counts denials, but not conversations that are started and abandoned.
const MAX_HELPERS: u32 = 8;

/// A user who has logged in.
#[derive(Debug, Clone)]
pub(super) struct Admitted {
    /// The user name, as the client gave it.
    pub(super) name: String,
    pub(super) identity: Identity,
    pub(super) login: Granted,
    /// PAM's messages, which the first session prints.
    pub(super) messages: String,
}

/// Authentication, from the first method that the client tries.
#[derive(Debug)]
pub(super) struct Authenticator<D> {
    destination: Arc<D>,
    peer: IpAddr,
    queue: Queue,
    /// The user name: only one per connection, as with OpenSSH's server.
    name: Option<String>,
    login: Option<Login>,
    helpers_started: u32,
    identity: Option<Identity>,
    /// PAM's last message was sent as a question without a prompt, and the answer to it is a denial.
    final_message: bool,
    /// Why an authenticated user is not allowed in; sent as the connection is closed.
    disconnect_message: Option<String>,
}

impl<D: Destination> Authenticator<D> {
    /// A connection from `peer` that is not logged in.
    pub(super) fn new(destination: Arc<D>, peer: IpAddr, queue: Queue) -> Self {
        Self {
            destination,
            peer,
            queue,
            name: None,
            login: None,
            helpers_started: 0,
            identity: None,
            final_message: false,
            disconnect_message: None,
        }
    }

    /// The user who has logged in, once.
    pub(super) fn admitted(&mut self) -> Option<Admitted> {
        let (name, identity) = (self.name.clone()?, self.identity.take()?);
        let mut login = self.login.take()?;
        let messages = login.take_messages();
        Some(Admitted { name, identity, login: login.granted()?, messages })
    }

    /// Why an authenticated user is not allowed in, by any method; sent as the connection is closed.
    pub(super) fn disconnect_message(&self) -> Option<&str> {
        self.disconnect_message.as_deref()
    }

    /// Whether this key or certificate would be accepted, with a signature of this algorithm.
    pub(super) async fn offered(
        &mut self,
        name: &str,
        key: ClientKey<'_>,
        algorithm: &Algorithm,
    ) -> Result<Auth, russh::Error> {
        if !KEY_ALGORITHMS.contains(algorithm) {
            return Ok(denied());
        }
        self.turn().await?;
        let Some(login) = self.login(name).await? else { return Ok(denied()) };
        match login.offer(key).await {
            Ok(true) => Ok(Auth::Accept),
            Ok(false) => Ok(denied()),
            Err(error) => self.helper_failed(&error),
        }
    }

    /// Authenticates by a key or certificate, whose signature russh has verified.
    pub(super) async fn by_key(
        &mut self,
        name: &str,
        key: ClientKey<'_>,
        signature: &Signature,
    ) -> Result<Auth, russh::Error> {
        if !KEY_ALGORITHMS.contains(&signature.algorithm()) {
            return Ok(denied());
        }
        self.turn().await?;
        let Some(login) = self.login(name).await? else { return Ok(denied()) };
        match login.key(key, security_key_flags(signature)).await {
            Ok(Some(identity)) => Ok(self.admit(identity)),
            Ok(None) => Ok(denied()),
            Err(LoginError::AccountDenied(why)) => Ok(self.accept_to_disconnect(&why)),
            Err(error) => self.helper_failed(&error),
        }
    }

    /// Authenticates by SSH's method `password`.
    pub(super) async fn by_password(&mut self, name: &str, password: &[u8]) -> Result<Auth, russh::Error> {
        let since = self.turn().await?;
        let Some(login) = self.login(name).await? else {
            return Ok(constant_time_denial(since, denied()).await);
        };
        let auth = match login.password(Secret(password.to_vec())).await {
            Ok(Some(identity)) => self.admit(identity),
            Ok(None) => denied(),
            Err(LoginError::AccountDenied(why)) => self.accept_to_disconnect(&why),
            Err(error) => self.helper_failed(&error)?,
        };
        Ok(constant_time_denial(since, auth).await)
    }

    /// Authenticates by `keyboard-interactive`, which begins without answers.
    pub(super) async fn by_questions(
        &mut self,
        name: &str,
        answers: Option<Vec<Secret>>,
    ) -> Result<Auth, russh::Error> {
        // The delay has passed before the message was sent.
        if std::mem::take(&mut self.final_message) && answers.is_some() {
            return Ok(denied());
        }
        let since = self.turn().await?;
        let Some(login) = self.login(name).await? else {
            return Ok(constant_time_denial(since, denied()).await);
        };
        let step = match answers {
            None => login.converse().await,
            Some(answers) => login.answer(answers).await,
        };
        let auth = match step {
            Ok(Step::Denied) => self.deny_with_message(None),
            Ok(step) => self.step(step),
            Err(LoginError::AccountDenied(why)) => self.deny_with_message(Some(why)),
            Err(error) => self.helper_failed(&error)?,
        };
        if self.final_message {
            tokio::time::sleep_until(since + DENIAL_DELAY).await;
        }
        Ok(constant_time_denial(since, auth).await)
    }

    /// Waits until this connection may have a helper. Returns the start of the delay of a denial; the wait before it depends on no
    /// user.
    async fn turn(&self) -> Result<Instant, russh::Error> {
        if self.login.is_some() || self.queue.turn().await {
            return Ok(Instant::now());
        }
        if self.queue.should_log() {
            tracing::warn!(
                "connection from {} closed: no login helper was free in time, too many logins are in progress",
                self.peer
            );
        }
        Err(connection_error("no login helper was free in time"))
    }

    /// The login under this name, started at `console-auth` if there is none; `None` if that cannot be reached. An error ends the
    /// connection.
    async fn login(&mut self, name: &str) -> Result<Option<&mut Login>, russh::Error> {
        if self.name.get_or_insert_with(|| name.to_owned()) != name {
            return Err(connection_error("another user name than before"));
        }
        if self.login.is_none() {
            if self.helpers_started >= MAX_HELPERS {
                return Err(connection_error("too many logins on one connection"));
            }
            self.helpers_started += 1;
            let gate = self.destination.gatekeeping();
            let (user, slot) = self.destination.login_target(name);
            match Login::begin(&gate.auth_socket, &user, self.peer, slot, gate.root).await {
                Ok(login) => self.login = Some(login),
                Err(error) => {
                    self.helper_failed(&error)?;
                }
            }
        }
        Ok(self.login.as_mut())
    }

    /// Denies the login, since it could not be decided. A client that keeps abandoning conversations is disconnected.
    fn helper_failed(&mut self, error: &LoginError) -> Result<Auth, russh::Error> {
        tracing::error!("login failed: {error}");
        self.login = None;
        match error {
            LoginError::TooManyAbandoned => Err(connection_error("too many abandoned conversations")),
            _ => Ok(denied()),
        }
    }

    /// Accepts the user if the destination does. From then on it is the user of the connection.
    fn admit(&mut self, identity: Identity) -> Auth {
        let Some(why) = self.destination.denial(&identity) else {
            self.identity = Some(identity);
            return Auth::Accept;
        };
        self.login = None;
        tracing::warn!(
            message_id = Event::Denied.id(),
            console_user = identity.name,
            "{} from {} denied: {why}",
            identity.name,
            self.peer
        );
        denied()
    }

    /// Denies the login, after PAM's messages if there are any: a question without a prompt, as sshd does.
    fn deny_with_message(&mut self, why: Option<String>) -> Auth {
        let messages = why.or_else(|| self.login.as_mut().map(Login::take_messages)).unwrap_or_default();
        if messages.trim().is_empty() {
            return denied();
        }
        self.final_message = true;
        Auth::Partial {
            name: Cow::Borrowed(""),
            instructions: Cow::Owned(messages),
            prompts: Cow::Borrowed(&[]),
        }
    }

    /// Accepts the login only to close the connection with this message. A denial of a key or of the method `password` carries no text;
    /// sshd sends a banner and closes the connection, but russh has none at this point, and a client that has no other method disconnects
    /// after a failure without reading on.
    fn accept_to_disconnect(&mut self, why: &str) -> Auth {
        let lines: Vec<&str> = why.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        self.disconnect_message = Some(lines.join(" "));
        Auth::Accept
    }

    /// Translates PAM's next step into the reply to the client.
    fn step(&mut self, step: Step) -> Auth {
        match step {
            // In the prompt, as sshd does: OpenSSH's client truncates an instruction at 1 KiB, and prints none with `-q`.
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
            Step::Denied => denied(),
        }
    }
}

/// The flags in a security key's signature: before the four bytes of its counter, at the end (PROTOCOL.u2f in OpenSSH).
fn security_key_flags(signature: &Signature) -> Option<SecurityKeyFlags> {
    match signature.algorithm() {
        Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => {
            signature.as_bytes().iter().nth_back(4).copied().map(SecurityKeyFlags)
        }
        _ => None,
    }
}

/// A denial that lists every method again, as OpenSSH's server does: by default russh removes `password` after the first wrong one, and
/// paramiko then requests the service again, to which russh does not reply.
fn denied() -> Auth {
    Auth::Reject { proceed_with_methods: Some(tuning::methods()), partial_success: false }
}

/// Delays a denial, so that its timing reveals nothing.
async fn constant_time_denial(since: Instant, auth: Auth) -> Auth {
    if matches!(auth, Auth::Reject { .. }) {
        tokio::time::sleep_until(since + DENIAL_DELAY).await;
    }
    auth
}

/// An error that makes russh end the connection.
fn connection_error(why: &str) -> russh::Error {
    russh::Error::IO(std::io::Error::other(why.to_owned()))
}
