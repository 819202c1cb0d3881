//! One login, as `console-auth` serves it: the order of requests, who is let in, and the line in the journal that says
//! why not. The peer only ever learns yes or no and what PAM says to the user, and failures look alike whether or not the user exists.

use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::unistd::Uid;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{HashAlg, PublicKey};
use thiserror::Error;

use super::account::{Account, AccountError, LoginName};
use super::denied::{Denied, Failure};
use super::listed::Listed;
use super::pam::{PamError, Transaction, Who};
use super::peer::{Peer, PeerError};
use super::protocol::{Identity, Reply, Request, Secret, Target};
use super::session::{self, SessionError};
use super::sources::Configured;
use crate::config::{Instances, RootLogin};
use crate::event::Event;
use crate::hostkeys::{self, HostKeys};
use crate::port::PortName;

/// From the connection to `Granted`: sshd's LoginGraceTime.
pub const LOGIN_GRACE_TIME: Duration = Duration::from_secs(120);

/// Conversations and signed keys in one login: sshd's MaxAuthTries.
const MAX_TRIES: u32 = 6;

/// Offered keys in one login. An agent holds a few; a guesser would ask for many.
const MAX_KEY_OFFERS: u32 = 64;

/// A wrong answer is told so long after it came, in the place of PAM's own delay ([`super::pam`]): who guesses, be it a port that
/// was taken over, waits. It is less than what `ssh::login` adds up to, so that there is time to hash a password of a
/// known user, and none of an unknown one, before anything shows.
const DENIAL_DELAY: Duration = Duration::from_secs(2);

/// While one of these exists only root logs in (nologin (5)). Looked at here as well as by pam_nologin, because
/// without /etc/pam.d/consoleserver the service `other` decides, which need not look.
const NOLOGIN: [&str; 2] = ["/etc/nologin", "/run/nologin"];

/// The port that `--demo-key` is for.
const DEMO_PORT: &str = "demo";

/// Serves the login on `stream` to its end. `demo_key` is admitted for the port `demo` alone. `program` is what whoever was
/// let in may have run as themselves: none on the socket of the ports. `host_keys` is the directory of the host keys, and
/// `configured` the configuration, which says where users' keys are.
///
/// # Errors
/// When the peer broke the protocol, vanished in the middle or was too slow, or a session could not begin; a refused login
/// is no error. The journal has been told.
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
            tracing::warn!("a login ended before it began: {error}");
            return Err(error.into());
        }
    };
    let served = login.serve(&mut peer).map_err(ServeError::from);
    let served = served.and_then(|()| match (login.admitted.take(), program) {
        (Some((account, pam)), Some(program)) => {
            status(&super::status::status(account.name.as_str(), login.rhost));
            Ok(session::serve(peer, &account, pam, program, |what| login.tell(what))?)
        }
        _ => Ok(()),
    });
    served.inspect_err(|error| login.tell(&format!("ended: {error}")))
}

/// Why a login did not come to its proper end.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The network side.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// What it asked for could not be run.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// Sends the host keys, which a port may not read by itself: each port's process would otherwise wait for systemd to load
/// them, and one bad file would keep it from starting.
fn send_host_keys(peer: &mut Peer, directory: &Path) -> Result<(), PeerError> {
    let (found, missing) = match hostkeys::load(directory) {
        Ok(found) => (found, None),
        Err(error) => (HostKeys::default(), Some(error.to_string())),
    };
    for key in &found.keys {
        match key.to_openssh(LineEnding::LF) {
            Ok(text) => peer.send(&Reply::HostKey(Secret(text.to_string())))?,
            Err(error) => tracing::error!("a host key cannot be sent: {error}"),
        }
    }
    peer.send(&Reply::HostKeysEnd { skipped: found.skipped, missing })
}

