//! The algorithms of each value of `ssh_algorithms`, and what a client and a listener have in common.
//!
//! Measured by sshd of Debian 12 (`sshd -T`) and ssh-audit; `tests/ssh/algorithms.rs` compares the lists with both. What sshd offers
//! and `default` offers only to clients that have nothing else: the NIST curves and SHA-1 as a MAC, which ssh-audit reports as failures.
//! Not supported: sntrup761x25519 and the UMACs, which russh lacks.

use std::collections::BTreeSet;

use russh::client::GexParams;
use russh::kex::dh::groups::{DH_GROUP14, DH_GROUP15, DH_GROUP16, DH_GROUP17, DH_GROUP18, DhGroup};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, cipher, compression, kex, mac};

use super::hello::KexInit;
use crate::config::SshAlgorithms;
use crate::hostkeys::{self, HostKeys};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Category {
    KeyExchange,
    HostKey,
    Cipher,
    Mac,
}

impl Category {
    const ALL: [Self; 4] = [Self::KeyExchange, Self::HostKey, Self::Cipher, Self::Mac];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KeyExchange => "key exchange",
            Self::HostKey => "host key",
            Self::Cipher => "cipher",
            Self::Mac => "MAC",
        }
    }

    /// The client's lists of this category, for each direction.
    pub(super) fn offered(self, client: &KexInit) -> &[Vec<String>] {
        match self {
            Self::KeyExchange => &client.lists[0..1],
            Self::HostKey => &client.lists[1..2],
            Self::Cipher => &client.lists[2..4],
            Self::Mac => &client.lists[4..6],
        }
    }
}

/// Key exchanges that take less than a millisecond.
const CURVES: [kex::Name; 3] = [kex::MLKEM768X25519_SHA256, kex::CURVE25519, kex::CURVE25519_PRE_RFC_8731];
const EXTENSIONS: [kex::Name; 2] =
    [kex::EXTENSION_SUPPORT_AS_SERVER, kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER];

/// Host keys that sign in less than a millisecond; RSA takes ten, and several times that on a small board.
const FAST_KEYS: [Algorithm; 2] = [Algorithm::Ed25519, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }];

/// AEAD ciphers, with which no MAC is negotiated.
const AEAD: [cipher::Name; 3] = [cipher::AES_128_GCM, cipher::AES_256_GCM, cipher::CHACHA20_POLY1305];

/// The algorithms that a listener offers, strongest first, although the client's order decides (RFC 4253, section 7.1).
pub(super) fn preferred(word: SshAlgorithms) -> Preferred {
    let mut kex = CURVES.to_vec();
    let mut ciphers = AEAD.to_vec();
    let mut macs = vec![mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];
    if word == SshAlgorithms::Compatible {
        kex.extend([kex::ECDH_SHA2_NISTP256, kex::ECDH_SHA2_NISTP384, kex::ECDH_SHA2_NISTP521]);
    }
    match word {
        SshAlgorithms::Strict => ciphers.push(cipher::AES_256_CTR),
        SshAlgorithms::Default | SshAlgorithms::Compatible => {
            kex.extend([kex::DH_G16_SHA512, kex::DH_G18_SHA512, kex::DH_GEX_SHA256, kex::DH_G14_SHA256]);
            ciphers.extend([cipher::AES_128_CTR, cipher::AES_192_CTR, cipher::AES_256_CTR]);
            macs.extend([mac::HMAC_SHA256, mac::HMAC_SHA512]);
        }
    }
    if word == SshAlgorithms::Compatible {
        macs.extend([mac::HMAC_SHA1_ETM, mac::HMAC_SHA1]);
    }
    kex.extend(EXTENSIONS);
    Preferred {
        kex: kex.into(),
        key: KEY_ALGORITHMS.to_vec().into(),
        cipher: ciphers.into(),
        mac: macs.into(),
        compression: vec![compression::NONE].into(),
        ..Preferred::default()
    }
}

/// As [`preferred`], without key exchanges that take more than a few milliseconds to compute.
pub(super) fn cheap(word: SshAlgorithms) -> Preferred {
    let mut preferred = preferred(word);
    preferred.kex = CURVES.into_iter().chain(EXTENSIONS).collect::<Vec<_>>().into();
    preferred.key = FAST_KEYS.to_vec().into();
    preferred
}

/// Key algorithms, of users' keys (the extension `server-sig-algs`), as sshd of Debian 12 accepts them (PubkeyAcceptedAlgorithms), and of
/// host keys: not ssh-rsa, whose signatures are by SHA-1 and which russh verifies, and no DSA. Ed25519 first,
/// because a client without a preference pins that one.
pub(super) const KEY_ALGORITHMS: [Algorithm; 8] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
    Algorithm::SkEd25519,
    Algorithm::SkEcdsaSha2NistP256,
];

