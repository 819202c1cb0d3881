//! Asking PAM (pam (3)): one transaction of the service `consoleserver`, whose questions travel to the client over the
//! login socket as they come, whose verdict is final, and which then surrounds the session, if there is one.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int, c_uint, c_void};
use std::net::IpAddr;
use std::time::Duration;

use pam_client2::{Context, ConversationHandler, ErrorCode, Flag};
use thiserror::Error;

use super::interrupt::Interrupter;
use super::peer::{Peer, PeerError};
use super::protocol::{Prompt, Reply, Request, Secret, Target};
use crate::printable;

/// The file in /etc/pam.d.
const PAM_SERVICE: &str = "consoleserver";

/// Questions of one transaction. A module that asks more often is stuck.
const PROMPTS_LIMIT: usize = 16;

/// Bytes of a question, and of what modules say before it. Real ones are a few lines; even with every byte escaped,
/// both fit into one message.
const TEXT_LIMIT: usize = 4 * 1024;

/// The steps after the proof.
const ACCOUNT: &str = "account";
const CHANGE: &str = "password change";

/// For a user who came by a key or by SSH's method `password`.
const HOW_TO_CHANGE: &str = "The password has expired. To change it, log in by keyboard-interactive: ssh -o PreferredAuthentications=keyboard-interactive";

/// Bytes of the longest answer, as sshd's: hashing more would be work for an attacker's choosing.
const ANSWER_LIMIT: usize = 1024;

/// Of modules' delays of a failure (pam_fail_delay (3)) longer ones than this are somebody's wish, and kept. Others are the usual 2 s
/// and by chance up to half more or less, to which the time to hash a password would add: [`super::server`] has a delay of its
/// own, which covers that.
const USUAL_DELAY: Duration = Duration::from_secs(3);

/// The item by which PAM takes a delay function (pam_fail_delay (3)).
const PAM_FAIL_DELAY: c_int = 10;
const PAM_SUCCESS: c_int = 0;

/// Answers what must not succeed, as sshd does: no keyboard types it.
const NEVER_RIGHT: &CStr = c"\x08\n\r\x7fINCORRECT";

/// Why PAM did not let somebody in.
#[derive(Debug, Error)]
pub enum PamError {
    /// A module said no.
    #[error("PAM {step}: {reason}{}", remark(.said))]
    Refused {
        /// `authentication`, `account`, `password change` or `session`.
        step: &'static str,
        /// PAM's own sentence.
        reason: String,
        /// What the modules would have told the client.
        said: String,
    },
    /// This login cannot change it.
    #[error("the password has expired and must be changed first{}", remark(.0))]
    MustChangePassword(String),
    /// The client is gone, or broke the rules while it was asked.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

fn remark(said: &str) -> String {
    match said.trim() {
        "" => String::new(),
        said => format!(" ({})", said.replace('\n', " ")),
    }
}

impl PamError {
    /// What a user is told who has proved who they are and is not let in: what the modules said, as sshd does it.
    pub fn for_user(&self) -> Option<String> {
        let (said, more) = match self {
            Self::Refused { step: ACCOUNT | CHANGE, said, .. } => (said.trim(), ""),
            Self::MustChangePassword(said) => (said.trim(), HOW_TO_CHANGE),
            Self::Refused { .. } | Self::Peer(_) => return None,
        };
        let told = [said, more].into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        (!told.is_empty()).then_some(told)
    }
}

/// What PAM calls in the place of a sleep, when all modules have spoken: for how many microseconds they want one.
extern "C" fn delay(verdict: c_int, wanted: c_uint, _conversation: *mut c_void) {
    let (failed, wanted) = (verdict != PAM_SUCCESS, Duration::from_micros(wanted.into()));
    if failed && wanted > USUAL_DELAY {
        std::thread::sleep(wanted);
    }
}

/// Who logs in, from where, and to what: PAM_USER, PAM_RHOST and PAM_TTY.
pub struct Who<'a> {
    /// User name.
    pub user: &'a str,
    /// Address of the client.
    pub rhost: IpAddr,
    /// The port, or the admin CLI.
    pub place: &'a Target,
}

