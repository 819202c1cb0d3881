//! What a client offers in `publickey`: a key, or an OpenSSH user certificate for one (PROTOCOL.certkeys in OpenSSH). It is hostile until it
//! is parsed into these types. Checks are those of sshd (cert_parse in sshkey.c, sshauthopt_from_cert in auth-options.c,
//! sshkey_cert_check_authority), never looser. Pure.

use std::net::IpAddr;

use jiff::Timestamp;
use russh::keys::ssh_encoding::base64::{Base64, Encoding};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};
use thiserror::Error;

use super::host_patterns::{FromError, HostPatterns};
use super::protocol::SecurityKeyFlags;

/// In the name of each type of certificate.
const CERTIFICATE_MARKER: &str = "-cert-v01@";

/// A certificate as the key of its authority would be another certificate, and ssh-key parses those recursively. A certificate has one
/// such name; more may be in its key ID. russh has the same limit.
const NESTING_LIMIT: usize = 8;

/// SSHKEY_CERT_MAX_PRINCIPALS in OpenSSH's sshkey.h.
const PRINCIPAL_LIMIT: usize = 256;

/// Extensions that are flags: sshd rejects a certificate in which one has a value. Others are ignored.
const EXTENSIONS: [&str; 6] = [
    NO_TOUCH,
    "permit-X11-forwarding",
    "permit-agent-forwarding",
    "permit-port-forwarding",
    "permit-pty",
    "permit-user-rc",
];
const NO_TOUCH: &str = "no-touch-required";

/// RequiredRSASize, sshd's default.
const RSA_BITS: u32 = 1024;

/// Why a key or certificate is rejected.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidOffer {
    #[error("the client sent an invalid public key")]
    NotAKey,
    #[error("the client sent an invalid certificate")]
    NotACertificate,
    #[error("an RSA key of {0} bits is too short: at least {RSA_BITS} are required")]
    RsaSize(u32),
    #[error("a host certificate cannot log in a user")]
    HostCertificate,
    #[error("the certificate authority's key is a certificate")]
    NestedAuthority,
    #[error("the certificate is signed with {0}, which is not accepted")]
    SignatureAlgorithm(String),
    #[error("the certificate's signature is invalid")]
    Signature,
    #[error("the certificate is not valid before {0}")]
    NotYetValid(String),
    #[error("the certificate expired at {0}")]
    Expired(String),
    #[error("the certificate has no principals")]
    NoPrincipals,
    #[error("the certificate has {0} principals, more than {PRINCIPAL_LIMIT}")]
    TooManyPrincipals(usize),
    #[error("the certificate's critical option {0:?} is not supported")]
    CriticalOption(String),
    #[error("the certificate's option {0:?} has an invalid value")]
    OptionValue(&'static str),
    #[error("the certificate has force-command, and a console runs no command")]
    ForceCommand,
    #[error("the certificate's source-address is invalid: {0}")]
    SourceList(FromError),
    #[error("the certificate's source-address does not match {0}")]
    Source(IpAddr),
}

/// A key, or a certificate for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offered {
    Key(PublicKey),
    Certificate(Box<UserCertificate>),
}

/// A user certificate that is valid by itself: whether its authority is trusted is not decided here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCertificate {
    certificate: Certificate,
    key: PublicKey,
    authority: PublicKey,
    source_address: Option<HostPatterns>,
    verify_required: bool,
}

impl Offered {
    /// Parses a public key or a certificate in OpenSSH's format, `ssh-ed25519 AAAA…`.
    pub fn parse(text: &str) -> Result<Self, InvalidOffer> {
        match parse(text)? {
            KeyData::Certificate(certificate) => {
                UserCertificate::new(*certificate).map(|certificate| Self::Certificate(certificate.into()))
            }
            key => plain(&key).map(|()| Self::Key(key.into())),
        }
    }

    /// The key that the client holds.
    pub fn key(&self) -> &PublicKey {
        match self {
            Self::Key(key) => key,
            Self::Certificate(certificate) => &certificate.key,
        }
    }

