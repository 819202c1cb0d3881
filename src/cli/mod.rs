//! `consolectl`: a D-Bus client of the administration service, and a client of the ports' own sockets. `tree` is what can be
//! parsed (`words` are its first words as people type them, `habits` those of other systems, `help` explains it), with `shorthand`
//! for the commands that set one key, `value` for what they set, and `at_port` for what ports do themselves (`many` at several at
//! once, `watch` what several print, in `lines`; `former` reads the logs of ports that nothing serves). `client` runs it, by
//! `service`, `local` or `units`; `show`, `look` and `table` print it. `ssh_config` is for clients elsewhere, `import` reads the
//! configurations of others; `adapters` are those that no port has, `learn` waits for one, and `autobaud` for text. `prompt` and
//! `complete` are for people at a terminal, and `notices` prints there what others change.

mod adapters;
mod assign;
mod at_port;
mod autobaud;
mod bounded;
mod change;
mod check;
mod client;
mod complete;
mod diff;
mod doctor;
mod former;
mod habits;
mod heirs;
mod help;
pub mod import;
mod learn;
mod lines;
mod local;
mod look;
mod many;
mod notices;
mod prompt;
mod select;
mod service;
mod shorthand;
mod show;
mod ssh_config;
mod stdout;
mod table;
mod targets;
mod transfer;
mod tree;
mod units;
mod value;
mod watch;
mod words;

use std::future::Future;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::unistd::{User, getuid};
use tokio::runtime::{Builder, Runtime};

use at_port::AtPort;
pub use check::run as check;
use client::{Client, CommandError, Endpoint};
use stdout::Stdout;
use tree::{Command, NoCommand};

/// Bytes of a line of standard input.
const LINE_LIMIT: u64 = 64 * 1024;

/// A usage error.
const EXIT_USAGE: u8 = 2;

/// Runs `consolectl`: parses the arguments, and returns the exit code.
pub fn main() -> ExitCode {
    complete::answer_shell();
    let arguments = match tree::arguments(std::env::args_os().collect()) {
        Ok(arguments) => arguments,
        Err(NoCommand::Help(text)) => return said(writeln!(io::stdout(), "{}", text.trim_end())),
        Err(NoCommand::Wrong(why)) => return wrong(&why),
        Err(NoCommand::Blank) => return ExitCode::SUCCESS,
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let at_prompt = arguments.command.is_none()
        && arguments.line.is_none()
        && io::stdin().is_terminal()
        && io::stdout().is_terminal();
    let client = Client::new(Endpoint::new(arguments.runtime_dir, arguments.log_dir), at_prompt);
    let program = Program { runtime, client, at_prompt };
    if arguments.admin_session
        && let Err(code) = program.admit()
    {
        return code;
    }
    match (arguments.command, arguments.line) {
        (Some(command), _) => program.done(command),
        (None, Some(line)) => program.line(&line, ""),
        (None, None) if at_prompt => match prompt::run(&program) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        },
        (None, None) => program.lines(),
    }
}

/// What commands run in.
pub(crate) struct Program {
    runtime: Runtime,
    client: Client,
    /// Whether Control-C leads back to the prompt.
    at_prompt: bool,
}

