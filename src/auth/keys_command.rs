#![allow(unsafe_code)]
//! Runs `authorized_keys_command`, as sshd runs its `AuthorizedKeysCommand` (subprocess in OpenSSH's misc.c): a program that only root can
//! have written, as its own user, with a clean environment, a time limit, and without leaving children behind.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, Uid, getgrouplist, setgroups, setresgid, setresuid, setsid};
use rustix::process::{PidfdFlags, pidfd_open};
use thiserror::Error;

use super::account::{Account, AccountError};
use super::keyfile::{self, AsUser, KeyFileError};

/// Time limit of a run. An unreachable directory server must leave time for a password within the login's two minutes, and a port waits
/// one minute for each reply.
pub const TIME_LIMIT: Duration = Duration::from_secs(15);

/// Limit of its output, as of a key file.
const OUTPUT_LIMIT: usize = keyfile::FILE_LIMIT as usize;

/// Bytes of its standard error for the journal.
const STDERR_LIMIT: usize = 256;

/// Rounds of killing remaining processes. Each kills all children; a fork bomb is limited by the unit's `TasksMax=`.
const KILL_ROUNDS: usize = 64;

/// `PATH`, as Debian's sshd sets it.
const COMMAND_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/games";

/// Why its output is ignored.
#[derive(Debug, Error)]
pub enum CommandError {
    #[error("authorized_keys_command_user {0:?}: {1}")]
    User(String, AccountError),
    #[error("console-auth does not run as root, so the command cannot run as {0}")]
    NotRoot(String),
    #[error(transparent)]
    Unsafe(#[from] KeyFileError),
    #[error("cannot run {}: {source}", program.display())]
    Start { program: PathBuf, source: io::Error },
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
    /// It failed, so its output is ignored, as in sshd.
    #[error("it ended with {0}{1}")]
    Failed(String, String),
    #[error("it ran longer than {} s and was killed", TIME_LIMIT.as_secs())]
    TooSlow,
    #[error("it printed more than {OUTPUT_LIMIT} bytes and was killed")]
    TooLong,
}

/// Runs `program` as `user`. Returns its output.
pub fn run(program: &Path, arguments: &[String], user: &str) -> Result<Vec<u8>, CommandError> {
    let account = Account::look_up(user).map_err(|error| CommandError::User(user.to_owned(), error))?;
    let own = Uid::effective();
    if !own.is_root() && account.uid != own {
        return Err(CommandError::NotRoot(user.to_owned()));
    }
    let real = keyfile::only_root_writes(program)?;
    let system = |what| move |error: Errno| CommandError::System(what, error.into());
    // Orphans of its children become our children, and can be killed.
    prctl::set_child_subreaper(true).map_err(system("cannot become a subreaper"))?;
    let started = command(program, &real, arguments, &account).and_then(|mut command| command.spawn());
    let mut child = started.map_err(|source| CommandError::Start { program: program.to_owned(), source })?;
    let output = watch(&mut child);
    end(&account);
    prctl::set_child_subreaper(false).map_err(system("cannot stop being a subreaper"))?;
    let Output { status, stdout, stderr } = output?;
    match status.success() {
        true => Ok(stdout),
        false => Err(CommandError::Failed(status_text(status), remark(&stderr))),
    }
}

fn command(program: &Path, real: &Path, arguments: &[String], account: &Account) -> io::Result<Command> {
    let name = account.name.as_str();
    let mut command = Command::new(real);
    command
        .arg0(program)
        .args(arguments)
        .env_clear()
        .envs([("PATH", COMMAND_PATH), ("USER", name), ("LOGNAME", name)])
        .env("HOME", &account.home)
        .envs(std::env::var_os("LANG").map(|lang| ("LANG", lang)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let groups = match Uid::effective().is_root() {
        true => Some(getgrouplist(account.name.as_c_str(), account.gid)?),
        false => None,
    };
    let (uid, gid) = (account.uid, account.gid);
    let become_user = move || -> io::Result<()> {
        setsid()?;
        // All descriptors but the standard three, above all the login's socket.
        close_on_exec()?;
        if let Some(groups) = &groups {
            setgroups(groups)?;
            setresgid(gid, gid, gid)?;
            setresuid(uid, uid, uid)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec this makes system calls only. It allocates nothing and takes no lock; what it needs was made
    // before.
    unsafe { command.pre_exec(become_user) };
    Ok(command)
}

fn close_on_exec() -> io::Result<()> {
    // SAFETY: a system call on numbers; it changes a flag of descriptors and closes none.
    let done = unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int)
    };
    Errno::result(done).map(drop).map_err(io::Error::from)
}

struct Output {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Reads its output until it has ended and no process has the pipe open.
fn watch(child: &mut Child) -> Result<Output, CommandError> {
    let failed = |what| move |error| CommandError::System(what, error);
    let deadline = Instant::now() + TIME_LIMIT;
    let pid = rustix::process::Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())
        .map_err(|error| CommandError::System("cannot watch the command", error.into()))?;
    let mut stdout = Capture::of(child.stdout.take().map(OwnedFd::from), OUTPUT_LIMIT + 1);
    let mut stderr = Capture::of(child.stderr.take().map(OwnedFd::from), STDERR_LIMIT);
    let mut status = None;
    while status.is_none() || stdout.is_open() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CommandError::TooSlow);
        }
        // A pidfd stays readable after the wait.
        let pid = status.is_none().then(|| pidfd.as_fd());
        let files = [pid, stdout.file(), stderr.file()];
        let mut polled: Vec<PollFd<'_>> =
            files.iter().flatten().map(|file| PollFd::new(*file, PollFlags::POLLIN)).collect();
        let left = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, left) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(CommandError::System("cannot wait for its output", error.into())),
        }
        stdout.read().map_err(failed("cannot read its output"))?;
        stderr.read().map_err(failed("cannot read its standard error"))?;
        if stdout.bytes.len() > OUTPUT_LIMIT {
            return Err(CommandError::TooLong);
        }
        if status.is_none() {
            status = child.try_wait().map_err(failed("cannot wait for the command"))?;
        }
    }
    let status = status.expect("the loop ends with it");
    Ok(Output { status, stdout: stdout.bytes, stderr: stderr.bytes })
}

