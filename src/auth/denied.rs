//! Reasons to deny a login.

use nix::unistd::Uid;
use thiserror::Error;

use super::account::AccountError;
use super::pam::PamError;
use super::peer::PeerError;

/// Why a login is denied, for the journal.
#[derive(Debug, Error)]
pub(super) enum Denied {
    #[error("console-auth does not run as root, so only its own user (uid {0}) may log in")]
    OtherUser(Uid),
    #[error("root may not log in (access.root = \"no\")")]
    Root,
    #[error("root may log in by key only (access.root = \"key\")")]
    RootByPassword,
    #[error("the account is locked")]
    Locked,
    #[error("{0} exists, so only root may log in")]
    Nologin(&'static str),
    #[error("the client sent an invalid public key")]
    NotAKey,
    #[error("the key {0} is not in the user's authorized_keys")]
    Unlisted(String),
    #[error("cannot switch to the user to read key files: {0}")]
    Become(nix::Error),
    #[error(transparent)]
    Account(#[from] AccountError),
    #[error(transparent)]
    Pam(#[from] PamError),
}

/// The end of an attempt, or of the whole login.
pub(super) enum Failure {
    Denied(Denied),
    Peer(PeerError),
}

impl<R: Into<Denied>> From<R> for Failure {
    fn from(denied: R) -> Self {
        match denied.into() {
            Denied::Pam(PamError::Peer(error)) => Self::Peer(error),
            denied => Self::Denied(denied),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_in_the_journal() {
        let errno = nix::Error::EIO;
        let refused = |step| PamError::Denied {
            step,
            reason: "Permission denied".to_owned(),
            messages: "account disabled\n".to_owned(),
        };
        let reasons = [
            Denied::OtherUser(Uid::from_raw(1000)),
            Denied::Root,
            Denied::RootByPassword,
            Denied::Locked,
            Denied::Nologin("/etc/nologin"),
            Denied::NotAKey,
            Denied::Unlisted("SHA256:abc".to_owned()),
            Denied::Become(errno),
            AccountError::Name.into(),
            AccountError::Unknown.into(),
            AccountError::User(errno).into(),
            AccountError::Group(errno).into(),
            AccountError::Shadow(errno).into(),
            refused("account").into(),
            PamError::MustChangePassword(String::new()).into(),
        ];
        let text: String = reasons.iter().map(|reason: &Denied| format!("{reason}\n")).collect();
        snapbox::assert_data_eq!(text, snapbox::file!["../../tests/golden/auth/denied.txt"].raw());
    }
}
