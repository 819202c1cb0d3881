//! The network side of a login: requests of `console-port` and `console-cli` to `console-auth` over its socket, each with a timeout.
//! Dropping a [`Login`], or the last copy of a [`Granted`], ends the helper; dropping a [`Running`] ends its program.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Certificate, PrivateKey, PublicKey};
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::account::LoginName;
use super::protocol::{
    Exit, Identity, Prompt, Reply, Request, Run, Secret, SecurityKeyFlags, Target, Terminal,
};
use crate::config::RootLogin;
use crate::hostkeys::HostKeys;
use crate::system::message::{self, MessageError};

/// Timeout of connecting and sending the first request: systemd starts a helper when it accepts.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// systemd closes a connection at once while the maximum number of helpers runs (`MaxConnections=`): how long and how often to retry. A
/// login takes a tenth of a second, unless a user types.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const BUSY_RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Timeout of a reply. PAM delays a failure by seconds, and an unreachable directory server takes longer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// Timeout of reading all host keys. Their disk may have to spin up.
const HOST_KEYS_TIMEOUT: Duration = Duration::from_secs(20);

/// Conversations that a client may abandon, each of which costs a new helper.
const MAX_ABANDONED: u32 = 6;

/// Errors of the login helper. The SSH client sees a failed login; the sentence is for the journal.
#[derive(Debug, Error)]
pub enum LoginError {
    #[error("the login helper is unreachable at {}: {source}", path.display())]
    Unreachable { path: PathBuf, source: io::Error },
    /// The helper has exited, or allows no more attempts.
    #[error("the login helper closed the connection; for the reason see its messages")]
    Gone,
    #[error("the login helper did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("invalid message from the login helper: {0}")]
    Message(MessageError),
    #[error("unexpected reply from the login helper")]
    Unexpected,
    /// The user is authenticated, but PAM denies the account: the message for the user. Another method may be tried.
    #[error("the account is denied: {0:?}")]
    AccountDenied(String),
    /// This login was granted or failed before.
    #[error("the login has ended")]
    Over,
    #[error("the login helper could not start the session; for the reason see its messages")]
    NotRun,
    #[error("more than {MAX_ABANDONED} conversations were abandoned")]
    TooManyAbandoned,
}

/// Why there are no host keys.
#[derive(Debug, Error)]
pub enum HostKeysError {
    #[error("{0}")]
    Missing(String),
    #[error(transparent)]
    Helper(#[from] LoginError),
}

#[derive(Debug, Clone, Copy)]
pub enum ClientKey<'a> {
    Key(&'a PublicKey),
    Certificate(&'a Certificate),
}

impl<'a> From<&'a PublicKey> for ClientKey<'a> {
    fn from(key: &'a PublicKey) -> Self {
        Self::Key(key)
    }
}

impl<'a> From<&'a Certificate> for ClientKey<'a> {
    fn from(certificate: &'a Certificate) -> Self {
        Self::Certificate(certificate)
    }
}

impl ClientKey<'_> {
    fn text(self) -> Result<String, LoginError> {
        let text = match self {
            Self::Key(key) => key.to_openssh(),
            Self::Certificate(certificate) => certificate.to_openssh(),
        };
        text.map_err(|error| LoginError::Message(MessageError::Io(io::Error::other(error))))
    }
}

/// The next step that PAM requests.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Ask the user, then call [`Login::answer`].
    Prompts {
        /// Lines to print before the prompts.
        instructions: String,
        /// Never empty.
        prompts: Vec<Prompt>,
    },
    Granted(Identity),
    /// The login is denied. Another method may be tried.
    Denied,
}

/// One login, from the first method that the client tries to the last.
#[derive(Debug)]
pub struct Login {
    socket: PathBuf,
    begin: Request,
    state: State,
    abandoned: u32,
    /// Until then a closed connection means that no helper was free, if none has replied yet.
    busy_until: Option<Instant>,
    /// PAM's messages for the user.
    messages: String,
}

/// A request that is cancelled leaves `Over`, since its reply could be taken for the next one's.
#[derive(Debug)]
enum State {
    Ready(UnixStream),
    /// PAM waits for answers.
    Prompted(UnixStream),
    /// The helper of the admin CLI waits for [`Request::Run`]; that of a port has ended.
    Granted(UnixStream),
    Over,
}

/// A granted login. The helper of the admin CLI runs programs for it, also several at once, until the last copy is dropped; that of a port
/// has ended.
#[derive(Debug, Clone)]
pub struct Granted(Arc<Mutex<Option<UnixStream>>>);

