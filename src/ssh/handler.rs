//! One SSH connection, as russh tells of it: it logs in, its one channel becomes a session at its [destination]
//! (super::destination), and everything else that SSH can do is refused.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Pty};
use tokio::sync::watch;

use super::breaks::Registration;
use super::destination::{Destination, Screen, Visit, Wish};
use super::limits::Ticket;
use super::login::{Admitted, Logins};
use super::outlet::{SshOutlet, finish};
use crate::auth::protocol::{Identity, Secret, Term, WindowSize};
use crate::seats::{Seat, is_administrator};
use crate::session::{Event, Feeder, Typed};

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

/// One connection.
pub struct Connection<D> {
    destination: Arc<D>,
    peer: IpAddr,
    /// Held until the login, or the end.
    ticket: Option<Ticket>,
    /// Held from the login to the end.
    seat: Option<Seat>,
    stage: watch::Sender<Stage>,
    logins: Logins<D>,
    feeder: Feeder,
    typed: Option<Typed>,
    channel: Option<ChannelId>,
    terminal: Option<Screen>,
    size: watch::Sender<WindowSize>,
    breaks: Option<Registration>,
}

impl<D: Destination> Connection<D> {
    /// A connection that has just come in.
    pub fn new(
        destination: Arc<D>,
        peer: SocketAddr,
        ticket: Ticket,
        (feeder, typed): (Feeder, Typed),
    ) -> Self {
        // `::ffff:192.0.2.1` is 192.0.2.1 to everybody but the socket.
        let peer = peer.ip().to_canonical();
        Self {
            logins: Logins::new(destination.clone(), peer, ticket.queue()),
            destination,
            peer,
            ticket: Some(ticket),
            seat: None,
            stage: watch::Sender::new(Stage::Login),
            feeder,
            typed: Some(typed),
            channel: None,
            terminal: None,
            size: watch::Sender::default(),
            breaks: None,
        }
    }

    /// How far it has come.
    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    fn start(&mut self, channel: ChannelId, wish: Wish, session: &mut Session) -> Result<(), russh::Error> {
        let Some(typed) = self.typed.take() else { return session.channel_failure(channel) };
        let Some(Admitted { name, identity, mut login }) = self.logins.admitted() else {
            return session.channel_failure(channel);
        };
        session.channel_success(channel)?;
        self.breaks = Some(Registration::here(self.feeder.clone()));
        let visit = Visit {
            name,
            identity,
            said: login.take_said(),
            login,
            from: self.peer,
            wish,
            terminal: self.terminal.take(),
            typed,
            outlet: SshOutlet::new(session.handle(), channel),
        };
        let (destination, handle, stage) = (self.destination.clone(), session.handle(), self.stage.clone());
        stage.send_replace(Stage::Session);
        tokio::spawn(async move {
            let exit = destination.serve(visit).await;
            stage.send_replace(Stage::Over);
            finish(handle, channel, exit).await;
        });
        Ok(())
    }
}

fn window(columns: u32, rows: u32) -> WindowSize {
    let narrowed = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    WindowSize { columns: narrowed(columns), rows: narrowed(rows) }
}

impl<D: Destination> Handler for Connection<D> {
    type Error = russh::Error;

    /// russh asks for it once keys have been exchanged and a login is asked for. There is none.
    async fn authentication_banner(&mut self) -> Result<Option<String>, russh::Error> {
        if let Some(ticket) = &self.ticket {
            ticket.place().comes_to_login();
        }
        Ok(None)
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        self.logins.offered(user, offer.public_key).await
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        self.logins.by_key(user, key.public_key).await
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        self.logins.by_password(user, password).await
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        let answers = response.map(|answers| {
            answers.map(|answer| Secret(String::from_utf8_lossy(&answer).into_owned())).collect::<Vec<_>>()
        });
        self.logins.by_questions(user, answers).await
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), russh::Error> {
        if let Some(why) = self.logins.farewell() {
            return session.disconnect(Disconnect::NoMoreAuthMethodsAvailable, why, "");
        }
        let (Some(ticket), Some(identity)) = (self.ticket.take(), self.logins.identity()) else {
            return Err(russh::Error::Inconsistent);
        };
        let Identity { name, uid, groups } = identity;
        match ticket.seat(name, is_administrator(*uid, groups)) {
            Ok(seat) => self.seat = Some(seat),
            Err(full) => {
                let full = format!("{}: {full}", self.destination.name());
                tracing::warn!(console_user = name, "{name} from {} closed: {full}", self.peer);
                return session.disconnect(Disconnect::TooManyConnections, &full, "");
            }
        }
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
        term: &str,
        col_width: u32,
        row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.size.send_replace(window(col_width, row_height));
        let term = term.parse().unwrap_or_else(|_| Term::dumb());
        self.terminal = Some(Screen { term, size: self.size.subscribe() });
        session.channel_success(channel)
    }

    async fn window_change_request(
        &mut self,
        _channel: ChannelId,
        col_width: u32,
        row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.size.send_replace(window(col_width, row_height));
        Ok(())
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.start(channel, Wish::Shell, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.start(channel, Wish::Command(data.to_vec()), session)
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
        self.feeder.feed(Event::Bytes(data.to_vec()));
        Ok(())
    }

    async fn channel_eof(&mut self, _channel: ChannelId, _session: &mut Session) -> Result<(), russh::Error> {
        self.feeder.feed(Event::End);
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
