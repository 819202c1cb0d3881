//! The error sentences of all commands, in tests/golden/cli/errors.txt, and the commands that the documentation shows.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;

use snapbox::{assert_data_eq, file};

use super::commands::autobaud::NotText;
use super::commands::check::CheckError;
use super::commands::learn::{Found, LearnError};
use super::commands::sessions::NoSession;
use super::commands::ssh_config::NoHostName;
use super::error::CommandError;
use super::former::FormerError;
use super::import::{ImportError, SourceLine};
use super::local::LocalError;
use super::parse::{self, NoCommand};
use super::service::ServiceError;
use super::units::SystemctlError;
use super::value::ValueError;
use crate::exec;
use crate::port::PortName;

fn port() -> PortName {
    "core".parse().unwrap()
}

fn absent() -> io::Error {
    io::Error::from_raw_os_error(nix::libc::ENOENT)
}

fn found(count: usize) -> Vec<Found> {
    let found = |n| Found { path: format!("/dev/serial/by-path/usb-{n}").into(), tty: format!("ttyUSB{n}") };
    (0..count).map(found).collect()
}

#[test]
fn error_sentences() {
    let text = str::to_owned;
    let line = || SourceLine { file: Arc::from("conserver.cf"), line: 12 };
    let failed = ExitStatus::from_raw(1 << 8);
    let path = || PathBuf::from("/dev/serial/by-path/usb-0");
    let errors: Vec<CommandError> = vec![
        CommandError::Foreground("/run/user/1000/consoleserver".into()),
        CommandError::OnePort { command: "connect", pattern: text("p*"), ports: text("2 ports (p1, p2)") },
        CommandError::NotServed(port()),
        CommandError::Interrupted,
        io::Error::from(io::ErrorKind::BrokenPipe).into(),
        ServiceError::NoBus(zbus::Error::from(absent())).into(),
        ServiceError::SilentBus.into(),
        ServiceError::Absent(text("the name is not activatable")).into(),
        ServiceError::Silent.into(),
        ServiceError::Denied(text("bob may not administer this console server")).into(),
        ServiceError::UnknownPort { port: port(), instead: text("did you mean cor?"), whole: None }.into(),
        ServiceError::Bus(zbus::Error::InvalidReply).into(),
        LocalError::NoPorts("/run/consoleserver/attach".into(), absent()).into(),
        LocalError::Systemctl(text("no answer within 0.5 s")).into(),
        LocalError::SystemctlFailed(failed, text("Failed to connect to bus: Host is down")).into(),
        FormerError::Denied(port(), "former port").into(),
        FormerError::Io(port(), "closed port", absent()).into(),
        FormerError::None(port(), "former port").into(),
        FormerError::NoTimes(port(), "former port").into(),
        FormerError::Output(absent()).into(),
        ValueError::UnknownKey { of: text("core"), key: text("buad"), instead: text("did you mean baud?") }
            .into(),
        ValueError::NotSent(text("1.5")).into(),
        ValueError::WholeTemplate(text("cisco")).into(),
        ValueError::Single(text("ssh_port")).into(),
        ValueError::Twice(text("baud")).into(),
        ValueError::NoAssignment(text("baud")).into(),
        ValueError::OfOne { key: text("device"), value: text("/dev/ttyS0"), ports: 3 }.into(),
        ValueError::OfOne { key: text("ssh_port"), value: text("8100"), ports: 3 }.into(),
        ValueError::Counts { key: text("ssh_port"), value: text("[8100-8101]"), values: 2, ports: 3 }.into(),
        ValueError::NotNames(text("p*")).into(),
        ValueError::NoMorePorts { first: 65_500, count: 48 }.into(),
        ValueError::Rejected {
            key: text("bytesize"),
            value: text("9"),
            reason: text("expected 5, 6, 7 or 8"),
        }
        .into(),
        LearnError::Watch(absent()).into(),
        LearnError::Nothing(60).into(),
        LearnError::Gone(60).into(),
        LearnError::Many(found(2)).into(),
        LearnError::Many(found(10)).into(),
        LearnError::Bound { path: path(), port: port() }.into(),
        CommandError::of_command(NotText(port())),
        CommandError::of_command(NoSession { user: text("bob"), ports: text("2 ports (p1, p2)") }),
        CommandError::of_command(NoHostName::Unreadable("/proc/sys/kernel/hostname", absent())),
        CommandError::of_command(NoHostName::Invalid(text("a b"))),
        CommandError::of_command(SystemctlError::NotRun(absent())),
        CommandError::of_command(SystemctlError::Failed(text("Unit not found."), failed)),
        CommandError::of_command(CheckError::Output(absent())),
        CommandError::of_command(ImportError::UnknownKind("consoles.conf".into())),
        CommandError::of_command(ImportError::Foreign("minirc.dfl".into(), "minicom", "use `create`")),
        CommandError::of_command(ImportError::Unreadable(text("conserver.cf"), absent())),
        CommandError::of_command(ImportError::TooLong(text("conserver.cf"), 1024 * 1024)),
        CommandError::of_command(ImportError::Utf16(text("ser2net.yaml"))),
        CommandError::of_command(ImportError::Syntax(line(), text("a list of more than 1024 words"))),
        CommandError::of_command(ImportError::TooMany(line(), 256)),
        CommandError::Several(vec![text("p1: bob has no session at p1"), text("p2: p2 is not open")]),
    ];
    let all: String = errors.iter().map(|error| format!("consolectl: {error}\n")).collect();
    assert_data_eq!(all, file!["../../tests/golden/cli/errors.txt"].raw());
}

