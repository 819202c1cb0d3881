//! Runs commands: from the arguments, from standard input, or for the prompt.

use std::future::Future;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::unistd::{User, getuid};
use tokio::runtime::Runtime;

use super::args::Named;
use super::client::Client;
use super::commands::at_port::AtPort;
use super::commands::check::Check;
use super::commands::shorthand::Shorthand;
use super::commands::{
    autobaud, change, check, commit, connect, dial, diff, drive, learn, list, power, rename, sessions, show,
    ssh_config, status, transfer,
};
use super::error::{CommandError, Done};
use super::parse::{self, NoCommand};
use super::stdout::{self, Stdout};
use super::tree::Command;
use super::units::Verb;
use super::{complete, doctor, help, import};

/// Bytes of a line of standard input.
const LINE_LIMIT: u64 = 64 * 1024;

const EXIT_USAGE: u8 = 2;

/// The runtime and the connections that commands run on.
pub(super) struct Program {
    pub(super) runtime: Runtime,
    pub(super) client: Client,
    /// Whether Control-C returns to the prompt.
    pub(super) at_prompt: bool,
}

impl Program {
    /// Fails for a user who may not administer.
    pub(super) fn admit(&self) -> Result<(), ExitCode> {
        match self.runtime.block_on(self.client.may_administer()) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let uid = getuid();
                let name = match User::from_uid(uid) {
                    Ok(Some(user)) => user.name,
                    _ => uid.to_string(),
                };
                stdout::print_error(&format_args!("User {name} may not administer this console server"));
                Err(ExitCode::FAILURE)
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Runs a command, and prints its output: the exit code.
    pub(super) fn run(&self, command: Command, words: &[String]) -> Done<u8> {
        let mut stdout = Stdout::new();
        let mut status = 0;
        match command {
            Command::Connect(connect) => connect::run(connect, &self.client.endpoint)?,
            Command::Dial(dial) => dial::run(&dial, &self.runtime)?,
            Command::AtPort(command) => return self.at_port(command, words),
            Command::Doctor(doctor) => {
                let has_none = doctor::run(doctor, &self.client.endpoint, &mut stdout)?;
                status = u8::from(!has_none);
            }
            Command::Check(Check { file }) => {
                check::run(Path::new("/"), file.as_deref(), &mut stdout).map_err(CommandError::of_command)?
            }
            Command::Exit => {}
            Command::Help { command } => {
                writeln!(stdout, "{}", help::explain(command.as_deref()).trim_end())?;
            }
            Command::Version => writeln!(stdout, "consolectl {}", env!("CARGO_PKG_VERSION"))?,
            Command::Completions { shell } => complete::script(shell, &mut io::stdout().lock())?,
            command => {
                // Printed at the end, so that a command prints all of its output or none, and a closed output is an error.
                let mut shown = Vec::new();
                // `transfer` handles Control-C itself, and cancels the far end.
                let interruptible = self.at_prompt && !matches!(command, Command::Transfer(_));
                let done = self.runtime.block_on(async {
                    let interrupted = async {
                        match interruptible {
                            true => tokio::signal::ctrl_c().await,
                            false => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        done = self.by_client(command, &mut shown) => done,
                        _ = interrupted => Err(CommandError::Interrupted),
                    }
                });
                stdout.write_all(&shown)?;
                stdout.end()?;
                done?;
            }
        }
        stdout.end()?;
        Ok(status)
    }

    /// Runs a command that needs console-admin, or queries ports.
    async fn by_client(&self, command: Command, to: &mut Vec<u8>) -> Done {
        let client = &self.client;
        match command {
            Command::List(list) => list::run(list, client, to).await,
            Command::Status(ports) => status::run(ports, client, to).await,
            Command::Who(ports) => status::who(ports, client, to).await,
            Command::Show(show) => show::run(show, client, to).await,
            Command::Diff(diff) => diff::run(diff, client, to).await,
            Command::Set(setting) | Command::Shorthand(Shorthand(setting)) => {
                change::set(setting, client, to).await
            }
            Command::Unset(unset) => change::unset(unset, client, to).await,
            Command::Create(creation) => change::create(creation, client, to).await,
            Command::Remove(ports) => change::remove(ports, client, to).await,
            Command::Rename(names) => rename::rename(names, client, to).await,
            Command::Copy(names) => rename::copy(names, client, to).await,
            Command::Start(Named { ports }) => drive::run(Verb::Start, &ports, client, to).await,
            Command::Stop(Named { ports }) => drive::run(Verb::Stop, &ports, client, to).await,
            Command::Reload(reload) => drive::reload(reload, client, to).await,
            Command::Commit(commit) => commit::run(commit, client, to).await,
            Command::Confirm => commit::confirm(client, to).await,
            Command::Revert => commit::revert(client, to).await,
            Command::Break(send) => sessions::send_break(send, client).await,
            Command::Power(options) => power::run(options, client, to).await,
            Command::Disconnect(disconnect) => sessions::disconnect(disconnect, client, to).await,
            Command::Autobaud(autobaud) => autobaud::run(autobaud, client, to).await,
            Command::Transfer(transfer) => transfer::run(transfer, client, to).await,
            Command::Learn(learn) => learn::run(learn, client, to).await,
            Command::Import(options) => import::run(options, client, to).await,
            Command::SshConfig(options) => ssh_config::run(options, client, to).await,
            Command::Connect(_)
            | Command::Dial(_)
            | Command::AtPort(_)
            | Command::Doctor(_)
            | Command::Check(_)
            | Command::Exit
            | Command::Help { .. }
            | Command::Version
            | Command::Completions { .. } => unreachable!("run by `run`"),
        }
    }

    /// Runs a command of a port. At the prompt it runs in a child process with the same words, which Control-C ends.
    fn at_port(&self, command: AtPort, words: &[String]) -> Done<u8> {
        if !self.at_prompt {
            return command.run(&self.client.endpoint);
        }
        let mut process = std::process::Command::new("/proc/self/exe");
        process.arg("--runtime-dir").arg(&self.client.endpoint.runtime);
        if let Some(logs) = &self.client.endpoint.logs {
            process.arg("--log-dir").arg(logs);
        }
        process.args(words);
        let status = self.runtime.block_on(async {
            // Control-C no longer ends this process.
            let _caught = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
            process.status()
        })?;
        if status.signal().is_some() {
            writeln!(io::stdout())?;
        }
        Ok(0)
    }

    pub(super) fn done(&self, command: Command) -> ExitCode {
        match self.run(command, &[]) {
            Ok(status) => ExitCode::from(status),
            Err(error) => failed(&error),
        }
    }

    /// Runs one line; `place` is put in front of its errors.
    pub(super) fn line(&self, text: &str, place: &str) -> ExitCode {
        match parse::line(text) {
            Ok(command) => match self.run(command, &[]) {
                Ok(status) => ExitCode::from(status),
                Err(error) => failed(&format_args!("{place}{error}")),
            },
            Err(NoCommand::Blank) => ExitCode::SUCCESS,
            Err(NoCommand::Help(text)) => written(writeln!(io::stdout(), "{}", text.trim_end())),
            Err(NoCommand::Wrong(why)) => wrong(&format!("{place}{why}")),
        }
    }

    /// Runs the lines of standard input, up to the first one that fails.
    pub(super) fn lines(&self) -> ExitCode {
        let mut input = io::stdin().lock();
        for number in 1u64.. {
            let text = match next_line(&mut input) {
                Ok(Some(text)) => text,
                Ok(None) => break,
                Err(error) => return failed(&format_args!("standard input, line {number}: {error}")),
            };
            // A byte order mark, which Windows' editors write.
            let text = match number {
                1 => text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned(),
                _ => text,
            };
            if parse::line(&text) == Ok(Command::Exit) {
                break;
            }
            let code = self.line(&text, &format!("line {number}: "));
            if code != ExitCode::SUCCESS {
                return code;
            }
        }
        ExitCode::SUCCESS
    }

    /// Runs a query with a timeout.
    pub(super) fn within<T>(&self, limit: Duration, query: impl Future<Output = Done<T>>) -> Option<T> {
        self.runtime.block_on(async { tokio::time::timeout(limit, query).await }).ok()?.ok()
    }
}

/// The next line, without its end; `None` after the last one.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if input.take(LINE_LIMIT + 1).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.ends_with(b"\n") {
        line.pop();
    } else if line.len() as u64 > LINE_LIMIT {
        return Err(io::Error::other(format!("line longer than {} KiB", LINE_LIMIT / 1024)));
    }
    if line.ends_with(b"\r") {
        line.pop();
    }
    String::from_utf8(line).map(Some).map_err(|_| io::Error::other("not valid UTF-8"))
}

pub(super) fn failed(why: &impl std::fmt::Display) -> ExitCode {
    stdout::print_error(&format_args!("consolectl: {why}"));
    ExitCode::FAILURE
}

pub(super) fn wrong(why: &str) -> ExitCode {
    stdout::print_error(&format_args!("consolectl: {why}"));
    ExitCode::from(EXIT_USAGE)
}

pub(super) fn written(printed: io::Result<()>) -> ExitCode {
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(stdout::EXIT_CLOSED),
        Err(error) => failed(&format_args!("cannot write: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_standard_input_are_read_up_to_a_limit() {
        let mut input = &b"one\r\ntwo\n\nlast"[..];
        let lines: Vec<_> = std::iter::from_fn(|| next_line(&mut input).unwrap()).collect();
        assert_eq!(lines, ["one", "two", "", "last"]);
        let mut endless = io::BufReader::new(io::repeat(b'x'));
        assert_eq!(next_line(&mut endless).unwrap_err().to_string(), "line longer than 64 KiB");
    }
}