impl Program {
    /// Whoever may not administer is told so, and that is all.
    fn admit(&self) -> Result<(), ExitCode> {
        match self.runtime.block_on(self.client.may_administer()) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let uid = getuid();
                let name = match User::from_uid(uid) {
                    Ok(Some(user)) => user.name,
                    _ => uid.to_string(),
                };
                eprintln!("User {name} may not administer this console server");
                Err(ExitCode::FAILURE)
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Does a command and says what came of it on standard output: the exit code.
    fn run(&self, command: Command, words: &[String]) -> Result<u8, CommandError> {
        match command {
            Command::Connect { port, how } => self.client.connect(&port, how.into())?,
            Command::AtPort(command) => return self.at_port(command, words),
            Command::Doctor { ports, output } => {
                let mut stdout = Stdout::new();
                let well = self.client.doctor(&ports, output.json, &mut stdout)?;
                stdout.end()?;
                return Ok(u8::from(!well));
            }
            Command::Check { file } => {
                let mut stdout = Stdout::new();
                check::run(Path::new("/"), file.as_deref(), &mut stdout)?;
                stdout.end()?;
            }
            Command::Exit => {}
            Command::Help { command } => {
                writeln!(io::stdout(), "{}", tree::explain(command.as_deref()).trim_end())?;
            }
            Command::Version => writeln!(io::stdout(), "consolectl {}", env!("CARGO_PKG_VERSION"))?,
            Command::Completions { shell } => complete::script(shell, &mut io::stdout().lock())?,
            command => {
                // Whole or not at all, and a closed output is found out.
                let mut shown = Vec::new();
                let done = self.runtime.block_on(async {
                    let interrupted = async {
                        match self.at_prompt {
                            true => tokio::signal::ctrl_c().await,
                            false => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        done = self.client.run(command, &mut shown) => done,
                        _ = interrupted => Err(CommandError::Interrupted),
                    }
                });
                let mut stdout = Stdout::new();
                stdout.write_all(&shown)?;
                stdout.end()?;
                done?;
            }
        }
        Ok(0)
    }

    /// What a port does itself. At the prompt in a process of its own, of the same words, which Control-C ends.
    fn at_port(&self, command: AtPort, words: &[String]) -> Result<u8, CommandError> {
        if !self.at_prompt {
            return self.client.at_port(command);
        }
        let mut process = std::process::Command::new("/proc/self/exe");
        process.arg("--runtime-dir").arg(self.client.runtime());
        if let Some(logs) = self.client.logs() {
            process.arg("--log-dir").arg(logs);
        }
        process.args(words);
        let status = self.runtime.block_on(async {
            // From here on Control-C does not end this process.
            let _caught = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
            process.status()
        })?;
        if status.signal().is_some() {
            println!();
        }
        Ok(0)
    }

    fn done(&self, command: Command) -> ExitCode {
        match self.run(command, &[]) {
            Ok(status) => ExitCode::from(status),
            Err(error) => failed(&error),
        }
    }

    /// One line; `place` says which, in what is said of it.
    fn line(&self, text: &str, place: &str) -> ExitCode {
        match tree::line(text) {
            Ok(command) => match self.run(command, &[]) {
                Ok(status) => ExitCode::from(status),
                Err(error) => failed(&format_args!("{place}{error}")),
            },
            Err(NoCommand::Blank) => ExitCode::SUCCESS,
            Err(NoCommand::Help(text)) => said(writeln!(io::stdout(), "{}", text.trim_end())),
            Err(NoCommand::Wrong(why)) => wrong(&format!("{place}{why}")),
        }
    }

    /// The lines of standard input, up to the first that fails.
    fn lines(&self) -> ExitCode {
        let mut input = io::stdin().lock();
        for number in 1u64.. {
            let text = match next_line(&mut input) {
                Ok(Some(text)) => text,
                Ok(None) => break,
                Err(error) => return failed(&format_args!("standard input, line {number}: {error}")),
            };
            if tree::line(&text) == Ok(Command::Exit) {
                break;
            }
            let code = self.line(&text, &format!("line {number}: "));
            if code != ExitCode::SUCCESS {
                return code;
            }
        }
        ExitCode::SUCCESS
    }

    /// Waits for something, but not for ever.
    fn within<T>(
        &self,
        patience: Duration,
        what: impl Future<Output = Result<T, CommandError>>,
    ) -> Option<T> {
        self.runtime.block_on(async { tokio::time::timeout(patience, what).await }).ok()?.ok()
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

fn failed(why: &impl std::fmt::Display) -> ExitCode {
    stdout::print_error(&format_args!("consolectl: {why}"));
    ExitCode::FAILURE
}

fn wrong(why: &str) -> ExitCode {
    stdout::print_error(&format_args!("consolectl: {why}"));
    ExitCode::from(EXIT_USAGE)
}

fn said(printed: io::Result<()>) -> ExitCode {
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&format_args!("cannot write: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_standard_input_end_as_those_of_any_text_and_are_bounded() {
        let mut input = &b"one\r\ntwo\n\nlast"[..];
        let lines: Vec<_> = std::iter::from_fn(|| next_line(&mut input).unwrap()).collect();
        assert_eq!(lines, ["one", "two", "", "last"]);
        let mut endless = io::BufReader::new(io::repeat(b'x'));
        assert_eq!(next_line(&mut endless).unwrap_err().to_string(), "line longer than 64 KiB");
    }
}
