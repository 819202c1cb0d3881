//! A port's console as the destination of SSH: whom the port's access groups admit, and a [session] for each of them.
//! (Who somebody is, `console-auth` has said.)

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::timeout;

use super::destination::{Destination, Gatekeeping, Visit, Wish};
use super::outlet::show_said;
use crate::auth::protocol::{Exit, Identity, Place};
use crate::config::{Right, Rules, SshOffer};
use crate::event::Event;
use crate::exec::{self, Request, Task};
use crate::session::{self, Console, Ended, LAST_WORDS, Options, Visitor};

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
pub struct Door {
    console: Arc<Console>,
    access: watch::Receiver<Access>,
}

impl Door {
    /// The way to this console, for whom `access` admits.
    pub fn new(console: Arc<Console>, access: watch::Receiver<Access>) -> Self {
        Self { console, access }
    }

    fn right(&self, identity: &Identity) -> Option<Right> {
        self.access.borrow().rules.right(&identity.name, &identity.groups)
    }

    fn refusal(&self) -> String {
        format!("in none of the groups that may use {}", self.console.name())
    }
}

impl Destination for Door {
    fn name(&self) -> String {
        self.console.name().to_string()
    }

    fn gatekeeping(&self) -> Gatekeeping {
        self.access.borrow().gatekeeping.clone()
    }

    async fn ssh_offer(&self) -> SshOffer {
        self.access.borrow().offer.clone()
    }

    fn asks(&self, name: &str) -> (String, Place) {
        (name.to_owned(), Place::Port(self.console.name()))
    }

    fn refuses(&self, identity: &Identity) -> Option<String> {
        match self.right(identity) {
            Some(_) => None,
            None => Some(self.refusal()),
        }
    }

    async fn serve(self: Arc<Self>, visit: Visit) -> Option<Exit> {
        let Visit { identity, from, said, wish, terminal, typed, mut outlet, .. } = visit;
        let Some(right) = self.right(&identity) else {
            // The rules have become stricter since the login.
            let (user, why) = (identity.name, self.refusal());
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
        let visitor = Visitor { user: identity.name, from: from.to_string(), right };
        let terminal = terminal.is_some();
        let asked = match wish {
            Wish::Shell => Ok(Request::Session(Options::default())),
            Wish::Command(line) => exec::parse(&line),
        };
        let command = match asked {
            Ok(Request::Session(options)) => {
                let session = session::run(self.console.clone(), visitor, terminal, options, typed, outlet);
                return exit(session.await);
            }
            Ok(Request::Command(command)) => Ok(command),
            Err(error) => Err(error),
        };
        let task = Task::new(self.console.clone(), visitor);
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
        Ended::Unsent(_) | Ended::Closed(_) => Some(Exit::Status(1)),
        Ended::Gone => None,
    }
}
