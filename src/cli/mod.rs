//! `consolectl`: a client of console-admin over D-Bus, and of the ports over their own sockets. From the bottom up:
//!
//! - `target`, `args`, `value`, `assign`: what the words of a command mean; `summary`, `table`, `stdout`, `look`, `configurations`: output.
//! - `service` (console-admin), `local` and `former` (ports and logs without it), `units` (systemctl), `bounded` (helpers that may hang);
//!   `endpoint` and `client` are what commands run on, `error` is why they fail.
//! - `commands/`, `doctor/` and `import/`: a command with its arguments and its error in each file.
//! - `tree` lists the commands, `words`, `habits`, `help` and `parse` read them, and `program` runs them, `fan_out` on other hosts; `prompt`, `complete` and `notices`
//!   are the interactive side.
//!
//! tests/rooms.rs checks that no file imports one that imports it.

mod accounts;
mod adapters;
mod args;
mod assign;
mod bounded;
mod client;
mod commands;
mod complete;
mod configurations;
mod doctor;
mod endpoint;
mod error;
mod fan_out;
mod former;
mod habits;
mod heirs;
mod help;
pub mod import;
mod listing;
mod local;
mod notices;
mod parse;
mod program;
mod prompt;
mod select;
mod service;
mod stdout;
mod summary;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod tree;
mod units;
mod value;
mod words;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use tokio::runtime::Builder;

use client::Client;
pub use commands::check::run as check;
use endpoint::Endpoint;
use parse::NoCommand;
use program::{Program, failed, written, wrong};

/// Runs `consolectl`: parses the arguments, and returns the exit code.
pub fn main() -> ExitCode {
    complete::answer_shell();
    let arguments = match parse::arguments(std::env::args_os().collect()) {
        Ok(arguments) => arguments,
        Err(NoCommand::Help(text)) => return written(writeln!(io::stdout(), "{}", text.trim_end())),
        Err(NoCommand::Wrong(why)) => return wrong(&why),
        Err(NoCommand::Blank) => return ExitCode::SUCCESS,
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    if !arguments.hosts.is_empty() {
        return fan_out::main(&runtime, arguments);
    }
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
