//! The prompt: reads commands with history and completion until `exit` or the end of the input.

use std::borrow::Cow;
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::termios::{FlushArg, tcflush};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, ExternalPrinter, Helper};

use super::client::Pending;
use super::complete;
use super::notices::{Notices, PlainTerminal};
use super::parse::{NoCommand, line};
use super::program::Program;
use super::stdout::print_error;
use super::tree::Command;
use crate::system::lock::Lock;
use crate::system::persist;

/// Lines of the history, in memory and in the file.
const HISTORY_LINES: usize = 1000;
/// Text before the remaining time of a `commit confirm`.
const CONFIRM_WITHIN: &str = "confirm within ";
/// Time for the queries of the prompt and of completion, while the user waits.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads and runs commands until `exit` or the end of the input. A failed command is reported, and the prompt continues.
pub fn run(program: &Program) -> rustyline::Result<()> {
    let mut editor = new_editor()?;
    let printer = Printer::of(&mut editor);
    let notices = Notices::listen(printer.clone())?;
    editor.set_helper(Some(Words { program, notices: notices.clone() }));
    let mut history = history();
    if usable(&mut history)
        && let Some(path) = &history
    {
        // Errors are ignored: the history is then empty.
        let _ = editor.load_history(path);
    }
    loop {
        let pending = pending(program);
        notices.set_left(pending.confirm_within);
        let text = prompt(pending);
        notices.own(program.client.bus_name());
        for notice in notices.editing(true) {
            writeln!(io::stdout(), "{notice}")?;
        }
        let read = editor.readline(&text);
        notices.editing(false);
        match read {
            Ok(text) => {
                // (rustyline re-reads the file if another prompt has appended to it.)
                if usable(&mut history)
                    && let Some(path) = &history
                {
                    let _ = editor.append_history(path);
                }
                match run_lines(program, &text)? {
                    Next::Exit => break,
                    Next::SameEditor => {}
                    Next::NewEditor => {
                        editor = new_editor()?;
                        printer.replace(&mut editor);
                        editor.set_helper(Some(Words { program, notices: notices.clone() }));
                        if let Some(path) = &history {
                            let _ = editor.load_history(path);
                        }
                    }
                }
            }
            Err(ReadlineError::Interrupted) => {}
            // A byte of another character set. What follows it is dropped too: half of a line must not be run as a command.
            Err(ReadlineError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                let _ = tcflush(io::stdin(), FlushArg::TCIFLUSH);
                print_error(&"the line is not valid UTF-8, and was dropped: set the terminal to UTF-8");
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error),
        }
    }
    match pending(program).uncommitted {
        0 => {}
        1 => print_error(&"1 change is uncommitted and will be lost at the next boot"),
        count => {
            print_error(&format_args!("{count} changes are uncommitted and will be lost at the next boot"))
        }
    }
    Ok(())
}

fn new_editor<'a>() -> rustyline::Result<Editor<Words<'a>, FileHistory>> {
    let config = Config::builder()
        .max_history_size(HISTORY_LINES)?
        .history_ignore_dups(true)?
        .history_ignore_space(true)
        .completion_type(CompletionType::List)
        .auto_add_history(true)
        .build();
    Editor::with_config(config)
}

/// What the prompt does after a command.
enum Next {
    Exit,
    SameEditor,
    /// The command was a session, which had the terminal: what the editor had read before it was meant for the console, and is dropped.
    NewEditor,
}

/// Runs what was entered: one line, or those of a bracketed paste, each as if it was typed.
fn run_lines(program: &Program, text: &str) -> io::Result<Next> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    while let Some(text) = lines.next() {
        match line(text) {
            Ok(Command::Exit) => return Ok(Next::Exit),
            Ok(command) => {
                let is_session = matches!(command, Command::Connect(_));
                // `line` has split the words successfully.
                let words = shlex::split(text).unwrap_or_default();
                if let Err(error) = program.run(command, &words) {
                    print_error(&error);
                }
                if is_session {
                    match lines.count() {
                        0 => {}
                        1 => print_error(&"1 pasted line after connect was not run"),
                        count => {
                            print_error(&format_args!("{count} pasted lines after connect were not run"))
                        }
                    }
                    return Ok(Next::NewEditor);
                }
            }
            Err(NoCommand::Blank) => {}
            Err(NoCommand::Help(text)) => writeln!(io::stdout(), "{}", text.trim_end())?,
            Err(NoCommand::Wrong(why)) => print_error(&why),
        }
    }
    Ok(Next::SameEditor)
}

/// Prints above the line that the present editor edits.
#[derive(Clone)]
struct Printer(Arc<Mutex<Box<dyn ExternalPrinter + Send>>>);

