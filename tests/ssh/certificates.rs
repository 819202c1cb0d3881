//! User certificates, beside Debian's sshd with the settings of the same names: generated cases of certificate, options, authority,
//! principals and revocation. Ours must never admit what sshd rejects, and reject what sshd admits only for the reasons in
//! `Case::may_be_stricter_here`.
//!
//! `CERTIFICATE_CASES=500` tries more of them (`make release-check`), `CERTIFICATE_SEED` others.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::accounts::Accounts;
use crate::certificate_cases::{Case, Dice};
use crate::client::Client;
use crate::key_sources;
use crate::rig::{Rig, run};
use crate::sshd::Sshd;

/// Cases in the gate, at half a second each.
const CASES: u64 = 24;

/// A security key in software.
pub const AGENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/security-key-agent");

struct Beside {
    accounts: Accounts,
    rig: Rig,
    sshd: Sshd,
}

/// The directory of the files, below directories that only root can write.
pub const ROOM: &str = "/etc/certificates";

/// Our configuration and sshd's. All files exist, so that neither changes but by their contents.
const OURS: &str = "[access]\ngroups = [\"*\"]\nuser_ca = \"/etc/certificates/trusted\"\nrevoked = \"/etc/certificates/revoked\"\n";
const THEIRS: &str = "TrustedUserCAKeys /etc/certificates/trusted\nRevokedKeys /etc/certificates/revoked\n";
const PORT: &str = "[ports.demo]\ndevice = \"@DIR@/dev/demo\"\n";

pub fn keygen(words: &[&str]) {
    run(Command::new("ssh-keygen").arg("-q").args(words).current_dir(ROOM));
}

pub fn write(name: &str, text: &str) {
    fs::write(Path::new(ROOM).join(name), text).unwrap();
}

pub fn read(name: &str) -> String {
    fs::read_to_string(Path::new(ROOM).join(name)).unwrap()
}

/// Alice, keys of users and of authorities, of each type.
fn beside() -> Beside {
    let accounts = Accounts::enter();
    accounts.add("alice", None);
    fs::create_dir(ROOM).unwrap();
    fs::create_dir(Path::new(ROOM).join("principals")).unwrap();
    for (kind, bits) in [("ed25519", "256"), ("ecdsa", "256"), ("rsa", "2048")] {
        for name in ["key", "ca"] {
            keygen(&["-N", "", "-t", kind, "-b", bits, "-f", &format!("{name}_{kind}")]);
        }
    }
    keygen(&["-N", "", "-t", "ed25519", "-f", "stranger"]);
    run(Command::new(AGENT).args(["make", "ca_sk"]).current_dir(ROOM));
    let mut rig = Rig::with_config(&format!("{OURS}{PORT}"));
    rig.serve_logins(false);
    write("trusted", "");
    write("revoked", "");
    rig.start_plugged();
    let sshd = Sshd::start(&rig, THEIRS);
    Beside { accounts, rig, sshd }
}

/// Whether OpenSSH logs in as alice by this certificate alone.
fn is_let_in(mut ssh: Command, key: &str) -> bool {
    ssh.current_dir(ROOM).arg("-i").arg(Path::new(ROOM).join(key)).args(["-o", "IdentityAgent=none"]);
    key_sources::is_let_in(ssh, "alice")
}

impl Beside {
    /// The decisions of sshd and of console-port.
    fn both(&self, key: &str) -> (bool, bool) {
        let certificate = format!("CertificateFile={ROOM}/{key}-cert.pub");
        let options = ["-o", certificate.as_str()];
        (is_let_in(self.sshd.ssh(&self.rig, &options), key), is_let_in(self.rig.ssh(&options), key))
    }

    #[track_caller]
    fn decide(&self, key: &str, right: bool, case: &str) {
        assert_eq!(self.both(key), (right, right), "{case} (sshd, ours): {}", self.rig.login_journal());
    }

    fn with_principals(&mut self, file: Option<&str>) {
        let (mut ours, mut theirs) = (OURS.to_owned(), THEIRS.to_owned());
        if let Some(file) = file {
            ours += &format!("principals = {file:?}\n");
            theirs += &format!("AuthorizedPrincipalsFile {file}\n");
        }
        self.rig.configure(&format!("{ours}{PORT}"));
        self.sshd.configure(&self.rig, &theirs);
    }
}

