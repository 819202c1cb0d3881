//! The cases of `certificates`: ssh-keygen's arguments, and the lines of the files, drawn from lists by a seed. What ssh-keygen does not
//! write is made here from its certificates (`craft`) and signed again.

use std::fs;
use std::path::Path;
use std::process::Command;

use russh::keys::PrivateKey;
use russh::keys::signature::Signer;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_encoding::base64::{Base64, Encoding};

use crate::accounts::Accounts;
use crate::certificates::{AGENT, ROOM, keygen, read, write};
use crate::rig::run;

/// xorshift64*: the same cases for the same seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The first of the values in three quarters of the cases, so that most cases have one or two faults.
    pub fn of<T: Copy>(&mut self, values: &[T]) -> T {
        if self.next() >> 62 != 0 { values[0] } else { values[(self.next() >> 33) as usize % values.len()] }
    }
}

/// One case: each value is arguments of ssh-keygen, or lines of a file.
#[derive(Debug, Clone)]
pub struct Case {
    /// `user`, `host`, or `plain`: a key without a certificate.
    kind: &'static str,
    pub key: &'static str,
    ca: &'static str,
    signature: &'static str,
    principals: &'static str,
    validity: &'static str,
    options: &'static [&'static str],
    serial: &'static str,
    /// What is changed in the certificate before it is signed again; empty for no change.
    craft: &'static str,
    trusted: &'static str,
    /// authorized_keys, with `<ca>` for the authority's key and `<key>` for the user's.
    lines: &'static str,
    /// The file of principals; `-` means no file and no such setting.
    file: &'static str,
    revoked: &'static str,
}

