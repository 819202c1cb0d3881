//! A PAM transaction (pam(3)) of the service `consoleserver`: its questions are sent to the client over the login socket, its verdict is
//! final, and it opens the session, if there is one.
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

/// Limit of questions in one transaction, for a module that asks endlessly.
const PROMPTS_LIMIT: usize = 16;

/// Bytes of a question, and of the messages before it. Real ones are a few lines; even with every byte escaped, both fit into one
/// message.
const TEXT_LIMIT: usize = 4 * 1024;

/// The steps after authentication.
const ACCOUNT: &str = "account";
const CHANGE: &str = "password change";

/// For a user who logs in by a key or by SSH's method `password`.
const HOW_TO_CHANGE: &str = "The password has expired. To change it, log in by keyboard-interactive: ssh -o PreferredAuthentications=keyboard-interactive";

/// Bytes of the longest answer, as in sshd: hashing more would let an attacker choose the cost.
const ANSWER_LIMIT: usize = 1024;

/// Modules' failure delays (pam_fail_delay(3)) longer than this are configured on purpose, and kept. Others are the usual 2 s, randomized by
/// up to half, plus the time to hash a password: [`super::server`] has its own delay, which hides that.
const USUAL_DELAY: Duration = Duration::from_secs(3);

/// The item of a delay function (pam_fail_delay(3)).
const PAM_FAIL_DELAY: c_int = 10;
const PAM_SUCCESS: c_int = 0;

/// The answer of a login that must not succeed, as in sshd: no keyboard can type it.
const NEVER_RIGHT: &CStr = c"\x08\n\r\x7fINCORRECT";

/// Why PAM denied a login.
#[derive(Debug, Error)]
pub enum PamError {
    #[error("PAM {step}: {reason}{}", remark(.messages))]
    Denied {
        /// `authentication`, `account`, `password change` or `session`.
        step: &'static str,
        reason: String,
        messages: String,
    },
    #[error("the password has expired and must be changed first{}", remark(.0))]
    MustChangePassword(String),
    /// The client disconnected or violated the protocol during a question.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

fn remark(messages: &str) -> String {
    match messages.trim() {
        "" => String::new(),
        messages => format!(" ({})", messages.replace('\n', " ")),
    }
}

impl PamError {
    /// The message for an authenticated user who is denied: the modules' messages, as sshd does.
    pub fn for_user(&self) -> Option<String> {
        let (messages, more) = match self {
            Self::Denied { step: ACCOUNT | CHANGE, messages, .. } => (messages.trim(), ""),
            Self::MustChangePassword(messages) => (messages.trim(), HOW_TO_CHANGE),
            Self::Denied { .. } | Self::Peer(_) => return None,
        };
        let told =
            [messages, more].into_iter().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
        (!told.is_empty()).then_some(told)
    }
}

/// Called by PAM instead of sleeping after a failure, with the delay in microseconds.
extern "C" fn delay(verdict: c_int, wanted: c_uint, _conversation: *mut c_void) {
    let (failed, wanted) = (verdict != PAM_SUCCESS, Duration::from_micros(wanted.into()));
    if failed && wanted > USUAL_DELAY {
        std::thread::sleep(wanted);
    }
}

/// PAM_USER, PAM_RHOST and PAM_TTY.
pub struct Who<'a> {
    pub user: &'a str,
    pub rhost: IpAddr,
    /// The port, or the admin CLI.
    pub place: &'a Target,
}

pub struct Transaction<'a> {
    context: Context<Conversation<'a>>,
}

impl<'a> Transaction<'a> {
    /// A login by PAM, with questions to `peer`. If it is `doomed`, its answers are replaced by wrong ones, so that it looks like any
    /// other failure.
    pub fn asking(peer: &'a mut Peer, who: &Who<'_>, doomed: bool) -> Result<Self, PamError> {
        Self::start(who, Conversation { peer: Some(peer), doomed, ..Conversation::default() })
    }

    /// A login that is authenticated otherwise, without questions.
    pub fn silent(who: &Who<'_>) -> Result<Self, PamError> {
        Self::start(who, Conversation::default())
    }

    fn start(who: &Who<'_>, conversation: Conversation<'a>) -> Result<Self, PamError> {
        let start = || {
            let mut context = Context::new(PAM_SERVICE, Some(who.user), conversation)?;
            context.set_rhost(Some(&who.rhost.to_string()))?;
            // No port can have the name of the program.
            context.set_tty(Some(
                &who.place.port().map_or("consolectl".to_owned(), |port| format!("console-{port}")),
            ))?;
            // SAFETY: the item takes a function of this signature (its type is checked here), with static lifetime.
            let delay: extern "C" fn(c_int, c_uint, *mut c_void) = delay;
            unsafe { context.set_item(PAM_FAIL_DELAY, delay as *const c_void) }?;
            Ok(Self { context })
        };
        start().map_err(|error| refused("start", &error))
    }

