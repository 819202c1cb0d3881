//! Reasons to deny a login.

use nix::unistd::Uid;
use thiserror::Error;

use super::account::AccountError;
use super::certificate::InvalidOffer;
use super::pam::PamError;
use super::peer::PeerError;
use super::trust::TrustError;

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
    #[error(transparent)]
    Offer(#[from] InvalidOffer),
    #[error("the {0} is not authorized for the user")]
    Unlisted(String),
    #[error("the {0} is revoked")]
    Revoked(String),
    #[error("no key is accepted, because the revoked keys are not known: {0}")]
    Revocations(TrustError),
    #[error("the security key's signature does not prove {0}")]
    SecurityKey(&'static str),
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
            InvalidOffer::NotAKey.into(),
            Denied::Unlisted("key SHA256:abc".to_owned()),
            Denied::Revoked("key SHA256:abc".to_owned()),
            Denied::Revocations(TrustError::NotText("/etc/ssh/revoked".into())),
            Denied::SecurityKey("that it was touched"),
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
