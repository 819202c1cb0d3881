//! russh's callbacks for one SSH connection: authentication, and channels that become sessions at its [destination](super::destination).
//! All other features of SSH are rejected.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use russh::client::GexParams;
use russh::kex::dh::groups::DhGroup;
use russh::server::{
    Auth, ChannelOpenHandle, Handle, Handler, Msg, PublicKeyOffer, Response, Session, VerifiedCertificate,
    VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Pty, Sig};
use socket2::Socket;
use tokio::io::Interest;
use tokio::sync::watch;

use super::admission::Slot;
use super::algorithms;
use super::banner::Banner;
use super::channels::{ChannelRejected, Channels, SessionParts};
use super::destination::{ChannelRequest, Destination, Login, Screen};
use super::limits::Ticket;
use super::login::{Admitted, Authenticator};
use super::outlet::{SshOutlet, finish};
use crate::auth::client::ClientKey;
use crate::auth::protocol::{Identity, Secret, Term, WindowSize};
use crate::seats::{Full, Seat, Seats, is_administrator};
use crate::session::Event;
use crate::system::reactor::peer_closed;

/// Time for a client to close its end after its last session. OpenSSH reports a disconnect before that as an error.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for a client to print standard error before the failure of its request.
const PRINT_TIMEOUT: Duration = Duration::from_millis(200);

#[derive(Clone, Default)]
pub struct Progress {
    /// After the login: its seat, and the handle for a disconnect message.
    pub(super) login: Option<(Arc<Seat>, Handle)>,
    pub(super) sessions: usize,
}

/// State that a connection shares with the task that serves it.
#[derive(Clone)]
pub struct Shared {
    /// Its socket, to be watched and shut down.
    pub(super) socket: Arc<Socket>,
    /// Its slot among the unauthenticated connections.
    pub(super) slot: Arc<Slot>,
    pub(super) channels: Channels,
    pub(super) progress: watch::Sender<Progress>,
}

pub struct Connection<D> {
    destination: Arc<D>,
    peer: IpAddr,
    /// Our address, as the peer sees it.
    local_address: IpAddr,
    /// Held until the login or the end.
    ticket: Option<Ticket>,
    seats: Arc<Seats>,
    logins: Authenticator<D>,
    admitted: Option<Admitted>,
    shared: Shared,
    rejection_logged: bool,
    /// The banner, until it is sent.
    banner: Option<(Arc<Banner>, PathBuf)>,
}

impl<D: Destination> Connection<D> {
    /// A new connection from `peer`.
    pub fn new(
        destination: Arc<D>,
        (peer, at): (IpAddr, IpAddr),
        ticket: Ticket,
        shared: Shared,
        banner: Option<(Arc<Banner>, PathBuf)>,
    ) -> Self {
        Self {
            logins: Authenticator::new(destination.clone(), peer, ticket.queue()),
            destination,
            peer,
            local_address: at,
            seats: ticket.seats(),
            ticket: Some(ticket),
            admitted: None,
            shared,
            rejection_logged: false,
            banner,
        }
    }

    /// Opens a channel, if the limits allow it.
    fn open(&mut self, channel: Channel<Msg>, handle: Handle) -> Result<(), ChannelRejected> {
        let seat = || match &self.admitted {
            Some(Admitted { identity, .. }) => {
                self.seats.take(&identity.name, is_administrator(identity.uid, &identity.groups))
            }
            // russh accepts no channels before the login.
            None => Err(Full::All),
        };
        let opened = self.shared.channels.open(channel, handle, seat);
        if let (Err(why), Some(Admitted { identity, .. }), false) =
            (&opened, &self.admitted, self.rejection_logged)
        {
            let (slot, name) = (self.destination.name(), &identity.name);
            tracing::warn!(
                console_user = name,
                "session of {name} from {} rejected: {slot}: {why} (reported once per connection)",
                self.peer
            );
            self.rejection_logged = true;
        }
        opened
    }

