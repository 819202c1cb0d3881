//! The journal message about a client without a common algorithm: what it offers, and which value of `ssh_algorithms` would serve it.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::algorithms::{self, Category};
use super::hello::KexInit;
use crate::config::SshAlgorithms;
use crate::hostkeys::HostKeys;
use crate::printable;
use crate::system::lock::Lock;

/// Limits within this interval: each message once per address, this many per address, and this many in total. Otherwise unauthenticated
/// clients could fill the journal.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
const MAX_REPORTS_PER_SOURCE: usize = 4;
const MAX_REPORTS: usize = 16;
/// Characters of a client's list: more than real clients offer.
const LIST_LIMIT: usize = 600;
const VERSION_LIMIT: usize = 80;

#[derive(Debug, Default)]
pub(super) struct MismatchLog {
    logged: Mutex<Vec<(IpAddr, String, Instant)>>,
}

impl MismatchLog {
    /// Whether to log this message about that address now.
    pub(super) fn should_log(&self, peer: IpAddr, sentence: &str, now: Instant) -> bool {
        let mut told = self.logged.locked();
        told.retain(|(_, _, time)| now.duration_since(*time) < REPORT_INTERVAL);
        let of_peer = || told.iter().filter(|(other, ..)| *other == peer);
        let news = told.len() < MAX_REPORTS
            && of_peer().count() < MAX_REPORTS_PER_SOURCE
            && !of_peer().any(|(_, known, _)| known == sentence);
        if news {
            told.push((peer, sentence.to_owned(), now));
        }
        news
    }
}

/// The message, if a client cannot be served.
pub(super) fn sentence(
    client: &KexInit,
    version: &str,
    word: SshAlgorithms,
    keys: &HostKeys,
) -> Option<String> {
    let category = algorithms::unmatched(client, word, keys)?;
    let would = SshAlgorithms::ALL.into_iter().find(|other| {
        let for_client = algorithms::for_client(client, *other, keys);
        algorithms::unmatched(client, for_client, keys).is_none()
    });
    let advice = match would {
        Some(would) => {
            format!("ssh_algorithms = \"{}\" in [server] would serve it", would.word())
        }
        None => "no value of ssh_algorithms would serve it".to_owned(),
    };
    let preferred = algorithms::preferred(word);
    let ours = algorithms::names(category, &preferred, &algorithms::served(word, keys)).join(",");
    let theirs = category.offered(client).iter().find(|list| {
        category != Category::Cipher || !list.iter().any(|name| ours.split(',').any(|our| our == name))
    });
    // Extensions are not algorithms (RFC 8308; PROTOCOL of OpenSSH, section 1.10).
    let is_extension = |name: &&String| name.starts_with("ext-info-") || name.starts_with("kex-strict-");
    let theirs =
        theirs.map(|list| list.iter().filter(|name| !is_extension(name)).cloned().collect::<Vec<_>>());
    let theirs = theirs.unwrap_or_default().join(",");
    Some(format!(
        "{}: no common {}: the client offers {}, \"{}\" offers {ours}; {advice}",
        clip(version, VERSION_LIMIT),
        category.name(),
        clip(&theirs, LIST_LIMIT),
        word.word(),
    ))
}

/// The beginning of a client's text, printable.
fn clip(text: &str, limit: usize) -> String {
    let clipped: String = text.chars().take(limit).collect();
    let dots = if clipped.len() < text.len() { "..." } else { "" };
    format!("{}{dots}", printable::visible(&clipped))
}

#[cfg(test)]
mod tests {
    use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};

    use super::*;

    fn client(lists: [&str; 6]) -> KexInit {
        KexInit { lists: lists.map(|list| list.split(',').map(str::to_owned).collect()) }
    }

    fn keys() -> HostKeys {
        let keys = [Algorithm::Ed25519, Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }]
            .map(|kind| {
                let mut key = PrivateKey::random(&mut russh::keys::key::safe_rng(), kind).unwrap();
                key.set_comment(crate::hostkeys::MADE_COMMENT);
                key
            })
            .to_vec();
        HostKeys { keys, ..HostKeys::default() }
    }

    #[test]
    fn the_category_and_the_word_are_named() {
        let (gcm, ctr, mac) = ("aes128-gcm@openssh.com", "aes128-ctr", "hmac-sha2-256");
        let (curve, key) = ("curve25519-sha256", "ssh-ed25519");
        for (lists, word, wanted) in [
            ([curve, key, gcm, gcm, "none", "none"], SshAlgorithms::Strict, None),
            (
                [curve, key, ctr, ctr, mac, mac],
                SshAlgorithms::Strict,
                Some((
                    "no common cipher: the client offers aes128-ctr,",
                    "\"default\" in [server] would serve it",
                )),
            ),
            ([curve, key, ctr, ctr, mac, mac], SshAlgorithms::Default, None),
            (
                [curve, key, ctr, ctr, mac, "hmac-md5"],
                SshAlgorithms::Default,
                Some(("no common MAC: ", "no value of ssh_algorithms would serve it")),
            ),
            (
                ["ecdh-sha2-nistp256", "ecdsa-sha2-nistp256", gcm, gcm, mac, mac],
                SshAlgorithms::Strict,
                Some((
                    "no common key exchange: the client offers ecdh-sha2-nistp256, \"strict\" offers mlkem",
                    "\"default\" in [server] would serve it",
                )),
            ),
            (
                [curve, "ecdsa-sha2-nistp256", gcm, gcm, mac, mac],
                SshAlgorithms::Strict,
                Some((
                    "no common host key: the client offers ecdsa-sha2-nistp256, \"strict\" offers ssh-ed25519;",
                    "\"default\" in [server] would serve it",
                )),
            ),
            (
                ["diffie-hellman-group1-sha1", "ssh-dss", "3des-cbc", "3des-cbc", "hmac-md5", "hmac-md5"],
                SshAlgorithms::Compatible,
                Some(("no common key exchange: ", "no value of ssh_algorithms would serve it")),
            ),
        ] {
            let said = sentence(&client(lists), "SSH-2.0-x\u{1b}[2J", word, &keys());
            match (said, wanted) {
                (None, None) => {}
                (Some(said), Some((what, advice))) => {
                    assert!(said.contains(what) && said.ends_with(advice), "{said}");
                    assert!(said.starts_with("SSH-2.0-x") && !said.contains('\u{1b}'), "{said}");
                }
                (said, wanted) => panic!("{said:?}, not {wanted:?}"),
            }
        }
    }

    #[test]
    fn the_journal_is_told_of_an_address_once_a_minute_and_of_few_addresses() {
        let mismatches = MismatchLog::default();
        let now = Instant::now();
        let host = |number: u8| IpAddr::from([192, 0, 2, number]);
        assert!(mismatches.should_log(host(1), "0", now) && !mismatches.should_log(host(1), "0", now));
        let of_one = (0..9).filter(|number| mismatches.should_log(host(1), &number.to_string(), now)).count();
        assert_eq!(of_one, MAX_REPORTS_PER_SOURCE - 1);
        let of_all = (2..200).filter(|number| mismatches.should_log(host(*number), "0", now)).count();
        assert_eq!(of_all, MAX_REPORTS - MAX_REPORTS_PER_SOURCE);
        assert!(mismatches.should_log(host(1), "0", now + REPORT_INTERVAL));
    }
}
