//! A port's console as an SSH destination: checks the user against the port's access groups and starts a [session].
//! (`console-auth` has authenticated the user.)

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::timeout;

use super::destination::{ChannelRequest, Destination, Gatekeeping, Login};
use super::outlet::print_messages;
use crate::auth::protocol::{Exit, Identity, Target};
use crate::config::{Right, Rules, SshOffer};
use crate::event::Event;
use crate::exec::{self, Request, Task};
use crate::rfc2217;
use crate::session::{self, AttachedUser, Console, DRAIN_TIMEOUT, Options, SessionEnd};

/// Access to a port, and how users are authenticated. Both change with the settings.
#[derive(Debug, Clone)]
pub struct Access {
    pub gatekeeping: Gatekeeping,
    pub rules: Rules,
    /// Algorithms and banner for clients that are not logged in.
    pub offer: SshOffer,
}

/// A port's console over SSH.
#[derive(Debug)]
pub struct ConsoleChannel {
    console: Arc<Console>,
    access: watch::Receiver<Access>,
}

impl ConsoleChannel {
    /// This console, for users that `access` allows.
    pub fn new(console: Arc<Console>, access: watch::Receiver<Access>) -> Self {
        Self { console, access }
    }

    fn right(&self, identity: &Identity) -> Option<Right> {
        self.access.borrow().rules.right(&identity.name, &identity.groups)
    }

    fn denied(&self) -> String {
        format!("not in any of the access groups of {}", self.console.name())
    }
}

impl Destination for ConsoleChannel {
    fn name(&self) -> String {
        self.console.name().to_string()
    }

    fn gatekeeping(&self) -> Gatekeeping {
        self.access.borrow().gatekeeping.clone()
    }

    async fn ssh_offer(&self) -> SshOffer {
        self.access.borrow().offer.clone()
    }

    fn login_target(&self, name: &str) -> (String, Target) {
        (name.to_owned(), Target::Port(self.console.name()))
    }

    fn denial(&self, identity: &Identity) -> Option<String> {
        match self.right(identity) {
            Some(_) => None,
            None => Some(self.denied()),
        }
    }

    async fn serve(self: Arc<Self>, session_login: Login) -> Option<Exit> {
        let Login { identity, from, messages, request, terminal, typed, mut outlet, .. } = session_login;
        let Some(right) = self.right(&identity) else {
            // The rules have become stricter since the login.
            let (user, why) = (identity.name, self.denied());
            tracing::warn!(
                message_id = Event::Denied.id(),
                console_user = user,
                "{user} from {from} denied: {why}"
            );
            // Discard its standard input, which must not fill the queue.
            drop(typed);
            let sent = timeout(DRAIN_TIMEOUT, session::notify(&mut outlet, terminal.is_some(), &why));
            return matches!(sent.await, Ok(Ok(()))).then_some(Exit::Status(1));
        };
        if print_messages(&mut outlet, terminal.is_some(), &messages).await.is_err() {
            return None;
        }
        let client = AttachedUser { user: identity.name, from: from.to_string(), right };
        let terminal = terminal.is_some();
        let asked = match request {
            ChannelRequest::Rfc2217 => {
                return exit(rfc2217::serve(self.console.clone(), client, typed, outlet).await);
            }
            ChannelRequest::Shell => Ok(Request::Session(Options::default())),
            ChannelRequest::Command(line) => exec::parse(&line),
            ChannelRequest::Sftp => Err(exec::ForeignCommand::FileTransfer("sftp").into()),
        };
        let command = match asked {
            Ok(Request::Session(options)) => {
                let session = session::run(self.console.clone(), client, terminal, options, typed, outlet);
                return exit(session.await);
            }
            Ok(Request::Command(command)) => Ok(command),
            Err(error) => Err(error),
        };
        let task = Task::new(self.console.clone(), client);
        exec::run_line(task, command, terminal, typed, outlet).await.map(Exit::Status)
    }

    fn closing(&self) -> watch::Receiver<Option<String>> {
        self.console.closing()
    }
}

fn exit(ended: SessionEnd) -> Option<Exit> {
    match ended {
        // (SSH clients cannot switch.)
        SessionEnd::Detached(_) | SessionEnd::Switched(..) => Some(Exit::Status(0)),
        SessionEnd::Unsent(_) | SessionEnd::Closed(_) | SessionEnd::Disconnected(_) => Some(Exit::Status(1)),
        SessionEnd::Gone => None,
    }
}
