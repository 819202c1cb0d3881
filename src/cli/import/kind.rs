//! Infers the format of a file.

use std::path::Path;

use clap::ValueEnum;

use super::{blocks, conman, former, ini, ser2net};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// conserver.cf
    Conserver,
    /// ser2net.yaml, or ser2net.conf before 4.0
    Ser2net,
    /// conman.conf
    Conman,
    /// config.ini
    Consoleserver,
}

/// From its file name extension.
pub fn by_name(path: &Path) -> Option<Program> {
    if path.file_name().is_some_and(|name| name == "conman.conf") {
        return Some(Program::Conman);
    }
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "cf" => Some(Program::Conserver),
        "yaml" | "yml" => Some(Program::Ser2net),
        "ini" => Some(Program::Consoleserver),
        _ => None,
    }
}

/// Lines that are neither empty nor comments.
pub(super) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Lines of which one must identify the format: a file of another kind may contain anything further on.
const TRIED: usize = 3;

/// From the first line that identifies it: a file may begin with a mistake, such as `YAML 1.1` without its `%`.
pub fn by_text(text: &str) -> Option<Program> {
    lines(text).take(TRIED).find_map(by_line)
}

fn by_line(first: &str) -> Option<Program> {
    let word = first.split([' ', '\t', ':']).next().unwrap_or_default();
    let is_one_of = |words: &[&str]| words.iter().any(|other| other.eq_ignore_ascii_case(word));
    match first {
        _ if first.starts_with("%YAML") || first == "---" => Some(Program::Ser2net),
        _ if first.starts_with('[') => Some(Program::Consoleserver),
        _ if conman::is_line(first) => Some(Program::Conman),
        _ if former::is_line(first) => Some(Program::Ser2net),
        _ if !first.contains(':')
            && is_one_of(&["access", "break", "config", "console", "default", "group", "task"]) =>
        {
            Some(Program::Conserver)
        }
        _ if first[word.len()..].starts_with(':') => Some(Program::Ser2net),
        _ if is_one_of(&["console", "default"]) => Some(Program::Conserver),
        _ => None,
    }
}

/// Whether a file has anything of the format that its name promises; a file of comments has.
pub fn is_plausible(program: Program, text: &str) -> bool {
    let is_content = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with(['#', ';', '%']) && line != "---" && line != "..."
    };
    let is_of = |line: &str| match program {
        Program::Conserver => blocks::is_line(line),
        Program::Ser2net => former::is_entry(line.trim()) || ser2net::is_line(line),
        Program::Conman => conman::is_line(line.trim()),
        Program::Consoleserver => ini::is_line(line.trim()),
    };
    let mut content = text.lines().filter(is_content).peekable();
    content.peek().is_none() || content.any(is_of)
}

/// Whether a file of ser2net has the format used before 4.0.
pub fn is_former(text: &str) -> bool {
    let says = |line: &str| match line {
        line if line.starts_with(['%', '-']) => Some(false),
        line if former::is_line(line) => Some(true),
        _ => None,
    };
    lines(text).take(TRIED).find_map(says).unwrap_or_default()
}
