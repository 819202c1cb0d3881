//! `log` and `grep`. The port reads the log, because its users need not be in the file's group.

use super::{EXIT_DONE, EXIT_FAILED, ExecResult, Pattern, Task};
use crate::capture::{History, LineSelection, Lines, TimeRange};
use crate::config::LogType;
use crate::session::Outlet;

/// Upper limit of `-n`. For more, use a pager on the file.
const MAX_LINES: u32 = 100_000;

struct Shown {
    history: History,
    found: bool,
    /// Whether all files could be read.
    whole: bool,
}

pub(super) async fn log<O: Outlet>(
    task: &Task,
    lines: Option<u32>,
    range: TimeRange,
    follow: bool,
    raw: bool,
    outlet: &mut O,
) -> ExecResult {
    // Before the file is read, so that no later line is missed.
    let mut logged = task.console.hub.logged();
    let log = task.console.settings().log;
    check_time_range(task, range, log.kind)?;
    let wanted = || LineSelection { pattern: None, range, as_is: raw };
    let mut whole = true;
    let tail = match lines {
        Some(lines) => task.console.log.last_lines(&log, lines.min(MAX_LINES) as usize).await,
        None => {
            let history = task.console.log.history(&log, wanted()).await;
            let shown = show_history(task, read(task, history)?, outlet).await?;
            whole = shown.whole;
            Ok(shown.history.into_tail())
        }
    };
    let mut tail = read(task, tail)?;
    let mut shown = Lines::new(log.kind, wanted());
    loop {
        let (next, piece) = read(task, task.console.log.read(tail).await)?;
        tail = next;
        if !piece.is_empty() {
            let passed = shown.pass(piece);
            if !passed.is_empty() {
                outlet.send(passed).await?;
            }
        } else if !follow || logged.changed().await.is_err() {
            let rest = shown.end();
            if !rest.is_empty() {
                outlet.send(rest).await?;
            }
            return Ok(if whole { EXIT_DONE } else { EXIT_FAILED });
        }
    }
}

pub(super) async fn grep<O: Outlet>(
    task: &Task,
    pattern: Pattern,
    range: TimeRange,
    raw: bool,
    outlet: &mut O,
) -> ExecResult {
    let log = task.console.settings().log;
    check_time_range(task, range, log.kind)?;
    let pattern = Some(Box::new(move |line: &[u8]| pattern.is_in(line)) as _);
    let history = task.console.log.history(&log, LineSelection { pattern, range, as_is: raw }).await;
    let shown = show_history(task, read(task, history)?, outlet).await?;
    Ok(if shown.found && shown.whole { EXIT_DONE } else { EXIT_FAILED })
}

pub(super) async fn recording<O: Outlet>(task: &Task, range: TimeRange, outlet: &mut O) -> ExecResult {
    let log = task.console.settings().log;
    let mut recording = read(task, task.console.log.recording(&log, range).await)?;
    loop {
        let (next, piece) = read(task, task.console.log.play_on(recording).await)?;
        recording = next;
        match piece {
            Some(piece) if piece.is_empty() => {}
            Some(piece) => outlet.send(piece).await?,
            None => return Ok(EXIT_DONE),
        }
    }
}

/// Prints all of the history, and a message for each file that cannot be read.
async fn show_history<O: Outlet>(task: &Task, mut history: History, outlet: &mut O) -> ExecResult<Shown> {
    let (mut found, mut whole) = (false, true);
    loop {
        let (next, piece) = read(task, task.console.log.read_appended(history).await)?;
        history = next;
        for remark in history.remarks() {
            whole = false;
            outlet.notice(format!("{}: {remark}\n", task.console.name())).await?;
        }
        match piece {
            Some(piece) if piece.is_empty() => {}
            Some(piece) => {
                found = true;
                outlet.send(piece).await?;
            }
            None => return Ok(Shown { history, found, whole }),
        }
    }
}

fn check_time_range(task: &Task, range: TimeRange, kind: LogType) -> ExecResult<()> {
    if kind == LogType::Raw && !range.is_all() {
        return task.failed("log.type is \"raw\": the log has no timestamps for --since and --until");
    }
    Ok(())
}

fn read<T>(task: &Task, read: Result<T, impl std::fmt::Display>) -> ExecResult<T> {
    read.or_else(|error| task.failed(error))
}