    /// The key as passed to `authorized_keys_command`, as by sshd: the type, and the base64 of the whole key or certificate.
    pub fn type_and_base64(&self) -> Result<(String, String), InvalidOffer> {
        let text = match self {
            Self::Key(key) => key.to_openssh(),
            Self::Certificate(certificate) => certificate.certificate.to_openssh(),
        };
        let text = text.map_err(|_| InvalidOffer::NotAKey)?;
        let (kind, base64) = text.trim().split_once(' ').ok_or(InvalidOffer::NotAKey)?;
        Ok((kind.to_owned(), base64.split(' ').next().unwrap_or_default().to_owned()))
    }

    /// Checks what depends on the login: the time, and the client's address.
    pub fn check(&self, now: Timestamp, rhost: IpAddr) -> Result<(), InvalidOffer> {
        match self {
            Self::Key(_) => Ok(()),
            Self::Certificate(certificate) => certificate.check(now, rhost),
        }
    }
}

/// For the journal, as sshd describes it.
impl std::fmt::Display for Offered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(key) => write!(f, "key {}", key.fingerprint(HashAlg::Sha256)),
            Self::Certificate(certificate) => {
                let UserCertificate { certificate, key, authority, .. } = &**certificate;
                write!(
                    f,
                    "certificate {:?} (serial {}) of CA {} for key {}",
                    certificate.key_id(),
                    certificate.serial(),
                    authority.fingerprint(HashAlg::Sha256),
                    key.fingerprint(HashAlg::Sha256)
                )
            }
        }
    }
}

impl UserCertificate {
    fn new(certificate: Certificate) -> Result<Self, InvalidOffer> {
        if !certificate.cert_type().is_user() {
            return Err(InvalidOffer::HostCertificate);
        }
        if matches!(certificate.signature_key(), KeyData::Certificate(_)) {
            return Err(InvalidOffer::NestedAuthority);
        }
        plain(certificate.public_key()).map_err(certificate_error)?;
        plain(certificate.signature_key()).map_err(certificate_error)?;
        // OpenSSH reads these as C strings, and rejects a NUL in one.
        let texts = [certificate.key_id()]
            .into_iter()
            .chain(certificate.valid_principals().iter().map(String::as_str));
        if texts
            .chain(certificate.critical_options().keys().map(String::as_str))
            .any(|text| text.contains('\0'))
        {
            return Err(InvalidOffer::NotACertificate);
        }
        if !is_ca_signature(&certificate.signature().algorithm()) {
            return Err(InvalidOffer::SignatureAlgorithm(certificate.signature().algorithm().to_string()));
        }
        match certificate.valid_principals().len() {
            // To sshd before 10.3 such a certificate of a `cert-authority` line is one for every user.
            0 => return Err(InvalidOffer::NoPrincipals),
            1..=PRINCIPAL_LIMIT => {}
            many => return Err(InvalidOffer::TooManyPrincipals(many)),
        }
        let mut source_address = None;
        let mut verify_required = false;
        for (name, value) in certificate.critical_options().iter() {
            match name.as_str() {
                "source-address" => {
                    source_address = Some(HostPatterns::networks(value).map_err(InvalidOffer::SourceList)?);
                }
                "verify-required" if value.is_empty() => verify_required = true,
                "verify-required" => return Err(InvalidOffer::OptionValue("verify-required")),
                "force-command" => return Err(InvalidOffer::ForceCommand),
                _ => return Err(InvalidOffer::CriticalOption(name.clone())),
            }
        }
        let flag = |name: &&str| certificate.extensions().get(*name).is_some_and(|value| !value.is_empty());
        if let Some(name) = EXTENSIONS.into_iter().find(|name| flag(name)) {
            return Err(InvalidOffer::OptionValue(name));
        }
        let key = PublicKey::from(certificate.public_key().clone());
        let authority = PublicKey::from(certificate.signature_key().clone());
        let parsed = Self { certificate, key, authority, source_address, verify_required };
        parsed.verify()?;
        Ok(parsed)
    }