/// A PAM transaction.
pub struct Transaction<'a> {
    context: Context<Conversation<'a>>,
}

impl<'a> Transaction<'a> {
    /// A login that proves itself to PAM, asked through `peer`. If it is `doomed`, its answers are replaced by wrong
    /// ones, so that it looks like any other failure.
    pub fn asking(peer: &'a mut Peer, who: &Who<'_>, doomed: bool) -> Result<Self, PamError> {
        Self::start(who, Conversation { peer: Some(peer), doomed, ..Conversation::default() })
    }

    /// A login that has proved itself otherwise: nobody is asked anything.
    pub fn silent(who: &Who<'_>) -> Result<Self, PamError> {
        Self::start(who, Conversation::default())
    }

    fn start(who: &Who<'_>, conversation: Conversation<'a>) -> Result<Self, PamError> {
        let start = || {
            let mut context = Context::new(PAM_SERVICE, Some(who.user), conversation)?;
            context.set_rhost(Some(&who.rhost.to_string()))?;
            // No port is called as the program is.
            context.set_tty(Some(
                &who.place.port().map_or("consolectl".to_owned(), |port| format!("console-{port}")),
            ))?;
            // SAFETY: the item wants a function of this signature (its type is checked here), which lives for ever.
            let delay: extern "C" fn(c_int, c_uint, *mut c_void) = delay;
            unsafe { context.set_item(PAM_FAIL_DELAY, delay as *const c_void) }?;
            Ok(Self { context })
        };
        start().map_err(|error| refused("start", &error))
    }

    /// The same transaction, once it asks nothing more: its modules keep what they have learned.
    pub fn silenced(self) -> Result<Transaction<'static>, PamError> {
        let silent = self.context.replace_conversation(Conversation::default());
        let (context, _) = silent.map_err(|error| refused("conversation", &error.into_without_payload()))?;
        Ok(Transaction { context })
    }

    /// Proves who somebody is. An empty password proves nothing.
    pub fn authenticate(&mut self) -> Result<(), PamError> {
        let _interrupter = Interrupter::new();
        let verdict = self.context.authenticate(Flag::DISALLOW_NULL_AUTHTOK);
        self.settle("authentication", verdict)
    }

    /// Whether the account may be used now: not expired, and whatever else the modules know.
    pub fn check_account(&mut self) -> Result<(), PamError> {
        let _interrupter = Interrupter::new();
        let verdict = self.context.acct_mgmt(Flag::DISALLOW_NULL_AUTHTOK);
        self.settle(ACCOUNT, verdict)
    }

    /// Has a password that has expired changed, in the same conversation.
    pub fn change_password(&mut self) -> Result<(), PamError> {
        let _interrupter = Interrupter::new();
        let verdict = self.context.chauthtok(Flag::CHANGE_EXPIRED_AUTHTOK);
        self.settle(CHANGE, verdict)
    }

    /// What modules have said since the last question, once.
    pub fn take_said(&mut self) -> String {
        std::mem::take(&mut self.context.conversation_mut().said)
    }

    /// The user that was let in, whom a module may have renamed.
    pub fn user(&self) -> Result<String, PamError> {
        self.context.user().map_err(|error| refused("user", &error))
    }

    fn settle(&mut self, step: &'static str, verdict: pam_client2::Result<()>) -> Result<(), PamError> {
        let conversation = self.context.conversation_mut();
        if let Some(failure) = conversation.failure.take() {
            return Err(failure.into());
        }
        match verdict {
            Ok(()) => Ok(()),
            Err(error) if error.code() == ErrorCode::NEW_AUTHTOK_REQD => {
                Err(PamError::MustChangePassword(conversation.said.clone()))
            }
            Err(error) => {
                Err(PamError::Refused { step, reason: error.to_string(), said: conversation.said.clone() })
            }
        }
    }
}

