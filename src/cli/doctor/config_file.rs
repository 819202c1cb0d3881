//! Whether the programs that are not root may read the configuration. Only root can ask for others.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{User, geteuid};

use super::Finding;
use crate::config;

/// Who reads it: ports, the admin CLI over SSH, the administration.
const READERS: [(&str, &str); 3] = [
    ("_console-port", "ports stay with the last good one, or are not served"),
    ("_console-cli", "port 8022 refuses logins"),
    ("_console-admin", "nothing can be changed"),
];

pub(super) fn look(path: &Path) -> Option<Finding> {
    if !geteuid().is_root() {
        return None;
    }
    let (reader, effect) = READERS.into_iter().find(|(reader, _)| !may_read(reader, path))?;
    let what = format!("{} may not be read by {reader}: {effect}", path.display());
    let mend = format!("{}\nthen: systemctl reload 'console@*.service'", config::permit(path));
    Some(Finding::everywhere(what, mend))
}

/// Asks the kernel as that user, because access lists and security modules decide too. A user that does not exist is no reader.
fn may_read(user: &str, path: &Path) -> bool {
    if !User::from_name(user).is_ok_and(|user| user.is_some()) {
        return true;
    }
    let mut command = Command::new("setpriv");
    match user {
        // As its unit has it.
        "_console-port" => command.args(["--reuid", user, "--regid", "adm", "--groups", "dialout"]),
        _ => command.args(["--reuid", user, "--regid", user, "--init-groups"]),
    };
    command.args(["test", "-r"]).arg(path).stdin(Stdio::null()).stderr(Stdio::null());
    // (1: not readable. Anything else is setpriv's own trouble.)
    !command.status().is_ok_and(|status| status.code() == Some(1))
}
