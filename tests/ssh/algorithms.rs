//! Algorithms offered before the login, tried with OpenSSH one at a time, and compared with those of sshd in Debian 12 and
//! with ssh-audit's failures.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use crate::audit;
use crate::client::Client;
use crate::rig::{Rig, run, until};

/// The option of OpenSSH's client for each category, and the algorithms that a word adds to those of the one before.
type Lists = [(&'static str, &'static [&'static str]); 4];

const STRICT: Lists = [
    // mlkem768x25519-sha256 is newer than OpenSSH 9.2.
    ("KexAlgorithms", &["curve25519-sha256", "curve25519-sha256@libssh.org"]),
    ("HostKeyAlgorithms", &["ssh-ed25519"]),
    (
        "Ciphers",
        &["aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr"],
    ),
    ("MACs", &["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"]),
];
const DEFAULT: Lists = [
    (
        "KexAlgorithms",
        &[
            "diffie-hellman-group16-sha512",
            "diffie-hellman-group18-sha512",
            "diffie-hellman-group-exchange-sha256",
            "diffie-hellman-group14-sha256",
        ],
    ),
    ("HostKeyAlgorithms", &["rsa-sha2-512", "rsa-sha2-256"]),
    ("Ciphers", &["aes128-ctr", "aes192-ctr"]),
    ("MACs", &["hmac-sha2-256", "hmac-sha2-512"]),
];
const COMPATIBLE: Lists = [
    ("KexAlgorithms", &["ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521"]),
    ("HostKeyAlgorithms", &["ecdsa-sha2-nistp256"]),
    ("Ciphers", &[]),
    ("MACs", &["hmac-sha1-etm@openssh.com", "hmac-sha1"]),
];

/// Algorithms that sshd of Debian 12 offers and none of our settings offers, each with its reason.
const LEFT_OUT: [(&str, &str); 10] = [
    ("sntrup761x25519-sha512", "russh does not have it"),
    ("sntrup761x25519-sha512@openssh.com", "russh does not have it"),
    ("umac-64-etm@openssh.com", "russh does not have it"),
    ("umac-128-etm@openssh.com", "russh does not have it"),
    ("umac-64@openssh.com", "russh does not have it"),
    ("umac-128@openssh.com", "russh does not have it"),
    ("ecdsa-sha2-nistp384", "one ECDSA key is made; others are served if an administrator adds them"),
    ("ecdsa-sha2-nistp521", "one ECDSA key is made; others are served if an administrator adds them"),
    ("sk-ssh-ed25519@openssh.com", "a security key cannot be a host key unattended"),
    ("sk-ecdsa-sha2-nistp256@openssh.com", "a security key cannot be a host key unattended"),
];

/// A bench with all host keys, for this word.
fn bench(word: Option<&str>) -> Rig {
    let setting = word.map(|word| format!("[server]\nssh_algorithms = \"{word}\"\n")).unwrap_or_default();
    let mut rig =
        Rig::with_config(&format!("{setting}[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\n"));
    rig.make_more_host_keys();
    rig.serve_logins(true);
    rig.start_plugged();
    rig
}

/// OpenSSH with its default verbosity.
fn ssh(rig: &Rig) -> Command {
    let mut command = Command::new("ssh");
    command
        .args(["-F", "none", "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"])
        .args(["-o", "LogLevel=INFO", "-o", "IdentitiesOnly=yes", "-p", &rig.tcp_port.to_string(), "-i"])
        .arg(rig.path("key"));
    command
}

/// A login that runs one command. A MAC is offered with AES-CTR, since AEAD ciphers need none; every word has it.
fn log_in(rig: &Rig, option: &str, name: &str) -> Output {
    let only = format!("{option}={name}");
    let mut options = vec!["-o", &only];
    if option == "MACs" {
        options.extend(["-o", "Ciphers=aes256-ctr"]);
    }
    options.extend(["demo@127.0.0.1", "log"]);
    ssh(rig).args(options).output().unwrap()
}

#[track_caller]
fn each_is_served(rig: &Rig, lists: Lists) {
    for (option, names) in lists {
        for name in names {
            let output = log_in(rig, option, name);
            assert!(output.status.success(), "{option}={name}: {output:?}");
        }
    }
}

#[track_caller]
fn each_is_refused(rig: &Rig, lists: Lists) {
    for (option, names) in lists {
        for name in names {
            let output = log_in(rig, option, name);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("Unable to negotiate") && said.contains("no matching"), "{name}: {said}");
        }
    }
}

#[test]
fn the_default_serves_what_sshd_serves_and_offers_what_ssh_audit_accepts() {
    let rig = bench(None);
    each_is_served(&rig, STRICT);
    each_is_served(&rig, DEFAULT);
    // Clients that have nothing else.
    each_is_served(&rig, COMPATIBLE);
    audit::has_no_failure(rig.tcp_port);
    // A client that has something else uses that, whatever it prefers.
    let both = log_in(&rig, "KexAlgorithms", "ecdh-sha2-nistp256,diffie-hellman-group14-sha256");
    assert!(both.status.success(), "{both:?}");
    let verbose = ssh(&rig)
        .args(["-v", "-o", "KexAlgorithms=ecdh-sha2-nistp256,curve25519-sha256", "demo@127.0.0.1", "log"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&verbose.stderr);
    assert!(said.contains("kex: algorithm: curve25519-sha256"), "{said}");
}

/// The lists of JSch 0.1.55 (libjsch-java of Debian 12), without what needs SHA-1 signatures or ciphers that sshd does not have.
#[test]
fn jsch_is_served_by_default() {
    let rig = bench(None);
    let lists = [
        "KexAlgorithms=ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,diffie-hellman-group14-sha1,\
         diffie-hellman-group-exchange-sha256,diffie-hellman-group-exchange-sha1,diffie-hellman-group1-sha1",
        "HostKeyAlgorithms=ssh-rsa,ssh-dss,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521",
        "Ciphers=aes128-ctr,aes128-cbc,3des-cbc,aes192-ctr,aes192-cbc,aes256-ctr,aes256-cbc",
        "MACs=hmac-md5,hmac-sha1,hmac-sha2-256,hmac-sha1-96,hmac-md5-96",
    ];
    let mut command = ssh(&rig);
    for list in lists {
        command.args(["-o", list]);
    }
    let output = command.args(["demo@127.0.0.1", "log"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn compatible_serves_all_of_them_and_strict_only_its_own_and_a_reload_changes_the_word() {
    let rig = bench(Some("compatible"));
    for lists in [STRICT, DEFAULT, COMPATIBLE] {
        each_is_served(&rig, lists);
    }
    rig.configure("[server]\nssh_algorithms = \"strict\"\n[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\n");
    rig.apply();
    each_is_served(&rig, STRICT);
    each_is_refused(&rig, DEFAULT);
    each_is_refused(&rig, COMPATIBLE);
    rig.wait_for_journal("no common key exchange: the client offers diffie-hellman-group16-sha512");
    let journal = rig.journal();
    assert!(journal.contains("ssh_algorithms = \"default\" in [server] would serve it"), "{journal}");
    let none = log_in(&rig, "Ciphers", "aes128-cbc");
    assert!(!none.status.success());
}

/// The manual's client under FIPS: nothing of Curve25519, ChaCha20, Ed25519.
#[test]
fn a_client_with_fips_algorithms_only_is_served_by_default() {
    let rig = bench(None);
    let fips = [
        "-o",
        "KexAlgorithms=ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,diffie-hellman-group-exchange-sha256,\
         diffie-hellman-group14-sha256,diffie-hellman-group16-sha512,diffie-hellman-group18-sha512",
        "-o",
        "HostKeyAlgorithms=ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-256,rsa-sha2-512",
        "-o",
        "Ciphers=aes256-gcm@openssh.com,aes256-ctr,aes128-gcm@openssh.com,aes128-ctr",
        "-o",
        "MACs=hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512",
        "-tt",
        "demo@127.0.0.1",
    ];
    let mut client = Client::start(rig.ssh(&fips));
    client.sees("[demo ");
    client.type_in("hello");
    rig.expect_at_device(b"hello");
    client.type_in("\x05cl0");
    client.sees("[sending break]");
    client.type_in("\x05c.");
    client.ends_with(0);
}

/// sshd of this machine, as Debian configures it, shows which algorithms are common; each that is missing has a reason.
#[test]
fn nothing_that_sshd_offers_is_missing_without_a_reason() {
    let output = Command::new("sh").args(["-c", "mkdir -p /run/sshd && /usr/sbin/sshd -T"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let settings = String::from_utf8(output.stdout).unwrap();
    let of = |name: &str| -> BTreeSet<String> {
        let line = settings.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().split(',').map(str::to_owned).collect()
    };
    let left_out: BTreeSet<_> = LEFT_OUT.iter().map(|(name, _)| (*name).to_owned()).collect();
    for (index, setting) in ["kexalgorithms", "hostkeyalgorithms", "ciphers", "macs"].into_iter().enumerate()
    {
        let ours: BTreeSet<String> = [STRICT, DEFAULT, COMPATIBLE]
            .iter()
            .flat_map(|lists| lists[index].1)
            .map(|name| (*name).to_owned())
            .collect();
        let missing: Vec<_> = of(setting)
            .into_iter()
            // No certificate of a host key is configured.
            .filter(|name| !name.contains("-cert-v01@") && !ours.contains(name) && !left_out.contains(name))
            .collect();
        assert_eq!(missing, [""; 0], "{setting}");
    }
    // Keys of users: the content of the extension server-sig-algs.
    let rig = bench(None);
    let output = rig.ssh(&["-vv", "-o", "LogLevel=DEBUG2", "demo@127.0.0.1", "log"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let list =
        said.lines().find_map(|line| Some(line.split_once("server-sig-algs=<")?.1)).expect("the extension");
    let ours: BTreeSet<_> = list.trim_end_matches('>').split(',').map(str::to_owned).collect();
    let theirs = of("pubkeyacceptedalgorithms").into_iter().filter(|name| !name.contains("-cert-v01@"));
    assert_eq!(theirs.filter(|name| !ours.contains(name)).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn users_keys_of_every_kind_log_in() {
    let rig = bench(None);
    for (kind, bits) in
        [("rsa", "2048"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("ed25519", "256")]
    {
        let key = rig.path(&format!("user_{kind}_{bits}"));
        run(Command::new("ssh-keygen").args(["-q", "-t", kind, "-b", bits, "-N", "", "-f"]).arg(&key));
        fs::copy(key.with_extension("pub"), rig.path("key.pub")).unwrap();
        let mut command = Command::new("ssh");
        command
            .args(["-F", "none", "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-p", &rig.tcp_port.to_string(), "-i"])
            .arg(&key)
            .args(["demo@127.0.0.1", "log"]);
        run(&mut command);
    }
}

/// A client that has pinned our first key gets no warning about further keys.
#[test]
fn who_has_pinned_ed25519_sees_no_warning() {
    let rig = bench(Some("compatible"));
    let known = rig.path("known");
    let public = Command::new("ssh-keygen")
        .arg("-y")
        .arg("-f")
        .arg(rig.path("hostkeys/hostkey_ed25519"))
        .output()
        .unwrap();
    let public = String::from_utf8(public.stdout).unwrap();
    fs::write(&known, format!("[127.0.0.1]:{} {public}", rig.tcp_port)).unwrap();
    let mut command = Command::new("ssh");
    command
        .args(["-F", "none", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o"])
        .arg(format!("UserKnownHostsFile={}", known.display()))
        .args(["-p", &rig.tcp_port.to_string(), "-i"])
        .arg(rig.path("key"))
        .args(["demo@127.0.0.1", "log"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// A key exchange of seconds delays no session: the port reads and echoes on its own thread.
#[test]
fn key_exchanges_of_unauthenticated_clients_do_not_delay_a_session() {
    let rig = bench(None);
    let mut client = Client::start(rig.ssh(&["-tt", "demo@127.0.0.1"]));
    client.sees("[demo ");
    let scan = |kex: &str| {
        let mut command =
            rig.ssh(&["-o", &format!("KexAlgorithms={kex}"), "-o", "PreferredAuthentications=none"]);
        command.args(["demo@127.0.0.1", "log"]).stderr(std::process::Stdio::null());
        command
    };
    // The duration of one such key exchange here, client and server.
    let began = std::time::Instant::now();
    scan("diffie-hellman-group18-sha512").status().unwrap();
    let one = began.elapsed();
    let mut strangers: Vec<_> =
        (0..4).map(|_| scan("diffie-hellman-group18-sha512").spawn().unwrap()).collect();
    let mut echoes = Vec::new();
    for number in 0..50 {
        let line = format!("line {number:02}\r\n");
        let began = std::time::Instant::now();
        rig.say(line.as_bytes());
        client.sees(&line);
        echoes.push(began.elapsed());
        std::thread::sleep(one / 50);
    }
    for stranger in &mut strangers {
        stranger.wait().unwrap();
    }
    echoes.sort();
    let (median, most) = (echoes[25], echoes[48]);
    assert!(most < one / 2, "{median:?} and {most:?}, where a key exchange takes {one:?}");
    assert!(median < Duration::from_secs(1), "{median:?}");
}

#[test]
fn the_banner_is_sent_before_the_login_and_an_error_about_it_is_logged_once() {
    let mut rig = Rig::with_config(
        "[server]\nbanner = \"@DIR@/issue\"\n[ports.demo]\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\n",
    );
    rig.serve_logins(true);
    rig.start_plugged();
    let shown = |rig: &Rig| {
        let output = ssh(rig).args(["demo@127.0.0.1", "log"]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // The banner file is missing: the login continues, and the journal reports it once.
    shown(&rig);
    shown(&rig);
    let trouble = format!("banner {} not sent: No such file or directory", rig.path("issue").display());
    assert_eq!(rig.journal().matches(&trouble).count(), 1, "{}", rig.journal());
    // The output is that of sshd for the same file: control characters are octal.
    fs::write(rig.path("issue"), "Authorized use only.\nF\u{fc}r Befugte \u{1b}[31m\n").unwrap();
    let text = shown(&rig);
    assert!(text.contains("Authorized use only.\r\n") || text.contains("Authorized use only.\n"), "{text:?}");
    assert!(text.contains("\\033[31m") && !text.contains('\u{1b}'), "{text:?}");
    // A port's own banner precedes the server's, and "none" disables it.
    rig.configure(
        "[server]\nbanner = \"@DIR@/issue\"\n[ports.demo]\nbanner = \"none\"\ngroups = [\"*\"]\ndevice = \"@DIR@/dev/demo\"\n",
    );
    rig.apply();
    until("no banner", || (!shown(&rig).contains("Authorized")).then_some(()));
}