impl Transaction<'static> {
    /// Gives the process the user's credentials and opens a session, which is closed when it is dropped. What modules have said to the
    /// user comes with it (pam_motd, pam_lastlog).
    pub fn open_session(&mut self) -> Result<(Session<'_>, String), PamError> {
        let _interrupter = Interrupter::new();
        let opened = self.context.open_session(Flag::NONE).map(pam_client2::Session::leak);
        let said = self.take_said();
        match opened {
            Ok(token) => Ok((Session(Some(self.context.unleak_session(token))), said)),
            Err(error) => Err(refused("session", &error)),
        }
    }
}

fn refused(step: &'static str, error: &pam_client2::Error) -> PamError {
    PamError::Refused { step, reason: error.to_string(), said: String::new() }
}

/// An open session of PAM's.
pub struct Session<'a>(Option<pam_client2::Session<'a, Conversation<'static>>>);

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let _interrupter = Interrupter::new();
        drop(self.0.take());
    }
}

/// What PAM calls when it wants something from the person. The texts are printable: a module, or a directory behind one, may say
/// anything.
#[derive(Default)]
struct Conversation<'a> {
    peer: Option<&'a mut Peer>,
    doomed: bool,
    /// Said by modules since the last question.
    said: String,
    asked: usize,
    /// Why the peer can no longer be asked; PAM itself only has a code for it.
    failure: Option<PeerError>,
}

impl Conversation<'_> {
    fn ask(&mut self, text: &CStr, echo: bool) -> Result<CString, ErrorCode> {
        let Some(peer) = self.peer.as_deref_mut().filter(|_| self.failure.is_none()) else {
            return Err(ErrorCode::CONV_ERR);
        };
        self.asked += 1;
        if self.asked > PROMPTS_LIMIT {
            tracing::warn!("a PAM module asked more than {PROMPTS_LIMIT} questions in one login");
            return Err(ErrorCode::CONV_ERR);
        }
        let prompt = Prompt { text: bounded(text, TEXT_LIMIT), echo };
        match put_question(peer, std::mem::take(&mut self.said), prompt) {
            Ok(answer) => Ok(if self.doomed { NEVER_RIGHT.to_owned() } else { presentable(answer) }),
            Err(failure) => {
                self.failure = Some(failure);
                Err(ErrorCode::CONV_ERR)
            }
        }
    }

    fn say(&mut self, text: &CStr) {
        let room = TEXT_LIMIT.saturating_sub(self.said.len());
        if room == 0 {
            return;
        }
        self.said.push_str(bounded(text, room).trim_end_matches('\n'));
        self.said.push('\n');
    }
}

impl ConversationHandler for Conversation<'_> {
    fn prompt_echo_on(&mut self, prompt: &CStr) -> Result<CString, ErrorCode> {
        self.ask(prompt, true)
    }

    fn prompt_echo_off(&mut self, prompt: &CStr) -> Result<CString, ErrorCode> {
        self.ask(prompt, false)
    }

    fn text_info(&mut self, message: &CStr) {
        self.say(message);
    }

    fn error_msg(&mut self, message: &CStr) {
        self.say(message);
    }
}

fn put_question(peer: &mut Peer, instructions: String, prompt: Prompt) -> Result<Secret, PeerError> {
    peer.send(&Reply::Prompts { instructions, prompts: vec![prompt] })?;
    match peer.receive()? {
        None => Err(PeerError::Left),
        Some(Request::Answers(answers)) => <[Secret; 1]>::try_from(answers)
            .map(|[answer]| answer)
            .map_err(|_| PeerError::OutOfTurn("the number of answers is not that of the prompts")),
        Some(_) => Err(PeerError::OutOfTurn("PAM waits for answers")),
    }
}

/// An answer that cannot be handed on cannot be right, and must not look different from a wrong one.
fn presentable(Secret(answer): Secret) -> CString {
    match answer.len() {
        0..=ANSWER_LIMIT => CString::new(answer).unwrap_or_else(|_| NEVER_RIGHT.to_owned()),
        _ => NEVER_RIGHT.to_owned(),
    }
}

fn bounded(text: &CStr, limit: usize) -> String {
    let text = text.to_bytes();
    printable::visible(&String::from_utf8_lossy(&text[..text.len().min(limit)]))
}