    /// The signature of the authority whose key is in the certificate. The window is checked later, at the time of the login.
    fn verify(&self) -> Result<(), InvalidOffer> {
        let inside = self.certificate.valid_after();
        if inside >= self.certificate.valid_before() {
            return Err(InvalidOffer::Expired(moment(self.certificate.valid_before())));
        }
        let authority = self.authority.fingerprint(HashAlg::Sha256);
        self.certificate.validate_at(inside, [&authority]).map_err(|_| InvalidOffer::Signature)
    }

    fn check(&self, now: Timestamp, rhost: IpAddr) -> Result<(), InvalidOffer> {
        let now = u64::try_from(now.as_second()).unwrap_or(0);
        if now < self.certificate.valid_after() {
            return Err(InvalidOffer::NotYetValid(moment(self.certificate.valid_after())));
        }
        if now >= self.certificate.valid_before() {
            return Err(InvalidOffer::Expired(moment(self.certificate.valid_before())));
        }
        match &self.source_address {
            Some(list) if !list.matches(rhost) => Err(InvalidOffer::Source(rhost)),
            _ => Ok(()),
        }
    }

    pub fn authority(&self) -> &PublicKey {
        &self.authority
    }

    /// Its number, 0 if the authority does not number its certificates.
    pub fn serial(&self) -> u64 {
        self.certificate.serial()
    }

    /// Its name, as the authority has chosen it.
    pub fn key_id(&self) -> &str {
        self.certificate.key_id()
    }

    /// Whether it is for this principal.
    pub fn is_for(&self, principal: &str) -> bool {
        self.certificate.valid_principals().iter().any(|valid| valid == principal)
    }

    /// Whether a security key must have verified the user.
    pub fn verify_required(&self) -> bool {
        self.verify_required
    }

    /// Whether the authority allows signatures of a security key that was not touched.
    pub fn no_touch_required(&self) -> bool {
        self.certificate.extensions().contains_key(NO_TOUCH)
    }
}

/// What the signature of a security key (FIDO) must prove; other keys have no requirements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequiredOfSecurityKey {
    pub touch: bool,
    /// That the user was verified, by PIN or fingerprint.
    pub verification: bool,
}

impl RequiredOfSecurityKey {
    /// Adds the requirements of the certificate: the authority, too, must allow a signature without touch.
    pub fn with(self, certificate: &UserCertificate) -> Self {
        Self {
            touch: self.touch || !certificate.no_touch_required(),
            verification: self.verification || certificate.verify_required(),
        }
    }

    /// What a certificate of a trusted authority requires by itself.
    pub fn of(certificate: &UserCertificate) -> Self {
        Self { touch: false, verification: false }.with(certificate)
    }

    /// Checks the flags of the signature. `None`: the network side has sent none, and so a security key has proved nothing.
    pub fn check(self, key: &PublicKey, flags: Option<SecurityKeyFlags>) -> Result<(), &'static str> {
        if !matches!(key.algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256) {
            // As in sshd, to which `verify-required` of another key means nothing.
            return Ok(());
        }
        let flags = flags.unwrap_or_default();
        match () {
            () if self.touch && !flags.touched() => Err("that it was touched"),
            () if self.verification && !flags.verified() => {
                Err("that the user was verified (verify-required)")
            }
            () => Ok(()),
        }
    }
}

/// What separates words, as in sshd: a carriage return does not.
pub(super) const BLANKS: [char; 2] = [' ', '\t'];