impl Case {
    pub fn draw(dice: &mut Dice, with_file: bool) -> Self {
        // Half of the certificates are for a line of authorized_keys to decide, the others for the file of authorities.
        let by_line = dice.next() >> 63 == 0;
        let kind = dice.of(&["user", "user", "user", "user", "host", "plain", "plain", "plain"]);
        let ca = dice.of(&["ca_ed25519", "ca_ecdsa", "ca_rsa", "ca_sk touched", "ca_sk untouched"]);
        Self {
            kind,
            key: dice.of(&["key_ed25519", "key_ecdsa", "key_rsa"]),
            ca,
            signature: match ca {
                "ca_rsa" => dice.of(&["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"]),
                _ => "",
            },
            principals: dice.of(&["alice", "bob,alice", "operator", "operator,alice", "bob", "Alice", ""]),
            validity: dice.of(&[
                "always:forever",
                "-1h:+1h",
                "-2h:-1h",
                "+1h:+2h",
                "20200101:forever",
                "always:+1h",
                "always:20200101",
                "+1h:forever",
            ]),
            options: dice.of(&[
                &[][..],
                &["-O", "source-address=127.0.0.0/8,10.0.0.0/8"],
                &["-O", "source-address=10.0.0.0/8"],
                &["-O", "source-address=::1/128,127.0.0.1"],
                &["-O", "source-address=::ffff:127.0.0.1"],
                &["-O", "source-address=0.0.0.0/0"],
                &["-O", "source-address=::/0"],
                &["-O", "force-command=/bin/true"],
                &["-O", "critical:unknown@example.org=x"],
                &["-O", "critical:unknown@example.org"],
                &["-O", "extension:unknown@example.org=x"],
                &["-O", "clear"],
                &["-O", "clear", "-O", "extension:permit-pty=x"],
                &["-O", "clear", "-O", "extension:permit-pty="],
                &["-O", "critical:verify-required="],
                &["-O", "verify-required"],
                &["-O", "no-touch-required"],
                &["-O", "critical:source-address=*"],
                &["-O", "critical:source-address=!10.0.0.0/8,127.0.0.1"],
                &["-O", "critical:source-address=127.0.0.1/8"],
                &["-O", "critical:source-address=127.0.0.1/33,127.0.0.1"],
                &["-O", "critical:source-address=127.0.0.1,"],
                &["-O", "critical:source-address="],
                &["-O", "critical:source-address"],
                &["-O", "critical:verify-required=x"],
                &["-O", "critical:Source-Address=127.0.0.1"],
                &["-O", "extension:source-address=10.0.0.0/8"],
                &["-O", "critical:permit-pty"],
            ]),
            serial: dice.of(&["7", "0", "8", "70000", "18446744073709551615"]),
            craft: dice.of(&[
                "",
                "the source-address twice",
                "options out of order",
                "an extension twice",
                "a principal with a comma",
                "an empty principal",
                "a principal with a blank",
                "something reserved",
                "a long nonce",
                "no nonce",
                "256 principals",
            ]),
            trusted: dice.of(&[
                if by_line { "none" } else { "ca" },
                "ca",
                "other",
                "both",
                "bad",
                "none",
                "commented",
                "with CRLF",
                "with options",
                "bad behind",
                "indented by a tab",
                "split by a return",
            ]),
            lines: match kind {
                "plain" => dice.of(&[
                    "<key>",
                    "",
                    "<ca>",
                    "restrict <key>",
                    "no-pty,no-touch-required <key>",
                    "verify-required <key>",
                    "cert-authority <key>",
                    "principals=\"alice\" <key>",
                    "command=\"/bin/true\" <key>",
                    "from=\"10.0.0.0/8\" <key>",
                    "from=\"127.0.0.*,!127.0.0.1\" <key>",
                    "from=\"10.0.0.1, 127.0.0.1\" <key>",
                    "from=\"127.0.0.1 \" <key>",
                    "from=\"127.0.0.1, 10.0.0.1\" <key>",
                    "from=\"!127.1,127.0.0.*\" <key>",
                    "from=\"127.0.0.*, !127.0.0.1\" <key>",
                    "from=\"127.1\" <key>",
                    "from=\"::ffff:127.0.0.1\" <key>",
                    "from=\"127.0.0.1/24\" <key>",
                    "from=\"127.0.0.0/24\" <key>",
                    "from=\"127.0.0.1,\" <key>",
                    "from=\"\" <key>",
                    "from=\"!10.0.0.1\" <key>",
                    "from=\"?27.0.0.1\" <key>",
                    "FROM=\"127.0.0.1\" <key>",
                    "from=127.0.0.1 <key>",
                    "from=\"127.0.0.1\",expiry-time=\"20990101\" <key>",
                    "expiry-time=\"20200101\" <key>",
                    "expiry-time=\"20200101Z\",expiry-time=\"20990101\" <key>",
                    "expiry-time=\"209901\" <key>",
                    "from=\"10.0.0.0/8\" <key>\nrestrict <key>",
                    "unknown <key>",
                    "restrict, <key>",
                    "restrict,,pty <key>",
                    "<key>\r",
                    "\r<key>",
                    "\t <key>",
                    "restrict\t<key>",
                    "restrict\r<key>",
                    "#<key>",
                    "from=\"127.0.0.1 <key>",
                    "\"restrict\" <key>",
                ]),
                _ => dice.of(&[
                    if by_line { "cert-authority <ca>" } else { "" },
                    "",
                    "cert-authority <ca>",
                    "cert-authority,principals=\"operator,bob\" <ca>",
                    "cert-authority,principals=\"alice\",from=\"127.0.0.*\" <ca>",
                    "cert-authority,from=\"10.0.0.0/8\" <ca>",
                    "cert-authority,from=\"10.0.0.0/8\" <ca>\ncert-authority <ca>",
                    "cert-authority,command=\"/bin/true\" <ca>",
                    "cert-authority,expiry-time=\"20200101\" <ca>",
                    "cert-authority,expiry-time=\"20990101Z\" <ca>",
                    "restrict,cert-authority,verify-required <ca>",
                    "principals=\"alice\" <ca>",
                    "<ca>",
                    "Cert-Authority <ca>",
                    "cert-authority,cert-authority <ca>",
                    "cert-authority,principals=\"\" <ca>",
                    "cert-authority,principals=\"alice,\" <ca>",
                    "cert-authority,principals=\",alice\" <ca>",
                    "cert-authority,principals=\"bob,,alice\" <ca>",
                    // The last is the 41st.
                    "cert-authority,principals=\"a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u,v,w,x,y,z,A,B,C,D,E,F,G,H,I,J,K,L,M,N,alice\" <ca>",
                    "cert-authority,principals=\"*\" <ca>",
                    "cert-authority,principals=\"al*\" <ca>",
                    "cert-authority,principals=\"!bob,alice\" <ca>",
                    "cert-authority,principals=\" alice\" <ca>",
                    "cert-authority,principals=\"bob\",principals=\"alice\" <ca>",
                    "cert-authority=\"x\" <ca>",
                    "no-cert-authority <ca>",
                    "cert-authority <ca>\r",
                    "cert-authority\r<ca>",
                    "cert-authority <key>",
                    "cert-authority <ca> trailing words",
                ]),
            },
            file: match with_file {
                true => dice.of(&[
                    "alice\n",
                    "operator\nbob\n",
                    "# alice\n\n  bob # alice\n",
                    "from=\"10.0.0.0/8\" alice\n",
                    "from=\"127.0.0.1\",no-pty  alice\t\n",
                    "command=\"/bin/true\" operator\nalice\n",
                    "cert-authority alice\n",
                    "principals=\"alice\" alice\n",
                    "expiry-time=\"20200101\" alice\n",
                    "expiry-time=\"20990101\" alice\n",
                    "verify-required alice\n",
                    "alice\r\n",
                    "alice bob\n",
                    "restrict\talice\n",
                    "restrict bob\talice\n",
                    "\"alice\"\n",
                    "alice,bob\n",
                    "al*\n",
                    "\ralice\n",
                    "alice",
                    "",
                ]),
                false => "-",
            },
            revoked: dice.of(&[
                "",
                "krl",
                "krl:serial: 7",
                "krl:serial: 1-8",
                "krl:serial: 18446744073709551615",
                "krl:id: the-id",
                "krl:id: other",
                "krl-none:serial: 7",
                "krl-none:id: the-id",
                "krl-other:serial: 7",
                "krl:key",
                "krl:ca",
                "krl:sha1 key",
                "krl:sha256 key",
                "krl:sha256 ca",
                "krl-certificate",
                "list:key",
                "list:ca",
                "list:stranger",
                "list:certificate",
                "list:key with CRLF",
                "list:split by a return",
                "bad",
                "truncated",
                "missing",
            ]),
        }
    }

