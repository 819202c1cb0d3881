//! Where an SSH connection leads once somebody has logged in: to a port's console ([`super::Door`]) or to the admin CLI
//! (`gateway`). Everything before that, and all that SSH is not for here, is the same for both.

use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::outlet::SshOutlet;
use crate::auth::client::Granted;
use crate::auth::protocol::{Exit, Identity, Target, Term, WindowSize};
use crate::config::{RootLogin, SshOffer};
use crate::session::Typed;

/// What is behind a listener.
pub trait Destination: Send + Sync + 'static {
    /// What messages call it: `ttyUSB0`, `the admin CLI`.
    fn name(&self) -> String;

    /// Where to ask who somebody is.
    fn gatekeeping(&self) -> Gatekeeping;

    /// What is offered to a client that has not logged in.
    fn ssh_offer(&self) -> impl Future<Output = SshOffer> + Send;

    /// Who wants to log in to what, when a client gives this user name.
    fn asks(&self, name: &str) -> (String, Target);

    /// Why somebody may not come in, although it is clear who they are.
    fn refuses(&self, identity: &Identity) -> Option<String>;

    /// Serves one session; how it ended, or `None` if its client is gone.
    fn serve(self: Arc<Self>, session_login: Login) -> impl Future<Output = Option<Exit>> + Send;

    /// Why sessions are to end, once they are.
    fn closing(&self) -> watch::Receiver<Option<String>>;
}

/// Where to ask who somebody is, and what to say about root.
#[derive(Debug, Clone)]
pub struct Gatekeeping {
    /// `console-auth`'s socket.
    pub auth_socket: PathBuf,
    /// How root may log in.
    pub root: RootLogin,
}

/// Somebody who has logged in and begins a session.
#[derive(Debug)]
pub struct Login {
    /// The user name, as the client gave it.
    pub name: String,
    /// Who that is.
    pub identity: Identity,
    /// The login that was granted.
    pub login: Granted,
    /// The client's address.
    pub from: IpAddr,
    /// What PAM has said to the user; it is shown once, as the session begins.
    pub said: String,
    /// What is asked for.
    pub request: ChannelRequest,
    /// The client's terminal.
    pub terminal: Option<Screen>,
    /// What the client sends.
    pub typed: Typed,
    /// Where words go.
    pub outlet: SshOutlet,
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelRequest {
    /// Nothing in particular.
    Shell,
    /// A command: `ssh host command`.
    Command(Vec<u8>),
    /// The line of a port by RFC 2217: `ssh -s host rfc2217`.
    Rfc2217,
}

/// A client's terminal.
#[derive(Debug)]
pub struct Screen {
    /// Its type; `dumb` if the client's word for it is none.
    pub term: Term,
    /// Its size, as the client changes it.
    pub size: watch::Receiver<WindowSize>,
}
