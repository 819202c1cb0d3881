//! Serves one login in `console-auth`: the order of requests, the decision, and the journal message with the reason. The peer gets only
//! the decision and PAM's messages for the user, and denials look the same whether or not the user exists.

use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::unistd::Uid;
use russh::keys::PublicKey;
use russh::keys::ssh_key::LineEnding;
use thiserror::Error;

use super::account::{Account, AccountError, LoginName};
use super::certificate::Offered;
use super::denied::{Denied, Failure};
use super::listed::Listed;
use super::pam::{PamError, Transaction, Who};
use super::peer::{Peer, PeerError};
use super::protocol::{Identity, Reply, Request, Secret, SecurityKeyFlags, Target};
use super::session::{self, SessionError};
use super::sources::Configured;
use crate::config::{Instances, RootLogin};
use crate::event::Event;
use crate::hostkeys::{self, HostKeys};
use crate::port::PortName;

/// Time from the connection to `Granted`: sshd's LoginGraceTime.
pub const LOGIN_GRACE_TIME: Duration = Duration::from_secs(120);

/// Conversations and signed keys in one login: sshd's MaxAuthTries.
const MAX_TRIES: u32 = 6;

/// Offered keys in one login. An agent holds a few; a guesser would ask for many.
const MAX_KEY_OFFERS: u32 = 64;

/// Time from a wrong answer to its denial, instead of PAM's own delay ([`super::pam`]): it slows down guessing, also by a compromised
/// port. It is less than the delay of `ssh::login`, which hides whether the password of a known user was hashed.
const DENIAL_DELAY: Duration = Duration::from_secs(2);

/// While one of these exists only root may log in (nologin(5)). Checked here as well as by pam_nologin, because without
/// /etc/pam.d/consoleserver the service `other` decides, which need not check it.
const NOLOGIN: [&str; 2] = ["/etc/nologin", "/run/nologin"];

/// The port of `--demo-key`.
const DEMO_PORT: &str = "demo";

/// Serves the login on `stream` to its end. `demo_key` is accepted for the port `demo` only. `program` runs as the user after the login;
/// `None` on the socket of the ports. `host_keys` is the directory of the host keys, and `configured` the configuration of users' keys.
///
/// # Errors
/// If the peer violated the protocol, disconnected or timed out, or a session could not start. A denied login is not an error. The
/// journal has the reason.
pub fn serve(
    stream: UnixStream,
    demo_key: Option<PublicKey>,
    program: Option<&Path>,
    host_keys: &Path,
    configured: Configured,
    status: impl Fn(&str),
) -> Result<(), ServeError> {
    let mut peer = Peer::new(stream, LOGIN_GRACE_TIME);
    let begun = peer.receive().and_then(|first| match first {
        None => Ok(None),
        Some(Request::Begin { user, rhost, target, root }) => {
            Ok(Some(Login::begin(user, rhost, target, root, demo_key, configured)))
        }
        Some(Request::HostKeys) => send_host_keys(&mut peer, host_keys).map(|()| None),
        Some(_) => Err(PeerError::OutOfTurn("the first request must be Begin or HostKeys")),
    });
    let mut login = match begun {
        Ok(None) => return Ok(()),
        Ok(Some(login)) => login,
        Err(error) => {
            tracing::warn!("invalid first request: {error}");
            return Err(error.into());
        }
    };
    let served = login.serve(&mut peer).map_err(ServeError::from);
    let served = served.and_then(|()| match (login.admitted.take(), program) {
        (Some((account, pam)), Some(program)) => {
            status(&super::status::status(account.name.as_str(), login.rhost));
            Ok(session::serve(peer, &account, pam, program, |what| login.log(what))?)
        }
        _ => Ok(()),
    });
    served.inspect_err(|error| login.log(&format!("ended: {error}")))
}

/// Why serving a login failed.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Session(#[from] SessionError),
}