#[test]
fn generated_certificates_are_never_judged_looser_than_by_sshd() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let cases = number("CERTIFICATE_CASES").unwrap_or(CASES);
    let seed = number("CERTIFICATE_SEED").unwrap_or(1);
    let mut beside = beside();
    let mut dice = Dice::new(seed);
    let mut wrong = Vec::new();
    let mut decided = [0, 0];
    let mut stricter = BTreeMap::<&str, u32>::new();
    // First all cases without the setting, then all with it, since a change of it needs a new sshd.
    for half in [false, true] {
        beside.with_principals(half.then_some("/etc/certificates/principals/%u"));
        for _ in 0..cases.div_ceil(2) {
            let case = Case::draw(&mut dice, half);
            case.prepare(&beside.accounts);
            let (theirs, ours) = beside.both(case.key);
            decided[usize::from(theirs)] += 1;
            match (theirs, ours, case.may_be_stricter_here()) {
                (true, false, Some(why)) => *stricter.entry(why).or_default() += 1,
                _ if ours == theirs => {}
                _ => wrong.push(format!("sshd {theirs}, ours {ours}: {case:?}")),
            }
        }
    }
    println!(
        "{cases} cases of seed {seed}: sshd refused {} and admitted {}; ours was stricter: {stricter:?}",
        decided[0], decided[1]
    );
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), beside.rig.login_journal());
    assert!(decided.iter().all(|count| *count * 16 >= cases), "{decided:?}");
}

