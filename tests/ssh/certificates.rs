//! User certificates, beside Debian's sshd with the settings of the same names: generated cases of certificate, options, authority,
//! principals and revocation. Ours must never admit what sshd refuses, and refuse what sshd admits only for the reasons in
//! `Case::is_stricter_here`.
//!
//! `CERTIFICATE_CASES=500` tries more of them (`make release-check`), `CERTIFICATE_SEED` others.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::accounts::Accounts;
use crate::key_sources;
use crate::rig::{Rig, run};
use crate::sshd::Sshd;

/// Cases in the gate: enough that each value of each dimension occurs, at half a second each.
const CASES: u64 = 24;

struct Beside {
    accounts: Accounts,
    rig: Rig,
    sshd: Sshd,
}

/// Where the files are: below directories that only root writes to.
const ROOM: &str = "/etc/certificates";

/// Our configuration and sshd's. All files exist, so that neither changes but by their contents.
const OURS: &str = "[access]\ngroups = [\"*\"]\nuser_ca = \"/etc/certificates/trusted\"\nrevoked = \"/etc/certificates/revoked\"\n";
const THEIRS: &str = "TrustedUserCAKeys /etc/certificates/trusted\nRevokedKeys /etc/certificates/revoked\n";
const PORT: &str = "[ports.demo]\ndevice = \"@DIR@/dev/demo\"\n";

fn keygen(words: &[&str]) {
    run(Command::new("ssh-keygen").arg("-q").args(words).current_dir(ROOM));
}

fn write(name: &str, text: &str) {
    fs::write(Path::new(ROOM).join(name), text).unwrap();
}

fn read(name: &str) -> String {
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
    /// What sshd and what ours decides.
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

/// xorshift64*: the same cases for the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The first of the values in three quarters of the cases, so that most cases have one or two faults.
    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        if self.next() >> 62 != 0 { values[0] } else { values[(self.next() >> 33) as usize % values.len()] }
    }
}

/// One case: each value is words of ssh-keygen, or lines of a file.
#[derive(Debug, Clone)]
struct Case {
    key: &'static str,
    ca: &'static str,
    signature: &'static str,
    principals: &'static str,
    validity: &'static str,
    options: &'static [&'static str],
    serial: &'static str,
    trusted: &'static str,
    /// Options of the authority's line in authorized_keys; `-` is no line.
    line: &'static str,
    /// The file of principals; `-` is none, and no such setting.
    file: &'static str,
    revoked: &'static str,
}

impl Case {
    fn draw(dice: &mut Dice, file: &'static str) -> Self {
        let ca = dice.of(&["ca_ed25519", "ca_ecdsa", "ca_rsa"]);
        Self {
            key: dice.of(&["key_ed25519", "key_ecdsa", "key_rsa"]),
            ca,
            signature: if ca == "ca_rsa" {
                dice.of(&["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"])
            } else {
                ""
            },
            principals: dice.of(&["alice", "bob,alice", "operator", "operator,alice", "bob", "Alice", ""]),
            validity: dice.of(&["always:forever", "-1h:+1h", "-2h:-1h", "+1h:+2h", "20200101:forever"]),
            options: dice.of(&[
                &[][..],
                &["-O", "source-address=127.0.0.0/8,10.0.0.0/8"],
                &["-O", "source-address=10.0.0.0/8"],
                &["-O", "source-address=::1/128,127.0.0.1"],
                &["-O", "force-command=/bin/true"],
                &["-O", "critical:unknown@example.org=x"],
                &["-O", "extension:unknown@example.org=x"],
                &["-O", "clear"],
                &["-O", "clear", "-O", "extension:permit-pty=x"],
                &["-O", "verify-required"],
                &["-O", "no-touch-required"],
                &["-O", "critical:source-address=*"],
                &["-O", "critical:verify-required=x"],
            ]),
            serial: dice.of(&["7", "0", "8", "70000"]),
            trusted: dice.of(&["ca", "other", "both", "bad", "none", "commented"]),
            line: dice.of(&[
                "-",
                "cert-authority",
                "cert-authority,principals=\"operator,bob\"",
                "cert-authority,principals=\"alice\",from=\"127.0.0.*\"",
                "cert-authority,from=\"10.0.0.0/8\"",
                "cert-authority,command=\"/bin/true\"",
                "cert-authority,expiry-time=\"20200101\"",
                "restrict,cert-authority,verify-required",
                "principals=\"alice\"",
                "",
            ]),
            file,
            revoked: dice.of(&[
                "",
                "krl",
                "krl:serial: 7",
                "krl:serial: 1-8",
                "krl:id: the-id",
                "krl:id: other",
                "krl-none:serial: 7",
                "krl:key",
                "krl:ca",
                "krl:sha1 key",
                "krl:sha256 ca",
                "list:key",
                "list:ca",
                "list:stranger",
                "bad",
                "truncated",
            ]),
        }
    }

    /// Why sshd may admit what ours does not: `force-command` and `command=` ask for a program, which no console runs; and a certificate
    /// without principals is one for every user of a `cert-authority,principals=` line to sshd before 10.3.
    fn is_stricter_here(&self) -> bool {
        self.options.iter().any(|option| option.contains("force-command"))
            || self.line.contains("command=")
            || self.principals.is_empty()
    }

