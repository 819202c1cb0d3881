//! One SSH connection, as russh tells of it: authentication goes to `console-auth`, the one channel becomes a session. It
//! decides nothing but whether the port's access groups admit who `console-auth` says this is.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Pty};
use tokio::sync::watch;
use tokio::time::Instant;

use super::breaks::Registration;
use super::limits::{self, Seat, Ticket};
use super::outlet::{SshOutlet, finish};
use crate::auth::client::{Login, LoginError, Step};
use crate::auth::protocol::{Identity, Secret};
use crate::config::{Groups, RootLogin};
use crate::event::Event;
use crate::port::PortName;
use crate::session::{self, Console, Feeder, Typed, Visitor};

/// A refused password is answered so long after it came, whatever the reason: longer than PAM's own delay for a wrong one
/// (`pam_fail_delay(3)`, 2 s and up to half more), so that a refusal tells nothing by its time.
const REFUSAL: Duration = Duration::from_secs(3);

/// Helpers that one connection may have begun: one is enough for a login, and each refusal by the groups costs another.
/// russh counts refusals, not conversations that are begun and left.
const HELPERS: u32 = 8;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Nobody has logged in yet.
    Login,
    /// Somebody has.
    Admitted,
    /// Their session runs.
    Session,
    /// It has ended.
    Over,
}

/// Who may use the port, and where to ask who somebody is.
#[derive(Debug, Clone)]
pub struct Gatekeeping {
    /// `console-auth`'s socket.
    pub auth_socket: PathBuf,
    /// The port's access groups.
    pub groups: Groups,
    /// How root may log in.
    pub root: RootLogin,
}

/// One connection.
pub struct Connection {
    console: Arc<Console>,
    gate: Gatekeeping,
    peer: SocketAddr,
    /// Held until the login, or the end.
    ticket: Option<Ticket>,
    /// Held from the login to the end.
    seat: Option<Seat>,
    stage: watch::Sender<Stage>,
    /// Who wants to log in: one user only, as with OpenSSH's server.
    user: Option<String>,
    login: Option<Login>,
    /// How many helpers were begun.
    helpers: u32,
    identity: Option<Identity>,
    feeder: Feeder,
    typed: Option<Typed>,
    channel: Option<ChannelId>,
    terminal: bool,
    breaks: Option<Registration>,
}

impl Connection {
    /// A connection that has just come in.
    pub fn new(
        console: Arc<Console>,
        gate: Gatekeeping,
        peer: SocketAddr,
        ticket: Ticket,
        (feeder, typed): (Feeder, Typed),
    ) -> Self {
        Self {
            console,
            gate,
            peer,
            ticket: Some(ticket),
            seat: None,
            stage: watch::Sender::new(Stage::Login),
            user: None,
            login: None,
            helpers: 0,
            identity: None,
            feeder,
            typed: Some(typed),
            channel: None,
            terminal: false,
            breaks: None,
        }
    }

    /// How far it has come.
    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    fn port(&self) -> &PortName {
        &self.console.name
    }

    /// The login of `user`, begun with `console-auth` if there is none. `None`: it cannot be reached. An error ends the
    /// connection.
    async fn login(&mut self, user: &str) -> Result<Option<&mut Login>, russh::Error> {
        if self.user.get_or_insert_with(|| user.to_owned()) != user {
            return Err(ends("another user name than before"));
        }
        if self.login.is_none() {
            if self.helpers >= HELPERS {
                return Err(ends("too many logins on one connection"));
            }
            self.helpers += 1;
            let rhost = unmapped(self.peer.ip());
            let begun = Login::begin(&self.gate.auth_socket, user, rhost, self.port(), self.gate.root).await;
            match begun {
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
            _ => Ok(Auth::reject()),
        }
    }

    /// Admits somebody if the port's groups do: this is who the connection belongs to from now on.
    fn admit(&mut self, identity: Identity) -> Auth {
        self.login = None;
        if self.gate.groups.admit(&identity.groups) {
            self.identity = Some(identity);
            return Auth::Accept;
        }
        tracing::warn!(
            message_id = Event::Refused.id(),
            console_user = identity.name,
            "{} from {} refused: in none of the groups that may use {}",
            identity.name,
            unmapped(self.peer.ip()),
            self.port()
        );
        Auth::reject()
    }

    /// What PAM's next step means for the client.
    fn step(&mut self, step: Step) -> Auth {
        match step {
            Step::Prompts { instructions, prompts } => Auth::Partial {
                name: Cow::Borrowed(""),
                instructions: Cow::Owned(instructions),
                prompts: prompts.into_iter().map(|prompt| (Cow::Owned(prompt.text), prompt.echo)).collect(),
            },
            Step::Granted(identity) => self.admit(identity),
            Step::Denied => Auth::reject(),
        }
    }

    async fn by_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        let Some(login) = self.login(user).await? else { return Ok(Auth::reject()) };
        match login.password(Secret(password.to_owned())).await {
            Ok(Some(identity)) => Ok(self.admit(identity)),
            Ok(None) => Ok(Auth::reject()),
            Err(error) => self.helper_failed(&error),
        }
    }

