//! What a client offers, a list of revoked keys, and a file of principals. Input: which, then the text of a key or certificate, or a list.

use std::sync::LazyLock;

use consoleserver::auth::authorized_keys::{LoginContext, search, search_principals};
use consoleserver::auth::certificate::{Offered, UserCertificate};
use consoleserver::auth::krl::{self, MAGIC};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Made by `ssh-keygen -s ca -I laptop -z 7 -n alice -V always:forever key.pub`.
const CERTIFICATE: &str = include_str!("../corpus/certificates/certificate");

static OURS: LazyLock<Offered> = LazyLock::new(|| Offered::parse(&CERTIFICATE[1..]).expect("a certificate"));

/// See the module.
pub fn run(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    match which % 3 {
        0 => offer(&String::from_utf8_lossy(bytes)),
        1 => revoked(&[MAGIC, bytes].concat()),
        _ => principals(bytes),
    }
}

fn context() -> LoginContext {
    let now: Timestamp = "2026-11-29T12:00:00Z".parse().expect("a time");
    LoginContext { user: "alice".to_owned(), rhost: [192, 0, 2, 7].into(), now, zone: TimeZone::UTC }
}

fn certificate() -> &'static UserCertificate {
    match &*OURS {
        Offered::Certificate(certificate) => certificate,
        Offered::Key(_) => unreachable!("it is a certificate"),
    }
}

/// A parsed key or certificate is written back unchanged, and no line of another authority accepts it.
fn offer(text: &str) {
    let offered = match Offered::parse(text) {
        Ok(offered) => offered,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let (kind, base64) = offered.type_and_base64().expect("it was parsed");
    let again = Offered::parse(&format!("{kind} {base64}")).expect("it was written");
    assert_eq!(again, offered);
    let LoginContext { now, rhost, .. } = context();
    let _ = offered.check(now, rhost);
    let line = OURS.type_and_base64().expect("a certificate");
    let key = OURS.key().to_openssh().expect("a key");
    let file = format!("cert-authority {key}\n{} {}\n", line.0, line.1);
    assert_eq!(search(file.as_bytes(), &offered, &context()).admitted, None);
}

/// A list that is understood decides about any key, and more of the same revokes no less.
fn revoked(list: &[u8]) {
    let decided = krl::is_revoked(list, &OURS);
    assert_eq!(decided.is_ok(), krl::check(list).is_ok());
    if decided.is_ok() {
        let id = [&[0x23, 0, 0, 0, 10, 0, 0, 0, 6][..], b"laptop"].concat();
        let section = [&[1, 0, 0, 0, 23][..], &[0; 8], &id].concat();
        let more = [list, &section].concat();
        assert_eq!(krl::is_revoked(&more, &OURS), Ok(true));
        let unknown = [list, &[9, 0, 0, 0, 0]].concat();
        assert!(krl::is_revoked(&unknown, &OURS).is_err());
    }
}

/// A file admits as its first line that does; nothing but the name in it does.
fn principals(file: &[u8]) {
    let admitted = |file: &[u8]| search_principals(file, certificate(), &context()).admitted;
    let lines = || file.split(|byte| *byte == b'\n');
    let first = lines().position(|line| admitted(line).is_some());
    assert_eq!(admitted(file), first.map(|index| index + 1));
    if !file.windows(5).any(|window| window == b"alice") {
        assert_eq!(first, None);
    }
}
