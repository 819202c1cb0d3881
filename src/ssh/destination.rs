//! What an SSH listener serves after the login: a port's console ([`super::ConsoleChannel`]) or the admin CLI (`gateway`). Everything
//! before that, and the rejection of unsupported SSH features, is the same for both.

use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use super::outlet::SshOutlet;
use crate::auth::client::Granted;
use crate::auth::protocol::{Exit, Identity, Target, Term, WindowSize};
use crate::config::{RootLogin, SshOffer};
use crate::session::QueuedInput;

/// The service behind a listener.
pub trait Destination: Send + Sync + 'static {
    /// Name in messages: `ttyUSB0`, `the admin CLI`.
    fn name(&self) -> String;

    fn gatekeeping(&self) -> Gatekeeping;

    /// Algorithms and banner for clients that are not logged in.
    fn ssh_offer(&self) -> impl Future<Output = SshOffer> + Send;

    /// The user and the target that this user name of a client means.
    fn login_target(&self, name: &str) -> (String, Target);

    /// Why an authenticated user is denied.
    fn denial(&self, identity: &Identity) -> Option<String>;

    /// Serves one session. Returns its exit status, or `None` if the client has disconnected.
    fn serve(self: Arc<Self>, session_login: Login) -> impl Future<Output = Option<Exit>> + Send;

    /// The reason, once sessions are to end.
    fn closing(&self) -> watch::Receiver<Option<String>>;
}

#[derive(Debug, Clone)]
pub struct Gatekeeping {
    /// `console-auth`'s socket.
    pub auth_socket: PathBuf,
    /// How root may log in.
    pub root: RootLogin,
}

/// A session of a user who has logged in.
#[derive(Debug)]
pub struct Login {
    /// The user name, as the client gave it.
    pub name: String,
    pub identity: Identity,
    pub login: Granted,
    pub from: IpAddr,
    /// PAM's messages, which are printed once, when the session begins.
    pub messages: String,
    pub request: ChannelRequest,
    pub terminal: Option<Screen>,
    pub typed: QueuedInput,
    pub outlet: SshOutlet,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelRequest {
    /// No command.
    Shell,
    /// A command: `ssh host command`.
    Command(Vec<u8>),
    /// File transfer, which no destination has: it prints an alternative on standard error, and then the request fails. A failed request
    /// carries no text, and OpenSSH's scp and sftp would print only "subsystem request failed".
    Sftp,
    /// The line of a port by RFC 2217: `ssh -s host rfc2217`.
    Rfc2217,
}

#[derive(Debug)]
pub struct Screen {
    /// Its type; `dumb` if the client's value is invalid.
    pub term: Term,
    /// Its size, with later changes.
    pub size: watch::Receiver<WindowSize>,
}
