#![allow(unsafe_code)]
//! Starts `consolectl` as the user: in its own session and environment, on a terminal of the user's or on three pipes. The network side
//! determines arguments, terminal type and size; never a program, a path or a variable.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Group, Uid, chdir, fchown, initgroups, setresgid, setresuid, setsid};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use thiserror::Error;
use tokio::process::{Child, Command};

use super::account::Account;
use super::protocol::{Run, Terminal, WindowSize};

/// `PATH` of the program; `consolectl` itself is not searched in it.
const DEFAULT_PATH: &str = "/usr/bin:/bin";
/// The group that may write to other users' terminals (`man 1 mesg`).
const TTY_GROUP: &str = "tty";

/// Why a program was not started.
#[derive(Debug, Error)]
pub enum RunError {
    #[error("cannot set the user's groups: {0}")]
    Groups(nix::Error),
    #[error("cannot create a terminal: {0}")]
    Terminal(io::Error),
    #[error("cannot create pipes: {0}")]
    Pipes(io::Error),
    /// Missing, or the process cannot switch to the user.
    #[error("cannot run {} as the user: {source}", program.display())]
    Start { program: PathBuf, source: io::Error },
}

/// Sets this process's groups to those of `account`, to which PAM may add, for its programs. It stays root.
pub fn take_groups(account: &Account) -> Result<(), RunError> {
    initgroups(account.name.as_c_str(), account.gid).map_err(RunError::Groups)
}

/// Starts `program` as `account`. Returns its terminal's master, or the other ends of standard input, output and error.
pub fn start(
    program: &Path,
    account: &Account,
    run: &Run,
    terminal: Option<&Terminal>,
) -> Result<(Child, Vec<OwnedFd>), RunError> {
    let mut command = Command::new(program);
    command.kill_on_drop(true).args(words(run)).env_clear().envs(environment(account, terminal));
    let far = match terminal {
        Some(terminal) => on_terminal(&mut command, account, terminal.size).map_err(RunError::Terminal)?,
        None => on_pipes(&mut command).map_err(RunError::Pipes)?,
    };
    let become_user = becoming(account, terminal.is_some());
    // SAFETY: between fork and exec this makes system calls only. It allocates nothing and takes no lock; what it needs was
    // made before.
    unsafe { command.pre_exec(become_user) };
    let child = command.spawn().map_err(|source| RunError::Start { program: program.to_owned(), source })?;
    Ok((child, far))
}

fn words(run: &Run) -> Vec<String> {
    match run {
        Run::Admin => vec!["--admin-session".to_owned()],
        // In one word with its option, so that it may begin with a hyphen.
        Run::Line(line) => vec!["--admin-session".to_owned(), format!("--line={}", line.as_str())],
        Run::Console(port) => vec!["connect".to_owned(), "--".to_owned(), port.to_string()],
    }
}

/// The locale is the machine's, which systemd passes to services. Variables of PAM modules are ignored: pam_env can be configured to read
/// a file of the user's.
fn environment(account: &Account, terminal: Option<&Terminal>) -> Vec<(OsString, OsString)> {
    let locale = std::env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| matches!(name, "LANG" | "LANGUAGE") || name.starts_with("LC_"))
    });
    let name = account.name.as_str();
    let own = [
        ("HOME", account.home.clone().into_os_string()),
        ("USER", name.into()),
        ("LOGNAME", name.into()),
        ("PATH", DEFAULT_PATH.into()),
    ];
    let term = terminal.map(|terminal| ("TERM", terminal.term.as_str().into()));
    locale.chain(own.into_iter().chain(term).map(|(name, value)| (name.into(), value))).collect()
}

/// Creates a terminal whose slave belongs to the user.
fn on_terminal(command: &mut Command, account: &Account, size: WindowSize) -> io::Result<Vec<OwnedFd>> {
    // Closed in the program: a copy of the master there would keep the terminal from hanging up.
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    tcsetwinsize(&ours, Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 })?;
    let group = Group::from_name(TTY_GROUP)?.map(|group| group.gid);
    fchmod(&theirs, Mode::from_bits_truncate(0o620))?;
    fchown(&theirs, Some(account.uid), group)?;
    command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
    Ok(vec![ours])
}

fn on_pipes(command: &mut Command) -> io::Result<Vec<OwnedFd>> {
    let (input, typed) = io::pipe()?;
    let (said, output) = io::pipe()?;
    let (said_aside, aside) = io::pipe()?;
    command.stdin(Stdio::from(input)).stdout(output).stderr(aside);
    Ok(vec![typed.into(), said.into(), said_aside.into()])
}

/// Sets every signal to its default: a session that inherited an ignored SIGHUP would outlive its connection.
fn default_signals() -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for kind in Signal::iterator().filter(|kind| !matches!(kind, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: one system call, which removes a handler.
        unsafe { sigaction(kind, &default) }?;
    }
    Ok(())
}

/// Runs first in the new process: creates its session with the controlling terminal, if any, then switches to the user, in the home
/// directory if that exists.
fn becoming(account: &Account, on_terminal: bool) -> impl FnMut() -> io::Result<()> + Send + Sync + 'static {
    let (uid, gid): (Uid, Gid) = (account.uid, account.gid);
    let home = CString::new(account.home.clone().into_os_string().into_vec()).unwrap_or_default();
    move || {
        default_signals()?;
        setsid()?;
        if on_terminal {
            ioctl_tiocsctty(io::stdin().as_fd())?;
        }
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
        if chdir(home.as_c_str()).is_err() {
            chdir(c"/")?;
        }
        Ok(())
    }
}
