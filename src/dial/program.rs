//! The far end of `source = "unit"`: a program on a pseudo-terminal, which ipmitool, ssh and virsh require.
//! The terminal is in raw mode, so that bytes pass unchanged.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use rustix::process::ioctl_tiocsctty;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Options;
use super::far::FarEnd;
use crate::printable::visible;
use crate::system::byte_stream::ByteStream;

/// Time for a program to exit after its terminal was closed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of its last output that are searched for the reason.
const MAX_TAIL_BYTES: usize = 512;
/// Maximum length of that reason, in characters.
const MAX_REASON_CHARS: usize = 160;

/// Texts by which programs report that a login was refused: ssh(1); ipmitool's lanplus with `-v`, in the words of IPMI 2.0, table 13-15 (a full
/// session table is not a refusal); ipmiconsole(8) of FreeIPMI; libvirt's authentication errors. In lower case.
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
    let master = ByteStream::new(File::from(master)).map_err(failed)?;
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

pub(super) struct ProgramEnd {
    /// A sentence.
    pub(super) why: String,
    /// Whether the far end has rejected its login.
    pub(super) refused: bool,
    /// Whether its exit status reports an error.
    pub(super) failed: bool,
}

impl Program {
    pub(super) fn heard(&mut self, bytes: &[u8]) {
        let fresh = &bytes[bytes.len().saturating_sub(MAX_TAIL_BYTES)..];
        self.tail.extend(fresh);
        let excess = self.tail.len().saturating_sub(MAX_TAIL_BYTES);
        self.tail.drain(..excess);
    }

    /// Waits until the program has exited. It has closed its terminal.
    pub(super) async fn ended(mut self) -> ProgramEnd {
        let name = self.name.rsplit('/').next().unwrap_or(&self.name).to_owned();
        let status = match timeout(EXIT_TIMEOUT, self.child.wait()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return ProgramEnd::unknown(format!("{name}: {error}")),
            Err(_) => return ProgramEnd::unknown(format!("{name} has closed its terminal")),
        };
        let tail: Vec<u8> = self.tail.into();
        let text = String::from_utf8_lossy(&tail).into_owned();
        let refused = !status.success() && is_refusal(&text);
        let mut lines = text.lines().map(str::trim);
        // ipmitool prints another line after the reason.
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
        let why = format!("{verb} {name}{}", said.unwrap_or_default());
        ProgramEnd { why, refused, failed: !status.success() }
    }
}

impl ProgramEnd {
    fn unknown(why: String) -> Self {
        Self { why, refused: false, failed: false }
    }
}

fn is_refusal(text: &str) -> bool {
    let text = text.to_lowercase();
    REFUSALS.iter().any(|refusal| text.contains(refusal))
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
