//! Starts our other programs: with a clean environment, without the terminal's signals, and with a parent-death signal.

use std::env;
use std::path::Path;

use tokio::process::{Child, Command};

/// A command for one of our programs. It inherits only standard error, `PATH` and the time zone; it does not get Ctrl-C from the terminal;
/// and it gets SIGTERM if we are killed (`man setpriv`, `PR_SET_PDEATHSIG`).
pub fn command(program: &Path) -> Command {
    let mut command = Command::new("/usr/bin/setpriv");
    command
        .args(["--pdeathsig", "TERM", "--"])
        .arg(program)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .process_group(0);
    if let Some(zone) = env::var_os("TZ") {
        command.env("TZ", zone);
    }
    command
}

/// `, process 1234`, for messages.
pub fn pid(child: &Child) -> String {
    child.id().map(|pid| format!(", process {pid}")).unwrap_or_default()
}