    async fn by_questions(&mut self, user: &str, answers: Option<Vec<Secret>>) -> Result<Auth, russh::Error> {
        let Some(login) = self.login(user).await? else { return Ok(Auth::reject()) };
        let step = match answers {
            None => login.converse().await,
            Some(answers) => login.answer(answers).await,
        };
        match step {
            Ok(step) => Ok(self.step(step)),
            Err(error) => self.helper_failed(&error),
        }
    }

    fn start(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        let (Some(identity), Some(typed)) = (&self.identity, self.typed.take()) else {
            return session.channel_failure(channel);
        };
        session.channel_success(channel)?;
        self.breaks = Some(Registration::here(self.feeder.clone()));
        let visitor = Visitor { user: identity.name.clone(), from: unmapped(self.peer.ip()).to_string() };
        let outlet = SshOutlet::new(session.handle(), channel);
        let (console, terminal, handle) = (self.console.clone(), self.terminal, session.handle());
        let stage = self.stage.clone();
        stage.send_replace(Stage::Session);
        tokio::spawn(async move {
            let ended = session::run(console, visitor, terminal, typed, outlet).await;
            stage.send_replace(Stage::Over);
            finish(handle, channel, ended).await;
        });
        Ok(())
    }
}

/// Waits, if this is a refusal, until it tells nothing by its time.
async fn evenly(since: Instant, auth: Auth) -> Auth {
    if matches!(auth, Auth::Reject { .. }) {
        tokio::time::sleep_until(since + REFUSAL).await;
    }
    auth
}

/// An error that makes russh end the connection.
fn ends(why: &str) -> russh::Error {
    russh::Error::IO(std::io::Error::other(why.to_owned()))
}

/// `::ffff:192.0.2.1` is 192.0.2.1 to everybody but the socket.
fn unmapped(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        let Some(login) = self.login(user).await? else { return Ok(Auth::reject()) };
        match login.offer(offer.public_key).await {
            Ok(true) => Ok(Auth::Accept),
            Ok(false) => Ok(Auth::reject()),
            Err(error) => self.helper_failed(&error),
        }
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        let Some(login) = self.login(user).await? else { return Ok(Auth::reject()) };
        match login.key(key.public_key).await {
            Ok(Some(identity)) => Ok(self.admit(identity)),
            Ok(None) => Ok(Auth::reject()),
            Err(error) => self.helper_failed(&error),
        }
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        let since = Instant::now();
        let auth = self.by_password(user, password).await?;
        Ok(evenly(since, auth).await)
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        let since = Instant::now();
        let answers = response.map(|answers| {
            answers.map(|answer| Secret(String::from_utf8_lossy(&answer).into_owned())).collect::<Vec<_>>()
        });
        let auth = self.by_questions(user, answers).await?;
        Ok(evenly(since, auth).await)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), russh::Error> {
        self.seat = self.ticket.as_ref().and_then(Ticket::seat);
        if self.seat.is_none() {
            let full = format!("{} connections are logged in to {}: no more", limits::LOGGED_IN, self.port());
            tracing::warn!("{} closed: {full}", unmapped(self.peer.ip()));
            return session.disconnect(Disconnect::TooManyConnections, &full, "");
        }
        self.ticket = None;
        self.stage.send_replace(Stage::Admitted);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        if self.channel.is_some() {
            reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        } else {
            self.channel = Some(channel.id());
            reply.accept().await;
        }
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _col_width: u32,
        _row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.terminal = true;
        session.channel_success(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.start(channel, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _data: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_success(channel)?;
        // Whatever comes on its standard input is for nobody, and must not stop us from reading.
        self.typed = None;
        self.stage.send_replace(Stage::Over);
        let name = self.port();
        let refusal = format!("{name} takes no commands yet: leave the command away to get the console\n");
        session.extended_data(channel, 1, refusal.into_bytes())?;
        session.exit_status_request(channel, 2)?;
        session.eof(channel)?;
        session.close(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }

    /// russh would not answer it, and OpenSSH would take the next answer for this one.
    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single_connection: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }

    async fn data(
        &mut self,
        _channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.feeder.feed(session::Event::Bytes(data.to_vec()));
        Ok(())
    }

    async fn channel_eof(&mut self, _channel: ChannelId, _session: &mut Session) -> Result<(), russh::Error> {
        self.feeder.feed(session::Event::End);
        Ok(())
    }

    /// A connection is one session. One that is kept for others (`ControlPersist`) would hold this one's place.
    async fn channel_close(
        &mut self,
        _channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.disconnect(Disconnect::ByApplication, "the session has ended", "")
    }
}
