//! One command on one server, by OpenSSH's client: users' ssh_config(5), agents, jump hosts and shared connections work as they do for
//! `ssh -p 8022 HOST COMMAND`.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::MemfdFlags;
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::hosts::Host;

/// Bytes of standard error that are kept: ssh and consolectl print sentences.
const STDERR_LIMIT: usize = 16 * 1024;

/// Bytes of one read.
const READ_CHUNK: usize = 16 * 1024;

/// The exit status of ssh(1) if the connection failed.
const EXIT_CONNECTION: i32 = 255;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time from the start of ssh to its end.
    pub timeout: Duration,
    /// Bytes of standard output.
    pub output: usize,
}

/// What a server returned. The bytes are untrusted.
#[derive(Debug)]
pub struct Reply {
    /// Standard output, up to the limit.
    pub stdout: Vec<u8>,
    /// Standard error of the command and of ssh, up to a limit.
    pub stderr: Vec<u8>,
    /// The exit status of the command.
    pub exit: Result<u8, Failure>,
}

/// Why a command has no exit status.
#[derive(Debug, Error)]
pub enum Failure {
    #[error("cannot start ssh (package openssh-client): {0}")]
    Start(io::Error),
    #[error("not finished within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("more than {} KiB of output; the rest was discarded", .0 / 1024)]
    TooLong(usize),
    /// ssh reports the reason on standard error.
    #[error("the SSH connection failed")]
    Connection,
    #[error("ssh was killed by signal {0}")]
    Signal(i32),
    #[error("cannot read from ssh: {0}")]
    Read(#[from] io::Error),
}

/// Runs a command line on a server. `may_ask`: ssh may ask at the terminal for a password or about a host key.
pub async fn run(host: &Host, line: &str, may_ask: bool, limits: Limits) -> Reply {
    let mut reply = Reply { stdout: Vec::new(), stderr: Vec::new(), exit: Ok(0) };
    reply.exit = match start(host, line, may_ask) {
        // The configuration is read while ssh starts, and again by the ssh of a jump host.
        Ok((mut child, _configuration)) => {
            let read = read(&mut child, &mut reply, limits.output);
            match tokio::time::timeout(limits.timeout, read).await {
                Ok(Ok(status)) => exit_of(status),
                Ok(Err(failure)) => Err(failure),
                Err(_) => Err(Failure::Timeout(limits.timeout)),
            }
            // A child that still runs is killed when it is dropped, and reaped by tokio.
        }
        Err(error) => Err(Failure::Start(error)),
    };
    reply
}

fn start(host: &Host, line: &str, may_ask: bool) -> io::Result<(Child, OwnedFd)> {
    let configuration = rustix::fs::memfd_create(c"ssh_config", MemfdFlags::CLOEXEC)?;
    std::fs::File::from(configuration.try_clone()?).write_all(ssh_config(host).as_bytes())?;
    let mut command = Command::new("ssh");
    // By its path, so that the ssh of a jump host, which gets the same -F, can read it too.
    command.arg("-F").arg(format!("/proc/{}/fd/{}", std::process::id(), configuration.as_raw_fd()));
    // A host's forwardings would be refused by the second connection, and its RemoteCommand is not this one.
    command.args(["-T", "-o", "ClearAllForwardings=yes", "-o", "RemoteCommand=none"]);
    if !may_ask {
        command.args(["-o", "BatchMode=yes"]);
    }
    if let Some(port) = host.tcp_port() {
        command.arg("-p").arg(port.to_string());
    }
    if let Some(user) = host.user() {
        command.arg("-l").arg(user);
    }
    // After the second -- nothing is an option of ssh's.
    command.arg(host.name()).arg("--").arg(line);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok((command.spawn()?, configuration))
}

/// The user's and the machine's ssh_config(5), then our defaults: ssh takes the first value that it finds. They are for this host alone,
/// since the ssh of a jump host reads the file too.
fn ssh_config(host: &Host) -> String {
    format!(
        "Include ~/.ssh/config\nInclude /etc/ssh/ssh_config\nHost {}\nPort 8022\nConnectTimeout 5\n\
         ServerAliveInterval 5\nServerAliveCountMax 3\nLogLevel ERROR\n",
        host.name()
    )
}

/// Reads until ssh exits: not until the pipes end, which the background process of a ControlPersist may hold open.
async fn read(child: &mut Child, reply: &mut Reply, most: usize) -> Result<ExitStatus, Failure> {
    let (mut stdout, mut stderr) = child.stdout.take().zip(child.stderr.take()).expect("both are piped");
    let (mut out, mut err) = ([0; READ_CHUNK], [0; READ_CHUNK]);
    let (mut out_open, mut err_open) = (true, true);
    let status = loop {
        tokio::select! {
            count = stdout.read(&mut out), if out_open => {
                let count = count?;
                out_open = count > 0;
                keep(&mut reply.stdout, &out[..count], most)?;
            }
            count = stderr.read(&mut err), if err_open => {
                let count = count?;
                err_open = count > 0;
                // Truncated: ssh's own message is the first or the only one.
                let _ = keep(&mut reply.stderr, &err[..count], STDERR_LIMIT);
            }
            status = child.wait() => break status?,
        }
    };
    // The pipes contain what ssh wrote before it exited.
    while out_open && let Some(count) = read_now(&stdout, &mut out)? {
        keep(&mut reply.stdout, &out[..count], most)?;
    }
    while err_open && let Some(count) = read_now(&stderr, &mut err)? {
        let _ = keep(&mut reply.stderr, &err[..count], STDERR_LIMIT);
    }
    Ok(status)
}

/// Reads what a non-blocking pipe holds; `None` if it is empty or has ended.
fn read_now(pipe: impl AsFd, into: &mut [u8]) -> io::Result<Option<usize>> {
    match rustix::io::retry_on_intr(|| rustix::io::read(&pipe, &mut *into)) {
        Ok(0) | Err(rustix::io::Errno::AGAIN) => Ok(None),
        Ok(count) => Ok(Some(count)),
        Err(error) => Err(error.into()),
    }
}

fn keep(into: &mut Vec<u8>, bytes: &[u8], most: usize) -> Result<(), Failure> {
    let kept = bytes.len().min(most - into.len());
    into.extend_from_slice(&bytes[..kept]);
    if kept < bytes.len() { Err(Failure::TooLong(most)) } else { Ok(()) }
}

fn exit_of(status: ExitStatus) -> Result<u8, Failure> {
    match (status.code(), status.signal()) {
        (Some(EXIT_CONNECTION), _) => Err(Failure::Connection),
        (Some(code), _) => Ok(code as u8),
        (None, signal) => Err(Failure::Signal(signal.unwrap_or_default())),
    }
}