/// The host keys that a listener with this value uses: generated ones by the value's list, and all that the administrator has added; and
/// their certificates.
pub(super) fn served(word: SshAlgorithms, all: &HostKeys) -> HostKeys {
    let mut served = all.clone();
    served.keys.retain(|key| {
        !hostkeys::is_made(key)
            || match key.algorithm() {
                Algorithm::Rsa { .. } => word >= SshAlgorithms::Default,
                Algorithm::Ecdsa { .. } => word == SshAlgorithms::Compatible,
                _ => true,
            }
    });
    served.certificates.retain(|certificate| {
        served.keys.iter().any(|key| key.public_key().key_data() == certificate.public_key())
    });
    served
}

/// The names that a listener offers of a category.
pub(super) fn names(category: Category, preferred: &Preferred, served: &HostKeys) -> Vec<String> {
    match category {
        Category::KeyExchange => {
            let real = preferred.kex.iter().filter(|name| !EXTENSIONS.contains(name));
            real.map(|name| name.as_ref().to_owned()).collect()
        }
        Category::HostKey => {
            // A key or certificate of RSA is used with any of the hashes.
            let is = |of: Algorithm, algorithm: &Algorithm| match algorithm {
                Algorithm::Rsa { .. } => of.is_rsa(),
                algorithm => of == *algorithm,
            };
            // Certificates first, as russh offers them.
            let certified = preferred.key.iter().filter(|algorithm| {
                served.certificates.iter().any(|certificate| is(certificate.algorithm(), algorithm))
            });
            let keys = preferred
                .key
                .iter()
                .filter(|algorithm| served.keys.iter().any(|key| is(key.algorithm(), algorithm)));
            certified.map(Algorithm::to_certificate_type).chain(keys.map(ToString::to_string)).collect()
        }
        Category::Cipher => preferred.cipher.iter().map(|name| name.as_ref().to_owned()).collect(),
        Category::Mac => preferred.mac.iter().map(|name| name.as_ref().to_owned()).collect(),
    }
}

/// The first of the client's names that is among ours (RFC 4253, section 7.1).
fn agreed<'a>(theirs: &'a [String], ours: &[String]) -> Option<&'a str> {
    theirs.iter().find(|name| ours.contains(name)).map(String::as_str)
}

/// The value by which a listener serves a client. A client that has nothing in common with `default` is served by `compatible`, as by sshd:
/// JSch 0.1.55 has neither Curve25519 nor RSA with SHA-2. An attacker cannot bring this about, since the client's lists are signed with
/// the exchange (RFC 4253, section 8).
pub(super) fn for_client(client: &KexInit, word: SshAlgorithms, keys: &HostKeys) -> SshAlgorithms {
    let is_served_by = |word| unmatched(client, word, keys).is_none();
    if word == SshAlgorithms::Default && !is_served_by(word) && is_served_by(SshAlgorithms::Compatible) {
        SshAlgorithms::Compatible
    } else {
        word
    }
}

/// The first category in which a client and such a listener have nothing in common.
pub(super) fn unmatched(client: &KexInit, word: SshAlgorithms, keys: &HostKeys) -> Option<Category> {
    let (preferred, keys) = (preferred(word), served(word, keys));
    let aead: BTreeSet<&str> = AEAD.iter().map(AsRef::as_ref).collect();
    let ciphers = names(Category::Cipher, &preferred, &keys);
    Category::ALL.into_iter().find(|category| {
        let ours = names(*category, &preferred, &keys);
        category.offered(client).iter().enumerate().any(|(direction, theirs)| {
            let needs_none = *category == Category::Mac
                && agreed(&client.lists[2 + direction], &ciphers).is_some_and(|name| aead.contains(name));
            !needs_none && agreed(theirs, &ours).is_none()
        })
    })
}

/// Whether the key exchange that a client and such a listener negotiate takes a few milliseconds at most.
pub(super) fn is_cheap(client: &KexInit, word: SshAlgorithms, keys: &HostKeys) -> bool {
    let (preferred, keys) = (preferred(word), served(word, keys));
    let agree = |category: Category| {
        agreed(&category.offered(client)[0], &names(category, &preferred, &keys)).map(str::to_owned)
    };
    let kex = agree(Category::KeyExchange);
    let key = agree(Category::HostKey);
    kex.is_some_and(|kex| CURVES.iter().any(|curve| curve.as_ref() == kex))
        && key.is_some_and(|name| {
            FAST_KEYS.iter().any(|fast| fast.to_string() == name || fast.to_certificate_type() == name)
        })
}

/// The group of a Diffie-Hellman group exchange: the smallest that is large enough (RFC 4419, section 3), of at least 2048 bits
/// as OpenSSH does. OpenSSH's client always prefers 8192 bits; 4096 are used if it accepts them.
pub(super) fn group(wanted: &GexParams) -> Option<DhGroup> {
    const ENOUGH_BITS: usize = 4096;
    let preferred = wanted.preferred_group_size().min(ENOUGH_BITS);
    let fitting: Vec<DhGroup> = [DH_GROUP14, DH_GROUP15, DH_GROUP16, DH_GROUP17, DH_GROUP18]
        .into_iter()
        .filter(|group| (wanted.min_group_size()..=wanted.max_group_size()).contains(&group.bit_size()))
        .collect();
    fitting.iter().find(|group| group.bit_size() >= preferred).or(fitting.last()).cloned()
}