/// The shipped files from which users read and paste commands.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directories = ["", "docs", "man", "units", "units/power", "units/source", "tests/golden/cli"];
    let files = directories.iter().flat_map(|directory| fs::read_dir(root.join(directory)).unwrap());
    let mut pages: Vec<(String, String)> = Vec::new();
    for path in files.map(|file| file.unwrap().path()) {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let ends = [".md", ".1", ".5", ".7", ".8", ".conf", ".catalog", "config.toml"];
        let is_read = match name.strip_prefix("tests/golden/cli/") {
            Some(golden) => golden.starts_with("doctor-"),
            None => {
                ends.iter().any(|end| name.ends_with(end))
                    && name != "CHANGELOG.md"
                    && name != "ARCHITECTURE.md"
            }
        };
        if is_read {
            pages.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    pages
}

/// The commands in a line of a shell: without redirections, comments and `sudo`.
fn pieces(line: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let (mut quote, mut before) = (None, ' ');
    for c in line.chars() {
        match (quote, c) {
            (None, '#') if before == ' ' => break,
            (None, ';' | '|' | '&' | '<' | '>') => pieces.push(format!("{c}")),
            _ => pieces.last_mut().unwrap().push(c),
        }
        quote = match quote {
            None if matches!(c, '\'' | '"') => Some(c),
            Some(open) if open == c => None,
            other => other,
        };
        before = c;
    }
    let command = |piece: &String| {
        let piece = piece.trim_start_matches([';', '|', '&', ' ']);
        let piece = piece
            .rsplit_once(": consolectl ")
            .map_or(piece.to_owned(), |(_, rest)| format!("consolectl {rest}"));
        piece
            .trim_start_matches("$ ")
            .trim_start_matches("until ")
            .trim_start_matches("sudo ")
            .trim()
            .to_owned()
    };
    pieces.iter().map(command).collect()
}

/// The lines of a page that are pasted: examples, code within text, comments of files to copy; whether it is within text.
fn lines(name: &str, page: &str) -> Vec<(String, bool)> {
    let (mut lines, mut shown) = (Vec::new(), false);
    for line in page.replace("\\\n", " ").lines() {
        if name.ends_with(".md") {
            shown ^= line.starts_with("```");
            match shown {
                true => lines.push((line.to_owned(), false)),
                false => lines.extend(line.split('`').skip(1).step_by(2).map(|code| (code.to_owned(), true))),
            }
        } else if name.starts_with("man/") {
            shown = (shown || line.starts_with(".Bd")) && !line.starts_with(".Ed");
            let text = line.replace("\\&", "").replace("\\(aq", "'").replace("\\e", "\\").replace("\\-", "-");
            match text.strip_prefix(".Dl ").or(text.strip_prefix(".Ql ")) {
                // A named argument is not a command.
                Some(text) if text.contains(" Ar ") => {}
                Some(code) => {
                    let code = code.trim_end_matches([' ', '.', ',', ';', ':', ')']);
                    lines.push((code.to_owned(), text.starts_with(".Ql")));
                }
                None if shown => lines.push((text, false)),
                None => {}
            }
        } else {
            lines.push((line.trim_start_matches(['#', ' ']).replace("@CONSOLE_PORT@", "ttyUSB0"), false));
        }
    }
    lines
}

/// The host and command line of `ssh -p PORT HOST COMMAND`, with the port.
fn remote(words: &[String]) -> Option<(u16, String)> {
    let mut words = words.iter().skip(1);
    let mut port = None;
    loop {
        match words.next()?.as_str() {
            "-p" => port = words.next()?.parse().ok(),
            "-o" | "-J" | "-i" | "-e" | "-l" => drop(words.next()),
            "-s" => return None,
            option if option.starts_with('-') => {}
            _host => return Some((port?, words.cloned().collect::<Vec<_>>().join(" "))),
        }
    }
}

#[test]
fn commands_that_the_documentation_shows_are_valid() {
    let known = |result| match result {
        Ok(()) | Err(NoCommand::Help(_) | NoCommand::Blank) => Ok(()),
        Err(NoCommand::Wrong(why)) => Err(why),
    };
    let mut wrong = Vec::new();
    let (mut own, mut typed, mut sent) = (0, 0, 0);
    for (name, page) in pages() {
        for (line, is_mention) in lines(&name, &page) {
            // At the prompt, as a transcript shows it.
            let prompt = line.split_once("> ").filter(|(before, _)| {
                before.is_empty() || before.ends_with("uncommitted") || before.starts_with("confirm within ")
            });
            if let Some((_, command)) = prompt {
                typed += 1;
                let result = known(parse::line(command).map(drop));
                wrong.extend(result.err().map(|why| format!("{name}: {command}: {why}")));
                continue;
            }
            for piece in pieces(&line).iter().filter(|piece| !piece.contains('…')) {
                let mut words = shlex::split(piece).unwrap_or_default();
                for word in &mut words {
                    match word.as_str() {
                        "N" => "9".clone_into(word),
                        "NAME" => "name".clone_into(word),
                        _ => {}
                    }
                }
                let result = match words.first().map(String::as_str) {
                    Some("consolectl") if words.len() > 1 && words[1] != "COMMAND" => {
                        own += 1;
                        known(parse::arguments(words.iter().map(OsString::from).collect()).map(drop))
                    }
                    Some("ssh") => match remote(&words) {
                        Some((_, command)) if matches!(command.as_str(), "" | "command" | "COMMAND") => {
                            Ok(())
                        }
                        Some((8022, command)) => {
                            sent += 1;
                            known(parse::line(&command).map(drop))
                        }
                        Some((8023.., command)) => {
                            sent += 1;
                            let parsed = exec::parse::parse(command.as_bytes());
                            parsed.map(drop).map_err(|why| why.to_string())
                        }
                        _ => Ok(()),
                    },
                    _ => Ok(()),
                };
                // The name of a command, without its arguments.
                let incomplete =
                    |why: &String| why.contains("were not provided") || why.contains("is required for");
                let why = result.err().filter(|why| !(is_mention && incomplete(why)));
                wrong.extend(why.map(|why| format!("{name}: {piece}: {why}")));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert!(own > 50 && typed > 15 && sent > 5, "{own} by consolectl, {typed} at the prompt, {sent} by ssh");
}
