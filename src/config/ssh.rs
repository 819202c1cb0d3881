//! What SSH clients are offered before they log in: algorithms and a banner.

use std::path::PathBuf;
use std::str::FromStr;

/// Which algorithms SSH offers: `[server] ssh_algorithms`. `ssh::algorithms` has the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SshAlgorithms {
    /// Curve25519, AES-GCM, ChaCha20 and encrypt-then-MAC only.
    Strict,
    /// What sshd of Debian 12 offers and ssh-audit does not report as a failure; clients without any of it are offered the rest.
    #[default]
    Default,
    /// Also the NIST curves, for key exchange and as a host key, and HMAC-SHA-1.
    Compatible,
}

impl SshAlgorithms {
    /// From the fewest algorithms to the most.
    pub const ALL: [Self; 3] = [Self::Strict, Self::Default, Self::Compatible];

    /// The value in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Default => "default",
            Self::Compatible => "compatible",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown set of SSH algorithms {0:?}")]
pub struct UnknownAlgorithms(String);

impl FromStr for SshAlgorithms {
    type Err = UnknownAlgorithms;

    fn from_str(word: &str) -> Result<Self, UnknownAlgorithms> {
        let known = Self::ALL.into_iter().find(|known| known.word() == word);
        known.ok_or_else(|| UnknownAlgorithms(word.to_owned()))
    }
}

/// What a listener offers to SSH clients that have not logged in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SshOffer {
    pub algorithms: SshAlgorithms,
    /// The file with the banner; `None` = no banner.
    pub banner: Option<PathBuf>,
}
