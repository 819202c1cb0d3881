//! A key revocation list, as `ssh-keygen -k` writes it and sshd's `RevokedKeys` reads it (PROTOCOL.krl and krl.c in OpenSSH). Nothing is kept:
//! the list is read from beginning to end for each key, in time proportional to its length. A list of which any part is not
//! understood is an error, since that part may have been the one that revokes the key. Pure.

use russh::keys::ssh_key::public::KeyData;
use russh::keys::{HashAlg, PublicKey};
use sha1::{Digest, Sha1};
use thiserror::Error;

use super::certificate::{self, Offered, UserCertificate};

/// The first bytes of a list.
pub const MAGIC: &[u8; 8] = b"SSHKRL\n\0";

/// Bytes of the longest list: half a million serial numbers, or fingerprints of a quarter of a million keys.
pub const KRL_LIMIT: usize = 8 * 1024 * 1024;

const FORMAT_VERSION: u32 = 1;

/// Bytes of the longest bitmap: OpenSSH's limit of an integer, 16384 bits, with a leading zero.
const BITMAP_LIMIT: usize = 16384 / 8 + 1;

/// Why a list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KrlError {
    #[error("it is longer than {KRL_LIMIT} bytes")]
    TooLong,
    #[error("it does not begin as a key revocation list")]
    Magic,
    #[error("it has format version {0}, and only {FORMAT_VERSION} is supported")]
    Version(u32),
    #[error("it ends within a field")]
    Truncated,
    #[error("{0} is invalid")]
    Invalid(&'static str),
    #[error("it has a section of the unknown type {0}")]
    Section(u8),
    #[error("it has the unknown critical extension {0:?}")]
    Extension(String),
    #[error("it is signed, which OpenSSH has never completed: write it without a signature")]
    Signed,
}

/// Whether the list revokes the key, the certificate or the key of its authority.
///
/// # Errors
/// If the list is not understood: then no key may be accepted.
pub fn is_revoked(list: &[u8], offered: &Offered) -> Result<bool, KrlError> {
    let mut subjects = vec![Subject::new(offered.key())?];
    if let Offered::Certificate(certificate) = offered {
        subjects.push(Subject::new(certificate.authority())?);
    }
    let certificate = match offered {
        Offered::Key(_) => None,
        Offered::Certificate(certificate) => Some(&**certificate),
    };
    scan(list, &subjects, certificate)
}

/// Whether the list is understood.
pub fn check(list: &[u8]) -> Result<(), KrlError> {
    scan(list, &[], None).map(drop)
}

/// A key by each name that a list may have for it.
struct Subject {
    blob: Vec<u8>,
    sha1: [u8; 20],
    sha256: [u8; 32],
}

impl Subject {
    fn new(key: &PublicKey) -> Result<Self, KrlError> {
        let blob = key.to_bytes().map_err(|_| KrlError::Invalid("the key to be checked"))?;
        let sha256 = key.fingerprint(HashAlg::Sha256).sha256().unwrap_or_default();
        Ok(Self { sha1: Sha1::digest(&blob).into(), sha256, blob })
    }
}

fn scan(list: &[u8], subjects: &[Subject], certificate: Option<&UserCertificate>) -> Result<bool, KrlError> {
    if list.len() > KRL_LIMIT {
        return Err(KrlError::TooLong);
    }
    let mut list = Fields(list.strip_prefix(MAGIC).ok_or(KrlError::Magic)?);
    match list.u32()? {
        FORMAT_VERSION => {}
        other => return Err(KrlError::Version(other)),
    }
    // The list's number, its time, flags, a reserved field and a comment.
    for _ in 0..3 {
        list.u64()?;
    }
    list.string()?;
    list.string()?;

    let mut revoked = false;
    while !list.is_empty() {
        let kind = list.u8()?;
        if kind == 4 {
            return Err(KrlError::Signed);
        }
        let mut section = Fields(list.string()?);
        revoked |= match kind {
            1 => certificates(section, certificate)?,
            2 => section.any(None, |blob| subjects.iter().any(|subject| blob == subject.blob))?,
            3 => section.any(Some(20), |hash| subjects.iter().any(|subject| hash == subject.sha1))?,
            5 => section.any(Some(32), |hash| subjects.iter().any(|subject| hash == subject.sha256))?,
            255 => section.extension().map(|()| false)?,
            other => return Err(KrlError::Section(other)),
        };
    }
    Ok(revoked)
}

