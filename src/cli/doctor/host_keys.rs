//! What is wrong with the SSH host keys: root reads them, everybody else what running ports report of them.

use std::path::Path;

use nix::unistd::geteuid;

use super::{Finding, Observation};
use crate::hostkeys::{self, HostKeyError, HostKeys};

/// What a port's STATUS= has of it. See `service/port.rs`.
const MISSING: &str = "; SSH is not served: ";
const PASSED_OVER: &str = "; host key skipped: ";

pub(super) fn look(sight: &Observation) -> Vec<Finding> {
    // Of ports in the foreground, which are their user's, this machine's keys say nothing.
    if sight.units.state("consoleserver.target").is_none() {
        return Vec::new();
    }
    if geteuid().is_root() {
        judge(hostkeys::load(Path::new(hostkeys::HOST_KEY_DIRECTORY)))
    } else {
        sight.units.statuses().find_map(complaint).into_iter().collect()
    }
}

fn judge(loaded: Result<HostKeys, HostKeyError>) -> Vec<Finding> {
    match loaded {
        Ok(found) => found.passed_over.iter().map(|reason| passed_over(reason)).collect(),
        Err(error) => vec![missing(&error.to_string())],
    }
}

fn complaint(status: &str) -> Option<Finding> {
    if let Some((_, why)) = status.split_once(MISSING) {
        return Some(missing(why));
    }
    status.split_once(PASSED_OVER).map(|(_, reason)| passed_over(reason))
}

fn missing(why: &str) -> Finding {
    Finding::everywhere(
        format!("no port is served over SSH: {why}"),
        "then: systemctl restart console-hostkeys; systemctl reload 'console@*.service'",
    )
}

fn passed_over(reason: &str) -> Finding {
    Finding::everywhere(
        format!("host key skipped: {reason}"),
        "other keys are served; correct this one or move it elsewhere, then: systemctl reload 'console@*.service'",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ports_report_of_their_host_keys_is_found() {
        assert_eq!(complaint("9600 8N1, 0 attached, 5 bytes in, 0 out; cannot write the log"), None);
        let status = "9600 8N1, 0 attached, 5 bytes in, 0 out; SSH is not served: no usable host key in /x";
        assert_eq!(complaint(status).unwrap().what, "no port is served over SSH: no usable host key in /x");
        let status = "unplugged, 0 attached; host key skipped: /x/hostkey_a: it is empty";
        assert_eq!(complaint(status).unwrap().what, "host key skipped: /x/hostkey_a: it is empty");
    }
}
