//! The serial line of the demonstration port: a pty connected to a shell on a second pty, which stands for a device with a terminal. Bytes are
//! copied unchanged; the shell's terminal echoes, the line does not.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{read, ttyname, write};
use tokio::io::Interest;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::system::persist::Owner;
use crate::system::reactor::Watched;

nix::ioctl_none_bad!(give_up_exclusive_use, nix::libc::TIOCNXCL);

/// Delay between two shells, for one that cannot start.
const REOPEN_DELAY: Duration = Duration::from_secs(1);
/// Bytes copied at once; the pty's buffer is no larger.
const READ_CHUNK: usize = 4096;
/// The size that a serial terminal is taken to have.
const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
/// Printed before the shell's prompt.
const GREETING: &str =
    "\r\nThis is the demonstration port of consoleserver: a shell in place of a device.\r\n";

/// The slave, which the port opens. It stays open here too, so that the line never hangs up.
#[derive(Debug)]
pub struct Line {
    tty: OwnedFd,
    path: PathBuf,
}

#[derive(Debug)]
pub struct ShellUser {
    /// `None` = the caller.
    pub owner: Option<Owner>,
    /// The shell's home and working directory.
    pub home: PathBuf,
}

impl Line {
    /// Creates a raw pty that `owner` may open, and its far end.
    pub fn open(owner: Option<Owner>) -> io::Result<(Self, FarEnd)> {
        let pty = pair()?;
        let mut raw = tcgetattr(&pty.slave)?;
        cfmakeraw(&mut raw);
        tcsetattr(&pty.slave, SetArg::TCSANOW, &raw)?;
        give(&pty.slave, owner)?;
        let path = ttyname(&pty.slave)?;
        Ok((Self { tty: pty.slave, path }, FarEnd(pollable(pty.master)?)))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Clears TIOCEXCL of the last port: the kernel does so on the last close of a tty, which never happens here.
    pub fn release(&self) -> io::Result<()> {
        // SAFETY: TIOCNXCL takes no argument and touches no memory; the descriptor is open as long as self.
        unsafe { give_up_exclusive_use(self.tty.as_raw_fd()) }?;
        Ok(())
    }
}

/// The device's side of the line.
#[derive(Debug)]
pub struct FarEnd(Watched<OwnedFd>);

impl FarEnd {
    /// Runs a shell, and another when it exits, without end.
    pub async fn run_shells(self, user: ShellUser) {
        loop {
            if let Err(error) = self.run_shell(&user).await {
                tracing::error!("demo: the shell: {error}");
            }
            sleep(REOPEN_DELAY).await;
        }
    }

    async fn run_shell(&self, user: &ShellUser) -> io::Result<()> {
        let pty = pair()?;
        give(&pty.slave, user.owner)?;
        let terminal = pollable(pty.master)?;
        let _shell = start_shell(pty.slave, user)?;
        write_all(&self.0, GREETING.as_bytes()).await?;
        tokio::select! {
            // The terminal hangs up when the shell has exited, after its last output.
            end = copy(&terminal, &self.0) => if is_hangup(&end) { Ok(()) } else { end },
            end = copy(&self.0, &terminal) => if is_hangup(&end) { Ok(()) } else { end },
        }
    }
}

/// A pty with close-on-exec.
fn pair() -> io::Result<OpenptyResult> {
    let pty = openpty(&SIZE, None)?;
    for fd in [&pty.master, &pty.slave] {
        fcntl(fd.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok(pty)
}

/// `setsid --ctty` makes the pty the shell's controlling terminal, so that Ctrl-C works in it.
fn start_shell(tty: OwnedFd, user: &ShellUser) -> io::Result<Child> {
    let mut command = Command::new("/usr/bin/setsid");
    command
        .args(["--ctty", "/bin/sh", "-i"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", &user.home)
        .env("TERM", "vt100")
        .env("PS1", "demo$ ")
        .current_dir(&user.home)
        .stdin(tty.try_clone()?)
        .stdout(tty.try_clone()?)
        .stderr(tty)
        .kill_on_drop(true);
    if let Some(Owner { uid, gid }) = user.owner {
        command.uid(uid).gid(gid);
    }
    command.spawn()
}

fn give(tty: &OwnedFd, owner: Option<Owner>) -> io::Result<()> {
    if let Some(Owner { uid, gid }) = owner {
        fchown(tty, Some(uid), Some(gid))?;
    }
    Ok(fchmod(tty, Mode::S_IRUSR | Mode::S_IWUSR)?)
}

fn pollable(master: OwnedFd) -> io::Result<Watched<OwnedFd>> {
    let flags = OFlag::from_bits_retain(fcntl(master.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(master.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Watched::new(master, Interest::READABLE | Interest::WRITABLE)
}

async fn copy(from: &Watched<OwnedFd>, to: &Watched<OwnedFd>) -> io::Result<()> {
    let mut chunk = [0; READ_CHUNK];
    loop {
        match from.async_io(Interest::READABLE, |tty| Ok(read(tty, &mut chunk)?)).await? {
            0 => return Ok(()),
            length => write_all(to, &chunk[..length]).await?,
        }
    }
}

async fn write_all(to: &Watched<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = to.async_io(Interest::WRITABLE, |tty| Ok(write(tty, bytes)?)).await?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// A pty returns EIO when its other end is closed.
fn is_hangup(end: &io::Result<()>) -> bool {
    matches!(end, Err(error) if error.raw_os_error() == Some(nix::libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;
    use tokio::time::timeout;

    /// Reads up to and including `wanted`; the rest stays in `unread`.
    async fn expect(tty: &Watched<OwnedFd>, unread: &mut String, wanted: &str) {
        let mut chunk = [0; READ_CHUNK];
        loop {
            if let Some(at) = unread.find(wanted) {
                unread.drain(..at + wanted.len());
                return;
            }
            let read = tty.async_io(Interest::READABLE, |tty| Ok(read(tty, &mut chunk)?));
            let length = timeout(Duration::from_secs(10), read)
                .await
                .unwrap_or_else(|_| panic!("no {wanted:?} in {unread:?}"));
            unread.push_str(&String::from_utf8_lossy(&chunk[..length.unwrap()]));
        }
    }

    #[tokio::test]
    async fn a_shell_runs_on_the_line_and_is_restarted_when_it_exits() {
        let (line, far_end) = Line::open(None).unwrap();
        let shells = tokio::spawn(far_end.run_shells(ShellUser { owner: None, home: "/".into() }));
        let tty = std::fs::File::options()
            .read(true)
            .write(true)
            .custom_flags(nix::libc::O_NOCTTY)
            .open(line.path())
            .unwrap();
        let tty = pollable(tty.into()).unwrap();
        let mut unread = String::new();
        for sum in ["40", "41"] {
            expect(&tty, &mut unread, "demonstration port").await;
            expect(&tty, &mut unread, "demo$ ").await;
            write_all(&tty, format!("echo sum $(({sum} + 1)); tty; exit\r").as_bytes()).await.unwrap();
            expect(&tty, &mut unread, &format!("sum {}", sum.parse::<u8>().unwrap() + 1)).await;
            expect(&tty, &mut unread, "/dev/pts/").await;
        }
        shells.abort();
    }
}