impl ServeError {
    /// Whether the client disconnected or timed out: this is not a failure of the program, so its unit must not fail.
    pub fn is_of_the_client(&self) -> bool {
        matches!(self, Self::Peer(error) if error.is_of_the_client())
    }
}

/// Sends the host keys, which a port cannot read itself: as credentials of its unit, one invalid file would keep it from starting.
fn send_host_keys(peer: &mut Peer, directory: &Path) -> Result<(), PeerError> {
    let (found, missing) = match hostkeys::load(directory) {
        Ok(found) => (found, None),
        Err(error) => (HostKeys::default(), Some(error.to_string())),
    };
    for certificate in &found.certificates {
        match certificate.to_openssh() {
            Ok(text) => peer.send(&Reply::HostCertificate(text))?,
            Err(error) => tracing::error!("cannot send a host certificate: {error}"),
        }
    }
    for key in &found.keys {
        match key.to_openssh(LineEnding::LF) {
            Ok(text) => peer.send(&Reply::HostKey(Secret(text.as_bytes().to_vec())))?,
            Err(error) => tracing::error!("cannot send a host key: {error}"),
        }
    }
    peer.send(&Reply::HostKeysEnd { ignored: found.ignored, missing })
}

struct Login {
    /// The user name as typed: any text, truncated.
    typed: String,
    rhost: IpAddr,
    target: Target,
    root: RootLogin,
    demo_key: Option<PublicKey>,
    account: Result<Account, AccountError>,
    listed: Listed,
    /// The account of a granted login, as which sessions run; `None` for the demonstration key, which has no account.
    admitted: Option<(Account, Transaction<'static>)>,
    /// PAM's messages since its last question.
    messages: String,
    tries: u32,
    offers: u32,
    /// Offered keys that are in no file: reported once, at the end, since an agent offers all its keys.
    unlisted: u32,
}

impl Login {
    fn begin(
        typed: String,
        rhost: IpAddr,
        target: Target,
        root: RootLogin,
        demo: Option<PublicKey>,
        configured: Configured,
    ) -> Self {
        let at_demo = target.port().is_some_and(|port| port.as_str() == DEMO_PORT);
        Self {
            account: Account::look_up(&typed),
            demo_key: demo.filter(|_| at_demo),
            rhost: rhost.to_canonical(),
            typed: LoginName::cut(&typed).to_owned(),
            target,
            root,
            listed: Listed::new(configured),
            admitted: None,
            messages: String::new(),
            tries: 0,
            offers: 0,
            unlisted: 0,
        }
    }

    fn serve(&mut self, peer: &mut Peer) -> Result<(), PeerError> {
        while let Some(request) = peer.receive()? {
            let reply = match request {
                Request::Offer { key } => self.offered(&key),
                Request::Key { key, flags } => self.signed(&key, flags),
                Request::Converse => self.converse(peer, Change::Prompt)?,
                Request::Password => self.converse(peer, Change::Deny)?,
                Request::Begin { .. } => return Err(PeerError::OutOfTurn("repeated Begin")),
                Request::HostKeys => return Err(PeerError::OutOfTurn("HostKeys during a login")),
                Request::Answers(_) => return Err(PeerError::OutOfTurn("Answers without prompts")),
                Request::Run { .. } => return Err(PeerError::OutOfTurn("Run is not allowed")),
            };
            if !self.messages.trim().is_empty() {
                peer.send(&Reply::Messages(std::mem::take(&mut self.messages)))?;
            }
            self.messages.clear();
            peer.send(&reply)?;
            if matches!(reply, Reply::Granted(_)) {
                return Ok(());
            }
            if self.tries >= MAX_TRIES || self.offers >= MAX_KEY_OFFERS {
                self.log("ended: too many attempts");
                return Ok(());
            }
        }
        if self.unlisted > 0 {
            let why = format!("none of the {} offered keys is in the user's authorized_keys", self.unlisted);
            self.event(Event::Denied, &why);
        }
        Ok(())
    }