/// A section about the certificates of one authority, or of all.
fn certificates(mut section: Fields<'_>, certificate: Option<&UserCertificate>) -> Result<bool, KrlError> {
    let authority = match section.string()? {
        [] => None,
        blob => match certificate::parse_blob(blob) {
            None | Some(KeyData::Certificate(_)) => return Err(KrlError::Invalid("the key of an authority")),
            key => key,
        },
    };
    section.string()?;
    let concerned = certificate.filter(|certificate| {
        authority.as_ref().is_none_or(|authority| certificate.authority().key_data() == authority)
    });
    // 0: the authority does not number its certificates.
    let serial = concerned.map(UserCertificate::serial).filter(|serial| *serial != 0);
    let mut revoked = false;
    while !section.is_empty() {
        let kind = section.u8()?;
        let mut fields = Fields(section.string()?);
        match kind {
            0x20 => {
                while !fields.is_empty() {
                    let listed = fields.serial()?;
                    revoked |= serial == Some(listed);
                }
            }
            0x21 => {
                let (first, last) = (fields.serial()?, fields.serial()?);
                if first > last {
                    return Err(KrlError::Invalid("a range of serial numbers"));
                }
                revoked |= serial.is_some_and(|serial| (first..=last).contains(&serial));
            }
            0x22 => revoked |= fields.bitmap(serial)?,
            0x23 => {
                while !fields.is_empty() {
                    let id = fields.string()?;
                    // OpenSSH reads it as a C string.
                    if id.contains(&0) {
                        return Err(KrlError::Invalid("a key ID"));
                    }
                    revoked |= concerned.is_some_and(|certificate| certificate.key_id().as_bytes() == id);
                }
            }
            0x39 => fields.extension()?,
            other => return Err(KrlError::Section(other)),
        }
        if !fields.is_empty() {
            return Err(KrlError::Invalid("the length of a section"));
        }
    }
    Ok(revoked)
}

