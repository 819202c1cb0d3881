//! ssh-audit's report about a listener.

use std::process::Command;

use serde_json::Value;

/// All that a listener offers by default without an RSA key, by ssh-audit's names. An addition needs a review.
const OFFERED: [(&str, &[&str]); 4] = [
    (
        "kex",
        &[
            "mlkem768x25519-sha256",
            "curve25519-sha256",
            "curve25519-sha256@libssh.org",
            "diffie-hellman-group16-sha512",
            "diffie-hellman-group18-sha512",
            "diffie-hellman-group-exchange-sha256",
            "diffie-hellman-group14-sha256",
            "ext-info-s",
            "kex-strict-s-v00@openssh.com",
        ],
    ),
    ("key", &["ssh-ed25519"]),
    (
        "enc",
        &[
            "aes128-gcm@openssh.com",
            "aes256-gcm@openssh.com",
            "chacha20-poly1305@openssh.com",
            "aes128-ctr",
            "aes192-ctr",
            "aes256-ctr",
        ],
    ),
    (
        "mac",
        &["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512"],
    ),
];

/// Newer than ssh-audit 2.5 (Debian 12), which calls what it does not know a failure. 3.3 (Debian 13) has nothing against
/// them.
const UNKNOWN_TO_OLD: [&str; 2] = ["mlkem768x25519-sha256", "kex-strict-s-v00@openssh.com"];

fn ssh_audit(options: &[&str], port: u16) -> String {
    let mut command = Command::new("ssh-audit");
    command.args(options).args(["-p", &port.to_string(), "127.0.0.1"]);
    let output = command.output().unwrap();
    let (said, aside) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    // 0 good, 2 warnings, 3 failures: judged below, by name. Any other is a failure of ssh-audit itself.
    assert!(matches!(output.status.code(), Some(0 | 2 | 3)), "{:?}: {said}{aside}", output.status);
    said
}

/// The listener at this port offers what it is known to offer, and ssh-audit reports no failure.
#[track_caller]
pub fn is_sound(port: u16) {
    let report: Value = serde_json::from_str(&ssh_audit(&["-j"], port)).unwrap();
    for (kind, wanted) in OFFERED {
        let names = report[kind].as_array().expect("a list").iter();
        let names: Vec<_> =
            names.map(|entry| entry["algorithm"].as_str().or(entry.as_str()).unwrap()).collect();
        assert_eq!(names, wanted, "{kind}: {report}");
    }
    let opinion = has_no_failure(port);
    for (_, names) in OFFERED {
        for name in names {
            assert!(opinion.contains(name), "{name} was not judged: {opinion}");
        }
    }
}

/// ssh-audit reports no failure; returns its report.
#[track_caller]
pub fn has_no_failure(port: u16) -> String {
    let opinion = ssh_audit(&["-n"], port);
    assert_eq!(objections(&opinion), [""; 0], "{opinion}");
    opinion
}

/// Every line that is a failure, with the algorithm that it is about.
fn objections(opinion: &str) -> Vec<String> {
    let mut about = "";
    let mut objections = Vec::new();
    for line in opinion.lines() {
        if line.starts_with('(') {
            about = line.split_whitespace().nth(1).unwrap_or_default();
        }
        let objection = line.contains("[fail]");
        if objection && !(UNKNOWN_TO_OLD.contains(&about) && line.contains("unknown algorithm")) {
            objections.push(format!("{about}: {line}"));
        }
    }
    objections
}

/// The check itself is checked: weak algorithms of sshd are found.
#[test]
fn an_objection_is_found_with_its_algorithm() {
    let opinion = "(kex) curve25519-sha256 -- [info] available since OpenSSH 7.4\n\
                   (mac) hmac-sha1 -- [fail] using broken SHA-1 hash algorithm\n              `- [warn] using encrypt-and-MAC mode\n\
                   (kex) mlkem768x25519-sha256 -- [fail] unknown algorithm\n";
    let found = objections(opinion);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found.iter().all(|line| line.starts_with("hmac-sha1: ")), "{found:?}");
}