impl Printer {
    fn of(editor: &mut Editor<Words<'_>, FileHistory>) -> Self {
        Self(Arc::new(Mutex::new(printer(editor))))
    }

    fn replace(&self, editor: &mut Editor<Words<'_>, FileHistory>) {
        *self.0.locked() = printer(editor);
    }
}

fn printer(editor: &mut Editor<Words<'_>, FileHistory>) -> Box<dyn ExternalPrinter + Send> {
    match editor.create_external_printer() {
        Ok(printer) => Box::new(printer),
        // A terminal that rustyline cannot redraw, such as TERM=dumb.
        Err(_) => Box::new(PlainTerminal),
    }
}

impl ExternalPrinter for Printer {
    fn print(&mut self, text: String) -> rustyline::Result<()> {
        self.0.locked().print(text)
    }
}

/// Nothing if console-admin does not answer, which the next command reports.
fn pending(program: &Program) -> Pending {
    program.within(QUERY_TIMEOUT, program.client.pending()).unwrap_or_default()
}

fn prompt(Pending { uncommitted, confirm_within }: Pending) -> String {
    let mut parts = Vec::new();
    if uncommitted > 0 {
        parts.push(format!("{uncommitted} uncommitted"));
    }
    if confirm_within > 0 {
        parts.push(format!("{CONFIRM_WITHIN}{}", minutes(confirm_within.into())));
    }
    format!("{}> ", parts.join(", "))
}

/// `4:59`
fn minutes(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// The prompt with the current remaining time, at its original width. Once no commit waits for confirmation, the text is removed.
fn redrawn(prompt: &str, left: Option<u64>) -> Option<String> {
    let (before, time) = prompt.split_once(CONFIRM_WITHIN)?;
    let width = prompt.chars().count();
    Some(match left {
        Some(left) => {
            let columns = time.chars().count().saturating_sub(2);
            format!("{before}{CONFIRM_WITHIN}{:>columns$}> ", minutes(left))
        }
        None => format!("{:>width$}", "> "),
    })
    .filter(|drawn| drawn.chars().count() == width)
}

/// `$XDG_STATE_HOME/consoleserver/history`; `None` if the directory cannot be created.
fn history() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let directory = state.join("consoleserver");
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).ok()?;
    Some(directory.join("history"))
}

/// Whether the history file can be read or does not exist yet. Otherwise it is reported once, and no longer used.
fn usable(history: &mut Option<PathBuf>) -> bool {
    let Some(path) = history else { return false };
    match persist::open(path) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => {
            print_error(&format_args!("the history is not saved: {}: {error}", path.display()));
            *history = None;
            false
        }
    }
}

struct Words<'a> {
    program: &'a Program,
    notices: Notices,
}

impl Completer for Words<'_> {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let before = &line[..at];
        let start = before.rfind(char::is_whitespace).map_or(0, |space| space + 1);
        // Words inside quotes are not completed.
        let Some(words) = shlex::split(&before[..start]) else { return Ok((start, Vec::new())) };
        let names = self.program.within(QUERY_TIMEOUT, self.program.client.names()).unwrap_or_default();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut found = complete::at_prompt(words, &before[start..], &names);
        if let [only] = found.as_mut_slice()
            && !only.ends_with('=')
        {
            only.push(' ');
        }
        Ok((start, found))
    }
}

impl Hinter for Words<'_> {
    type Hint = String;
}
impl Highlighter for Words<'_> {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _default: bool) -> Cow<'b, str> {
        redrawn(prompt, self.notices.left()).map_or(Cow::Borrowed(prompt), Cow::Owned)
    }
}
impl Validator for Words<'_> {}
impl Helper for Words<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_shows_uncommitted_changes_and_the_time_to_confirm() {
        let shown = |uncommitted, confirm_within| prompt(Pending { uncommitted, confirm_within });
        assert_eq!(shown(0, 0), "> ");
        assert_eq!(shown(3, 0), "3 uncommitted> ");
        assert_eq!(shown(0, 61), "confirm within 1:01> ");
        assert_eq!(shown(1, 600), "1 uncommitted, confirm within 10:00> ");
    }

    #[test]
    fn the_countdown_keeps_the_width_of_the_prompt() {
        let drawn = |left| redrawn("1 uncommitted, confirm within 10:00> ", left);
        assert_eq!(drawn(Some(599)).unwrap(), "1 uncommitted, confirm within  9:59> ");
        assert_eq!(drawn(None).unwrap().len(), "1 uncommitted, confirm within 10:00> ".len());
        assert!(drawn(None).unwrap().ends_with(" > "));
        // A longer time does not fit.
        assert_eq!(drawn(Some(60_000)), None);
        assert_eq!(redrawn("1 uncommitted> ", Some(5)), None);
    }
}