/// Our ends of a program's descriptors.
#[derive(Debug)]
pub enum Ends {
    Terminal(OwnedFd),
    /// Pipes, without a terminal.
    Pipes {
        input: OwnedFd,
        output: OwnedFd,
        aside: OwnedFd,
    },
}

/// A program that the helper runs. When this is dropped it gets SIGHUP, and is killed if it does not exit.
#[derive(Debug)]
pub struct Running {
    stream: UnixStream,
    messages: String,
}

impl Running {
    fn new(socket: OwnedFd, messages: String) -> Result<Self, LoginError> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        let watched = socket.set_nonblocking(true).and_then(|()| UnixStream::from_std(socket));
        watched.map(|stream| Self { stream, messages }).map_err(|error| LoginError::Message(error.into()))
    }

    /// PAM's messages of the session, once.
    pub fn take_messages(&mut self) -> String {
        std::mem::take(&mut self.messages)
    }

    /// Waits until it has ended. Not cancel safe.
    pub async fn exited(&mut self) -> Result<Exit, LoginError> {
        match message::receive_async(&mut self.stream).await.map_err(understand)? {
            Some(Reply::Exited(exit)) => Ok(exit),
            Some(_) => Err(LoginError::Unexpected),
            None => Err(LoginError::Gone),
        }
    }
}

impl Granted {
    /// Runs `consolectl` as the user. Only the helper of the admin CLI does that.
    pub async fn run(&self, run: Run, terminal: Option<Terminal>) -> Result<(Ends, Running), LoginError> {
        let login = self.clone();
        // In a task, because if it were cancelled, the next session would get this one's reply.
        let asked = tokio::spawn(async move { login.ask(run, terminal).await });
        asked.await.map_err(|_| LoginError::Over)?
    }

    async fn ask(&self, run: Run, terminal: Option<Terminal>) -> Result<(Ends, Running), LoginError> {
        let mut target = self.0.lock().await;
        let mut stream = target.take().ok_or(LoginError::Over)?;
        let on_terminal = terminal.is_some();
        let started = timeout(REPLY_TIMEOUT, async {
            message::send_async(&mut stream, &Request::Run { run, terminal }).await.map_err(understand)?;
            let mut reply = message::receive_async(&mut stream).await.map_err(understand)?;
            let mut messages = String::new();
            if let Some(Reply::Messages(text)) = reply {
                messages = text;
                reply = message::receive_async(&mut stream).await.map_err(understand)?;
            }
            match reply {
                Some(Reply::Running) => {}
                Some(Reply::Failed) => return Ok(None),
                Some(_) => return Err(LoginError::Unexpected),
                None => return Err(LoginError::Gone),
            }
            let received = stream.async_io(Interest::READABLE, || message::receive_descriptors(&stream));
            let descriptors = received.await.map_err(|_| LoginError::Gone)?;
            Ok(Some((descriptors, messages)))
        });
        let started = started.await.map_err(|_| LoginError::Silent(REPLY_TIMEOUT))??;
        *target = Some(stream);
        let (descriptors, messages) = started.ok_or(LoginError::NotRun)?;
        let mut descriptors = descriptors.into_iter();
        let running = Running::new(descriptors.next().ok_or(LoginError::Unexpected)?, messages)?;
        let ends: Vec<OwnedFd> = descriptors.collect();
        let ends = if on_terminal {
            <[OwnedFd; 1]>::try_from(ends).map(|[terminal]| Ends::Terminal(terminal))
        } else {
            <[OwnedFd; 3]>::try_from(ends).map(|[input, output, aside]| Ends::Pipes { input, output, aside })
        };
        Ok((ends.map_err(|_| LoginError::Unexpected)?, running))
    }
}

impl Login {
    /// Connects to the helper at `socket` and begins a login.
    pub async fn begin(
        socket: &Path,
        user: &str,
        rhost: IpAddr,
        target: Target,
        root: RootLogin,
    ) -> Result<Self, LoginError> {
        let rhost = rhost.to_canonical();
        let begin = Request::Begin { user: LoginName::cut(user).to_owned(), rhost, target, root };
        let busy_until = Instant::now() + BUSY_TIMEOUT;
        let stream = loop {
            match connect(socket, &begin).await {
                Err(LoginError::Gone) if Instant::now() < busy_until => sleep(BUSY_RETRY_INTERVAL).await,
                connected => break connected?,
            }
        };
        let state = State::Ready(stream);
        Ok(Self {
            socket: socket.to_owned(),
            begin,
            state,
            abandoned: 0,
            busy_until: Some(busy_until),
            messages: String::new(),
        })
    }