/// Parses `ssh-ed25519 AAAA… comment`, a key or a certificate of any kind. As in sshd, a carriage return is not a blank, but may follow the key
/// (sshkey_read in sshkey.c).
pub(super) fn parse(text: &str) -> Result<KeyData, InvalidOffer> {
    let text = text.trim_end_matches(['\r', '\n']);
    let mut words = text.split(BLANKS).filter(|word| !word.is_empty());
    let (kind, base64) = words.next().zip(words.next()).ok_or(InvalidOffer::NotAKey)?;
    let is_certificate = kind.contains(CERTIFICATE_MARKER);
    let invalid = || if is_certificate { InvalidOffer::NotACertificate } else { InvalidOffer::NotAKey };
    let blob = Base64::decode_vec(base64).map_err(|_| invalid())?;
    let key = parse_blob(&blob).ok_or_else(invalid)?;
    let named = match &key {
        KeyData::Certificate(certificate) => certificate.algorithm().to_certificate_type(),
        key => key.algorithm().to_string(),
    };
    if named == kind { Ok(key) } else { Err(invalid()) }
}

/// Parses a key or certificate in its binary form, all of it.
pub(super) fn parse_blob(blob: &[u8]) -> Option<KeyData> {
    let marker = CERTIFICATE_MARKER.as_bytes();
    let nested = blob.windows(marker.len()).filter(|bytes| *bytes == marker).count();
    if nested > NESTING_LIMIT {
        return None;
    }
    PublicKey::from_bytes(blob).ok().map(|key| key.key_data().clone())
}

/// sshd's default of CASignatureAlgorithms: not ssh-rsa, which is SHA-1, and no DSA.
fn is_ca_signature(algorithm: &Algorithm) -> bool {
    matches!(
        algorithm,
        Algorithm::Ed25519
            | Algorithm::SkEd25519
            | Algorithm::SkEcdsaSha2NistP256
            | Algorithm::Ecdsa { .. }
            | Algorithm::Rsa { hash: Some(HashAlg::Sha256 | HashAlg::Sha512) }
    )
}

/// A key of a type that sshd accepts, and of sufficient size.
fn plain(key: &KeyData) -> Result<(), InvalidOffer> {
    match key {
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => {
            Ok(())
        }
        KeyData::Rsa(rsa) => {
            let bytes = rsa.n().as_positive_bytes().unwrap_or_default();
            let zeros = bytes.first().map_or(0, |byte| byte.leading_zeros());
            let bits = u32::try_from(bytes.len()).unwrap_or(u32::MAX / 8) * 8 - zeros;
            if bits < RSA_BITS { Err(InvalidOffer::RsaSize(bits)) } else { Ok(()) }
        }
        _ => Err(InvalidOffer::NotAKey),
    }
}

fn certificate_error(error: InvalidOffer) -> InvalidOffer {
    match error {
        InvalidOffer::NotAKey => InvalidOffer::NotACertificate,
        error => error,
    }
}