#[test]
fn a_revoked_certificate_is_refused_at_the_next_login() {
    let mut beside = beside();
    write("trusted", &read("ca_ed25519.pub"));
    keygen(&["-s", "ca_ed25519", "-I", "laptop", "-z", "7", "-n", "alice", "key_ed25519.pub"]);
    beside.decide("key_ed25519", true, "her certificate");
    let granted = "granted as alice by certificate \"laptop\" (serial 7) of CA SHA256:";
    assert!(beside.rig.login_journal().contains(granted), "{}", beside.rig.login_journal());
    let certificate = format!("CertificateFile={ROOM}/key_ed25519-cert.pub");
    let mut ssh = beside.rig.ssh(&["-o", &certificate, "-i", &format!("{ROOM}/key_ed25519"), "-tt"]);
    ssh.arg("alice@127.0.0.1");
    let mut session = Client::start(ssh);
    session.sees("for help]");
    write("specification", "serial: 7\n");
    keygen(&["-k", "-f", "new", "-s", "ca_ed25519.pub", "specification"]);
    fs::rename(Path::new(ROOM).join("new"), Path::new(ROOM).join("revoked")).unwrap();
    beside.decide("key_ed25519", false, "revoked, by the next login and without a reload");
    beside.rig.say(b"still attached\r\n");
    session.sees("still attached");
    let refused = "denied (key): the certificate \"laptop\" (serial 7) of CA SHA256:";
    assert!(beside.rig.login_journal().contains(refused), "{}", beside.rig.login_journal());
    fs::remove_file(Path::new(ROOM).join("revoked")).unwrap();
    beside.decide("key_ed25519", false, "what is revoked is not known");
    let unknown =
        "no key is accepted, because the revoked keys are not known: cannot read /etc/certificates/revoked";
    assert!(beside.rig.login_journal().contains(unknown), "{}", beside.rig.login_journal());

    // A key without a certificate, too.
    let key = read("key_ecdsa.pub");
    beside.accounts.authorize("alice", &key);
    write("revoked", "");
    beside.decide("key_ecdsa", true, "a listed key");
    write("revoked", &key);
    beside.decide("key_ecdsa", false, "a listed key that is revoked");
    // The authority's file is root's.
    write("revoked", "");
    beside.decide("key_ed25519", true, "again");
    beside.accounts.set_mode(format!("{ROOM}/trusted"), 0o666);
    assert!(!is_let_in(
        beside.rig.ssh(&["-o", "CertificateFile=/etc/certificates/key_ed25519-cert.pub"]),
        "key_ed25519"
    ));
    assert!(
        beside
            .rig
            .login_journal()
            .contains("user_ca accepts no certificate: /etc/certificates/trusted is writable")
    );
    beside.accounts.set_mode(format!("{ROOM}/trusted"), 0o644);
    beside.with_principals(Some("none"));
    beside.decide("key_ed25519", true, "by the name of the user");
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// How much longer a login by a certificate takes than one by its key. The bound is a ratio, and wide: it is for a mistake such as a second
/// connection, or a file read for each principal. `CERTIFICATE_LOGINS=50 … --nocapture` for the figures.
#[test]
fn a_certificate_costs_a_login_little() {
    let logins = std::env::var("CERTIFICATE_LOGINS").map_or(9, |count| count.parse().unwrap());
    let beside = beside();
    write("trusted", &read("ca_ed25519.pub"));
    beside.accounts.authorize("alice", &fs::read_to_string(beside.rig.path("key.pub")).unwrap());
    keygen(&["-s", "ca_ed25519", "-I", "laptop", "-n", "alice", "key_ed25519.pub"]);
    let certificate = format!("CertificateFile={ROOM}/key_ed25519-cert.pub");
    let time = |log_in: &dyn Fn() -> bool| {
        let begun = Instant::now();
        assert!(log_in(), "{}", beside.rig.login_journal());
        milliseconds(begun.elapsed())
    };
    // OpenSSH offers a certificate before keys, so each offers one thing.
    let by_key = || key_sources::is_let_in(beside.rig.ssh(&["-o", "IdentityAgent=none"]), "alice");
    let by_certificate = || is_let_in(beside.rig.ssh(&["-o", &certificate]), "key_ed25519");
    let median = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let pairs: Vec<_> = (0..logins).map(|_| (time(&by_key), time(&by_certificate))).collect();
    let plain = median(pairs.iter().map(|(plain, _)| *plain).collect());
    let longer = median(pairs.iter().map(|(plain, certified)| certified - plain).collect());
    println!("{logins} logins: {plain:.1} ms by a key, {longer:+.1} ms by a certificate (medians)");
    assert!(longer < plain / 2.0, "{pairs:?}");
}

/// A security key in software (`tests/support/security-key-agent`), which signs with the given flags.
#[test]
fn a_security_key_must_have_been_touched_as_sshd_requires() {
    let beside = beside();
    run(Command::new(AGENT).args(["make", "sk"]).current_dir(ROOM));
    let ca = read("ca_ed25519.pub");
    let key = read("sk.pub");
    let (touched, verified, untouched) = ("1", "5", "0");
    for (options, line, flags, right) in [
        (None, "", touched, true),
        (None, "", untouched, false),
        (None, "verify-required ", verified, true),
        (Some(&[][..]), "cert-authority ", touched, true),
        (Some(&[]), "cert-authority ", untouched, false),
        (Some(&["-O", "no-touch-required"]), "cert-authority,no-touch-required ", untouched, true),
        (Some(&["-O", "verify-required"]), "cert-authority ", verified, true),
        (Some(&["-O", "no-touch-required"]), "trusted", untouched, true),
        (Some(&["-O", "verify-required"]), "trusted", touched, false),
    ] {
        let _ = fs::remove_file(Path::new(ROOM).join("sk-cert.pub"));
        if let Some(options) = options {
            keygen(&[&["-s", "ca_ed25519", "-I", "sk", "-n", "alice"], options, &["sk.pub"]].concat());
        }
        write("trusted", if line == "trusted" { &ca } else { "" });
        beside.accounts.authorize(
            "alice",
            &match (line, options) {
                ("trusted", _) => String::new(),
                (line, None) => format!("{line}{key}"),
                (line, Some(_)) => format!("{line}{ca}"),
            },
        );
        let decide = |ssh: &dyn Fn() -> Command| {
            let mut ssh = ssh();
            ssh.args(["-T", "-o", "BatchMode=yes", "alice@127.0.0.1", "no-such-command"]);
            // The first value counts.
            let words = ssh.get_args().map(|word| {
                if word == "IdentitiesOnly=yes" { std::ffi::OsStr::new("IdentitiesOnly=no") } else { word }
            });
            let mut command = Command::new(AGENT);
            command.args(["run", "sk", flags]).arg(ssh.get_program()).args(words).current_dir(ROOM);
            let output = command.output().unwrap();
            let printed = String::from_utf8_lossy(&output.stderr);
            match output.status.code() {
                Some(255) if printed.contains("Permission denied") => false,
                Some(code) if code != 255 && !printed.contains("Traceback") => true,
                _ => panic!("{output:?}"),
            }
        };
        let theirs = decide(&|| beside.sshd.ssh(&beside.rig, &[]));
        let ours = decide(&|| beside.rig.ssh(&[]));
        assert_eq!(
            (theirs, ours),
            (right, right),
            "{options:?} {line:?} {flags} (sshd, ours): {}",
            beside.rig.login_journal()
        );
    }
}