    /// Whether this key or certificate would be accepted.
    pub async fn offer(&mut self, key: impl Into<ClientKey<'_>>) -> Result<bool, LoginError> {
        let key = key.into().text()?;
        match self.request(&Request::Offer { key }).await? {
            Reply::Acceptable => Ok(true),
            Reply::Denied => Ok(false),
            _ => Err(LoginError::Unexpected),
        }
    }

    /// Logs in by a key or certificate whose signature **has been verified**; `flags` are those of a security key's signature. `None` =
    /// denied.
    pub async fn key(
        &mut self,
        key: impl Into<ClientKey<'_>>,
        flags: Option<SecurityKeyFlags>,
    ) -> Result<Option<Identity>, LoginError> {
        let key = key.into().text()?;
        match self.request(&Request::Key { key, flags }).await? {
            Reply::Granted(identity) => Ok(Some(identity)),
            Reply::Denied => Ok(None),
            _ => Err(LoginError::Unexpected),
        }
    }

    /// Begins a conversation with PAM.
    pub async fn converse(&mut self) -> Result<Step, LoginError> {
        let reply = self.request(&Request::Converse).await?;
        self.step(reply)
    }

    /// Answers the prompts of the last [`Step`].
    pub async fn answer(&mut self, answers: Vec<Secret>) -> Result<Step, LoginError> {
        let State::Prompted(stream) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(LoginError::Over);
        };
        let reply = self.exchange(stream, &Request::Answers(answers)).await?;
        self.step(reply)
    }

    /// Logs in by SSH's method `password`: PAM's first question is answered with it. If PAM asks more than one, the
    /// method cannot carry the answers, and the client must use `keyboard-interactive`: denied.
    pub async fn password(&mut self, password: Secret) -> Result<Option<Identity>, LoginError> {
        let reply = self.request(&Request::Password).await?;
        let step = match self.step(reply)? {
            Step::Prompts { prompts, .. } if prompts.len() == 1 && !prompts[0].echo => {
                self.answer(vec![password]).await?
            }
            step => step,
        };
        match step {
            Step::Granted(identity) => Ok(Some(identity)),
            Step::Prompts { .. } | Step::Denied => Ok(None),
        }
    }

    /// The granted login; `None` if it was not granted.
    pub fn granted(self) -> Option<Granted> {
        match self.state {
            State::Granted(stream) => Some(Granted(Arc::new(Mutex::new(Some(stream))))),
            _ => None,
        }
    }

    /// PAM's messages with the last reply, once.
    pub fn take_messages(&mut self) -> String {
        std::mem::take(&mut self.messages)
    }

    /// One request and its reply. A conversation that the client has abandoned (RFC 4256, 3.1: it may begin another method instead of
    /// answering) ends with its helper, and the request goes to a new one.
    async fn request(&mut self, request: &Request) -> Result<Reply, LoginError> {
        let mut stream = match std::mem::replace(&mut self.state, State::Over) {
            State::Ready(stream) => stream,
            State::Prompted(left) => {
                drop(left);
                self.abandoned += 1;
                if self.abandoned > MAX_ABANDONED {
                    return Err(LoginError::TooManyAbandoned);
                }
                connect(&self.socket, &self.begin).await?
            }
            State::Granted(_) | State::Over => return Err(LoginError::Over),
        };
        loop {
            match self.exchange(stream, request).await {
                Err(LoginError::Gone) if self.busy_until.is_some_and(|until| Instant::now() < until) => {
                    sleep(BUSY_RETRY_INTERVAL).await;
                    stream = connect(&self.socket, &self.begin).await?;
                }
                exchanged => return exchanged,
            }
        }
    }

    async fn exchange(&mut self, mut stream: UnixStream, request: &Request) -> Result<Reply, LoginError> {
        self.messages.clear();
        let exchanged = timeout(REPLY_TIMEOUT, async {
            message::send_async(&mut stream, request).await?;
            let mut reply = message::receive_async(&mut stream).await?;
            if let Some(Reply::Messages(messages)) = reply {
                self.messages = messages;
                reply = message::receive_async(&mut stream).await?;
            }
            Ok(reply)
        });
        let reply = exchanged.await.map_err(|_| LoginError::Silent(REPLY_TIMEOUT))?.map_err(understand)?;
        let reply = reply.ok_or(LoginError::Gone)?;
        self.busy_until = None;
        self.state = match &reply {
            Reply::Acceptable | Reply::Denied | Reply::AccountDenied(_) => State::Ready(stream),
            Reply::Prompts { .. } => State::Prompted(stream),
            Reply::Granted(_) => State::Granted(stream),
            Reply::Running
            | Reply::Failed
            | Reply::Exited(_)
            | Reply::Messages(_)
            | Reply::HostKey(_)
            | Reply::HostCertificate(_)
            | Reply::HostKeysEnd { .. } => State::Over,
        };
        match reply {
            Reply::AccountDenied(messages) => Err(LoginError::AccountDenied(messages)),
            reply => Ok(reply),
        }
    }

    fn step(&mut self, reply: Reply) -> Result<Step, LoginError> {
        match reply {
            Reply::Prompts { instructions, prompts } => Ok(Step::Prompts { instructions, prompts }),
            Reply::Granted(identity) => Ok(Step::Granted(identity)),
            Reply::Denied => Ok(Step::Denied),
            _ => Err(LoginError::Unexpected),
        }
    }
}

