//! Checks that ufw allows the TCP port. Only root may read its rules.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::finding::{Finding, Subject};

pub(super) fn check(subject: &Subject<'_>) -> Option<Finding> {
    let tcp = subject.settings.ssh_port?;
    let on = sets(&fs::read_to_string("/etc/ufw/ufw.conf").ok()?, "ENABLED", "yes");
    let defaults = fs::read_to_string("/etc/default/ufw").unwrap_or_default();
    if !on || sets(&defaults, "DEFAULT_INPUT_POLICY", "ACCEPT") {
        return None;
    }
    let mut rules = String::new();
    for name in ["user.rules", "user6.rules"] {
        match fs::read_to_string(Path::new("/etc/ufw").join(name)) {
            Ok(text) => rules.push_str(&text),
            // The last line of the output names what only root can check.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
            Err(_) => {}
        }
    }
    (!admits(&rules, tcp)).then(|| blocked(subject, tcp))
}

pub(super) fn blocked(subject: &Subject<'_>, tcp: u16) -> Finding {
    subject.finding(
        format!("ufw blocks TCP port {tcp}"),
        format!("ufw allow {tcp}/tcp; for all ports of the packaged configuration: ufw allow consoleserver"),
    )
}

/// Whether a shell file sets `KEY=value`, quoted or not.
fn sets(text: &str, key: &str, value: &str) -> bool {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))
        .any(|it| it.trim_matches('"').eq_ignore_ascii_case(value))
}

/// Whether one of ufw's rules allows a TCP port: `### tuple ### allow tcp 8022:8054 0.0.0.0/0 any 0.0.0.0/0 …`.
fn admits(rules: &str, tcp: u16) -> bool {
    rules.lines().filter_map(|line| line.strip_prefix("### tuple ### ")).any(|rule| {
        let words: Vec<&str> = rule.split_whitespace().collect();
        let (Some(action), Some(protocol), Some(ports)) = (words.first(), words.get(1), words.get(2)) else {
            return false;
        };
        // Actions include `allow_log`; rules for outgoing traffic are ignored.
        let opens = ["allow", "limit"].iter().any(|word| action.starts_with(word)) && !words.contains(&"out");
        opens && ["tcp", "any"].contains(protocol) && ports.split(',').any(|range| covers(range, tcp))
    })
}

fn covers(range: &str, tcp: u16) -> bool {
    let (first, last) = range.split_once(':').unwrap_or((range, range));
    range == "any"
        || matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(first), Ok(last)) if (first..=last).contains(&tcp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_ufw_allow_their_tcp_ports() {
        let rules = "*filter\n### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in\n-A ufw-user-input -p tcp --dport 22 -j ACCEPT\n\
                     ### tuple ### allow tcp 8022:8054 0.0.0.0/0 any 0.0.0.0/0 consoleserver - in\n\
                     ### tuple ### deny tcp 9000 0.0.0.0/0 any 0.0.0.0/0 in\n### tuple ### limit tcp 9001,9003 ::/0 any ::/0 in\n\
                     ### tuple ### allow udp 9002 0.0.0.0/0 any 0.0.0.0/0 in\n### tuple ### allow tcp 9004 0.0.0.0/0 any 0.0.0.0/0 out\n";
        for (tcp, wanted) in [
            (22, true),
            (8023, true),
            (8054, true),
            (8055, false),
            (9000, false),
            (9001, true),
            (9003, true),
            (9002, false),
            (9004, false),
        ] {
            assert_eq!(admits(rules, tcp), wanted, "{tcp}");
        }
        assert!(
            admits("### tuple ### allow any any 0.0.0.0/0 any 192.0.2.1 in", 8023),
            "a host that is allowed everything"
        );
    }
}