fn moment(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| format!("second {seconds}"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn ssh_keygen(room: &Path, words: &[&str]) {
        let output = Command::new("ssh-keygen").arg("-q").args(words).current_dir(room).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What ssh-keygen makes of a new key with these options of `-s`.
    fn certified(ca: &[&str], options: &[&str]) -> String {
        let room = tempfile::tempdir().unwrap();
        ssh_keygen(room.path(), &["-t", "ed25519", "-N", "", "-f", "key"]);
        ssh_keygen(room.path(), &[&["-N", "", "-f", "ca", "-t"], ca].concat());
        ssh_keygen(room.path(), &[&["-s", "ca", "-I", "id"], options, &["key.pub"]].concat());
        fs::read_to_string(room.path().join("key-cert.pub")).unwrap()
    }

    fn judged(options: &[&str]) -> Result<(), InvalidOffer> {
        let options = [&["-n", "alice"], options].concat();
        let offered = Offered::parse(&certified(&["ed25519"], &options))?;
        offered.check("2026-11-29T12:00:00Z".parse().unwrap(), "192.0.2.7".parse().unwrap())
    }

    #[test]
    fn a_certificate_of_ssh_keygen_is_parsed() {
        for ca in [&["ed25519"][..], &["ecdsa", "-b", "521"], &["rsa", "-b", "2048"]] {
            let text = certified(ca, &["-n", "alice,operator", "-z", "7"]);
            let Offered::Certificate(certificate) = Offered::parse(&text).unwrap() else { panic!("{text}") };
            assert!(certificate.is_for("alice") && certificate.is_for("operator"));
            assert!(!certificate.is_for("alic") && !certificate.is_for("alice,operator"));
            assert_eq!((certificate.serial(), certificate.key_id()), (7, "id"));
            let offered = Offered::Certificate(certificate);
            let (kind, base64) = offered.type_and_base64().unwrap();
            assert!(text.starts_with(&format!("{kind} {base64} ")), "{text}");
            assert!(
                offered.to_string().starts_with("certificate \"id\" (serial 7) of CA SHA256:"),
                "{offered}"
            );
        }
    }

    #[test]
    fn what_a_certificate_does_not_allow_is_not_allowed() {
        assert_eq!(judged(&[]), Ok(()));
        assert_eq!(judged(&["-h"]), Err(InvalidOffer::HostCertificate));
        assert_eq!(judged(&["-O", "force-command=true"]), Err(InvalidOffer::ForceCommand));
        assert_eq!(judged(&["-O", "source-address=192.0.2.0/24"]), Ok(()));
        let elsewhere = "192.0.2.7".parse().unwrap();
        assert_eq!(judged(&["-O", "source-address=10.0.0.0/8"]), Err(InvalidOffer::Source(elsewhere)));
        assert_eq!(judged(&["-O", "clear", "-O", "extension:x@example.org=y"]), Ok(()));
        let unknown = Err(InvalidOffer::CriticalOption("x@example.org".to_owned()));
        assert_eq!(judged(&["-O", "critical:x@example.org=y"]), unknown);
        assert_eq!(
            judged(&["-O", "extension:permit-pty=y", "-O", "no-pty"]),
            Err(InvalidOffer::OptionValue("permit-pty"))
        );
        assert_eq!(
            judged(&["-O", "critical:verify-required=y"]),
            Err(InvalidOffer::OptionValue("verify-required"))
        );
        assert!(matches!(judged(&["-O", "critical:source-address=*"]), Err(InvalidOffer::SourceList(_))));
        assert!(matches!(judged(&["-V", "20200101:20210101"]), Err(InvalidOffer::Expired(_))));
        assert!(matches!(judged(&["-V", "20300101:20310101"]), Err(InvalidOffer::NotYetValid(_))));
        assert_eq!(judged(&["-V", "always:forever"]), Ok(()));
        let nameless = Offered::parse(&certified(&["ed25519"], &[]));
        assert_eq!(nameless, Err(InvalidOffer::NoPrincipals));
        let sha1 = Offered::parse(&certified(&["rsa", "-b", "2048"], &["-n", "alice", "-t", "ssh-rsa"]));
        assert_eq!(sha1, Err(InvalidOffer::SignatureAlgorithm("ssh-rsa".to_owned())));
    }

    #[test]
    fn a_changed_certificate_is_not_one() {
        let text = certified(&["ed25519"], &["-n", "alice"]);
        let base64 = text.split(' ').nth(1).unwrap();
        let right = Base64::decode_vec(base64).unwrap();
        for at in (0..right.len()).step_by(7) {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            let wrong = format!("ssh-ed25519-cert-v01@openssh.com {}", Base64::encode_string(&wrong));
            assert!(Offered::parse(&wrong).is_err(), "byte {at}");
        }
        for wrong in [&right[..right.len() - 1], &[right.as_slice(), b"x"].concat(), &right[..40]] {
            let wrong = format!("ssh-ed25519-cert-v01@openssh.com {}", Base64::encode_string(wrong));
            assert_eq!(Offered::parse(&wrong), Err(InvalidOffer::NotACertificate));
        }
        assert_eq!(Offered::parse(&format!("ssh-ed25519 {base64}")), Err(InvalidOffer::NotAKey));
    }

    /// ssh-keygen does not write such a certificate.
    #[test]
    fn a_certificate_cannot_sign() {
        let decode = |text: &str| Base64::decode_vec(text.split(' ').nth(1).unwrap()).unwrap();
        let blob = decode(&certified(&["ed25519"], &["-n", "alice"]));
        let length = |at: usize| 4 + u32::from_be_bytes(blob[at..at + 4].try_into().unwrap()) as usize;
        let strings = |from: usize, count: usize| (0..count).fold(from, |at, _| at + length(at));
        // Type, nonce, key; serial and kind; ID and principals; the window; options, extensions, reserved.
        let authority = strings(strings(strings(0, 3) + 12, 2) + 16, 3);
        let other = decode(&certified(&["ed25519"], &["-n", "alice"]));
        let nested = [
            &blob[..authority],
            &(other.len() as u32).to_be_bytes(),
            &other,
            &blob[authority + length(authority)..],
        ];
        let nested = format!("ssh-ed25519-cert-v01@openssh.com {}", Base64::encode_string(&nested.concat()));
        assert_eq!(Offered::parse(&nested), Err(InvalidOffer::NestedAuthority));
    }

    #[test]
    fn a_short_rsa_key_is_rejected() {
        // 1023 bits: the first byte of the modulus is 0x7f.
        let mut blob = Vec::new();
        for field in [&b"ssh-rsa"[..], &[1, 0, 1], &[0x7f; 128]] {
            blob.extend((field.len() as u32).to_be_bytes());
            blob.extend(field);
        }
        let key = format!("ssh-rsa {}", Base64::encode_string(&blob));
        assert_eq!(Offered::parse(&key), Err(InvalidOffer::RsaSize(1023)));
    }

    #[test]
    fn a_signature_must_prove_what_is_required() {
        const SK: &str = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAICFo/k5LU8863u66YC9eUO2170QduohPURkQnbLa/dczAAAABHNzaDo=";
        let sk = Offered::parse(SK).unwrap();
        let check = |touch, verification, flags: Option<u8>| {
            let required = RequiredOfSecurityKey { touch, verification };
            required.check(sk.key(), flags.map(SecurityKeyFlags)).is_ok()
        };
        for (touch, verification, flags, right) in [
            (true, false, Some(0x01), true),
            (true, false, Some(0x04), false),
            (true, false, None, false),
            (false, false, Some(0x00), true),
            (true, true, Some(0x01), false),
            (true, true, Some(0x05), true),
            (false, true, Some(0x04), true),
            (false, true, None, false),
        ] {
            assert_eq!(check(touch, verification, flags), right, "{touch} {verification} {flags:?}");
        }
        let plain = Offered::parse(
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti",
        );
        let required = RequiredOfSecurityKey { touch: true, verification: true };
        assert_eq!(required.check(plain.unwrap().key(), None), Ok(()));
    }

    #[test]
    fn error_messages() {
        let errors = [
            InvalidOffer::NotAKey,
            InvalidOffer::NotACertificate,
            InvalidOffer::RsaSize(768),
            InvalidOffer::HostCertificate,
            InvalidOffer::NestedAuthority,
            InvalidOffer::SignatureAlgorithm("ssh-rsa".to_owned()),
            InvalidOffer::Signature,
            InvalidOffer::NotYetValid(moment(1_900_000_000)),
            InvalidOffer::Expired(moment(1_600_000_000)),
            InvalidOffer::Expired(moment(u64::MAX)),
            InvalidOffer::NoPrincipals,
            InvalidOffer::TooManyPrincipals(257),
            InvalidOffer::CriticalOption("x@example.org".to_owned()),
            InvalidOffer::OptionValue("verify-required"),
            InvalidOffer::ForceCommand,
            InvalidOffer::SourceList(FromError::NotANetwork("*".to_owned())),
            InvalidOffer::Source("192.0.2.7".parse().unwrap()),
        ];
        let text: String = errors.iter().map(|error| format!("{error}\n")).collect();
        snapbox::assert_data_eq!(text, snapbox::file!["../../tests/golden/auth/certificates.txt"].raw());
    }
}