    /// Why sshd may admit what ours does not.
    pub fn may_be_stricter_here(&self) -> Option<&'static str> {
        let reasons = [
            (
                self.options.iter().any(|option| option.contains("force-command"))
                    || self.lines.contains("command=")
                    || self.file.contains("command="),
                "force-command and command= ask for a program, which no console runs",
            ),
            (
                self.principals.is_empty(),
                "to sshd before 10.3 it is one for every user of a cert-authority line",
            ),
            (self.craft == "a principal with a comma", "OpenSSH before 10.3 takes it for two in principals="),
            (
                matches!(self.craft, "options out of order" | "an extension twice"),
                "PROTOCOL.certkeys forbids it",
            ),
            (
                self.trusted == "bad behind",
                "a file with an invalid line is not used, wherever in it the line is",
            ),
            (self.lines.contains("a,b,c,d"), "sshd of Debian 12 considers 40 names of principals="),
            (self.lines.starts_with("restrict, "), "the list of options is not complete"),
            (
                self.lines.contains("127.1\"") || self.lines.contains(", !"),
                "127.1 is not an address here, and an exclusion behind a blank excludes",
            ),
        ];
        reasons.into_iter().find_map(|(holds, why)| holds.then_some(why))
    }

    pub fn prepare(&self, accounts: &Accounts) {
        let certificate = format!("{}-cert.pub", self.key);
        let _ = fs::remove_file(Path::new(ROOM).join(&certificate));
        let (ca, touched) = self.ca.split_once(' ').unwrap_or((self.ca, ""));
        let ca_key = read(&format!("{ca}.pub"));
        let key = read(&format!("{}.pub", self.key));
        if self.kind != "plain" {
            self.certify(ca, touched);
            if !self.craft.is_empty() && touched.is_empty() {
                let private = PrivateKey::from_openssh(read(ca)).unwrap();
                write(&certificate, &craft(self.craft, &read(&certificate), &private));
            }
        }
        let stranger = read("stranger.pub");
        write(
            "trusted",
            &match self.trusted {
                "ca" => ca_key.clone(),
                "other" => stranger.clone(),
                "both" => format!("# authorities\n\n  {stranger}{ca_key}"),
                "bad" => format!("not a key\n{ca_key}"),
                "bad behind" => format!("{ca_key}not a key\n"),
                "commented" => format!("#{ca_key}"),
                "with CRLF" => two_words(&ca_key, " ") + "\r\n",
                "split by a return" => two_words(&ca_key, "\r") + "\n",
                "with options" => format!("cert-authority {ca_key}"),
                "indented by a tab" => format!("\t{ca_key}"),
                _ => String::new(),
            },
        );
        let with_return = [("<ca>\r", &ca_key), ("<key>\r", &key)];
        let lines = with_return.iter().fold(self.lines.to_owned(), |lines, (name, key)| {
            lines.replace(name, &(two_words(key, " ") + "\r"))
        });
        accounts.authorize("alice", &lines.replace("<ca>", ca_key.trim()).replace("<key>", key.trim()));
        if self.file != "-" {
            write("principals/alice", self.file);
        }
        self.revoke(ca, &ca_key, &key, &certificate);
    }

    fn certify(&self, ca: &str, touched: &str) {
        let public = format!("{}.pub", self.key);
        let agent = [AGENT, "run", ca, if touched == "touched" { "1" } else { "0" }, "ssh-keygen", "-U"];
        let authority = format!("{ca}{}", if touched.is_empty() { "" } else { ".pub" });
        let mut words = vec!["-q", "-s", &authority, "-I", "the-id", "-z", self.serial, "-V", self.validity];
        if !self.signature.is_empty() {
            words.extend(["-t", self.signature]);
        }
        if !self.principals.is_empty() {
            words.extend(["-n", self.principals]);
        }
        match self.kind {
            "host" => words.push("-h"),
            _ => words.extend(self.options),
        }
        words.push(&public);
        let program: &[&str] = if touched.is_empty() { &["ssh-keygen"] } else { &agent };
        run(Command::new(program[0]).args(&program[1..]).args(words).current_dir(ROOM));
    }

    fn revoke(&self, ca: &str, ca_key: &str, key: &str, certificate: &str) {
        let _ = fs::remove_file(Path::new(ROOM).join("revoked"));
        let krl = |authority: &[&str], specification: &str| {
            write("specification", specification);
            keygen(&[&["-k", "-f", "revoked"], authority, &["specification"]].concat());
        };
        let of_ca = format!("{ca}.pub");
        match self.revoked.split_once(':').unwrap_or((self.revoked, "")) {
            ("krl", "") => krl(&[], ""),
            ("krl", "key") => krl(&[], &format!("key: {key}")),
            ("krl", "ca") => krl(&[], &format!("key: {ca_key}")),
            ("krl", "sha1 key") => krl(&[], &format!("sha1: {key}")),
            ("krl", "sha256 key") => krl(&[], &format!("sha256: {key}")),
            ("krl", "sha256 ca") => krl(&[], &format!("sha256: {ca_key}")),
            ("krl", specification) => krl(&["-s", &of_ca], specification),
            ("krl-none", specification) => krl(&["-s", "none"], specification),
            ("krl-other", specification) => krl(&["-s", "stranger.pub"], specification),
            ("krl-certificate", _) if self.kind == "plain" => krl(&[], key),
            ("krl-certificate", _) => keygen(&["-k", "-f", "revoked", certificate]),
            ("list", "key") => write("revoked", key),
            ("list", "ca") => write("revoked", ca_key),
            ("list", "key with CRLF") => write("revoked", &(two_words(key, " ") + "\r\n")),
            ("list", "split by a return") => write("revoked", &(two_words(key, "\r") + "\n")),
            ("list", "certificate") if self.kind != "plain" => write("revoked", &read(certificate)),
            ("list", _) => write("revoked", &format!("# revoked\n{}", read("stranger.pub"))),
            ("bad", _) => write("revoked", "not a key\n"),
            ("truncated", _) => {
                krl(&["-s", &of_ca], "serial: 1\nid: x\n");
                let list = fs::read(Path::new(ROOM).join("revoked")).unwrap();
                fs::write(Path::new(ROOM).join("revoked"), &list[..list.len() - 3]).unwrap();
            }
            ("missing", _) => {}
            _ => write("revoked", ""),
        }
    }
}

