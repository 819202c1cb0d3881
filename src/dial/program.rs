//! The far end of `source = "unit"`: a program on a pseudo-terminal, which ipmitool, ssh and virsh require.
//! The terminal is in raw mode, so that bytes pass unchanged.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use rustix::process::ioctl_tiocsctty;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Options;
use super::far::FarEnd;
use crate::printable::visible;
use crate::system::reactor::Watched;

/// For a program to exit after its terminal was closed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of its last output that are searched for the reason.
const MAX_TAIL_BYTES: usize = 512;
/// Limit of characters of that reason.
const MAX_REASON_CHARS: usize = 160;

/// By which programs report that a login was refused: ssh(1); ipmitool's lanplus with `-v`, in the words of IPMI 2.0, table 13-15 (a full
/// session table is no refusal); ipmiconsole(8) of FreeIPMI; libvirt's authentication errors. In lower case.
const REFUSALS: [&str; 11] = [
    "permission denied",
    "authentication failed",
    "rakp 2 hmac is invalid",
    "unauthorized name",
    "unauthorized role or privilege",
    "invalid role",
    "username invalid",
    "password invalid",
    "invalid password",
    "login incorrect",
    "too many authentication failures",
];

/// A running program.
pub(super) struct Program {
    name: String,
    child: Child,
    tail: VecDeque<u8>,
}

/// Starts the program. The error is a sentence.
pub(super) fn start(options: &Options) -> Result<FarEnd, String> {
    let Some((path, arguments)) = options.program.split_first() else {
        return Err(format!(
            "console-source@{0}.service has no program to run: `systemctl edit console-source@{0}.service`, as \
             console-source@.service(8) shows",
            options.port
        ));
    };
    let name = path.to_string_lossy().into_owned();
    let failed = |error: io::Error| format!("{name} cannot be started: {error}");
    let (master, slave) = terminal().map_err(failed)?;
    let stdio = || slave.try_clone().map(Stdio::from);
    let mut command = Command::new(path);
    command
        .args(arguments)
        .stdin(stdio().map_err(failed)?)
        .stdout(stdio().map_err(failed)?)
        .stderr(stdio().map_err(failed)?)
        // ipmitool and virsh do not use TERM, but pagers and ssh do.
        .env("TERM", "dumb")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES")
        .env_remove("LISTEN_PID")
        .env_remove("NOTIFY_SOCKET")
        .kill_on_drop(true);
    let own_session = || {
        nix::unistd::setsid()?;
        ioctl_tiocsctty(io::stdin().as_fd())?;
        Ok(())
    };
    // SAFETY: setsid and an ioctl, both async-signal-safe system calls, of a child that has allocated nothing.
    unsafe { command.pre_exec(own_session) };
    let child = command.spawn().map_err(failed)?;
    drop(slave);
    let master = Terminal::new(master).map_err(failed)?;
    Ok(FarEnd { bytes: Box::new(master), program: Some(Program { name, child, tail: VecDeque::new() }) })
}

/// The two ends of a new pty, in raw mode.
fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags | OFlag::O_NONBLOCK)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname_r(&master)?;
    let slave = nix::fcntl::open(name.as_str(), flags, nix::sys::stat::Mode::empty())?;
    let mut termios = tcgetattr(&slave)?;
    cfmakeraw(&mut termios);
    tcsetattr(&slave, SetArg::TCSANOW, &termios)?;
    Ok((master.into(), slave))
}

impl Program {
    /// Records its output.
    pub(super) fn heard(&mut self, bytes: &[u8]) {
        let fresh = &bytes[bytes.len().saturating_sub(MAX_TAIL_BYTES)..];
        self.tail.extend(fresh);
        let excess = self.tail.len().saturating_sub(MAX_TAIL_BYTES);
        self.tail.drain(..excess);
    }

    /// It has closed its terminal. Returns the reason, as a sentence, and whether the far end has rejected
    /// its login.
    pub(super) async fn ended(mut self) -> (String, bool) {
        let name = self.name.rsplit('/').next().unwrap_or(&self.name).to_owned();
        let status = match timeout(EXIT_TIMEOUT, self.child.wait()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return (format!("{name}: {error}"), false),
            Err(_) => return (format!("{name} has closed its terminal"), false),
        };
        let tail: Vec<u8> = self.tail.into();
        let text = String::from_utf8_lossy(&tail).into_owned();
        let refused = !status.success() && is_refusal(&text);
        let mut lines = text.lines().map(str::trim);
        // ipmitool has a last line of its own after it.
        let reason = match refused {
            true => lines.rfind(|line| is_refusal(line)),
            false => lines.rfind(|line| !line.is_empty()),
        };
        let said = reason.map(|line| {
            let line: String = visible(line).chars().take(MAX_REASON_CHARS).collect();
            format!(": {line}")
        });
        let verb = match (status.code(), refused) {
            (_, true) => "the far end rejected the login of".to_owned(),
            (Some(code), _) => format!("exit status {code} of"),
            (None, _) => "a signal ended".to_owned(),
        };
        (format!("{verb} {name}{}", said.unwrap_or_default()), refused)
    }
}

fn is_refusal(text: &str) -> bool {
    let text = text.to_lowercase();
    REFUSALS.iter().any(|refusal| text.contains(refusal))
}

/// The master side of a program's terminal, for tokio.
struct Terminal(Watched<File>);

impl Terminal {
    fn new(master: OwnedFd) -> io::Result<Self> {
        Ok(Self(Watched::new(File::from(master), Interest::READABLE | Interest::WRITABLE)?))
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let space = into.initialize_unfilled();
            match ready.try_io(|file| file.get_ref().read(space)) {
                // EIO: the program has closed its end (tty_io.c).
                Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::EIO) => return Poll::Ready(Ok(())),
                Ok(read) => {
                    into.advance(read?);
                    return Poll::Ready(Ok(()));
                }
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(written) = ready.try_io(|file| file.get_ref().write(bytes)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_of_ssh_and_ipmitool_are_known_and_other_failures_are_none() {
        for text in [
            "admin@bmc: Permission denied (publickey,password).\r\n",
            "> RAKP 2 HMAC is invalid\r\nError: Unable to establish IPMI v2 / RMCP+ session\r\n",
        ] {
            assert!(is_refusal(text), "{text}");
        }
        for text in [
            "RAKP 2 message indicates an error : insufficient resources for session\r\n",
            "ssh: connect to host bmc port 22: Connection refused",
            "[Closed by remote host]",
            "",
        ] {
            assert!(!is_refusal(text), "{text}");
        }
    }
}