/// A pipe, and the first bytes read from it.
struct Capture {
    file: Option<File>,
    bytes: Vec<u8>,
    limit: usize,
}

impl Capture {
    fn of(end: Option<OwnedFd>, limit: usize) -> Self {
        Self { file: end.map(File::from), bytes: Vec::new(), limit }
    }

    fn is_open(&self) -> bool {
        self.file.is_some()
    }

    fn file(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Reads available bytes. Beyond the limit they are discarded, so that the command does not block.
    fn read(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        fcntl(file.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let mut piece = [0; 16 * 1024];
        match file.read(&mut piece) {
            Ok(0) => self.file = None,
            Ok(read) => {
                let room = self.limit.saturating_sub(self.bytes.len()).min(read);
                self.bytes.extend_from_slice(&piece[..room]);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Kills all processes that the command has left: this process has no other children at this time. As the command's user, since the sandbox
/// of the ports' `console-auth` has no CAP_KILL.
fn end(account: &Account) {
    for _ in 0..KILL_ROUNDS {
        let children = children();
        if children.is_empty() {
            return;
        }
        let as_user = Uid::effective().is_root().then(|| AsUser::become_user(account)).transpose();
        if let Err(error) = &as_user {
            tracing::warn!(
                "cannot switch to user {} to kill remaining processes: {error}",
                account.name.as_str()
            );
        }
        for pid in &children {
            // Fails if it has exited, or leads no process group.
            let _ = killpg(*pid, Signal::SIGKILL);
            let _ = kill(*pid, Signal::SIGKILL);
        }
        drop(as_user);
        for pid in children {
            reap(pid);
        }
    }
    tracing::warn!("authorized_keys_command has left processes that cannot be killed");
}

/// Waits for a killed process, at most 1 s.
fn reap(pid: Pid) {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) if Instant::now() < deadline => {
                let Some(pid) = rustix::process::Pid::from_raw(pid.as_raw()) else { return };
                let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
                let mut polled = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut polled, PollTimeout::from(100u8));
            }
            _ => return,
        }
    }
}

/// The children of this process, which has one thread (`/proc/PID/task/TID/children` in proc (5)).
fn children() -> Vec<Pid> {
    let list = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}

fn status_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn remark(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    match text.lines().find(|line| !line.trim().is_empty()) {
        Some(line) => format!(": {:?}", line.trim()),
        None => String::new(),
    }
}