/// A public key without its comment, so that what follows is directly behind the base64.
fn two_words(key: &str, between: &str) -> String {
    key.split(' ').take(2).collect::<Vec<_>>().join(between).trim_end().to_owned()
}

fn string(data: &[u8]) -> Vec<u8> {
    [&u32::try_from(data.len()).unwrap().to_be_bytes()[..], data].concat()
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, behind) = rest.split_at(length);
    *rest = behind;
    taken
}

fn take_string<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let length = u32::from_be_bytes(take(rest, 4).try_into().unwrap());
    take(rest, length as usize)
}

/// An option or extension with a value.
fn option(name: &str, value: &str) -> Vec<u8> {
    let value = if value.is_empty() { Vec::new() } else { string(value.as_bytes()) };
    [string(name.as_bytes()), string(&value)].concat()
}

/// A certificate as ssh-keygen wrote it, with one change (PROTOCOL.certkeys in OpenSSH).
fn craft(change: &str, certificate: &str, ca: &PrivateKey) -> String {
    let mut words = certificate.split(' ');
    let (kind, base64) = words.next().zip(words.next()).unwrap();
    let blob = Base64::decode_vec(base64).unwrap();
    let rest = &mut &blob[..];
    let name = take_string(rest);
    let mut nonce = take_string(rest).to_vec();
    let fields = if kind.contains("ed25519") { 1 } else { 2 };
    let key: Vec<u8> = (0..fields).flat_map(|_| string(take_string(rest))).collect();
    let serial_and_type = take(rest, 12);
    let id = take_string(rest);
    let mut principals = take_string(rest).to_vec();
    let window = take(rest, 16);
    let mut critical = take_string(rest).to_vec();
    let mut extensions = take_string(rest).to_vec();
    let mut reserved = take_string(rest).to_vec();
    let authority = take_string(rest);
    match change {
        "the source-address twice" => {
            critical = [option("source-address", "127.0.0.1"), option("source-address", "10.0.0.1")].concat();
        }
        "options out of order" => {
            critical = [option("verify-required", ""), option("source-address", "127.0.0.1")].concat();
        }
        "an extension twice" => extensions = option("permit-pty", "").repeat(2),
        "a principal with a comma" => principals = string(b"bob,alice"),
        "an empty principal" => principals = [string(b""), string(b"bob")].concat(),
        "a principal with a blank" => principals = string(b" alice"),
        "something reserved" => reserved = b"reserved".to_vec(),
        "a long nonce" => nonce = vec![7; 4096],
        "no nonce" => nonce.clear(),
        "256 principals" => principals.extend(string(b"x").repeat(255)),
        other => panic!("{other}"),
    }
    let mut made = [string(name), string(&nonce), key, serial_and_type.to_vec(), string(id)].concat();
    made.extend(string(&principals));
    made.extend(window);
    for field in [&critical, &extensions, &reserved, authority] {
        made.extend(string(field));
    }
    let signature = ca.try_sign(&made).unwrap();
    let mut encoded = Vec::new();
    signature.encode(&mut encoded).unwrap();
    made.extend(string(&encoded));
    format!("{kind} {} crafted\n", Base64::encode_string(&made))
}
