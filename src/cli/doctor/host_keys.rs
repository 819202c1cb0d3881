//! Checks the SSH host keys: root reads them, other users see what running ports report.

use std::path::Path;

use nix::unistd::geteuid;

use super::finding::Finding;
use super::observation::Observation;
use crate::hostkeys::{self, HostKeyError, HostKeys};

/// Texts in a port's STATUS=. See `service/port.rs`.
const MISSING: &str = "; SSH is not available: ";
const IGNORED: &str = "; host key ignored: ";

pub(super) fn check(observed: &Observation) -> Vec<Finding> {
    // This machine's host keys do not matter for the foreground program.
    if observed.units.state("consoleserver.target").is_none() {
        return Vec::new();
    }
    if geteuid().is_root() {
        judge(hostkeys::load(Path::new(hostkeys::HOST_KEY_DIRECTORY)))
    } else {
        observed.units.statuses().find_map(complaint).into_iter().collect()
    }
}

fn judge(loaded: Result<HostKeys, HostKeyError>) -> Vec<Finding> {
    match loaded {
        Ok(found) => found.ignored.iter().map(|reason| ignored(reason)).collect(),
        Err(error) => vec![missing(&error.to_string())],
    }
}

fn complaint(status: &str) -> Option<Finding> {
    if let Some((_, why)) = status.split_once(MISSING) {
        return Some(missing(why));
    }
    status.split_once(IGNORED).map(|(_, reason)| ignored(reason))
}

pub(super) fn missing(why: &str) -> Finding {
    Finding::everywhere(
        format!("no port accepts SSH logins: {why}"),
        "fix that file or directory, or remove it, then: systemctl restart console-hostkeys; systemctl reload 'console@*.service'",
    )
}

pub(super) fn ignored(reason: &str) -> Finding {
    Finding::everywhere(
        format!("host key ignored: {reason}"),
        "other keys are in use; fix this file or move it elsewhere, then: systemctl reload 'console@*.service'",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_key_problems_are_read_from_the_status_of_ports() {
        assert_eq!(complaint("9600 8N1, 0 attached, 5 bytes in, 0 out; cannot write the log"), None);
        let status =
            "9600 8N1, 0 attached, 5 bytes in, 0 out; SSH is not available: no usable host key in /x";
        assert_eq!(
            complaint(status).unwrap().problem,
            "no port accepts SSH logins: no usable host key in /x"
        );
        let status = "unplugged, 0 attached; host key ignored: /x/hostkey_a: it is empty";
        assert_eq!(complaint(status).unwrap().problem, "host key ignored: /x/hostkey_a: it is empty");
    }
}
