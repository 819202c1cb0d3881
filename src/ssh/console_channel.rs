//! A port's console as an SSH destination: checks the user against the port's access groups and starts a [session].
//! (`console-auth` has authenticated the user.)

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::timeout;

use super::destination::{ChannelRequest, Destination, Gatekeeping, Login};
use super::outlet::show_said;
use crate::auth::protocol::{Exit, Identity, Target};
use crate::config::{Right, Rules, SshOffer};
use crate::event::Event;
use crate::exec::{self, Request, Task};
use crate::rfc2217;
use crate::session::{self, AttachedUser, Console, Ended, LAST_WORDS, Options};

/// Who may use a port, and where to ask who somebody is. Both change with the settings.
#[derive(Debug, Clone)]
pub struct Access {
    /// Where to ask.
    pub gatekeeping: Gatekeeping,
    /// The port's rules.
    pub rules: Rules,
    /// What a client is offered before it logs in.
    pub offer: SshOffer,
}

/// The way to a port's console.
#[derive(Debug)]
pub struct ConsoleChannel {
    console: Arc<Console>,
    access: watch::Receiver<Access>,
}

impl ConsoleChannel {
    /// The way to this console, for whom `access` admits.
    pub fn new(console: Arc<Console>, access: watch::Receiver<Access>) -> Self {
        Self { console, access }
    }

    fn right(&self, identity: &Identity) -> Option<Right> {
        self.access.borrow().rules.right(&identity.name, &identity.groups)
    }

    fn denied(&self) -> String {
        format!("in none of the groups that may use {}", self.console.name())
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

    fn asks(&self, name: &str) -> (String, Target) {
        (name.to_owned(), Target::Port(self.console.name()))
    }

    fn refuses(&self, identity: &Identity) -> Option<String> {
        match self.right(identity) {
            Some(_) => None,
            None => Some(self.denied()),
        }
    }

    async fn serve(self: Arc<Self>, session_login: Login) -> Option<Exit> {
        let Login { identity, from, said, request, terminal, typed, mut outlet, .. } = session_login;
        let Some(right) = self.right(&identity) else {
            // The rules have become stricter since the login.
            let (user, why) = (identity.name, self.denied());
            tracing::warn!(
                message_id = Event::Refused.id(),
                console_user = user,
                "{user} from {from} refused: {why}"
            );
            // Whatever comes on its standard input is for nobody, and must not stop us from reading.
            drop(typed);
            let told = timeout(LAST_WORDS, session::say(&mut outlet, terminal.is_some(), &why));
            return matches!(told.await, Ok(Ok(()))).then_some(Exit::Status(1));
        };
        if show_said(&mut outlet, terminal.is_some(), &said).await.is_err() {
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

fn exit(ended: Ended) -> Option<Exit> {
    match ended {
        // (It moves nobody: an SSH client is at one port.)
        Ended::Left(_) | Ended::Moved(..) => Some(Exit::Status(0)),
        Ended::Unsent(_) | Ended::Closed(_) | Ended::Dismissed(_) => Some(Exit::Status(1)),
        Ended::Gone => None,
    }
}