    fn start(
        &mut self,
        channel: ChannelId,
        request: ChannelRequest,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let is_sftp = request == ChannelRequest::Sftp;
        let Some(Admitted { name, identity, login, .. }) = self.admitted.clone() else {
            return session.channel_failure(channel);
        };
        let Some(SessionParts { typed, out, terminal }) = self.shared.channels.begin(channel) else {
            return session.channel_failure(channel);
        };
        if !is_sftp {
            session.channel_success(channel)?;
        }
        let session_login = Login {
            name,
            identity,
            messages: self
                .admitted
                .as_mut()
                .map(|admitted| std::mem::take(&mut admitted.messages))
                .unwrap_or_default(),
            login,
            from: self.peer,
            request,
            terminal: terminal.map(|(term, size)| Screen { term, size }),
            typed,
            outlet: SshOutlet::new(out, self.local_address),
        };
        let (destination, handle, shared) = (self.destination.clone(), session.handle(), self.shared.clone());
        shared.session_started();
        tokio::spawn(async move {
            let exit = destination.serve(session_login).await;
            // Even if the client never receives the exit status.
            shared.session_ended();
            if is_sftp {
                // libssh2 (curl) and libssh wait without limit for SFTP's first packet, unless the request has failed. OpenSSH's client
                // exits as soon as it has, and prints what it has received before.
                tokio::time::sleep(PRINT_TIMEOUT).await;
                let _ = handle.channel_failure(channel).await;
            } else {
                finish(&handle, channel, exit).await;
            }
            shared.channels.close(channel);
            if shared.channels.is_used_up() {
                tokio::time::sleep(CLOSE_TIMEOUT).await;
                // Fails if the client has disconnected.
                let _ = handle
                    .disconnect(Disconnect::ByApplication, ChannelRejected::UsedUp.to_string(), String::new())
                    .await;
            }
        });
        Ok(())
    }

    /// Runs a login step until the client disconnects, so that its slot and helper are freed at once.
    async fn until_peer_closes<T>(
        shared: &Shared,
        login: impl Future<Output = Result<T, russh::Error>>,
    ) -> Result<T, russh::Error> {
        shared.slot.turn().end();
        let socket = shared.socket.try_clone()?.into();
        tokio::select! {
            done = login => done,
            done = peer_closed(socket, Interest::READABLE) => Err(done.err().map_or(russh::Error::Disconnect, russh::Error::IO)),
        }
    }
}

/// Ends its sessions, which share the channels.
impl<D> Drop for Connection<D> {
    fn drop(&mut self) {
        self.shared.channels.close_all();
    }
}

impl Shared {
    fn session_started(&self) {
        self.progress.send_modify(|progress| {
            progress.sessions += 1;
            if let Some((seat, _)) = &progress.login {
                seat.set_idle(false);
            }
        });
    }

    fn session_ended(&self) {
        self.progress.send_modify(|progress| {
            progress.sessions -= 1;
            if let Some((seat, _)) = progress.login.as_ref().filter(|_| progress.sessions == 0) {
                seat.set_idle(true);
            }
        });
    }
}

fn window(columns: u32, rows: u32) -> WindowSize {
    let narrowed = |count: u32| u16::try_from(count).unwrap_or(u16::MAX);
    WindowSize { columns: narrowed(columns), rows: narrowed(rows) }
}

impl<D: Destination> Handler for Connection<D> {
    type Error = russh::Error;

    /// russh calls this after the key exchange, when the client requests authentication.
    async fn authentication_banner(&mut self) -> Result<Option<String>, russh::Error> {
        self.shared.slot.reached_login();
        match self.banner.take() {
            Some((banner, path)) => Ok(banner.text(path).await),
            None => Ok(None),
        }
    }

    async fn lookup_dh_gex_group(&mut self, wanted: &GexParams) -> Result<Option<DhGroup>, russh::Error> {
        Ok(algorithms::group(wanted))
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        // No such field? russh lacks our patch (patches/README.md).
        let key = match offer.certificate {
            Some(certificate) => ClientKey::Certificate(certificate),
            None => ClientKey::Key(offer.public_key),
        };
        Self::until_peer_closes(&self.shared, self.logins.offered(user, key, offer.algorithm)).await
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        let login = self.logins.by_key(user, key.public_key.into(), key.signature);
        Self::until_peer_closes(&self.shared, login).await
    }