    fn offered(&mut self, key: &str) -> Reply {
        self.offers += 1;
        match self.by_key(key, Proof::None) {
            Ok(_) => Reply::Acceptable,
            Err(Denied::Unlisted(_)) => {
                self.unlisted += 1;
                Reply::Denied
            }
            Err(denied) => self.refuse("key", &denied),
        }
    }

    fn signed(&mut self, key: &str, flags: Option<SecurityKeyFlags>) -> Reply {
        self.tries += 1;
        match self.by_key(key, Proof::Signature(flags)) {
            Ok((identity, key)) => self.grant(identity, &key),
            Err(denied) => self.refuse("key", &denied),
        }
    }

    fn converse(&mut self, peer: &mut Peer, change: Change) -> Result<Reply, PeerError> {
        self.tries += 1;
        match self.by_conversation(peer, change) {
            Ok(identity) => Ok(self.grant(identity, "password")),
            Err(Failure::Denied(denied)) => {
                let reply = self.refuse("password", &denied);
                peer.wait_since_last_message(DENIAL_DELAY);
                Ok(reply)
            }
            Err(Failure::Peer(error)) => Err(error),
        }
    }

    /// The identity, and a description of the key. A signed key logs in; otherwise this only checks whether it would be accepted.
    fn by_key(&mut self, key: &str, proof: Proof) -> Result<(Identity, String), Denied> {
        let offered = Offered::parse(key)?;
        let described = offered.to_string();
        if let (Some(demo), Offered::Key(key)) = (&self.demo_key, &offered)
            && demo.key_data() == key.key_data()
        {
            let identity = Identity { name: DEMO_PORT.to_owned(), uid: 65534, groups: Vec::new() };
            return Ok((identity, described));
        }
        let owner = match &self.account {
            Ok(account) => account.clone(),
            Err(_) => Account::nobody(),
        };
        let (candidate, rhost) = (self.candidate(), self.rhost);
        let listed = self.listed.lists(&owner, &offered, rhost, &|what| candidate.log(None, what))?;
        let account = self.account.as_ref().map_err(|error| *error)?;
        let required = listed.ok_or_else(|| Denied::Unlisted(described.clone()))?;
        self.admits(account, Method::Key)?;
        let Proof::Signature(flags) = proof else { return Ok((account.identity()?, described)) };
        required.check(offered.key(), flags).map_err(Denied::SecurityKey)?;
        let mut pam = Transaction::silent(&self.who(account.name.as_str()))?;
        let identity = self.admits_now(account, Method::Key, &mut pam, Change::Deny)?;
        self.messages = pam.take_messages();
        self.admitted = Some((account.clone(), pam));
        Ok((identity, described))
    }

    /// A user who may not log in by password gets the same prompts as any other user, and every answer is
    /// rejected.
    fn by_conversation(&mut self, peer: &mut Peer, change: Change) -> Result<Identity, Failure> {
        let known = self.account.as_ref().map_err(|error| Denied::from(*error));
        let allowed = known.and_then(|account| self.admits(account, Method::Password));
        let user = LoginName::parse(&self.typed);
        let user = user.as_ref().map_or(LoginName::IMPOSSIBLE, LoginName::as_str);
        let mut pam = Transaction::asking(peer, &self.who(user), allowed.is_err())?;
        let verdict = pam.authenticate();
        if allowed.is_err() || verdict.is_err() {
            self.messages = pam.take_messages();
        }
        if let (Err(denied), Ok(()) | Err(PamError::Denied { .. })) = (allowed, &verdict) {
            return Err(denied.into());
        }
        verdict?;
        let account = Account::look_up(&pam.user()?)?;
        let identity = self.admits_now(&account, Method::Password, &mut pam, change)?;
        self.messages = pam.take_messages();
        self.admitted = Some((account, pam.silenced()?));
        Ok(identity)
    }