/// Requests the host keys from the helper at `socket`, which reads them as root.
pub async fn host_keys(socket: &Path) -> Result<HostKeys, HostKeysError> {
    let asked = async {
        let mut stream = connect(socket, &Request::HostKeys).await?;
        let mut found = HostKeys::default();
        loop {
            match message::receive_async(&mut stream).await.map_err(understand)? {
                Some(Reply::HostKey(Secret(text))) => {
                    found.keys.push(PrivateKey::from_openssh(text).map_err(|_| LoginError::Unexpected)?);
                }
                Some(Reply::HostCertificate(text)) => {
                    let certificate = Certificate::from_openssh(&text);
                    found.certificates.push(certificate.map_err(|_| LoginError::Unexpected)?);
                }
                Some(Reply::HostKeysEnd { ignored, missing }) => {
                    found.ignored = ignored;
                    return match missing {
                        Some(why) => Err(HostKeysError::Missing(why)),
                        None => Ok(found),
                    };
                }
                Some(_) => return Err(LoginError::Unexpected.into()),
                None => return Err(LoginError::Gone.into()),
            }
        }
    };
    timeout(HOST_KEYS_TIMEOUT, asked).await.map_err(|_| LoginError::Silent(HOST_KEYS_TIMEOUT))?
}

async fn connect(socket: &Path, begin: &Request) -> Result<UnixStream, LoginError> {
    let connected = timeout(CONNECT_TIMEOUT, async {
        let unreachable = |source| LoginError::Unreachable { path: socket.to_owned(), source };
        let mut stream = UnixStream::connect(socket).await.map_err(unreachable)?;
        message::send_async(&mut stream, begin).await.map_err(understand)?;
        Ok(stream)
    });
    connected.await.map_err(|_| LoginError::Silent(CONNECT_TIMEOUT))?
}

fn understand(error: MessageError) -> LoginError {
    match error {
        MessageError::Io(_) => LoginError::Gone,
        error => LoginError::Message(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_send<T: Send>(_: T) {}

    #[test]
    fn the_futures_of_a_login_are_send() {
        fn all(login: &mut Login, key: &PublicKey) {
            is_send(login.offer(key));
            is_send(login.key(key, None));
            is_send(login.converse());
            is_send(login.answer(Vec::new()));
            is_send(login.password(Secret(Vec::new())));
        }
        fn last(login: &Granted) {
            is_send(login.run(Run::Admin, None));
        }
        let _ = (all, last);
        is_send(Login::begin(Path::new("/"), "", "::1".parse().unwrap(), Target::Admin, RootLogin::No));
    }

    #[test]
    fn error_messages() {
        let io = || io::Error::from_raw_os_error(2);
        let errors = [
            LoginError::Unreachable { path: "/run/consoleserver/auth-port".into(), source: io() },
            LoginError::Gone,
            LoginError::Silent(REPLY_TIMEOUT),
            LoginError::Message(MessageError::Io(io())),
            LoginError::Unexpected,
            LoginError::AccountDenied("account expired".to_owned()),
            LoginError::Over,
            LoginError::NotRun,
            LoginError::TooManyAbandoned,
        ];
        let text: String = errors.iter().map(|error| format!("{error}\n")).collect();
        snapbox::assert_data_eq!(text, snapbox::file!["../../tests/golden/auth/helper.txt"].raw());
    }
}
