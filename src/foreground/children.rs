//! How our other programs are started: with a clean environment, away from the terminal's signals, and never left
//! behind.

use std::env;
use std::path::Path;

use tokio::process::{Child, Command};

/// A command for one of our programs. It sees only the screen, `PATH` and the time zone of ours; Ctrl-C reaches it
/// through us alone; and it is told to end should we be killed (`man setpriv`, `PR_SET_PDEATHSIG`).
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

/// `, process 1234`, for the screen.
pub fn pid(child: &Child) -> String {
    child.id().map(|pid| format!(", process {pid}")).unwrap_or_default()
}