    /// Continues the transaction without a conversation, since PAM modules keep data in it.
    pub fn silenced(self) -> Result<Transaction<'static>, PamError> {
        let silent = self.context.replace_conversation(Conversation::default());
        let (context, _) = silent.map_err(|error| refused("conversation", &error.into_without_payload()))?;
        Ok(Transaction { context })
    }

    /// Authenticates the user. An empty password is denied.
    pub fn authenticate(&mut self) -> Result<(), PamError> {
        let _interrupter = Interrupter::new();
        let verdict = self.context.authenticate(Flag::DISALLOW_NULL_AUTHTOK);
        self.settle("authentication", verdict)
    }

    /// Checks the account: expiry, and the modules' other rules.
    pub fn check_account(&mut self) -> Result<(), PamError> {
        let _interrupter = Interrupter::new();
        let verdict = self.context.acct_mgmt(Flag::DISALLOW_NULL_AUTHTOK);
        self.settle(ACCOUNT, verdict)
    }

    /// Changes an expired password, in the same conversation.
    pub fn change_password(&mut self) -> Result<(), PamError> {
        let _interrupter = Interrupter::new();
        let verdict = self.context.chauthtok(Flag::CHANGE_EXPIRED_AUTHTOK);
        self.settle(CHANGE, verdict)
    }

    /// The modules' messages since the last question, once.
    pub fn take_messages(&mut self) -> String {
        std::mem::take(&mut self.context.conversation_mut().messages)
    }

    /// The authenticated user, which a module may have changed.
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
                Err(PamError::MustChangePassword(conversation.messages.clone()))
            }
            Err(error) => Err(PamError::Denied {
                step,
                reason: error.to_string(),
                messages: conversation.messages.clone(),
            }),
        }
    }
}

impl Transaction<'static> {
    /// Opens a session, which is closed when dropped. Returns the modules' messages (pam_motd, pam_lastlog) with it.
    pub fn open_session(&mut self) -> Result<(Session<'_>, String), PamError> {
        let _interrupter = Interrupter::new();
        let opened = self.context.open_session(Flag::NONE).map(pam_client2::Session::leak);
        let messages = self.take_messages();
        match opened {
            Ok(token) => Ok((Session(Some(self.context.unleak_session(token))), messages)),
            Err(error) => Err(refused("session", &error)),
        }
    }
}

fn refused(step: &'static str, error: &pam_client2::Error) -> PamError {
    PamError::Denied { step, reason: error.to_string(), messages: String::new() }
}

pub struct Session<'a>(Option<pam_client2::Session<'a, Conversation<'static>>>);

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let _interrupter = Interrupter::new();
        drop(self.0.take());
    }
}

/// PAM's conversation function. The texts are made printable: a module, or a directory server behind one, may send anything.
#[derive(Default)]
struct Conversation<'a> {
    peer: Option<&'a mut Peer>,
    doomed: bool,
    /// The modules' messages since the last question.
    messages: String,
    asked: usize,
    /// Why the peer can no longer be asked; PAM has only an error code for this.
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
        match ask_peer(peer, std::mem::take(&mut self.messages), prompt) {
            Ok(answer) => Ok(if self.doomed { NEVER_RIGHT.to_owned() } else { presentable(answer) }),
            Err(failure) => {
                self.failure = Some(failure);
                Err(ErrorCode::CONV_ERR)
            }
        }
    }

    fn collect_message(&mut self, text: &CStr) {
        let room = TEXT_LIMIT.saturating_sub(self.messages.len());
        if room == 0 {
            return;
        }
        self.messages.push_str(bounded(text, room).trim_end_matches('\n'));
        self.messages.push('\n');
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
        self.collect_message(message);
    }

    fn error_msg(&mut self, message: &CStr) {
        self.collect_message(message);
    }
}

fn ask_peer(peer: &mut Peer, instructions: String, prompt: Prompt) -> Result<Secret, PeerError> {
    peer.send(&Reply::Prompts { instructions, prompts: vec![prompt] })?;
    match peer.receive()? {
        None => Err(PeerError::Left),
        Some(Request::Answers(answers)) => <[Secret; 1]>::try_from(answers)
            .map(|[answer]| answer)
            .map_err(|_| PeerError::OutOfTurn("the number of answers differs from the number of prompts")),
        Some(_) => Err(PeerError::OutOfTurn("PAM expects Answers")),
    }
}

/// An answer that cannot be passed to PAM must look like a wrong one.
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