    fn prepare(&self, accounts: &Accounts) {
        let public = format!("{}.pub", self.key);
        let mut words = vec!["-s", self.ca, "-I", "the-id", "-z", self.serial, "-V", self.validity];
        if !self.signature.is_empty() {
            words.extend(["-t", self.signature]);
        }
        if !self.principals.is_empty() {
            words.extend(["-n", self.principals]);
        }
        words.extend(self.options);
        words.push(&public);
        keygen(&words);
        let ca = read(&format!("{}.pub", self.ca));
        let stranger = read("stranger.pub");
        write(
            "trusted",
            &match self.trusted {
                "ca" => ca.clone(),
                "other" => stranger.clone(),
                "both" => format!("# authorities\n\n  {stranger}{ca}"),
                "bad" => format!("not a key\n{ca}"),
                "commented" => format!("#{ca}"),
                _ => String::new(),
            },
        );
        let line = if self.line == "-" { String::new() } else { format!("{} {ca}", self.line) };
        accounts.authorize("alice", &line);
        if self.file != "-" {
            write("principals/alice", self.file);
        }
        self.revoke(&ca);
    }

    fn revoke(&self, ca: &str) {
        let _ = fs::remove_file(Path::new(ROOM).join("revoked"));
        let text = |of: &str| if of == "ca" { ca.to_owned() } else { read(&format!("{}.pub", self.key)) };
        let krl = |authority: &[&str], specification: &str| {
            write("specification", specification);
            keygen(&[&["-k", "-f", "revoked"], authority, &["specification"]].concat());
        };
        let of_ca = format!("{}.pub", self.ca);
        match self.revoked.split_once(':').unwrap_or((self.revoked, "")) {
            ("krl", "") => krl(&[], ""),
            ("krl", key @ ("key" | "ca")) => krl(&[], &format!("key: {}", text(key))),
            ("krl", "sha1 key") => krl(&[], &format!("sha1: {}", text("key"))),
            ("krl", "sha256 ca") => krl(&[], &format!("sha256: {}", text("ca"))),
            ("krl", specification) => krl(&["-s", &of_ca], specification),
            ("krl-none", specification) => krl(&["-s", "none"], specification),
            ("list", "stranger") => write("revoked", &format!("# revoked\n{}", read("stranger.pub"))),
            ("list", of) => write("revoked", &text(of)),
            ("bad", _) => write("revoked", "not a key\n"),
            ("truncated", _) => {
                krl(&["-s", &of_ca], "serial: 1\nid: x\n");
                let list = fs::read(Path::new(ROOM).join("revoked")).unwrap();
                fs::write(Path::new(ROOM).join("revoked"), &list[..list.len() - 3]).unwrap();
            }
            _ => write("revoked", ""),
        }
    }
}

#[test]
fn generated_certificates_are_never_judged_looser_than_by_sshd() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let cases = number("CERTIFICATE_CASES").unwrap_or(CASES);
    let seed = number("CERTIFICATE_SEED").unwrap_or(1).max(1);
    let mut beside = beside();
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut wrong = Vec::new();
    let mut decided = [0, 0];
    // By half of them without the setting and half with it, since only that needs a new sshd.
    for half in [false, true] {
        beside.with_principals(half.then_some("/etc/certificates/principals/%u"));
        for _ in 0..cases.div_ceil(2) {
            let file = if half {
                dice.of(&[
                    "alice\n",
                    "operator\nbob\n",
                    "# alice\n\n  bob # alice\n",
                    "from=\"10.0.0.0/8\" alice\n",
                    "from=\"127.0.0.1\",no-pty  alice\t\n",
                    "command=\"/bin/true\" operator\nalice\n",
                    "cert-authority alice\n",
                    "",
                ])
            } else {
                "-"
            };
            let case = Case::draw(&mut dice, file);
            case.prepare(&beside.accounts);
            let (theirs, ours) = beside.both(case.key);
            decided[usize::from(theirs)] += 1;
            let stricter = case.is_stricter_here() || file.contains("command=");
            if ours != theirs && !(theirs && stricter) {
                wrong.push(format!("sshd {theirs}, ours {ours}: {case:?}"));
            }
        }
    }
    println!("{cases} cases of seed {seed}: sshd refused {} and admitted {}", decided[0], decided[1]);
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
    write("specification", "serial: 7\n");
    keygen(&["-k", "-f", "new", "-s", "ca_ed25519.pub", "specification"]);
    fs::rename(Path::new(ROOM).join("new"), Path::new(ROOM).join("revoked")).unwrap();
    beside.decide("key_ed25519", false, "revoked, by the next login and without a reload");
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

/// A security key in software (`tests/support/security-key-agent`), which signs with the flags that it is told.
#[test]
fn a_security_key_must_have_been_touched_as_sshd_requires() {
    let beside = beside();
    let agent = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/security-key-agent");
    run(Command::new(agent).args(["make", "sk"]).current_dir(ROOM));
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
            let mut command = Command::new(agent);
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