/// The unread rest of a list or a section.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], KrlError> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(KrlError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], KrlError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(KrlError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, KrlError> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, KrlError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, KrlError> {
        self.array().map(u64::from_be_bytes)
    }

    fn string(&mut self) -> Result<&'a [u8], KrlError> {
        let length = usize::try_from(self.u32()?).map_err(|_| KrlError::Truncated)?;
        self.take(length)
    }

    /// A revoked serial number. 0 cannot be revoked (ssh_krl_revoke_cert_by_serial_range).
    fn serial(&mut self) -> Result<u64, KrlError> {
        match self.u64()? {
            0 => Err(KrlError::Invalid("serial number 0")),
            serial => Ok(serial),
        }
    }

    /// Whether any string is the one that is looked for; all of them are read.
    fn any(&mut self, length: Option<usize>, is: impl Fn(&[u8]) -> bool) -> Result<bool, KrlError> {
        let mut found = false;
        while !self.is_empty() {
            let string = self.string()?;
            if length.is_some_and(|length| string.len() != length) {
                return Err(KrlError::Invalid("the length of a fingerprint"));
            }
            found |= is(string);
        }
        Ok(found)
    }

    /// The number of the first bit, and an integer whose bits are the revoked numbers from there.
    fn bitmap(&mut self, serial: Option<u64>) -> Result<bool, KrlError> {
        let first = self.u64()?;
        let bits = self.string()?;
        let invalid = Err(KrlError::Invalid("a bitmap of serial numbers"));
        if bits.len() > BITMAP_LIMIT || bits.first().is_some_and(|byte| byte & 0x80 != 0) {
            return invalid;
        }
        let is_set = |bit: u64| {
            let byte = usize::try_from(bit / 8).ok().and_then(|byte| bits.iter().rev().nth(byte));
            byte.is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
        };
        let highest = bits.iter().position(|byte| *byte != 0).map(|zeros| {
            let whole = bits.len() - zeros - 1;
            whole as u64 * 8 + u64::from(bits[zeros].ilog2())
        });
        if highest.is_some_and(|highest| first.checked_add(highest).is_none()) || (first == 0 && is_set(0)) {
            return invalid;
        }
        Ok(serial.and_then(|serial| serial.checked_sub(first)).is_some_and(is_set))
    }

    /// Reads an extension. An unknown one may be ignored unless it is critical.
    fn extension(&mut self) -> Result<(), KrlError> {
        let name = String::from_utf8_lossy(self.string()?).into_owned();
        let critical = self.u8()? != 0;
        self.string()?;
        match (critical, self.is_empty()) {
            (true, _) => Err(KrlError::Extension(name)),
            (false, true) => Ok(()),
            (false, false) => Err(KrlError::Invalid("the length of a section")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::{Command, Output};

    use proptest::prelude::*;

    use super::*;

    fn ssh_keygen(room: &Path, words: &[&str]) -> Output {
        Command::new("ssh-keygen").args(words).current_dir(room).output().unwrap()
    }

    #[track_caller]
    fn makes(room: &Path, words: &[&str]) {
        let output = ssh_keygen(room, words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Two authorities, a key and certificates for it by number and ID.
    fn room() -> (tempfile::TempDir, Vec<(String, Offered)>) {
        let room = tempfile::tempdir().unwrap();
        let path = room.path();
        for name in ["ca", "other", "key", "key2"] {
            makes(path, &["-q", "-t", "ed25519", "-N", "", "-f", name]);
        }
        let mut files = vec!["key.pub".to_owned(), "key2.pub".to_owned(), "ca.pub".to_owned()];
        for (key, ca, serial, id) in [
            ("key", "ca", "0", "zero"),
            ("key", "ca", "1", "one"),
            ("key2", "ca", "7", "seven"),
            ("key", "ca", "8", "eight"),
            ("key", "ca", "70000", "seven"),
            ("key2", "other", "7", "one"),
            ("key", "ca", "18446744073709551615", "most"),
        ] {
            makes(path, &["-q", "-s", ca, "-I", id, "-z", serial, "-n", "alice", &format!("{key}.pub")]);
            let file = format!("{id}-{ca}-{serial}-cert.pub");
            fs::rename(path.join(format!("{key}-cert.pub")), path.join(&file)).unwrap();
            files.push(file);
        }
        let offered = files.into_iter().map(|file| {
            let text = fs::read_to_string(path.join(&file)).unwrap();
            (file, Offered::parse(&text).unwrap())
        });
        let offered = offered.collect();
        (room, offered)
    }

    #[test]
    fn a_list_revokes_what_ssh_keygen_says() {
        let (room, offered) = room();
        let path = room.path();
        let names: Vec<&str> = offered.iter().map(|(name, _)| name.as_str()).collect();
        let mut decided = [0, 0];
        for (authority, specification) in [
            (None, ""),
            (None, &format!("key: {}", fs::read_to_string(path.join("key.pub")).unwrap())),
            (None, &format!("sha1: {}", fs::read_to_string(path.join("key2.pub")).unwrap())),
            (None, &format!("sha256: {}", fs::read_to_string(path.join("key.pub")).unwrap())),
            (None, &format!("sha256: {}", fs::read_to_string(path.join("ca.pub")).unwrap())),
            (None, &format!("key: {}", fs::read_to_string(path.join("other.pub")).unwrap())),
            (Some("ca.pub"), "serial: 7\n"),
            (Some("other.pub"), "serial: 7\n"),
            (Some("none"), "serial: 7\nserial: 1\n"),
            (Some("ca.pub"), "serial: 2-7\nserial: 69999-70001\n"),
            (Some("ca.pub"), "serial: 1\nserial: 3\nserial: 5\nserial: 8\nserial: 11\nserial: 13\n"),
            (Some("ca.pub"), "serial: 18446744073709551615\n"),
            (Some("ca.pub"), "serial: 1-18446744073709551615\n"),
            (Some("ca.pub"), "id: seven\nid: nobody\n"),
            (Some("none"), "id: one\nserial: 70000\n"),
            (Some("ca.pub"), "serial: 1\nserial: 70000\nid: eight\n"),
        ] {
            fs::write(path.join("specification"), specification).unwrap();
            let ca: Vec<&str> = authority.into_iter().flat_map(|ca| ["-s", ca]).collect();
            makes(path, &[&["-q", "-k", "-f", "krl"], ca.as_slice(), &["specification"]].concat());
            let output = ssh_keygen(path, &[&["-Q", "-f", "krl"], names.as_slice()].concat());
            let printed = String::from_utf8(output.stdout).unwrap();
            let list = fs::read(path.join("krl")).unwrap();
            check(&list).unwrap();
            for ((name, offered), line) in offered.iter().zip(printed.lines()) {
                let right = line.ends_with("REVOKED");
                assert!(line.starts_with(name.as_str()) && (right || line.ends_with("ok")), "{line}");
                assert_eq!(is_revoked(&list, offered), Ok(right), "{authority:?} {specification:?} {name}");
                decided[usize::from(right)] += 1;
            }
        }
        assert!(decided.iter().all(|count| *count > 20), "{decided:?}");
    }

    fn list(sections: &[u8]) -> Vec<u8> {
        let mut list = MAGIC.to_vec();
        list.extend(1u32.to_be_bytes());
        list.extend([0; 24]);
        list.extend([0; 8]);
        list.extend(sections);
        list
    }

    fn section(kind: u8, fields: &[u8]) -> Vec<u8> {
        [&[kind][..], &(fields.len() as u32).to_be_bytes(), fields].concat()
    }

    fn of_all_authorities(kind: u8, fields: &[u8]) -> Vec<u8> {
        section(1, &[&[0; 8][..], &section(kind, fields)].concat())
    }

    #[test]
    fn a_list_that_is_not_understood_revokes_everything() {
        assert_eq!(check(&list(&[])), Ok(()));
        let extension = |critical: u8| [&[0, 0, 0, 1, b'x', critical][..], &[0; 4]].concat();
        assert_eq!(check(&list(&section(255, &extension(0)))), Ok(()));
        assert_eq!(check(&list(&section(255, &extension(1)))), Err(KrlError::Extension("x".to_owned())));
        assert_eq!(check(&list(&of_all_authorities(0x39, &extension(0)))), Ok(()));
        assert_eq!(
            check(&list(&of_all_authorities(0x39, &extension(1)))),
            Err(KrlError::Extension("x".to_owned()))
        );
        assert_eq!(check(&list(&section(4, &[]))), Err(KrlError::Signed));
        assert_eq!(check(&list(&section(9, &[]))), Err(KrlError::Section(9)));
        assert_eq!(check(&list(&of_all_authorities(0x24, &[]))), Err(KrlError::Section(0x24)));
        for invalid in [
            of_all_authorities(0x20, &[0; 8]),
            of_all_authorities(0x21, &[&9u64.to_be_bytes()[..], &8u64.to_be_bytes()].concat()),
            of_all_authorities(0x21, &[1; 17]),
            of_all_authorities(0x22, &[&u64::MAX.to_be_bytes()[..], &[0, 0, 0, 1, 2]].concat()),
            of_all_authorities(0x22, &[&0u64.to_be_bytes()[..], &[0, 0, 0, 1, 1]].concat()),
            of_all_authorities(0x22, &[&1u64.to_be_bytes()[..], &[0, 0, 0, 1, 0x80]].concat()),
            of_all_authorities(0x23, &[0, 0, 0, 2, b'a', 0]),
            section(1, &[&[0, 0, 0, 1, b'x'][..], &[0; 4]].concat()),
            section(3, &[0, 0, 0, 1, 1]),
            section(5, &[&[0, 0, 0, 20][..], &[1; 20]].concat()),
        ] {
            assert!(matches!(check(&list(&invalid)), Err(KrlError::Invalid(_))), "{invalid:?}");
        }
        let mut other = list(&[]);
        other[11] = 2;
        assert_eq!(check(&other), Err(KrlError::Version(2)));
        assert_eq!(check(b"SSHKRL\n\x01"), Err(KrlError::Magic));
        assert_eq!(check(&vec![0; KRL_LIMIT + 1]), Err(KrlError::TooLong));
        let whole =
            list(&[of_all_authorities(0x23, &[0, 0, 0, 1, b'a']), section(2, &[0, 0, 0, 1, 1])].concat());
        assert_eq!(check(&whole), Ok(()));
        let ends = |length: usize| length == list(&[]).len() || length == whole.len() - 10;
        for length in (MAGIC.len()..whole.len()).filter(|length| !ends(*length)) {
            assert_eq!(check(&whole[..length]), Err(KrlError::Truncated), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_list_panics(sections: Vec<u8>, kind in 0u8..6, inner in 0x1fu8..0x25) {
            let _ = check(&list(&sections));
            let _ = check(&list(&section(kind, &sections)));
            let _ = check(&list(&of_all_authorities(inner, &sections)));
        }
    }
}
