//! The admin CLI as an SSH destination: `ssh host` opens its prompt, `ssh host command` runs one command, and `ssh user:port@host` attaches
//! to the console of a port.

use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::watch;
use tokio::time::timeout;

use super::relay;
use crate::auth::protocol::{Exit, Identity, Line, Run, Target, Terminal, WordError};
use crate::config::{Config, ConfigError, RootLogin, SshOffer};
use crate::exec::{ForeignCommand, foreign};
use crate::port::{PortError, PortName};
use crate::session::{DRAIN_TIMEOUT, Gone, Outlet, QueuedInput, closed};
use crate::ssh::{ChannelRequest, Destination, Gatekeeping, Login, Screen, SshOutlet, print_messages};
use crate::system::systemd;

#[derive(Debug)]
pub(super) struct AdminCli {
    root: PathBuf,
    closing: watch::Sender<Option<String>>,
    /// Algorithms and banner of the last valid configuration.
    offer: watch::Sender<SshOffer>,
}

/// Why there is no session, for the user.
#[derive(Debug, PartialEq, Eq, Error)]
enum Rejected {
    #[error("rfc2217 is a subsystem of each port, at its own ssh_port: ssh -s -p 8023 HOST rfc2217")]
    Rfc2217,
    #[error("{0}")]
    Port(#[from] PortError),
    #[error("{0}")]
    Line(#[from] WordError),
    #[error(
        "{0} is a console and accepts no commands here: use the console's own TCP port, or log in without :{0} for the admin CLI"
    )]
    CommandForConsole(PortName),
    #[error(transparent)]
    Foreign(#[from] ForeignCommand),
    #[error("cannot start the session; for the reason see journalctl -t console-auth")]
    NoSession,
}

impl AdminCli {
    /// The socket of its `console-auth`.
    pub(super) fn auth_socket() -> PathBuf {
        systemd::runtime_directory().join("auth-cli")
    }

    /// `root` is the directory with /etc and /usr.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, closing: watch::Sender::new(None), offer: watch::Sender::default() }
    }

    /// Ends all sessions with this message.
    pub(super) fn close(&self, why: &str) {
        self.closing.send_replace(Some(why.to_owned()));
    }

    /// How root may log in. Read for each login: the file is small, and sessions may be long.
    fn root_login(&self) -> RootLogin {
        match Config::load_or_last_good(&self.root) {
            Ok(loaded) => loaded.config.access.root,
            Err(ConfigError::Missing(_)) => RootLogin::Key,
            Err(error) => {
                // Members of sudo can fix it; it may have disabled root logins.
                tracing::error!(
                    "root cannot log in to the admin CLI while the configuration is invalid: {error}"
                );
                RootLogin::No
            }
        }
    }
}

impl Destination for AdminCli {
    fn name(&self) -> String {
        "the admin CLI".to_owned()
    }

    fn gatekeeping(&self) -> Gatekeeping {
        Gatekeeping { auth_socket: Self::auth_socket(), root: self.root_login() }
    }

    /// Read for each client, as [`AdminCli::root_login`].
    async fn ssh_offer(&self) -> SshOffer {
        let root = self.root.clone();
        let loaded = tokio::task::spawn_blocking(move || Config::load(&root)).await;
        let offer = match loaded {
            Ok(Ok(loaded)) => Some(loaded.config.ssh_offer(None)),
            Ok(Err(ConfigError::Missing(_))) => Some(SshOffer::default()),
            // The login logs the error.
            Ok(Err(_)) | Err(_) => None,
        };
        match offer {
            Some(offer) => {
                self.offer.send_replace(offer.clone());
                offer
            }
            None => self.offer.borrow().clone(),
        }
    }

    /// An invalid port name is reported after the login.
    fn login_target(&self, name: &str) -> (String, Target) {
        match split_port(name) {
            (user, None) => (user.to_owned(), Target::Admin),
            (user, Some(port)) => (user.to_owned(), port.parse().map_or(Target::Admin, Target::Port)),
        }
    }

    fn denial(&self, _: &Identity) -> Option<String> {
        None
    }

    async fn serve(self: Arc<Self>, session: Login) -> Option<Exit> {
        let Login { name, login, messages, request, terminal, typed, mut outlet, .. } = session;
        let run = match parse(&name, request) {
            Ok(run) => run,
            Err(rejected) => return refuse(&mut outlet, &terminal, typed, &rejected, 2).await.ok(),
        };
        let at_console = matches!(run, Run::Console(_));
        let (ends, mut running) = match login.run(run, terminal.as_ref().map(now)).await {
            Ok(begun) => begun,
            Err(error) => {
                tracing::error!(console_user = name, "cannot start a session for {name}: {error}");
                return refuse(&mut outlet, &terminal, typed, &Rejected::NoSession, 1).await.ok();
            }
        };
        let messages = [messages, running.take_messages()].concat();
        if print_messages(&mut outlet, terminal.is_some(), &messages).await.is_err() {
            return None;
        }
        let mut closing = self.closing();
        let relayed = relay::run(ends, running, &terminal, typed, at_console, outlet.clone());
        tokio::select! {
            exit = relayed => exit,
            why = closed(&mut closing) => {
                let sent = timeout(DRAIN_TIMEOUT, print(&mut outlet, terminal.is_some(), &why));
                matches!(sent.await, Ok(Ok(()))).then_some(Exit::Status(1))
            }
        }
    }