    async fn auth_verified_certificate(
        &mut self,
        user: &str,
        verified: VerifiedCertificate<'_>,
    ) -> Result<Auth, russh::Error> {
        let login = self.logins.by_key(user, verified.certificate.into(), verified.signature);
        Self::until_peer_closes(&self.shared, login).await
    }

    /// No such method? russh lacks our patch (patches/README.md).
    async fn auth_password_bytes(&mut self, user: &str, password: &[u8]) -> Result<Auth, russh::Error> {
        Self::until_peer_closes(&self.shared, self.logins.by_password(user, password)).await
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _submethods: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, russh::Error> {
        let answers =
            response.map(|answers| answers.map(|answer| Secret(answer.to_vec())).collect::<Vec<_>>());
        Self::until_peer_closes(&self.shared, self.logins.by_questions(user, answers)).await
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), russh::Error> {
        if let Some(why) = self.logins.disconnect_message() {
            return session.disconnect(Disconnect::NoMoreAuthMethodsAvailable, why, "");
        }
        let (Some(ticket), Some(admitted)) = (self.ticket.take(), self.logins.admitted()) else {
            return Err(russh::Error::Inconsistent);
        };
        ticket.has_logged_in();
        let Identity { name, uid, groups } = &admitted.identity;
        match self.seats.take(name, is_administrator(*uid, groups)) {
            Ok(seat) => {
                // Until its first session.
                seat.set_idle(true);
                let inside = Some((Arc::new(seat), session.handle()));
                self.shared.progress.send_modify(|progress| progress.login = inside);
            }
            Err(full) => {
                let full = format!("{}: {full}", self.destination.name());
                tracing::warn!(console_user = name, "{name} from {} closed: {full}", self.peer);
                return session.disconnect(Disconnect::TooManyConnections, &full, "");
            }
        }
        self.admitted = Some(admitted);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        match self.open(channel, session.handle()) {
            Ok(()) => reply.accept().await,
            Err(_logged) => reply.reject(ChannelOpenFailure::ResourceShortage).await,
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
        let term = term.parse().unwrap_or_else(|_| Term::dumb());
        self.shared.channels.set_terminal(channel, term, window(col_width, row_height));
        session.channel_success(channel)
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        col_width: u32,
        row_height: u32,
        _pix_width: u32,
        _pix_height: u32,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.shared.channels.resize(channel, window(col_width, row_height));
        // Sent only to a client that has asked for a reply.
        session.channel_success(channel)
    }

    /// A console has no process to signal. A client that waits for the reply would wait without limit.
    async fn signal(
        &mut self,
        channel: ChannelId,
        _signal: Sig,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.start(channel, ChannelRequest::Shell, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.start(channel, ChannelRequest::Command(data.to_vec()), session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        match name {
            "sftp" => self.start(channel, ChannelRequest::Sftp, session),
            "rfc2217" => self.start(channel, ChannelRequest::Rfc2217, session),
            _ => session.channel_failure(channel),
        }
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

    /// russh would not reply, and OpenSSH would take the next reply for this one.
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
        channel: ChannelId,
        data: &[u8],
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.shared.channels.feed(channel, Event::Bytes(data.to_vec()));
        Ok(())
    }

    /// A break (RFC 4335): `~B` in OpenSSH, a special command in PuTTY. Its length is the port's default, since OpenSSH always requests one
    /// second.
    async fn channel_request(
        &mut self,
        channel: ChannelId,
        request: &str,
        _data: &[u8],
        _session: &mut Session,
    ) -> Result<bool, russh::Error> {
        Ok(request == "break" && self.shared.channels.send_break(channel))
    }

    async fn channel_eof(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), russh::Error> {
        self.shared.channels.feed(channel, Event::End);
        Ok(())
    }

    async fn channel_close(
        &mut self,
        channel: ChannelId,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.shared.channels.close(channel);
        Ok(())
    }
}
