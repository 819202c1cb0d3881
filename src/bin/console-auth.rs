//! `console-auth`: authenticates one login, on the connected unix socket that systemd or `consoleserver` passes to it.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use consoleserver::auth::server;
use consoleserver::auth::sources::Configured;
use consoleserver::{hostkeys, system::journal, system::persist, system::systemd};
use listenfd::ListenFd;
use nix::libc::{AF_UNIX, SOCK_STREAM};
use nix::unistd::alarm;
use russh::keys::PublicKey;
use sd_notify::NotifyState;

/// Seconds after which SIGALRM ends even a PAM module that hangs, a little more than a login may take.
const HARD_LIMIT: u32 = server::LOGIN_GRACE_TIME.as_secs() as u32 + 15;

/// The program that a login may run, below `--root`.
const PROGRAM: &str = "usr/bin/consolectl";

/// Authenticate a login to a console. Serves one login on the connected unix socket passed as file descriptor 3
/// (LISTEN_FDS=1), then exits; started by systemd or consoleserver.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// File with one OpenSSH public key that is accepted for the port "demo" only, with any user name
    #[arg(long, value_name = "FILE")]
    demo_key: Option<PathBuf>,
    /// Run consolectl as the user after the login, for the admin CLI, which has its own socket
    #[arg(long, conflicts_with = "demo_key")]
    may_run: bool,
    /// Directory with the configuration, its state, and usr/bin/consolectl
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Configuration file, instead of /etc/consoleserver/config.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory of the host keys, which a port or console-cli may request instead of a login
    #[arg(long, value_name = "DIR", default_value = hostkeys::HOST_KEY_DIRECTORY)]
    host_keys: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    journal::init("console-auth", None);
    let Some(stream) = passed_socket() else {
        tracing::error!(
            "no login to serve: file descriptor 3 must be a connected unix stream socket and LISTEN_FDS must be 1, \
             as systemd passes it; do not start this program by hand"
        );
        return ExitCode::from(2);
    };
    let demo_key = match arguments.demo_key.as_deref().map(read_key).transpose() {
        Ok(demo_key) => demo_key,
        Err(error) => {
            tracing::error!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    let configured = Configured { file: arguments.config, root: arguments.root.clone() };
    let program = arguments.may_run.then(|| arguments.root.join(PROGRAM));
    // Cancelled when a session starts.
    alarm::set(HARD_LIMIT);
    let served =
        server::serve(stream, demo_key, program.as_deref(), &arguments.host_keys, configured, |text| {
            systemd::notify(&[NotifyState::Status(text)]);
        });
    journal::report_dropped_at_exit();
    match served {
        Ok(()) => ExitCode::SUCCESS,
        // As for sshd, whose unit has `ExecStart=-` in Debian: a client that presses Ctrl-C does not fail the unit.
        Err(error) if error.is_of_the_client() => ExitCode::SUCCESS,
        Err(_logged) => ExitCode::FAILURE,
    }
}

fn passed_socket() -> Option<UnixStream> {
    let mut passed = ListenFd::from_env();
    match passed.len() {
        1 => passed.take_custom(0, AF_UNIX, SOCK_STREAM, "unix stream socket").ok().flatten(),
        _ => None,
    }
}

fn read_key(path: &Path) -> anyhow::Result<PublicKey> {
    let text = persist::read(path)
        .and_then(|text| String::from_utf8(text).map_err(std::io::Error::other))
        .with_context(|| format!("cannot read the demonstration key {}", path.display()))?;
    PublicKey::from_openssh(text.trim())
        .with_context(|| format!("{} does not hold one OpenSSH public key", path.display()))
}
