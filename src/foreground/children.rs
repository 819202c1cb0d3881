//! Starts our other programs: with a clean environment, without the terminal's signals, and with a parent-death signal.

use std::env;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use command_fds::{CommandFdExt, FdMapping};
use tokio::process::{Child, Command};

use crate::system::persist::Owner;

/// The first descriptor that systemd passes (`man sd_listen_fds`).
const LISTEN_FDS_START: i32 = 3;

/// A command for one of our programs. It inherits only standard error, `PATH` and the time zone; it does not get Ctrl-C from the terminal;
/// and it gets SIGTERM if we are killed (`man setpriv`, `PR_SET_PDEATHSIG`).
fn command(program: &Path) -> Command {
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

/// [`command`] with these descriptors, as systemd passes them, and null for the standard ones. `opened` is the program if its user cannot
/// search the path.
pub fn passing(
    program: &Path,
    opened: Option<&File>,
    mut fds: Vec<OwnedFd>,
    user: Option<Owner>,
) -> io::Result<Command> {
    let count = fds.len();
    let mut command = match opened {
        // After those that LISTEN_FDS counts. Executing a descriptor needs no search permission on its path (proc_pid_fd(5)).
        Some(file) => {
            fds.push(file.try_clone()?.into());
            command(Path::new(&format!("/proc/self/fd/{}", LISTEN_FDS_START as usize + count)))
        }
        None => command(program),
    };
    command.env("LISTEN_FDS", count.to_string()).stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(Owner { uid, gid }) = user {
        command.uid(uid).gid(gid);
    }
    let mappings =
        (LISTEN_FDS_START..).zip(fds).map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd });
    command.fd_mappings(mappings.collect()).map_err(io::Error::other)?;
    Ok(command)
}

/// `, process 1234`, for messages.
pub fn pid(child: &Child) -> String {
    child.id().map(|pid| format!(", process {pid}")).unwrap_or_default()
}