    fn closing(&self) -> watch::Receiver<Option<String>> {
        self.closing.subscribe()
    }
}

/// `user:port` is a user and a port: no user's name has a colon.
fn split_port(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((user, port)) => (user, Some(port)),
        None => (name, None),
    }
}

fn parse(name: &str, request: ChannelRequest) -> Result<Run, Rejected> {
    let (_, port) = split_port(name);
    let port = port.map(str::parse::<PortName>).transpose()?;
    if let ChannelRequest::Command(line) = &request
        && let Some(refused) = foreign(line)
    {
        return Err(refused.into());
    }
    match (port, request) {
        (None, ChannelRequest::Shell) => Ok(Run::Admin),
        (None, ChannelRequest::Command(line)) => {
            let line = String::from_utf8(line).map_err(|_| WordError::Line)?;
            Ok(Run::Line(Line::try_from(line)?))
        }
        (Some(port), ChannelRequest::Shell) => Ok(Run::Console(port)),
        (_, ChannelRequest::Rfc2217) => Err(Rejected::Rfc2217),
        (_, ChannelRequest::Sftp) => Err(ForeignCommand::FileTransfer("sftp").into()),
        (Some(port), ChannelRequest::Command(_)) => Err(Rejected::CommandForConsole(port)),
    }
}

fn now(screen: &Screen) -> Terminal {
    Terminal { term: screen.term.clone(), size: *screen.size.borrow() }
}

async fn refuse(
    outlet: &mut SshOutlet,
    terminal: &Option<Screen>,
    typed: QueuedInput,
    why: &Rejected,
    status: u8,
) -> Result<Exit, Gone> {
    // Discard its standard input, which must not fill the queue.
    drop(typed);
    print(outlet, terminal.is_some(), &why.to_string()).await?;
    Ok(Exit::Status(status))
}

/// Prints a message: on a terminal in the session's output, otherwise on standard error.
async fn print(outlet: &mut SshOutlet, on_terminal: bool, text: &str) -> Result<(), Gone> {
    match on_terminal {
        true => outlet.send(format!("\r\n{text}\r\n").into_bytes()).await,
        false => outlet.notice(format!("{text}\n")).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &[u8]) -> ChannelRequest {
        ChannelRequest::Command(line.to_vec())
    }

    #[test]
    fn the_port_follows_the_last_colon() {
        let admin_cli = AdminCli::new("/".into());
        let port = |name: &str| Target::Port(name.parse().unwrap());
        assert_eq!(admin_cli.login_target("alice"), ("alice".to_owned(), Target::Admin));
        assert_eq!(admin_cli.login_target("alice:ttyUSB3"), ("alice".to_owned(), port("ttyUSB3")));
        assert_eq!(admin_cli.login_target("a:b:ttyUSB3"), ("a:b".to_owned(), port("ttyUSB3")));
        assert_eq!(admin_cli.login_target("alice:../x"), ("alice".to_owned(), Target::Admin));
    }

    #[test]
    fn the_program_depends_on_the_request() {
        assert_eq!(parse("alice", ChannelRequest::Shell), Ok(Run::Admin));
        assert_eq!(
            parse("alice:ttyUSB3", ChannelRequest::Shell),
            Ok(Run::Console("ttyUSB3".parse().unwrap()))
        );
        let line = Line::try_from("show 'x y'; reboot".to_owned()).unwrap();
        assert_eq!(parse("alice", command(b"show 'x y'; reboot")), Ok(Run::Line(line)));
    }

    #[test]
    fn an_invalid_request_has_an_error_message() {
        let error = |name, request| parse(name, request).unwrap_err().to_string();
        assert!(error("alice:a/b", ChannelRequest::Shell).starts_with("invalid port name \"a/b\""));
        assert!(error("alice:", ChannelRequest::Shell).starts_with("invalid port name \"\""));
        assert!(
            error("alice:ttyUSB3", command(b"show"))
                .starts_with("ttyUSB3 is a console and accepts no commands")
        );
        assert!(error("alice", command(b"\xff")).starts_with("a command line is at most"));
    }

    #[test]
    fn an_invalid_configuration_disables_root_login_and_a_missing_one_does_not() {
        let root = tempfile::tempdir().unwrap();
        let admin_cli = AdminCli::new(root.path().to_owned());
        assert_eq!(admin_cli.root_login(), RootLogin::Key);
        let directory = root.path().join("etc/consoleserver");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("config.toml"), "[access]\nroot = \"yes\"\n").unwrap();
        assert_eq!(admin_cli.root_login(), RootLogin::Yes);
        std::fs::write(directory.join("config.toml"), "[access]\nroot = \"yes\"\nrot = 13\n").unwrap();
        assert_eq!(admin_cli.root_login(), RootLogin::No);
    }
}