    /// Checks before authentication. Not all PAM modules check a lock: pam_krb5 and pam_sss use other databases.
    fn admits(&self, account: &Account, method: Method) -> Result<(), Denied> {
        let own = Uid::effective();
        match (self.root, method) {
            _ if !own.is_root() && account.uid != own => return Err(Denied::OtherUser(own)),
            _ if !account.uid.is_root() => {}
            (RootLogin::Yes, _) | (RootLogin::Key, Method::Key) => {}
            (RootLogin::Key, Method::Password) => return Err(Denied::RootByPassword),
            (RootLogin::No, _) => return Err(Denied::Root),
        }
        // Only root can read the lock.
        if own.is_root() && account.is_locked()? { Err(Denied::Locked) } else { Ok(()) }
    }

    /// Checks of an authenticated account, by any method: it is the one that PAM returned.
    fn admits_now(
        &self,
        account: &Account,
        method: Method,
        pam: &mut Transaction<'_>,
        change: Change,
    ) -> Result<Identity, Denied> {
        self.admits(account, method)?;
        // First, since pam_nologin sends the file's text to the user.
        match (pam.check_account(), change) {
            (Err(PamError::MustChangePassword(_)), Change::Prompt) => {
                self.log("password expired, asking for a new one");
                pam.change_password()?;
                self.log("password changed");
            }
            (checked, _) => checked?,
        }
        open_to(account)?;
        Ok(account.identity()?)
    }

    fn who<'a>(&'a self, user: &'a str) -> Who<'a> {
        Who { user, rhost: self.rhost, place: &self.target }
    }

    fn grant(&self, identity: Identity, proof: &str) -> Reply {
        self.event(Event::Login, &format!("granted as {} by {proof}", identity.name));
        Reply::Granted(identity)
    }

    fn refuse(&self, method: &str, denied: &Denied) -> Reply {
        self.event(Event::Denied, &format!("denied ({method}): {denied}"));
        match denied {
            Denied::Pam(error) => error.for_user().map_or(Reply::Denied, Reply::AccountDenied),
            _ => Reply::Denied,
        }
    }

    fn event(&self, event: Event, what: &str) {
        self.candidate().log(Some(event.id()), what);
    }

    fn log(&self, what: &str) {
        self.candidate().log(None, what);
    }

    fn candidate(&self) -> Candidate {
        Candidate { typed: self.typed.clone(), rhost: self.rhost, target: self.target.clone() }
    }
}

/// The login, with which each journal message begins.
struct Candidate {
    typed: String,
    rhost: IpAddr,
    target: Target,
}

impl Candidate {
    /// `object_systemd_unit` makes `journalctl --unit console@PORT` (or `console-cli`) include the message, because root sent it.
    fn log(&self, message_id: Option<&str>, what: &str) {
        let Self { typed, rhost, target } = self;
        let unit = match target {
            Target::Port(port) => Instances::running(Path::new("/")).of(port).service(),
            Target::Admin => "console-cli.service".to_owned(),
        };
        tracing::info!(
            message_id,
            console_user = typed,
            console_port = target.port().map(PortName::as_str),
            console_rhost = %rhost,
            object_systemd_unit = unit,
            "login of {typed:?} to {target} from {rhost}: {what}"
        );
    }
}

/// What the network side knows about a key.
#[derive(Clone, Copy)]
enum Proof {
    /// The client offers the key and may own it: nothing is proved yet.
    None,
    /// The client has signed with it; the flags are those of a security key.
    Signature(Option<SecurityKeyFlags>),
}

/// What happens with a password that must be changed.
#[derive(Clone, Copy)]
enum Change {
    /// PAM asks for a new one.
    Prompt,
    /// The login is denied: its method has no prompts.
    Deny,
}

#[derive(Clone, Copy)]
enum Method {
    Key,
    Password,
}

fn open_to(account: &Account) -> Result<(), Denied> {
    match NOLOGIN.into_iter().find(|path| Path::new(path).exists()) {
        Some(path) if !account.uid.is_root() => Err(Denied::Nologin(path)),
        _ => Ok(()),
    }
}