/// Somebody who wants in.
struct Login {
    /// As typed: anything at all, but no more than a name has.
    typed: String,
    rhost: IpAddr,
    target: Target,
    root: RootLogin,
    demo_key: Option<PublicKey>,
    account: Result<Account, AccountError>,
    listed: Listed,
    /// Who has been let in, as whom a session may run; nobody for the demonstration key, which is no account's.
    admitted: Option<(Account, Transaction<'static>)>,
    /// What PAM has said to the user since its last question.
    said: String,
    tries: u32,
    offers: u32,
    /// Offered keys that are in no file: told once, at the end, since an agent offers all that it has.
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
            said: String::new(),
            tries: 0,
            offers: 0,
            unlisted: 0,
        }
    }

    fn serve(&mut self, peer: &mut Peer) -> Result<(), PeerError> {
        while let Some(request) = peer.receive()? {
            let reply = match request {
                Request::Offer { key } => self.offered(&key),
                Request::Key { key } => self.signed(&key),
                Request::Converse => self.converse(peer, Change::Asked)?,
                Request::Password => self.converse(peer, Change::Refused)?,
                Request::Begin { .. } => return Err(PeerError::OutOfTurn("Begin comes once")),
                Request::HostKeys => return Err(PeerError::OutOfTurn("HostKeys is not for a login")),
                Request::Answers(_) => return Err(PeerError::OutOfTurn("nothing was asked")),
                Request::Run { .. } => return Err(PeerError::OutOfTurn("nothing is run for this login")),
            };
            if !self.said.trim().is_empty() {
                peer.send(&Reply::Said(std::mem::take(&mut self.said)))?;
            }
            self.said.clear();
            peer.send(&reply)?;
            if matches!(reply, Reply::Granted(_)) {
                return Ok(());
            }
            if self.tries >= MAX_TRIES || self.offers >= MAX_KEY_OFFERS {
                self.tell("ended: too many tries");
                return Ok(());
            }
        }
        if self.unlisted > 0 {
            let why = format!("none of the {} offered keys is in the user's authorized_keys", self.unlisted);
            self.event(Event::Refused, &why);
        }
        Ok(())
    }

    fn offered(&mut self, key: &str) -> Reply {
        self.offers += 1;
        match self.by_key(key, false) {
            Ok(_) => Reply::Acceptable,
            Err(Denied::Unlisted(_)) => {
                self.unlisted += 1;
                Reply::Denied
            }
            Err(denied) => self.refuse("key", &denied),
        }
    }

    fn signed(&mut self, key: &str) -> Reply {
        self.tries += 1;
        match self.by_key(key, true) {
            Ok((identity, fingerprint)) => self.grant(identity, &format!("key {fingerprint}")),
            Err(denied) => self.refuse("key", &denied),
        }
    }

    fn converse(&mut self, peer: &mut Peer, change: Change) -> Result<Reply, PeerError> {
        self.tries += 1;
        match self.by_conversation(peer, change) {
            Ok(identity) => Ok(self.grant(identity, "password")),
            Err(Failure::Refused(denied)) => {
                let reply = self.refuse("password", &denied);
                peer.wait_since_heard(DENIAL_DELAY);
                Ok(reply)
            }
            Err(Failure::Peer(error)) => Err(error),
        }
    }

    /// The identity and the key's fingerprint. A key that is `signed` logs in now; otherwise it is only asked about.
    fn by_key(&mut self, key: &str, signed: bool) -> Result<(Identity, String), Denied> {
        let key = PublicKey::from_openssh(key).map_err(|_| Denied::NotAKey)?;
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        if self.demo_key.as_ref().is_some_and(|demo| demo.key_data() == key.key_data()) {
            let identity = Identity { name: DEMO_PORT.to_owned(), uid: 65534, groups: Vec::new() };
            return Ok((identity, fingerprint));
        }
        let owner = match &self.account {
            Ok(account) => account.clone(),
            Err(_) => Account::nobody(),
        };
        let (candidate, rhost) = (self.candidate(), self.rhost);
        let listed = self.listed.lists(&owner, &key, rhost, &|what| candidate.say(None, what))?;
        let account = self.account.as_ref().map_err(|error| *error)?;
        if !listed {
            return Err(Denied::Unlisted(fingerprint));
        }
        self.admits(account, Method::Key)?;
        if signed {
            let mut pam = Transaction::silent(&self.who(account.name.as_str()))?;
            let identity = self.admits_now(account, Method::Key, &mut pam, Change::Refused)?;
            self.said = pam.take_said();
            self.admitted = Some((account.clone(), pam));
            return Ok((identity, fingerprint));
        }
        Ok((account.identity()?, fingerprint))
    }

    /// Whoever must not log in this way is asked just like everybody else, and every answer is wrong.
    fn by_conversation(&mut self, peer: &mut Peer, change: Change) -> Result<Identity, Failure> {
        let known = self.account.as_ref().map_err(|error| Denied::from(*error));
        let allowed = known.and_then(|account| self.admits(account, Method::Password));
        let user = LoginName::parse(&self.typed);
        let user = user.as_ref().map_or(LoginName::IMPOSSIBLE, LoginName::as_str);
        let mut pam = Transaction::asking(peer, &self.who(user), allowed.is_err())?;
        let verdict = pam.authenticate();
        if allowed.is_err() || verdict.is_err() {
            self.said = pam.take_said();
        }
        if let (Err(denied), Ok(()) | Err(PamError::Refused { .. })) = (allowed, &verdict) {
            return Err(denied.into());
        }
        verdict?;
        let account = Account::look_up(&pam.user()?)?;
        let identity = self.admits_now(&account, Method::Password, &mut pam, change)?;
        self.said = pam.take_said();
        self.admitted = Some((account, pam.silenced()?));
        Ok(identity)
    }

    /// Rules about who may log in at all, before any proof. Not all proofs know of a lock: pam_krb5 and pam_sss ask elsewhere.
    fn admits(&self, account: &Account, method: Method) -> Result<(), Denied> {
        let own = Uid::effective();
        match (self.root, method) {
            _ if !own.is_root() && account.uid != own => return Err(Denied::SomebodyElse(own)),
            _ if !account.uid.is_root() => {}
            (RootLogin::Yes, _) | (RootLogin::Key, Method::Key) => {}
            (RootLogin::Key, Method::Password) => return Err(Denied::RootByPassword),
            (RootLogin::No, _) => return Err(Denied::Root),
        }
        // Only root can see a lock.
        if own.is_root() && account.is_locked()? { Err(Denied::Locked) } else { Ok(()) }
    }

    /// All that is asked of an account, whatever it has proved itself by: it is the one that PAM has named in the end.
    fn admits_now(
        &self,
        account: &Account,
        method: Method,
        pam: &mut Transaction<'_>,
        change: Change,
    ) -> Result<Identity, Denied> {
        self.admits(account, method)?;
        // First, since pam_nologin has the file's text for the user.
        match (pam.check_account(), change) {
            (Err(PamError::MustChangePassword(_)), Change::Asked) => {
                self.tell("the password has expired, and a new one is asked for");
                pam.change_password()?;
                self.tell("the password was changed");
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
        self.event(Event::Refused, &format!("refused by {method}: {denied}"));
        match denied {
            Denied::Pam(error) => error.for_user().map_or(Reply::Denied, Reply::AccountRefused),
            _ => Reply::Denied,
        }
    }

    fn event(&self, event: Event, what: &str) {
        self.say(Some(event.id()), what);
    }

    fn tell(&self, what: &str) {
        self.say(None, what);
    }

    fn say(&self, message_id: Option<&str>, what: &str) {
        self.candidate().say(message_id, what);
    }

    fn candidate(&self) -> Candidate {
        Candidate { typed: self.typed.clone(), rhost: self.rhost, target: self.target.clone() }
    }
}

/// Whose login it is: what each line in the journal begins with.
struct Candidate {
    typed: String,
    rhost: IpAddr,
    target: Target,
}

impl Candidate {
    /// `object_systemd_unit` makes `journalctl --unit console@PORT` show it among what the port says, or `console-cli`: root
    /// may say so.
    fn say(&self, message_id: Option<&str>, what: &str) {
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

/// What becomes of a password that must be changed.
#[derive(Clone, Copy)]
enum Change {
    /// PAM asks for a new one.
    Asked,
    /// The login is refused: its method has no questions.
    Refused,
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
