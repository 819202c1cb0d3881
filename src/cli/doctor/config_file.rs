//! Checks that the programs that do not run as root may read the configuration. Only root can check that for other users.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{User, geteuid};

use super::finding::Finding;
use crate::config;

/// The users that read it, and the effect if one cannot.
pub(super) const READERS: [(&str, &str); 3] = [
    ("_console-port", "ports keep the last valid configuration, or are not served"),
    ("_console-cli", "the admin CLI rejects SSH logins"),
    ("_console-admin", "nothing can be changed"),
];

pub(super) fn check(path: &Path) -> Option<Finding> {
    if !geteuid().is_root() {
        return None;
    }
    let (reader, effect) = READERS.into_iter().find(|(reader, _)| !may_read(reader, path))?;
    Some(unreadable(path, reader, effect))
}

pub(super) fn unreadable(path: &Path, reader: &str, effect: &str) -> Finding {
    let problem = format!("{} is not readable by {reader}: {effect}", path.display());
    let fix = format!("{}\nthen: systemctl reload 'console@*.service'", config::permit(path));
    Finding::everywhere(problem, fix)
}

/// Tries as that user, because ACLs and security modules matter too. A user that does not exist is ignored.
fn may_read(user: &str, path: &Path) -> bool {
    if !User::from_name(user).is_ok_and(|user| user.is_some()) {
        return true;
    }
    let mut command = Command::new("setpriv");
    match user {
        // The groups of its unit.
        "_console-port" => command.args(["--reuid", user, "--regid", "adm", "--groups", "dialout"]),
        _ => command.args(["--reuid", user, "--regid", user, "--init-groups"]),
    };
    command.args(["test", "-r"]).arg(path).stdin(Stdio::null()).stderr(Stdio::null());
    // (1 is test's: not readable. Anything else is an error of setpriv.)
    !command.status().is_ok_and(|status| status.code() == Some(1))
}
